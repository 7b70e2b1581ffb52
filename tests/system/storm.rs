//! A storm: the server has been killed, and every phone registers again at once, with authentication, while the server knows
//! nobody's secrets yet.
//!
//! `STROWGER_STORM_PHONES` (10,000) and `STROWGER_STORM_MS` (500) set its size: 100000 and 5000 are the full form.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use strowger::store::{Database, migrate};

use super::namespace::Namespace;
use super::registrants::{DOMAIN, Registrants, Second, seed};
use super::scratch::Scratch;
use super::server::{Server, admin_section};

#[test]
fn all_phones_register_anew_within_moments_and_nothing_collapses() {
    let phones = number("STROWGER_STORM_PHONES", 10_000);
    let span = Duration::from_millis(number("STROWGER_STORM_MS", 500) as u64);
    let namespace = Namespace::new();
    let scratch = Scratch::new();
    let configuration = configuration(&scratch, phones);
    let server = Server::start(&namespace, &scratch, &configuration);
    namespace.inside(|| {
        let mut registrants = Registrants::new(0..phones, IpAddr::V4(Ipv4Addr::LOCALHOST), SERVER);
        registrants.watch(server.pid());
        // The first time; then what a second can carry, of phones whose nonces are good.
        registrants.register(0..phones, span * 2, PATIENCE);
        registrants.saturate(WIDTH, Duration::from_millis(500));
        let (carried, spent) = registrants.saturate(WIDTH, Duration::from_secs(1));
        println!("a second before carries {carried}, in {spent:?} of the server's processor time");
        server.kill9();
        let start = Instant::now();
        let server = Server::start(&namespace, &scratch, &configuration);
        println!("serving again after {:?}", start.elapsed());
        registrants.watch(server.pid());
        // A third of them has started anew, too.
        registrants.reboot(|n| n % 3 == 0);
        let seconds = registrants.register(0..phones, span, PATIENCE);
        let bindings = server.metrics().sum("strowger_bindings", "");
        assert_eq!(bindings, phones as u64, "all are registered");
        report(phones, span, &seconds, registrants.latencies().to_vec());
        holds(carried as f64 / spent.as_secs_f64(), &seconds);
    });
}

fn report(phones: usize, span: Duration, seconds: &[Second], mut latencies: Vec<Duration>) {
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    let [median, q99, q999, longest] = [0.5, 0.99, 0.999, 1.0].map(at);
    println!(
        "{phones} phones within {span:?}; from the first message to the 200: median {median:.1?}, q99 {q99:.1?}, q99.9 {q999:.1?}, longest {longest:.1?}"
    );
    for (number, second) in seconds.iter().enumerate() {
        println!("second {number}: {second:?}");
    }
}

/// No collapse: in each second the server registers all who come, or else makes of its processor time what it made of it before the storm,
/// whatever has piled up. It is measured so, and not by the clock, since the phones and whatever else this machine does take the
/// processors, too.
fn holds(rate: f64, seconds: &[Second]) {
    let mut waiting = 0_i64;
    for (number, second) in seconds.iter().enumerate() {
        waiting += i64::from(second.begun) - i64::from(second.registered);
        let keeps_up = waiting * 10 <= i64::from(second.begun);
        let made = f64::from(second.registered) / second.processor.as_secs_f64();
        let had_time = second.processor >= Duration::from_millis(100);
        assert!(
            keeps_up || !had_time || made > rate * SHARE,
            "second {number}: {made:.0} for a second of the processor, {rate:.0} before: {seconds:?}"
        );
    }
    let sent_again: u32 = seconds.iter().map(|second| second.again).sum();
    let refused: u32 = seconds.iter().map(|second| second.refused).sum();
    println!("sent again {sent_again}, refused {refused}");
}

fn configuration(scratch: &Scratch, phones: usize) -> String {
    let file = scratch.path().join("storm.db");
    migrate(&Database::Sqlite(file.clone())).expect("the tables are made");
    let connection = rusqlite::Connection::open(&file).expect("it was made");
    connection
        .execute_batch(&seed(phones))
        .expect("a statement of ours");
    format!(
        "[[listen]]\naddress = \"{SERVER}\"\nbackend = \"udp\"\n[workers]\ncount = 2\n[sip]\ndomains = [\"{DOMAIN}\"]\n[auth]\n\
         [store]\nurl = \"sqlite:{}\"\n{}[limits]\nbindings = {}\nmemory = \"2 GiB\"\n",
        file.display(),
        admin_section(),
        2 * phones.max(10_000)
    )
}

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5060);
/// Registrations under way at one time when it is measured what a second carries.
const WIDTH: usize = 256;
/// How much of it the storm must make: a third of the phones must be challenged first, nobody's secrets are known, and
/// the rows of all bindings are read, all of which the second before was spared.
const SHARE: f64 = 0.25;
const PATIENCE: Duration = Duration::from_secs(60);
