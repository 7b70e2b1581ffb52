//! A batch as the arrays that its statements take, a column each.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use super::super::calendar::to_local;
use super::super::columns::{Columns, Frame};
use crate::location::{Row, Rows, Work};

/// The rows of a batch, by what is to be done.
#[derive(Debug, Default)]
pub(super) struct Arrays<'a> {
    pub(super) insert: Table<'a>,
    pub(super) update: Table<'a>,
    /// Names of rows to delete.
    pub(super) delete: Vec<&'a str>,
    /// Of those of other nodes, as which they are known: what is newer stays.
    pub(super) known: Vec<Option<Moment>>,
    /// Bindings that no row can hold, by their places in the batch.
    pub(super) unstorable: Vec<u32>,
}

/// Rows, column by column.
#[derive(Debug, Default)]
pub(super) struct Table<'a> {
    ruid: Vec<&'a str>,
    username: Vec<&'a str>,
    domain: Vec<Option<&'a str>>,
    contact: Vec<&'a str>,
    received: Vec<Option<String>>,
    path: Vec<Option<&'a str>>,
    expires: Vec<Moment>,
    q: Vec<f32>,
    call_id: Vec<&'a str>,
    cseq: Vec<i32>,
    modified: Vec<Moment>,
    user_agent: Vec<&'a str>,
    socket: Vec<Option<String>>,
    instance: Vec<Option<&'a str>>,
    reg_id: Vec<i32>,
}

/// A timestamp without a zone: microseconds since 2000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment(i64);

impl<'a> Arrays<'a> {
    pub(super) fn of(rows: &'a Rows, frame: &Frame) -> Self {
        let mut arrays = Self::default();
        let (mut insert, mut update, mut delete) = (Vec::new(), Vec::new(), Vec::new());
        for (place, row) in (0..).zip(rows.iter()) {
            if row.work == Work::Delete {
                delete.extend(name_and_state(&row));
                continue;
            }
            match frame.columns(&row) {
                Ok(columns) if row.work == Work::Update => update.push(columns),
                Ok(columns) => insert.push(columns),
                Err(_) => arrays.unstorable.push(place),
            }
        }
        // What lies together in the table and its indexes is done together: a known row where its name leads, a new one where its
        // user does.
        update.sort_unstable_by_key(|columns| columns.ruid);
        insert.sort_unstable_by_key(|columns| columns.username);
        delete.sort_unstable_by_key(|(name, _)| *name);
        (arrays.delete, arrays.known) = delete.into_iter().unzip();
        update
            .into_iter()
            .for_each(|columns| arrays.update.push(columns));
        insert
            .into_iter()
            .for_each(|columns| arrays.insert.push(columns));
        arrays
    }
}

/// The name of a row that is to go, and as which it is known where it is another node's.
pub(super) fn name_and_state<'a>(row: &Row<'a>) -> Option<(&'a str, Option<Moment>)> {
    let modified_s = i64::try_from(row.modified.unix_s()).unwrap_or(i64::MAX);
    let known = (!row.is_ours).then(|| Moment::local(modified_s));
    Some((std::str::from_utf8(row.ruid).ok()?, known))
}

impl<'a> Table<'a> {
    pub(super) fn push(&mut self, columns: Columns<'a>) {
        self.ruid.push(columns.ruid);
        self.username.push(columns.username);
        self.domain.push(columns.domain);
        self.contact.push(columns.contact);
        self.received.push(columns.received);
        self.path.push(columns.path);
        self.expires.push(Moment::local(columns.expires_s));
        self.q.push(columns.q);
        self.call_id.push(columns.call_id);
        self.cseq.push(columns.cseq);
        self.modified.push(Moment::local(columns.modified_s));
        self.user_agent.push(columns.user_agent);
        self.socket.push(columns.socket);
        self.instance.push(columns.instance);
        self.reg_id.push(columns.reg_id);
    }

    pub(super) fn len(&self) -> usize {
        self.ruid.len()
    }

    /// The parameters in the order of the statements; `server_id` stands last.
    pub(super) fn parameters<'s>(&'s self, server_id: &'s i32) -> [&'s (dyn ToSql + Sync); 16] {
        [
            &self.ruid,
            &self.username,
            &self.domain,
            &self.contact,
            &self.received,
            &self.path,
            &self.expires,
            &self.q,
            &self.call_id,
            &self.cseq,
            &self.modified,
            &self.user_agent,
            &self.socket,
            &self.instance,
            &self.reg_id,
            server_id,
        ]
    }
}

impl Moment {
    /// What the wall's clock shows at this Unix time.
    pub(super) fn local(unix_s: i64) -> Self {
        Self((to_local(unix_s) - UNIX_2000).saturating_mul(1_000_000))
    }

    /// Seconds since 1970 by the wall's clock. `infinity` is the last of all seconds.
    pub(super) fn local_s(self) -> i64 {
        self.0.div_euclid(1_000_000).saturating_add(UNIX_2000)
    }
}

impl ToSql for Moment {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i64(self.0);
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::TIMESTAMP
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Moment {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(i64::from_be_bytes(raw.try_into()?)))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::TIMESTAMP
    }
}

/// The year 2000 in Unix seconds.
const UNIX_2000: i64 = 946_684_800;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_goes_out_as_postgres_counts() {
        assert_eq!(Moment(0).local_s(), UNIX_2000);
        assert_eq!(Moment(-1).local_s(), UNIX_2000 - 1);
        assert_eq!(Moment(i64::MAX).local_s(), i64::MAX / 1_000_000 + UNIX_2000);
    }
}
