//! What the operator may set of a registrar.

use std::sync::Arc;

/// The settings of a registrar.
#[derive(Clone, Debug)]
pub struct RegistrarSettings {
    /// The expiry of a contact that asks for none.
    pub expires_default_s: u32,
    /// The shortest: less is answered 423.
    pub expires_min_s: u32,
    /// The longest: more is cut to it.
    pub expires_max_s: u32,
    /// By up to how much of it an expiry is shortened, so that the refreshes of phones that came together do not.
    pub expires_spread_percent: u8,
    /// Whether an AoR is `user@domain`; otherwise it is the user alone.
    pub use_domain: bool,
    /// Whether a Path is kept though the phone does not say that it knows of Path; otherwise the REGISTER is refused (RFC 3327 5.3).
    pub keeps_unasked_path: bool,
    /// Whether a contact too many is answered 503, as Kamailio does; otherwise 403.
    pub is_full_unavailable: bool,
    /// After how many seconds without a keepalive a phone must take its flow for lost (RFC 5626 4.4); 0: it is not told.
    pub flow_timer_s: u32,
    /// The route of requests from a registered phone (RFC 3608), as the values of Service-Route; empty: none is given.
    pub service_route: Arc<str>,
    /// Keys of GRUUs, the current one first, and of what is drawn by lot.
    pub keys: Vec<[u8; 16]>,
}

impl Default for RegistrarSettings {
    fn default() -> Self {
        Self {
            expires_default_s: 3_600,
            expires_min_s: 60,
            expires_max_s: 7_200,
            expires_spread_percent: 0,
            use_domain: false,
            keeps_unasked_path: false,
            is_full_unavailable: false,
            flow_timer_s: 0,
            service_route: Arc::from(""),
            keys: Vec::new(),
        }
    }
}
