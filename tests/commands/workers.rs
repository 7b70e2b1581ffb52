//! What a worker does that has nothing to do, as the kernel counts it.

use std::fs;
use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use crate::ports::free_port;
use crate::{Folder, Running, configuration, start, wait_until_it_serves};

/// How often the worker has gone to sleep (`voluntary_ctxt_switches` of proc_pid_status(5)).
fn sleeps(server: &Running) -> u64 {
    let threads = fs::read_dir(format!("/proc/{}/task", server.0.id())).expect("it runs");
    let status = threads
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("status")).ok())
        .find(|status| status.starts_with("Name:\tworker-0\n"))
        .expect("it has one worker");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.expect("proc_pid_status(5)")
        .trim()
        .parse()
        .expect("a number")
}

/// How often a worker with this key sleeps while a hundred requests come, one every 2 ms, and while then none comes for 200 ms.
fn sleeps_with(key: &str) -> (u64, u64) {
    let (folder, sip_port, admin_port) = (Folder::new(), free_port(), free_port());
    let text =
        configuration(sip_port, admin_port).replace("count = 1\n", &format!("count = 1\n{key}\n"));
    folder.write("a.toml", &text);
    let server = start(&folder, "a.toml");
    wait_until_it_serves(admin_port);
    let phone = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    phone
        .set_read_timeout(Some(Duration::from_secs(5)))
        .expect("a timeout");
    let port = phone.local_addr().expect("it is bound").port();
    let before = sleeps(&server);
    for n in 0..100 {
        let request = format!(
            "OPTIONS sip:127.0.0.1:{sip_port} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bKspin{n}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:a@example.com>;tag=1\r\nTo: <sip:127.0.0.1>\r\nCall-ID: spin{n}\r\n\
             CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        );
        phone
            .send_to(request.as_bytes(), ("127.0.0.1", sip_port))
            .expect("sent");
        let mut answer = [0; 2_000];
        let len = phone.recv(&mut answer).expect("an answer within 5 s");
        assert!(answer[..len].starts_with(b"SIP/2.0 200 "));
        thread::sleep(Duration::from_millis(2));
    }
    let between = sleeps(&server);
    thread::sleep(Duration::from_millis(200));
    (between - before, sleeps(&server) - between)
}

#[test]
fn a_worker_that_is_told_to_spin_sleeps_when_nothing_has_come_for_so_long() {
    let (while_they_come, after) = sleeps_with("spin_us = 10000");
    // A request that the machine held up for longer than that finds it asleep.
    assert!(while_they_come < 50, "{while_they_come} times");
    // Housekeeping is due every 20 ms, and it sleeps in between.
    assert!((2..50).contains(&after), "{after} times");
    let (while_they_come, _) = sleeps_with("spin_us = 0");
    assert!(while_they_come >= 50, "{while_they_come} times");
}
