//! The bytes of what the proxy sends on: the relayed request (RFC 3261 16.6), and the hop-by-hop ACK and CANCEL.
//!
//! A relayed request is the received one with edits: whatever a proxy need not touch leaves as it came, to the octet.

use std::io::Write as _;
use std::net::SocketAddr;

use super::token::Token;
use crate::datagram::Transport;
use crate::flow_token::FlowToken;
use crate::limits::MAX_FORWARDS_DEFAULT;
use crate::scan;
use crate::sip::auth::Credentials;
use crate::sip::edit::{EditError, Edits};
use crate::sip::message::{Header, Message};
use crate::sip::name::HeaderName;
use crate::sip::params::Param;
use crate::sip::span::Span;
use crate::sip::text::Sink;
use crate::sip::uri::Uri;

/// What one branch changes in the request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hop<'a> {
    /// The new Request-URI, if it is not the received one.
    pub(super) target: Option<&'a [u8]>,
    /// Route values to put before the others (RFC 3327).
    pub(super) path: Option<&'a [u8]>,
    /// Our branch.
    pub(super) branch: &'a [u8],
    /// The transport that our Via names.
    pub(super) transport: Transport,
    /// Our address on the way out.
    pub(super) sent_by: SocketAddr,
    /// Where the request came from.
    pub(super) source: SocketAddr,
    /// Route values of ours to take off the top.
    pub(super) routes_consumed: Consumed,
    /// Whether the last Route value is the target (it then becomes the Request-URI and goes).
    pub(super) from_strict_router: bool,
    /// The Record-Route to put in.
    pub(super) record: Option<Record>,
    /// The Max-Breadth, unless it stays as it came.
    pub(super) breadth: Option<u8>,
    /// The realm whose credentials were for us, and go no further.
    pub(super) realm: Option<&'a str>,
    /// The Path value to put in.
    pub(super) own_path: Option<PathValue>,
}

/// Route values that are ours, and go before the request is sent on (RFC 3261 16.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consumed {
    /// So many of the first.
    First(u8),
    /// All that there are: as nearly always within a dialog.
    All,
}

/// Our Path: the token of the flow by which a REGISTER came, and our address towards the registrar.
#[derive(Clone, Copy, Debug)]
pub(super) struct PathValue {
    /// The flow token.
    pub(super) token: FlowToken,
    /// Our address and transport.
    pub(super) outward: (SocketAddr, Transport),
    /// Whether the phone is our neighbour, so that the flow is its own (RFC 5626 5.1, `ob`).
    pub(super) is_first_hop: bool,
}

/// Our Record-Route: its token, and our addresses on both sides.
#[derive(Clone, Copy)]
pub(super) struct Record {
    /// The dialog token.
    pub(super) token: Token,
    /// Our address and transport towards the callee.
    pub(super) outward: (SocketAddr, Transport),
    /// Those towards the caller; where they are others, two values are put in (RFC 5658).
    pub(super) inward: (SocketAddr, Transport),
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record")
            .field("outward", &self.outward)
            .field("inward", &self.inward)
            .finish()
    }
}

/// Fills `edits` with what turns `message` into the request that this hop sends.
///
/// # Errors
/// When the edits do not fit their bounds.
pub(super) fn relay(
    edits: &mut Edits,
    message: &Message<'_>,
    hop: &Hop<'_>,
) -> Result<(), EditError> {
    edits.clear();
    let strict = strict_router(message, hop);
    request_uri(edits, message, hop, strict)?;
    let top = message.top_via();
    let top_line = top_via_line(message).start;
    if let Some(record) = &hop.record {
        // Before the values of proxies before us, which need not stand behind the topmost Via.
        let at = message
            .header(HeaderName::RecordRoute)
            .map_or(top_line, |first| first.line_span.start);
        record_route(edits, at, record)?;
    }
    if let Some(path) = &hop.own_path {
        // RFC 3327 5.2: before the values of proxies before us.
        let at = message
            .header(HeaderName::Path)
            .map_or(top_line, |first| first.line_span.start);
        own_path(edits, at, path)?;
    }
    edits.insert_with(top_line, |text| {
        text.put(b"Via: SIP/2.0/");
        text.put(hop.transport.as_str().as_bytes());
        text.put(b" ");
        text.put_address(hop.sent_by);
        text.put(b";branch=");
        text.put(hop.branch);
        text.put(b"\r\n");
    })?;
    // As far as it can be foreseen, edits are made in their order: each is then the last.
    let has_breadth = message.header(HeaderName::MaxBreadth).is_some();
    let breadth = hop.breadth;
    if let Some(breadth) = breadth.filter(|_| !has_breadth) {
        max_breadth(edits, message, top_line, breadth)?;
    }
    // RFC 3261 18.2.1 and RFC 3581 4; what the sender itself wrote there is replaced.
    top.stamp(hop.source, edits)?;
    max_forwards(edits, message, top_line)?;
    if let Some(breadth) = breadth.filter(|_| has_breadth) {
        max_breadth(edits, message, top_line, breadth)?;
    }
    content_length(edits, message, hop.transport)?;
    if let Some(realm) = hop.realm {
        credentials(edits, message, realm)?;
    }
    routes(edits, message, hop, (strict.is_some(), top_line))
}

/// Fills `edits` with what turns a response that a branch received into the one that goes on by `transport`: less our Via
/// (RFC 3261 16.7 step 3).
///
/// # Errors
/// When there is no Via to take off.
pub(super) fn respond(
    edits: &mut Edits,
    response: &Message<'_>,
    transport: Transport,
) -> Result<(), EditError> {
    edits.clear();
    let field = response.header(HeaderName::Via);
    let is_alone = |field: &Header<'_>| field.value_span == response.top_via().span();
    if let Some(field) = field.filter(is_alone) {
        edits.remove(field.line_span)?;
    } else {
        let top = response.values(HeaderName::Via).next();
        let top = top.ok_or(EditError::OutOfMessage)?;
        edits.remove(response.removal_span(&top))?;
    }
    content_length(edits, response, transport)
}

/// RFC 3261 22.3: what was meant for our realm is nobody else's business.
fn credentials(edits: &mut Edits, message: &Message<'_>, realm: &str) -> Result<(), EditError> {
    for header in message.headers(HeaderName::ProxyAuthorization) {
        if let Some(Ok(credentials)) = Credentials::parse(header.value)
            && credentials.realm == realm.as_bytes()
        {
            edits.remove(header.line_span)?;
        }
    }
    Ok(())
}

/// RFC 3261 16.6 step 9 and 18.4: what came in a datagram may do without Content-Length; a stream cannot.
fn content_length(
    edits: &mut Edits,
    message: &Message<'_>,
    transport: Transport,
) -> Result<(), EditError> {
    if transport == Transport::Udp || message.header(HeaderName::ContentLength).is_some() {
        return Ok(());
    }
    edits.insert_with(message.headers_end(), |text| {
        text.put(b"Content-Length: ");
        text.put_decimal(message.body().len() as u64);
        text.put(b"\r\n");
    })
}

/// RFC 3261 16.6 step 2, and 16.4 for what a strict router sent; step 6 for what goes to one.
fn request_uri(
    edits: &mut Edits,
    message: &Message<'_>,
    hop: &Hop<'_>,
    strict: Option<&[u8]>,
) -> Result<(), EditError> {
    let last = || hop.from_strict_router.then(|| last_route_uri(message))?;
    let target = hop.target.or(strict).or_else(last);
    let Some(target) = target else { return Ok(()) };
    let has_more = scan::find_either(target, 0, b';', b'?').is_some();
    let Some(Ok(uri)) = has_more.then(|| Uri::parse(target)) else {
        return edits.replace(message.request_uri_span(), target);
    };
    // RFC 3261 19.1.5: a Contact or a Route may have a method and header components, a request line may not.
    let is_method = |param: &Param<'_>| param.name.eq_ignore_ascii_case(b"method");
    if !uri.is_sip() || !uri.params.iter().any(|param| is_method(&param)) {
        return edits.replace(message.request_uri_span(), uri.without_headers());
    }
    edits.replace_with(message.request_uri_span(), |text| {
        let before = usize::from(uri.params.span().start);
        text.put(target.get(..before).unwrap_or_default());
        for param in uri.params.iter().filter(|param| !is_method(param)) {
            text.put(param.span.of(target));
        }
    })
}

/// RFC 3261 16.6 step 4; RFC 5658 2: two values where the sides differ, the callee's on top.
fn record_route(edits: &mut Edits, at: u16, record: &Record) -> Result<(), EditError> {
    let mut line = |(address, transport): (SocketAddr, Transport)| {
        edits.insert_with(at, |text| {
            text.put(b"Record-Route: <sip:");
            text.put(record.token.as_bytes());
            text.put(b"@");
            text.put_address(address);
            if transport == Transport::Tcp {
                text.put(b";transport=tcp");
            }
            text.put(b";lr>\r\n");
        })
    };
    line(record.outward)?;
    if record.inward != record.outward {
        line(record.inward)?;
    }
    Ok(())
}

/// RFC 5626 5.1.
fn own_path(edits: &mut Edits, at: u16, path: &PathValue) -> Result<(), EditError> {
    let (address, transport) = path.outward;
    edits.insert_with(at, |text| {
        text.put(b"Path: <sip:");
        text.put(path.token.as_bytes());
        text.put(b"@");
        text.put_address(address);
        if transport == Transport::Tcp {
            text.put(b";transport=tcp");
        }
        text.put(b";lr");
        if path.is_first_hop {
            text.put(b";ob");
        }
        text.put(b">\r\n");
    })
}

/// RFC 3261 16.6 step 3.
fn max_forwards(edits: &mut Edits, message: &Message<'_>, at: u16) -> Result<(), EditError> {
    match (
        message.header(HeaderName::MaxForwards),
        message.max_forwards(),
    ) {
        (Some(header), Some(hops)) => edits.replace_with(header.value_span, |text| {
            text.put_decimal(u64::from(hops.saturating_sub(1)))
        }),
        _ => edits.insert_with(at, |text| {
            text.put(b"Max-Forwards: ");
            text.put_decimal(u64::from(MAX_FORWARDS_DEFAULT));
            text.put(b"\r\n");
        }),
    }
}

/// RFC 5393 5.3.3: what a branch gets of the breadth.
fn max_breadth(
    edits: &mut Edits,
    message: &Message<'_>,
    at: u16,
    breadth: u8,
) -> Result<(), EditError> {
    match message.header(HeaderName::MaxBreadth) {
        Some(header) => edits.replace_with(header.value_span, |text| {
            text.put_decimal(u64::from(breadth))
        }),
        None => edits.insert_with(at, |text| {
            text.put(b"Max-Breadth: ");
            text.put_decimal(u64::from(breadth));
            text.put(b"\r\n");
        }),
    }
}

/// RFC 3261 16.4: our own Route values go; 16.6 step 6: the target comes last where the next hop is a strict router, whose
/// own value goes; RFC 3327 5.4: the path of a contact is put before what stays.
fn routes(
    edits: &mut Edits,
    message: &Message<'_>,
    hop: &Hop<'_>,
    (goes_to_strict, top_line): (bool, u16),
) -> Result<(), EditError> {
    let put_path = |edits: &mut Edits| {
        let Some(path) = hop.path else { return Ok(()) };
        let at = message
            .header(HeaderName::Route)
            .map_or(top_line, |header| header.line_span.start);
        put_route(edits, at, [b"", path, b""])
    };
    if message.header(HeaderName::Route).is_none() {
        return put_path(edits);
    }
    let Consumed::First(consumed) = hop.routes_consumed else {
        for header in message.headers(HeaderName::Route) {
            edits.remove(header.line_span)?;
        }
        return put_path(edits);
    };
    let consumed = usize::from(consumed) + usize::from(goes_to_strict);
    // A target that a strict router before us put last stays there for the strict router behind us.
    let last = if hop.from_strict_router && !goes_to_strict {
        message.values(HeaderName::Route).last()
    } else {
        None
    };
    // Where nothing stays between what goes at the front and at the end, all goes in one.
    let total = || message.values(HeaderName::Route).count();
    let all = last.map(|_| total()).filter(|total| consumed + 1 >= *total);
    let at_front = all.unwrap_or(consumed);
    for span in message.removal_of_first(HeaderName::Route, at_front) {
        edits.remove(span)?;
    }
    if let Some(last) = last.filter(|_| all.is_none()) {
        edits.remove(last.removal_span())?;
    }
    if goes_to_strict && !hop.from_strict_router {
        let after = message.headers(HeaderName::Route).last();
        let at = after.map_or(top_line, |header| header.line_span.end);
        put_route(edits, at, [b"<", message.request_uri(), b">"])?;
    }
    put_path(edits)
}

fn put_route(edits: &mut Edits, at: u16, parts: [&[u8]; 3]) -> Result<(), EditError> {
    edits.insert_with(at, |text| {
        text.put(b"Route: ");
        parts.iter().for_each(|part| text.put(part));
        text.put(b"\r\n");
    })
}

/// The next hop's URI where it is a strict router: a Route value that is not ours, without `lr`.
fn strict_router<'a>(message: &Message<'a>, hop: &Hop<'_>) -> Option<&'a [u8]> {
    if hop.target.is_some() || message.header(HeaderName::Route).is_none() {
        return None;
    }
    let Consumed::First(consumed) = hop.routes_consumed else {
        return None;
    };
    let mut values = message
        .values(HeaderName::Route)
        .skip(usize::from(consumed));
    let next = values.next()?;
    // The last one is the target where a strict router sent it.
    if hop.from_strict_router && values.next().is_none() {
        return None;
    }
    let address = next.address().ok()?;
    let is_strict = address.uri().is_ok_and(|uri| !uri.is_loose_router());
    is_strict.then(|| address.uri_bytes())
}

/// The URI of the last Route value: where a strict router before us put the target (RFC 3261 16.4).
pub(super) fn last_route_uri<'a>(message: &Message<'a>) -> Option<&'a [u8]> {
    let last = message.values(HeaderName::Route).last()?;
    last.address().ok().map(|address| address.uri_bytes())
}

/// The line of the topmost Via, which new lines are put before.
fn top_via_line(message: &Message<'_>) -> Span {
    message
        .header(HeaderName::Via)
        .map_or(Span::EMPTY, |header| header.line_span)
}

/// Writes the ACK or the CANCEL that belongs to a relayed INVITE into `out`: RFC 3261 17.1.1.3 and 9.1.
///
/// `relayed` is the INVITE as this branch sent it; `to` the To value of the response (ACK) or of the request (CANCEL).
pub(super) fn hop_by_hop(
    out: &mut Vec<u8>,
    method: &'static str,
    relayed: &Message<'_>,
    to: &[u8],
) {
    out.clear();
    let _ = write!(out, "{method} ");
    out.extend_from_slice(relayed.request_uri());
    out.extend_from_slice(b" SIP/2.0\r\n");
    // A single Via, equal to the INVITE's topmost (17.1.1.3): in what we relayed that is a line of its own.
    out.extend_from_slice(top_via_line(relayed).of(relayed.bytes()));
    for route in relayed.headers(HeaderName::Route) {
        out.extend_from_slice(route.line_span.of(relayed.bytes()));
    }
    let _ = write!(out, "Max-Forwards: {MAX_FORWARDS_DEFAULT}\r\n");
    if let Some(from) = relayed.header(HeaderName::From) {
        field(out, "From", from.value);
    }
    field(out, "To", to);
    if let Some(call_id) = relayed.header(HeaderName::CallId) {
        field(out, "Call-ID", call_id.value);
    }
    let _ = write!(
        out,
        "CSeq: {} {method}\r\nContent-Length: 0\r\n\r\n",
        relayed.cseq().number
    );
}

fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
