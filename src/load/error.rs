//! Why a load cannot be run.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::net::NetError;

/// Why a load cannot be run, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The accounts cannot be had.
    #[error("--users {}: {text}", path.display())]
    Users {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        text: String,
    },
    /// A source cannot be bound.
    #[error(
        "cannot send from {address}: {source}; --from names an address of this host, --port a port that is free"
    )]
    Source {
        /// The source.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The target is not reached from here.
    #[error("no way to {target}: {source}")]
    NoRoute {
        /// The target.
        target: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The network cannot be opened.
    #[error(transparent)]
    Net(#[from] NetError),
    /// Signals cannot be caught.
    #[error("cannot catch SIGINT: {0}")]
    Signal(io::Error),
    /// The phones that were to be registered first were not.
    #[error(
        "only {registered} of {phones} phones are registered, so no load was made; first failures: {failures}"
    )]
    Unprepared {
        /// Those that are.
        registered: u64,
        /// How many there are.
        phones: usize,
        /// What came instead.
        failures: String,
    },
}

impl LoadError {
    /// Whether the command line is to blame, and nothing was sent.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::Usage(_) | Self::Users { .. })
    }
}
