//! The table, looked at from outside: by Postgres' psql and SQLite's own library.

use std::collections::BTreeMap;
use std::path::Path;

/// What a binding's row says: CSeq and contact, by user.
pub(crate) type Table = BTreeMap<String, Vec<(u32, String)>>;

/// A database that a server under test uses.
pub(crate) trait Database {
    /// Its URL in the configuration.
    fn url(&self) -> String;

    /// Runs a query and gives the rows, columns separated by `|`.
    fn query(&self, sql: &str) -> Vec<String>;

    /// The whole table `location`.
    fn table(&self) -> Table {
        let mut table = Table::new();
        for line in
            self.query("SELECT username, cseq, contact FROM location ORDER BY username, contact")
        {
            let mut columns = line.splitn(3, '|');
            let mut next = || columns.next().expect("three columns").to_owned();
            let (user, cseq, contact) = (next(), next(), next());
            table
                .entry(user)
                .or_default()
                .push((cseq.parse().expect("a number"), contact));
        }
        table
    }

    /// The only number that a query gives.
    fn number(&self, sql: &str) -> i64 {
        self.query(sql)
            .first()
            .expect("a row")
            .parse()
            .expect("a number")
    }
}

/// A file of SQLite's.
#[derive(Debug)]
pub(crate) struct SqliteFile<'a>(pub(crate) &'a Path);

impl Database for SqliteFile<'_> {
    fn url(&self) -> String {
        format!("sqlite:{}", self.0.display())
    }

    fn query(&self, sql: &str) -> Vec<String> {
        let connection = rusqlite::Connection::open(self.0).expect("the file");
        connection
            .busy_timeout(std::time::Duration::from_secs(5))
            .expect("a timeout");
        let mut statement = connection.prepare(sql).expect("good SQL");
        let columns = statement.column_count();
        let rows = statement.query_map([], |row| {
            let texts: Result<Vec<String>, _> = (0..columns)
                .map(|index| {
                    Ok(match row.get_ref(index)? {
                        rusqlite::types::ValueRef::Null => String::new(),
                        rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                        rusqlite::types::ValueRef::Real(number) => number.to_string(),
                        rusqlite::types::ValueRef::Text(text)
                        | rusqlite::types::ValueRef::Blob(text) => {
                            String::from_utf8_lossy(text).into_owned()
                        }
                    })
                })
                .collect();
            texts.map(|texts| texts.join("|"))
        });
        rows.expect("it runs")
            .map(|row| row.expect("a row"))
            .collect()
    }
}
