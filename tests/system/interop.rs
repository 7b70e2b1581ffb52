//! Other people's programs around the server: sipsak, and Kamailio before and behind it, with tshark as the judge of what passes.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::bed::{Bed, Family, Link};
use super::calls::{Backend, configuration};
use super::capture::Capture;
use super::ends::Callee;
use super::namespace::run;
use super::phones::{self, Phones};
use super::recovery::{assert_nothing_left, live};
use super::scratch::Scratch;
use super::server::Server;
use super::sipp::Sipp;

/// A Kamailio that runs; dropped, it is ended.
#[derive(Debug)]
pub(super) struct Kamailio {
    child: Child,
}

impl Kamailio {
    /// Starts the proxy of `kamailio/proxy.cfg` at `own` among the phones, between the server and `phones`.
    fn start(link: &Link, scratch: &Scratch, own: SocketAddr, phones: SocketAddr) -> Self {
        Self::start_with(link, scratch, "proxy", own, phones)
    }

    /// Starts what `kamailio/<name>.cfg` describes.
    pub(super) fn start_with(
        link: &Link,
        scratch: &Scratch,
        name: &str,
        own: SocketAddr,
        phones: SocketAddr,
    ) -> Self {
        let template = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/system/kamailio")
            .join(name)
            .with_extension("cfg");
        let text = std::fs::read_to_string(template)
            .expect("the configuration is there")
            .replace("OWN", &own.to_string())
            .replace("SERVER", &link.sip(Family::V4).to_string())
            .replace("PHONES", &phones.to_string())
            .replace("FOLDER", &scratch.path().display().to_string());
        let configuration = scratch.write("kamailio.cfg", &text);
        let log = scratch.fresh("kamailio").with_extension("log");
        let output = File::create(&log).expect("a file in our own folder");
        let output_too = output.try_clone().expect("a second handle on it");
        let child = link
            .phones
            .command("kamailio")
            .args(["-DD", "-E", "-m", "32", "-M", "8", "-Y"])
            .arg(scratch.path())
            .arg("-f")
            .arg(configuration)
            .stdout(Stdio::from(output))
            .stderr(Stdio::from(output_too))
            .spawn()
            .expect("Kamailio is installed");
        let kamailio = Self { child };
        let deadline = Instant::now() + Duration::from_secs(10);
        while !run(link.phones.command("ss").args(["-Hlun"])).contains(&own.to_string()) {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            assert!(
                Instant::now() < deadline,
                "Kamailio does not listen: {said}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        kamailio
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        // Its first process ends the others.
        let _ = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        let _ = self.child.wait();
    }
}

/// Which side of the server Kamailio stands on.
#[derive(Clone, Copy, Debug)]
enum Side {
    /// Callers send to Kamailio, which sends to the server.
    Upstream,
    /// The phones are registered with Kamailio's address.
    Downstream,
}

/// Calls by way of both proxies: hung up by either end, and cancelled; tshark sees nothing wrong in them.
fn calls_pass(side: Side) {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let link = bed.link();
    let server = Server::start(
        &bed.server,
        &scratch,
        &configuration(&bed, Family::V4, Backend::Driver, 2),
    );
    let at = |port| SocketAddr::new(link.phone(Family::V4), port);
    let (kamailio, phones) = (at(KAMAILIO_PORT), at(phones::PHONE_PORT));
    let contact = match side {
        Side::Upstream => phones,
        Side::Downstream => kamailio,
    };
    // A contact of another address than the REGISTER's own would be taken for a phone behind a NAT.
    let registered = Phones {
        numbers: 0..3 * CALLS,
        address: contact,
        server: link.sip(Family::V4),
    };
    phones::register(link, &scratch, std::slice::from_ref(&registered), 200);

    let _kamailio = Kamailio::start(link, &scratch, kamailio, phones);
    let capture = Capture::start(link, &scratch);
    let next_hop = match side {
        Side::Upstream => kamailio,
        Side::Downstream => link.sip(Family::V4),
    };
    let scenarios = [
        ("caller", "callee"),
        ("caller_waits", "callee_hangs_up"),
        ("caller_cancels", "callee_is_cancelled_behind_two"),
    ];
    for ((caller, callee), index) in scenarios.into_iter().zip(0..) {
        let group = Phones {
            numbers: index * CALLS..(index + 1) * CALLS,
            ..registered.clone()
        };
        let users = group.users(&scratch, |_| caller.to_owned());
        let sipp = |scenario, local, remote| {
            Sipp::new(&link.phones, &scratch, scenario, local, remote).hold(HOLD)
        };
        let callee = sipp(callee, phones, link.sip(Family::V4))
            .calls(CALLS, 1)
            .start();
        std::thread::sleep(phones::LISTENING);
        let port = phones::CALLER_PORT + u16::try_from(index).expect("few");
        sipp(caller, at(port), next_hop)
            .users(&users)
            .calls(CALLS, 20)
            .run(phones::PATIENCE)
            .assert_clean();
        callee.conclude(phones::AFTERWARDS).assert_clean();
    }
    let recording = capture.stop();
    recording.assert_well_formed(usize::try_from(3 * CALLS).expect("few") * 12);
    // Both proxies stayed in the path of what came later.
    let byes = recording.fields("sip.Method == BYE && ip.src == 10.77.0.1", &["sip.Call-ID"]);
    assert_eq!(
        byes.len(),
        usize::try_from(2 * CALLS).expect("few"),
        "every BYE passed the server"
    );
    let metrics = server.wait_for("the transactions end", TIMERS_MAX, |metrics| {
        live(metrics) == 0
    });
    assert_nothing_left(&metrics);
    let cancels = metrics.sum("strowger_requests_total", "method=\"CANCEL\"");
    assert_eq!(cancels, u64::from(CALLS), "{metrics}");
}

#[test]
fn calls_pass_kamailio_and_then_the_server() {
    calls_pass(Side::Upstream);
}

#[test]
fn calls_pass_the_server_and_then_kamailio() {
    calls_pass(Side::Downstream);
}

/// sipsak between a phones' namespace and the server. (Of Debian 12's, the modes of several users and of messages write into freed or
/// missing buffers, whatever server they meet; what is left are single users, files, traces and floods.)
struct Sipsak<'a> {
    link: &'a Link,
}

impl Sipsak<'_> {
    fn command(&self, target: &str, arguments: &[&str]) -> Command {
        let mut command = self.link.phones.command("timeout");
        command.args(["30", "sipsak", "-s", target]).args(arguments);
        command
    }

    /// The server itself, and a user of it.
    fn targets(&self) -> (String, String) {
        let sip = self.link.sip(Family::V4);
        (format!("sip:{sip}"), format!("sip:sak@{sip}"))
    }
}

#[test]
fn sipsak_registers_a_user_traces_the_way_and_sends_a_message() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let server = Server::start(
        &bed.server,
        &scratch,
        &configuration(&bed, Family::V4, Backend::Driver, 2),
    );
    let link = bed.link();
    let sipsak = Sipsak { link };
    let (sip, (_, user)) = (link.sip(Family::V4), sipsak.targets());
    let phone = SocketAddr::new(link.phone(Family::V4), 5998);
    let capture = Capture::start(link, &scratch);
    let contact = format!("sip:sak@{}:5999", phone.ip());
    let said = run(&mut sipsak.command(
        &user,
        &["-vv", "-U", "-x", "60", "-l", "5999", "-C", &contact],
    ));
    assert!(
        said.contains("All usrloc tests completed successful"),
        "{said}"
    );
    let said = run(&mut sipsak.command(&user, &["-vv", "-T"]));
    assert!(said.contains("SIP/2.0 200"), "{said}");

    // Its packets come from another port than its Contact names, so another phone takes the message.
    let pal = format!("sip:pal@{sip}");
    let mut callee = Callee::open(&link.phones, phone, 202);
    let register = format!(
        "REGISTER sip:{sip} SIP/2.0\r\nVia: SIP/2.0/UDP {phone};branch=z9hG4bKpal\r\nMax-Forwards: 70\r\nFrom: <{pal}>;tag=p\r\n\
         To: <{pal}>\r\nCall-ID: pal\r\nCSeq: 1 REGISTER\r\nContact: <sip:pal@{phone}>\r\nContent-Length: 0\r\n\r\n"
    );
    assert!(
        callee
            .ask(sip, register.as_bytes())
            .starts_with(b"SIP/2.0 200")
    );
    let message = format!(
        "MESSAGE {pal} SIP/2.0\nFrom: <sip:friend@example.com>;tag=f\nTo: <{pal}>\nCall-ID: message-1\nCSeq: 1 MESSAGE\n\
         Max-Forwards: 70\nContent-Type: text/plain\nContent-Length: 5\n\nhello"
    );
    let file = scratch.write("message.sip", &message).display().to_string();
    let mut sender = sipsak
        .command(&pal, &["-vv", "-f", &file])
        .stdout(Stdio::piped())
        .spawn()
        .expect("sipsak is installed");
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut arrived = Vec::new();
    while sender.try_wait().expect("our own child").is_none() {
        arrived.extend(callee.take());
        assert!(Instant::now() < deadline, "sipsak ends when it is answered");
        std::thread::sleep(Duration::from_millis(2));
    }
    let output = sender.wait_with_output().expect("it has ended");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("SIP/2.0 202"), "{said}");
    assert!(
        arrived.len() == 1 && arrived[0].ends_with(b"\r\n\r\nhello"),
        "{} copies",
        arrived.len()
    );
    capture.stop().assert_well_formed(8);
    let metrics = server.metrics();
    assert_eq!(
        metrics.sum("strowger_requests_total", "method=\"REGISTER\""),
        2,
        "{metrics}"
    );
}

#[test]
fn sipsak_floods_and_sends_random_faults() {
    let (bed, scratch) = (Bed::two_queues(), Scratch::new());
    let mut server = Server::start(
        &bed.server,
        &scratch,
        &configuration(&bed, Family::V4, Backend::Driver, 2),
    );
    let sipsak = Sipsak { link: bed.link() };
    let (itself, _) = sipsak.targets();
    run(&mut sipsak.command(&itself, &["-F", "-e", &FLOOD.to_string()]));
    let metrics = server.wait_for("the flood is counted", Duration::from_secs(5), |metrics| {
        metrics.sum("strowger_requests_total", "method=\"OPTIONS\"") >= FLOOD
    });
    assert!(
        metrics.sum("strowger_responses_total", "class=\"2xx\"") >= FLOOD,
        "{metrics}"
    );
    // With random faults in what it sends, sipsak itself fails at times; the server does not.
    let _ = sipsak.command(&itself, &["-R", "-t", "40"]).output();
    assert!(server.is_alive());
    run(&mut sipsak.command(&itself, &[]));
}

const CALLS: u32 = 10;
const KAMAILIO_PORT: u16 = 5062;
const HOLD: Duration = Duration::from_millis(100);
const FLOOD: u64 = 1_000;
/// 64*T1 and T4, and some time more.
const TIMERS_MAX: Duration = Duration::from_secs(45);
