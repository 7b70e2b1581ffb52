//! What the core costs without I/O: `proxy::Proxy` with an exit into memory, real messages, 100,000 phones registered.
//!
//! `cargo bench --bench proxy_core` prints one table: for each scenario the time and the instructions of one operation. An operation is a
//! REGISTER refresh, an OPTIONS, or a whole call of 6 messages in and 7 out. Only the core's own calls are timed, a batch at a time; what
//! the phones do in between is not. Instructions are those of callgrind, by which each scenario is run once more, with fewer phones; without
//! valgrind that column is empty. `-- SCENARIO` runs one alone, `-- --raw SCENARIO PHONES OPERATIONS` without callgrind or a table, as a
//! profiler or an instruction gate wants it.

mod bed;
mod call;
mod crowd;
mod message;
mod overload;
mod phone;

use std::process::{Command, ExitCode};

use self::bed::Measured;

/// The server's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many phones are registered.
const PHONES: u32 = 100_000;
/// As many are enough to count instructions, which no cache changes.
const PHONES_COUNTED: u32 = 5_000;

/// One kind of operation.
struct Scenario {
    name: &'static str,
    /// What an operation is.
    is: &'static str,
    run: fn(phones: u32, operations: u32) -> Measured,
    /// Operations that are timed, and those that are counted.
    operations: (u32, u32),
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "register",
        is: "REGISTER refresh",
        run: phone::refresh,
        operations: (400_000, 5_000),
    },
    Scenario {
        name: "register_nat",
        is: "REGISTER refresh from behind a NAT, with an instance",
        run: phone::refresh_behind_nat,
        operations: (400_000, 5_000),
    },
    Scenario {
        name: "register_digest",
        is: "REGISTER refresh with digest (MD5), nonce reused",
        run: phone::refresh_with_digest,
        operations: (200_000, 2_500),
    },
    Scenario {
        name: "options",
        is: "OPTIONS to the server",
        run: phone::options,
        operations: (400_000, 5_000),
    },
    Scenario {
        name: "call",
        is: "call: 6 messages in, 7 out",
        run: call::calls,
        operations: (200_000, 4_000),
    },
    Scenario {
        name: "call_crowd",
        is: "the same, 200,000 transactions live",
        run: crowd::calls,
        operations: (200_000, 4_000),
    },
    Scenario {
        name: "call_plateau",
        is: "the same, of which as many end as begin, few live",
        run: call::calls_at_plateau,
        operations: (100_000, 4_000),
    },
    Scenario {
        name: "message",
        is: "MESSAGE and its 200, through lookup",
        run: call::messages,
        operations: (200_000, 4_000),
    },
    Scenario {
        name: "ack",
        is: "ACK of a 2xx, forwarded statelessly",
        run: call::acks,
        operations: (200_000, 4_000),
    },
    Scenario {
        name: "glance",
        is: "INVITE to an AoR that is dropped in overload",
        run: overload::glances,
        operations: (2_000_000, 10_000),
    },
    Scenario {
        name: "glance_at_to",
        is: "the same, to a Request-URI that is no AoR of ours",
        run: overload::glances_at_to,
        operations: (2_000_000, 10_000),
    },
    Scenario {
        name: "refusal",
        is: "INVITE that is answered 503 in overload, and its ACK",
        run: overload::refusals,
        operations: (50_000, 2_000),
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|argument| *argument != "--bench")
        .collect();
    match arguments.as_slice() {
        ["--raw", name, phones, operations] => {
            let number = |text: &str| text.parse().expect("a number");
            let scenario = named(name);
            strowger::worker::prefault(bed::MEMORY, &[None]);
            let measured = (scenario.run)(number(phones), number(operations));
            println!("{name}: {:.0} ns", measured.nanoseconds());
        }
        ["--crowd", transactions] => crowd::fill(transactions.parse().expect("a number")),
        names => {
            strowger::worker::prefault(bed::MEMORY, &[None]);
            println!("{:<16} {:>9} {:>13}", "", "ns", "instructions");
            for scenario in SCENARIOS {
                if names.is_empty() || names.contains(&scenario.name) {
                    print(scenario);
                }
            }
        }
    }
    ExitCode::SUCCESS
}

fn named(name: &str) -> &'static Scenario {
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name);
    scenario.expect("the name of a scenario")
}

fn print(scenario: &Scenario) {
    let measured = (scenario.run)(PHONES, scenario.operations.0);
    let instructions = instructions(scenario);
    let instructions = instructions.map_or_else(String::new, |count| format!("{count:.0}"));
    println!(
        "{:<16} {:>9.0} {instructions:>13}   {}",
        scenario.name,
        measured.nanoseconds(),
        scenario.is
    );
}

/// The instructions of one operation, as callgrind counts them.
fn instructions(scenario: &Scenario) -> Option<f64> {
    let operations = scenario.operations.1;
    let program = std::env::current_exe().ok()?;
    let counted = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg("--collect-atstart=no")
        .arg("--toggle-collect=*measured_batch*")
        .arg(program)
        .args(["--raw", scenario.name])
        .args([PHONES_COUNTED.to_string(), operations.to_string()])
        .output()
        .ok()?;
    let told = String::from_utf8_lossy(&counted.stderr);
    let total = told
        .lines()
        .find_map(|line| line.split_once("Collected :"))?;
    let total: f64 = total.1.trim().parse().ok()?;
    Some(total / f64::from(operations))
}
