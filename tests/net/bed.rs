//! Network namespaces joined by veth pairs: a NIC on which native XDP and AF_XDP copy mode run for real.
//!
//! The server's namespace has one interface for each peer (`s0`, `s1`), each peer's has `p0`. Everything is removed when the
//! bed is dropped, by a panic too.
#![expect(unsafe_code, reason = "setns(2) has no wrapper in std")]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// A server's namespace and those of its peers.
pub(crate) struct Bed {
    name: String,
    peers: usize,
}

impl Bed {
    /// Builds a bed with `peers` peers, each joined by a veth pair of `queues` queues. Peer n has 10.77.n.2 and fd77:n::2, the
    /// server 10.77.n.1 and fd77:n::1 on the interface towards it.
    pub(crate) fn new(peers: usize, queues: u32) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let bed = Self {
            name: format!("stgnet{}-{count}", std::process::id()),
            peers,
        };
        bed.add(&bed.server());
        for n in 0..peers {
            let (server, peer) = (bed.server(), bed.peer(n));
            bed.add(&peer);
            run(&format!(
                "ip -n {server} link add s{n} numtxqueues {queues} numrxqueues {queues} type veth \
                 peer name p0 netns {peer} numtxqueues {queues} numrxqueues {queues}"
            ));
            for (namespace, interface, host) in
                [(&server, format!("s{n}"), 1), (&peer, "p0".to_owned(), 2)]
            {
                run(&format!(
                    "ip -n {namespace} address add 10.77.{n}.{host}/24 dev {interface}"
                ));
                run(&format!(
                    "ip -n {namespace} address add fd77:{n}::{host}/64 dev {interface} nodad"
                ));
                run(&format!("ip -n {namespace} link set {interface} up"));
            }
        }
        bed
    }

    /// The server's namespace.
    pub(crate) fn server(&self) -> String {
        format!("{}s", self.name)
    }

    /// A peer's namespace.
    pub(crate) fn peer(&self, n: usize) -> String {
        format!("{}p{n}", self.name)
    }

    /// Runs a command in the server's namespace.
    pub(crate) fn server_runs(&self, command: &str) -> String {
        run(&format!("ip netns exec {} {command}", self.server()))
    }

    /// Runs a command in a peer's namespace.
    pub(crate) fn peer_runs(&self, n: usize, command: &str) -> String {
        run(&format!("ip netns exec {} {command}", self.peer(n)))
    }

    /// Runs a closure on a thread of its own in a peer's namespace.
    pub(crate) fn at_peer<T: Send>(&self, n: usize, closure: impl FnOnce() -> T + Send) -> T {
        inside(&self.peer(n), closure)
    }

    /// Makes a namespace with its loopback up.
    fn add(&self, namespace: &str) {
        run(&format!("ip netns add {namespace}"));
        run(&format!("ip -n {namespace} link set lo up"));
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        for namespace in (0..self.peers).map(|n| self.peer(n)).chain([self.server()]) {
            // What was not made cannot be removed; a panic that is under way tells more.
            let _ = Command::new("ip")
                .args(["netns", "del", &namespace])
                .output();
        }
    }
}

/// Runs a closure on a thread of its own in a namespace, and gives its result or its panic.
pub(crate) fn inside<T: Send>(namespace: &str, closure: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter(namespace);
            closure()
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Moves the calling thread, and the threads that it will start, into a namespace.
pub(crate) fn enter(namespace: &str) {
    let file = File::open(format!("/run/netns/{namespace}")).expect("the namespace exists");
    // SAFETY: setns takes no pointer, and the descriptor is open.
    let result = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
    assert_eq!(result, 0, "setns: {}", std::io::Error::last_os_error());
}

/// Runs a command that must succeed, and gives its output.
pub(crate) fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().expect("a command"))
        .args(words)
        .output()
        .unwrap_or_else(|error| panic!("{command}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {text}{errors}");
    text
}
