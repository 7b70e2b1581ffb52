//! Strowger: a SIP edge proxy and registrar for bare metal.
//!
//! The layers, from the top (an arrow points only downward; `tests/tidy.rs` holds it):
//!
//! | layer | modules | may use |
//! |---|---|---|
//! | shell | [`worker`], [`net`], [`resolve`], [`admin`], [`ctl`], [`doctor`], [`load`] | everything below |
//! | core | [`proxy`] | the core below, leaves |
//! | core | [`transaction`], [`location`], [`auth`] | `sip`, `timer`, leaves; not each other |
//! | core | [`sip`], [`wire`], [`timer`] | leaves |
//! | leaves | [`limits`], [`time`], [`datagram`], [`counters`], [`scan`], [`base32`], [`keyed_hash`], [`config`], [`secret`] | nothing of ours |
//!
//! The core reads no clock, starts no thread and opens no socket; `docs/architecture.md` tells why.

pub mod admin;
pub mod auth;
pub mod base32;
pub mod config;
pub mod counters;
pub mod ctl;
pub mod datagram;
pub mod doctor;
pub mod flow_token;
pub mod keyed_hash;
pub mod latency;
pub mod limits;
pub mod load;
pub mod location;
pub mod net;
pub mod peer;
mod prefetch;
pub mod proxy;
pub mod replication;
pub mod resolve;
pub mod scan;
pub mod secret;
pub mod shared_secret;
pub mod sip;
pub mod store;
pub mod time;
pub mod timer;
pub mod transaction;
pub mod wire;
pub mod worker;
