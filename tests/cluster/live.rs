//! What replication costs while phones refresh, and how soon another node has what changed.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::load::Load;
use super::node::Node;
use super::pair::{Pair, asked, wait_for};
use super::phone::Phone;

/// How long a phase lasts: `STROWGER_LIVE_SECONDS`, for the product's figures, which are asked of a release build that has the machine to
/// itself. Else it is short, phones are fewer, and little is asked.
fn seconds() -> u64 {
    asked("STROWGER_LIVE_SECONDS", 2)
}

/// Refreshes a second, and whether what is promised is asked for.
fn rate() -> (u32, bool) {
    let is_whole = std::env::var_os("STROWGER_LIVE_SECONDS").is_some();
    (if is_whole { 10_000 } else { 1_000 }, is_whole)
}

/// Phones that refresh in turn, so many a second.
fn refreshes(node: &Node, rate: u32) -> Load {
    let (phones, seconds) = (PHONES.to_string(), seconds().to_string());
    // The same ports each time, and others than those of another test's phones.
    let port = match node.sip().ip() {
        IpAddr::V4(ip) => 21_000 + 16 * u16::from(ip.octets()[2]),
        IpAddr::V6(_) => 21_000,
    };
    let port = port.to_string();
    let further = ["--phones", &phones, "--time", &seconds, "--port", &port];
    Load::start(node.sip(), rate, &further)
}

fn assert_answered(result: &Value) {
    assert_eq!(result["kinds"][0]["success_percent"], 100.0, "{result:#}");
}

/// Processor time of a node for one refresh, while phones refresh.
fn cost(node: &Node, rate: u32) -> Duration {
    let before = node.cpu();
    let result = refreshes(node, rate).finish();
    let spent = node.cpu() - before;
    let refreshes = result["successes"].as_u64().expect("a number");
    assert_answered(&result);
    spent / u32::try_from(refreshes).expect("few")
}

#[test]
fn a_peer_costs_a_quarter_of_a_refresh_at_most() {
    let pair = Pair::start(96, "", "none");
    let alone = pair.start_alone();
    // The first time a phone registers is another matter.
    let (rate, is_whole) = rate();
    cost(&pair.sender, rate);
    cost(&alone, rate);
    let mut costs = Vec::new();
    for _ in 0..3 {
        costs.push([cost(&alone, rate), cost(&pair.sender, rate)]);
    }
    println!(
        "{rate} refreshes a second, of a node without a cluster and of one with a peer: {costs:?} each"
    );
    let ratio = |[alone, beside]: [Duration; 2]| beside.as_secs_f64() / alone.as_secs_f64();
    let mut ratios: Vec<f64> = costs.into_iter().map(ratio).collect();
    ratios.sort_by(f64::total_cmp);
    println!("the median of the ratios: {:.3}", ratios[1]);
    assert_eq!(pair.sender.count(), pair.receiver.count());
    let bound = if is_whole { 1.25 } else { 2.5 };
    assert!(ratios[1] <= bound, "{ratios:?}");
}

#[test]
fn what_changes_is_with_the_peer_within_a_tenth_of_a_second() {
    let pair = Pair::start(97, "", "none");
    wait_for("both know each other", Duration::from_secs(20), || {
        pair.sender.call("cluster.status")["active"] == 1
    });
    let (rate, is_whole) = rate();
    let load = refreshes(&pair.sender, rate);
    let mut phone = Phone::new();
    let (start, mut lags) = (Instant::now(), Vec::new());
    while start.elapsed() < Duration::from_secs(seconds()) {
        // Each time the CSeq is another.
        phone.register(
            pair.sender.sip(),
            "probe",
            "<sip:probe@10.1.2.3>;expires=600",
            "",
        );
        let registered = Instant::now();
        while pair.receiver.cseq("probe") != Some(phone.cseq()) {
            assert!(
                registered.elapsed() < Duration::from_secs(5),
                "it does not come"
            );
        }
        lags.push(registered.elapsed());
        std::thread::sleep(Duration::from_millis(5));
    }
    let result = load.finish();
    assert_answered(&result);
    lags.sort();
    let quantile = |q: f64| lags[((lags.len() - 1) as f64 * q) as usize];
    println!(
        "{} changes beside {rate} refreshes a second, from the 200 until the peer has it: median {:?}, q90 {:?}, q99 {:?}, max {:?}",
        lags.len(),
        quantile(0.5),
        quantile(0.9),
        quantile(0.99),
        quantile(1.0)
    );
    let within = |seconds: &str| {
        pair.sender.metric(&format!(
            "strowger_cluster_lag_seconds_bucket{{le=\"{seconds}\"}}"
        ))
    };
    let (soon, all) = (within("0.1"), within("+Inf"));
    println!("of {all} messages {soon} were acknowledged within 0.1 s of their oldest change");
    let most = if is_whole { 0.99 } else { 0.5 };
    assert!(
        quantile(most) <= Duration::from_millis(100),
        "{:?}",
        quantile(most)
    );
    assert!(
        soon as f64 >= all as f64 * most && all > 0,
        "{soon} of {all}"
    );
}

/// Phones that refresh in turn.
const PHONES: u64 = 20_000;
