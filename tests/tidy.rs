//! The house rules that a machine can hold: layers, purity of the core, where `unsafe` may stand, sizes and names.
//!
//! Each rule is a function from a file to what is wrong with it, and each has a test that shows it failing: a check that
//! cannot fail is worth nothing. `docs/architecture.md` says why the rules are what they are.

use std::fs;
use std::path::Path;

mod tidy {
    pub(crate) mod source;
}

use tidy::source::{self, Source, without_comments_and_strings};

/// The layer of a top module; an arrow points only to a lower one. Nothing: nobody has given it a layer yet.
fn rank(module: &str) -> Option<u8> {
    match module {
        "limits" | "time" | "datagram" | "counters" | "scan" | "base32" | "keyed_hash"
        | "prefetch" | "secret" | "shared_secret" | "config" | "latency" => Some(0),
        "sip" | "wire" | "timer" | "flow_token" => Some(1),
        "transaction" | "location" | "auth" => Some(2),
        "proxy" | "replication" => Some(3),
        "net" | "admin" | "resolve" | "store" => Some(4),
        // It speaks by the net, to whom the resolver finds.
        "peer" => Some(5),
        "worker" | "doctor" | "ctl" | "load" => Some(6),
        "lib" | "main" => Some(7),
        _ => None,
    }
}

/// Whether the file is of the core, which is pure.
fn is_core(source: &Source) -> bool {
    matches!(rank(source.module()), Some(1..=3))
}

/// Files that may hold `unsafe`: rings, sockets and system calls, each a kernel noun; two of the processor's; and an option of the allocator.
const UNSAFE_FILES: &[&str] = &[
    "src/net/ethtool.rs",
    "src/net/poll.rs",
    "src/net/slice.rs",
    "src/net/udp/errors.rs",
    "src/net/udp/receiver.rs",
    "src/net/udp/socket.rs",
    "src/net/udp/transmitter.rs",
    "src/net/xdp/program.rs",
    "src/net/xdp/rx.rs",
    "src/net/xdp/socket.rs",
    "src/net/xdp/tx.rs",
    "src/net/xdp/umem.rs",
    "src/prefetch.rs",
    "src/scan/lanes.rs",
    "src/worker/memory.rs",
];

/// Lines that a file may have before its tests.
const FILE_LINES_MAX: usize = 600;

// --- the rules ---------------------------------------------------------------------------------------------------

/// An arrow points only downward: a module uses itself and those of lower layers; leaves may use leaves.
fn layers(source: &Source) -> Vec<String> {
    let module = source.module();
    if source.path.starts_with("tests/") {
        return Vec::new();
    }
    let Some(own) = rank(module) else {
        return vec![format!(
            "{}: the module {module} has no layer; give it one in tests/tidy.rs",
            source.path
        )];
    };
    let arrows = source.uses().into_iter().filter_map(|(offset, used)| {
        let below = rank(&used)?;
        let is_allowed = used == module || below < own || (below == 0 && own == 0);
        (!is_allowed).then(|| {
            source.complain(
                offset,
                &format!("{module} uses {used}: the arrow points back"),
            )
        })
    });
    arrows.collect()
}

/// The core reads no clock, starts no thread, opens nothing, draws no lots, and iterates over nothing whose order is random.
fn purity(source: &Source) -> Vec<String> {
    if !is_core(source) || source.is_tests() {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    for (word, why) in IMPURE {
        let is_locks_home = source.module() == "location" && *why == A_LOCK;
        if !is_locks_home {
            complaints.extend(
                source::places(&source.code, word)
                    .map(|at| source.complain(at, &format!("{why} in the core: {word}"))),
            );
        }
    }
    // The one lock that the core knows guards a shard of the location, and it is parking_lot's.
    if source.module() == "location" {
        complaints.extend(
            source::places(&source.code, "std::sync::Mutex")
                .map(|at| source.complain(at, "the shards' locks are parking_lot's")),
        );
    }
    complaints
}

const IMPURE: &[(&str, &str)] = &[
    ("SystemTime", "a clock"),
    ("Instant::now", "a clock"),
    ("std::time", "a clock"),
    ("std::thread", "a thread"),
    ("thread::spawn", "a thread"),
    ("Mutex", A_LOCK),
    ("RwLock", A_LOCK),
    ("Condvar", A_LOCK),
    ("parking_lot", A_LOCK),
    ("HashMap", "an order that changes from run to run"),
    ("HashSet", "an order that changes from run to run"),
    ("RandomState", "hidden randomness"),
    ("getrandom", "hidden randomness"),
    ("UdpSocket", "a socket"),
    ("TcpStream", "a socket"),
    ("std::fs", "a file"),
    ("std::env", "the environment"),
];
const A_LOCK: &str = "a lock";

/// `unsafe` stands only in the files of the list, and each core folder forbids it at its head.
fn fences(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    if source.path.starts_with("src/") && !UNSAFE_FILES.contains(&source.path.as_str()) {
        complaints.extend(
            source::places(&source.code, "unsafe")
                .map(|at| source.complain(at, "unsafe outside the list of tests/tidy.rs")),
        );
    }
    let is_head =
        source.depth() == 1 && source.path != "src/lib.rs" && source.path != "src/main.rs";
    if is_core(source) && is_head && !source.code.contains("#![forbid(unsafe_code)]") {
        complaints.push(format!(
            "{}: a core module forbids unsafe_code at its head",
            source.path
        ));
    }
    complaints
}

/// No `.unwrap()` in the core: what comes from the network takes the other branch.
fn unwraps(source: &Source) -> Vec<String> {
    if !is_core(source) || source.is_tests() {
        return Vec::new();
    }
    let found = source.code.match_indices(".unwrap()");
    found
        .map(|(at, _)| source.complain(at, "unwrap() in the core"))
        .collect()
}

/// A file is one noun: at most [`FILE_LINES_MAX`] lines before its tests.
fn sizes(source: &Source) -> Vec<String> {
    let lines = source.code.lines().count();
    if source.is_tests() || lines <= FILE_LINES_MAX {
        return Vec::new();
    }
    vec![format!(
        "{}: {lines} lines before its tests, more than {FILE_LINES_MAX}: two nouns in one room",
        source.path
    )]
}

/// Nothing is left for later, and no lint is silenced without a reason that is checked.
fn leftovers(source: &Source) -> Vec<String> {
    let in_text = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
    ];
    let in_code = [
        concat!("to", "do!"),
        concat!("unimple", "mented!"),
        concat!("#[al", "low"),
        concat!("#![al", "low"),
    ];
    let mut complaints = Vec::new();
    for word in in_text {
        complaints.extend(source::places(&source.text, word).map(|at| {
            let line = source.text[..at].matches('\n').count() + 1;
            format!(
                "{}:{line}: {word}: it is done, or it is an issue",
                source.path
            )
        }));
    }
    let code = without_comments_and_strings(&source.text);
    for word in in_code {
        complaints.extend(code.match_indices(word).map(|(at, _)| {
            let line = code[..at].matches('\n').count() + 1;
            format!("{}:{line}: {word}", source.path)
        }));
    }
    complaints
}

/// A file and a folder are named for what is in them, and an accessor for what it gives.
fn names(source: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    for part in source.path.trim_end_matches(".rs").split('/') {
        if [
            "util", "utils", "common", "helper", "helpers", "types", "misc",
        ]
        .contains(&part)
        {
            complaints.push(format!("{}: {part} is no noun of the field", source.path));
        }
    }
    for (at, _) in source.code.match_indices("fn get_") {
        complaints
            .push(source.complain(at, "an accessor bears the name of the thing, without get_"));
    }
    complaints
}

fn check(rule: fn(&Source) -> Vec<String>, is_of_concern: fn(&Source) -> bool) {
    let sources = source::all();
    assert!(sources.len() > 10, "the sources were found");
    let complaints: Vec<String> = sources
        .iter()
        .filter(|source| is_of_concern(source))
        .flat_map(rule)
        .collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

fn in_src(source: &Source) -> bool {
    source.path.starts_with("src/")
}

// --- the rules hold ----------------------------------------------------------------------------------------------

#[test]
fn arrows_point_downward() {
    check(layers, in_src);
}

#[test]
fn the_core_is_pure() {
    check(purity, in_src);
}

#[test]
fn unsafe_stands_behind_its_fences() {
    check(fences, in_src);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in UNSAFE_FILES {
        let text = fs::read_to_string(root.join(file)).unwrap_or_default();
        let code = without_comments_and_strings(&text);
        assert!(
            source::places(&code, "unsafe").next().is_some(),
            "{file} stands on the list and needs it no more"
        );
    }
}

#[test]
fn the_core_does_not_unwrap() {
    check(unwraps, in_src);
}

#[test]
fn no_file_is_two_nouns() {
    check(sizes, in_src);
}

#[test]
fn nothing_is_left_for_later() {
    check(leftovers, |_| true);
}

#[test]
fn things_bear_the_names_of_their_field() {
    check(names, |_| true);
}

// --- the rules can fail ------------------------------------------------------------------------------------------

fn complaints(rule: fn(&Source) -> Vec<String>, path: &str, text: &str) -> usize {
    rule(&Source::new(path, text)).len()
}

#[test]
fn an_arrow_that_points_back_is_seen() {
    assert_eq!(
        complaints(layers, "src/sip/via.rs", "use crate::proxy::Proxy;\n"),
        1
    );
    assert_eq!(
        complaints(
            layers,
            "src/sip/via.rs",
            "use super::super::transaction::Table;\n"
        ),
        1
    );
    assert_eq!(
        complaints(layers, "src/timer.rs", "use super::location::Location;\n"),
        1
    );
    assert_eq!(
        complaints(
            layers,
            "src/location/mod.rs",
            "use crate::{limits::T1, transaction::{Table, Id}, time};\n"
        ),
        1
    );
    assert_eq!(
        complaints(
            layers,
            "src/wire/udp.rs",
            "fn f() { crate::sip::parse() }\n"
        ),
        1
    );
    assert_eq!(
        complaints(layers, "src/net/mod.rs", "use crate::worker::Worker;\n"),
        1
    );
    assert_eq!(
        complaints(layers, "src/limits.rs", "use crate::timer::Wheel;\n"),
        1
    );
    assert_eq!(complaints(layers, "src/novelty/mod.rs", ""), 1);
    let allowed = "use crate::{sip::{Message, Via}, location::Location};\nuse super::route;\nuse crate::proxy::token; // crate::worker\n";
    assert_eq!(complaints(layers, "src/proxy/relay.rs", allowed), 0);
    assert_eq!(
        complaints(layers, "src/datagram.rs", "use crate::time::Instant;\n"),
        0
    );
}

#[test]
fn an_impure_core_is_seen() {
    for impure in [
        "use std::time::Instant;",
        "let now = SystemTime::now();",
        "std::thread::sleep(x);",
        "use parking_lot::Mutex;",
        "for (k, v) in HashMap::new() {}",
        "use std::collections::HashSet;",
        "use std::net::UdpSocket;",
    ] {
        assert!(
            complaints(purity, "src/transaction/table.rs", impure) > 0,
            "{impure}"
        );
        assert_eq!(
            complaints(purity, "src/worker/run.rs", impure),
            0,
            "{impure}"
        );
    }
    assert_eq!(
        complaints(purity, "src/location/mod.rs", "use parking_lot::Mutex;"),
        0
    );
    assert_eq!(
        complaints(purity, "src/location/mod.rs", "use std::sync::Mutex;"),
        1
    );
    assert_eq!(
        complaints(
            purity,
            "src/proxy/mod.rs",
            "use crate::time::Instant; // not std::time\nlet s = \"Mutex\";"
        ),
        0
    );
    assert_eq!(
        complaints(
            purity,
            "src/proxy/mod.rs",
            "#[cfg(test)]\nmod tests { use std::collections::HashMap; }"
        ),
        0
    );
}

#[test]
fn a_broken_fence_is_seen() {
    assert_eq!(
        complaints(fences, "src/admin/mod.rs", "fn f() { unsafe { g() } }"),
        1
    );
    assert_eq!(
        complaints(fences, "src/net/poll.rs", "fn f() { unsafe { g() } }"),
        0
    );
    assert_eq!(
        complaints(
            fences,
            "src/admin/mod.rs",
            "// unsafe\nlet s = \"unsafe\"; #[deny(unsafe_code)]"
        ),
        0
    );
    assert_eq!(
        complaints(fences, "src/proxy/mod.rs", "//! The proxy.\n"),
        1
    );
    assert_eq!(
        complaints(fences, "src/proxy/mod.rs", "#![forbid(unsafe_code)]\n"),
        0
    );
}

#[test]
fn an_unwrap_in_the_core_is_seen() {
    assert_eq!(
        complaints(unwraps, "src/sip/via.rs", "let via = parse(x).unwrap();"),
        1
    );
    assert_eq!(
        complaints(
            unwraps,
            "src/sip/via.rs",
            "let via = parse(x).unwrap_or(y);\n#[cfg(test)]\nmod tests { x.unwrap() }"
        ),
        0
    );
    let declared_above = "#[cfg(test)]\nmod tests;\nfn f() { x.unwrap() }\nmod m { }";
    assert_eq!(complaints(unwraps, "src/sip/mod.rs", declared_above), 1);
    assert_eq!(complaints(unwraps, "src/worker/run.rs", "x.unwrap();"), 0);
}

#[test]
fn a_file_that_grew_too_long_is_seen() {
    assert_eq!(
        complaints(sizes, "src/sip/via.rs", &"fn f() {}\n".repeat(601)),
        1
    );
    assert_eq!(
        complaints(sizes, "src/sip/via.rs", &"fn f() {}\n".repeat(600)),
        0
    );
    let with_tests = format!(
        "{}#[cfg(test)]\nmod tests {{\n{}}}",
        "x\n".repeat(500),
        "y\n".repeat(500)
    );
    assert_eq!(complaints(sizes, "src/sip/via.rs", &with_tests), 0);
}

#[test]
fn what_is_left_for_later_is_seen() {
    assert_eq!(
        complaints(
            leftovers,
            "src/sip/via.rs",
            concat!("// TO", "DO: the rest\n")
        ),
        1
    );
    assert_eq!(
        complaints(
            leftovers,
            "src/sip/via.rs",
            concat!("fn f() { to", "do!() }\n")
        ),
        1
    );
    assert_eq!(
        complaints(
            leftovers,
            "src/sip/via.rs",
            concat!("#[al", "low(dead_code)]\nfn f() {}\n")
        ),
        1
    );
    assert_eq!(
        complaints(
            leftovers,
            "src/sip/via.rs",
            "#[expect(dead_code, reason = \"r\")]\nfn allowed() {}\n"
        ),
        0
    );
}

#[test]
fn a_name_that_says_nothing_is_seen() {
    assert_eq!(complaints(names, "src/util/bytes.rs", ""), 1);
    assert_eq!(complaints(names, "src/sip/helpers.rs", ""), 1);
    assert_eq!(complaints(names, "src/sip/via.rs", "fn get_branch() {}"), 1);
    assert_eq!(complaints(names, "src/sip/via.rs", "fn branch() {}"), 0);
}

#[test]
fn comments_and_strings_are_not_code() {
    let text =
        "a /* b /* c */ d */ e // f\n\"g \\\" h\" i r#\"j \" k\"# 'l' '\\'' 'm: &'n str b\"o\" 'p'";
    let code = without_comments_and_strings(text);
    assert_eq!(
        code.split_whitespace().collect::<Vec<_>>(),
        ["a", "e", "i", "'m:", "&'n", "str", "b"]
    );
    assert_eq!(code.matches('\n').count(), 1);
    assert_eq!(code.chars().count(), text.chars().count());
}
