//! The doctor's script on a device that stands badly: the problems are shown, the script mends them, and takes back what it did.

use std::collections::BTreeSet;
use std::process::Output;

use serde_json::Value;

use super::namespace::Namespace;
use super::scratch::Scratch;
use super::server::binary;

const DEVICE: &str = "veth0";

#[test]
fn the_script_mends_what_was_found_and_takes_it_back() {
    let (namespace, scratch) = (badly_set_up(), Scratch::new());
    let at_first = amiss(&namespace);
    for problem in PROBLEMS {
        assert!(
            at_first.iter().any(|found| found.contains(problem)),
            "{problem}\n{at_first:#?}"
        );
    }
    let script = doctor(&namespace, &["--fix-script"]);
    let script = scratch.write("fix.sh", &String::from_utf8_lossy(&script.stdout));
    let kept = scratch.path().join("undo");
    let run = |arguments: &[&str]| {
        let mut command = namespace.command("sh");
        command
            .arg(&script)
            .args(arguments)
            .env("STROWGER_UNDO", &kept);
        command.output().expect("a shell")
    };

    let output = run(&["--dry-run"]);
    assert!(output.status.success(), "{output:?}");
    assert!(
        text(&output).contains("would     ethtool -L veth0 rx 2"),
        "{}",
        text(&output)
    );
    assert_eq!(amiss(&namespace), at_first, "a dry run changes nothing");

    // 1: a namespace lets some settings of the host be read alone, and the script says which.
    let output = run(&[]);
    assert!(
        matches!(output.status.code(), Some(0 | 1)),
        "{}",
        text(&output)
    );
    let afterwards = amiss(&namespace);
    for problem in PROBLEMS {
        assert!(
            !afterwards.iter().any(|found| found.contains(problem)),
            "{problem}\n{afterwards:#?}"
        );
    }

    // 1: a namespace lets some settings of the host be read alone, and the script says which.
    let output = run(&[]);
    assert!(
        matches!(output.status.code(), Some(0 | 1)),
        "{}",
        text(&output)
    );
    assert!(
        !text(&output).contains("done      sysctl"),
        "a second run changes nothing\n{}",
        text(&output)
    );
    assert_eq!(amiss(&namespace), afterwards);

    let output = run(&["--undo"]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(amiss(&namespace), at_first, "all is as it was");
    assert!(!kept.exists());
}

/// What is wrong with the device and its namespace, as the findings begin.
const PROBLEMS: [&str; 7] = [
    "link: down",
    "queues: 1 receive",
    "mtu: 9000",
    "offloads: VLAN tags",
    "busy poll: interrupts put off 2 times",
    "sysctl: net.core.somaxconn = 128",
    "sysctl: net.ipv4.ipfrag_time = 30",
];

/// A device that is down, with one queue of two, jumbo frames, and interrupts put off for a worker that does not poll.
fn badly_set_up() -> Namespace {
    let namespace = Namespace::new();
    namespace.ip(&format!(
        "link add {DEVICE} numrxqueues 2 numtxqueues 2 type veth peer name phone0 numrxqueues 2 numtxqueues 2"
    ));
    namespace.ip(&format!("link set {DEVICE} mtu 9000"));
    for line in [
        format!("ethtool -L {DEVICE} rx 1"),
        format!("echo 2 > /sys/class/net/{DEVICE}/napi_defer_hard_irqs"),
        format!("echo 200000 > /sys/class/net/{DEVICE}/gro_flush_timeout"),
    ] {
        let output = namespace.command("sh").args(["-c", &line]).output();
        let output = output.expect("a shell");
        assert!(output.status.success(), "{line}: {output:?}");
    }
    namespace.sysctl("net.core.somaxconn", "128");
    namespace.sysctl("net.ipv4.ipfrag_time", "30");
    namespace
}

/// The device, and what of the host belongs to the namespace, that could be better: what the host has beside is not this test's.
fn amiss(namespace: &Namespace) -> BTreeSet<String> {
    let output = doctor(namespace, &["--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let device = report["devices"][0]["findings"].as_array().cloned();
    let settings = report["host"].as_array().cloned().unwrap_or_default();
    let settings = settings.into_iter().filter(|finding| {
        let text = finding["text"].as_str().unwrap_or_default();
        finding["subject"] == "sysctl" && text.starts_with("net.")
    });
    let all = device.unwrap_or_default().into_iter().chain(settings);
    let found = all
        .filter(|finding| finding["level"] == "warn")
        .map(|finding| {
            assert!(
                finding["cost"].is_string() && finding["cure"].is_string(),
                "{finding}"
            );
            let word = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
            format!("{}: {}", word("subject"), word("text"))
        });
    found.collect()
}

fn doctor(namespace: &Namespace, arguments: &[&str]) -> Output {
    let mut command = namespace.command(&binary());
    command
        .args(["doctor", "--interface", DEVICE])
        .args(arguments);
    command.output().expect("the binary that cargo built")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
