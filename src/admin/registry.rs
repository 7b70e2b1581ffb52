//! The registry: how the admin server reads and changes the location, which it never touches itself.

use std::net::SocketAddr;

use super::errand::Errands;
use crate::datagram::ListenerId;
use crate::proxy::register::Registrar;

/// The way to the location, and what is needed to name an AoR and the place of a contact as a REGISTER would.
#[derive(Debug)]
pub struct Registry {
    /// What the workers do for us.
    pub errands: Errands,
    /// Knows which users are ours; nothing is registered through it.
    pub registrar: Registrar,
    /// Whether an AoR is `user@domain`.
    pub use_domain: bool,
    /// The expiry of a contact that is added without one.
    pub expires_default_s: u32,
    /// Our listeners: a contact is reached by one of its family.
    pub listeners: Vec<(ListenerId, SocketAddr)>,
}
