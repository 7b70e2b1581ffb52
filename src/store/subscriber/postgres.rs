//! The users' tables in Postgres: one connection, one query for all who were asked for.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, Config, NoTls};

use super::Directory;
use super::record::Record;

/// The tables of a server, or of whichever of its hosts takes us.
pub(super) struct PostgresDirectory {
    config: Config,
    use_domain: bool,
    runtime: Runtime,
    client: Option<Client>,
}

impl PostgresDirectory {
    pub(super) fn new(mut config: Config, use_domain: bool) -> std::io::Result<Self> {
        config.connect_timeout(PATIENCE);
        Ok(Self {
            config,
            use_domain,
            runtime: Builder::new_current_thread().enable_all().build()?,
            client: None,
        })
    }
}

impl Directory for PostgresDirectory {
    fn find(&mut self, wanted: &[(String, String)]) -> Result<Vec<Record>, String> {
        let (users, domains): (Vec<&str>, Vec<&str>) = wanted
            .iter()
            .map(|(user, domain)| (user.as_str(), domain.as_str()))
            .unzip();
        let former = self.client.take().filter(|client| !client.is_closed());
        let Self {
            config,
            use_domain,
            runtime,
            ..
        } = self;
        let work = async {
            let client = match former {
                Some(client) => client,
                None => connect(config).await?,
            };
            let rows = client
                .query(SELECT, &[&users, &!*use_domain, &domains])
                .await?;
            let records = rows.iter().map(|row| {
                Ok(Record {
                    username: row.try_get(0)?,
                    domain: row.try_get(1)?,
                    password: row.try_get(2)?,
                    ha1: row.try_get(3)?,
                    sha256: row.try_get(4)?,
                    sha512_256: row.try_get(5)?,
                })
            });
            let records = records.collect::<Result<Vec<Record>, tokio_postgres::Error>>()?;
            Ok::<_, tokio_postgres::Error>((client, records))
        };
        // A server that was stopped says nothing at all.
        let answered = runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await });
        match answered {
            Ok(Ok((client, records))) => {
                self.client = Some(client);
                Ok(records)
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        }
    }
}

async fn connect(config: &Config) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    // It ends with the client; what goes wrong is told to whoever asks next.
    tokio::spawn(connection);
    Ok(client)
}

const SELECT: &str = "SELECT s.username, s.domain, s.password, s.ha1, a.ha1, b.ha1 FROM subscriber s \
    JOIN (SELECT DISTINCT * FROM unnest($1::text[], $3::text[]) AS w (username, domain)) w \
    ON s.username = w.username AND ($2 OR s.domain = w.domain) \
    LEFT JOIN strowger_subscriber a ON a.username = s.username AND a.domain = s.domain AND a.algorithm = 'SHA-256' \
    LEFT JOIN strowger_subscriber b ON b.username = s.username AND b.domain = s.domain AND b.algorithm = 'SHA-512-256'";

/// Less than a request may wait for it.
const PATIENCE: Duration = Duration::from_secs(3);
