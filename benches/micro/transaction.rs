//! Transactions: their keys, finding one among many, and one opened, started and closed with its client side.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;

use criterion::Criterion;
use strowger::counters::Counters;
use strowger::datagram::{Flow, ListenerId, Transport, WorkerId};
use strowger::time::Instant;
use strowger::transaction::arena::Arena;
use strowger::transaction::client::ClientSlot;
use strowger::transaction::key::{ServerKey, ServerKeys};
use strowger::transaction::server::ServerSlot;
use strowger::transaction::table::{Holdings, Table};

use crate::messages;

/// How many transactions live beside the one that is looked at.
const LIVE: u32 = 100_000;
const START: Instant = Instant::from_micros(1_700_000_000_000_000);

/// What the proxy would keep beside a transaction: nothing here.
struct Nothing;

impl Holdings for Nothing {
    fn release(self, _: &mut Arena) {}
}

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("transaction");
    let keys = ServerKeys::new([7; 16]);
    let key = |number: u32| keys.rfc3261(&branch(number), b"192.0.2.101:5060", b"INVITE");
    group.bench_function("key", |bencher| bencher.iter(|| key(black_box(4_711))));

    let counters = Arc::new(Counters::new());
    let mut table = Table::with_limits(WorkerId(0), 4 * LIVE, 1 << 30, counters);
    for number in 0..LIVE {
        open(&mut table, key(number));
    }
    let mut number = 0;
    group.bench_function("lookup", |bencher| {
        bencher.iter(|| {
            number = (number + 7_919) % LIVE;
            table.find_server(key(number)).expect("one")
        });
    });
    group.bench_function("create", |bencher| {
        bencher.iter(|| {
            let (server, client) = open(&mut table, key(black_box(LIVE + 1)));
            table.close_client(client);
            table.close_server(server);
        });
    });
}

/// A server transaction with its request, and a client transaction with its timers.
fn open(table: &mut Table<Nothing, Nothing>, key: ServerKey) -> (ServerSlot, ClientSlot) {
    let request = messages::INVITE.as_bytes();
    let server = table
        .open_server(START, key, true, false, request, Nothing)
        .expect("room");
    let flow = Flow {
        listener: ListenerId(0),
        transport: Transport::Udp,
        peer: SocketAddr::from(([192, 0, 2, 202], 5_060)),
    };
    let client = table
        .open_client(server, true, flow, Nothing)
        .expect("room");
    table.start_client(START, client);
    (server, client)
}

fn branch(number: u32) -> [u8; 18] {
    let mut branch = *b"z9hG4bKPj000000000";
    branch[9..].copy_from_slice(format!("{number:09}").as_bytes());
    branch
}
