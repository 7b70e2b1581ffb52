//! What a database is like, for who asks before the server runs: it is looked at and left as it is.

use std::fs::OpenOptions;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::columns::Frame;
use super::postgres::Postgres;
use super::schema::{TABLES, mismatch};
use super::{Database, StoreError};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Which server or library, and of which version.
    pub engine: String,
    /// Settings that decide what a commit is worth, by name.
    pub settings: Vec<(String, String)>,
    /// Whether it takes no writes: a standby, or a file that may not be written.
    pub is_read_only: bool,
    /// Tables that are not there yet.
    pub absent: Vec<&'static str>,
    /// What is wrong with the tables that are.
    pub wrong: Vec<String>,
    /// How far the numbers of rows have come.
    pub sequences: Vec<Sequence>,
}

/// Where a table's row numbers come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// The table.
    pub table: String,
    /// The sequence; empty where the engine counts by itself.
    pub name: String,
    /// The highest number so far.
    pub used: i64,
    /// The highest that there can be.
    pub max: i64,
}

impl Survey {
    /// Notes whether a table is there, and of what version it is said to be.
    pub(super) fn note(&mut self, table: &'static str, is_there: bool, version: Option<i32>) {
        if !is_there {
            self.absent.push(table);
        } else if let Some(text) = mismatch(table, version) {
            self.wrong.push(text);
        }
    }
}

impl Sequence {
    /// Whether more than half of the numbers are gone.
    #[must_use]
    pub const fn is_half_used(&self) -> bool {
        self.used > self.max / 2
    }
}

/// Looks at a database; none where it is a file that is not there yet.
///
/// # Errors
/// It cannot be reached or read.
pub fn survey(database: &Database) -> Result<Option<Survey>, StoreError> {
    match database {
        Database::Sqlite(path) if !path.exists() => Ok(None),
        Database::Sqlite(path) => of_file(path)
            .map(Some)
            .map_err(|error| StoreError::File(format!("{}: {error}", path.display()))),
        Database::Postgres(url) => {
            let config = url.parse().map_err(StoreError::Url)?;
            let frame = Frame {
                listeners: Vec::new(),
                use_domain: false,
                server_id: 0,
                homes: None,
            };
            let server = Postgres::new(config, frame).map_err(StoreError::Thread)?;
            let survey = server.survey();
            survey
                .map(Some)
                .map_err(|error| StoreError::Database(error.to_string()))
        }
    }
}

fn of_file(path: &Path) -> rusqlite::Result<Survey> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    let mut survey = Survey {
        engine: format!("SQLite {}", rusqlite::version()),
        settings: vec![("journal_mode".to_owned(), mode)],
        is_read_only: OpenOptions::new().append(true).open(path).is_err(),
        ..Survey::default()
    };
    for table in TABLES {
        let found = "SELECT 1 FROM sqlite_master WHERE type IN ('table', 'view') AND name = ?";
        let is_there = connection
            .query_row(found, [table.name], |_| Ok(()))
            .optional()?
            .is_some();
        let version = is_there && table.version.is_some();
        let version = version.then(|| {
            let asked = "SELECT table_version FROM version WHERE table_name = ?";
            connection
                .query_row(asked, [table.name], |row| row.get(0))
                .optional()
        });
        survey.note(table.name, is_there, version.transpose()?.flatten());
        if is_there && table.version.is_some() && table.name != "version" {
            let highest = format!("SELECT coalesce(max(id), 0) FROM {}", table.name);
            survey.sequences.push(Sequence {
                table: table.name.to_owned(),
                name: String::new(),
                used: connection.query_row(&highest, [], |row| row.get(0))?,
                max: i64::MAX,
            });
        }
    }
    Ok(survey)
}
