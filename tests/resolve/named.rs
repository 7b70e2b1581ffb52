//! BIND's server on a loopback port of its own, with the zones of these tests and a log of every query.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A running server; dropping it ends the process and removes its folder.
pub(crate) struct Named {
    process: Child,
    folder: PathBuf,
    address: SocketAddr,
}

impl Named {
    /// Starts a server that knows the zones, and waits until it answers.
    pub(crate) fn start() -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let folder = std::env::temp_dir().join(format!("stg{pid}-{}", 100 + u32::from(number)));
        fs::create_dir_all(&folder).expect("a folder");
        let address = free_address(pid, number);
        // A copy, so that a host's AppArmor profile for the path does not keep it from this folder. By a process of its own: a file
        // that this one has open for writing, another test's child may inherit, and then it is too busy to be run.
        let program = folder.join("named");
        let copied = Command::new("cp")
            .args(["/usr/sbin/named".as_ref(), program.as_os_str()])
            .status();
        assert!(
            copied.is_ok_and(|status| status.success()),
            "named: apt-get install bind9"
        );
        fs::write(
            folder.join("example.net.zone"),
            include_str!("example.net.zone"),
        )
        .expect("written");
        fs::write(
            folder.join("named.conf"),
            configuration(&folder, address.port()),
        )
        .expect("written");
        let process = Command::new(&program)
            .args(["-f", "-n", "1", "-c"])
            .arg(folder.join("named.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("named starts");
        let named = Self {
            process,
            folder,
            address,
        };
        named.wait_until_it_answers();
        named
    }

    /// Where it is asked.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often it was asked for records of this type of this name.
    pub(crate) fn queries(&self, name: &str, kind: &str) -> usize {
        let wanted = format!("query: {name}.example.net IN {kind} ");
        self.log()
            .lines()
            .filter(|line| line.contains(&wanted))
            .count()
    }

    /// How often it was asked for anything of this name or below it; by TCP alone, if so.
    pub(crate) fn queries_below(&self, name: &str, by_tcp: bool) -> usize {
        let wanted = format!("{name}.example.net IN ");
        let log = self.log();
        let lines = log.lines().filter(|line| line.contains(&wanted));
        // The flags stand after the type: + recursion desired, E EDNS, T TCP.
        let is_tcp = |line: &&str| {
            let flags = line
                .rsplit(" IN ")
                .next()
                .and_then(|tail| tail.split(' ').nth(1));
            flags.is_some_and(|flags| flags.contains('T'))
        };
        lines.filter(|line| !by_tcp || is_tcp(line)).count()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("gone");
    }

    /// SIGSTOP: datagrams go in, nothing comes out.
    pub(crate) fn stop(&self) {
        kill_process(self.pid(), Signal::STOP).expect("stopped");
    }

    /// SIGCONT.
    pub(crate) fn go_on(&self) {
        kill_process(self.pid(), Signal::CONT).expect("goes on");
    }

    fn pid(&self) -> Pid {
        let pid = i32::try_from(self.process.id()).expect("a pid");
        Pid::from_raw(pid).expect("not 0")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("queries.log")).expect("the query log")
    }

    fn wait_until_it_answers(&self) {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        let wait = Duration::from_millis(100);
        socket.set_read_timeout(Some(wait)).expect("a timeout");
        // The root's name servers, asked for in the plainest way.
        let question = [
            &[0_u8, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0][..],
            &[0, 2, 0, 1],
        ]
        .concat();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10) {
            let sent = socket.send_to(&question, self.address);
            if sent.is_ok() && socket.recv(&mut [0; 512]).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("named does not answer at {}", self.address);
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// An address that nobody listens at, by UDP or TCP.
fn free_address(pid: u32, number: u8) -> SocketAddr {
    let (first, count) = PORTS;
    let wanted = pid.wrapping_mul(64).wrapping_add(u32::from(number));
    for step in 0..1_000 {
        let port = first + (wanted.wrapping_add(step * 64) % u32::from(count)) as u16;
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        if UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no port is free");
}

fn configuration(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    format!(
        r#"options {{
    directory "{folder}";
    listen-on port {port} {{ 127.0.0.1; }};
    listen-on-v6 {{ none; }};
    pid-file none;
    session-keyfile none;
    lock-file none;
    recursion no;
    minimal-responses yes;
    dnssec-validation no;
    empty-zones-enable no;
    notify no;
    rrset-order {{ order none; }};
}};
controls {{ }};
logging {{
    channel log {{ file "{folder}/queries.log"; severity info; }};
    category queries {{ log; }};
    category default {{ null; }};
}};
zone "example.net" {{ type primary; file "{folder}/example.net.zone"; }};
"#
    )
}

static NUMBER: AtomicU8 = AtomicU8::new(0);
/// Below the ports that the kernel gives to sockets that name none.
const PORTS: (u16, u16) = (20_000, 12_000);
