//! One Via: by what way a request came, and so by what way its response goes back (RFC 3261 20.42, RFC 3581).

use std::net::SocketAddr;

use super::edit::{EditError, Edits};
use super::error::SipError;
use super::host::Host;
use super::params::{Param, Params};
use super::span::Span;
use super::text::Sink;
use crate::scan;

/// The prefix of every branch that is unique as RFC 3261 8.1.1.7 says.
pub const MAGIC_COOKIE: &[u8] = b"z9hG4bK";

/// One element of a Via field.
#[derive(Clone, Copy, Debug)]
pub struct Via<'a> {
    source: &'a [u8],
    parts: ViaParts,
}

/// The places of a Via's parts: what the index of a message keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ViaParts {
    /// The whole element.
    pub span: Span,
    /// The protocol's name, `SIP`.
    pub protocol: Span,
    /// The protocol's version, `2.0`.
    pub version: Span,
    /// The transport.
    pub transport: Span,
    /// The host of sent-by, IPv6 in its brackets.
    pub host: Span,
    /// The port of sent-by.
    pub port: Option<u16>,
    /// Past sent-by: where a parameter may be put before all others.
    pub sent_by_end: u16,
    /// The parameters.
    pub params: Span,
    /// The value of `branch`.
    pub branch: Option<Span>,
    /// The parameter `received`, with its `;`.
    pub received: Option<Span>,
    /// The parameter `rport`, with its `;`.
    pub rport: Option<Span>,
    /// Whether it was read as a plain one: whole, and with no parameter of ours twice.
    pub(super) is_plain: bool,
}

impl<'a> Via<'a> {
    /// Reads the one Via that `source` has at `span`.
    pub fn parse(source: &'a [u8], span: Span) -> Result<Self, SipError> {
        let mut parts = ViaParts::EMPTY;
        parts.read(source, span)?;
        Ok(Self { source, parts })
    }

    /// The Via whose parts the index of a message has kept.
    pub(super) const fn from_parts(source: &'a [u8], parts: ViaParts) -> Self {
        Self { source, parts }
    }

    /// The places of the parts.
    #[must_use]
    pub const fn parts(&self) -> &ViaParts {
        &self.parts
    }

    /// The whole element.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.parts.span.of(self.source)
    }

    /// Where the whole element stands.
    #[must_use]
    pub const fn span(&self) -> Span {
        self.parts.span
    }

    /// The protocol's name, `SIP`.
    #[must_use]
    pub fn protocol(&self) -> &'a [u8] {
        self.parts.protocol.of(self.source)
    }

    /// The protocol's version, `2.0`.
    #[must_use]
    pub fn version(&self) -> &'a [u8] {
        self.parts.version.of(self.source)
    }

    /// The transport as it is written; compare it without regard to case.
    #[must_use]
    pub fn transport(&self) -> &'a [u8] {
        self.parts.transport.of(self.source)
    }

    /// The host of sent-by as it is written, IPv6 in its brackets.
    #[must_use]
    pub fn host_bytes(&self) -> &'a [u8] {
        self.parts.host.of(self.source)
    }

    /// The host of sent-by.
    pub fn host(&self) -> Result<Host<'a>, SipError> {
        Host::parse(self.host_bytes())
    }

    /// The port of sent-by, where one is written.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        self.parts.port
    }

    /// Host and port of sent-by as they are written.
    #[must_use]
    pub fn sent_by(&self) -> &'a [u8] {
        Span {
            start: self.parts.host.start,
            end: self.parts.sent_by_end,
        }
        .of(self.source)
    }

    /// The offset past sent-by: where a parameter may be put before all others.
    #[must_use]
    pub const fn sent_by_end(&self) -> u16 {
        self.parts.sent_by_end
    }

    /// The parameters.
    #[must_use]
    pub const fn params(&self) -> Params<'a> {
        Params::new(self.source, self.parts.params)
    }

    /// The first parameter called `name`, in any case, with its place.
    #[must_use]
    pub fn param(&self, name: &[u8]) -> Option<Param<'a>> {
        self.params().find(name)
    }

    /// The value of `branch`.
    #[must_use]
    pub fn branch(&self) -> Option<&'a [u8]> {
        self.parts.branch.map(|branch| branch.of(self.source))
    }

    /// Where the value of `branch` stands.
    #[must_use]
    pub const fn branch_span(&self) -> Option<Span> {
        self.parts.branch
    }

    /// Whether the branch is the magic cookie and something more; if not, transactions match as RFC 2543's do
    /// (RFC 3261 17.2.3; RFC 4475 3.2.1 has the bare cookie).
    #[must_use]
    pub fn is_rfc3261(&self) -> bool {
        self.branch()
            .and_then(|branch| branch.strip_prefix(MAGIC_COOKIE))
            .is_some_and(|rest| !rest.is_empty())
    }

    /// The value of `received`.
    #[must_use]
    pub fn received(&self) -> Option<&'a [u8]> {
        self.parts
            .received
            .and_then(|span| Params::new(self.source, span).iter().next()?.value)
    }

    /// Where `received` stands, with its `;`.
    #[must_use]
    pub const fn received_span(&self) -> Option<Span> {
        self.parts.received
    }

    /// The value of `rport`: `None` where it is absent, `Some(None)` where it has no value or none that is a port.
    #[must_use]
    pub fn rport(&self) -> Option<Option<u16>> {
        let span = self.parts.rport?;
        let value = Params::new(self.source, span).iter().next()?.value;
        Some(
            value
                .and_then(|value| scan::decimal(value, u64::from(u16::MAX)))
                .and_then(|port| u16::try_from(port).ok()),
        )
    }

    /// Where `received` and `rport` stand, each with its `;`, in their order; `None` where they may stand more than once.
    pub(super) fn stamp_spans(&self) -> Option<[Option<Span>; 2]> {
        let (a, b) = (self.parts.received, self.parts.rport);
        let is_turned = a.zip(b).is_some_and(|(a, b)| b.start < a.start);
        let spans = if is_turned { [b, a] } else { [a, b] };
        self.parts.is_plain.then_some(spans)
    }

    /// Where `rport` stands, with its `;`.
    #[must_use]
    pub const fn rport_span(&self) -> Option<Span> {
        self.parts.rport
    }

    /// The value of `maddr`.
    #[must_use]
    pub fn maddr(&self) -> Option<&'a [u8]> {
        self.param(b"maddr")?.value
    }

    /// The value of `ttl`.
    #[must_use]
    pub fn ttl(&self) -> Option<u8> {
        let value = self.param(b"ttl")?.value?;
        scan::decimal(value, u64::from(u8::MAX)).and_then(|ttl| u8::try_from(ttl).ok())
    }

    /// Puts the packet's source into the top Via of a received request: `received` and `rport`, in place of whatever
    /// its sender wrote there itself.
    pub fn stamp(&self, source: SocketAddr, edits: &mut Edits) -> Result<(), EditError> {
        if self.needs_received(source) {
            edits.insert_with(self.parts.sent_by_end, |text| self.put_stamp(source, text))?;
        }
        for span in [self.parts.received, self.parts.rport]
            .into_iter()
            .flatten()
        {
            edits.remove(span)?;
        }
        Ok(())
    }

    /// Whether `received` must be written.
    ///
    /// RFC 3261 18.2.1: where sent-by is a name or another address. RFC 3581 4: with `rport`, always. And a `received`
    /// of the sender's own is replaced, never trusted.
    pub(super) fn needs_received(&self, source: SocketAddr) -> bool {
        let is_elsewhere = || self.host().ok().and_then(|host| host.ip()) != Some(source.ip());
        self.parts.received.is_some() || self.parts.rport.is_some() || is_elsewhere()
    }

    /// Writes `;received=` and, where the request had `rport`, `;rport=` (RFC 3581 4).
    pub(super) fn put_stamp(&self, source: SocketAddr, out: &mut impl Sink) {
        out.put(b";received=");
        out.put_ip(source.ip());
        if self.parts.rport.is_some() {
            out.put(b";rport=");
            out.put_decimal(u64::from(source.port()));
        }
    }
}

impl ViaParts {
    /// No parts.
    pub const EMPTY: Self = Self {
        span: Span::EMPTY,
        protocol: Span::EMPTY,
        version: Span::EMPTY,
        transport: Span::EMPTY,
        host: Span::EMPTY,
        port: None,
        sent_by_end: 0,
        params: Span::EMPTY,
        branch: None,
        received: None,
        rport: None,
        is_plain: false,
    };

    /// Fills the parts from `source` at `span`. On an error, `sent_by_end` tells how far it got: where it is not zero, all
    /// up to sent-by is good, and a response can go back by it.
    pub(super) fn read(&mut self, source: &[u8], span: Span) -> Result<(), SipError> {
        let (start, end) = scan::trim(source, usize::from(span.start), usize::from(span.end));
        let source = source.get(..end).unwrap_or_default();
        self.span = Span::new(start, end);
        let at = self.read_protocol(source, start)?;
        let at = self.read_sent_by(source, at)?;
        self.params = Span::new(at, end);
        if !self.params.is_empty() && source.get(at) != Some(&b';') {
            return Err(SipError::BadVia);
        }
        self.read_params(source)
    }

    /// Reads `SIP / 2.0 / UDP` and the whitespace behind it; gives the offset of sent-by.
    fn read_protocol(&mut self, source: &[u8], start: usize) -> Result<usize, SipError> {
        let mut at = start;
        let mut token = |behind: Option<u8>| {
            let token_end = scan::skip(source, at, scan::TOKEN);
            let span = Span::new(at, token_end);
            at = scan::skip(source, token_end, scan::LWS);
            if let Some(separator) = behind {
                if source.get(at) != Some(&separator) {
                    return Err(SipError::BadVia);
                }
                at = scan::skip(source, at + 1, scan::LWS);
            } else if at == token_end {
                return Err(SipError::BadVia);
            }
            if span.is_empty() {
                Err(SipError::BadVia)
            } else {
                Ok(span)
            }
        };
        self.protocol = token(Some(b'/'))?;
        self.version = token(Some(b'/'))?;
        self.transport = token(None)?;
        Ok(at)
    }

    /// Reads `host[:port]` and the whitespace behind it; gives the offset of the parameters.
    fn read_sent_by(&mut self, source: &[u8], start: usize) -> Result<usize, SipError> {
        let rest = source.get(start..).unwrap_or_default();
        let len = scan::find(rest, 0, b';').unwrap_or(rest.len());
        let (_, sent_by_end) = scan::trim(source, start, start + len);
        let sent_by = Span::new(start, sent_by_end).of(source);
        let (host_len, port) = Host::split_port(sent_by)?;
        self.host = Span::new(start, start + host_len);
        Host::parse(self.host.of(source))?;
        self.port = port;
        self.sent_by_end = Span::new(sent_by_end, sent_by_end).start;
        Ok(start + len)
    }

    /// Checks the parameters and keeps the places of those that every message needs.
    fn read_params(&mut self, source: &[u8]) -> Result<(), SipError> {
        for param in &Params::new(source, self.params) {
            param.check()?;
            let (place, span) = if param.name.eq_ignore_ascii_case(b"branch") {
                if param.value_span.is_empty() {
                    return Err(SipError::BadParameter);
                }
                (&mut self.branch, param.value_span)
            } else if param.name.eq_ignore_ascii_case(b"received") {
                (&mut self.received, param.span)
            } else if param.name.eq_ignore_ascii_case(b"rport") {
                (&mut self.rport, param.span)
            } else {
                continue;
            };
            // Two branches would be two transactions to two readers.
            if place.replace(span).is_some() {
                return Err(SipError::BadParameter);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn via(text: &str) -> Result<Via<'_>, SipError> {
        Via::parse(text.as_bytes(), Span::all(text.as_bytes()))
    }

    #[test]
    fn whitespace_and_folding_may_stand_between_all_parts() {
        let via = via("SIP  /   2.0\r\n /UDP\r\n    192.0.2.2 : 5070 ;branch = 390skdjuw")
            .expect("RFC 4475 3.1.1.1");
        assert_eq!(via.protocol(), b"SIP");
        assert_eq!(via.version(), b"2.0");
        assert_eq!(via.transport(), b"UDP");
        assert_eq!(via.host_bytes(), b"192.0.2.2");
        assert_eq!(via.port(), Some(5070));
        assert_eq!(via.sent_by(), b"192.0.2.2 : 5070");
        assert_eq!(via.branch(), Some(&b"390skdjuw"[..]));
        assert!(!via.is_rfc3261());
    }

    #[test]
    fn parameters_have_their_places() {
        let text = "SIP/2.0/UDP [2001:db8::1]:5060;rport=77;branch=z9hG4bKx;received=[::9];ttl=16;maddr=224.0.1.75";
        let via = via(text).expect("a good Via");
        assert_eq!(via.rport(), Some(Some(77)));
        assert_eq!(
            via.rport_span().map(|span| span.of(text.as_bytes())),
            Some(&b";rport=77"[..])
        );
        assert_eq!(via.received(), Some(&b"[::9]"[..]));
        assert_eq!(via.ttl(), Some(16));
        assert_eq!(via.maddr(), Some(&b"224.0.1.75"[..]));
        assert!(via.is_rfc3261());
    }

    #[test]
    fn the_bare_cookie_is_no_branch_of_rfc_3261() {
        assert_eq!(
            via("SIP/2.0/UDP h;branch=z9hG4bK").map(|via| via.is_rfc3261()),
            Ok(false)
        );
    }

    #[test]
    fn malformed_vias_are_refused() {
        for text in [
            "",
            "SIP/2.0/UDP",
            "SIP/2.0 h",
            "SIP/2.0/UDP h;;",
            "SIP/2.0/UDP h;branch",
            "SIP/2.0/UDP h:x",
            "SIP/2.0/UDP a b",
            "SIP/2.0/UDP h;branch=a;branch=b",
            "SIP/2.0/UDP ;branch=a",
            "SIP//UDP h",
            "SIP/2.0/UDP h;received=a;received=b",
        ] {
            assert!(via(text).is_err(), "{text}");
        }
    }
}
