//! The thread `subscriber`: it answers who a user is, many questions by one look into the directory, and changes accounts for
//! the operator.
//!
//! It has a connection of its own, so that no answer waits for a batch of bindings.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tracing::{debug, error, info};

use super::batch::{Batch, Errand};
use super::desk::{Desk, Waker};
use super::directory::{Account, Directory, Mode, choose};
use super::engine::EngineError;
use super::status::Status;
use super::subscriber::{Asked, Booth};
use super::writer::Backoff;
use crate::limits::{SUBSCRIBER_BATCH, SUBSCRIBER_ORDERS_MAX};
use crate::location::Row;
use crate::proxy::StoreSilent;

/// The operator's hand on the directory; copies of it share the thread.
#[derive(Clone, Debug)]
pub struct Accounts {
    orders: SyncSender<Order>,
    registrar: Arc<Waker>,
}

/// Why an account was not changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// It is there already.
    #[error("{0} is there already; change it with subscriber.passwd")]
    Exists(String),
    /// It is not there.
    #[error("there is no {0}")]
    Absent(String),
    /// The names are none.
    #[error("{0}")]
    Malformed(&'static str),
    /// The database did not do it.
    #[error("the store did not do it: {0}")]
    Store(String),
}

/// What the operator wants.
#[derive(Debug)]
enum Wish {
    Put(Account, Mode),
    Remove { user: String, domain: String },
    Migrate,
}

/// What came of it.
#[derive(Debug)]
enum Outcome {
    /// Whether the account was changed.
    Changed(bool),
    /// The tables that were made.
    Made(Vec<&'static str>),
}

#[derive(Debug)]
pub(super) struct Order {
    wish: Wish,
    reply: SyncSender<Result<Outcome, String>>,
}

/// The thread's own state.
pub(super) struct Registry {
    directory: Box<dyn Directory>,
    booths: Vec<Arc<Booth>>,
    desks: Vec<Arc<Desk>>,
    orders: Receiver<Order>,
    status: Arc<Status>,
    use_domain: bool,
    backoff: Backoff,
    retry_at: Option<Instant>,
}

impl Accounts {
    pub(super) fn new(registrar: Arc<Waker>) -> (Self, Receiver<Order>) {
        let (orders, taken) = sync_channel(SUBSCRIBER_ORDERS_MAX);
        (Self { orders, registrar }, taken)
    }

    /// Adds a user; of the password only hashes are kept. It waits for the database: not for a worker's thread.
    ///
    /// # Errors
    /// [`AccountError`]; nothing was changed.
    pub fn add(&self, user: &str, domain: &str, password: &str) -> Result<(), AccountError> {
        let account = account(user, domain, password)?;
        if self.change_account(Wish::Put(account, Mode::Add))? {
            Ok(())
        } else {
            Err(AccountError::Exists(format!("{user}@{domain}")))
        }
    }

    /// Gives a user another password.
    ///
    /// # Errors
    /// [`AccountError`]; nothing was changed.
    pub fn change(&self, user: &str, domain: &str, password: &str) -> Result<(), AccountError> {
        let account = account(user, domain, password)?;
        if self.change_account(Wish::Put(account, Mode::Change))? {
            Ok(())
        } else {
            Err(AccountError::Absent(format!("{user}@{domain}")))
        }
    }

    /// Removes a user.
    ///
    /// # Errors
    /// [`AccountError`]; nothing was changed.
    pub fn remove(&self, user: &str, domain: &str) -> Result<(), AccountError> {
        let (owned_user, owned_domain) = (user.to_owned(), domain.to_owned());
        if self.change_account(Wish::Remove {
            user: owned_user,
            domain: owned_domain,
        })? {
            Ok(())
        } else {
            Err(AccountError::Absent(format!("{user}@{domain}")))
        }
    }

    /// Makes the tables that are not there, and changes none that is; gives the names of what it made.
    ///
    /// # Errors
    /// [`AccountError::Store`]: the database does not answer, lets nobody make tables, or has a table of another version.
    pub fn migrate(&self) -> Result<Vec<&'static str>, AccountError> {
        match self.order(Wish::Migrate)? {
            Outcome::Made(tables) => Ok(tables),
            Outcome::Changed(_) => Ok(Vec::new()),
        }
    }

    fn change_account(&self, wish: Wish) -> Result<bool, AccountError> {
        Ok(matches!(self.order(wish)?, Outcome::Changed(true)))
    }

    fn order(&self, wish: Wish) -> Result<Outcome, AccountError> {
        let gone = || AccountError::Store("it has ended".to_owned());
        let (reply, replied) = sync_channel(1);
        self.orders
            .try_send(Order { wish, reply })
            .map_err(|_| AccountError::Store("it is busy; try again".to_owned()))?;
        self.registrar.wake();
        replied
            .recv()
            .map_err(|_| gone())?
            .map_err(AccountError::Store)
    }
}

fn account(user: &str, domain: &str, password: &str) -> Result<Account, AccountError> {
    let is_name = |text: &str| {
        !text.is_empty()
            && text.chars().count() <= NAME_CHARS_MAX
            && !text.chars().any(|c| c.is_control() || c == ':')
    };
    if !is_name(user) || !is_name(domain) {
        return Err(AccountError::Malformed(
            "user and domain are 1 to 64 characters each, without colons",
        ));
    }
    if password.is_empty() {
        return Err(AccountError::Malformed("the password is empty"));
    }
    Ok(Account::new(user, domain, password))
}

impl Registry {
    /// A registry that asks `directory`.
    pub(super) fn new(
        directory: Box<dyn Directory>,
        booths: Vec<Arc<Booth>>,
        desks: Vec<Arc<Desk>>,
        orders: Receiver<Order>,
        status: Arc<Status>,
        use_domain: bool,
    ) -> Self {
        Self {
            directory,
            booths,
            desks,
            orders,
            status,
            use_domain,
            backoff: Backoff::default(),
            retry_at: None,
        }
    }

    /// Works until it is told to stop.
    pub(super) fn run(mut self) {
        while !self.status.is_stopping() {
            if !(self.answer() | self.fetch() | self.obey()) {
                thread::park_timeout(IDLE);
            }
        }
    }

    /// Answers what the workers have asked; says whether there was anything.
    fn answer(&mut self) -> bool {
        let mut asked: Vec<(usize, Asked)> = Vec::new();
        for (number, booth) in self.booths.iter().enumerate() {
            let room = SUBSCRIBER_BATCH.saturating_sub(asked.len());
            asked.extend(
                std::iter::from_fn(|| booth.asked.pop())
                    .take(room)
                    .map(|asked| (number, asked)),
            );
        }
        if asked.is_empty() {
            return false;
        }
        let found = self.look_up(&asked);
        for (number, asked) in asked {
            let secrets = match &found {
                Ok(found) => Ok(asked.names().and_then(|(user, realm)| {
                    let domain = self.use_domain.then(|| asked.domain()).flatten();
                    choose(found.get(user)?, user, domain, realm)
                        .map(|account| account.secrets(realm))
                })),
                Err(silent) => Err(*silent),
            };
            if let Some(booth) = self.booths.get(number) {
                booth.answer(asked, secrets);
            }
        }
        true
    }

    /// Brings the rows that workers want before their turn; says whether there was anything.
    fn fetch(&mut self) -> bool {
        let mut fetched = false;
        for number in 0..self.desks.len() {
            let Some(desk) = self.desks.get(number).map(Arc::clone) else {
                continue;
            };
            let wanted = desk.wanted(SUBSCRIBER_BATCH);
            if wanted.is_empty() {
                continue;
            }
            fetched = true;
            let aors: Vec<&str> = wanted
                .iter()
                .filter_map(|aor| std::str::from_utf8(aor).ok())
                .collect();
            let mut batch = Batch::new(Errand::Answer);
            let rows = &mut batch.rows;
            // Where the database cannot say, nobody is told anything: whoever waits is answered that it takes too long.
            if self
                .attempt(|directory| directory.bindings(&aors, &mut |row| rows.push(row)))
                .is_ok()
            {
                wanted
                    .iter()
                    .for_each(|aor| batch.rows.push(&Row::complete(aor)));
                desk.give(batch);
                if let Some(booth) = self.booths.get(number) {
                    (booth.bell)();
                }
            }
        }
        fetched
    }

    /// The accounts of all who were asked for, by user, each looked up once.
    fn look_up(
        &mut self,
        asked: &[(usize, Asked)],
    ) -> Result<HashMap<String, Vec<Account>>, StoreSilent> {
        let mut users: Vec<(&str, Option<&str>)> = asked
            .iter()
            .filter_map(|(_, asked)| {
                let domain = self.use_domain.then(|| asked.domain()).flatten();
                asked.names().map(|(user, _)| (user, domain))
            })
            .collect();
        users.sort_unstable();
        users.dedup();
        let found = self
            .attempt(|directory| directory.find(&users))
            .map_err(|_| StoreSilent)?;
        let mut by_user: HashMap<String, Vec<Account>> = HashMap::new();
        for account in found {
            by_user
                .entry(account.user.clone())
                .or_default()
                .push(account);
        }
        Ok(by_user)
    }

    /// Does one thing that the operator wants.
    fn obey(&mut self) -> bool {
        let order = match self.orders.try_recv() {
            Ok(order) => order,
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => return false,
        };
        let done = self.attempt(|directory| match &order.wish {
            Wish::Put(account, mode) => directory.put(account, *mode).map(Outcome::Changed),
            Wish::Remove { user, domain } => directory.remove(user, domain).map(Outcome::Changed),
            Wish::Migrate => directory.migrate().map(Outcome::Made),
        });
        // Whoever does not wait any more does not want to know.
        let _ = order.reply.try_send(done);
        true
    }

    fn attempt<T>(
        &mut self,
        work: impl FnOnce(&mut dyn Directory) -> Result<T, EngineError>,
    ) -> Result<T, String> {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return Err("the database does not answer".to_owned());
        }
        let directory = self.directory.as_mut();
        match directory.connect().and_then(|()| work(directory)) {
            Ok(result) => {
                if !self.backoff.is_fresh() {
                    info!("users are looked up again");
                }
                self.backoff.reset();
                self.retry_at = None;
                Ok(result)
            }
            Err(error) => {
                if self.backoff.is_fresh() {
                    error!("users cannot be looked up: {error}");
                } else {
                    debug!("users still cannot be looked up: {error}");
                }
                self.retry_at = Some(Instant::now() + self.backoff.next());
                self.directory.disconnect();
                Err(error.to_string())
            }
        }
    }
}

/// How long the thread sleeps when nobody asks.
const IDLE: Duration = Duration::from_secs(1);
/// Characters of a user and of a domain, by the columns.
const NAME_CHARS_MAX: usize = 64;
