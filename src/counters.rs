//! The counters of a worker: one cache-resident array, written by its owner alone, read by `/metrics`.
//!
//! A counter is an atomic only so that the reader may look at any time; the owner adds with a plain load and store.

use std::sync::atomic::{AtomicU64, Ordering};

/// One counter in a metric family: the family's name, the label that tells it from its siblings, and the help text.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// The Prometheus family, without the `strowger_` prefix and without `_total`.
    pub family: &'static str,
    /// The label's key and value; an empty key means no label.
    pub label: (&'static str, &'static str),
    /// What the family counts.
    pub help: &'static str,
    /// Whether the value may fall (a gauge) or only rises.
    pub is_gauge: bool,
}

macro_rules! counters {
    ($( $kind:ident $family:literal $help:literal { $( $name:ident $key:literal $value:literal ),+ $(,)? } )+) => {
        /// Names a counter; [`Counter::describe`] gives its metric.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Counter {
            $( $(
                #[doc = concat!($help, " (", $value, ")")]
                $name,
            )+ )+
        }

        /// Every counter with its metric, in the order of the families.
        pub const ALL: &[(Counter, Description)] = &[
            $( $( (Counter::$name, Description {
                family: $family,
                label: ($key, $value),
                help: $help,
                is_gauge: counters!(@$kind),
            }), )+ )+
        ];
    };
    (@counter) => { false };
    (@gauge) => { true };
}

counters! {
    counter "messages_received" "SIP messages and keepalives received, by backend" {
        ReceivedAfXdp "backend" "af_xdp",
        ReceivedUdp "backend" "udp",
        ReceivedTcp "backend" "tcp",
    }
    counter "messages_parsed" "messages received, by what they proved to be" {
        ParsedRequest "kind" "request",
        ParsedMalformedRequest "kind" "malformed_request",
        ParsedResponse "kind" "response",
        ParsedNotSip "kind" "not_sip",
    }
    counter "messages_sent" "SIP messages sent, by backend" {
        SentAfXdp "backend" "af_xdp",
        SentUdp "backend" "udp",
        SentTcp "backend" "tcp",
    }
    counter "drops" "messages dropped without an answer, by reason" {
        DropNotSip "reason" "not_sip",
        DropMalformedResponse "reason" "malformed_response",
        DropMalformedAck "reason" "malformed_ack",
        DropStrayResponse "reason" "stray_response",
        DropForgedBranch "reason" "forged_branch",
        DropStrayAck "reason" "stray_ack",
        DropUnroutableAck "reason" "unroutable_ack",
        DropMailboxFull "reason" "mailbox_full",
        DropOverload "reason" "overload",
        DropTransmitFull "reason" "transmit_full",
        DropTooLarge "reason" "too_large",
        DropUnsendable "reason" "unsendable",
        DropTruncated "reason" "truncated",
        DropBadPacket "reason" "bad_packet",
    }
    counter "handoffs" "messages handed to the worker that owns them" {
        HandedOff "direction" "out",
        HandedIn "direction" "in",
    }
    gauge "transactions_live" "transactions in being, by kind" {
        TransactionsLiveServer "kind" "server",
        TransactionsLiveClient "kind" "client",
    }
    gauge "timers_running" "timers that will fire" {
        TimersRunning "" "",
    }
    gauge "messages_stored" "stored copies of messages" {
        MessagesStored "" "",
    }
    gauge "transaction_bytes" "memory that transactions and their stored messages have taken from the system" {
        TransactionBytes "" "",
    }
    gauge "stored_message_bytes" "of transaction_bytes, what stored messages have taken" {
        StoredMessageBytes "" "",
    }
    gauge "frames_outstanding" "UMEM frames that are on their way through the kernel, or missing" {
        FramesOutstanding "" "",
    }
    gauge "overloaded" "1 while new work is turned away; by workers, their sum" {
        Overloaded "" "",
    }
    gauge "mailbox_buffers_out" "mailbox buffers that are neither free nor posted" {
        MailboxBuffersOut "" "",
    }
    counter "transactions_created" "transactions created, by kind" {
        TransactionsCreatedServer "kind" "server",
        TransactionsCreatedClient "kind" "client",
    }
    counter "transactions_freed" "transactions freed, by kind" {
        TransactionsFreedServer "kind" "server",
        TransactionsFreedClient "kind" "client",
    }
    counter "retransmissions" "retransmissions, by direction and cause" {
        RetransmitRequestReceived "kind" "request_absorbed",
        RetransmitRequestSent "kind" "request_sent",
        RetransmitResponseSent "kind" "response_sent",
    }
    counter "failovers" "branches tried anew at another destination of the same name" {
        Failovers "" "",
    }
    counter "requests" "requests taken up, by method" {
        RequestInvite "method" "INVITE",
        RequestAck "method" "ACK",
        RequestBye "method" "BYE",
        RequestCancel "method" "CANCEL",
        RequestRegister "method" "REGISTER",
        RequestOptions "method" "OPTIONS",
        RequestOther "method" "other",
    }
    counter "responses" "final responses sent to requests, by class" {
        Responses2xx "class" "2xx",
        Responses3xx "class" "3xx",
        Responses4xx "class" "4xx",
        Responses5xx "class" "5xx",
        Responses6xx "class" "6xx",
    }
    counter "keepalives" "keepalives received, by kind: a CRLF ping is answered with a pong, a STUN binding request with the address it came from" {
        Keepalives "kind" "ping",
        KeepalivePongs "kind" "pong",
        KeepaliveBindings "kind" "stun",
    }
    counter "keepalives_sent" "keepalives sent to contacts, by kind" {
        KeepalivesSentOptions "kind" "options",
        KeepalivesSentCrlf "kind" "crlf",
    }
    counter "keepalives_answered" "OPTIONS of ours that a contact answered in time, whatever it said" {
        KeepalivesAnswered "kind" "options",
    }
    counter "keepalives_unsent" "contacts whose turn it was and to which nothing could be sent, by cause" {
        KeepalivesNotConnected "cause" "not_connected",
        KeepalivesUnreachable "cause" "unreachable",
        KeepalivesFull "cause" "transmit_full",
        KeepalivesNoAddress "cause" "no_address",
    }
    counter "contacts_removed" "contacts removed without a request that asked for it, by cause" {
        ContactsRemovedSilent "cause" "silent",
    }
    counter "acks_absorbed" "ACKs of final responses that we had sent without a transaction" {
        AcksAbsorbed "kind" "stateless",
    }
    counter "refusals" "requests refused by policy or at a bound, by cause" {
        RefusedForeign "cause" "not_a_relay",
        RefusedToken "cause" "bad_dialog_token",
        RefusedDraining "cause" "draining",
        RefusedOverload "cause" "overload",
        RefusedTransactions "cause" "transactions_full",
        RefusedBindings "cause" "bindings_full",
        RefusedContacts "cause" "too_many_contacts",
        RefusedFirstHop "cause" "first_hop_lacks_outbound",
        RefusedFlow "cause" "flow_failed",
        RefusedFlowToken "cause" "bad_flow_token",
        RefusedOutOfOrder "cause" "register_out_of_order",
        RefusedLoop "cause" "loop",
        RefusedMaxForwards "cause" "max_forwards",
        RefusedMaxBreadth "cause" "max_breadth",
        RefusedIdentity "cause" "speaks_for_another",
        RefusedWaiting "cause" "slow_path",
        RefusedLoading "cause" "loading",
        RefusedUncommitted "cause" "not_committed",
        RefusedUnstorable "cause" "unstorable",
        RefusedUnresolvable "cause" "unresolvable",
    }
    counter "bindings_replaced" "bindings removed to make room for a newer one of their AoR" {
        BindingsReplaced "" "",
    }
    counter "store_rows" "rows in committed batches, by what was done" {
        StoreInserted "work" "insert",
        StoreUpdated "work" "update",
        StoreDeleted "work" "delete",
    }
    counter "store_batches" "batches brought to the database, by outcome" {
        StoreCommitted "outcome" "committed",
        StoreFailed "outcome" "failed",
    }
    counter "store_flush_micros" "microseconds that committed batches took in the database" {
        StoreFlushMicros "" "",
    }
    counter "store_errors" "failures of the database, by kind" {
        StoreErrorUnreachable "kind" "unreachable",
        StoreErrorRefused "kind" "refused",
        StoreErrorUnfit "kind" "unfit",
    }
    counter "store_rows_missed" "rows that were to be changed and were not there: written anew" {
        StoreMissed "" "",
    }
    counter "store_rows_unstorable" "bindings that live in memory alone, since no row can hold them" {
        StoreUnstorable "" "",
    }
    counter "store_rows_loaded" "rows read at the start, by what they were" {
        StoreLoaded "kind" "live",
        StoreExpired "kind" "expired",
    }
    counter "authentications" "credentials checked and challenges given, by outcome" {
        Authenticated "outcome" "proven",
        AuthenticatedFromMemory "outcome" "secrets_prolonged",
        AuthenticationFailed "outcome" "wrong",
        NonceReplayed "outcome" "replayed",
        Challenged "outcome" "challenged",
        HashMissing "outcome" "hash_missing",
        StoreAskedAgain "outcome" "store_asked_again",
    }
    counter "authentication_failures" "credentials that proved nothing, by reason; auth.failures has them by source" {
        FailedWrong "reason" "wrong",
        FailedReplayed "reason" "replayed",
        FailedNonce "reason" "foreign_nonce",
        FailedIdentity "reason" "another_user",
        FailedExpired "reason" "expired",
        FailedMalformed "reason" "malformed",
    }
    gauge "authentication_failure_sources" "sources whose failures are counted" {
        FailureSources "" "",
    }
    counter "authentication_failure_sources_evicted" "sources that gave their place to another since the table was full" {
        FailureSourcesEvicted "" "",
    }
    counter "commit_waits" "REGISTERs whose 200 waited for the store, by what came of it" {
        CommitAwaited "outcome" "committed",
        CommitFailed "outcome" "store_away",
        CommitLate "outcome" "late",
        CommitCrowded "outcome" "too_many",
    }
    counter "row_waits" "requests that waited for an AoR's rows while the store was read, by what came of it" {
        RowsAwaited "outcome" "loaded",
        RowsLate "outcome" "late",
    }
    gauge "requests_waiting" "requests that wait for the slow path" {
        RequestsWaiting "" "",
    }
    gauge "tcp_connections" "TCP connections open or being opened" {
        TcpConnections "" "",
    }
    counter "tcp_connections_opened" "TCP connections opened, by who opened them" {
        TcpAccepted "by" "peer",
        TcpConnected "by" "us",
    }
    counter "tcp_connections_refused" "TCP connections closed as soon as they came, by the bound that was reached" {
        TcpRefusedTable "bound" "connections",
        TcpRefusedSource "bound" "per_source",
        TcpRefusedDescriptors "bound" "descriptors",
    }
    counter "tcp_connections_closed" "TCP connections closed, by reason" {
        TcpClosedByPeer "reason" "peer",
        TcpClosedBroken "reason" "broken",
        TcpClosedIdle "reason" "idle",
        TcpClosedSilent "reason" "never_spoke",
        TcpClosedShed "reason" "shed",
        TcpClosedSlowSender "reason" "slow_sender",
        TcpClosedSlowReader "reason" "slow_reader",
        TcpClosedUnframed "reason" "unframed",
        TcpClosedRefused "reason" "connect_refused",
        TcpClosedTimeout "reason" "connect_timeout",
        TcpClosedStop "reason" "stop",
    }
    counter "tcp_undelivered" "messages given back to their worker since no TCP connection took them" {
        TcpUndelivered "to" "worker",
    }
    counter "tcp_pauses" "times that a TCP connection was not read on, since neither workers nor outbox had room" {
        TcpPauses "cause" "busy",
    }
    counter "dns_questions" "next hops' names asked for by the workers" {
        DnsQuestions "" "",
    }
    counter "dns_refusals" "questions that the resolver had no room for" {
        DnsRefused "cause" "full",
    }
    counter "dns_answers" "answers to questions, by result: stale is an answer past its time while the DNS fails" {
        DnsAnswerFound "result" "found",
        DnsAnswerEmpty "result" "empty",
        DnsAnswerFailed "result" "failed",
        DnsAnswerStale "result" "stale",
    }
    counter "dns_cache" "questions by whether their answer was known, being looked up, or neither" {
        DnsCacheHit "outcome" "hit",
        DnsCacheJoined "outcome" "joined",
        DnsCacheMiss "outcome" "miss",
    }
    counter "dns_lookups" "records asked for, of the DNS client and its own memory, by type" {
        DnsLookupNaptr "type" "NAPTR",
        DnsLookupSrv "type" "SRV",
        DnsLookupA "type" "A",
        DnsLookupAaaa "type" "AAAA",
        DnsLookupCname "type" "CNAME",
    }
    gauge "dns_names_known" "next hops whose answers are remembered" {
        DnsNamesKnown "" "",
    }
    counter "errands" "slices of work that workers did for the admin server between two batches of messages, by outcome" {
        ErrandsDone "outcome" "done",
        ErrandsStale "outcome" "stale",
    }
    counter "errand_refusals" "errands of the admin server that got no answer, by cause" {
        ErrandsFull "cause" "full",
        ErrandsLate "cause" "late",
    }
    counter "xdp_verdicts" "packets the XDP program saw, by verdict" {
        XdpRedirected "verdict" "redirect",
        XdpPassed "verdict" "pass",
    }
    counter "xdp_passes" "packets that the XDP program left to the kernel, by reason" {
        XdpNotIp "reason" "not_ip",
        XdpNotPlain "reason" "options_fragment_or_extension",
        XdpNotUdp "reason" "not_udp",
        XdpOtherPort "reason" "other_port",
        XdpNoSocket "reason" "no_socket",
        XdpTruncated "reason" "truncated",
        XdpTooLong "reason" "too_long",
    }
    counter "xdp_socket_drops" "packets that the AF_XDP sockets dropped, by reason" {
        XdpSocketDropped "reason" "other",
        XdpSocketRingFull "reason" "rx_ring_full",
        XdpSocketFillEmpty "reason" "fill_ring_empty",
        XdpSocketInvalid "reason" "invalid_descriptor",
    }
    counter "cluster_messages_received" "KDMQ messages received, by kind" {
        ClusterReceivedNotification "kind" "notification",
        ClusterReceivedContacts "kind" "contacts",
        ClusterReceivedSync "kind" "sync",
        ClusterReceivedAnswer "kind" "answer",
        ClusterAnswersRepeated "kind" "answer_repeated",
    }
    counter "cluster_messages_sent" "KDMQ messages sent, by kind" {
        ClusterSentNotification "kind" "notification",
        ClusterSentContacts "kind" "contacts",
        ClusterSentSync "kind" "sync",
        ClusterSentAnswer "kind" "answer",
        ClusterSentAgain "kind" "retransmission",
    }
    counter "cluster_drops" "KDMQ messages not acted on, by reason" {
        ClusterDropNotAllowed "reason" "not_allowed",
        ClusterDropMalformed "reason" "malformed",
        ClusterDropUnknownChannel "reason" "unknown_channel",
        ClusterDropStrayAnswer "reason" "stray_answer",
        ClusterDropNodesFull "reason" "nodes_full",
        ClusterDropBusy "reason" "busy",
        ClusterDropInletFull "reason" "inlet_full",
        ClusterDropBadSeal "reason" "bad_seal",
        ClusterDropUnsealed "reason" "unsealed",
        ClusterDropUnsendable "reason" "unsendable",
    }
    counter "cluster_contacts_sent" "contacts sent to other nodes" {
        ClusterContactsSent "" "",
    }
    counter "cluster_contacts_received" "contacts received from other nodes, by what became of them" {
        ClusterContactsTaken "outcome" "taken",
        ClusterContactsSame "outcome" "same",
        ClusterContactsOlder "outcome" "older",
        ClusterContactsExpired "outcome" "expired",
        ClusterContactsFull "outcome" "full",
        ClusterContactsEarly "outcome" "early",
        ClusterContactsRefused "outcome" "refused",
    }
    counter "cluster_corrections_held_back" "contacts that a node is behind with and was not told of, since it was told of many" {
        ClusterCorrectionsHeld "" "",
    }
    counter "cluster_messages_given_up" "messages of contacts that a node did not answer: it is sent them again when it does" {
        ClusterGivenUp "" "",
    }
    counter "cluster_walks" "full and partial sends begun" {
        ClusterWalks "" "",
    }
    gauge "cluster_nodes_active" "other nodes that answer" {
        ClusterNodesActive "" "",
    }
    counter "neighbor_misses" "messages sent by the kernel's socket since the next hop was not yet known" {
        NeighborMisses "family" "any",
    }
}

/// How many counters there are.
pub const COUNT: usize = ALL.len();

/// The counters of one worker.
#[repr(align(64))]
#[derive(Debug)]
pub struct Counters {
    values: [AtomicU64; COUNT],
}

impl Counters {
    /// All counters at zero.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            values: [const { AtomicU64::new(0) }; COUNT],
        }
    }

    /// Adds one. Only the owning worker may call it.
    #[inline]
    pub fn increment(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Adds `n`. Only the owning worker may call it.
    #[inline]
    pub fn add(&self, counter: Counter, n: u64) {
        let value = &self.values[counter as usize];
        value.store(
            value.load(Ordering::Relaxed).wrapping_add(n),
            Ordering::Relaxed,
        );
    }

    /// Takes one off a gauge. Only the owning worker may call it.
    #[inline]
    pub fn decrement(&self, counter: Counter) {
        let value = &self.values[counter as usize];
        value.store(
            value.load(Ordering::Relaxed).wrapping_sub(1),
            Ordering::Relaxed,
        );
    }

    /// Sets the value: for what the kernel counts and we copy.
    pub fn set(&self, counter: Counter, n: u64) {
        self.values[counter as usize].store(n, Ordering::Relaxed);
    }

    /// Reads one counter; any thread may.
    #[must_use]
    pub fn read(&self, counter: Counter) -> u64 {
        self.values[counter as usize].load(Ordering::Relaxed)
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self::new()
    }
}

impl Counter {
    /// The metric of this counter.
    #[must_use]
    pub fn describe(self) -> Description {
        ALL[self as usize].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_stands_at_its_own_index() {
        for (index, (counter, _)) in ALL.iter().enumerate() {
            assert_eq!(*counter as usize, index);
        }
    }

    #[test]
    fn a_gauge_falls_and_a_counter_adds() {
        let counters = Counters::new();
        counters.add(Counter::TransactionsLiveServer, 3);
        counters.decrement(Counter::TransactionsLiveServer);
        assert_eq!(counters.read(Counter::TransactionsLiveServer), 2);
    }
}
