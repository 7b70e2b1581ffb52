//! `strowger ctl`: calls the running server and prints what it says.
//!
//! `words` makes the parameters of a call from those of a command line, `http` brings the call to the server.

mod http;
mod words;

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use serde_json::{Value, json};

pub use self::http::HttpError;
pub use self::words::WordsError;
use crate::admin::rpc::method::METHODS;
use crate::admin::{Token, TokenError};
use crate::config;

/// Where the server is, and what opens it.
#[derive(Clone, Debug)]
pub struct Server {
    address: SocketAddr,
    token_file: Option<PathBuf>,
}

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    /// The parameters make no sense.
    #[error(transparent)]
    Words(#[from] WordsError),
    /// There is no token.
    #[error("[admin] token_file {0}")]
    Token(#[from] TokenError),
    /// The call does not get there, or its answer not back.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The server answers with an error.
    #[error("{message} ({code})")]
    Refused {
        /// JSON-RPC's code, or SIP's.
        code: i64,
        /// What the server says.
        message: String,
    },
    /// What answers is not the admin server.
    #[error(
        "http://{0} does not answer as strowger's admin server does; is [admin] listen another address?"
    )]
    Strange(SocketAddr),
}

impl CtlError {
    /// Whether the command line is to blame, and nothing was asked of the server.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::Words(_))
    }

    /// Whether no server runs there.
    #[must_use]
    pub const fn is_absence(&self) -> bool {
        matches!(self, Self::Http(HttpError::Refused(_)))
    }
}

impl Server {
    /// The server that `[admin]` of a configuration describes; without one, the usual address.
    #[must_use]
    pub fn of(admin: Option<&config::Admin>) -> Self {
        admin.map_or(
            Self {
                address: USUAL,
                token_file: None,
            },
            |admin| Self {
                address: reachable(admin.listen),
                token_file: admin.token_file.clone(),
            },
        )
    }

    /// Calls a method and gives its result.
    ///
    /// # Errors
    /// See [`CtlError`].
    pub fn call(&self, method: &str, words: &[String]) -> Result<Value, CtlError> {
        let mut call = json!({ "jsonrpc": "2.0", "id": 1, "method": method });
        if let Some(params) = words::params(words)? {
            call["params"] = params;
        }
        let token = self.token_file.as_deref().map(Token::read).transpose()?;
        let body = http::post(self.address, "/rpc", token.as_deref(), &call.to_string())?;
        let mut answer: Value =
            serde_json::from_slice(&body).map_err(|_| CtlError::Strange(self.address))?;
        if let Some(error) = answer.get("error") {
            let message = error["message"].as_str().unwrap_or("it does not say why");
            return Err(CtlError::Refused {
                code: error["code"].as_i64().unwrap_or_default(),
                message: message.to_owned(),
            });
        }
        match answer.get_mut("result") {
            Some(result) => Ok(result.take()),
            None => Err(CtlError::Strange(self.address)),
        }
    }
}

/// The methods, a line each, for the help.
#[must_use]
pub fn methods() -> String {
    let usages: Vec<String> = METHODS
        .iter()
        .map(|method| format!("{} {}", method.name, method.usage()))
        .collect();
    let mut text = "Methods:\n".to_owned();
    for (usage, method) in usages.iter().zip(METHODS) {
        let about = method.about;
        // A long one has its explanation below it.
        let _ = if usage.len() <= USAGE_LEN {
            writeln!(text, "  {usage:<USAGE_LEN$}  {about}")
        } else {
            writeln!(
                text,
                "  {}\n  {:<USAGE_LEN$}  {about}",
                usage.trim_end(),
                ""
            )
        };
    }
    text.push_str(EXAMPLES);
    text
}

/// Where a wildcard address is reached from this host.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Where `[admin]` listens if it does not say.
const USUAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8060);
/// The width of the first column of the list of methods.
const USAGE_LEN: usize = 24;
const EXAMPLES: &str = "\nParameters: words in that order, or NAME=VALUE, or one JSON array or object.\n  \
strowger ctl ul.lookup alice\n  \
strowger ctl ul.dump limit=100\n  \
strowger ctl ul.rm alice 'sip:alice@192.0.2.7:5060'\n  \
strowger ctl ul.dump '{\"cursor\": \"3.0\"}'\n\n\
Exit status: 0 the result is on standard output, as JSON; 1 the server refused or is not there; 2 the command line or the \
configuration is wrong.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_reached_by_loopback() {
        let at = |listen: &str| reachable(listen.parse().expect("an address")).to_string();
        assert_eq!(at("0.0.0.0:8060"), "127.0.0.1:8060");
        assert_eq!(at("[::]:8060"), "[::1]:8060");
        assert_eq!(at("192.0.2.1:1"), "192.0.2.1:1");
    }

    #[test]
    fn every_method_is_in_the_help() {
        let text = methods();
        for method in METHODS {
            assert!(text.contains(method.about), "{}\n{text}", method.name);
        }
    }
}
