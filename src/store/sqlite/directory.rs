//! The users in a file of SQLite's, by a connection of their own.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension};

use super::super::columns::Frame;
use super::super::directory::{Account, Directory, Mode};
use super::super::engine::EngineError;
use super::{SELECT, check_tables, columns, create, error_at, make_tables, prepare};
use crate::location::Row;

/// The users of a database.
#[derive(Debug)]
pub(in super::super) struct SqliteDirectory {
    path: PathBuf,
    frame: Frame,
    open: Option<Connection>,
}

impl SqliteDirectory {
    /// Those of the file at `path`, whose tables have been made.
    pub(in super::super) fn new(path: &Path, frame: Frame) -> Self {
        Self {
            path: path.to_owned(),
            frame,
            open: None,
        }
    }

    fn with<T>(
        &mut self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, EngineError> {
        let lost = || EngineError::Unreachable("not open".to_owned());
        let connection = self.open.as_mut().ok_or_else(lost)?;
        work(connection).map_err(error_at(&self.path))
    }
}

impl Directory for SqliteDirectory {
    fn connect(&mut self) -> Result<(), EngineError> {
        if self.open.is_none() {
            create(&self.path);
            let opened = Connection::open(&self.path)
                .and_then(|connection| prepare(&connection).map(|_| connection));
            self.open = Some(opened.map_err(error_at(&self.path))?);
        }
        Ok(())
    }

    fn find(&mut self, users: &[(&str, Option<&str>)]) -> Result<Vec<Account>, EngineError> {
        self.with(|connection| {
            let mut accounts = connection.prepare_cached(FIND)?;
            let mut others = connection.prepare_cached(OTHERS)?;
            let mut found = Vec::new();
            for (user, domain) in users {
                let rows = accounts.query_map((user, domain), |row| {
                    Ok(Account {
                        user: row.get(0)?,
                        domain: row.get(1)?,
                        password: row.get(2)?,
                        ha1: row.get(3)?,
                        ha1b: row.get(4)?,
                        others: Vec::new(),
                    })
                })?;
                for account in rows {
                    let mut account = account?;
                    let rows = others.query_map((&account.user, &account.domain), |row| {
                        Ok((row.get(0)?, row.get(1)?))
                    })?;
                    account.others = rows.collect::<Result<_, _>>()?;
                    found.push(account);
                }
            }
            Ok(found)
        })
    }

    fn bindings(
        &mut self,
        aors: &[&str],
        each: &mut dyn FnMut(&Row<'_>),
    ) -> Result<(), EngineError> {
        let frame = self.frame.clone();
        self.with(|connection| {
            let mut statement = connection.prepare_cached(&format!("{SELECT}{OF_AOR}"))?;
            let mut text = Vec::new();
            for aor in aors {
                let mut found = statement.query(frame.split(aor))?;
                while let Some(row) = found.next()? {
                    each(&frame.row(&columns(row)?, &mut text));
                }
            }
            Ok(())
        })
    }

    fn migrate(&mut self) -> Result<Vec<&'static str>, EngineError> {
        let (made, mismatch) =
            self.with(|connection| Ok((make_tables(connection)?, check_tables(connection)?)))?;
        mismatch.map_or(Ok(made), |text| Err(EngineError::Unfit(text)))
    }

    fn put(&mut self, account: &Account, mode: Mode) -> Result<bool, EngineError> {
        self.with(|connection| {
            let transaction = connection.transaction()?;
            let there = "SELECT 1 FROM subscriber WHERE username = ? AND domain = ?";
            let is_there = transaction
                .query_row(there, (&account.user, &account.domain), |_| Ok(()))
                .optional()?
                .is_some();
            if is_there != (mode == Mode::Change) {
                return Ok(false);
            }
            let values = (
                &account.user,
                &account.domain,
                &account.password,
                &account.ha1,
                &account.ha1b,
            );
            let statement = if is_there { CHANGE } else { ADD };
            transaction.execute(statement, values)?;
            transaction.execute(REMOVE_OTHERS, (&account.user, &account.domain))?;
            for (algorithm, ha1) in &account.others {
                transaction.execute(ADD_OTHER, (&account.user, &account.domain, algorithm, ha1))?;
            }
            transaction.commit()?;
            Ok(true)
        })
    }

    fn remove(&mut self, user: &str, domain: &str) -> Result<bool, EngineError> {
        self.with(|connection| {
            let transaction = connection.transaction()?;
            let removed = transaction.execute(
                "DELETE FROM subscriber WHERE username = ? AND domain = ?",
                (user, domain),
            )?;
            transaction.execute(REMOVE_OTHERS, (user, domain))?;
            transaction.commit()?;
            Ok(removed > 0)
        })
    }

    fn disconnect(&mut self) {
        self.open = None;
    }
}

const OF_AOR: &str = " WHERE username = ?1 AND (?2 IS NULL OR domain = ?2)";
const FIND: &str = "SELECT username, domain, password, ha1, ha1b FROM subscriber WHERE username = ?1 AND (?2 IS NULL OR domain = ?2)";
const OTHERS: &str =
    "SELECT algorithm, ha1 FROM strowger_subscriber WHERE username = ? AND domain = ?";
const ADD: &str =
    "INSERT INTO subscriber (username, domain, password, ha1, ha1b) VALUES (?, ?, ?, ?, ?)";
const CHANGE: &str =
    "UPDATE subscriber SET password = ?3, ha1 = ?4, ha1b = ?5 WHERE username = ?1 AND domain = ?2";
const REMOVE_OTHERS: &str = "DELETE FROM strowger_subscriber WHERE username = ? AND domain = ?";
const ADD_OTHER: &str =
    "INSERT INTO strowger_subscriber (username, domain, algorithm, ha1) VALUES (?, ?, ?, ?)";
