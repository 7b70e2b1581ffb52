//! The users' secrets: Kamailio's `subscriber` table, and `strowger_subscriber` for the hashes that it has no column for.
//!
//! A thread of its own, `subscribers`, with a connection of its own, so that no batch of bindings keeps a phone waiting. A worker asks at its
//! desk and goes on. What many ask at the same time is one query; a database that does not answer is said to be silent, in
//! bounded time, and the workers go by what they remember.

mod desk;
mod postgres;
mod record;
mod sqlite;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tracing::{info, warn};

pub use self::desk::{SubscriberAnswer, SubscriberDesk};

use self::desk::{Asked, Line, Tray};
use self::postgres::PostgresDirectory;
use self::record::Record;
use self::sqlite::SqliteDirectory;
use super::{Database, StoreError};
use crate::counters::{Counter, Counters};
use crate::limits::SUBSCRIBER_BATCH_MAX;
use crate::location::Secrets;
use crate::proxy::StoreSilent;

/// Wakes a worker, if it sleeps.
pub type Bell = Box<dyn Fn() + Send + Sync>;

/// How users are looked up.
#[derive(Clone, Debug)]
pub struct Directions {
    /// The realm of our challenges: of several users of one name, the one whose domain it is.
    pub realm: String,
    /// Whether a user is known by name and domain, or by name alone.
    pub use_domain: bool,
}

/// The running thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Subscribers {
    line: Arc<Line>,
    thread: Option<JoinHandle<()>>,
    counters: Arc<Counters>,
}

/// A table of users.
trait Directory: Send {
    /// Looks up users by name and, where that counts, domain. What is not in the result is not in the table.
    fn find(&mut self, wanted: &[(String, String)]) -> Result<Vec<Record>, String>;
}

/// What becomes of those who ask.
struct Office {
    directory: Box<dyn Directory>,
    directions: Directions,
    line: Arc<Line>,
    trays: Vec<Arc<Tray>>,
    counters: Arc<Counters>,
    is_silent: bool,
}

impl Subscribers {
    /// Starts the thread, and gives a desk for each of the bells.
    ///
    /// # Errors
    /// [`StoreError`]: the URL is none, or there is no thread to be had.
    pub fn start(
        database: &Database,
        directions: Directions,
        bells: Vec<Bell>,
    ) -> Result<(Self, Vec<SubscriberDesk>), StoreError> {
        let directory: Box<dyn Directory> = match database {
            Database::Sqlite(path) => Box::new(SqliteDirectory::new(path, directions.use_domain)),
            Database::Postgres(url) => {
                let config = url.parse().map_err(StoreError::Url)?;
                let directory = PostgresDirectory::new(config, directions.use_domain);
                Box::new(directory.map_err(StoreError::Thread)?)
            }
        };
        let line = Arc::new(Line::new(bells.len()));
        let trays: Vec<Arc<Tray>> = bells
            .into_iter()
            .map(|bell| Arc::new(Tray::new(bell)))
            .collect();
        let desks = trays
            .iter()
            .enumerate()
            .map(|(number, tray)| SubscriberDesk::new(number, Arc::clone(&line), Arc::clone(tray)));
        let desks = desks.collect();
        let counters = Arc::new(Counters::new());
        let office = Office {
            directory,
            directions,
            line: Arc::clone(&line),
            trays,
            counters: Arc::clone(&counters),
            is_silent: false,
        };
        let thread = thread::Builder::new()
            .name("subscribers".to_owned())
            .spawn(move || office.run())
            .map_err(StoreError::Thread)?;
        line.set(thread.thread().clone());
        let subscribers = Self {
            line,
            thread: Some(thread),
            counters,
        };
        Ok((subscribers, desks))
    }

    /// What it counts.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }
}

impl Drop for Subscribers {
    fn drop(&mut self) {
        self.line.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Office {
    fn run(mut self) {
        while !self.line.is_stopping() {
            let asked: Vec<Asked> = std::iter::from_fn(|| self.line.next())
                .take(SUBSCRIBER_BATCH_MAX)
                .collect();
            if asked.is_empty() {
                thread::park();
            } else {
                self.answer(&asked);
            }
        }
    }

    /// Looks up all who were asked for, each once, and answers everybody.
    fn answer(&mut self, asked: &[Asked]) {
        let mut wanted: Vec<(String, String)> =
            asked.iter().filter_map(|asked| self.key(asked)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        self.counters.increment(Counter::SubscriberQueries);
        let found = self.directory.find(&wanted);
        self.note(found.as_ref().err());
        let found = found
            .map(|records| self.by_key(&records))
            .map_err(|_| StoreSilent);
        for asked in asked {
            let secrets = found.as_ref().map(|found| {
                let key = self.key(asked);
                key.and_then(|key| found.get(&key).copied())
            });
            let secrets = secrets.map_err(|silent| *silent);
            self.counters.increment(match secrets {
                Ok(Some(_)) => Counter::SubscriberFound,
                Ok(None) => Counter::SubscriberAbsent,
                Err(StoreSilent) => Counter::SubscriberSilent,
            });
            if let Some(tray) = self.trays.get(asked.desk) {
                tray.put(SubscriberAnswer::new(asked, secrets));
            }
        }
    }

    /// The secrets of those who were found; of several of one name the one whose domain is our realm, else the first.
    fn by_key(&self, records: &[Record]) -> BTreeMap<(String, String), Secrets> {
        let mut by_key = BTreeMap::new();
        let realm = &self.directions.realm;
        let (ours, others): (Vec<&Record>, Vec<&Record>) =
            records.iter().partition(|record| record.domain == *realm);
        for record in ours.into_iter().chain(others) {
            let domain = if self.directions.use_domain {
                record.domain.clone()
            } else {
                String::new()
            };
            by_key
                .entry((record.username.clone(), domain))
                .or_insert_with(|| record.secrets(realm));
        }
        by_key
    }

    /// Name and domain; the domain is empty where it does not count. `None`: a name that no table can hold.
    fn key(&self, asked: &Asked) -> Option<(String, String)> {
        let user = str::from_utf8(asked.user()).ok()?;
        // What Postgres cannot hold in a text is in no table.
        if user.contains('\0') {
            return None;
        }
        let domain = if self.directions.use_domain {
            let aor = str::from_utf8(asked.aor()).ok()?;
            aor.rsplit_once('@')?.1.to_owned()
        } else {
            String::new()
        };
        Some((user.to_owned(), domain))
    }

    fn note(&mut self, error: Option<&String>) {
        match error {
            Some(error) if !self.is_silent => {
                warn!("users cannot be looked up; those who are remembered are served: {error}");
            }
            None if self.is_silent => info!("users can be looked up again"),
            Some(_) | None => {}
        }
        self.is_silent = error.is_some();
    }
}
