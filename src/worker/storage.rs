//! Where bindings and users outlive the process: the store, the location that is kept for it, and the users' tables.

use std::sync::Arc;

use super::ServeError;
use super::mailbox::Mailbox;
use crate::admin::{self, AccountOrder};
use crate::config::budget::Budget;
use crate::config::{Config, ContactMatching, ContactsFull, Registrar, StoreUrl};
use crate::location::{Homes, Location, LocationSettings, Matching, ReplicaSettings, Rules};
use crate::net::ListenerSpec;
use crate::secret::Secret;
use crate::store::{Database, Frame, Inquiries, Store};

/// The bindings, empty yet, and kept for the store where there is one.
pub(super) fn location(
    config: &Config,
    secret: &Secret,
    budget: &Budget,
    store: Option<&Store>,
    epoch: u64,
    homes: Arc<Homes>,
) -> Location {
    let location = Location::new(&LocationSettings {
        hash_key: secret.derive("location").current,
        bindings_max: usize::try_from(budget.bindings.count).unwrap_or(usize::MAX),
        contacts_max: config.registrar.contacts_max,
    })
    .with_rules(rules(&config.registrar));
    let beginning = ruid_beginning(server_id(config), epoch);
    let location = match store {
        Some(_) => location.with_store(beginning.as_bytes(), true),
        None => location,
    };
    match &config.cluster {
        Some(cluster) => {
            let settings = ReplicaSettings {
                server_id: cluster.server_id,
                nat_cflags: cluster.nat_bflag.map_or(0, |flag| 1 << flag),
                tombstones_max: cluster.tombstones,
                stores_all: !matches!(config.store.url, StoreUrl::Postgres(_)),
            };
            location.with_cluster(beginning.as_bytes(), settings, homes)
        }
        None => location,
    }
}

/// What the bindings of an AoR obey.
fn rules(registrar: &Registrar) -> Rules {
    Rules {
        matching: match registrar.matching {
            ContactMatching::Uri => Matching::Uri,
            ContactMatching::UriAndCallId => Matching::UriAndCallId,
            ContactMatching::CallId => Matching::CallId,
            ContactMatching::Instance => Matching::Instance,
        },
        replaces_oldest: registrar.contacts_full == ContactsFull::ReplaceOldest,
    }
}

/// Opens the store, where one is wanted.
pub(super) fn open_store(
    config: &Config,
    listeners: &[(ListenerSpec, bool)],
    workers: usize,
    homes: &Arc<Homes>,
) -> Result<Option<Store>, ServeError> {
    let Some(database) = database(config) else {
        return Ok(None);
    };
    let frame = Frame {
        listeners: listeners
            .iter()
            .map(|(spec, _)| (spec.id, spec.address))
            .collect(),
        use_domain: config.registrar.use_domain,
        server_id: server_id(config),
        homes: config.cluster.as_ref().map(|_| Arc::clone(homes)),
    };
    Ok(Some(Store::open(&database, frame, workers)?))
}

/// Where each worker asks who a user is, where there is authentication.
pub(super) fn inquiries(
    config: &Config,
    store: Option<&mut Store>,
    mailboxes: &[Arc<Mailbox>],
) -> Vec<Inquiries> {
    let Some(store) = store.filter(|_| config.auth.is_some()) else {
        return Vec::new();
    };
    let ask = |mailbox: &Arc<Mailbox>| {
        let mailbox = Arc::clone(mailbox);
        store.inquiries(Box::new(move || mailbox.rouse()))
    };
    mailboxes.iter().map(ask).collect()
}

/// The operator's hand on the accounts, as the admin server knows it.
pub(super) fn accounts(store: &Store) -> admin::Accounts {
    let accounts = store.accounts();
    Arc::new(move |order: &AccountOrder| {
        let done = match order {
            AccountOrder::Add {
                user,
                domain,
                password,
            } => accounts.add(user, domain, password),
            AccountOrder::Change {
                user,
                domain,
                password,
            } => accounts.change(user, domain, password),
            AccountOrder::Remove { user, domain } => accounts.remove(user, domain),
        };
        done.map_err(|error| error.to_string())
    })
}

/// The operator's word that the tables be made, as the admin server knows it.
pub(super) fn migrate(store: &Store) -> admin::Migrate {
    let accounts = store.accounts();
    Arc::new(move || accounts.migrate().map_err(|error| error.to_string()))
}

/// Makes the tables that the configuration's database lacks, where no server does it; gives their names, as `store.migrate` does.
///
/// # Errors
/// A sentence: there is no database, it does not answer, lets nobody make tables, or has a table of another version.
pub fn migrate_without_server(config: &Config) -> Result<serde_json::Value, String> {
    let database = database(config).ok_or("[store] url is \"none\": there is no database")?;
    let made = crate::store::migrate(&database).map_err(|error| error.to_string())?;
    Ok(serde_json::json!({ "made": made }))
}

/// The database of the configuration, if there is one.
fn database(config: &Config) -> Option<Database> {
    match &config.store.url {
        StoreUrl::None => None,
        StoreUrl::Sqlite(path) => Some(Database::Sqlite(path.clone())),
        StoreUrl::Postgres(url) => Some(Database::Postgres(url.clone())),
    }
}

/// What the names of this start's rows begin with, in Kamailio's form.
fn ruid_beginning(server_id: u16, epoch: u64) -> String {
    format!("uloc-{server_id:x}-{epoch:016x}-")
}

/// The node's number: 0 where it serves alone.
pub(super) fn server_id(config: &Config) -> u16 {
    let cluster = config.cluster.as_ref();
    cluster.map_or(0, |cluster| cluster.server_id)
}
