//! `strowger load` against the server, and against other people's programs, which judge it: SIPp answers its calls and makes
//! some, Kamailio registers its phones.

use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::bed::{Bed, Family, Link};
use super::calls::{Backend, configuration};
use super::interop::Kamailio;
use super::namespace::run;
use super::phones::{self, Phones};
use super::scratch::Scratch;
use super::server::{Server, binary};
use super::sipp::Sipp;

/// A load in the phones' namespace.
struct Load(Child);

impl Load {
    fn start(link: &Link, target: SocketAddr, kind: &str, arguments: &[&str]) -> Self {
        let mut command = link.phones.command(&binary());
        command
            .args([
                "load",
                kind,
                "--json",
                "--quiet",
                "--target",
                &target.to_string(),
            ])
            .args(["--domain", "example.com", "--user", "user"])
            .args(arguments)
            .stdout(Stdio::piped());
        Self(command.spawn().expect("the binary that cargo built"))
    }

    #[track_caller]
    fn finish(mut self) -> Value {
        let mut said = String::new();
        let stdout = self.0.stdout.take().expect("it is piped");
        std::io::Read::read_to_string(&mut { stdout }, &mut said).expect("text");
        serde_json::from_str(&said).unwrap_or_else(|_| panic!("no result: {said}"))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a load and asserts that each of its `count` attempts succeeded, and that nothing was sent twice.
#[track_caller]
fn load(link: &Link, target: SocketAddr, kind: &str, count: u64, arguments: &[&str]) -> Value {
    let count_text = count.to_string();
    let all = [&["--time", "30", "--count", &count_text][..], arguments].concat();
    let result = Load::start(link, target, kind, &all).finish();
    assert_eq!(result["attempts"], count, "{result:#}");
    assert_eq!(result["successes"], count, "{result:#}");
    assert_eq!(result["success"], true);
    for of_kind in result["kinds"].as_array().expect("a list") {
        assert_eq!(of_kind["retransmissions"], 0, "{result:#}");
        assert_eq!(
            of_kind["latency_ms"]["samples"], of_kind["attempts"],
            "{result:#}"
        );
    }
    result
}

#[test]
fn every_kind_of_load_passes_the_server_and_both_sides_count_the_same() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let text = configuration(&bed, Family::V4, Backend::Driver, 2);
    let server = Server::start(&bed.server, &scratch, &text);
    let (link, sip) = (bed.link(), bed.link().sip(Family::V4));
    let pid = server.pid().to_string();

    let result = load(
        link,
        sip,
        "options",
        500,
        &["--rate", "1000", "--pid", &pid],
    );
    let cpu = &result["cpu_us_per_operation"];
    assert!(cpu["server"].as_f64() > Some(0.0), "{cpu}");
    let phones = &["--phones", "300", "--port", "7000"];
    let rate = [&["--rate", "1000"][..], phones].concat();
    load(link, sip, "register", 900, &rate);
    let metrics = server.metrics();
    let requests = |method: &str| {
        let label = format!("method=\"{method}\"");
        metrics.sum("strowger_requests_total", &label)
    };
    assert_eq!((requests("OPTIONS"), requests("REGISTER")), (500, 900));
    assert_eq!(
        metrics.sum("strowger_bindings", ""),
        300,
        "a refresh is no new binding"
    );

    let rate = [&["--rate", "100", "--hold", "50"][..], phones].concat();
    let result = load(link, sip, "invite", 200, &rate);
    let called = &result["called"];
    for key in ["sessions", "acknowledged", "ended"] {
        assert_eq!(called[key], 200, "{called}");
    }
    let kind = &result["kinds"][0];
    assert_eq!(kind["sessions_established"], 200);
    assert!(
        kind["session_establishment_rate_per_s"].as_f64() > Some(50.0),
        "{kind}"
    );
    let metrics = server.metrics();
    let requests = |method: &str| {
        let label = format!("method=\"{method}\"");
        metrics.sum("strowger_requests_total", &label)
    };
    assert_eq!(
        (requests("INVITE"), requests("ACK"), requests("BYE")),
        (200, 200, 200)
    );

    let mix = [
        &["--rate", "200", "--mix", "register=5,options=4,invite=1"][..],
        phones,
    ]
    .concat();
    let result = load(link, sip, "mixed", 300, &mix);
    assert_eq!(result["kinds"].as_array().map(Vec::len), Some(3));
}

#[test]
fn a_load_leaves_by_af_xdp_as_well() {
    let (bed, scratch) = (Bed::one_queue(), Scratch::new());
    let text = configuration(&bed, Family::V4, Backend::Udp, 1);
    let _server = Server::start(&bed.server, &scratch, &text);
    let (link, sip) = (bed.link(), bed.link().sip(Family::V4));
    let arguments = ["--backend", "af_xdp", "--rate", "500", "--phones", "200"];
    load(link, sip, "register", 400, &arguments);
    load(link, sip, "invite", 100, &arguments);
}

#[test]
fn phones_of_a_load_prove_who_they_are() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let auth = "[auth]\nrealm = \"example.com\"\n";
    let text = format!(
        "{}\n{auth}",
        configuration(&bed, Family::V4, Backend::Driver, 2)
    );
    let server = Server::start(&bed.server, &scratch, &text);
    let (link, sip) = (bed.link(), bed.link().sip(Family::V4));
    let mut users = String::new();
    for number in 0..20 {
        let account = format!("user{number}@example.com");
        let password = format!("secret{number}");
        let mut command = bed.server.command(&binary());
        run(command.args(["ctl", "subscriber.add", &account, &password]));
        users += &format!("user{number};{password}\n");
    }
    let file = scratch.write("accounts.csv", &users).display().to_string();
    let rate = ["--rate", "100", "--users", &file, "--port", "7000"];
    let without_name = |kind: &str, count: u64| {
        let count = count.to_string();
        let mut command = link.phones.command(&binary());
        command.args(["load", kind, "--json", "--quiet", "--domain", "example.com"]);
        command.args([
            "--target",
            &sip.to_string(),
            "--time",
            "30",
            "--count",
            &count,
        ]);
        let output = command
            .args(rate)
            .output()
            .expect("the binary that cargo built");
        serde_json::from_slice::<Value>(&output.stdout).expect("a result")
    };
    let result = without_name("register", 60);
    assert_eq!(result["successes"], 60, "{result:#}");
    // Each phone is challenged once, and uses the nonce again.
    assert_eq!(result["kinds"][0]["challenges"], 20, "{result:#}");
    let metrics = server.metrics();
    assert_eq!(metrics.sum("strowger_authentications_total", "proven"), 60);
    let result = without_name("invite", 20);
    assert_eq!(result["successes"], 20, "{result:#}");
    // A wrong password is a failure, and is counted as what came.
    let wrong = [
        "--time",
        "30",
        "--count",
        "10",
        "--phones",
        "10",
        "--password",
        "guess",
    ];
    let result = Load::start(link, sip, "register", &wrong).finish();
    assert_eq!(result["kinds"][0]["failures"]["401"], 10, "{result:#}");
    assert_eq!(result["success"], false);
}

#[test]
fn sipp_answers_the_calls_of_a_load_and_a_load_answers_those_of_sipp() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let link = bed.link();
    let phone = SocketAddr::new(link.phone(Family::V4), phones::PHONE_PORT);
    let callee = Sipp::new(
        &link.phones,
        &scratch,
        "callee",
        phone,
        link.sip(Family::V4),
    );
    let callee = callee.calls(100, 1).start();
    std::thread::sleep(phones::LISTENING);
    let to = format!("sip:bob@{phone}");
    let arguments = [
        "--role", "uac", "--to", &to, "--rate", "50", "--hold", "100",
    ];
    load(link, phone, "invite", 100, &arguments);
    callee.finish(phones::PATIENCE).assert_clean();

    let text = configuration(&bed, Family::V4, Backend::Driver, 2);
    let server = Server::start(&bed.server, &scratch, &text);
    let sip = link.sip(Family::V4);
    let arguments = [
        "--role", "uas", "--phones", "100", "--ring", "50", "--time", "6",
    ];
    let uas = Load::start(link, sip, "invite", &arguments);
    server.wait_for(
        "the phones are registered",
        Duration::from_secs(5),
        |metrics| metrics.sum("strowger_bindings", "") == 100,
    );
    let called = Phones {
        numbers: 0..100,
        address: phone,
        server: sip,
    };
    let caller = called.caller(link, &scratch, "caller", phones::CALLER_PORT, 100, 50);
    let caller = caller.hold(Duration::from_millis(100)).spread();
    caller.run(phones::PATIENCE).assert_clean();
    let called = uas.finish()["called"].clone();
    for key in ["sessions", "acknowledged", "ended"] {
        assert_eq!(called[key], 100, "{called}");
    }
    assert_eq!(called["retransmissions"], 0, "{called}");
}

#[test]
fn kamailio_registers_the_phones_of_a_load() {
    let (bed, scratch) = (Bed::one_queue(), Scratch::new());
    let link = bed.link();
    let own = SocketAddr::new(link.phone(Family::V4), 5090);
    let _kamailio = Kamailio::start_with(link, &scratch, "registrar", own, own);
    load(link, own, "options", 100, &["--rate", "200"]);
    let arguments = ["--rate", "200", "--phones", "50", "--password", "secret"];
    let result = load(link, own, "register", 200, &arguments);
    let challenges = result["kinds"][0]["challenges"].as_u64().expect("a number");
    assert!((50..=200).contains(&challenges), "{result:#}");
    let listed = run(link
        .phones
        .command("kamcmd")
        .args([
            "-s",
            &format!("unix:{}", scratch.path().join("kamailio.ctl").display()),
        ])
        .args(["ul.dump", "brief"]));
    assert_eq!(listed.matches("AoR: user").count(), 50, "{listed}");
    let wrong = ["--time", "10", "--count", "5", "--password", "guess"];
    let result = Load::start(link, own, "register", &wrong).finish();
    assert_eq!(result["kinds"][0]["failures"]["401"], 5, "{result:#}");
}

#[test]
fn where_nobody_is_an_attempt_fails_at_once() {
    let (bed, _scratch) = (Bed::one_queue(), Scratch::new());
    let link = bed.link();
    let arguments = ["--time", "5", "--count", "20", "--rate", "100"];
    let result = Load::start(link, link.sip(Family::V4), "register", &arguments).finish();
    let failures = &result["kinds"][0]["failures"];
    assert_eq!(failures["unreachable"], 20, "{result:#}");
    assert_eq!(result["success"], false);
}

/// Answers OPTIONS with 200, so many in each tenth of a second and the others not at all, until `is_over`.
fn answer_at_most(socket: &UdpSocket, in_a_tenth: u32, is_over: &AtomicBool) {
    socket
        .set_read_timeout(Some(Duration::from_millis(20)))
        .expect("a timeout");
    let (mut window, mut answered) = (Instant::now(), 0);
    let mut buffer = [0; 4_096];
    while !is_over.load(Ordering::Relaxed) {
        let Ok((len, peer)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        if window.elapsed() >= Duration::from_millis(100) {
            (window, answered) = (Instant::now(), 0);
        }
        answered += 1;
        if answered <= in_a_tenth {
            let request = String::from_utf8_lossy(&buffer[..len]);
            let response = request.replacen(
                request.lines().next().expect("a request line"),
                "SIP/2.0 200 OK",
                1,
            );
            socket.send_to(response.as_bytes(), peer).expect("loopback");
        }
    }
}

#[test]
fn a_search_finds_what_a_server_holds_and_says_that_it_is_the_servers_bound() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let target = socket.local_addr().expect("it is bound").to_string();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| answer_at_most(&socket, 100, &is_over));
        let mut command = Command::new(binary());
        command.args(["load", "options", "--json", "--quiet", "--search"]);
        command.args(["--target", &target, "--rate", "150", "--time", "2"]);
        let asked = ["--threshold", "400", "--arrivals", "constant"];
        let output = command.args(asked).output();
        is_over.store(true, Ordering::Relaxed);
        let output = output.expect("the binary that cargo built");
        let result: Value = serde_json::from_slice(&output.stdout).expect("a result");
        let search = &result["search"];
        let highest = search["highest_rate_per_s"].as_f64().expect("a rate");
        assert!((300.0..=1_050.0).contains(&highest), "{search:#}");
        assert_eq!(search["is_generator_limit"], false, "{search:#}");
        let verdicts = search["trials"].as_array().expect("a list").iter();
        let failed = verdicts.filter(|trial| trial["verdict"] == "fails");
        assert!(failed.count() >= 2, "{search:#}");
        assert_eq!(result["offered_rate_per_s"], highest, "{result:#}");
        assert!(output.status.success(), "{result:#}");
    });
}

#[test]
fn a_search_that_outruns_its_own_phones_says_so() {
    let (bed, scratch) = (Bed::one_queue(), Scratch::new());
    let text = configuration(&bed, Family::V4, Backend::Udp, 1);
    let server = Server::start(&bed.server, &scratch, &text);
    let (link, sip) = (bed.link(), bed.link().sip(Family::V4));
    let pid = server.pid().to_string();
    // Two phones that are called for 200 ms each make ten calls a second, and no more.
    let arguments = [
        "--search",
        "--rate",
        "2",
        "--time",
        "2",
        "--phones",
        "2",
        "--hold",
        "200",
        "--pid",
        &pid,
        "--arrivals",
        "constant",
    ];
    let result = Load::start(link, sip, "invite", &arguments).finish();
    let search = &result["search"];
    let highest = search["highest_rate_per_s"].as_f64().expect("a rate");
    assert!((4.0..=10.5).contains(&highest), "{search:#}");
    assert_eq!(search["is_generator_limit"], true, "{search:#}");
    let cpu = &result["cpu_us_per_operation"]["server_and_receive"];
    assert!(cpu.as_f64() > Some(0.0), "{result:#}");
}
