//! One POST to the admin server: as much of HTTP/1.1 (RFC 9112) as that takes.
//!
//! The connection is closed behind it; the body is framed by Content-Length, by chunks, or by the end of the connection.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::limits::{CTL_ANSWER_LEN_MAX, CTL_TIME};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Nobody listens there.
    #[error(
        "{0} refuses the connection: no server runs there, or its configuration has no [admin]; --config FILE names another"
    )]
    Refused(SocketAddr),
    /// The connection fails.
    #[error("{address}: {error}")]
    Connection {
        /// The server.
        address: SocketAddr,
        /// The system's answer.
        error: io::Error,
    },
    /// The server wants a token.
    #[error(
        "{0} wants a token: --config FILE names a configuration whose [admin] has the server's token_file"
    )]
    Unauthorized(SocketAddr),
    /// The server answers with another status than 200.
    #[error("{address} answers {status}: {text}")]
    Status {
        /// The server.
        address: SocketAddr,
        /// The status code.
        status: u16,
        /// What it says.
        text: String,
    },
    /// What comes is not HTTP, or ends before its end.
    #[error("{0} sends what is no answer of HTTP, or not all of it")]
    Malformed(SocketAddr),
    /// The answer is longer than anything that is asked for.
    #[error("{0} sends more than {CTL_ANSWER_LEN_MAX} bytes; ask for less")]
    TooLong(SocketAddr),
}

/// Posts JSON and gives the body of the answer.
pub(super) fn post(
    address: SocketAddr,
    path: &str,
    token: Option<&str>,
    body: &str,
) -> Result<Vec<u8>, HttpError> {
    let failed = |error: io::Error| {
        if error.kind() == io::ErrorKind::ConnectionRefused {
            HttpError::Refused(address)
        } else {
            HttpError::Connection { address, error }
        }
    };
    let patience = Duration::from_micros(CTL_TIME.as_micros());
    let mut stream = TcpStream::connect_timeout(&address, patience).map_err(failed)?;
    stream.set_read_timeout(Some(patience)).map_err(failed)?;
    stream.set_write_timeout(Some(patience)).map_err(failed)?;
    let authorization = token.map_or_else(String::new, |token| {
        format!("Authorization: Bearer {token}\r\n")
    });
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         {authorization}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut answer = Vec::new();
    let most = CTL_ANSWER_LEN_MAX as u64 + 1;
    stream.take(most).read_to_end(&mut answer).map_err(failed)?;
    if answer.len() > CTL_ANSWER_LEN_MAX {
        return Err(HttpError::TooLong(address));
    }
    let (status, body) = read(&answer).ok_or(HttpError::Malformed(address))?;
    match status {
        200 => Ok(body),
        401 => Err(HttpError::Unauthorized(address)),
        _ => {
            let text = String::from_utf8_lossy(&body).trim().to_owned();
            Err(HttpError::Status {
                address,
                status,
                text,
            })
        }
    }
}

/// The status and the body of an answer; `None` where it is none or not whole.
fn read(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = memchr::memmem::find(answer, b"\r\n\r\n")?;
    let (head, body) = answer.split_at_checked(end + 4)?;
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.split("\r\n");
    let status_line = lines.next()?.strip_prefix("HTTP/1.")?;
    let status = status_line.split(' ').nth(1)?.parse().ok()?;
    let field = |name: &str| {
        lines.clone().find_map(|line| {
            let (own, value) = line.split_once(':')?;
            own.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    if field("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        return Some((status, unchunked(body)?));
    }
    match field("content-length") {
        Some(len) => Some((status, body.get(..len.parse().ok()?)?.to_vec())),
        None => Some((status, body.to_vec())),
    }
}

/// The data of a chunked body (RFC 9112 7.1).
fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    loop {
        let end = memchr::memmem::find(rest, b"\r\n")?;
        let line = std::str::from_utf8(rest.get(..end)?).ok()?;
        let size = line.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(data);
        }
        rest = rest.get(end + 2..)?;
        data.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size..)?.strip_prefix(b"\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_framing_is_understood() {
        let read = |text: &str| read(text.as_bytes());
        assert_eq!(
            read("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}\n"),
            Some((200, b"{}".to_vec()))
        );
        assert_eq!(
            read(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\n{\"\r\n3\r\na\":\r\n0\r\n\r\n"
            ),
            Some((200, b"{\"a\":".to_vec()))
        );
        assert_eq!(
            read("HTTP/1.0 401 Unauthorized\r\n\r\nno\n"),
            Some((401, b"no\n".to_vec()))
        );
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        for text in [
            "",
            "SSH-2.0-OpenSSH_9.2\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{}",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n{}",
        ] {
            assert_eq!(read(text.as_bytes()), None, "{text}");
        }
    }
}
