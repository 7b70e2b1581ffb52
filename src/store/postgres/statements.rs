//! The statements. Each takes a batch as arrays, in the order of [`COLUMNS`] and behind them the node's number.

const COLUMNS: &str = "ruid, username, domain, contact, received, path, expires, q, callid, cseq, last_modified, user_agent, socket, \
    instance, reg_id";
const UNNEST: &str = "unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamp[], $8::real[], \
    $9::text[], $10::int[], $11::timestamp[], $12::text[], $13::text[], $14::text[], $15::int[])";
/// What a refresh changes.
const CHANGED: &[&str] = &[
    "contact",
    "received",
    "path",
    "expires",
    "q",
    "callid",
    "cseq",
    "last_modified",
    "user_agent",
    "socket",
    "instance",
    "reg_id",
];

/// Rows that may be there or not; one that is newer there stays.
pub(super) fn insert() -> String {
    format!("{} {}", insert_selected(""), on_conflict())
}

/// Those rows that are not there.
pub(super) fn insert_absent() -> String {
    let absent = "WHERE NOT EXISTS (SELECT 1 FROM location AS held WHERE held.ruid = t.ruid)";
    format!("{} {}", insert_selected(absent), on_conflict())
}

/// Rows that are there.
pub(super) fn update() -> String {
    let set: Vec<String> = CHANGED
        .iter()
        .map(|name| format!("{name} = t.{name}"))
        .collect();
    format!(
        "UPDATE location AS l SET {}, server_id = $16::int FROM {UNNEST} AS t({COLUMNS}) WHERE l.ruid = t.ruid",
        set.join(", ")
    )
}

fn insert_selected(condition: &str) -> String {
    format!(
        "INSERT INTO location ({COLUMNS}, server_id, connection_id) \
         SELECT t.*, $16::int, -1 FROM {UNNEST} AS t({COLUMNS}) {condition}"
    )
}

fn on_conflict() -> String {
    let set: Vec<String> = CHANGED
        .iter()
        .map(|name| format!("{name} = excluded.{name}"))
        .collect();
    format!(
        "ON CONFLICT (ruid) DO UPDATE SET {}, server_id = excluded.server_id \
         WHERE location.last_modified <= excluded.last_modified",
        set.join(", ")
    )
}

/// Rows that are to go; of another node's contact only one that is no newer than what was known of it.
pub(super) const DELETE: &str = "DELETE FROM location AS l USING unnest($1::text[], $2::timestamp[]) AS t(ruid, modified) \
    WHERE l.ruid = t.ruid AND (t.modified IS NULL OR l.last_modified <= t.modified)";
/// Begins to count a node's batches.
pub(super) const BEGIN_COUNT: &str = "INSERT INTO strowger_node (server_id, batches) VALUES ($1, 0) ON CONFLICT (server_id) DO NOTHING";
/// Counts this batch.
pub(super) const COUNT: &str =
    "UPDATE strowger_node SET batches = batches + 1 WHERE server_id = $1";
/// The batches of a node so far.
pub(super) const BATCHES: &str = "SELECT batches FROM strowger_node WHERE server_id = $1";
/// A slice of the rows that had expired; a contact that never ends is not past its end.
pub(super) const PURGE: &str = "DELETE FROM location WHERE id IN (SELECT id FROM location \
    WHERE expires <= $1::timestamp AND expires > '1970-01-03' AND server_id = $2::int LIMIT $3)";
/// All rows, in Postgres' binary form.
pub(super) const COPY: &str = "COPY (SELECT ruid, username, domain, contact, received, path, expires, q, callid, cseq, last_modified, \
    user_agent, socket, instance, reg_id, server_id FROM location) TO STDOUT (FORMAT binary)";

/// The rows of some AoRs, in the order of [`COPY`].
pub(super) const OF_AORS: &str = "SELECT l.ruid, l.username, l.domain, l.contact, l.received, l.path, l.expires, l.q, l.callid, l.cseq, \
    l.last_modified, l.user_agent, l.socket, l.instance, l.reg_id, l.server_id FROM unnest($1::text[], $2::text[]) AS t(username, domain) \
    JOIN location AS l ON l.username = t.username AND (t.domain IS NULL OR l.domain = t.domain)";

/// What a session is set to: what a commit says is on the disk; a batch finds its rows by the index, whatever the planner
/// makes of the length of an array; and a client that is gone is noticed, so that its lock is free.
pub(super) const SETTINGS: &str = "SET plan_cache_mode = force_generic_plan; SET enable_hashjoin = off; SET enable_mergejoin = off; \
    SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; SET tcp_user_timeout = 25000; \
    SET client_min_messages = warning; SET idle_in_transaction_session_timeout = 30000";
