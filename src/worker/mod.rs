//! The workers. This stands in until they do: it opens the admin server and waits for SIGTERM.
#![expect(unsafe_code, reason = "sigwait has no safe form in libc")]

use std::sync::Arc;

use crate::admin::{Admin, AdminError, Phase, State};
use crate::config::Config;
use crate::secret::Secret;

/// Why the server ends with an error.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The admin server does not start.
    #[error(transparent)]
    Admin(#[from] AdminError),
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// See [`ServeError`].
pub fn serve(config: Config, _secret: Secret) -> Result<(), ServeError> {
    let state = Arc::new(State::new(Vec::new(), Vec::new(), Box::new(|| 0)));
    let mut signals = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initializes the set that the other calls take; all pointers are to locals.
    let signals = unsafe {
        libc::sigemptyset(signals.as_mut_ptr());
        let mut signals = signals.assume_init();
        libc::sigaddset(&raw mut signals, libc::SIGTERM);
        libc::sigaddset(&raw mut signals, libc::SIGINT);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const signals, std::ptr::null_mut());
        signals
    };
    let _admin = config
        .admin
        .as_ref()
        .map(|admin| Admin::start(admin, Arc::clone(&state)))
        .transpose()?;
    state.phase.set(Phase::Serving);
    let mut signal = 0;
    // SAFETY: the set is initialized and both pointers are to locals.
    unsafe { libc::sigwait(&raw const signals, &raw mut signal) };
    state.phase.set(Phase::Draining);
    Ok(())
}
