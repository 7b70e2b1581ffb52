//! A phone for many users: it registers them and asks what is registered.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::database::Table;

/// A socket that speaks for all users.
#[derive(Debug)]
pub(crate) struct Phone {
    socket: UdpSocket,
    server: SocketAddr,
    branch: u64,
}

impl Phone {
    pub(crate) fn new(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        socket
            .set_read_timeout(Some(Duration::from_millis(500)))
            .expect("a timeout");
        Self {
            socket,
            server,
            branch: 0,
        }
    }

    /// Registers a user and asserts that the answer is 200; gives how long it took.
    #[track_caller]
    pub(crate) fn register(&mut self, user: &str, cseq: u32, expires_s: u32) -> Duration {
        let contact = format!("Contact: <sip:{user}@10.1.2.3:5060>;expires={expires_s}\r\n");
        let start = Instant::now();
        let answer = self.ask("REGISTER", user, cseq, &contact);
        assert!(answer.starts_with("SIP/2.0 200"), "{user}: {answer}");
        start.elapsed()
    }

    /// Registers users `range` of the test with this CSeq; gives the longest wait.
    #[track_caller]
    pub(crate) fn register_all(
        &mut self,
        range: std::ops::Range<u32>,
        cseq: u32,
        expires_s: u32,
    ) -> Duration {
        range
            .map(|n| self.register(&format!("user{n}"), cseq, expires_s))
            .max()
            .unwrap_or_default()
    }

    /// The contacts of a user.
    pub(crate) fn contacts(&mut self, user: &str) -> Vec<String> {
        let answer = self.ask("REGISTER", user, 1, "");
        let contacts = answer
            .lines()
            .filter_map(|line| line.strip_prefix("Contact: <"));
        contacts
            .filter_map(|line| Some(line.split_once('>')?.0.to_owned()))
            .collect()
    }

    /// Sends a request to a user and gives the final answer.
    pub(crate) fn ask(&mut self, method: &str, user: &str, cseq: u32, headers: &str) -> String {
        self.ask_times(method, user, cseq, headers, 10)
    }

    /// The same, and waits as long as a transaction does.
    pub(crate) fn ask_patiently(
        &mut self,
        method: &str,
        user: &str,
        cseq: u32,
        headers: &str,
    ) -> String {
        self.ask_times(method, user, cseq, headers, 64)
    }

    fn ask_times(
        &mut self,
        method: &str,
        user: &str,
        cseq: u32,
        headers: &str,
        times: u32,
    ) -> String {
        self.branch += 1;
        let own = self.socket.local_addr().expect("it is bound");
        let host = DOMAIN;
        let uri = if method == "REGISTER" {
            format!("sip:{host}")
        } else {
            format!("sip:{user}@{}", self.server)
        };
        let branch = self.branch;
        let request = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{branch}x{}\r\nMax-Forwards: 70\r\n\
             From: <sip:{user}@{host}>;tag=1\r\nTo: <sip:{user}@{host}>\r\nCall-ID: call-{user}\r\nCSeq: {cseq} {method}\r\n\
             User-Agent: Test/1.0\r\n{headers}Content-Length: 0\r\n\r\n",
            own.port()
        );
        let mut buffer = [0; 65_536];
        for _ in 0..times {
            self.socket
                .send_to(request.as_bytes(), self.server)
                .expect("a packet leaves");
            while let Ok((len, _)) = self.socket.recv_from(&mut buffer) {
                let answer = String::from_utf8_lossy(&buffer[..len]).into_owned();
                let is_it = answer.contains(&format!("z9hG4bK{branch}x"))
                    && !answer.starts_with("SIP/2.0 1");
                if is_it {
                    return answer;
                }
            }
        }
        panic!("no answer to {method} for {user}");
    }
}

/// The domain of all users.
pub(crate) const DOMAIN: &str = "example.com";

/// What the table is to be when users `range` have registered with this CSeq.
pub(crate) fn expected(range: std::ops::Range<u32>, cseq: u32) -> Table {
    range
        .map(|n| {
            (
                format!("user{n}"),
                vec![(cseq, format!("sip:user{n}@10.1.2.3:5060"))],
            )
        })
        .collect()
}
