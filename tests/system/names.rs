//! Next hops by name, through a running server: BIND answers, and destinations that refuse, that are silent and that answer 503 are
//! passed over for the next.

use std::fmt::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::bed::{Bed, Family, Link};
use super::calls::{Backend, configuration};
use super::ends::{Callee, Sender, Transport};
use super::scratch::Scratch;
use super::server::Server;

/// BIND's server on the loopback of the server under test; dropped, it is ended.
#[derive(Debug)]
struct Named(Child);

/// The zone `gw.test` and what stands for its hosts: every SRV target is the phones' address.
const ZONE: &str = "$ORIGIN gw.test.
$TTL 300
@            SOA ns hostmaster 1 3600 600 86400 60
@            NS  ns
ns           A   127.0.0.1
here         A   10.77.0.2
_sip._udp.busy    SRV 10 1 5081 here
_sip._udp.busy    SRV 20 1 5082 here
_sip._udp.refuses SRV 10 1 5083 here
_sip._udp.refuses SRV 20 1 5082 here
_sip._udp.silent  SRV 10 1 5084 here
_sip._udp.silent  SRV 20 1 5082 here
_sip._udp.both    SRV 10 1 5082 here
_sip._tcp.both    SRV 20 1 5085 here
_sip._udp.fails   SRV 10 1 5081 here
";

impl Named {
    fn start(bed: &Bed, scratch: &Scratch) -> Self {
        scratch.write("zone", ZONE);
        let folder = scratch.path().display();
        let text = format!(
            "options {{ directory \"{folder}\"; listen-on port 5353 {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; pid-file none; \
             session-keyfile none; lock-file none; recursion no; dnssec-validation no; empty-zones-enable no; notify no; }};\n\
             controls {{ }};\nzone \"gw.test\" {{ type primary; file \"zone\"; }};\n"
        );
        let file = scratch.write("named.conf", &text);
        // A copy: a host's AppArmor profile may keep the installed one from this folder.
        let program = scratch.path().join("named");
        super::namespace::run(Command::new("cp").arg("/usr/sbin/named").arg(&program));
        let child = bed
            .server
            .command(&program.display().to_string())
            .args(["-f", "-n", "1", "-c"])
            .arg(file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("named starts");
        let named = Self(child);
        let deadline = Instant::now() + Duration::from_secs(10);
        let listens =
            |command: &mut Command| super::namespace::run(command).contains("127.0.0.1:5353");
        while !listens(bed.server.command("ss").args(["-Hlun"])) {
            assert!(Instant::now() < deadline, "named does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        named
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One caller, whom the server trusts, and the gateways.
struct Scene {
    caller: Sender,
    local: SocketAddr,
    /// Answers 503, at port 5081.
    busy: Callee,
    /// Answers 200, at port 5082 by UDP and TCP.
    good: Callee,
    /// Answers 200, at port 5085.
    streams: Callee,
    number: u32,
}

impl Scene {
    fn new(link: &Link) -> Self {
        let at = |port| SocketAddr::new(link.phone(Family::V4), port);
        let local = at(5070);
        Self {
            caller: Sender::open(&link.phones, Transport::Udp, local, link.sip(Family::V4)),
            local,
            busy: Callee::open(&link.phones, at(5081), 503),
            good: Callee::open(&link.phones, at(5082), 200),
            streams: Callee::open(&link.phones, at(5085), 200),
            number: 0,
        }
    }

    /// Sends a MESSAGE for a user at `host`; gives the final status, how long it took, and what the gateways got.
    #[track_caller]
    fn message(
        &mut self,
        host: &str,
        padding: usize,
    ) -> (u16, Duration, Vec<(&'static str, Vec<u8>)>) {
        self.number += 1;
        let (number, local) = (self.number, self.local);
        let mut text = format!(
            "MESSAGE sip:x@{host} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bKn{number}\r\nMax-Forwards: 70\r\n\
             From: <sip:a@elsewhere.test>;tag=a\r\nTo: <sip:x@{host}>\r\nCall-ID: n{number}\r\nCSeq: 1 MESSAGE\r\n"
        );
        let _ = write!(
            text,
            "Subject: {}\r\nContent-Length: 0\r\n\r\n",
            "x".repeat(padding)
        );
        self.caller.send(text.as_bytes());
        let begun = Instant::now();
        let mut got = Vec::new();
        while begun.elapsed() < Duration::from_secs(15) {
            for (name, callee) in [
                ("busy", &mut self.busy),
                ("good", &mut self.good),
                ("streams", &mut self.streams),
            ] {
                got.extend(callee.take().into_iter().map(|bytes| (name, bytes)));
            }
            for answer in self.caller.take() {
                let status = String::from_utf8_lossy(&answer);
                let status: u16 = status[8..11].parse().expect("a status");
                if status >= 200 {
                    return (status, begun.elapsed(), got);
                }
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("no answer for {host}");
    }
}

#[test]
fn requests_find_their_next_hop_by_name_and_pass_over_those_that_fail() {
    let bed = Bed::one_queue();
    let scratch = Scratch::new();
    let link = bed.link();
    bed.server.ip("link set lo up");
    let _named = Named::start(&bed, &scratch);
    let peer = "[[peer]]\nname = \"phones\"\naddresses = [\"10.77.0.0/24\"]\n\n[dns]\nservers = [\"127.0.0.1:5353\"]\n\n";
    let text = configuration(&bed, Family::V4, Backend::Driver, 1)
        .replace("[sip]\n", &format!("{peer}[sip]\nfailover_ms = 1000\n"));
    let server = Server::start(&bed.server, &scratch, &text);
    let mut scene = Scene::new(link);
    let silent = SocketAddr::new(link.phone(Family::V4), 5084);
    let _silent = link
        .phones
        .inside(|| UdpSocket::bind(silent).expect("an address of this namespace"));
    let names =
        |got: &[(&'static str, Vec<u8>)]| got.iter().map(|(name, _)| *name).collect::<Vec<_>>();

    // RFC 3263 4.3: a 503, a port that nobody listens at, silence.
    let (status, span, got) = scene.message("busy.gw.test", 0);
    assert_eq!((status, names(&got)), (200, vec!["busy", "good"]));
    println!("the first destination answers 503: the second answered after {span:?}");
    let (status, span, got) = scene.message("refuses.gw.test", 0);
    assert_eq!((status, names(&got)), (200, vec!["good"]));
    assert!(
        span < Duration::from_millis(900),
        "ICMP tells at once, not after {span:?}"
    );
    println!("nobody listens at the first: the second answered after {span:?}");
    let (status, span, got) = scene.message("silent.gw.test", 0);
    assert_eq!((status, names(&got)), (200, vec!["good"]));
    assert!(
        span >= Duration::from_millis(990),
        "the first is given its time, not {span:?}"
    );
    println!("the first is silent: the second answered after {span:?}");

    // What is short goes by UDP, as the priorities say; what is long by TCP, since the records name it.
    let (status, _, got) = scene.message("both.gw.test", 100);
    assert_eq!((status, names(&got)), (200, vec!["good"]));
    let (status, _, got) = scene.message("both.gw.test", 1_300);
    assert_eq!((status, names(&got)), (200, vec!["streams"]));
    assert!(String::from_utf8_lossy(&got[0].1).contains("\r\nVia: SIP/2.0/TCP 10.77.0.1:5060;"));

    // The last 503 is not passed on as such, and a name that is none is told at once.
    let (status, _, _) = scene.message("fails.gw.test", 0);
    assert_eq!(status, 500);
    let (status, span, _) = scene.message("nobody.gw.test", 0);
    assert_eq!(status, 500);
    println!("a name that is none: told after {span:?}");

    let metrics = server.metrics();
    assert_eq!(metrics.sum("strowger_failovers_total", ""), 3);
    assert_eq!(metrics.sum("strowger_dns_questions_total", ""), 7);
    assert_eq!(metrics.sum("strowger_refusals_total", "unresolvable"), 1);
}
