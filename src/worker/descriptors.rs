//! How many descriptors the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

/// Raises the soft limit to `wanted` where it is less, as far as the hard limit lets it: the usual 1,024 are there for the
/// sake of `select`, which this program does not use.
pub(super) fn raise_to(wanted: u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = maximum.map_or(wanted, |maximum| wanted.min(maximum));
    if current.is_none_or(|current| current >= raised) {
        return;
    }
    let limit = Rlimit {
        current: Some(raised),
        maximum,
    };
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => info!(descriptors = raised, "RLIMIT_NOFILE raised"),
        Err(error) => warn!(%error, "RLIMIT_NOFILE cannot be raised to {raised}"),
    }
}
