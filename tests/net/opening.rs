//! Opening and closing: what is refused and how that is said, what falls back, and what stays behind.
#![expect(unsafe_code, reason = "capset(2) has no wrapper in std")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use strowger::counters::{Counter, Counters};
use strowger::net::{self, BackendChoice, Got, ListenerSpec, Mode, NetError};

use crate::bed::{self, Bed};
use crate::echo::Echo;
use crate::{ask, both_families, echo_many, socket};

/// Whether an XDP program is on the server's interface.
fn is_attached(bed: &Bed) -> bool {
    bed.server_runs("ip -d link show dev s0").contains("xdp")
}

/// Waits until no program is on the server's interface: the kernel closes the descriptors of the dead in its own time, and a
/// child that another test is just starting has copies of ours until it runs its program.
fn is_soon_off(bed: &Bed) -> bool {
    (0..200).any(|_| {
        thread::sleep(Duration::from_millis(10));
        !is_attached(bed)
    })
}

/// Opens the network and says why that failed.
fn refusal(bed: &Bed, listeners: &[ListenerSpec], workers: usize) -> NetError {
    Echo::start(&bed.server(), listeners, workers)
        .err()
        .expect("this is to be refused")
}

/// Tells the test below that it is the owner, and in which namespace.
const OWNER: &str = "STGNET_OWNER";

/// Holds AF_XDP open until it is killed.
fn own(namespace: &str) {
    let listeners = both_families(BackendChoice::AfXdp, None);
    let _echo = Echo::start(namespace, &listeners, 2).expect("AF_XDP can be had here");
    println!("ready");
    thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_killed_owner_leaves_nothing_behind_and_the_next_serves_at_once() {
    // The owner is a process of its own: this program once more, with this test alone.
    if let Ok(namespace) = std::env::var(OWNER) {
        return own(&namespace);
    }
    let bed = Bed::new(1, 2);
    let mut owner = Command::new(std::env::current_exe().expect("this program"))
        .args([
            "--exact",
            "opening::a_killed_owner_leaves_nothing_behind_and_the_next_serves_at_once",
            "--nocapture",
        ])
        .env(OWNER, bed.server())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program again");
    let output = BufReader::new(owner.stdout.take().expect("piped"));
    let is_ready = output
        .lines()
        .map_while(Result::ok)
        .any(|line| line.contains("ready"));
    assert!(is_ready, "the owner ended early");
    assert!(is_attached(&bed));
    bed.at_peer(0, || {
        assert_eq!(ask(&socket("10.77.0.1:5060"), b"one"), b"one")
    });
    // SIGKILL.
    owner.kill().expect("our own child");
    owner.wait().expect("our own child");
    assert!(is_soon_off(&bed));
    let echo = Echo::start(&bed.server(), &both_families(BackendChoice::AfXdp, None), 2)
        .expect("nothing is in the way");
    echo_many(&bed, 2, 5);
    assert_eq!(echo.count(Counter::ReceivedAfXdp), 20);
    echo.stop();
    // Another test's child may hold the descriptors for the moment between its fork and its exec.
    assert!(
        is_soon_off(&bed),
        "an orderly end takes the program off, too"
    );
}

#[test]
fn busy_polling_serves() {
    let bed = Bed::new(1, 1);
    let mut listeners = both_families(BackendChoice::AfXdp, None);
    listeners[0].busy_poll = true;
    let echo = Echo::start(&bed.server(), &listeners, 1).expect("AF_XDP can be had here");
    echo_many(&bed, 2, 10);
    assert_eq!(echo.count(Counter::ReceivedAfXdp), 40);
    echo.stop();
}

#[test]
fn auto_takes_the_driver_by_the_address_and_says_so() {
    let bed = Bed::new(1, 2);
    let echo = Echo::start(&bed.server(), &both_families(BackendChoice::Auto, None), 3)
        .expect("one of them can be had");
    let said = echo.reports[0].to_string();
    assert!(
        said.contains("10.77.0.1:5060: af_xdp on s0, driver mode, queue 0 (copy"),
        "{said}"
    );
    assert!(said.contains("queue 1 (copy"), "{said}");
    echo_many(&bed, 4, 5);
    assert_eq!(echo.count(Counter::ReceivedAfXdp), 40);
    echo.stop();
}

#[test]
fn a_survey_says_what_could_be_had_and_leaves_nothing_behind() {
    let bed = Bed::new(1, 2);
    bed::inside(&bed.server(), || {
        let interfaces = net::interfaces().expect("netlink answers");
        let s0 = interfaces
            .iter()
            .find(|interface| interface.name == "s0")
            .expect("it exists");
        assert_eq!(
            (s0.queues, s0.mtu, s0.is_up, s0.is_loopback),
            (2, 1_500, true, false)
        );
        let report = net::probe("s0").expect("AF_XDP can be had here");
        assert_eq!((report.mode, report.queues.len()), (Mode::Driver, 2));
        assert!(matches!(
            net::probe("nosuch"),
            Err(NetError::UnknownInterface { .. })
        ));
    });
    assert!(!is_attached(&bed));
}

#[test]
fn loopback_serves_in_generic_mode_when_it_is_named() {
    let bed = Bed::new(0, 1);
    let listener = ListenerSpec {
        interface: Some("lo".to_owned()),
        backend: BackendChoice::AfXdp,
        ..ListenerSpec::new(
            strowger::datagram::ListenerId(0),
            "[::1]:5060".parse().expect("an address"),
        )
    };
    let echo =
        Echo::start(&bed.server(), &[listener], 1).expect("generic mode can be had anywhere");
    let Got::AfXdp(device) = &echo.reports[0].got else {
        panic!("{}", echo.reports[0])
    };
    assert_eq!(device.mode, Mode::Generic);
    assert!(device.why_not_driver.is_some());
    bed::inside(&bed.server(), || {
        assert_eq!(ask(&socket("[::1]:5060"), b"lo"), b"lo")
    });
    assert_eq!(echo.count(Counter::ReceivedAfXdp), 1);
    echo.stop();
}

#[test]
fn more_queues_than_workers_are_refused_with_the_cure_or_fall_back() {
    let bed = Bed::new(1, 2);
    let error = refusal(&bed, &both_families(BackendChoice::AfXdp, None), 1);
    assert!(
        matches!(
            error,
            NetError::TooManyQueues {
                queues: 2,
                workers: 1,
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("[workers] count = 2"), "{error}");
    assert!(!is_attached(&bed));

    let echo = Echo::start(&bed.server(), &both_families(BackendChoice::Auto, None), 1)
        .expect("the kernel's sockets can be had");
    assert!(
        matches!(&echo.reports[1].got, Got::Udp { why_not: Some(why) } if why.contains("2 queues"))
    );
    echo_many(&bed, 2, 2);
    echo.stop();

    let mut listeners = both_families(BackendChoice::AfXdp, None);
    listeners[0].queues = Some(vec![1]);
    let echo = Echo::start(&bed.server(), &listeners, 1).expect("one queue for one worker");
    echo_many(&bed, 20, 2);
    assert!(echo.count(Counter::ReceivedAfXdp) > 0, "by queue 1");
    assert!(
        echo.count(Counter::ReceivedUdp) > 0,
        "by queue 0, which the kernel serves"
    );
    assert_eq!(
        echo.count(Counter::ReceivedAfXdp) + echo.count(Counter::ReceivedUdp),
        80
    );
    echo.stop();
}

#[test]
fn what_is_in_the_way_is_named() {
    let bed = Bed::new(1, 1);
    let mut unknown = both_families(BackendChoice::AfXdp, None);
    unknown[0].interface = Some("nosuch".to_owned());
    assert!(matches!(
        refusal(&bed, &unknown, 1),
        NetError::UnknownInterface { .. }
    ));

    let mut elsewhere = both_families(BackendChoice::Udp, None);
    elsewhere[0].address = "203.0.113.1:5060".parse().expect("an address");
    let error = refusal(&bed, &elsewhere, 1).to_string();
    assert!(
        error.contains("cannot listen on 203.0.113.1:5060"),
        "{error}"
    );

    let echo = Echo::start(&bed.server(), &both_families(BackendChoice::AfXdp, None), 1)
        .expect("AF_XDP can be had here");
    let error = refusal(&bed, &both_families(BackendChoice::Udp, None), 1);
    assert!(
        matches!(error, NetError::Udp { .. }),
        "the address is taken: {error}"
    );
    let mut other_port = both_families(BackendChoice::AfXdp, None);
    for listener in &mut other_port {
        listener.address.set_port(5070);
    }
    let error = refusal(&bed, &other_port, 1);
    assert!(
        matches!(error, NetError::Busy { .. }),
        "another program is attached: {error}"
    );
    assert!(error.to_string().contains("xdp off"), "{error}");
    echo.stop();
}

#[test]
fn a_missing_capability_is_named_with_the_command_that_grants_it() {
    let bed = Bed::new(1, 1);
    let counters = [Arc::new(Counters::new())];
    let open = |backend| {
        bed::inside(&bed.server(), || {
            drop_capabilities();
            net::open(&both_families(backend, None), 1, &counters)
        })
    };
    let error = open(BackendChoice::AfXdp).expect_err("without privilege");
    assert!(matches!(error, NetError::Privilege { .. }), "{error}");
    let error = error.to_string();
    for part in [
        "CAP_NET_ADMIN",
        "CAP_NET_RAW",
        "CAP_BPF",
        "CAP_PERFMON",
        "CAP_IPC_LOCK",
        "setcap ",
        "AmbientCapabilities=",
    ] {
        assert!(error.contains(part), "{part} in: {error}");
    }
    let opened = open(BackendChoice::Auto).expect("the kernel's sockets need none");
    for report in &opened.reports {
        let Got::Udp { why_not: Some(why) } = &report.got else {
            panic!("{report}")
        };
        assert!(why.contains("CAP_BPF"), "{why}");
    }
}

/// Gives up the calling thread's effective capabilities.
fn drop_capabilities() {
    // struct __user_cap_header_struct: version 3, this thread; and two struct __user_cap_data_struct: none effective.
    let header = [0x2008_0522_u32, 0];
    let none = [0_u32; 6];
    // SAFETY: both are live for the call and have the layout that version 3 asks for.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}
