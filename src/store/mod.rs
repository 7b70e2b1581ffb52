//! The store: where bindings outlive the process, in Kamailio's `location` table, in SQLite or Postgres.
//!
//! One thread, `store`, owns the database and never touches the location. What has changed is copied out by the workers, each from its
//! own share of the shards, into batches that it lends them over their [`Desk`]s; a batch is one transaction. No message waits for any of
//! it, and a database that is away costs nothing but the rows that wait, which are the bindings themselves. A second thread,
//! `subscriber`, has a connection of its own: each worker asks it by its [`Inquiries`] who a user is, and the operator changes
//! [`Accounts`] by it.

mod batch;
mod calendar;
mod columns;
mod desk;
mod directory;
mod engine;
mod lender;
mod postgres;
mod registry;
mod schema;
mod sqlite;
mod status;
mod subscriber;
mod survey;
mod text;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Receiver;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub use self::batch::{Batch, Errand};
pub use self::columns::Frame;
pub use self::desk::Desk;
pub use self::lender::Wake;
pub use self::registry::{AccountError, Accounts};
pub use self::status::Status;
pub use self::subscriber::{Answer, Bell, Inquiries};
pub use self::survey::{Sequence, Survey, survey};

use self::desk::Waker;
use self::directory::Directory;
use self::engine::Engine;
use self::lender::Lender;
use self::postgres::{Postgres, PostgresDirectory};
use self::registry::{Order, Registry};
use self::sqlite::{Sqlite, SqliteDirectory};
use self::subscriber::Booth;
use self::writer::{Backoff, Writer};
use crate::counters::Counters;
use crate::limits::{STORE_BATCHES, STORE_LOADS};

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
    /// The database does not do it.
    #[error("{0}")]
    Database(String),
    /// The URL is none of Postgres'.
    #[error("[store] url: {0}")]
    Url(tokio_postgres::Error),
    /// There is no thread for it.
    #[error("the store's thread does not start: {0}")]
    Thread(std::io::Error),
}

/// A store that is open, and whose threads do not run yet.
pub struct Store {
    desks: Vec<Arc<Desk>>,
    status: Arc<Status>,
    counters: Arc<Counters>,
    waker: Arc<Waker>,
    is_loaded: Arc<AtomicBool>,
    engine: Box<dyn Engine>,
    directory: Box<dyn Directory>,
    booths: Vec<Arc<Booth>>,
    accounts: Accounts,
    orders: Receiver<Order>,
    registrar: Arc<Waker>,
    use_domain: bool,
}

/// The store's threads.
#[derive(Debug)]
pub struct StoreThread {
    writer: JoinHandle<()>,
    registry: JoinHandle<()>,
    status: Arc<Status>,
    waker: Arc<Waker>,
    registrar: Arc<Waker>,
}

impl Store {
    /// Opens `database` for so many workers.
    ///
    /// # Errors
    /// A file that cannot be opened or is no database of ours: that is a mistake of the configuration.
    pub fn open(database: &Database, frame: Frame, workers: usize) -> Result<Self, StoreError> {
        let use_domain = frame.use_domain;
        let (engine, directory): (Box<dyn Engine>, Box<dyn Directory>) = match database {
            Database::Sqlite(path) => {
                let mut engine = Sqlite::new(path, frame.clone());
                engine
                    .connect()
                    .map_err(|error| StoreError::File(error.to_string()))?;
                (
                    Box::new(engine),
                    Box::new(SqliteDirectory::new(path, frame)),
                )
            }
            Database::Postgres(url) => {
                let config: tokio_postgres::Config = url.parse().map_err(StoreError::Url)?;
                let directory = PostgresDirectory::new(config.clone(), frame.clone())
                    .map_err(StoreError::Thread)?;
                let engine = Postgres::new(config, frame).map_err(StoreError::Thread)?;
                (Box::new(engine), Box::new(directory))
            }
        };
        let (waker, registrar) = (Arc::new(Waker::default()), Arc::new(Waker::default()));
        let is_loaded = Arc::new(AtomicBool::new(false));
        let desk = |_| {
            Arc::new(Desk::new(
                Arc::clone(&waker),
                Arc::clone(&registrar),
                Arc::clone(&is_loaded),
            ))
        };
        let (accounts, orders) = Accounts::new(Arc::clone(&registrar));
        Ok(Self {
            desks: (0..workers).map(desk).collect(),
            status: Arc::new(Status::default()),
            counters: Arc::new(Counters::new()),
            waker,
            is_loaded,
            engine,
            directory,
            booths: Vec::new(),
            accounts,
            orders,
            registrar,
            use_domain,
        })
    }

    /// A place where one worker asks who a user is; `bell` wakes it for the answer.
    pub fn inquiries(&mut self, bell: Bell) -> Inquiries {
        let booth = Arc::new(Booth::new(bell, Arc::clone(&self.registrar)));
        self.booths.push(Arc::clone(&booth));
        Inquiries::new(booth)
    }

    /// The operator's hand on the accounts; it works once the threads run.
    #[must_use]
    pub fn accounts(&self) -> Accounts {
        self.accounts.clone()
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

    /// Starts the threads; `wake` wakes a worker.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(self, wake: Wake) -> Result<StoreThread, StoreError> {
        let registry = Registry::new(
            self.directory,
            self.booths,
            self.desks.clone(),
            self.orders,
            Arc::clone(&self.status),
            self.use_domain,
        );
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
            must_verify: false,
        };
        let writer = spawn("store", move || writer.run())?;
        self.waker.set(writer.thread().clone());
        let registry = spawn("subscriber", move || registry.run())?;
        self.registrar.set(registry.thread().clone());
        Ok(StoreThread {
            writer,
            registry,
            status: self.status,
            waker: self.waker,
            registrar: self.registrar,
        })
    }
}

impl StoreThread {
    /// Whether one of the threads has died.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.writer.is_finished() || self.registry.is_finished()
    }

    /// Ends them, once the workers have: what they handed over is written first. A database that does not answer is left
    /// behind after `patience`.
    pub fn stop(self, patience: Duration) {
        self.status.stop();
        self.waker.wake();
        self.registrar.wake();
        let deadline = Instant::now() + patience;
        for thread in [self.writer, self.registry] {
            while !thread.is_finished() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(5));
            }
            if thread.is_finished() {
                let _ = thread.join();
            }
        }
    }
}

/// Bytes set aside for the batches that go to and fro between so many workers and the store; the system gives memory for those alone that
/// are used.
#[must_use]
pub fn batch_bytes(workers: usize) -> usize {
    let batches = workers * (STORE_BATCHES + STORE_LOADS);
    batches * Batch::new(Errand::Fill).rows.footprint()
}

/// Makes the tables that are not there, and sees that the others are of the right version. A running server is not disturbed.
///
/// # Errors
/// What the database refuses, or what is wrong with a table.
pub fn migrate(database: &Database) -> Result<Vec<&'static str>, StoreError> {
    let frame = Frame {
        listeners: Vec::new(),
        use_domain: false,
        server_id: 0,
        homes: None,
    };
    let mut directory: Box<dyn Directory> = match database {
        Database::Sqlite(path) => Box::new(SqliteDirectory::new(path, frame)),
        Database::Postgres(url) => {
            let config = url.parse().map_err(StoreError::Url)?;
            Box::new(PostgresDirectory::new(config, frame).map_err(StoreError::Thread)?)
        }
    };
    let migrated = directory.connect().and_then(|()| directory.migrate());
    migrated.map_err(|error| StoreError::Database(error.to_string()))
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    let builder = thread::Builder::new().name(name.to_owned());
    builder.spawn(body).map_err(StoreError::Thread)
}
