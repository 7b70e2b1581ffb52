//! The store: where bindings outlive the process, in Kamailio's `location` table, in SQLite or Postgres.
//!
//! One thread, `store`, owns the database and never touches the location. What has changed is copied out by the workers, each from its
//! own share of the shards, into batches that it lends them over their [`Desk`]s; a batch is one transaction. No message waits for any of
//! it, and a database that is away costs nothing but the rows that wait, which are the bindings themselves.

mod batch;
mod calendar;
mod columns;
mod desk;
mod engine;
mod lender;
mod postgres;
mod schema;
mod sqlite;
mod status;
pub mod subscriber;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub use self::batch::{Batch, Errand};
pub use self::columns::Frame;
pub use self::desk::Desk;
pub use self::lender::Wake;
pub use self::status::Status;

use self::desk::Waker;
use self::engine::{Engine, EngineError};
use self::lender::Lender;
use self::postgres::Postgres;
use self::sqlite::Sqlite;
use self::writer::{Backoff, Writer};
use crate::counters::Counters;

/// Which database.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// A file of SQLite's.
    Sqlite(PathBuf),
    /// A database of Postgres', by its URL.
    Postgres(String),
}

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be used.
    #[error(
        "[store] url: {0}; give the user that runs strowger a folder that it may write, or write url = \"none\""
    )]
    File(String),
    /// The URL is none of Postgres'.
    #[error("[store] url: {0}")]
    Url(tokio_postgres::Error),
    /// There is no thread for it.
    #[error("the store's thread does not start: {0}")]
    Thread(std::io::Error),
}

/// A store that is open, and whose thread does not run yet.
pub struct Store {
    desks: Vec<Arc<Desk>>,
    status: Arc<Status>,
    counters: Arc<Counters>,
    waker: Arc<Waker>,
    is_loaded: Arc<AtomicBool>,
    engine: Box<dyn Engine>,
}

/// The store's thread.
#[derive(Debug)]
pub struct StoreThread {
    thread: JoinHandle<()>,
    status: Arc<Status>,
    waker: Arc<Waker>,
}

impl Store {
    /// Opens `database` for so many workers.
    ///
    /// # Errors
    /// A file that cannot be opened or is no database of ours: that is a mistake of the configuration.
    pub fn open(database: &Database, frame: Frame, workers: usize) -> Result<Self, StoreError> {
        let engine: Box<dyn Engine> = match database {
            Database::Sqlite(path) => {
                let mut engine = Sqlite::new(path, frame);
                engine
                    .connect()
                    .map_err(|error: EngineError| StoreError::File(error.to_string()))?;
                Box::new(engine)
            }
            Database::Postgres(url) => {
                let config = url.parse().map_err(StoreError::Url)?;
                Box::new(Postgres::new(config, frame).map_err(StoreError::Thread)?)
            }
        };
        let waker = Arc::new(Waker::default());
        let is_loaded = Arc::new(AtomicBool::new(false));
        let desk = |_| Arc::new(Desk::new(Arc::clone(&waker), Arc::clone(&is_loaded)));
        Ok(Self {
            desks: (0..workers).map(desk).collect(),
            status: Arc::new(Status::default()),
            counters: Arc::new(Counters::new()),
            waker,
            is_loaded,
            engine,
        })
    }

    /// The desk of worker `n`.
    #[must_use]
    pub fn desk(&self, n: usize) -> Option<Arc<Desk>> {
        self.desks.get(n).map(Arc::clone)
    }

    /// What the store says of itself.
    #[must_use]
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }

    /// What it counts.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Starts the thread; `wake` wakes a worker.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(self, wake: Wake) -> Result<StoreThread, StoreError> {
        let writer = Writer {
            engine: self.engine,
            lender: Lender::new(self.desks, Arc::clone(&self.status), wake),
            status: Arc::clone(&self.status),
            counters: self.counters,
            is_loaded: self.is_loaded,
            purge_before_s: None,
            backoff: Backoff::default(),
            retry_at: None,
            is_open: false,
            has_failed: false,
            last_relist: None,
        };
        let thread = thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer.run())
            .map_err(StoreError::Thread)?;
        self.waker.set(thread.thread().clone());
        Ok(StoreThread {
            thread,
            status: self.status,
            waker: self.waker,
        })
    }
}

impl StoreThread {
    /// Whether the thread has died.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends it, once the workers have: what they handed over is written first. A database that does not answer is left
    /// behind after `patience`.
    pub fn stop(self, patience: Duration) {
        self.status.stop();
        self.waker.wake();
        let deadline = Instant::now() + patience;
        while !self.thread.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        if self.thread.is_finished() {
            let _ = self.thread.join();
        }
    }
}
