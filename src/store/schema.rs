//! The tables: Kamailio's `version`, `location` (version 9) and `subscriber` (version 7) as kamctl of Kamailio 5.6 makes them, and
//! our own: `strowger_subscriber` for hashes that `subscriber` has no column for, `strowger_node` for the number of the last batch.
//!
//! What is absent is made; what is there is left as it is, whoever made it. A table of another version is refused, as Kamailio
//! refuses it.

/// A dialect of SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// SQLite's.
    Sqlite,
    /// Postgres'.
    Postgres,
}

/// A table with its indexes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    /// What the table `version` says of it; `None` for one of our own. Kamailio's have a column `id` beside the others.
    pub(super) version: Option<i32>,
    columns: &'static str,
    indexes: &'static [&'static str],
}

impl Table {
    /// The statements that make it.
    pub(super) fn statements(&self, dialect: Dialect) -> Vec<String> {
        let id = match dialect {
            Dialect::Sqlite => "INTEGER",
            Dialect::Postgres => "SERIAL",
        };
        let name = self.name;
        let columns = self.columns;
        let id = self
            .version
            .map_or(String::new(), |_| format!("id {id} PRIMARY KEY NOT NULL, "));
        let mut statements = vec![format!("CREATE TABLE {name} ({id}{columns})")];
        statements.extend(
            self.indexes
                .iter()
                .map(|index| format!("CREATE INDEX {index}")),
        );
        if let Some(version) = self.version {
            statements.push(format!(
                "INSERT INTO version (table_name, table_version) SELECT '{name}', {version} \
                 WHERE NOT EXISTS (SELECT 1 FROM version WHERE table_name = '{name}')"
            ));
        }
        statements
    }
}

/// All tables, in the order in which they are made.
pub(super) const TABLES: &[Table] = &[
    Table {
        name: "version",
        version: Some(1),
        columns: "table_name VARCHAR(32) NOT NULL, table_version INTEGER DEFAULT 0 NOT NULL, \
                  CONSTRAINT version_table_name_idx UNIQUE (table_name)",
        indexes: &[],
    },
    Table {
        name: "location",
        version: Some(9),
        columns: "ruid VARCHAR(64) DEFAULT '' NOT NULL, username VARCHAR(64) DEFAULT '' NOT NULL, \
                  domain VARCHAR(64) DEFAULT NULL, contact VARCHAR(512) DEFAULT '' NOT NULL, \
                  received VARCHAR(128) DEFAULT NULL, path VARCHAR(512) DEFAULT NULL, \
                  expires TIMESTAMP WITHOUT TIME ZONE DEFAULT '2030-05-28 21:32:15' NOT NULL, q REAL DEFAULT 1.0 NOT NULL, \
                  callid VARCHAR(255) DEFAULT 'Default-Call-ID' NOT NULL, cseq INTEGER DEFAULT 1 NOT NULL, \
                  last_modified TIMESTAMP WITHOUT TIME ZONE DEFAULT '2000-01-01 00:00:01' NOT NULL, \
                  flags INTEGER DEFAULT 0 NOT NULL, cflags INTEGER DEFAULT 0 NOT NULL, \
                  user_agent VARCHAR(255) DEFAULT '' NOT NULL, socket VARCHAR(64) DEFAULT NULL, methods INTEGER DEFAULT NULL, \
                  instance VARCHAR(255) DEFAULT NULL, reg_id INTEGER DEFAULT 0 NOT NULL, server_id INTEGER DEFAULT 0 NOT NULL, \
                  connection_id INTEGER DEFAULT 0 NOT NULL, keepalive INTEGER DEFAULT 0 NOT NULL, \
                  partition INTEGER DEFAULT 0 NOT NULL, CONSTRAINT location_ruid_idx UNIQUE (ruid)",
        indexes: &[
            "location_account_contact_idx ON location (username, domain, contact)",
            "location_expires_idx ON location (expires)",
            "location_tcpcon_idx ON location (connection_id)",
            "location_connection_idx ON location (server_id, connection_id)",
        ],
    },
    Table {
        name: "subscriber",
        version: Some(7),
        columns: "username VARCHAR(64) DEFAULT '' NOT NULL, domain VARCHAR(64) DEFAULT '' NOT NULL, \
                  password VARCHAR(64) DEFAULT '' NOT NULL, ha1 VARCHAR(128) DEFAULT '' NOT NULL, \
                  ha1b VARCHAR(128) DEFAULT '' NOT NULL, CONSTRAINT subscriber_account_idx UNIQUE (username, domain)",
        indexes: &["subscriber_username_idx ON subscriber (username)"],
    },
    Table {
        name: "strowger_subscriber",
        version: None,
        columns: "username VARCHAR(64) NOT NULL, domain VARCHAR(64) NOT NULL, algorithm VARCHAR(16) NOT NULL, \
                  ha1 VARCHAR(128) NOT NULL, PRIMARY KEY (username, domain, algorithm)",
        indexes: &[],
    },
    Table {
        name: "strowger_node",
        version: None,
        columns: "server_id INTEGER NOT NULL, batches BIGINT NOT NULL, PRIMARY KEY (server_id)",
        indexes: &[],
    },
];

/// What is wrong with a table that is there: another version than ours.
pub(super) fn mismatch(table: &str, found: Option<i32>) -> Option<String> {
    let known = TABLES.iter().find(|known| known.name == table)?.version?;
    match found {
        Some(found) if found == known => None,
        Some(found) => Some(format!(
            "the table {table} has version {found}, and {known} is needed; migrate it as Kamailio's guide says"
        )),
        None => Some(format!(
            "the table {table} is there, and `version` does not say of what version; insert ('{table}', {known}) if it is Kamailio 5.6's"
        )),
    }
}
