//! `strowger ctl` against a server that runs: what it prints, what it changes, and that no phone waits for it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    Folder, Running, configuration, fetch, free_port, start, stderr, stdout, strowger,
    wait_until_it_serves,
};

/// A server with one worker, and where it is.
struct Server {
    folder: Folder,
    sip_port: u16,
    admin_port: u16,
    _running: Running,
}

impl Server {
    fn start(more: &str) -> Self {
        let (folder, sip_port, admin_port) = (Folder::new(), free_port(), free_port());
        folder.write(
            "strowger.toml",
            &(configuration(sip_port, admin_port) + more),
        );
        let running = start(&folder, "strowger.toml");
        wait_until_it_serves(admin_port);
        Self {
            folder,
            sip_port,
            admin_port,
            _running: running,
        }
    }

    /// The result of a call, by the configuration in the server's folder.
    fn ctl(&self, words: &[&str]) -> Value {
        let arguments: Vec<&str> = ["ctl"].iter().chain(words).copied().collect();
        let output = strowger(&self.folder.0, &arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// What a call that fails says, and the exit status.
    fn refusal(&self, words: &[&str]) -> (Option<i32>, String) {
        let arguments: Vec<&str> = ["ctl"].iter().chain(words).copied().collect();
        let output = strowger(&self.folder.0, &arguments);
        assert_eq!(stdout(&output), "", "{output:?}");
        (output.status.code(), stderr(&output))
    }

    fn phone(&self) -> Phone {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        socket
            .connect(("127.0.0.1", self.sip_port))
            .expect("loopback");
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .expect("a time");
        let port = socket.local_addr().expect("it is bound").port();
        Phone {
            socket,
            port,
            sip_port: self.sip_port,
        }
    }
}

/// A phone that speaks as much SIP as it takes.
struct Phone {
    socket: UdpSocket,
    port: u16,
    sip_port: u16,
}

impl Phone {
    fn request(&self, method: &str, user: &str, cseq: u32, lines: &str) -> String {
        let (own, server) = (self.port, self.sip_port);
        let target = if method == "REGISTER" {
            format!("sip:127.0.0.1:{server}")
        } else {
            format!("sip:{user}@127.0.0.1:{server}")
        };
        format!(
            "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{own};branch=z9hG4bK{method}{user}{cseq}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{user}@127.0.0.1>;tag=1\r\nTo: <sip:{user}@127.0.0.1:{server}>\r\n\
             Call-ID: {user}-{own}\r\nCSeq: {cseq} {method}\r\n{lines}Content-Length: 0\r\n\r\n"
        )
    }

    fn send(&self, text: &str) {
        self.socket.send(text.as_bytes()).expect("loopback");
    }

    /// The next message, without waiting for ever.
    fn receive(&self) -> String {
        let mut bytes = [0; 4_096];
        let len = self.socket.recv(&mut bytes).expect("an answer");
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    }

    /// The status of the answer to a request; provisional ones are passed over.
    fn ask(&self, text: &str) -> u16 {
        self.send(text);
        loop {
            let status = status(&self.receive());
            if status >= 200 {
                return status;
            }
        }
    }

    fn register(&self, user: &str, cseq: u32) -> u16 {
        let port = self.port;
        let lines = format!(
            "Contact: <sip:{user}@127.0.0.1:{port}>;q=0.7;expires=600\r\nUser-Agent: phone/1.2\r\n"
        );
        self.ask(&self.request("REGISTER", user, cseq, &lines))
    }
}

fn status(answer: &str) -> u16 {
    let words = answer.split(' ').nth(1);
    words
        .and_then(|status| status.parse().ok())
        .unwrap_or_else(|| panic!("no answer: {answer}"))
}

#[test]
fn a_phone_is_shown_looked_up_removed_and_added() {
    let server = Server::start("");
    let phone = server.phone();
    assert_eq!(phone.register("alice", 1), 200);
    assert_eq!(phone.register("1001", 1), 200);

    let found = server.ctl(&["ul.lookup", "1001"]);
    let contact = &found["contacts"][0];
    assert_eq!(
        contact["address"],
        format!("sip:1001@127.0.0.1:{}", phone.port)
    );
    assert_eq!((&contact["q"], &contact["cseq"]), (&json!(0.7), &json!(1)));
    assert_eq!(contact["user_agent"], "phone/1.2");
    assert_eq!(contact["callid"], format!("1001-{}", phone.port));
    assert!((590..=600).contains(&contact["expires"].as_u64().expect("a number")));
    for name in ["received", "path", "instance", "reg_id"] {
        assert!(contact[name].is_null(), "{contact}");
    }
    let dump = server.ctl(&["ul.dump"]);
    assert_eq!(dump["aors"].as_array().map(Vec::len), Some(2));
    assert!(dump["next"].is_null());

    // What is removed is called no more, a duplicate does not bring it back, and the next refresh does.
    let invite = |cseq| phone.request("INVITE", "alice", cseq, "Contact: <sip:x@127.0.0.1>\r\n");
    assert_eq!(server.ctl(&["ul.rm", "alice"]), json!({"removed": 1}));
    assert_eq!(phone.ask(&invite(1)), 480);
    assert_eq!(phone.register("alice", 1), 200);
    assert_eq!(
        server.refusal(&["ul.lookup", "alice"]),
        (Some(1), "AOR not found (404)\n".to_owned())
    );
    assert_eq!(phone.register("alice", 2), 200);
    assert_eq!(server.ctl(&["stats.counters"])["bindings"], 2);

    // What is added is called.
    let other = server.phone();
    let contact = format!("contact=sip:carol@127.0.0.1:{}", other.port);
    assert_eq!(
        server.ctl(&["ul.add", "aor=carol", &contact, "expires=60"]),
        json!({"aor": "carol", "expires": 60})
    );
    phone.send(&phone.request("INVITE", "carol", 3, "Contact: <sip:x@127.0.0.1>\r\n"));
    let call = other.receive();
    let line = format!("INVITE sip:carol@127.0.0.1:{} SIP/2.0", other.port);
    assert!(call.starts_with(&line), "{call}");
}

#[test]
fn a_dump_of_ten_thousand_while_they_register_shows_each_once_and_no_phone_waits() {
    const USERS: u32 = 10_000;
    let server = Server::start("");
    let phone = server.phone();
    for user in 0..USERS {
        assert_eq!(phone.register(&format!("u{user}"), 1), 200);
    }
    // Round and round they refresh; every tenth goes and others come.
    let (stop, refreshing) = (Arc::new(AtomicBool::new(false)), server.phone());
    let stopped = Arc::clone(&stop);
    let phones = std::thread::spawn(move || {
        let (mut micros, mut cseq) = (Vec::new(), 1);
        while !stopped.load(Ordering::Relaxed) {
            cseq += 1;
            for user in 0..USERS {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let name = if user % 10 == 0 {
                    format!("new{cseq}-{user}")
                } else {
                    format!("u{user}")
                };
                let sent = Instant::now();
                assert_eq!(refreshing.register(&name, cseq), 200);
                micros.push(u64::try_from(sent.elapsed().as_micros()).expect("short"));
            }
        }
        micros
    });
    let (mut seen, mut cursor) = (BTreeMap::<String, u32>::new(), Value::Null);
    let began = Instant::now();
    for round in 0.. {
        assert!(round < 1_000, "it does not end");
        let params = json!({"cursor": cursor, "limit": 500}).to_string();
        let page = server.ctl(&["ul.dump", &params]);
        for aor in page["aors"].as_array().expect("a list") {
            let name = aor["aor"].as_str().expect("a name").to_owned();
            *seen.entry(name).or_default() += 1;
        }
        cursor = page["next"].clone();
        if cursor.is_null() {
            break;
        }
    }
    let took = began.elapsed();
    stop.store(true, Ordering::Relaxed);
    let mut micros = phones.join().expect("every REGISTER was answered");
    micros.sort_unstable();
    for user in 0..USERS {
        assert_eq!(seen.get(&format!("u{user}")), Some(&1), "u{user}");
    }
    assert!(seen.values().all(|times| *times == 1));
    let counters = server.ctl(&["stats.counters"]);
    assert!(
        counters["errands"]["done"].as_u64() > Some(80),
        "{counters}"
    );
    assert_eq!(counters["errand_refusals"], json!({"full": 0, "late": 0}));
    let at = |share: f64| micros[((micros.len() - 1) as f64 * share) as usize];
    println!(
        "{} AoRs in {took:?} beside {} REGISTERs, in microseconds: median {}, p99 {}, most {}",
        seen.len(),
        micros.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    println!("{}", fetch(server.admin_port, "/latency").expect("served"));
}

#[test]
fn what_goes_wrong_is_said_with_its_exit_status() {
    let server = Server::start("");
    let (status, text) = server.refusal(&["ul.lookup"]);
    assert_eq!((status, &*text), (Some(1), "aor is missing (-32602)\n"));
    let (status, text) = server.refusal(&["no.such"]);
    assert_eq!(status, Some(1));
    assert!(
        text.contains("rpc.methods") && text.contains("-32601"),
        "{text}"
    );
    for (words, part) in [
        (&["ul.dump", "{"][..], "begins as JSON"),
        (&["ul.rm", "aor=alice", "bob"], "bob"),
        (&[], "METHOD"),
        (&["--config", "not.toml", "core.uptime"], "not.toml"),
    ] {
        let (status, text) = server.refusal(words);
        assert_eq!(status, Some(2), "{text}");
        assert!(text.contains(part), "{text}");
    }
    let folder = Folder::new();
    folder.write("away.toml", &configuration(free_port(), free_port()));
    let output = strowger(&folder.0, &["ctl", "--config", "away.toml", "core.uptime"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("refuses the connection: no server runs there"),
        "{output:?}"
    );
    // Somebody else has the port.
    let other = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let port = other.local_addr().expect("it is bound").port();
    let talker = std::thread::spawn(move || {
        let (mut stream, _) = other.accept().expect("ctl comes");
        // All of the call is read, so that what is said arrives.
        let _ = stream.read(&mut [0; 4_096]);
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
    });
    folder.write("other.toml", &configuration(free_port(), port));
    let output = strowger(&folder.0, &["ctl", "--config", "other.toml", "core.uptime"]);
    talker.join().expect("it was called");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stderr(&output).contains("no answer of HTTP"), "{output:?}");
    let help = stdout(&strowger(&folder.0, &["ctl", "--help"]));
    let methods = server.ctl(&["rpc.methods"]);
    for method in methods.as_array().expect("a list") {
        let name = method["name"].as_str().expect("a name");
        assert!(help.contains(name), "{name}\n{help}");
    }
}

#[test]
fn a_server_that_is_open_to_the_network_wants_its_token() {
    let folder = Folder::new();
    let token = folder.write("admin.token", "0123456789abcdef0123\n");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).expect("our own file");
    let (sip_port, admin_port) = (free_port(), free_port());
    let open = configuration(sip_port, admin_port).replace(
        &format!("listen = \"127.0.0.1:{admin_port}\""),
        &format!("listen = \"0.0.0.0:{admin_port}\""),
    );
    folder.write("open.toml", &open);
    for command in [&["run"][..], &["check"], &["ctl", "core.uptime"]] {
        let arguments: Vec<&str> = command
            .iter()
            .take(1)
            .chain(&["--config", "open.toml"])
            .chain(command.iter().skip(1))
            .copied()
            .collect();
        let output = strowger(&folder.0, &arguments);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(stderr(&output).contains("a token is needed"), "{output:?}");
    }
    folder.write("a.toml", &(open + "token_file = \"admin.token\"\n"));
    let _running = start(&folder, "a.toml");
    wait_until_it_serves(admin_port);
    let output = strowger(&folder.0, &["ctl", "--config", "a.toml", "core.version"]);
    assert!(stdout(&output).starts_with("\"strowger "), "{output:?}");
    folder.write("b.toml", &configuration(sip_port, admin_port));
    let output = strowger(&folder.0, &["ctl", "--config", "b.toml", "core.version"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("wants a token"), "{output:?}");
    folder.write("admin.token", "0123456789abcdef0124\n");
    let output = strowger(&folder.0, &["ctl", "--config", "a.toml", "core.version"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!stderr(&output).contains("0123456789"), "{output:?}");
}
