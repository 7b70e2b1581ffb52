//! A phone that registers.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// A socket that speaks for all users.
pub(crate) struct Phone {
    socket: UdpSocket,
    count: u32,
}

impl Phone {
    pub(crate) fn new() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        socket
            .set_read_timeout(Some(Duration::from_millis(500)))
            .expect("a timeout");
        Self { socket, count: 0 }
    }

    /// The CSeq of the last REGISTER.
    pub(crate) const fn cseq(&self) -> u64 {
        self.count as u64
    }

    /// Registers `contact` (a Contact's value with its parameters) and asserts that the answer is 200.
    #[track_caller]
    pub(crate) fn register(&mut self, at: SocketAddr, user: &str, contact: &str, more: &str) {
        let headers = format!("User-Agent: Test/1.0\r\nContact: {contact}\r\n{more}");
        self.ask(at, user, &headers);
    }

    /// Sends a REGISTER with these header fields beside the usual ones, and asserts that the answer is 200.
    #[track_caller]
    pub(crate) fn ask(&mut self, at: SocketAddr, user: &str, headers: &str) {
        self.count += 1;
        let (own, count) = (self.socket.local_addr().expect("it is bound"), self.count);
        let request = format!(
            "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP {own};rport;branch=z9hG4bKx{count}x\r\nMax-Forwards: 70\r\n\
             From: <sip:{user}@example.com>;tag=1\r\nTo: <sip:{user}@example.com>\r\nCall-ID: call-{user}\r\nCSeq: {count} REGISTER\r\n\
             {headers}Content-Length: 0\r\n\r\n"
        );
        let mut buffer = [0; 65_536];
        for _ in 0..10 {
            self.socket
                .send_to(request.as_bytes(), at)
                .expect("a packet leaves");
            while let Ok((len, _)) = self.socket.recv_from(&mut buffer) {
                let answer = String::from_utf8_lossy(&buffer[..len]);
                if answer.contains(&format!("z9hG4bKx{count}x")) {
                    assert!(answer.starts_with("SIP/2.0 200"), "{user}: {answer}");
                    return;
                }
            }
        }
        panic!("{at} does not answer");
    }
}
