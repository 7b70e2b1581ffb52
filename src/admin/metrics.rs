//! `/metrics`: the counters of all workers summed, and what else the server knows, in Prometheus' text format.
//!
//! The names are the contract of the design: added to, never renamed.

use std::fmt::{self, Write};
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, MetricEncoder, NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::State;
use super::memory::Report;
use super::process::Process;
use crate::counters::{ALL, Counter, Description};
use crate::latency::{Method, Summary};
use crate::replication::NodeReport;
use crate::time::Duration;

/// How the page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// OpenMetrics 1.0.
    Open,
    /// Prometheus' own, version 0.0.4.
    Text,
}

/// Renders everything as it is now.
pub(super) fn render(
    state: &Arc<State>,
    memory: Report,
    format: Format,
) -> Result<String, fmt::Error> {
    (state.refresh)();
    let mut registry = Registry::with_prefix("strowger");
    registry.register_collector(Box::new(Collected(Arc::clone(state), memory)));
    let mut page = String::with_capacity(PAGE_LEN);
    text::encode(&mut page, &registry)?;
    Ok(match format {
        Format::Open => page,
        Format::Text => name_counters_in_full(&page),
    })
}

/// OpenMetrics describes a counter by its family's name; in the older format it is described by the name of its samples,
/// and a scraper takes it for untyped otherwise.
fn name_counters_in_full(page: &str) -> String {
    let mut text = String::with_capacity(page.len() + PAGE_LEN / 8);
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        // The help of a family stands right before its type.
        let kind = lines.peek().copied().unwrap_or_default();
        let named = match line.strip_prefix("# HELP ") {
            Some(help) if kind.ends_with(" counter") => help.split_once(' '),
            _ => None,
        };
        if let Some((family, help)) = named {
            lines.next();
            let _ = write!(
                text,
                "# HELP {family}_total {help}\n# TYPE {family}_total counter\n"
            );
        } else if line != "# EOF" {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

#[derive(Debug)]
struct Collected(Arc<State>, Report);

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let state = &*self.0;
        for family in ALL.chunk_by(|(_, a), (_, b)| a.family == b.family) {
            encode_family(&mut encoder, state, family)?;
        }
        encode_latency(&mut encoder, state)?;
        encode_dns(&mut encoder, state)?;
        encode_cluster(&mut encoder, state)?;
        gauge(
            &mut encoder,
            "bindings",
            "contacts bound to an address of record",
            (state.bindings)(),
        )?;
        // Without a store nothing waits, and none is up: the names stand, for whoever asks for them.
        let store = state.store.as_ref().map(|store| store());
        gauge(
            &mut encoder,
            "store_up",
            "whether the store took the last batch; 0 without a store",
            u64::from(store.is_some_and(|store| store.up)),
        )?;
        gauge(
            &mut encoder,
            "store_backlog",
            "changes that wait for the store",
            store.map_or(0, |store| store.backlog),
        )?;
        encode_memory(&mut encoder, &self.1)?;
        encode_listeners(&mut encoder, state)?;
        encode_process(&mut encoder, state)
    }
}

/// One family of counters, each summed over the workers.
fn encode_family(
    encoder: &mut DescriptorEncoder<'_>,
    state: &State,
    family: &[(Counter, Description)],
) -> fmt::Result {
    let Some((_, head)) = family.first() else {
        return Ok(());
    };
    let kind = if head.is_gauge {
        MetricType::Gauge
    } else {
        MetricType::Counter
    };
    let mut metric = encoder.encode_descriptor(head.family, head.help, None, kind)?;
    for (counter, description) in family {
        let sum = state.sum(*counter);
        if description.label.0.is_empty() {
            encode_sum(&mut metric, description, sum)?;
        } else {
            encode_sum(
                &mut metric.encode_family(&[description.label])?,
                description,
                sum,
            )?;
        }
    }
    Ok(())
}

fn encode_sum(sample: &mut MetricEncoder<'_>, description: &Description, sum: u64) -> fmt::Result {
    if description.is_gauge {
        sample.encode_gauge(&sum)
    } else {
        sample.encode_counter::<NoLabelSet, _, u64>(&sum, None)
    }
}

fn encode_latency(encoder: &mut DescriptorEncoder<'_>, state: &State) -> fmt::Result {
    let help = "seconds from a message's arrival to its worker's being done with it, by method";
    let mut metric =
        encoder.encode_descriptor("latency_seconds", help, None, MetricType::Histogram)?;
    for method in Method::ALL {
        let summary = Summary::of(&state.latency, &[method]);
        let buckets = buckets(&summary);
        let label = [("method", method.as_str())];
        let mut sample = metric.encode_family(&label)?;
        sample.encode_histogram::<NoLabelSet>(summary.sum_s(), summary.count(), &buckets, None)?;
    }
    Ok(())
}

fn encode_dns(encoder: &mut DescriptorEncoder<'_>, state: &State) -> fmt::Result {
    let Some(histogram) = &state.dns else {
        return Ok(());
    };
    let summary = Summary::of_one(histogram);
    let help = "seconds from a question to the resolver until its answer";
    encoder
        .encode_descriptor("dns_answer_seconds", help, None, MetricType::Histogram)?
        .encode_histogram::<NoLabelSet>(summary.sum_s(), summary.count(), &buckets(&summary), None)
}

/// How far each other node is, and how soon it has what changed here.
fn encode_cluster(encoder: &mut DescriptorEncoder<'_>, state: &State) -> fmt::Result {
    let Some(cluster) = &state.cluster else {
        return Ok(());
    };
    let summary = Summary::of_one(&cluster.lag);
    let help = "seconds from a change until another node acknowledged the message with it, by its oldest change";
    encoder
        .encode_descriptor("cluster_lag_seconds", help, None, MetricType::Histogram)?
        .encode_histogram::<NoLabelSet>(
            summary.sum_s(),
            summary.count(),
            &buckets(&summary),
            None,
        )?;
    let nodes = (cluster.nodes)();
    let others: Vec<_> = nodes.iter().filter(|node| !node.is_local).collect();
    let figures: [(&str, &str, Figure); 5] = [
        (
            "cluster_node_lag_seconds",
            "age of the oldest change that the node has not acknowledged",
            |node| node.lag.as_micros() as f64 / 1e6,
        ),
        (
            "cluster_node_waiting",
            "contacts that wait for the node or its answer",
            |node| node.waiting as f64,
        ),
        (
            "cluster_node_window",
            "messages to the node that may be unanswered",
            |node| f64::from(node.window),
        ),
        (
            "cluster_node_acknowledged",
            "contacts that the node has acknowledged",
            |node| node.acknowledged as f64,
        ),
        (
            "cluster_node_sync_sent",
            "contacts sent so far in the full or partial send that is under way",
            |node| node.walking.unwrap_or(0) as f64,
        ),
    ];
    for (name, help, figure) in figures {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for node in &others {
            let label = [("node", node.address.to_string())];
            metric.encode_family(&label)?.encode_gauge(&figure(node))?;
        }
    }
    Ok(())
}

/// One figure of a node.
type Figure = fn(&NodeReport) -> f64;

/// How many took longer than one bound and not longer than the next.
fn buckets(summary: &Summary) -> Vec<(f64, u64)> {
    let mut within = 0;
    let mut buckets: Vec<(f64, u64)> = Vec::with_capacity(BOUNDS_US.len() + 1);
    for bound_us in BOUNDS_US {
        let count = summary.count_within(Duration::from_micros(bound_us));
        buckets.push((bound_us as f64 / 1e6, count - within));
        within = count;
    }
    buckets.push((f64::INFINITY, summary.count() - within));
    buckets
}

/// `build_info` and `listener_info` are gauges that stand at 1: the form that both versions of the format know.
fn encode_listeners(encoder: &mut DescriptorEncoder<'_>, state: &State) -> fmt::Result {
    let mut build = encoder.encode_descriptor(
        "build_info",
        "the version that runs",
        None,
        MetricType::Gauge,
    )?;
    build
        .encode_family(&[("version", env!("CARGO_PKG_VERSION"))])?
        .encode_gauge(&1_u64)?;
    let help = "the backend that each listener got";
    let mut info = encoder.encode_descriptor("listener_info", help, None, MetricType::Gauge)?;
    for listener in state.listeners() {
        let labels = [
            ("listener", listener.address.to_string()),
            ("backend", listener.backend.to_owned()),
            ("mode", listener.mode.unwrap_or_default().to_owned()),
            ("zero_copy", listener.zero_copy.to_string()),
            ("interface", listener.interface.clone().unwrap_or_default()),
            ("tcp", listener.tcp.to_string()),
        ];
        info.encode_family(&labels)?.encode_gauge(&1_u64)?;
    }
    Ok(())
}

fn encode_memory(encoder: &mut DescriptorEncoder<'_>, memory: &Report) -> fmt::Result {
    let help = "memory by what it is for; buffers, frames and store as they were set aside";
    let mut metric = encoder.encode_descriptor("memory_bytes", help, None, MetricType::Gauge)?;
    for (category, bytes) in memory.categories() {
        metric
            .encode_family(&[("category", category)])?
            .encode_gauge(&bytes)?;
    }
    Ok(())
}

fn encode_process(encoder: &mut DescriptorEncoder<'_>, state: &State) -> fmt::Result {
    let process = Process::read();
    gauge(
        encoder,
        "process_start_time_seconds",
        "when the server started, in seconds since 1970",
        state.started_unix_s,
    )?;
    if let Some(bytes) = process.resident {
        gauge(
            encoder,
            "process_resident_memory_bytes",
            "memory in RAM",
            bytes,
        )?;
    }
    if let Some(count) = process.descriptors {
        gauge(encoder, "process_open_fds", "open descriptors", count)?;
    }
    if let Some(count) = process.threads {
        gauge(encoder, "process_threads", "threads", count)?;
    }
    if let Some(cpu_s) = process.cpu_s {
        let help = "processor time taken, user and system";
        encoder
            .encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&cpu_s, None)?;
    }
    Ok(())
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: impl EncodeGaugeValue,
) -> fmt::Result {
    encoder
        .encode_descriptor(name, help, None, MetricType::Gauge)?
        .encode_gauge(&value)
}

/// The bounds of the histogram's buckets: from what a forwarded message takes to what a lost one costs.
const BOUNDS_US: [u64; 18] = [
    25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 10_000_000, 32_000_000,
];
/// What a page takes with a good deal to tell.
const PAGE_LEN: usize = 32 * 1_024;

#[cfg(test)]
mod tests {
    use super::super::{ListenerReport, StoreReport};
    use super::*;
    use crate::counters::Counters;
    use crate::latency::{Histogram, Latency};

    fn state() -> State {
        let counters = vec![Arc::new(Counters::new()), Arc::new(Counters::new())];
        counters[0].add(Counter::DropNotSip, 3);
        counters[1].add(Counter::DropNotSip, 4);
        counters[1].add(Counter::TransactionsLiveServer, 5);
        let latency = vec![Arc::new(Latency::new())];
        latency[0].record(Method::Invite, Duration::from_micros(40));
        latency[0].record(Method::Invite, Duration::from_secs(60));
        State::new(counters, latency, Box::new(|| 42))
    }

    fn page(state: State) -> String {
        render(&Arc::new(state), Report::default(), Format::Open).expect("a page")
    }

    #[test]
    fn counters_are_summed_over_the_workers() {
        let page = page(state());
        assert!(page.contains("# TYPE strowger_drops counter\n"), "{page}");
        assert!(
            page.contains("strowger_drops_total{reason=\"not_sip\"} 7\n"),
            "{page}"
        );
        assert!(
            page.contains("strowger_transactions_live{kind=\"server\"} 5\n"),
            "{page}"
        );
        assert!(page.contains("strowger_bindings 42\n"), "{page}");
        assert!(page.ends_with("# EOF\n"), "{page}");
    }

    #[test]
    fn every_counter_is_on_the_page_and_every_line_has_the_prefix() {
        let page = page(state());
        for (_, description) in ALL {
            assert!(
                page.contains(&format!("strowger_{}", description.family)),
                "{}",
                description.family
            );
        }
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            assert!(
                name.starts_with("strowger_") && value.parse::<f64>().is_ok(),
                "{line}"
            );
        }
    }

    #[test]
    fn the_histogram_is_cumulative() {
        let page = page(state());
        for line in [
            "strowger_latency_seconds_bucket{le=\"0.000025\",method=\"INVITE\"} 0",
            "strowger_latency_seconds_bucket{le=\"0.00005\",method=\"INVITE\"} 1",
            "strowger_latency_seconds_bucket{le=\"32.0\",method=\"INVITE\"} 1",
            "strowger_latency_seconds_bucket{le=\"+Inf\",method=\"INVITE\"} 2",
            "strowger_latency_seconds_count{method=\"INVITE\"} 2",
            "strowger_latency_seconds_sum{method=\"INVITE\"} 60.00004",
        ] {
            assert!(page.contains(line), "{line}\n{page}");
        }
    }

    #[test]
    fn the_older_format_describes_a_counter_by_its_full_name() {
        let page = render(&Arc::new(state()), Report::default(), Format::Text).expect("a page");
        for line in [
            "# HELP strowger_drops_total messages dropped without an answer, by reason\n\
             # TYPE strowger_drops_total counter\n\
             strowger_drops_total{reason=\"not_sip\"} 7\n",
            "# TYPE strowger_transactions_live gauge\n",
            "\nstrowger_timers_running 0\n",
            "# TYPE strowger_latency_seconds histogram\n",
        ] {
            assert!(page.contains(line), "{line}\n{page}");
        }
        assert!(!page.contains("# EOF") && !page.contains("{}"), "{page}");
    }

    #[test]
    fn the_store_has_its_names_with_and_without_one() {
        let without = page(state());
        assert!(without.contains("strowger_store_up 0\n"), "{without}");
        assert!(without.contains("strowger_store_backlog 0\n"), "{without}");
        let mut with_store = state();
        with_store.store = Some(Box::new(|| StoreReport {
            up: true,
            backlog: 9,
        }));
        let page = page(with_store);
        assert!(
            page.contains("strowger_store_up 1\n") && page.contains("strowger_store_backlog 9\n"),
            "{page}"
        );
    }

    #[test]
    fn the_resolvers_answers_have_a_histogram_where_there_is_a_resolver() {
        assert!(!page(state()).contains("dns_answer_seconds"));
        let mut state = state();
        let histogram = Arc::new(Histogram::new());
        histogram.record(Duration::from_millis(3));
        state.dns = Some(histogram);
        let page = page(state);
        for line in [
            "strowger_dns_answer_seconds_bucket{le=\"0.0025\"} 0",
            "strowger_dns_answer_seconds_bucket{le=\"0.005\"} 1",
            "strowger_dns_answer_seconds_count 1",
        ] {
            assert!(page.contains(line), "{line}\n{page}");
        }
    }

    #[test]
    fn a_listener_says_what_it_got() {
        let state = state();
        let report = ListenerReport {
            address: "192.0.2.1:5060".parse().expect("an address"),
            backend: "af_xdp",
            mode: Some("driver"),
            zero_copy: false,
            interface: Some("eth0".to_owned()),
            queues: vec![0, 1],
            tcp: true,
            reason: None,
        };
        state.listeners.set(vec![report]).expect("set once");
        let line = "strowger_listener_info{listener=\"192.0.2.1:5060\",backend=\"af_xdp\",mode=\"driver\",zero_copy=\"false\",interface=\"eth0\",tcp=\"true\"} 1\n";
        let page = page(state);
        assert!(page.contains(line), "{page}");
    }
}
