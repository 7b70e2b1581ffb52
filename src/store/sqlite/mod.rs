//! SQLite: the embedded engine, a file in WAL mode, synced at each commit.
//!
//! Times are what Kamailio's db_sqlite writes: Julian days as floating-point numbers, in UTC.

mod directory;

use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::{ToSql, ValueRef};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row as SqlRow, Transaction};
use tracing::{info, warn};

pub(super) use self::directory::SqliteDirectory;
use super::columns::{Columns, Frame};
use super::engine::{Engine, EngineError, Loaded, Written};
use super::schema::{Dialect, TABLES, mismatch};
use crate::location::{Row, Rows, Work};

/// A database in a file.
#[derive(Debug)]
pub(super) struct Sqlite {
    path: PathBuf,
    frame: Frame,
    open: Option<Open>,
    /// Batches that are committed, as the database counts them.
    batches: i64,
}

#[derive(Debug)]
struct Open {
    connection: Connection,
    /// The file that was opened: another one at its path means that the table is lost.
    inode: Option<(u64, u64)>,
}

impl Sqlite {
    /// The database in the file at `path`, opened when it is needed.
    pub(super) fn new(path: &Path, frame: Frame) -> Self {
        Self {
            path: path.to_owned(),
            frame,
            open: None,
            batches: 0,
        }
    }

    fn connection(&mut self) -> Result<&mut Connection, EngineError> {
        let open = self.open.as_mut();
        open.map(|open| &mut open.connection)
            .ok_or_else(|| EngineError::Unreachable("not open".to_owned()))
    }

    fn error(&self) -> impl Fn(rusqlite::Error) -> EngineError + use<> {
        error_at(&self.path)
    }
}

/// What went wrong, with the file's name.
fn error_at(path: &Path) -> impl Fn(rusqlite::Error) -> EngineError + use<> {
    let path = path.display().to_string();
    move |error| {
        let text = format!("{path}: {error}");
        match error.sqlite_error_code() {
            Some(
                ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
                | ErrorCode::ReadOnly
                | ErrorCode::DiskFull,
            ) => EngineError::Refused(text),
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => EngineError::Unfit(text),
            Some(_) | None => EngineError::Unreachable(text),
        }
    }
}

impl Engine for Sqlite {
    fn connect(&mut self) -> Result<bool, EngineError> {
        let is_there = |open: &Open| open.inode.is_some() && open.inode == inode(&self.path);
        if self.open.as_ref().is_some_and(is_there) {
            return Ok(false);
        }
        self.open = None;
        let error = self.error();
        create(&self.path);
        let connection = Connection::open(&self.path).map_err(&error)?;
        let journal = prepare(&connection).map_err(&error)?;
        make_tables(&connection).map_err(&error)?;
        check_tables(&connection)
            .map_err(&error)?
            .map_or(Ok(()), |text| Err(EngineError::Unfit(text)))?;
        let synchronous = check_settings(&connection, &self.path)?;
        let committed = batches(&connection, self.frame.server_id).map_err(&error)?;
        info!(journal, synchronous, "opened {}", self.path.display());
        let has_lost = self.batches > 0 && committed < self.batches;
        self.batches = committed;
        self.open = Some(Open {
            connection,
            inode: inode(&self.path),
        });
        Ok(has_lost)
    }

    fn write(&mut self, rows: &Rows) -> Result<Written, EngineError> {
        let frame = self.frame.clone();
        let error = self.error();
        let connection = self.connection()?;
        let transaction = connection.transaction().map_err(&error)?;
        let written = write_rows(&transaction, &frame, rows).map_err(&error)?;
        transaction
            .execute(COUNT, [frame.server_id])
            .map_err(&error)?;
        transaction.commit().map_err(&error)?;
        self.batches += 1;
        Ok(written)
    }

    fn load(&mut self, now_s: i64, each: &mut dyn FnMut(&Row<'_>)) -> Result<Loaded, EngineError> {
        let frame = self.frame.clone();
        let error = self.error();
        let connection = self.connection()?;
        let mut statement = connection.prepare(SELECT).map_err(&error)?;
        let mut found = statement.query([]).map_err(&error)?;
        let mut loaded = Loaded::default();
        let mut aor = Vec::new();
        while let Some(row) = found.next().map_err(&error)? {
            let columns = columns(row).map_err(&error)?;
            if columns.expires_s > 0 && columns.expires_s <= now_s {
                loaded.expired += 1;
                continue;
            }
            loaded.rows += 1;
            each(&frame.row(&columns, &mut aor));
        }
        Ok(loaded)
    }

    fn purge(&mut self, before_s: i64, len_max: usize) -> Result<usize, EngineError> {
        let server_id = self.frame.server_id;
        let error = self.error();
        let connection = self.connection()?;
        let mut statement = connection.prepare_cached(PURGE).map_err(&error)?;
        let len_max = i64::try_from(len_max).unwrap_or(i64::MAX);
        statement
            .execute((julian(before_s), server_id, len_max))
            .map_err(&error)
    }

    fn disconnect(&mut self) {
        self.open = None;
    }
}

/// Makes a file that is not there, for its owner alone: it tells who is registered, and the hashes of passwords. Should that fail,
/// opening it tells why.
fn create(path: &Path) {
    let _ = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
}

/// Sets the connection up; gives the journal's mode.
fn prepare(connection: &Connection) -> rusqlite::Result<String> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Readers (the operator's sqlite3, Kamailio) do not wait for the writer. A file system without shared memory keeps its own mode.
    let journal = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    // What a commit says is on the disk is on the disk; in WAL mode that is one sync a batch.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", CACHE_KIB)?;
    // A batch of the largest size does not bring the whole log back into the file each time.
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.set_prepared_statement_cache_capacity(16);
    Ok(journal)
}

/// Sees that what a commit says is on the disk: else what was acknowledged as committed would be lost with a failing host.
fn check_settings(connection: &Connection, path: &Path) -> Result<i64, EngineError> {
    let setting = connection.query_row("PRAGMA synchronous", [], |row| row.get(0));
    let synchronous: i64 = setting.map_err(error_at(path))?;
    if synchronous < SYNCHRONOUS_FULL {
        return Err(EngineError::Unfit(format!(
            "{}: SQLite stays at synchronous = {synchronous}, and {SYNCHRONOUS_FULL} (FULL) is needed for a commit to be on the disk; use \
             a SQLite that was not built to forbid it",
            path.display()
        )));
    }
    Ok(synchronous)
}

/// Makes the tables that are not there; gives their names.
fn make_tables(connection: &Connection) -> rusqlite::Result<Vec<&'static str>> {
    let mut made = Vec::new();
    for table in TABLES {
        if !is_there(connection, table.name)? {
            let transaction = connection.unchecked_transaction()?;
            for statement in table.statements(Dialect::Sqlite) {
                transaction.execute_batch(&statement)?;
            }
            transaction.commit()?;
            made.push(table.name);
        }
    }
    Ok(made)
}

/// What is wrong with the tables that are there.
fn check_tables(connection: &Connection) -> rusqlite::Result<Option<String>> {
    for table in TABLES.iter().filter(|table| table.version.is_some()) {
        let found = connection
            .query_row(
                "SELECT table_version FROM version WHERE table_name = ?",
                [table.name],
                |row| row.get(0),
            )
            .optional()?;
        if let Some(text) = mismatch(table.name, found) {
            return Ok(Some(text));
        }
    }
    Ok(None)
}

/// The batches of a node so far; counting begins where it has not.
fn batches(connection: &Connection, server_id: u16) -> rusqlite::Result<i64> {
    connection.execute(
        "INSERT INTO strowger_node (server_id, batches) VALUES (?, 0) ON CONFLICT DO NOTHING",
        [server_id],
    )?;
    connection.query_row(
        "SELECT batches FROM strowger_node WHERE server_id = ?",
        [server_id],
        |row| row.get(0),
    )
}

fn is_there(connection: &Connection, table: &str) -> rusqlite::Result<bool> {
    let found = "SELECT 1 FROM sqlite_master WHERE type IN ('table', 'view') AND name = ?";
    connection
        .query_row(found, [table], |_| Ok(()))
        .optional()
        .map(|found| found.is_some())
}

fn write_rows(
    transaction: &Transaction<'_>,
    frame: &Frame,
    rows: &Rows,
) -> rusqlite::Result<Written> {
    let mut insert = transaction.prepare_cached(INSERT)?;
    let mut update = transaction.prepare_cached(UPDATE)?;
    let mut delete = transaction.prepare_cached(DELETE)?;
    let mut written = Written::default();
    // What lies together in the table and its indexes is done together: a known row where its name leads, a new one where its user
    // does.
    let mut sorted: Vec<(u32, Row<'_>)> = (0..).zip(rows.iter()).collect();
    sorted.sort_unstable_by_key(|(_, row)| match row.work {
        Work::Insert => (true, row.aor),
        Work::Update | Work::Delete | Work::Load | Work::Complete => (false, row.ruid),
    });
    for (place, row) in sorted {
        if row.work == Work::Delete {
            if let Ok(ruid) = std::str::from_utf8(row.ruid) {
                delete.execute([ruid])?;
            }
            continue;
        }
        let Ok(columns) = frame.columns(&row) else {
            written.refused.push(place);
            continue;
        };
        let (expires, modified) = (julian(columns.expires_s), julian(columns.modified_s));
        let values: [&dyn ToSql; 16] = [
            &columns.ruid,
            &columns.contact,
            &columns.received,
            &columns.path,
            &expires,
            &columns.q,
            &columns.call_id,
            &columns.cseq,
            &modified,
            &columns.user_agent,
            &columns.socket,
            &columns.instance,
            &columns.reg_id,
            &frame.server_id,
            &columns.username,
            &columns.domain,
        ];
        let done = match row.work {
            Work::Update => update.execute(&values[..UPDATED]),
            Work::Insert | Work::Delete | Work::Load | Work::Complete => Ok(0),
        };
        let done = done.and_then(|updated| {
            if updated > 0 {
                return Ok(());
            }
            written.missed += usize::from(row.work == Work::Update);
            insert.execute(&values[..]).map(drop)
        });
        match done {
            Ok(()) => {}
            // One row that the table does not take must not keep the others out.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
                warn!("a binding that the table does not take lives in memory alone: {error}");
                written.refused.push(place);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

/// The columns of a row, in the order of [`SELECT`].
fn columns<'a>(row: &'a SqlRow<'_>) -> rusqlite::Result<Columns<'a>> {
    let text = |index: usize| {
        row.get_ref(index)
            .map(|value| value.as_str().unwrap_or_default())
    };
    let optional = |index: usize| row.get_ref(index).map(|value| value.as_str().ok());
    Ok(Columns {
        ruid: text(0)?,
        username: text(1)?,
        domain: optional(2)?,
        contact: text(3)?,
        received: optional(4)?.map(str::to_owned),
        path: optional(5)?,
        expires_s: moment(row.get_ref(6)?),
        q: row.get(7)?,
        call_id: text(8)?,
        cseq: row.get(9)?,
        modified_s: moment(row.get_ref(10)?),
        user_agent: text(11)?,
        socket: optional(12)?.map(str::to_owned),
        instance: optional(13)?,
        reg_id: row.get(14)?,
        server_id: row.get(15)?,
    })
}

/// Seconds since 1970 as a Julian day, which is how Kamailio keeps a time.
fn julian(seconds: i64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "seconds of this age need 31 bits of the 53"
    )]
    let days = seconds as f64 / 86_400.0;
    days + JULIAN_1970
}

/// What the column holds as seconds since 1970: a Julian day; text was made one by the query.
fn moment(value: ValueRef<'_>) -> i64 {
    let days = match value {
        ValueRef::Real(days) => days,
        ValueRef::Integer(_) | ValueRef::Null | ValueRef::Text(_) | ValueRef::Blob(_) => return 0,
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a float becomes the nearest integer that there is"
    )]
    let seconds = ((days - JULIAN_1970) * 86_400.0).round() as i64;
    seconds
}

fn inode(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path)
        .ok()
        .map(|file| (file.dev(), file.ino()))
}

/// `PRAGMA synchronous`: each commit is synced.
const SYNCHRONOUS_FULL: i64 = 2;
const JULIAN_1970: f64 = 2_440_587.5;
/// How long another writer is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Pages of the log, 4 KiB each, before they are brought back into the file.
const CHECKPOINT_PAGES: i64 = 16_384;
/// Memory for pages, in KiB, negative as SQLite wants it.
const CACHE_KIB: i64 = -65_536;

const INSERT: &str = "INSERT INTO location (ruid, contact, received, path, expires, q, callid, cseq, last_modified, user_agent, socket, \
    instance, reg_id, server_id, username, domain, connection_id) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, -1) \
    ON CONFLICT (ruid) DO UPDATE SET contact = excluded.contact, received = excluded.received, path = excluded.path, \
    expires = excluded.expires, q = excluded.q, callid = excluded.callid, cseq = excluded.cseq, \
    last_modified = excluded.last_modified, user_agent = excluded.user_agent, socket = excluded.socket, \
    instance = excluded.instance, reg_id = excluded.reg_id, server_id = excluded.server_id \
    WHERE location.last_modified <= excluded.last_modified";
const UPDATE: &str = "UPDATE location SET contact = ?2, received = ?3, path = ?4, expires = ?5, q = ?6, callid = ?7, cseq = ?8, \
    last_modified = ?9, user_agent = ?10, socket = ?11, instance = ?12, reg_id = ?13, server_id = ?14 WHERE ruid = ?1";
/// Of the values of [`INSERT`], those that [`UPDATE`] takes.
const UPDATED: usize = 14;
const COUNT: &str = "UPDATE strowger_node SET batches = batches + 1 WHERE server_id = ?";
const DELETE: &str = "DELETE FROM location WHERE ruid = ?";
const SELECT: &str = "SELECT ruid, username, domain, contact, received, path, \
    CASE typeof(expires) WHEN 'text' THEN julianday(expires) ELSE expires END, q, callid, cseq, \
    CASE typeof(last_modified) WHEN 'text' THEN julianday(last_modified) ELSE last_modified END, \
    user_agent, socket, instance, reg_id, server_id FROM location";
/// A contact that never ends is not past its end.
const PURGE: &str = "DELETE FROM location WHERE id IN \
    (SELECT id FROM location WHERE expires <= ? AND expires > 2440588.0 AND server_id = ? LIMIT ?)";
