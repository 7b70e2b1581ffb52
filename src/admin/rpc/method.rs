//! The table of methods: what `rpc.methods`, `strowger ctl --help` and the dispatch go by.

use serde_json::{Value, json};

use super::params::Params;
use super::{Fault, cluster, failures, report, subscriber, usrloc};
use crate::admin::State;

/// A method.
#[derive(Debug)]
pub struct Method {
    /// Its name.
    pub name: &'static str,
    /// Its parameters, in the order in which they may be given without names.
    pub params: &'static [&'static str],
    /// How many of them must be given.
    pub required: usize,
    /// What it does, in a line.
    pub about: &'static str,
    work: Work,
}

/// What a method does.
#[derive(Clone, Copy, Debug)]
enum Work {
    AccountAdd,
    AccountChange,
    AccountRemove,
    ClusterStatus,
    ListNodes,
    Failures,
    Migrate,
    Uptime,
    Version,
    Memory,
    SharedMemory,
    Methods,
    Counters,
    Latency,
    Store,
    Add,
    Dump,
    Lookup,
    Remove,
}

/// Every method, by name.
pub const METHODS: &[Method] = &[
    Method {
        name: "auth.failures",
        params: &["limit"],
        required: 0,
        about: "the sources that fail to authenticate, the worst first",
        work: Work::Failures,
    },
    Method {
        name: "cluster.status",
        params: &[],
        required: 0,
        about: "whether there is a cluster, and whether the nodes that answer have all that changed here",
        work: Work::ClusterStatus,
    },
    Method {
        name: "core.memory",
        params: &[],
        required: 0,
        about: "memory by what it is for, in bytes",
        work: Work::Memory,
    },
    Method {
        name: "core.shmmem",
        params: &[],
        required: 0,
        about: "memory in Kamailio's six figures, in bytes",
        work: Work::SharedMemory,
    },
    Method {
        name: "core.uptime",
        params: &[],
        required: 0,
        about: "seconds since the start, and whether it starts, serves or drains",
        work: Work::Uptime,
    },
    Method {
        name: "core.version",
        params: &[],
        required: 0,
        about: "the version that runs",
        work: Work::Version,
    },
    Method {
        name: "dmq.list_nodes",
        params: &[],
        required: 0,
        about: "the nodes of the cluster, ourselves first, and what is on its way to each",
        work: Work::ListNodes,
    },
    Method {
        name: "rpc.methods",
        params: &[],
        required: 0,
        about: "this list",
        work: Work::Methods,
    },
    Method {
        name: "stats.counters",
        params: &[],
        required: 0,
        about: "every counter, as in /metrics",
        work: Work::Counters,
    },
    Method {
        name: "stats.latency",
        params: &[],
        required: 0,
        about: "the latency table, in milliseconds",
        work: Work::Latency,
    },
    Method {
        name: "store.migrate",
        params: &[],
        required: 0,
        about: "make the tables that the database lacks; those that are there are left as they are",
        work: Work::Migrate,
    },
    Method {
        name: "store.status",
        params: &[],
        required: 0,
        about: "whether there is a durable store, whether it is up, and what waits for it",
        work: Work::Store,
    },
    Method {
        name: "subscriber.add",
        params: &["user", "password"],
        required: 2,
        about: "a new account, USER@DOMAIN; of the password only hashes are kept",
        work: Work::AccountAdd,
    },
    Method {
        name: "subscriber.passwd",
        params: &["user", "password"],
        required: 2,
        about: "another password for an account; it holds at once",
        work: Work::AccountChange,
    },
    Method {
        name: "subscriber.rm",
        params: &["user"],
        required: 1,
        about: "remove an account; its bindings stay until they expire, or ul.rm",
        work: Work::AccountRemove,
    },
    Method {
        name: "ul.add",
        params: &["aor", "contact", "expires", "q", "path", "received"],
        required: 2,
        about: "bind a contact to an AoR",
        work: Work::Add,
    },
    Method {
        name: "ul.dump",
        params: &["cursor", "limit"],
        required: 0,
        about: "a page of AoRs with their contacts; its \"next\" is the next page's cursor",
        work: Work::Dump,
    },
    Method {
        name: "ul.lookup",
        params: &["aor"],
        required: 1,
        about: "the contacts of an AoR",
        work: Work::Lookup,
    },
    Method {
        name: "ul.rm",
        params: &["aor", "contact"],
        required: 1,
        about: "remove an AoR's contacts, or one of them",
        work: Work::Remove,
    },
    Method {
        name: "ul.rm_contact",
        params: &["aor", "contact"],
        required: 2,
        about: "remove one contact of an AoR",
        work: Work::Remove,
    },
];

impl Method {
    /// The method of that name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        METHODS.iter().find(|method| method.name == name)
    }

    /// Its parameters as a usage line has them: `AOR [CONTACT]`.
    #[must_use]
    pub fn usage(&self) -> String {
        let shown = self.params.iter().enumerate().map(|(place, name)| {
            if place < self.required {
                name.to_ascii_uppercase()
            } else {
                format!("[{}]", name.to_ascii_uppercase())
            }
        });
        shown.collect::<Vec<String>>().join(" ")
    }

    /// Does what it is for.
    pub(super) async fn call(&self, state: &State, params: Option<&Value>) -> Result<Value, Fault> {
        let params = Params::read(self, params)?;
        match self.work {
            Work::Uptime => Ok(report::uptime(state)),
            Work::Version => Ok(report::version()),
            Work::Memory => report::memory(state).await,
            Work::SharedMemory => report::shared_memory(state).await,
            Work::Methods => Ok(list()),
            Work::Counters => Ok(report::counters(state)),
            Work::Latency => Ok(report::latency(state)),
            Work::Migrate => report::migrate(state).await,
            Work::Store => Ok(report::store(state)),
            Work::AccountAdd => subscriber::add(state, &params).await,
            Work::AccountChange => subscriber::change(state, &params).await,
            Work::AccountRemove => subscriber::remove(state, &params).await,
            Work::ClusterStatus => cluster::status(state).await,
            Work::ListNodes => cluster::list_nodes(state).await,
            Work::Failures => failures::failures(state, &params).await,
            Work::Add => usrloc::add(state, &params).await,
            Work::Dump => usrloc::dump(state, &params).await,
            Work::Lookup => usrloc::lookup(state, &params).await,
            Work::Remove => usrloc::remove(state, &params).await,
        }
    }
}

fn list() -> Value {
    let methods = METHODS.iter().map(|method| {
        json!({
            "name": method.name,
            "params": method.params,
            "required": method.required,
            "about": method.about,
        })
    });
    methods.collect()
}
