//! The users in Postgres, by a connection of their own: all that are asked for at one time by one statement.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, Config, Error};

use super::super::columns::Frame;
use super::super::directory::{Account, Directory, Mode};
use super::super::engine::EngineError;
use super::problem::engine_error;
use super::session::{Link, check_tables, configure, make_tables};
use super::{columns, statements, within};
use crate::limits::SUBSCRIBER_ANSWER_TIME;
use crate::location::Row;

/// The users of a database.
pub(in super::super) struct PostgresDirectory {
    config: Config,
    frame: Frame,
    runtime: Runtime,
    link: Option<Link>,
    /// The tables that were not there when it connected, until somebody wants to know.
    made: Vec<&'static str>,
}

impl PostgresDirectory {
    /// Those of the database that `config` names.
    pub(in super::super) fn new(config: Config, frame: Frame) -> std::io::Result<Self> {
        Ok(Self {
            config: configure(config),
            frame,
            runtime: Builder::new_current_thread().enable_all().build()?,
            link: None,
            made: Vec::new(),
        })
    }

    fn with<T>(
        &self,
        work: impl AsyncFnOnce(&Client) -> Result<T, Error>,
    ) -> Result<T, EngineError> {
        let lost = || EngineError::Unreachable("not connected".to_owned());
        let link = self.link.as_ref().ok_or_else(lost)?;
        within(&self.runtime, ANSWER_TIME, async {
            work(&link.client)
                .await
                .map_err(|error| engine_error(&error))
        })
    }
}

impl Directory for PostgresDirectory {
    fn connect(&mut self) -> Result<(), EngineError> {
        if self
            .link
            .as_ref()
            .is_none_or(|link| link.client.is_closed())
        {
            let open = async {
                let link = Link::open(&self.config).await?;
                let made = make_tables(&link.client).await?;
                Ok((link, made))
            };
            let open = async { open.await.map_err(|error| engine_error(&error)) };
            let (link, made) = within(&self.runtime, ANSWER_TIME, open)?;
            self.link = Some(link);
            self.made.extend(made);
        }
        Ok(())
    }

    fn find(&mut self, users: &[(&str, Option<&str>)]) -> Result<Vec<Account>, EngineError> {
        let (names, domains): (Vec<&str>, Vec<Option<&str>>) = users.iter().copied().unzip();
        self.with(async |client| {
            let rows = client.query(FIND, &[&names, &domains]).await?;
            let mut found: Vec<Account> = Vec::with_capacity(rows.len());
            for row in rows {
                let (user, domain): (&str, &str) = (row.get(0), row.get(1));
                // A row for each hash of the side table, those of one account together.
                if found
                    .last()
                    .is_none_or(|last| last.user != user || last.domain != domain)
                {
                    found.push(Account {
                        user: user.to_owned(),
                        domain: domain.to_owned(),
                        password: row.get(2),
                        ha1: row.get(3),
                        ha1b: row.get(4),
                        others: Vec::new(),
                    });
                }
                if let (Some(last), Some(algorithm), Some(ha1)) =
                    (found.last_mut(), row.get(5), row.get(6))
                {
                    last.others.push((algorithm, ha1));
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
        let (names, domains): (Vec<&str>, Vec<Option<&str>>) =
            aors.iter().map(|aor| self.frame.split(aor)).unzip();
        self.with(async |client| {
            let mut text = Vec::new();
            for row in client
                .query(statements::OF_AORS, &[&names, &domains])
                .await?
            {
                each(&self.frame.row(&columns(&row)?, &mut text));
            }
            Ok(())
        })
    }

    fn migrate(&mut self) -> Result<Vec<&'static str>, EngineError> {
        let mut made = std::mem::take(&mut self.made);
        made.extend(self.with(make_tables)?);
        let lost = || EngineError::Unreachable("not connected".to_owned());
        let link = self.link.as_ref().ok_or_else(lost)?;
        within(&self.runtime, ANSWER_TIME, check_tables(&link.client))?;
        Ok(made)
    }

    fn put(&mut self, account: &Account, mode: Mode) -> Result<bool, EngineError> {
        self.with(async |client| {
            client.batch_execute("BEGIN").await?;
            let statement = if mode == Mode::Add { ADD } else { CHANGE };
            let Account {
                user,
                domain,
                password,
                ha1,
                ha1b,
                ..
            } = account;
            let put = client
                .execute(statement, &[user, domain, password, ha1, ha1b])
                .await?;
            if put > 0 {
                client.execute(REMOVE_OTHERS, &[user, domain]).await?;
                for (algorithm, ha1) in &account.others {
                    client
                        .execute(ADD_OTHER, &[user, domain, algorithm, ha1])
                        .await?;
                }
            }
            client.batch_execute("COMMIT").await?;
            Ok(put > 0)
        })
    }

    fn remove(&mut self, user: &str, domain: &str) -> Result<bool, EngineError> {
        self.with(async |client| {
            client.batch_execute("BEGIN").await?;
            let removed = client
                .execute(
                    "DELETE FROM subscriber WHERE username = $1 AND domain = $2",
                    &[&user, &domain],
                )
                .await?;
            client.execute(REMOVE_OTHERS, &[&user, &domain]).await?;
            client.batch_execute("COMMIT").await?;
            Ok(removed > 0)
        })
    }

    fn disconnect(&mut self) {
        self.link = None;
    }
}

const FIND: &str = "SELECT s.username, s.domain, s.password, s.ha1, s.ha1b, o.algorithm, o.ha1 \
    FROM (SELECT DISTINCT s.username, s.domain, s.password, s.ha1, s.ha1b FROM unnest($1::text[], $2::text[]) AS t(username, domain) \
        JOIN subscriber AS s ON s.username = t.username AND (t.domain IS NULL OR s.domain = t.domain)) AS s \
    LEFT JOIN strowger_subscriber AS o ON o.username = s.username AND o.domain = s.domain ORDER BY s.username, s.domain";
const ADD: &str = "INSERT INTO subscriber (username, domain, password, ha1, ha1b) VALUES ($1, $2, $3, $4, $5) \
    ON CONFLICT (username, domain) DO NOTHING";
const CHANGE: &str =
    "UPDATE subscriber SET password = $3, ha1 = $4, ha1b = $5 WHERE username = $1 AND domain = $2";
const REMOVE_OTHERS: &str = "DELETE FROM strowger_subscriber WHERE username = $1 AND domain = $2";
const ADD_OTHER: &str =
    "INSERT INTO strowger_subscriber (username, domain, algorithm, ha1) VALUES ($1, $2, $3, $4)";
const ANSWER_TIME: Duration = Duration::from_micros(SUBSCRIBER_ANSWER_TIME.as_micros());
