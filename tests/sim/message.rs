//! A SIP message as the agents and the checkers read it: a reader of its own, so that the product's is not its own witness.
//!
//! It reads what the agents write, which is well-formed; of a corrupted message nothing is asked.

use std::net::{IpAddr, SocketAddr};

/// A message where it lies.
pub(crate) struct Message<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) start: &'a str,
    pub(crate) fields: Vec<Field<'a>>,
    pub(crate) body: &'a [u8],
}

/// A header field.
#[derive(Clone, Copy)]
pub(crate) struct Field<'a> {
    pub(crate) name: Name,
    pub(crate) value: &'a str,
    /// The whole line with its line break, and with the lines that continue it.
    pub(crate) line: &'a str,
}

/// The fields that anyone here asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Name {
    Via,
    Route,
    RecordRoute,
    MaxForwards,
    MaxBreadth,
    From,
    To,
    CallId,
    CSeq,
    Contact,
    Other,
}

/// A value of Via.
#[derive(Clone, Copy)]
pub(crate) struct Via<'a> {
    text: &'a str,
    pub(crate) sent_by: &'a str,
}

const NAMES: &[(&str, Name)] = &[
    ("via", Name::Via),
    ("v", Name::Via),
    ("route", Name::Route),
    ("record-route", Name::RecordRoute),
    ("max-forwards", Name::MaxForwards),
    ("max-breadth", Name::MaxBreadth),
    ("from", Name::From),
    ("f", Name::From),
    ("to", Name::To),
    ("t", Name::To),
    ("call-id", Name::CallId),
    ("i", Name::CallId),
    ("cseq", Name::CSeq),
    ("contact", Name::Contact),
    ("m", Name::Contact),
];

impl<'a> Message<'a> {
    /// Reads a message.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let end = find(bytes, b"\r\n\r\n")?;
        let head = std::str::from_utf8(bytes.get(..end + 2)?).ok()?;
        let (start, mut rest) = head.split_once("\r\n")?;
        let mut fields = Vec::with_capacity(16);
        while !rest.is_empty() {
            let mut len = rest.find("\r\n")? + 2;
            while rest[len..].starts_with([' ', '\t']) {
                len += rest[len..].find("\r\n")? + 2;
            }
            let (line, after) = rest.split_at(len);
            let (name, value) = line.split_once(':')?;
            let name = name.trim();
            fields.push(Field {
                name: NAMES
                    .iter()
                    .find(|(text, _)| text.eq_ignore_ascii_case(name))
                    .map_or(Name::Other, |(_, name)| *name),
                value: value.trim(),
                line,
            });
            rest = after;
        }
        Some(Self {
            bytes,
            start,
            fields,
            body: bytes.get(end + 4..)?,
        })
    }

    /// The status code; 0 of a request.
    pub(crate) fn status(&self) -> u16 {
        let status = self.start.strip_prefix("SIP/2.0 ");
        status
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .unwrap_or(0)
    }

    /// Whether it is a request.
    pub(crate) fn is_request(&self) -> bool {
        !self.start.starts_with("SIP/2.0 ")
    }

    /// The method that it is about.
    pub(crate) fn method(&self) -> &'a str {
        if self.is_request() {
            return self.start.split(' ').next().unwrap_or_default();
        }
        let cseq = self.first(Name::CSeq).unwrap_or_default();
        cseq.split_ascii_whitespace().nth(1).unwrap_or_default()
    }

    /// The Request-URI.
    pub(crate) fn uri(&self) -> &'a str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// The number in CSeq.
    pub(crate) fn cseq(&self) -> u32 {
        let cseq = self.first(Name::CSeq).unwrap_or_default();
        let number = cseq.split_ascii_whitespace().next();
        number.and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// The whole value of the first field of that name.
    pub(crate) fn first(&self, name: Name) -> Option<&'a str> {
        self.fields
            .iter()
            .find(|field| field.name == name)
            .map(|field| field.value)
    }

    /// Every value of the fields of that name, those between commas too.
    pub(crate) fn values(&self, name: Name) -> impl Iterator<Item = &'a str> {
        self.fields
            .iter()
            .filter(move |field| field.name == name)
            .flat_map(|field| values_of(field.value))
    }

    /// The topmost Via.
    pub(crate) fn top_via(&self) -> Option<Via<'a>> {
        self.values(Name::Via).next().map(Via::new)
    }

    /// The tag of From or To.
    pub(crate) fn tag(&self, name: Name) -> Option<&'a str> {
        let value = self.first(name)?;
        let after = value.rfind('>').map_or(value, |at| &value[at..]);
        param(after, "tag").flatten()
    }

    /// The Call-ID.
    pub(crate) fn call_id(&self) -> &'a str {
        self.first(Name::CallId).unwrap_or_default()
    }

    /// A number that is all of a field.
    pub(crate) fn number(&self, name: Name) -> Option<u32> {
        self.first(name)?.parse().ok()
    }
}

impl<'a> Via<'a> {
    /// Reads a value.
    pub(crate) fn new(text: &'a str) -> Self {
        let after = text.split_ascii_whitespace().nth(1).unwrap_or_default();
        Self {
            text,
            sent_by: after.split(';').next().unwrap_or_default(),
        }
    }

    /// The branch, where it has one.
    pub(crate) fn branch(&self) -> Option<&'a str> {
        param(self.text, "branch").flatten()
    }

    /// The value without what the receiver puts in.
    pub(crate) fn bare(&self) -> String {
        let mut kept = self.text.split(';').filter(|part| {
            let name = part.split('=').next().unwrap_or_default();
            name != "received" && name != "rport"
        });
        let first = kept.next().unwrap_or_default().to_owned();
        kept.fold(first, |text, part| text + ";" + part)
    }

    /// Whether the sender asked for rport.
    pub(crate) fn has_rport(&self) -> bool {
        param(self.text, "rport").is_some()
    }

    /// Where responses go (RFC 3261 18.2.2, RFC 3581 4), once the receiver has put in what it saw.
    pub(crate) fn response_address(&self) -> Option<SocketAddr> {
        let (host, port) = split_host(self.sent_by)?;
        let ip = match param(self.text, "received").flatten() {
            Some(received) => received.trim_matches(['[', ']']).parse().ok()?,
            None => host?,
        };
        let rport = param(self.text, "rport").flatten();
        let port = rport.and_then(|rport| rport.parse().ok()).or(port);
        Some(SocketAddr::new(ip, port.unwrap_or(5060)))
    }
}

/// The values between the commas of a field.
pub(crate) fn values_of(field: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(field);
    std::iter::from_fn(move || {
        let text = rest?;
        let (mut quoted, mut angled) = (false, false);
        let comma = text.find(|letter| {
            match letter {
                '"' => quoted = !quoted,
                '<' if !quoted => angled = true,
                '>' if !quoted => angled = false,
                _ => {}
            }
            letter == ',' && !quoted && !angled
        });
        rest = comma.map(|at| &text[at + 1..]);
        Some(text[..comma.unwrap_or(text.len())].trim())
    })
}

/// A parameter: `Some(None)` where it has no value.
pub(crate) fn param<'a>(text: &'a str, name: &str) -> Option<Option<&'a str>> {
    text.split(';').skip(1).find_map(|part| {
        let (found, value) = match part.split_once('=') {
            Some((found, value)) => (found, Some(value.trim())),
            None => (part, None),
        };
        found.trim().eq_ignore_ascii_case(name).then_some(value)
    })
}

/// The URI between the angle brackets of a name-addr.
pub(crate) fn uri_of(value: &str) -> &str {
    let start = value.find('<').map_or(0, |at| at + 1);
    let end = value.find('>').unwrap_or(value.len());
    value.get(start..end).unwrap_or_default()
}

/// The address that a SIP URI names, where it names one.
pub(crate) fn uri_address(uri: &str) -> Option<SocketAddr> {
    let rest = uri.strip_prefix("sip:")?;
    let host = rest.split('@').next_back()?.split([';', '?']).next()?;
    let (ip, port) = split_host(host)?;
    Some(SocketAddr::new(ip?, port.unwrap_or(5060)))
}

fn split_host(text: &str) -> Option<(Option<IpAddr>, Option<u16>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (ip, port) = rest.split_once(']')?;
        let port = port.strip_prefix(':').and_then(|port| port.parse().ok());
        return Some((Some(ip.parse().ok()?), port));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, port.parse().ok()),
        None => (text, None),
    };
    Some((host.parse().ok(), port))
}

/// Where `needle` first stands.
pub(crate) fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, needle)
}
