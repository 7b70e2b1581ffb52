//! Postgres: one connection of the store's thread, several hosts in the URL, one statement a kind and batch.
//!
//! A batch goes out whole, in one round trip: BEGIN, new rows, known rows, deletions, the batch's number, COMMIT. Rows that are known to
//! be stored are updated, not inserted again: an upsert takes an id of the table's 31-bit sequence for each row that it sees. Should one of
//! them not be there, it is inserted, and the caller is told that the table has lost rows.
//!
//! An advisory lock per node keeps the session of a connection that broke from writing after a newer one has begun: as long as the
//! server still works for it, nothing is written. The number of the last batch, which each transaction counts up, tells after a
//! failover or a restore whether what was committed is there.

mod arrays;
mod directory;
mod problem;
mod session;
mod statements;
mod survey;

use std::future::Future;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, pin_mut};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::binary_copy::{BinaryCopyOutRow, BinaryCopyOutStream};
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Config, Error};

pub(super) use self::directory::PostgresDirectory;

use self::arrays::{Arrays, Moment};
use self::problem::{engine_error, is_about_data};
use self::session::Session;
use super::calendar::from_local;
use super::columns::{Columns, Frame};
use super::engine::{Engine, EngineError, Loaded, Written};
use super::survey::Survey;
use crate::limits::{STORE_ANSWER_TIME, STORE_LOAD_SILENCE};
use crate::location::{Row, Rows};

/// A database on a server.
pub(super) struct Postgres {
    config: Config,
    frame: Frame,
    runtime: Runtime,
    session: Option<Session>,
    /// The server's process for our last session, which may still be at work.
    last_process: Option<i32>,
    /// Batches of this process that are committed.
    batches: i64,
    last_answer: Instant,
}

impl Postgres {
    /// The database that `config` names, connected to when it is needed. `epoch` tells this start from every other.
    pub(super) fn new(config: Config, frame: Frame) -> std::io::Result<Self> {
        Ok(Self {
            config: session::configure(config),
            frame,
            runtime: Builder::new_current_thread().enable_all().build()?,
            session: None,
            last_process: None,
            batches: 0,
            last_answer: Instant::now(),
        })
    }

    /// Looks at the server and its tables, and changes nothing.
    pub(super) fn survey(&self) -> Result<Survey, EngineError> {
        within(&self.runtime, ANSWER_TIME, survey::survey(&self.config))
    }

    fn session(&self) -> Result<&Session, EngineError> {
        let lost = || EngineError::Unreachable("not connected".to_owned());
        self.session.as_ref().ok_or_else(lost)
    }
}

impl Engine for Postgres {
    fn connect(&mut self) -> Result<bool, EngineError> {
        if let Some(session) = &self.session {
            if self.last_answer.elapsed() < PROBE_AFTER {
                return Ok(false);
            }
            within(&self.runtime, ANSWER_TIME, session.probe())?;
            self.last_answer = Instant::now();
            return Ok(false);
        }
        let open = Session::open(&self.config, &self.frame, self.last_process);
        let session = within(&self.runtime, ANSWER_TIME, open)?;
        let committed = within(
            &self.runtime,
            ANSWER_TIME,
            session.batches(self.frame.server_id),
        )?;
        self.last_process = Some(session.process);
        self.session = Some(session);
        self.last_answer = Instant::now();
        // One more than we know of: the batch whose answer was lost has arrived.
        let has_lost = self.batches > 0 && committed < self.batches;
        self.batches = committed;
        Ok(has_lost)
    }

    fn write(&mut self, rows: &Rows) -> Result<Written, EngineError> {
        let arrays = Arrays::of(rows, &self.frame);
        let session = self.session()?;
        let result = within(&self.runtime, ANSWER_TIME, async {
            match session.write(&arrays, self.frame.server_id).await {
                Err(error) if is_about_data(&error) => {
                    // One row that the server refuses must not keep the others out.
                    let refused = session.write_one_by_one(rows, &self.frame).await?;
                    Ok(Written { missed: 0, refused })
                }
                Err(error) => Err(engine_error(&error)),
                Ok(missed) => Ok(Written {
                    missed,
                    refused: arrays.unstorable.clone(),
                }),
            }
        });
        if result.is_ok() {
            self.batches += 1;
            self.last_answer = Instant::now();
        }
        result
    }

    fn load(&mut self, now_s: i64, each: &mut dyn FnMut(&Row<'_>)) -> Result<Loaded, EngineError> {
        let session = self.session()?;
        let (frame, runtime) = (&self.frame, &self.runtime);
        let mut loaded = Loaded::default();
        let mut aor = Vec::new();
        let open = async {
            session
                .copy_out(statements::COPY)
                .await
                .map_err(|error| engine_error(&error))
        };
        let stream = BinaryCopyOutStream::new(within(runtime, ANSWER_TIME, open)?, COLUMNS);
        pin_mut!(stream);
        loop {
            let next = async {
                stream
                    .next()
                    .await
                    .transpose()
                    .map_err(|error| engine_error(&error))
            };
            let Some(row) = within(runtime, LOAD_SILENCE, next)? else {
                break;
            };
            let columns = columns(&row).map_err(|error| engine_error(&error))?;
            if columns.expires_s > 0 && columns.expires_s <= now_s {
                loaded.expired += 1;
                continue;
            }
            loaded.rows += 1;
            each(&frame.row(&columns, &mut aor));
        }
        self.last_answer = Instant::now();
        Ok(loaded)
    }

    fn purge(&mut self, before_s: i64, len_max: usize) -> Result<usize, EngineError> {
        let session = self.session()?;
        let purge = session.purge(before_s, self.frame.server_id, len_max);
        let purged = within(&self.runtime, ANSWER_TIME, purge)?;
        self.last_answer = Instant::now();
        Ok(purged)
    }

    fn disconnect(&mut self) {
        self.session = None;
    }
}

/// Waits for an answer, but not for ever: a server that was stopped says nothing at all.
fn within<T>(
    runtime: &Runtime,
    patience: Duration,
    work: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, EngineError> {
    let silent = || EngineError::Unreachable(format!("no answer within {} s", patience.as_secs()));
    runtime.block_on(async {
        let answer = tokio::time::timeout(patience, work).await;
        answer.unwrap_or_else(|_| Err(silent()))
    })
}

/// A row, whichever way it came.
trait Cells {
    fn cell<'a, T: FromSql<'a>>(&'a self, index: usize) -> Result<T, Error>;
}

impl Cells for BinaryCopyOutRow {
    fn cell<'a, T: FromSql<'a>>(&'a self, index: usize) -> Result<T, Error> {
        self.try_get(index)
    }
}

impl Cells for tokio_postgres::Row {
    fn cell<'a, T: FromSql<'a>>(&'a self, index: usize) -> Result<T, Error> {
        self.try_get(index)
    }
}

/// The columns of a row, in the order of [`statements::COPY`].
fn columns(row: &impl Cells) -> Result<Columns<'_>, Error> {
    let local = |index: usize| row.cell::<Moment>(index).map(Moment::local_s);
    Ok(Columns {
        ruid: row.cell(0)?,
        username: row.cell(1)?,
        domain: row.cell(2)?,
        contact: row.cell(3)?,
        received: row.cell(4)?,
        path: row.cell(5)?,
        expires_s: from_local(local(6)?),
        q: row.cell(7)?,
        call_id: row.cell(8)?,
        cseq: row.cell(9)?,
        modified_s: from_local(local(10)?),
        user_agent: row.cell(11)?,
        socket: row.cell(12)?,
        instance: row.cell(13)?,
        reg_id: row.cell(14)?,
        server_id: row.cell(15)?,
    })
}

const COLUMNS: &[Type] = &[
    Type::VARCHAR,
    Type::VARCHAR,
    Type::VARCHAR,
    Type::VARCHAR,
    Type::VARCHAR,
    Type::VARCHAR,
    Type::TIMESTAMP,
    Type::FLOAT4,
    Type::VARCHAR,
    Type::INT4,
    Type::TIMESTAMP,
    Type::VARCHAR,
    Type::VARCHAR,
    Type::VARCHAR,
    Type::INT4,
    Type::INT4,
];

const ANSWER_TIME: Duration = Duration::from_micros(STORE_ANSWER_TIME.as_micros());
const LOAD_SILENCE: Duration = Duration::from_micros(STORE_LOAD_SILENCE.as_micros());
/// How long the connection may be silent before it is asked whether it still is one.
const PROBE_AFTER: Duration = Duration::from_secs(1);
