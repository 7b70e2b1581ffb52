//! The store, with the real thing on the other side: SQLite's files, a Postgres of its own, and Kamailio.
//!
//! They need Postgres 15 or later and Kamailio with its database modules (Debian: postgresql, kamailio, kamailio-postgres-modules,
//! kamailio-sqlite-modules); the server under test is the binary that cargo built, or the one that `STROWGER_BINARY` names.

mod store {
    mod binary;
    mod cluster;
    mod committed;
    mod crowd;
    mod database;
    mod doctor;
    mod figures;
    mod http;
    mod kamailio;
    mod load;
    mod memory;
    mod nodes;
    mod outages;
    mod phone;
    mod ports;
    mod restarts;
    mod scratch;
    mod server;
    mod subscribers;
    mod unnoticed;
}
