//! A cluster of two Kamailios and a Strowger on loopback addresses: what is registered anywhere is right everywhere, and a node that
//! comes back is brought up to date.
//!
//! It needs Kamailio (Debian: kamailio); the server under test is the binary that cargo built, or the one that `STROWGER_BINARY` names.

mod cluster {
    mod hostile;
    mod impostor;
    mod kamailio;
    mod membership;
    mod nat;
    mod node;
    mod phone;
    mod together;
    mod traps;
    mod ways;
}
