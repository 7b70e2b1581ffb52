//! Where bindings and users outlive the process: the store, the location that is kept for it, and the users' tables.

use std::sync::Arc;

use super::ServeError;
use super::mailbox::Mailbox;
use crate::config::budget::Budget;
use crate::config::{Config, StoreUrl};
use crate::location::{Location, LocationSettings};
use crate::net::ListenerSpec;
use crate::secret::Secret;
use crate::store::subscriber::{Bell, Directions, SubscriberDesk, Subscribers};
use crate::store::{Database, Frame, Store};

/// The bindings, empty yet, and kept for the store where there is one.
pub(super) fn location(
    config: &Config,
    secret: &Secret,
    budget: &Budget,
    store: Option<&Store>,
    epoch: u64,
) -> Location {
    let location = Location::new(&LocationSettings {
        hash_key: secret.derive("location").current,
        bindings_max: usize::try_from(budget.bindings.count).unwrap_or(usize::MAX),
        contacts_max: config.registrar.contacts_max,
    });
    match store {
        Some(_) => location.with_store(ruid_beginning(SERVER_ID, epoch).as_bytes(), true),
        None => location,
    }
}

/// Opens the store, where one is wanted.
pub(super) fn open_store(
    config: &Config,
    listeners: &[(ListenerSpec, bool)],
    workers: usize,
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
        server_id: SERVER_ID,
    };
    Ok(Some(Store::open(&database, frame, workers)?))
}

/// The users' tables and a desk for each worker, where there is authentication.
pub(super) fn subscribers(
    config: &Config,
    mailboxes: &[Arc<Mailbox>],
) -> Result<(Option<Subscribers>, std::vec::IntoIter<SubscriberDesk>), ServeError> {
    let (Some(auth), Some(database)) = (&config.auth, database(config)) else {
        return Ok((None, Vec::new().into_iter()));
    };
    let directions = Directions {
        realm: auth.realm.clone(),
        use_domain: config.registrar.use_domain,
    };
    let bell = |mailbox: &Arc<Mailbox>| -> Bell {
        let mailbox = Arc::clone(mailbox);
        Box::new(move || mailbox.rouse())
    };
    let bells = mailboxes.iter().map(bell).collect();
    let (subscribers, desks) = Subscribers::start(&database, directions, bells)?;
    Ok((Some(subscribers), desks.into_iter()))
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

/// The node's number, while there are no clusters.
pub(super) const SERVER_ID: u16 = 0;
