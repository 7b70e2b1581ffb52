//! What a proxy need not touch leaves as it came, to the octet.

use std::net::SocketAddr;

use super::super::message::{Field, Message, Name, Via, uri_address, uri_of};

/// Compares a request as it was received with how it was sent on; gives what differs that must not.
pub(super) fn request(
    received: &Message<'_>,
    sent: &Message<'_>,
    own: &[SocketAddr],
    source: SocketAddr,
) -> Result<(), String> {
    if received.body != sent.body {
        return Err("the body differs".to_owned());
    }
    if received.method() != sent.method() {
        return Err("the method differs".to_owned());
    }
    let is_ours = |field: &&Field<'_>| {
        !matches!(
            field.name,
            Name::Via | Name::Route | Name::RecordRoute | Name::MaxForwards | Name::MaxBreadth
        )
    };
    let before: Vec<&str> = received
        .fields
        .iter()
        .filter(is_ours)
        .map(|f| f.line)
        // RFC 3261 22.3: what was meant for us goes no further; only where it is asked for do agents write it.
        .filter(|line| {
            !(line.starts_with("Proxy-Authorization: Digest") && line.contains("\"example.com\""))
        })
        .collect();
    let after: Vec<&str> = sent.fields.iter().filter(is_ours).map(|f| f.line).collect();
    if before != after {
        return Err(format!("header fields differ:\n{before:?}\n{after:?}"));
    }
    vias(received, sent, source)?;
    let before: Vec<&str> = received.values(Name::RecordRoute).collect();
    let after: Vec<&str> = sent.values(Name::RecordRoute).collect();
    let added = after.len().checked_sub(before.len());
    let own_added = added.filter(|added| {
        *added <= 2
            && after[..*added].iter().all(|value| {
                uri_address(uri_of(value)).is_some_and(|address| own.contains(&address))
            })
    });
    if own_added.is_none_or(|added| after[added..] != before[..]) {
        return Err(format!("Record-Route differs: {before:?} {after:?}"));
    }
    let before: Vec<&str> = received.values(Name::Route).collect();
    let after: Vec<&str> = sent.values(Name::Route).collect();
    let rest = before
        .iter()
        .position(|value| uri_address(uri_of(value)).is_none_or(|address| !own.contains(&address)));
    let rest = &before[rest.unwrap_or(before.len())..];
    if !after.ends_with(rest) {
        return Err(format!("Route differs: {before:?} {after:?}"));
    }
    Ok(())
}

/// The Vias: ours on top, the next with the source that we saw, the others as they were.
fn vias(received: &Message<'_>, sent: &Message<'_>, source: SocketAddr) -> Result<(), String> {
    let before: Vec<&str> = received.values(Name::Via).collect();
    let after: Vec<&str> = sent.values(Name::Via).collect();
    let differs = || Err(format!("Via differs: {before:?} {after:?}"));
    if after.len() != before.len() + 1 || after[2..] != before[1..] {
        return differs();
    }
    let (was, is) = (Via::new(before[0]), Via::new(after[1]));
    if was.bare() != is.bare() {
        return differs();
    }
    // RFC 3261 18.2.1, RFC 3581 4: with what it says now, responses find back to where the request came from.
    if was.has_rport() && is.response_address() != Some(source) {
        return differs();
    }
    Ok(())
}

/// Compares a response as it was received with how it was sent on: the topmost Via value is gone, and nothing else.
pub(super) fn response(received: &Message<'_>, sent: &Message<'_>) -> Result<(), String> {
    let field = received
        .fields
        .iter()
        .find(|field| field.name == Name::Via)
        .ok_or("no Via")?;
    let start = field.line.as_ptr() as usize - received.bytes.as_ptr() as usize;
    let end = start + field.line.len();
    let (head, tail) = (&received.bytes[..start], &received.bytes[end..]);
    let Some(comma) = field.line.find(',') else {
        let expected = [head, tail].concat();
        return same(&expected, sent.bytes);
    };
    let name = &field.line[..=field.line.find(':').unwrap_or_default()];
    let rest = field.line[comma + 1..].trim_start();
    let middle = sent
        .bytes
        .strip_prefix(head)
        .and_then(|middle| middle.strip_suffix(tail))
        .and_then(|middle| middle.strip_prefix(name.as_bytes()));
    match middle {
        Some(middle) if middle.trim_ascii_start() == rest.as_bytes() => Ok(()),
        _ => same(
            &[head, name.as_bytes(), b" ", rest.as_bytes(), tail].concat(),
            sent.bytes,
        ),
    }
}

fn same(expected: &[u8], found: &[u8]) -> Result<(), String> {
    if expected == found {
        return Ok(());
    }
    Err(format!(
        "expected:\n{}\nfound:\n{}",
        String::from_utf8_lossy(expected),
        String::from_utf8_lossy(found)
    ))
}
