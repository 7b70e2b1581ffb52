//! `strowger doctor --root`: a made-up host, once as it comes and once tuned; what is unknown is never good.

use std::fs;
use std::process::Output;

use serde_json::Value;

use crate::{Folder, stdout, strowger};

/// A host of eight processors with one device, whose files say `tuned` or not; the workers are to be on 2 and 3.
fn host(tuned: bool) -> Folder {
    let folder = Folder::new();
    put(&folder, &kernel(tuned));
    put(&folder, &processors(tuned));
    put(&folder, &device(tuned));
    let settings = include_str!("../../tuning/90-strowger.conf").lines();
    let settings = settings.filter(|line| !line.starts_with('#'));
    for (key, value) in settings.filter_map(|line| line.split_once(" = ")) {
        let file = format!("proc/sys/{}", key.replace('.', "/"));
        let bad = if key.ends_with("jit_enable") {
            "0"
        } else {
            "7"
        };
        put(&folder, &[(&file, if tuned { value } else { bad })]);
    }
    let driver = folder.0.join("root/sys/class/net/eth0/device/driver");
    fs::create_dir_all(driver.parent().expect("it lies in a folder")).expect("our own folder");
    std::os::unix::fs::symlink("../drivers/ice", driver).expect("our own folder");
    folder.write(
        "strowger.toml",
        "[[listen]]\naddress = \"192.0.2.1:5060\"\ninterface = \"eth0\"\n[workers]\ncpus = [2, 3]\n[store]\nurl = \"none\"\n",
    );
    folder
}

fn put(folder: &Folder, files: &[(&str, &str)]) {
    for (file, text) in files {
        let path = folder.0.join("root").join(file);
        fs::create_dir_all(path.parent().expect("it lies in a folder")).expect("our own folder");
        fs::write(path, text).expect("our own folder");
    }
}

type Files = Vec<(&'static str, &'static str)>;

fn kernel(tuned: bool) -> Files {
    let or = |good, bad| if tuned { good } else { bad };
    vec![
        (
            "proc/sys/kernel/osrelease",
            or("6.12.9-amd64\n", "6.1.0-18-amd64\n"),
        ),
        ("proc/sys/kernel/unprivileged_bpf_disabled", "2\n"),
        (
            "proc/net/protocols",
            "protocol  size sockets\nXDP        896      0\n",
        ),
        (
            "proc/self/status",
            "CapEff:\t000001ffffffffff\nCpus_allowed_list:\t0-7\n",
        ),
        ("proc/self/uid_map", "0 0 4294967295\n"),
        (
            "proc/self/limits",
            "Max locked memory  8388608  8388608  bytes\nMax open files  1048576  1048576  files\n",
        ),
        ("proc/self/timerslack_ns", or("50000\n", "1000000\n")),
        (
            "proc/meminfo",
            or(
                "HugePages_Total: 32\nHugePages_Free: 32\nHugepagesize: 2048 kB\n",
                "HugePages_Total: 0\nHugePages_Free: 0\nHugepagesize: 2048 kB\n",
            ),
        ),
        (
            "proc/cmdline",
            or(
                "quiet isolcpus=domain,managed_irq,2-3 nohz_full=2-3 rcu_nocbs=2-3\n",
                "quiet\n",
            ),
        ),
        ("proc/1/comm", "systemd\n"),
        ("proc/812/comm", or("sshd\n", "irqbalance\n")),
        (
            "sys/kernel/mm/transparent_hugepage/enabled",
            or("always [madvise] never\n", "[always] madvise never\n"),
        ),
        (
            "sys/kernel/mm/transparent_hugepage/defrag",
            or(
                "always defer [madvise] never\n",
                "[always] defer madvise never\n",
            ),
        ),
    ]
}

fn processors(tuned: bool) -> Files {
    let or = |good, bad| if tuned { good } else { bad };
    vec![
        ("sys/devices/system/cpu/isolated", or("2-3\n", "\n")),
        ("sys/devices/system/cpu/nohz_full", or("2-3\n", "(null)\n")),
        ("sys/devices/system/node/online", "0\n"),
        (
            "sys/devices/system/cpu/cpu2/cpufreq/scaling_governor",
            or("performance\n", "powersave\n"),
        ),
        (
            "sys/devices/system/cpu/cpu3/cpufreq/scaling_governor",
            or("performance\n", "powersave\n"),
        ),
        ("sys/devices/system/cpu/cpu2/cpuidle/state2/name", "C6\n"),
        (
            "sys/devices/system/cpu/cpu2/cpuidle/state2/latency",
            "133\n",
        ),
        (
            "sys/devices/system/cpu/cpu2/cpuidle/state2/disable",
            or("1\n", "0\n"),
        ),
        (
            "sys/devices/system/cpu/cpu3/cpuidle/state2/latency",
            "133\n",
        ),
        (
            "sys/devices/system/cpu/cpu3/cpuidle/state2/disable",
            or("1\n", "0\n"),
        ),
    ]
}

fn device(tuned: bool) -> Files {
    let or = |good, bad| if tuned { good } else { bad };
    vec![
        (
            "proc/interrupts",
            " 45: 1 PCI-MSI 1-edge ice-eth0-TxRx-0\n 46: 1 PCI-MSI 2-edge ice-eth0-TxRx-1\n",
        ),
        ("proc/irq/45/smp_affinity_list", or("2\n", "0-7\n")),
        ("proc/irq/46/smp_affinity_list", or("3\n", "0-7\n")),
        ("sys/class/net/eth0/flags", "0x1003\n"),
        ("sys/class/net/eth0/mtu", or("1500\n", "9000\n")),
        ("sys/class/net/eth0/threaded", or("0\n", "1\n")),
        ("sys/class/net/eth0/napi_defer_hard_irqs", or("0\n", "2\n")),
        (
            "sys/class/net/eth0/gro_flush_timeout",
            or("0\n", "200000\n"),
        ),
        ("sys/class/net/eth0/queues/rx-0/rps_cpus", "0\n"),
        ("sys/class/net/eth0/queues/rx-1/rps_cpus", "0\n"),
        ("sys/class/net/eth0/queues/tx-0/xps_cpus", "0\n"),
        ("sys/class/net/eth0/queues/tx-1/xps_cpus", "0\n"),
    ]
}

fn doctor(folder: &Folder, more: &[&str]) -> Output {
    let arguments = ["doctor", "--root", "root", "--config", "strowger.toml"];
    strowger(&folder.0, &[&arguments, more].concat())
}

/// The subjects of a level, of the host and of its device.
fn subjects(folder: &Folder, level: &str) -> Vec<String> {
    let output = doctor(folder, &["--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let of = |findings: &Value| findings.as_array().cloned().unwrap_or_default();
    let all = of(&report["host"])
        .into_iter()
        .chain(of(&report["devices"][0]["findings"]));
    let found = all.filter(|finding| finding["level"] == level);
    let mut found: Vec<String> = found
        .map(|finding| finding["subject"].as_str().unwrap_or_default().to_owned())
        .collect();
    found.sort();
    found.dedup();
    found
}

/// What only a running kernel tells.
const OF_THE_DRIVER: [&str; 8] = [
    "coalescing",
    "flow rules",
    "offloads",
    "rings",
    "rss key",
    "rss table",
    "rss udp4",
    "rss udp6",
];

#[test]
fn a_tuned_host_has_nothing_to_mend_and_what_its_files_do_not_tell_is_unknown() {
    let folder = host(true);
    assert_eq!(subjects(&folder, "warn"), Vec::<String>::new());
    assert_eq!(subjects(&folder, "fail"), Vec::<String>::new());
    assert_eq!(subjects(&folder, "unknown"), OF_THE_DRIVER);
    assert_eq!(doctor(&folder, &["--strict"]).status.code(), Some(0));
    let script = stdout(&doctor(&folder, &["--fix-script"]));
    assert!(
        script.contains("Nothing was found that is to be mended"),
        "{script}"
    );
}

#[test]
fn a_host_as_it_comes_is_told_each_thing_with_its_cost_and_its_line() {
    let folder = host(false);
    let wrong = [
        "bpf jit",
        "busy poll",
        "features",
        "governor",
        "hugepages",
        "idle states",
        "interrupts",
        "irqbalance",
        "isolation",
        "mtu",
        "napi",
        "rcu",
        "sysctl",
        "thp",
        "ticks",
        "timer slack",
    ];
    assert_eq!(subjects(&folder, "warn"), wrong);
    assert_eq!(
        doctor(&folder, &[]).status.code(),
        Some(0),
        "it serves all the same"
    );
    assert_eq!(doctor(&folder, &["--strict"]).status.code(), Some(1));
    let text = stdout(&doctor(&folder, &[]));
    for line in [
        "-> echo performance > /sys/devices/system/cpu/cpu2/cpufreq/scaling_governor",
        "-> echo 1 > /sys/devices/system/cpu/cpu2/cpuidle/state2/disable",
        "-> sysctl -w vm.nr_hugepages=32",
        "-> echo 2 > /proc/irq/45/smp_affinity_list; echo 3 > /proc/irq/46/smp_affinity_list",
        "-> systemctl disable --now irqbalance",
        "isolcpus=domain,managed_irq,2-3",
        "nohz_full=2-3",
        "rcu_nocbs=2-3",
        "-> sysctl -w net.core.rmem_max=16777216",
        "-> echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        "-> echo 0 > /sys/class/net/eth0/threaded",
        "-> ip link set dev eth0 mtu 1500",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(text.matches("costs: ").count() >= wrong.len(), "{text}");
}

#[test]
fn the_script_is_one_that_a_shell_takes_and_shows_before_it_does() {
    let folder = host(false);
    let output = doctor(&folder, &["--fix-script"]);
    assert_eq!(output.status.code(), Some(0));
    folder.write("fix.sh", &stdout(&output));
    let mut shell = std::process::Command::new("sh");
    shell.current_dir(&folder.0).args(["fix.sh", "--dry-run"]);
    shell.env("STROWGER_UNDO", folder.0.join("undo"));
    let shown = shell.output().expect("a shell");
    let text = stdout(&shown);
    // Processors and interrupts of the made-up host are not this one's: they are named as what is not here, and nothing was written.
    assert!(
        text.contains("later     (--boot) on the kernel's command line: nohz_full=2-3"),
        "{text}"
    );
    assert!(
        text.contains("would     systemctl disable --now irqbalance"),
        "{text}"
    );
    assert!(!folder.0.join("undo").exists());
}

#[test]
fn an_empty_host_is_unknown_and_not_good() {
    let folder = Folder::new();
    fs::create_dir(folder.0.join("root")).expect("our own folder");
    let output = strowger(
        &folder.0,
        &["doctor", "--root", "root", "--interface", "eth0"],
    );
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    assert!(text.contains("there is no device eth0"), "{text}");
    assert!(
        !text
            .lines()
            .any(|line| line.trim_start().starts_with("ok ")),
        "{text}"
    );
}

#[test]
fn the_script_for_cores_mends_what_the_doctor_minds_and_takes_it_back() {
    let folder = host(false);
    put(
        &folder,
        &[
            ("sys/devices/system/cpu/online", "0-7\n"),
            ("sys/devices/virtual/workqueue/cpumask", "ff\n"),
        ],
    );
    let cores = |arguments: &[&str]| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tuning/cores.sh");
        let mut shell = std::process::Command::new("bash");
        shell.current_dir(&folder.0).arg(script).args(arguments);
        shell.env("STROWGER_ROOT", folder.0.join("root"));
        let output = shell.output().expect("bash");
        assert!(output.status.success(), "{output:?}");
        stdout(&output)
    };
    let at_first = subjects(&folder, "warn");
    let mended = ["governor", "idle states", "thp"];
    let told = cores(&["--cpus", "2,3", "--save", "kept"]);
    let others = "echo f3 > /sys/devices/virtual/workqueue/cpumask";
    assert!(told.contains(others), "{told}");
    let left: Vec<String> = at_first
        .iter()
        .filter(|subject| !mended.contains(&subject.as_str()))
        .cloned()
        .collect();
    assert_eq!(subjects(&folder, "warn"), left, "{told}");
    let again = cores(&["--cpus", "2,3", "--save", "kept"]);
    assert!(!again.contains("done      full clock"), "{again}");
    cores(&["--undo", "kept"]);
    // The kernel would put its brackets around the word again.
    let thp = folder
        .0
        .join("root/sys/kernel/mm/transparent_hugepage/enabled");
    assert_eq!(fs::read_to_string(thp).expect("our own folder"), "always\n");
    let back: Vec<String> = at_first
        .into_iter()
        .filter(|subject| subject != "thp")
        .collect();
    assert_eq!(subjects(&folder, "warn"), back);
}
