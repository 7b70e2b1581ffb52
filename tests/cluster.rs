//! A cluster of two Kamailios and a Strowger on loopback addresses: what is registered anywhere is right everywhere, and a node that
//! comes back is brought up to date.
//!
//! It needs Kamailio (Debian: kamailio); the server under test is the binary that cargo built, or the one that `STROWGER_BINARY` names.

#[path = "store/binary.rs"]
mod binary;
#[path = "store/http.rs"]
mod http;
#[path = "store/load.rs"]
mod load;

mod cluster {
    use super::{binary, http, load};

    mod behind;
    mod crowd;
    mod folder;
    mod hostile;
    mod impostor;
    mod kamailio;
    mod live;
    mod membership;
    mod nat;
    mod node;
    mod pair;
    mod phone;
    mod sync;
    mod together;
    mod tombstones;
    mod traps;
    mod turn;
    mod ways;
}
