//! Transactions (RFC 3261 17, with RFC 6026): the state machines, and the table that one worker owns.
//!
//! Each machine is a pure function from a state and an event to a [`step::Step`]; the [`table::Table`] keeps states, timers
//! and the one stored copy of each message; who forwards what, and where to, is the proxy's business above.
#![forbid(unsafe_code)]

pub mod arena;
pub mod client;
pub mod id;
pub mod invite_client;
pub mod invite_server;
pub mod key;
pub mod look_ahead;
pub mod non_invite_client;
pub mod non_invite_server;
pub mod server;
pub mod slab;
pub mod step;
pub mod table;
mod timers;
