//! Byte-exactness: what a proxy did to a request that it passed on, field by field, and whether that is all that it may do.

use std::net::SocketAddr;

/// A message in pieces, each as it stood there, line breaks included.
#[derive(Debug)]
struct Pieces<'a> {
    start_line: &'a [u8],
    /// Header fields with their continuation lines.
    fields: Vec<&'a [u8]>,
    /// The empty line and the body.
    rest: &'a [u8],
}

/// The hop that a request took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hop {
    /// Where the proxy got it from.
    pub(crate) source: SocketAddr,
    /// The proxy's address.
    pub(crate) proxy: SocketAddr,
}

/// Says what a proxy changed in `sent` to make `got`, beyond what RFC 3261 16.6 has it change: Request-URI, its own Via and
/// Record-Route, `received` and `rport` in the topmost Via that came, Max-Forwards, Route, and a Max-Breadth where there was none (RFC 5393).
///
/// # Errors
/// The first difference that is not allowed.
pub(crate) fn compare(sent: &[u8], got: &[u8], hop: Hop) -> Result<(), String> {
    let (sent, got) = (
        pieces(sent).ok_or("sent: no head")?,
        pieces(got).ok_or("got: no head")?,
    );
    start_lines(sent.start_line, got.start_line)?;
    if sent.rest != got.rest {
        return Err(format!(
            "the body: {} became {}",
            show(sent.rest),
            show(got.rest)
        ));
    }
    let ours = hop.proxy.to_string();
    let mut arrived = got.fields.iter().copied().peekable();
    let mut is_stamped = false;
    let mut has_our_via = false;
    for field in sent.fields {
        let name = name(field);
        if name == "route" {
            continue;
        }
        // What the proxy put before this field, and what it did with Route.
        while let Some(extra) = arrived.next_if(|next| is_inserted(next, &ours, has_our_via)) {
            has_our_via |= self::name(extra) == "via";
        }
        let Some(next) = arrived.next() else {
            return Err(format!("gone: {}", show(field)));
        };
        match name.as_str() {
            "via" if !is_stamped => {
                is_stamped = true;
                stamped(field, next, hop.source)?;
            }
            "max-forwards" => one_less(field, next)?,
            _ if field == next => {}
            _ => return Err(format!("{} became {}", show(field), show(next))),
        }
    }
    if let Some(extra) = arrived.find(|next| !is_inserted(next, &ours, has_our_via)) {
        return Err(format!("put in: {}", show(extra)));
    }
    if has_our_via {
        Ok(())
    } else {
        Err("no Via of the proxy".to_owned())
    }
}

/// Whether the proxy may have put this field in; one Via is its own.
fn is_inserted(field: &[u8], ours: &str, has_our_via: bool) -> bool {
    let text = String::from_utf8_lossy(field);
    match name(field).as_str() {
        "via" => !has_our_via && text.contains(&format!(" {ours};branch=z9hG4bK")),
        "record-route" => text.contains(ours),
        "route" => true,
        "max-forwards" => text == "Max-Forwards: 70\r\n",
        // RFC 5393 5.3.3.
        "max-breadth" => text == "Max-Breadth: 60\r\n",
        _ => false,
    }
}

/// The method and the version stay; the Request-URI is the next target.
fn start_lines(sent: &[u8], got: &[u8]) -> Result<(), String> {
    let (sent, got) = (String::from_utf8_lossy(sent), String::from_utf8_lossy(got));
    let (sent_words, got_words): (Vec<&str>, Vec<&str>) =
        (sent.split(' ').collect(), got.split(' ').collect());
    let is_alike = sent_words.len() == 3
        && got_words.len() == 3
        && (sent_words[0], sent_words[2]) == (got_words[0], got_words[2]);
    if is_alike {
        Ok(())
    } else {
        Err(format!("{sent:?} became {got:?}"))
    }
}

/// RFC 3261 18.2.1 and RFC 3581 4: nothing but `received` and `rport` came into it, whatever it said of them before.
fn stamped(sent: &[u8], got: &[u8], source: SocketAddr) -> Result<(), String> {
    let [mut sent_text, mut got_text] =
        [sent, got].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let asks_for_port = sent_text.contains(";rport");
    remove_one(&mut sent_text, ";rport");
    remove_one(&mut got_text, &format!(";received={}", source.ip()));
    let has_port = remove_one(&mut got_text, &format!(";rport={}", source.port()));
    if sent_text == got_text && has_port == asks_for_port {
        Ok(())
    } else {
        Err(format!("{} became {}", show(sent), show(got)))
    }
}

/// Takes `part` out of `text` where it stands there once.
fn remove_one(text: &mut String, part: &str) -> bool {
    let places: Vec<usize> = text.match_indices(part).map(|(at, _)| at).collect();
    let [at] = places[..] else { return false };
    text.replace_range(at..at + part.len(), "");
    true
}

fn one_less(sent: &[u8], got: &[u8]) -> Result<(), String> {
    let hops = |field: &[u8]| {
        let text = String::from_utf8_lossy(field);
        let (_, value) = text.split_once(':')?;
        value.trim().parse::<u32>().ok()
    };
    match (hops(sent), hops(got)) {
        (Some(before), Some(after)) if before == after + 1 => Ok(()),
        _ => Err(format!("{} became {}", show(sent), show(got))),
    }
}

fn pieces(message: &[u8]) -> Option<Pieces<'_>> {
    let head_len = message
        .windows(4)
        .position(|window| window == b"\r\n\r\n")?
        + 2;
    let (head, rest) = message.split_at(head_len);
    let mut fields: Vec<&[u8]> = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while let Some(line_break) = head[at..].windows(2).position(|window| window == b"\r\n") {
        at += line_break + 2;
        // RFC 3261 7.3.1: a line that begins with a space goes on with the field before.
        if !matches!(head.get(at), Some(b' ' | b'\t')) {
            fields.push(&head[start..at]);
            start = at;
        }
    }
    let start_line = fields.remove(0);
    Some(Pieces {
        start_line,
        fields,
        rest,
    })
}

/// The field's name in lower case, the long form of those that are edited.
fn name(field: &[u8]) -> String {
    let name = field.split(|&byte| byte == b':').next().unwrap_or_default();
    let name = String::from_utf8_lossy(name).trim().to_ascii_lowercase();
    if name == "v" { "via".to_owned() } else { name }
}

fn show(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}

#[test]
fn a_change_that_no_proxy_may_make_is_seen() {
    let hop = Hop {
        source: "192.0.2.7:5060".parse().expect("an address"),
        proxy: "192.0.2.1:5060".parse().expect("an address"),
    };
    let sent = b"INVITE sip:a@b SIP/2.0\r\nVia : SIP/2.0/UDP h;branch=z9hG4bK1;rport\r\nRoute: <sip:192.0.2.1;lr>\r\nX: a,\r\n b\r\nMax-Forwards: 0068\r\n\r\nbody";
    let got = "INVITE sip:c@d SIP/2.0\r\nRecord-Route: <sip:t@192.0.2.1:5060;lr>\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK2\r\n\
               Via : SIP/2.0/UDP h;branch=z9hG4bK1;rport=5060;received=192.0.2.7\r\nX: a,\r\n b\r\nMax-Forwards: 67\r\n\r\nbody";
    assert_eq!(compare(sent, got.as_bytes(), hop), Ok(()));
    for (was, becomes) in [
        ("X: a,\r\n b", "X: a, b"),
        ("X: a", "Y: a"),
        ("body", "Body"),
        ("67", "68"),
        ("INVITE", "invite"),
        ("branch=z9hG4bK1", "branch=z9hG4bk1"),
        ("X: a,\r\n b\r\n", ""),
        ("X: a", "Z: 1\r\nX: a"),
        ("Max-Forwards: 67\r\n", "Max-Forwards: 67\r\nZ: 1\r\n"),
        ("Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK2\r\n", ""),
    ] {
        let changed = got.replace(was, becomes);
        assert!(
            compare(sent, changed.as_bytes(), hop).is_err(),
            "{was:?} to {becomes:?}"
        );
    }
}
