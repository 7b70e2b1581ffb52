//! What a server is like: it is looked at and left as it is.

use tokio_postgres::{Config, Error};

use super::super::engine::EngineError;
use super::super::schema::TABLES;
use super::super::survey::{Sequence, Survey};
use super::problem::engine_error;
use super::session::Link;

/// Looks at the first host of the URL that takes writes, or says why there is none.
pub(super) async fn survey(config: &Config) -> Result<Survey, EngineError> {
    let link = Link::open(config).await;
    let link = link.map_err(|error| engine_error(&error))?;
    look(&link).await.map_err(|error| engine_error(&error))
}

async fn look(link: &Link) -> Result<Survey, Error> {
    let client = &link.client;
    let head = client.query_one(HEAD, &[]).await?;
    let setting = |name: &str, index: usize| (name.to_owned(), head.get::<_, String>(index));
    let mut survey = Survey {
        engine: format!("Postgres {}", head.get::<_, String>(0)),
        settings: vec![
            setting("synchronous_commit", 1),
            setting("fsync", 2),
            setting("full_page_writes", 3),
        ],
        is_read_only: head.get(4),
        ..Survey::default()
    };
    for table in TABLES {
        let is_there: bool = client
            .query_one("SELECT to_regclass($1) IS NOT NULL", &[&table.name])
            .await?
            .get(0);
        let mut version = None;
        if is_there && table.version.is_some() {
            let asked = "SELECT table_version FROM version WHERE table_name = $1";
            let row = client.query_opt(asked, &[&table.name]).await?;
            version = row.map(|row| row.get(0));
        }
        survey.note(table.name, is_there, version);
        if is_there && table.name != "version" {
            survey.sequences.extend(sequence(link, table.name).await?);
        }
    }
    Ok(survey)
}

/// The sequence of a table's ids, if they come from one.
async fn sequence(link: &Link, table: &str) -> Result<Option<Sequence>, Error> {
    let Some(row) = link.client.query_opt(SEQUENCE, &[&table]).await? else {
        return Ok(None);
    };
    let (name, max): (String, i64) = (row.get(0), row.get(1));
    // The name comes from the catalogue, quoted where it must be.
    let last = format!("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {name}");
    let used = link.client.query_one(&last, &[]).await?.get(0);
    let table = table.to_owned();
    Ok(Some(Sequence {
        table,
        name,
        used,
        max,
    }))
}

const HEAD: &str = "SELECT current_setting('server_version'), current_setting('synchronous_commit'), current_setting('fsync'), \
    current_setting('full_page_writes'), pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on'";
/// The column may be narrower than its sequence.
const SEQUENCE: &str = "SELECT q.name, least(s.seqmax, q.max) FROM \
    (SELECT pg_get_serial_sequence(attrelid::regclass::text, 'id') AS name, CASE atttypid WHEN 'int2'::regtype THEN 32767 \
    WHEN 'int4'::regtype THEN 2147483647 ELSE 9223372036854775807 END AS max \
    FROM pg_attribute WHERE attrelid = to_regclass($1) AND attname = 'id' AND NOT attisdropped) q \
    JOIN pg_sequence s ON s.seqrelid = q.name::regclass";
