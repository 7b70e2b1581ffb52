//! Every bound of the program, in one place, with what happens there. Bounds that depend on each other are asserted.
//!
//! The configuration sets how many transactions and bindings there may be (`[limits]`); what stands here is fixed.

use crate::time::Duration;

// --- messages (sip/) ---------------------------------------------------------------------------------------------

/// The largest message we take or make: what fits one UDP datagram over IPv4. Longer: dropped and counted.
pub const MESSAGE_LEN_MAX: usize = 65_507;
/// Header fields that the index of a message holds. More: answered 400 (`TooManyHeaders`).
pub const HEADERS_MAX: usize = 128;
/// Edits that one outgoing message may carry. More: the request is answered 500, a response is dropped and counted.
pub const EDITS_MAX: usize = 48;
/// Bytes that the edits of one message may insert. More: as above.
pub const EDIT_ARENA_LEN: usize = 4_096;
/// Max-Forwards given to a request that came without one (RFC 3261 16.6.3).
pub const MAX_FORWARDS_DEFAULT: u8 = 70;

// --- transactions (transaction/) ---------------------------------------------------------------------------------

/// T1: the estimate of the round-trip time (RFC 3261 17.1.1.1).
pub const T1: Duration = Duration::from_millis(500);
/// T2: the longest interval between retransmissions of a non-INVITE request or an INVITE response.
pub const T2: Duration = Duration::from_secs(4);
/// When the client of a non-INVITE request has reset its Timer E to T2: T1, 2*T1 and 4*T1 after the first (RFC 4320 4.1).
pub const LATE: Duration = Duration::from_micros(7 * T1.as_micros());
/// T4: how long a message may stay in the network.
pub const T4: Duration = Duration::from_secs(5);
/// 64*T1: Timers B, F, H, J, L and M.
pub const T1_64: Duration = Duration::from_micros(64 * T1.as_micros());
/// Timer D over an unreliable transport (at least 32 s).
pub const TIMER_D: Duration = Duration::from_secs(32);
/// Timer C: how long an INVITE branch may ring without news (RFC 3261 16.6.11: more than 3 minutes).
pub const TIMER_C: Duration = Duration::from_secs(181);
/// Branches of one request: contacts of an AoR tried in parallel. Contacts past it (lowest q first) are left out.
pub const BRANCHES_MAX: usize = 16;

/// How long a branch waits for the answer to its question. Then: as if the name did not exist.
pub const LOOKUP_TIME: Duration = Duration::from_secs(10);
/// ACKs that wait for a name at the same time. One more is dropped and counted; the 2xx comes again, and the ACK with it.
pub const ACKS_WAITING_MAX: u32 = 256;
/// How long a destination may be silent where there is another to try (RFC 3263 4.3).
pub const FAILOVER: Duration = Duration::from_secs(4);
/// How long the contacts of one q ring before those of the next are tried (RFC 3261 16.6, serial forking).
pub const RING: Duration = Duration::from_secs(20);
/// Max-Breadth of a request that came without one (RFC 5393 5.3.3.1).
pub const MAX_BREADTH_DEFAULT: u8 = 60;
/// A request longer than this goes by TCP where the next hop is known to speak it (RFC 3261 18.1.1, the path MTU not known).
pub const UDP_REQUEST_LEN_MAX: usize = 1_300;

/// Challenges that go out with the best of several 401 and 407 responses (RFC 3261 16.7 step 7). What does not fit is left out.
pub const CHALLENGES_LEN_MAX: usize = 4_096;

/// Requests of one worker that wait for the slow path. One more is answered 503 with Retry-After.
pub const PARKED_MAX: u32 = 4_096;
/// How long a request may wait for the slow path. Longer: it is answered 503 with Retry-After.
pub const PARKED_TIME: Duration = Duration::from_secs(5);
/// REGISTERs of one worker whose 200 waits for the store, with `ack = "committed"`. One more is answered 503 with Retry-After, and what it
/// changed stays, not acknowledged.
pub const COMMITS_WAITING_MAX: u32 = 16_384;
/// How long such a 200 may wait beyond `flush_ms`: two commits, and be they slow. Longer: as above.
pub const COMMIT_TIME: Duration = Duration::from_secs(5);
/// The longest `flush_ms` with `ack = "committed"`. More is a mistake of the configuration.
pub const COMMIT_FLUSH_MAX: Duration = Duration::from_secs(10);
/// Waiting requests that are looked at in one call, when the store has settled a batch. The others at the next.
pub const PARKED_LOOKS: usize = 256;
/// How long a user's secrets are believed before the store is asked again.
pub const SECRETS_TIME: Duration = Duration::from_secs(300);
/// How long it is believed that the store cannot say.
pub const SECRETS_TIME_SILENT: Duration = Duration::from_secs(30);
/// How long who failed to be a user fails without the store being asked again, be there such a user or not.
pub const REFUTATION_TIME: Duration = Duration::from_secs(30);
/// Failures of late (halved each [`FAILURE_HALF_LIFE`]) from which on a source waits for the slow path only while that is at most half
/// full: the other half is for those who do not guess. Beyond: 503 with Retry-After.
pub const FAILURES_SUSPECT: u32 = 64;

// --- timers (timer.rs) -------------------------------------------------------------------------------------------

/// Timers that one call may move down the levels of the wheel. More: the next call goes on; until then they wait.
pub const WHEEL_MOVES_MAX: usize = 1_024;

/// Timers acted on in one call, so that a burst of them does not keep messages waiting. The rest fire at the next call.
pub const FIRED_MAX: usize = 256;

// --- location (location/) ----------------------------------------------------------------------------------------

/// Shards of the location, each under its own lock.
pub const LOCATION_SHARDS: usize = 1_024;
/// The longest contact URI, as in Kamailio's table. Longer: the REGISTER is answered 400.
pub const CONTACT_LEN_MAX: usize = 512;
/// The longest Call-ID and user agent kept, as in Kamailio's table: a longer Call-ID is answered 400, a user agent cut.
pub const BINDING_TEXT_LEN_MAX: usize = 255;
/// The longest AoR. Longer: 404.
pub const AOR_LEN_MAX: usize = 256;
/// The longest Path kept with a binding, as in Kamailio's table. Longer: the REGISTER is answered 400.
pub const PATH_LEN_MAX: usize = 512;
/// Contact values of one REGISTER. More: answered 400.
pub const REGISTER_CONTACTS_MAX: usize = 32;
/// Bindings that a REGISTER with a new contact looks at for a dead one to replace, where no more may be held. None dead: answered 503.
pub const RECLAIM_SCAN_MAX: u32 = 64;
/// Bindings of one contact, of so many AoRs, by which a Request-URI is known as registered. More: these stand for all.
pub const CONTACT_AORS_MAX: usize = 64;
/// Secrets of time-limited credentials: one, and those before it while it is being replaced. More: a mistake of the configuration.
pub const EPHEMERAL_SECRETS_MAX: usize = 8;
/// Users whose secrets a shard remembers. More: the one who was away longest is forgotten, and asked for again.
pub const SUBSCRIBERS_PER_SHARD_MAX: usize = 256;
/// Nonces of one user whose counts are remembered. More: the oldest is refused, and its bearer takes a new one.
pub const NONCES_MAX: usize = 4;
/// Users of a shard of whom it is remembered that somebody failed to be them. More: the store is asked again.
pub const REFUTATIONS_PER_SHARD: usize = 64;
/// Sources whose failed authentications are counted. More: in its set of [`FAILURE_WAYS`] the one with the lowest score goes.
pub const FAILURE_SOURCES_MAX: usize = 16_384;
/// Places that may hold a source: what a look costs.
pub const FAILURE_WAYS: usize = 8;
/// The silence in which the score of a source halves.
pub const FAILURE_HALF_LIFE: Duration = Duration::from_secs(60);
/// Sources that one answer of `auth.failures` shows. More asked for: so many are given.
pub const FAILURES_SHOWN_MAX: usize = 1_000;
/// Live contacts of one AoR that can be removed at one time; the configuration allows no more ([`BRANCHES_MAX`]), but its bound may
/// have been lowered under those that there are. More: they stay, and the answer says how many went.
pub const LIVE_CONTACTS_MAX: usize = 64;
/// AoRs and bindings that a slice of a walk over all of them looks at, between two batches of messages. More: in the next slice.
pub const PAGE_BUDGET: usize = 256;
/// Bytes of texts at which such a slice ends.
pub const PAGE_LEN: usize = 64 * 1_024;
/// Shards whose memory is counted in one slice.
pub const MEMORY_SHARDS: usize = 128;
/// How long a removed binding keeps its (Call-ID, CSeq), so that a late duplicate cannot revive it (64*T1).
pub const TOMBSTONE: Duration = T1_64;
/// Removals of one shard that no other node was told of yet, beyond `[cluster] tombstones`. More: the oldest is forgotten, and nodes that
/// have the contact keep it until its time is over.
pub const UNTOLD_REMOVALS_MAX: usize = 256;
/// How far ahead of our clock a version from another node may be. Further: it is refused and counted.
pub const CLOCK_AHEAD_MAX: Duration = Duration::from_secs(3_600);

/// Places of the location that one turn of the keepalive's hand looks at, between two batches of messages. More: the next turn.
pub const KEEPALIVE_PLACES: u32 = 512;
/// Contacts kept alive (or removed) in one turn. More: the next turn, at once.
pub const KEEPALIVE_CONTACTS: usize = 64;
/// How often the hand moves at the most, so that a worker with many contacts sends a few at a time.
pub const KEEPALIVE_TICK: Duration = Duration::from_millis(2);
/// How late the hand may be and still catch up. Later: it goes on where it is, and the round takes that much longer, so that a
/// worker that was held up sends no burst.
pub const KEEPALIVE_LATE_MAX: Duration = Duration::from_millis(50);
/// OPTIONS in a row without an answer that are counted; the configuration allows no policy with more.
pub const KEEPALIVE_SILENT_MAX: u8 = 15;
/// How long an OPTIONS may wait for its answer (64*T1, Timer F). Later: it counts as unanswered, and the answer is a stray one.
pub const KEEPALIVE_ANSWER_TIME: Duration = T1_64;

// --- store (store/) ----------------------------------------------------------------------------------------------

/// Rows of one batch, which is one transaction of the database. More: the next batch.
pub const STORE_BATCH_ROWS: usize = 8_192;
/// Batches of one worker: one is filled while another is with the database. None free: what changes waits in the location.
pub const STORE_BATCHES: usize = 2;
/// Batches of rows on their way into the location, for each worker. None free: reading waits.
pub const STORE_LOADS: usize = 2;
/// AoRs of one worker whose rows are wanted before their turn. One more: refused, and the request with it.
pub const STORE_WANTED_MAX: usize = 1_024;
/// Batches with such rows on their way to one worker. More: what is wanted waits.
pub const STORE_ANSWERS: usize = 4;
/// Rows that a worker copies out, settles or lets in between two turns, so that no message waits for a batch.
pub const STORE_SLICE_ROWS: usize = 128;
/// Rows that had expired before the start and are deleted at one time, so that no batch waits long.
pub const STORE_PURGE_ROWS: usize = 1_000;
/// How long, after all bindings were written anew since the table had lost rows, a further loss is mended row by row.
pub const STORE_RELIST_INTERVAL: Duration = Duration::from_secs(60);
/// How long the database may take for an answer. Longer: the connection is given up, and what was under way waits again.
pub const STORE_ANSWER_TIME: Duration = Duration::from_secs(10);
/// How long the database may say nothing while its rows are read. Longer: reading begins anew.
pub const STORE_LOAD_SILENCE: Duration = Duration::from_secs(30);
/// Questions of one worker for users that are out at one time. One more: 503 to whoever needs it, as `StoreFull` says.
pub const SUBSCRIBER_QUESTIONS_MAX: usize = 4_096;
/// Questions that one look into the directory answers. More: the next look.
pub const SUBSCRIBER_BATCH: usize = 512;
/// The longest user name and realm that are asked for, in bytes. Longer: there is no such user.
pub const SUBSCRIBER_TEXT_LEN_MAX: usize = 256;
/// Accounts that wait to be changed for the operator. One more: refused.
pub const SUBSCRIBER_ORDERS_MAX: usize = 16;
/// How long the directory may take for an answer: shorter than a request waits. Longer: it cannot say.
pub const SUBSCRIBER_ANSWER_TIME: Duration = Duration::from_secs(3);
/// How long the last changes may take to be written when the process ends. Longer: they are lost, and the log says so.
pub const STORE_STOP_TIME: Duration = Duration::from_secs(10);
/// How long a database that does not answer is waited for then.
pub const STORE_SILENT_STOP_TIME: Duration = Duration::from_secs(3);

// --- the cluster (replication/, peer/) ---------------------------------------------------------------------------

/// Nodes that are known at once, ourselves apart. Further ones are not learned, and counted.
pub const NODES_MAX: usize = 64;
/// The list of nodes in a message: Kamailio's buffer has 1,024 bytes. Nodes past it are not listed.
pub const KDMQ_ROSTER_LEN: usize = 1_000;
/// Contacts of one message: Kamailio's own bound on what it sends. A message with more is answered 400.
pub const KDMQ_CONTACTS_MAX: usize = 150;
/// Bytes of a message's contacts: one datagram, with room for its headers. What does not fit goes into the next.
pub const KDMQ_BODY_LEN_MAX: usize = 60_000;
/// How long a node that was learned from others is looked for when it is silent. Then: once in this time.
pub const NODE_FORGET: Duration = Duration::from_secs(600);
/// Contacts that wait for one node. More: it is behind, and is sent what it misses by a walk through the location.
pub const NODE_HELD_MAX: usize = 4_096;
/// Unanswered messages of contacts to one node at the beginning, and at most.
pub const NODE_WINDOW_START: u32 = 4;
/// The most of them: the window adapts between one and this.
pub const NODE_WINDOW_MAX: u32 = 32;
/// Lists of nodes that may be unanswered by one node, of those that others would have passed on. More are not passed on to it: its next
/// list says what they said.
pub const NODE_LISTS_MAX: usize = 4;
/// How often one node is asked for what is missed. Sooner: it is asked then, once, for all of it.
pub const NODE_ASK_INTERVAL: Duration = Duration::from_millis(200);
/// Bytes in unanswered messages to one node: what the usual receive buffer of a socket takes. More waits.
pub const NODE_BYTES_IN_FLIGHT: usize = 160 * 1_024;
/// Waiting contacts that are looked at for one message. What stands behind them waits for the next.
pub const KDMQ_SCAN_MAX: usize = 512;
/// How long a message is retransmitted. Then: a node that does not answer a list of nodes is lost, one that does not answer contacts is
/// behind.
pub const KDMQ_GIVE_UP: Duration = Duration::from_secs(10);
/// The longest interval between two retransmissions: a node that is back is found within it.
pub const KDMQ_RETRY_MAX: Duration = Duration::from_secs(1);
/// How long an answer to SYNC is waited for: Kamailio sends it behind the last contact.
pub const KDMQ_SYNC_TIME: Duration = Duration::from_secs(60);
/// How often a walk may begin for one node.
pub const WALK_INTERVAL: Duration = Duration::from_millis(200);
/// How often a walk with a pace asks for contacts: so even is the pace, down to one slice each time.
pub const WALK_PACE: Duration = Duration::from_millis(2);
/// How much of what a walk with a pace is late with it makes up for at once. The rest is late for good.
pub const WALK_LATE_MAX: Duration = Duration::from_millis(10);
/// Changes that one parcel between the cluster and a worker carries. More waits for the next.
pub const PARCEL_LEN: usize = 512;
/// Parcels of a worker for what changed here.
pub const FRESH_PARCELS: usize = 2;
/// Parcels for walks and for what comes, all nodes together. None left: a message is not answered, and comes again.
pub const WORK_PARCELS: usize = 32;
/// Places of the location that one slice of a walk looks at, and changes that one slice lets in.
pub const CLUSTER_SLICE: usize = 64;
/// Times in a second that one node is told of what it is behind with. More: it is not told, and counted.
pub const CORRECTIONS_MAX: u32 = 200;
/// Homes of contacts that are numbered: sockets of other nodes. A contact of one more is reached without its node, and taken over by nobody.
pub const HOMES_MAX: usize = 512;
/// A contact that registered elsewhere is kept and reached for so long past its end by our clock: it ends by that node's.
pub const EXPIRY_GRACE: Duration = Duration::from_secs(10);
/// A node that nobody has heard of counts as gone when we have run for so long.
pub const HOMES_SETTLED: Duration = Duration::from_secs(30);
/// KDMQ messages that wait between the workers and the cluster's thread. One more is dropped and counted; it comes again.
pub const KDMQ_INLET_LEN: usize = 1_024;
/// Of their buffers, those that hold a whole [`MESSAGE_LEN_MAX`]; the others hold [`SMALL_BUFFER_LEN`].
pub const KDMQ_INLET_LARGE_LEN: usize = 128;
/// Of these, those of one node. More: as above.
pub const KDMQ_INLET_SHARE: u32 = 384;
/// Connections of nodes, where DMQ has an address of its own. Reached: the oldest that has said nothing gives way.
pub const KDMQ_CONNECTIONS_MAX: usize = 4 * NODES_MAX;
/// Of these, those that one address may have opened. More: closed.
pub const KDMQ_CONNECTIONS_PER_NODE: usize = 8;
/// How long a node's connection may be silent. Longer: closed; the next message opens another.
pub const KDMQ_CONNECTION_IDLE: Duration = Duration::from_secs(600);
/// How old a sealed message may be, or how far ahead by its sender's clock. More: it is refused and counted.
pub const KDMQ_SEAL_TIME: Duration = Duration::from_secs(30);
/// How often the names of nodes are looked up; the DNS is asked when its word has grown old.
pub const NODE_NAMES_INTERVAL: Duration = Duration::from_secs(5);
/// How long the others are waited for when we leave.
pub const LEAVE_TIME: Duration = Duration::from_millis(500);
/// How deep a node's JSON may be nested. Deeper: answered 400.
pub const JSON_DEPTH_MAX: usize = 16;

// --- overload (proxy/overload.rs) --------------------------------------------------------------------------------

/// How long a worker's queue must have lost something without once being emptied, before new work is turned away.
pub const OVERLOAD_AFTER: Duration = Duration::from_millis(100);
/// How often a full queue is asked what it lost.
pub const OVERLOAD_WINDOW: Duration = Duration::from_millis(10);
/// New work that is let in each time that the queue has been emptied, at least and at most. More: refused or dropped.
pub const OVERLOAD_LET_IN: std::ops::RangeInclusive<u32> = 32..=2_048;
/// As so many an INVITE counts among them: a call is thirteen messages to a REGISTER's two, and most of them come after the queue was
/// emptied of the first.
pub const OVERLOAD_CALL: u32 = 8;
/// What is let in at once is halved where the queue then takes longer than this to be emptied, and else doubled where it was too little.
pub const OVERLOAD_DELAY: Duration = Duration::from_millis(10);
/// After so long with a queue that was not emptied one is let in all the same.
pub const OVERLOAD_LEAST: Duration = Duration::from_millis(1);
/// Of so many that are let in, one that is not is answered 503. The others are not answered and counted as dropped: their senders
/// ask again.
pub const OVERLOAD_REFUSALS: u32 = 8;
/// The overload is over when in so long at most one in [`OVERLOAD_FEW`] of those let in was turned away.
pub const OVERLOAD_CALM: Duration = Duration::from_millis(250);
/// Fewer than one in so many is what the queue's room makes good for.
pub const OVERLOAD_FEW: u64 = 16;

// --- workers (worker/) -------------------------------------------------------------------------------------------

/// Workers of one process.
pub const WORKERS_MAX: usize = 64;
/// `[[listen]]` entries.
pub const LISTENERS_MAX: usize = 16;
/// Turns of a busy worker after which the kernel's sockets beside AF_XDP are looked at, whether they had something or not.
pub const KERNEL_SOCKET_TURNS: u32 = 8;
/// Datagrams taken from one port before the next is served.
pub const BATCH: usize = 64;
/// Datagrams of a batch from which on they are glanced at before they are served: fewer have little to wait for together.
pub const WORTH_ANNOUNCING: usize = 3;
/// Datagrams that wait in a worker's mailbox. Full: a datagram is dropped and counted (its sender retransmits).
pub const MAILBOX_LEN: usize = 1_024;
/// Of a mailbox's buffers, those that hold a whole [`MESSAGE_LEN_MAX`]; the others hold [`SMALL_BUFFER_LEN`].
pub const MAILBOX_LARGE_LEN: usize = 32;
/// A small pooled buffer.
pub const SMALL_BUFFER_LEN: usize = 4_096;
/// How long an operator's question of the cluster waits for its thread.
pub const FRESH_REPORT_PATIENCE: std::time::Duration = std::time::Duration::from_millis(500);
/// How often a worker publishes its gauges, sweeps a slice of the location and asks for ICMP errors.
pub const HOUSEKEEPING: Duration = Duration::from_millis(20);
/// Places of the location that one sweep looks at.
pub const SWEEP_BUDGET: u32 = 256;
/// The longest a worker sleeps with nothing to do: counters and the sweep are never staler than this.
pub const IDLE: Duration = Duration::from_millis(100);

// --- TCP (net/tcp/) ----------------------------------------------------------------------------------------------

/// Connections that the kernel completes before we accept them. Full: the kernel drops the SYN, which its sender repeats.
pub const TCP_ACCEPT_QUEUE_LEN: i32 = 1_024;
/// Connections accepted from one listener before others are served. More: at the next turn.
pub const TCP_ACCEPT_BATCH: usize = 64;
/// Bytes read from one connection before the next is served.
pub const TCP_READ_LEN: usize = 64 * 1_024;
/// Events taken at one time; the others at the next.
pub const TCP_EVENTS_MAX: usize = 256;
/// Events acted on before a batch of what the workers send has its turn.
pub const TCP_EVENTS_SHARE: usize = 32;
/// Messages that wait for the TCP thread. Full: the message is not sent, and its worker knows at once.
pub const TCP_OUTBOX_LEN: usize = 4_096;
/// Of their buffers, those that hold a whole [`MESSAGE_LEN_MAX`]; the others hold [`SMALL_BUFFER_LEN`].
pub const TCP_OUTBOX_LARGE_LEN: usize = 256;
/// Messages in the outbox, and in all mailboxes together those that came by TCP, at which no connection is read on: there is
/// room for two messages for each of them, so that no answer is lost because others ask faster than we can send.
pub const TCP_CROWDED_LEN: usize = TCP_OUTBOX_LEN / 4;
/// Bytes that wait for one connection beside what the kernel holds for it. More: its peer does not read; it is closed, and
/// what waited goes back to the workers.
pub const TCP_BACKLOG_LEN_MAX: usize = 2 * MESSAGE_LEN_MAX;
/// Bytes that the kernel takes for a connection beyond what it has sent already; then we keep them (the bound above).
pub const TCP_KERNEL_UNSENT_LEN: u32 = 128 * 1_024;
/// Bytes that the kernel keeps of a connection until we read them (it doubles the number for its own needs).
pub const TCP_KERNEL_UNREAD_LEN: usize = 128 * 1_024;
/// How long a connection may take to be set up. Longer: what waited for it goes back to the workers.
pub const TCP_CONNECT_TIME: Duration = Duration::from_secs(5);
/// How long a peer may take for the first whole message of its connection. Longer: closed.
pub const TCP_FIRST_MESSAGE_TIME: Duration = Duration::from_secs(20);
/// How long a peer may take from the first octet of a message to its last. Longer: closed.
pub const TCP_MESSAGE_TIME: Duration = Duration::from_secs(20);
/// How long a peer may take nothing of what waits for it. Longer: closed, and what waited goes back to the workers.
pub const TCP_STALL_TIME: Duration = Duration::from_secs(10);
/// How long a connection stays for answers when its peer has said that nothing more will come. Longer: closed.
pub const TCP_HALF_CLOSED_TIME: Duration = T1_64;
/// How long what still comes is thrown away where the place of the next message is lost. Longer: closed.
pub const TCP_LINGER_TIME: Duration = Duration::from_secs(5);
/// How long a connection is not read on when a mailbox is full, before that is tried again.
pub const TCP_RETRY_TIME: Duration = Duration::from_millis(2);
/// How long nothing is accepted when descriptors have run out.
pub const TCP_ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long what waits may take to leave when the process ends.
pub const TCP_STOP_TIME: Duration = Duration::from_secs(1);
/// How long a connection may be silent before the kernel asks whether its peer still lives.
pub const TCP_PROBE_AFTER: Duration = Duration::from_secs(120);
/// How long sent bytes may stay without acknowledgement, and a probe without answer, before the kernel gives up.
pub const TCP_DEAD_AFTER: Duration = Duration::from_secs(32);
/// Letters in a mailbox at which TCP waits, at the latest: the other half is for datagrams, which cannot.
pub const MAILBOX_TCP_LEN: usize = MAILBOX_LEN / 2;

// --- names (resolve/) ---------------------------------------------------------------------------------------------

/// The longest host name that is asked for (RFC 1035 2.3.4). Longer: it leads nowhere.
pub const HOST_LEN_MAX: usize = 255;
/// Destinations of one answer. More: the first ones stand, in the order of RFC 3263.
pub const DESTINATIONS_MAX: usize = 16;
/// Questions of one worker that wait for their answers. More: refused and counted; the request is answered at once.
pub const DNS_QUESTIONS_MAX: usize = 1_024;
/// Names that are being looked up, by whichever workers asked. More: answered with nothing, counted as failed.
pub const DNS_FLIGHTS_MAX: usize = 4_096;
/// Lookups at the DNS servers at one time: each holds a socket a server. More: they wait, within the time of their question.
pub const DNS_LOOKUPS_MAX: usize = 128;
/// Records of one SRV set. More: those of the lowest priority numbers stand.
pub const SRV_RECORDS_MAX: usize = 32;
/// The longest that the DNS's word is kept.
pub const DNS_TTL_MAX: Duration = Duration::from_secs(24 * 3_600);
/// The longest that its word is kept that there is nothing (RFC 2308 5: one to three hours work well).
pub const DNS_NEGATIVE_TTL_MAX: Duration = Duration::from_secs(3_600);
/// How long a name is left alone whose lookup failed (RFC 9520 3.2: 1 s at least, 5 s to begin with).
pub const DNS_FAILURE_TTL: Duration = Duration::from_secs(5);
/// How long an answer is kept of which a piece was not to be had.
pub const DNS_PARTIAL_TTL: Duration = Duration::from_secs(30);
/// How long a lookup may take before an answer past its time serves instead, where there is one (RFC 8767 5).
pub const DNS_STALE_WAIT: Duration = Duration::from_millis(1_800);

// --- packets (net/, wire/) ---------------------------------------------------------------------------------------

/// A UMEM frame, which is also the kernel's limit without multi-buffer.
pub const FRAME_LEN: usize = 4_096;
/// Frames of a queue's UMEM, 32 MiB: those for sending and those for receiving.
pub const FRAMES_PER_QUEUE: usize = 8_192;
/// Frames to send with, as many as the ring has entries. No free one: the kernel's socket serves.
pub const FRAMES_TO_SEND: usize = 2_048;
/// Frames to receive into: what may wait for a worker that is behind (40 ms at 150,000 packets a second).
pub const FRAMES_TO_RECEIVE: usize = FRAMES_PER_QUEUE - FRAMES_TO_SEND;
/// Of these, how many the kernel has at hand for what comes next, and all that it has while the worker does not run. With each batch the
/// others are lent for packets that wait, so that at rest few are used in turn, and stay in the caches.
pub const FRAMES_AT_HAND: usize = 2_048;
/// What the kernel keeps in front of a packet in its frame.
pub const FRAME_HEADROOM: usize = 256;
/// The longest packet that one frame holds. Longer: the kernel's socket serves, both ways.
pub const PACKET_LEN_MAX: usize = FRAME_LEN - FRAME_HEADROOM;
/// Destinations that the neighbour cache holds. A bucket full: its oldest is forgotten, and the kernel's socket serves that
/// one until it is learned anew.
pub const NEIGHBORS_MAX: usize = 65_536;
/// Next hops that the destinations share. Full: all are forgotten and learned anew.
pub const NEXT_HOPS_MAX: usize = 16_384;
/// Destinations that wait to be looked up. Full: asked again at the next message.
pub const NEIGHBOR_QUESTIONS_MAX: usize = 1_024;
/// Next hops whose use is told to the kernel at one time, so that it confirms them. The others' turn comes next time.
pub const NEIGHBOR_CONFIRMATIONS_MAX: usize = 1_024;
/// What the kernel's UDP sockets keep for us each way, where it allows. Full: the kernel drops.
pub const UDP_SOCKET_BUFFER_LEN: usize = 4 * 1024 * 1024;
/// Bytes of messages that wait for `sendmmsg`. Full: it is called early, and what then finds no room is dropped.
pub const UDP_ARENA_LEN: usize = 1024 * 1024;
/// So long what waits is offered to a kernel that takes nothing of it. After that: dropped. A worker does not sleep meanwhile.
pub const UDP_PATIENCE: std::time::Duration = std::time::Duration::from_millis(20);
/// What one datagram of a batch is received into: the longest fits.
pub const UDP_SLOT_LEN: usize = 64 * 1024;

// --- memory (config/budget.rs) -----------------------------------------------------------------------------------

/// What a transaction is counted with, in bytes: its slot and index entries (about 400) and the kept request, of which
/// an INVITE with SDP and a Record-Route or two takes 1.5 to 2 KiB. The table stops at the sum, not at the average.
pub const TRANSACTION_COST: u64 = 2_800;
/// What a binding is counted with, in bytes: its AoR, contact, received, path, Call-ID and user agent at their usual lengths
/// (500 to 1,000), the record around them, its share of the shard's index, and the growth of both by doubling.
pub const BINDING_COST: u64 = 2_100;
/// What a TCP connection is counted with, in bytes: a buffer of [`MESSAGE_LEN_MAX`] and the kernel's socket.
pub const TCP_CONNECTION_COST: u64 = 72 * 1_024;

// --- administration (admin/) -------------------------------------------------------------------------------------

/// Connections of the admin server. One more waits in the kernel's backlog until another ends.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
/// The body of a request to the admin server. Longer: 413.
pub const ADMIN_BODY_LEN_MAX: usize = 64 * 1_024;
/// Calls of one JSON-RPC batch. More: the whole batch is refused (-32600).
pub const RPC_BATCH_MAX: usize = 64;
/// Answer bytes of one batch at which its further calls are refused (503), so that no answer grows without end.
pub const RPC_ANSWER_LEN: usize = 4 * 1_024 * 1_024;
/// AoRs of one page of `ul.dump`. More asked for: so many are given.
pub const DUMP_AORS_MAX: usize = 10_000;
/// AoRs of a page where none are asked for.
pub const DUMP_AORS_DEFAULT: usize = 1_000;
/// Errands that wait for one worker. Full: the next worker is asked; all full: the call is answered 503 and counted.
pub const ERRANDS_MAX: usize = 16;
/// How long the admin server waits for a worker to run one errand. Longer: the call is answered 503, and the errand is dropped and
/// counted when its turn comes.
pub const ERRAND_TIME: Duration = Duration::from_secs(2);
/// Bytes that the client of `strowger ctl` takes of an answer. More: it says so and gives up.
pub const CTL_ANSWER_LEN_MAX: usize = 64 * 1_024 * 1_024;
/// How long `strowger ctl` waits for the connection, and then for each piece of the answer.
pub const CTL_TIME: Duration = Duration::from_secs(30);

// --- the load generator (load/) ------------------------------------------------------------------------------------

/// Attempts under way at one time. One more: not made, counted, and the result says that the generator was the limit.
pub const LOAD_OPERATIONS_MAX: usize = 1_000_000;
/// Sessions that the called phones have at one time. One more is answered 503 and counted.
pub const LOAD_SESSIONS_MAX: usize = 4_000_000;
/// Phones of a load. More: refused before anything is sent.
pub const LOAD_PHONES_MAX: u32 = 4_000_000;
/// Attempts a second. More: refused before anything is sent.
pub const LOAD_RATE_MAX: f64 = 10_000_000.0;
/// How long a load may last in all, however many attempts it is to make. Longer: refused before anything is sent.
pub const LOAD_TIME_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);
/// How long a called phone may ring. Longer: the session is given up with CANCEL and counted as timed out.
pub const LOAD_RING_TIME: Duration = Duration::from_secs(60);
/// Attempts that are begun before what has come is looked at again.
pub const LOAD_BATCH: usize = 64;

const _: () = assert!(MESSAGE_LEN_MAX <= u16::MAX as usize, "spans are 16 bits");
const _: () = assert!(
    2 * PARKED_TIME.as_micros() + COMMIT_TIME.as_micros() + COMMIT_FLUSH_MAX.as_micros()
        < T1_64.as_micros(),
    "who waits for secrets, then for rows, then for a commit, is answered before it gives up"
);
const _: () = assert!(HEADERS_MAX < u8::MAX as usize, "header indexes are 8 bits");
const _: () = assert!(MAILBOX_LARGE_LEN < MAILBOX_LEN);
const _: () = assert!(
    SMALL_BUFFER_LEN >= FRAME_LEN,
    "whatever came in a frame fits a small buffer"
);
const _: () = assert!(FRAMES_TO_SEND.is_power_of_two() && FRAMES_TO_SEND >= 4 * BATCH);
const _: () = assert!(FRAMES_AT_HAND.is_power_of_two() && FRAMES_AT_HAND < FRAMES_TO_RECEIVE);
const _: () = assert!(NEIGHBORS_MAX.is_power_of_two());
const _: () = assert!(
    TCP_CROWDED_LEN >= WORKERS_MAX,
    "each worker may have something by TCP"
);
const _: () = assert!(TCP_OUTBOX_LARGE_LEN < TCP_OUTBOX_LEN && MAILBOX_TCP_LEN < MAILBOX_LEN);
const _: () = assert!(
    TCP_BACKLOG_LEN_MAX >= MESSAGE_LEN_MAX,
    "the longest message may wait"
);
const _: () = assert!(
    UDP_ARENA_LEN >= MESSAGE_LEN_MAX,
    "the longest message fits an empty arena"
);
const _: () = assert!(TIMER_C.as_micros() > 180_000_000, "RFC 3261 16.6.11");
const _: () = assert!(WORKERS_MAX <= u8::MAX as usize, "worker ids are 8 bits");
const _: () = assert!(LISTENERS_MAX <= u8::MAX as usize, "listener ids are 8 bits");
const _: () = assert!(
    DNS_LOOKUPS_MAX < DNS_FLIGHTS_MAX && SRV_RECORDS_MAX >= DESTINATIONS_MAX,
    "a cut set still fills an answer"
);
