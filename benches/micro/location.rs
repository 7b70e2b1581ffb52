//! The location with 1,000 and with 1,000,000 bindings, one an AoR: a lookup, and a refresh, of AoRs in no order.

use std::hint::black_box;
use std::net::SocketAddr;

use criterion::{BenchmarkId, Criterion};
use strowger::datagram::{Flow, ListenerId, Transport};
use strowger::location::{Change, Location, LocationSettings, Registration, Targets};
use strowger::time::{Duration, Instant};

const START: Instant = Instant::from_micros(1_700_000_000_000_000);

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("location");
    for count in [1_000_u32, 1_000_000] {
        let mut phones = Phones::new(count);
        group.bench_function(BenchmarkId::new("lookup", count), |bencher| {
            bencher.iter(|| phones.look_up());
        });
        group.bench_function(BenchmarkId::new("refresh", count), |bencher| {
            bencher.iter(|| phones.refresh());
        });
    }
}

/// Registered phones, asked for one after the other in an order that no cache can foresee.
struct Phones {
    location: Location,
    targets: Targets,
    count: u32,
    next: u32,
    cseq: u32,
}

impl Phones {
    fn new(count: u32) -> Self {
        let settings = LocationSettings {
            hash_key: [1; 16],
            bindings_max: 2_000_000,
            contacts_max: 10,
        };
        let mut phones = Self {
            location: Location::new(&settings),
            targets: Targets::new(),
            count,
            next: 0,
            cseq: 1,
        };
        for number in 0..count {
            phones.register(number);
        }
        phones
    }

    fn look_up(&mut self) {
        let number = self.step();
        let (aor, _) = names(number);
        black_box(self.location.lookup(START, &aor, &mut self.targets));
    }

    fn refresh(&mut self) {
        let number = self.step();
        self.cseq += 1;
        self.register(number);
    }

    /// Another phone: the factor shares no divisor with either count.
    fn step(&mut self) -> u32 {
        self.next = (self.next + 618_033) % self.count;
        self.next
    }

    fn register(&mut self, number: u32) {
        let (aor, uri) = names(number);
        let registration = Registration {
            call_id: b"1j9FpLxk3uxtm8tn@192.0.2.101",
            cseq: self.cseq,
            user_agent: b"Acme Desk Phone 4.2.1",
            path: b"",
            flow: Flow {
                listener: ListenerId(0),
                transport: Transport::Udp,
                peer: SocketAddr::from(([192, 0, 2, 101], 5_060)),
            },
        };
        let change = Change {
            uri: &uri,
            expires: Duration::from_secs(300),
            q: None,
            received: false,
            instance: b"",
            reg_id: 0,
        };
        let applied = self
            .location
            .apply(START, &aor, &registration, &[change], &mut self.targets);
        assert_eq!(applied.0, Ok(()));
    }
}

/// The AoR and the contact of a phone.
fn names(number: u32) -> ([u8; 12], [u8; 33]) {
    let mut user = *b"user00000000";
    let mut rest = number;
    for digit in user[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let mut uri = *b"sip:user00000000@192.0.2.101:5060";
    uri[4..16].copy_from_slice(&user);
    (user, uri)
}
