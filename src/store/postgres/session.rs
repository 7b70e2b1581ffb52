//! One connection with its lock, its tables seen to, and its statements prepared.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, CopyOutStream, Error, NoTls, Statement};
use tracing::{info, warn};

use super::super::columns::Frame;
use super::super::engine::EngineError;
use super::super::schema::{Dialect, TABLES, mismatch};
use super::arrays::{Arrays, Moment, Table, name_and_state};
use super::problem::{engine_error, is_about_data};
use super::statements;
use crate::location::{Rows, Work};

/// A connection that may write.
pub(super) struct Session {
    link: Link,
    /// The server's process that works for it.
    pub(super) process: i32,
    insert: Statement,
    insert_absent: Statement,
    update: Statement,
    delete: Statement,
    count: Statement,
}

/// What every connection is to be like, whatever the URL says of it.
pub(super) fn configure(mut config: Config) -> Config {
    if config.get_application_name().is_none() {
        config.application_name("strowger");
    }
    // Of several hosts the one that takes writes; a standby is passed over.
    config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIME);
    }
    config.tcp_user_timeout(DEAD_AFTER);
    config.keepalives_idle(Duration::from_secs(10));
    config
}

impl Session {
    /// Connects to the first host that takes writes; `last_process` is the server's process for the session before.
    pub(super) async fn open(
        config: &Config,
        frame: &Frame,
        last_process: Option<i32>,
    ) -> Result<Self, EngineError> {
        let fails = |error: Error| engine_error(&error);
        let link = Link::open(config).await.map_err(fails)?;
        let client = &link.client;
        client
            .batch_execute(statements::SETTINGS)
            .await
            .map_err(fails)?;
        lock(client, frame.server_id, last_process).await?;
        make_tables(client).await.map_err(fails)?;
        check_tables(client).await?;
        let safety = check_settings(client).await?;
        let server_id = i32::from(frame.server_id);
        client
            .execute(statements::BEGIN_COUNT, &[&server_id])
            .await
            .map_err(fails)?;
        let prepare = async |text: &str| client.prepare(text).await.map_err(fails);
        let process = client
            .query_one("SELECT pg_backend_pid()", &[])
            .await
            .map_err(fails)?
            .get(0);
        let session = Self {
            process,
            insert: prepare(&statements::insert()).await?,
            insert_absent: prepare(&statements::insert_absent()).await?,
            update: prepare(&statements::update()).await?,
            delete: prepare(statements::DELETE).await?,
            count: prepare(statements::COUNT).await?,
            link,
        };
        let Safety {
            synchronous_commit,
            fsync,
        } = safety;
        info!(process, synchronous_commit, fsync, "connected to Postgres");
        Ok(session)
    }

    /// Sees whether the server still answers.
    pub(super) async fn probe(&self) -> Result<(), EngineError> {
        self.link
            .client
            .simple_query("")
            .await
            .map(drop)
            .map_err(|error| engine_error(&error))
    }

    /// The batches that this node has committed, as far as this database knows.
    pub(super) async fn batches(&self, server_id: u16) -> Result<i64, EngineError> {
        let row = self
            .link
            .client
            .query_opt(statements::BATCHES, &[&i32::from(server_id)])
            .await;
        let row = row.map_err(|error| engine_error(&error))?;
        Ok(row.map_or(0, |row| row.get(0)))
    }

    /// Writes a batch in one transaction and gives how many rows that were to be changed were not there.
    pub(super) async fn write(&self, arrays: &Arrays<'_>, server_id: u16) -> Result<usize, Error> {
        let server_id = i32::from(server_id);
        let insert = arrays.insert.parameters(&server_id);
        let update = arrays.update.parameters(&server_id);
        let delete: [&(dyn ToSql + Sync); 2] = [&arrays.delete, &arrays.known];
        let counted_node: [&(dyn ToSql + Sync); 1] = [&server_id];
        // Polled in this order, they leave in this order, and nobody waits for an answer in between. Where one fails, COMMIT rolls back.
        let (begun, inserted, updated, deleted, counted, committed) = tokio::join!(
            biased;
            self.link.client.batch_execute("BEGIN"),
            self.unless_empty(&self.insert, &insert, arrays.insert.len()),
            self.unless_empty(&self.update, &update, arrays.update.len()),
            self.unless_empty(&self.delete, &delete, arrays.delete.len()),
            self.link.client.execute(&self.count, &counted_node),
            self.link.client.batch_execute("COMMIT"),
        );
        begun?;
        inserted?;
        let updated = updated?;
        deleted?;
        counted?;
        committed?;
        let missed = arrays
            .update
            .len()
            .saturating_sub(usize::try_from(updated).unwrap_or(usize::MAX));
        if missed > 0 {
            self.link
                .client
                .execute(&self.insert_absent, &update)
                .await?;
        }
        Ok(missed)
    }

    /// Writes each row for itself, and gives the places of those that the server refuses.
    pub(super) async fn write_one_by_one(
        &self,
        rows: &Rows,
        frame: &Frame,
    ) -> Result<Vec<u32>, EngineError> {
        let server_id = i32::from(frame.server_id);
        let mut refused = Vec::new();
        for (place, row) in (0..).zip(rows.iter()) {
            let result = if row.work == Work::Delete {
                let (name, known) = name_and_state(&row).unwrap_or_default();
                let delete: [&(dyn ToSql + Sync); 2] = [&vec![name], &vec![known]];
                self.link.client.execute(&self.delete, &delete).await
            } else {
                let mut table = Table::default();
                match frame.columns(&row) {
                    Ok(columns) => table.push(columns),
                    Err(_) => {
                        refused.push(place);
                        continue;
                    }
                }
                self.link
                    .client
                    .execute(&self.insert, &table.parameters(&server_id))
                    .await
            };
            match result {
                Ok(_) => {}
                Err(error) if is_about_data(&error) => {
                    warn!("a binding that the table does not take lives in memory alone: {error}");
                    refused.push(place);
                }
                Err(error) => return Err(engine_error(&error)),
            }
        }
        let counted = self.link.client.execute(&self.count, &[&server_id]).await;
        counted.map_err(|error| engine_error(&error))?;
        Ok(refused)
    }

    pub(super) async fn copy_out(&self, statement: &str) -> Result<CopyOutStream, Error> {
        self.link.client.copy_out(statement).await
    }

    /// Deletes a slice of what had expired by `before_s`.
    pub(super) async fn purge(
        &self,
        before_s: i64,
        server_id: u16,
        len_max: usize,
    ) -> Result<usize, EngineError> {
        let len_max = i64::try_from(len_max).unwrap_or(i64::MAX);
        let parameters: [&(dyn ToSql + Sync); 3] =
            [&Moment::local(before_s), &i32::from(server_id), &len_max];
        let purged = self
            .link
            .client
            .execute(statements::PURGE, &parameters)
            .await;
        purged
            .map(|purged| usize::try_from(purged).unwrap_or(usize::MAX))
            .map_err(|error| engine_error(&error))
    }

    async fn unless_empty(
        &self,
        statement: &Statement,
        parameters: &[&(dyn ToSql + Sync)],
        len: usize,
    ) -> Result<u64, Error> {
        if len == 0 {
            return Ok(0);
        }
        self.link.client.execute(statement, parameters).await
    }
}

/// A client, and the task that reads and writes for it: they end together.
pub(super) struct Link {
    pub(super) client: Client,
    driver: JoinHandle<()>,
}

impl Link {
    /// Connects to the first host that takes writes.
    pub(super) async fn open(config: &Config) -> Result<Self, Error> {
        let (client, connection) = config.connect(NoTls).await?;
        let driver = tokio::spawn(async move {
            // What breaks it is seen by whoever waits for an answer.
            let _ = connection.await;
        });
        Ok(Self { client, driver })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Takes the node's lock. Whoever else holds it may still be writing.
async fn lock(
    client: &Client,
    server_id: u16,
    last_process: Option<i32>,
) -> Result<(), EngineError> {
    let fails = |error: Error| engine_error(&error);
    let key = i32::from(server_id);
    for _ in 0..LOCK_ATTEMPTS {
        let taken = client
            .query_one("SELECT pg_try_advisory_lock($1, $2)", &[&LOCK_CLASS, &key])
            .await
            .map_err(fails)?;
        if taken.get(0) {
            return Ok(());
        }
        let holder = client
            .query_opt(HOLDER, &[&i64::from(LOCK_CLASS), &i64::from(key)])
            .await
            .map_err(fails)?;
        let Some(holder) = holder.map(|row| row.get::<_, i32>(0)) else {
            continue;
        };
        if Some(holder) == last_process {
            client
                .execute("SELECT pg_terminate_backend($1)", &[&holder])
                .await
                .map_err(fails)?;
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
    Err(EngineError::Refused(format!(
        "another session of node {server_id} is at work in this database; two servers need two numbers, and what is left of one that \
         died ends by itself within half a minute"
    )))
}

/// Makes the tables that are not there; gives their names. Nodes that begin on an empty database at once do it one after the
/// other.
pub(super) async fn make_tables(client: &Client) -> Result<Vec<&'static str>, Error> {
    let mut missing = false;
    for table in TABLES {
        missing |= !is_there(client, table.name).await?;
    }
    if !missing {
        return Ok(Vec::new());
    }
    let lock = [&LOCK_CLASS as &(dyn ToSql + Sync), &LOCK_TABLES];
    client
        .execute("SELECT pg_advisory_lock($1, $2)", &lock)
        .await?;
    // Where that fails, the session ends, and the lock with it.
    let made = make_missing(client).await?;
    client
        .execute("SELECT pg_advisory_unlock($1, $2)", &lock)
        .await?;
    Ok(made)
}

async fn make_missing(client: &Client) -> Result<Vec<&'static str>, Error> {
    let mut made = Vec::new();
    for table in TABLES {
        if is_there(client, table.name).await? {
            continue;
        }
        let statements = table.statements(Dialect::Postgres).join("; ");
        client
            .batch_execute(&format!("BEGIN; {statements}; COMMIT"))
            .await?;
        info!("made the table {}", table.name);
        made.push(table.name);
    }
    Ok(made)
}

async fn is_there(client: &Client, name: &str) -> Result<bool, Error> {
    let row = client
        .query_one("SELECT to_regclass($1) IS NOT NULL", &[&name])
        .await?;
    Ok(row.get(0))
}

/// Sees that the tables are of the versions that we know.
pub(super) async fn check_tables(client: &Client) -> Result<(), EngineError> {
    for table in TABLES.iter().filter(|table| table.version.is_some()) {
        let row = client
            .query_opt(
                "SELECT table_version FROM version WHERE table_name = $1",
                &[&table.name],
            )
            .await
            .map_err(|error| engine_error(&error))?;
        if let Some(text) = mismatch(table.name, row.map(|row| row.get(0))) {
            return Err(EngineError::Unfit(text));
        }
    }
    Ok(())
}

/// What Postgres says of its care for a commit.
struct Safety {
    synchronous_commit: String,
    fsync: String,
}

/// Sees that what a commit says is on the disk: else memory would take for stored what a failing server has lost.
async fn check_settings(client: &Client) -> Result<Safety, EngineError> {
    let fails = |error: Error| engine_error(&error);
    let setting = async |name: &str| -> Result<String, EngineError> {
        let row = client
            .query_one("SELECT current_setting($1)", &[&name])
            .await;
        row.map(|row| row.get(0)).map_err(fails)
    };
    let is_safe = |value: &str| matches!(value, "on" | "remote_apply");
    if !is_safe(&setting("synchronous_commit").await?) {
        let set = client.batch_execute("SET synchronous_commit = on").await;
        set.map_err(fails)?;
    }
    let synchronous_commit = setting("synchronous_commit").await?;
    if !is_safe(&synchronous_commit) {
        return Err(EngineError::Unfit(format!(
            "Postgres stays at synchronous_commit = {synchronous_commit}, with which a commit is not on the disk; a pooler that keeps settings \
             from the session must be passed by, or ALTER ROLE .. SET synchronous_commit = on"
        )));
    }
    let fsync = setting("fsync").await?;
    if fsync != "on" {
        warn!(
            "Postgres runs with fsync off: what it says is committed, and what a phone was told with ack = \"committed\", is lost when its \
             host fails; set fsync = on in postgresql.conf and restart it"
        );
    }
    Ok(Safety {
        synchronous_commit,
        fsync,
    })
}

const HOLDER: &str = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid::bigint = $1 AND objid::bigint = $2 \
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
/// Tells our locks from those of others.
const LOCK_CLASS: i32 = 0x5354_5247;
/// The lock of whoever makes the tables: no node's number.
const LOCK_TABLES: i32 = -1;
const LOCK_ATTEMPTS: usize = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(100);
const CONNECT_TIME: Duration = Duration::from_secs(3);
/// How long what was sent may stay without acknowledgement before the connection is given up.
const DEAD_AFTER: Duration = Duration::from_secs(25);
