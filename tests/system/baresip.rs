//! baresip: a real phone, told what to do and asked what happened by its control socket.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::bed::{Family, Link};
use super::scratch::Scratch;

/// A phone that runs; dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Baresip {
    user: &'static str,
    port: u16,
    folder: PathBuf,
    child: Child,
    control: TcpStream,
    unread: Vec<u8>,
    /// What it told and nobody has asked for yet.
    events: Vec<Value>,
    log: PathBuf,
}

impl Baresip {
    /// Starts the phone of `user` at `port` of the phones' address (it takes the next one, too), and waits until it is registered.
    pub(crate) fn start(link: &Link, scratch: &Scratch, user: &'static str, port: u16) -> Self {
        let folder = scratch.fresh(user);
        let server = link.sip(Family::V4);
        let account = format!("<sip:{user}@example.com>;outbound=\"sip:{server}\"");
        prepare(link, &folder, &account, port);
        Self::start_in(link, folder, user, port, 1)
    }

    /// The same with two flows (RFC 5626): one by TCP, one by UDP.
    pub(crate) fn start_by_flows(
        link: &Link,
        scratch: &Scratch,
        user: &'static str,
        port: u16,
    ) -> Self {
        let folder = scratch.fresh(user);
        let server = link.sip(Family::V4);
        let account = format!(
            "<sip:{user}@example.com;transport=tcp>;sipnat=outbound;outbound=\"sip:{server};transport=tcp\";outbound2=\"sip:{server}\""
        );
        prepare(link, &folder, &account, port);
        Self::start_in(link, folder, user, port, 2)
    }

    /// Ends the phone without a word, and starts it again as the same instance.
    pub(crate) fn start_again(mut self, link: &Link, registrations: usize) -> Self {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let (folder, user, port) = (self.folder.clone(), self.user, self.port);
        drop(self);
        Self::start_in(link, folder, user, port, registrations)
    }

    fn start_in(
        link: &Link,
        folder: PathBuf,
        user: &'static str,
        port: u16,
        registrations: usize,
    ) -> Self {
        let control = control_of(port);
        let log = folder.join("log");
        let output = File::create(&log).expect("a file in our own folder");
        let output_too = output.try_clone().expect("a second handle on it");
        let child = link
            .phones
            .command("baresip")
            .arg("-f")
            .arg(&folder)
            .stdout(Stdio::from(output))
            .stderr(Stdio::from(output_too))
            .spawn()
            .expect("baresip is installed");
        let deadline = Instant::now() + PATIENCE;
        let stream = loop {
            if let Ok(stream) = link.phones.inside(|| TcpStream::connect(control)) {
                break stream;
            }
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            assert!(
                Instant::now() < deadline,
                "baresip takes no commands: {said}"
            );
            std::thread::sleep(Duration::from_millis(50));
        };
        stream.set_nonblocking(true).expect("a socket");
        let phone = Self {
            user,
            port,
            folder,
            child,
            control: stream,
            unread: Vec::new(),
            events: Vec::new(),
            log,
        };
        // It may have registered before anybody listened for the event: but it prints so, too.
        while phone.said().matches("200 OK () [").count() < registrations {
            assert!(
                Instant::now() < deadline,
                "{user} does not register: {}",
                phone.said()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        phone
    }

    /// Gives it a command of its menu.
    pub(crate) fn command(&mut self, command: &str, parameters: &str) {
        let text =
            json!({ "command": command, "params": parameters, "token": command }).to_string();
        // A netstring (D. J. Bernstein, 1997).
        write!(self.control, "{}:{text},", text.len()).expect("baresip listens");
        let answer = self.await_value(&format!("an answer to {command}"), |value| {
            value["response"] == true && value["token"] == command
        });
        assert_eq!(
            answer["ok"], true,
            "{}: {command} {parameters}: {answer}",
            self.user
        );
    }

    /// Waits for an event of this type, and forgets the first of them.
    #[track_caller]
    pub(crate) fn await_event(&mut self, kind: &str) -> Value {
        self.await_value(kind, |value| {
            value["event"] == true && value["type"] == kind
        })
    }

    #[track_caller]
    fn await_value(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.read();
            if let Some(at) = self.events.iter().position(&wanted) {
                return self.events.remove(at);
            }
            assert!(
                Instant::now() < deadline,
                "{}: not within {PATIENCE:?}: {what}\nbut: {:#?}\n{}",
                self.user,
                self.events,
                self.said()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Reads the netstrings that have come.
    fn read(&mut self) {
        let mut buffer = [0; 4_096];
        loop {
            match self.control.read(&mut buffer) {
                Ok(0) => panic!("{} has ended\n{}", self.user, self.said()),
                Ok(len) => self.unread.extend_from_slice(&buffer[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{}: {error}", self.user),
            }
        }
        while let Some(colon) = self.unread.iter().position(|&byte| byte == b':') {
            let len: usize = String::from_utf8_lossy(&self.unread[..colon])
                .parse()
                .expect("a netstring begins with its length");
            let end = colon + 1 + len;
            if self.unread.len() <= end {
                break;
            }
            let value = serde_json::from_slice(&self.unread[colon + 1..end]).expect("JSON");
            self.events.push(value);
            self.unread.drain(..=end);
        }
    }

    /// What it has printed.
    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Baresip {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.user, self.said());
        }
    }
}

/// Writes what the phone of an account reads at its start.
fn prepare(link: &Link, folder: &Path, account: &str, port: u16) {
    std::fs::create_dir(folder).expect("a folder in our own");
    let own = SocketAddr::new(link.phone(Family::V4), port);
    let account = format!("{account};auth_pass=none;regint=60;answermode=manual\n");
    for (name, text) in [
        ("config", configuration(own, control_of(port))),
        ("accounts", account),
    ] {
        std::fs::write(folder.join(name), text).expect("a file in our own folder");
    }
}

/// Where the phone at a port takes its commands.
fn control_of(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port + 1_000))
}

/// What it hears is what it says; no name is resolved, nothing is opened but what the call needs.
fn configuration(own: SocketAddr, control: SocketAddr) -> String {
    format!(
        "poll_method epoll\nsip_listen {own}\nsip_certificate\ncall_local_timeout 60\ncall_max_calls 2\n\
         audio_player aubridge,echo\naudio_source aubridge,echo\naudio_alert aubridge,bell\nrtp_ports {}-{}\n\
         module_path /usr/lib/baresip/modules\nmodule g711.so\nmodule aubridge.so\n\
         module_tmp uuid.so\nmodule_tmp account.so\nmodule_app menu.so\nmodule_app ctrl_tcp.so\nctrl_tcp_listen {control}\n",
        10_000 + 100 * (own.port() % 100),
        10_098 + 100 * (own.port() % 100),
    )
}

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(10);
