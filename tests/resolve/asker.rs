//! A resolver with one desk, asked as a worker asks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use strowger::counters::{Counter, Counters};
use strowger::datagram::Transport;
use strowger::proxy::{Question, QuestionId, ResolverFull};
use strowger::resolve::{Desk, Resolver, Settings};
use strowger::time;

/// The asker.
pub(crate) struct Asker {
    resolver: Resolver,
    desk: Desk,
    bell: Receiver<()>,
    counters: Arc<Counters>,
    next: u64,
}

/// An answer, as `transport address`, and how long it took.
pub(crate) struct Told {
    pub(crate) list: Vec<String>,
    pub(crate) took: Duration,
}

/// Settings for a node of both families that asks this server, patient for two seconds.
pub(crate) fn settings(server: SocketAddr) -> Settings {
    let address = |text: &str| text.parse().expect("an address");
    Settings {
        servers: vec![server],
        timeout: time::Duration::from_millis(2_000),
        names_max: 4_096,
        stale_max: time::Duration::from_secs(3_600),
        sources: vec![address("192.0.2.200"), address("2001:db8::200")],
        transports: vec![Transport::Udp, Transport::Tcp],
        seed: 7,
    }
}

impl Asker {
    pub(crate) fn new(settings: &Settings) -> Self {
        let counters = Arc::new(Counters::new());
        let (ring, bell) = channel();
        let worker = (
            Box::new(move || ring.send(()).unwrap_or_default()) as Box<_>,
            Arc::clone(&counters),
        );
        let (resolver, mut desks) = Resolver::start(settings, vec![worker]).expect("it starts");
        Self {
            resolver,
            desk: desks.remove(0),
            bell,
            counters,
            next: 0,
        }
    }

    /// Asks and goes on; gives the question's number.
    pub(crate) fn post(
        &mut self,
        host: &str,
        port: Option<u16>,
        transport: Option<Transport>,
    ) -> Result<u64, ResolverFull> {
        self.next += 1;
        self.desk.ask(&Question {
            id: QuestionId(self.next),
            host: host.as_bytes(),
            port,
            transport,
        })?;
        Ok(self.next)
    }

    /// Waits for so many answers, each to a question of its own.
    pub(crate) fn collect(&mut self, count: usize) -> BTreeMap<u64, Vec<String>> {
        let begun = Instant::now();
        let mut answers = BTreeMap::new();
        while answers.len() < count {
            if let Some(answer) = self.desk.take() {
                let list = answer.destinations().iter();
                let list = list.map(|to| format!("{} {}", to.transport.as_str(), to.address));
                let is_new = answers.insert(answer.id().0, list.collect()).is_none();
                assert!(is_new, "one answer a question");
            } else if self.bell.recv_timeout(Duration::from_secs(8)).is_err() {
                panic!(
                    "{} of {count} answers in {:?}",
                    answers.len(),
                    begun.elapsed()
                );
            }
        }
        answers
    }

    /// Asks for a host of the zone, and waits.
    pub(crate) fn ask(&mut self, name: &str) -> Told {
        self.ask_with(name, None, None)
    }

    /// Asks for a host of the zone with a port and a transport, and waits.
    pub(crate) fn ask_with(
        &mut self,
        name: &str,
        port: Option<u16>,
        transport: Option<Transport>,
    ) -> Told {
        let begun = Instant::now();
        let host = format!("{name}.Example.net");
        let id = self.post(&host, port, transport).expect("room");
        let list = self.collect(1).remove(&id).expect("the answer to it");
        Told {
            list,
            took: begun.elapsed(),
        }
    }

    /// What the desk and the thread counted.
    pub(crate) fn count(&self, counter: Counter) -> u64 {
        self.counters.read(counter) + self.resolver.counters().read(counter)
    }
}
