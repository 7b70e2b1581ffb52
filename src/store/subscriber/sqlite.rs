//! The users' tables in SQLite.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::Directory;
use super::record::Record;

/// The tables of a database file.
#[derive(Debug)]
pub(super) struct SqliteDirectory {
    path: PathBuf,
    use_domain: bool,
    connection: Option<Connection>,
}

impl SqliteDirectory {
    pub(super) fn new(path: &Path, use_domain: bool) -> Self {
        Self {
            path: path.to_owned(),
            use_domain,
            connection: None,
        }
    }

    fn look_up(&mut self, wanted: &[(String, String)]) -> rusqlite::Result<Vec<Record>> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                let connection = Connection::open_with_flags(&self.path, flags)?;
                connection.busy_timeout(PATIENCE)?;
                connection
            }
        };
        let mut records = Vec::with_capacity(wanted.len());
        {
            let mut statement = connection.prepare_cached(SELECT)?;
            for (user, domain) in wanted {
                let mut rows = statement.query((user, i64::from(!self.use_domain), domain))?;
                while let Some(row) = rows.next()? {
                    records.push(Record {
                        username: row.get(0)?,
                        domain: row.get(1)?,
                        password: row.get(2)?,
                        ha1: row.get(3)?,
                        sha256: row.get(4)?,
                        sha512_256: row.get(5)?,
                    });
                }
            }
        }
        self.connection = Some(connection);
        Ok(records)
    }
}

impl Directory for SqliteDirectory {
    fn find(&mut self, wanted: &[(String, String)]) -> Result<Vec<Record>, String> {
        self.look_up(wanted)
            .map_err(|error| format!("{}: {error}", self.path.display()))
    }
}

const SELECT: &str = "SELECT s.username, s.domain, s.password, s.ha1, \
    (SELECT x.ha1 FROM strowger_subscriber x WHERE x.username = s.username AND x.domain = s.domain AND x.algorithm = 'SHA-256'), \
    (SELECT x.ha1 FROM strowger_subscriber x WHERE x.username = s.username AND x.domain = s.domain AND x.algorithm = 'SHA-512-256') \
    FROM subscriber s WHERE s.username = ?1 AND (?2 OR s.domain = ?3)";

/// How long a lock of the writer is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
