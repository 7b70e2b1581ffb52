//! Whether two URIs are the same (RFC 3261 19.1.4).

use super::uri::{Units, Uri};
use crate::limits::CONTACT_LEN_MAX;
use crate::scan;

/// Tells whether two URIs are the same (RFC 3261 19.1.4); of schemes other than SIP's, and of URIs that are longer than
/// `limits::CONTACT_LEN_MAX`, whether their texts are.
#[must_use]
pub fn equivalent(a: &Uri<'_>, b: &Uri<'_>) -> bool {
    // Parameters and headers are compared each with each: what no binding can have is compared as text alone.
    if !a.is_sip() || !b.is_sip() || a.bytes().len().max(b.bytes().len()) > CONTACT_LEN_MAX {
        return a.bytes().eq_ignore_ascii_case(b.bytes());
    }
    // What names a parameter twice is no proper URI, but the same as itself all the same.
    if a.bytes() == b.bytes() {
        return true;
    }
    a.scheme == b.scheme
        && same_optional(a.user, b.user)
        && same_optional(a.password, b.password)
        && a.host.is_same(&b.host)
        // A written default port is not the same as none.
        && a.port == b.port
        && same_params(a, b)
        && same_params(b, a)
        && same_headers(a.headers, b.headers)
}

/// Compares text unit by unit, with escapes undone.
fn same_text(a: &[u8], b: &[u8], ignore_case: bool) -> bool {
    let (mut a, mut b) = (Units(a), Units(b));
    loop {
        match (a.next_unit(), b.next_unit()) {
            (None, None) => return true,
            (Some((x, x_reserved)), Some((y, y_reserved))) => {
                let same = x == y || ignore_case && x.eq_ignore_ascii_case(&y);
                if !same || x_reserved != y_reserved {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

/// Compares what may be absent; userinfo is case-sensitive.
fn same_optional(a: Option<&[u8]>, b: Option<&[u8]>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => same_text(a, b, false),
        _ => false,
    }
}

/// Whether every parameter of `a` lets `b` be the same.
fn same_params(a: &Uri<'_>, b: &Uri<'_>) -> bool {
    a.params.iter().all(|param| {
        let theirs = b
            .params
            .iter()
            .find(|other| same_text(param.name, other.name, true));
        match theirs {
            Some(other) => match (param.value, other.value) {
                (None, None) => true,
                (Some(a), Some(b)) => same_text(a, b, true),
                _ => false,
            },
            // RFC 3261 19.1.4: these never match their absence, even with the default value; others are ignored.
            None => !MUST_MATCH
                .iter()
                .any(|name| same_text(param.name, name, true)),
        }
    })
}

/// RFC 3261 19.1.4: the parameters that may not be in one URI only; and a GRUU is not the AoR that it is without its `gr` (RFC 5627 4).
const MUST_MATCH: [&[u8]; 6] = [b"transport", b"user", b"ttl", b"method", b"maddr", b"gr"];

/// Header components are never ignored, and their order does not matter.
fn same_headers(a: Option<&[u8]>, b: Option<&[u8]>) -> bool {
    let (a, b) = (a.unwrap_or_default(), b.unwrap_or_default());
    let count = |text: &[u8]| text.split(|&byte| byte == b'&').count();
    if a.is_empty() || b.is_empty() {
        return a.is_empty() && b.is_empty();
    }
    let has = |list: &[u8], wanted: &[u8]| {
        let times = |list: &[u8]| {
            list.split(|&byte| byte == b'&')
                .filter(|one| same_header(one, wanted))
                .count()
        };
        times(list)
    };
    count(a) == count(b)
        && a.split(|&byte| byte == b'&')
            .all(|one| has(a, one) == has(b, one))
}

/// Compares `hname=hvalue`: names without regard to case.
fn same_header(a: &[u8], b: &[u8]) -> bool {
    let split = |text: &[u8]| scan::find(text, 0, b'=').unwrap_or(text.len());
    let (a_name, a_value) = a.split_at_checked(split(a)).unwrap_or_default();
    let (b_name, b_value) = b.split_at_checked(split(b)).unwrap_or_default();
    same_text(a_name, b_name, true) && same_text(a_value, b_value, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri<'_> {
        Uri::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_uri_is_the_same_as_itself_whatever_it_repeats() {
        let text = "sip:a@h;user=phone;user=ip";
        assert!(equivalent(&uri(text), &uri(text)));
    }

    #[test]
    fn the_equalities_of_rfc_3261_hold() {
        // RFC 3261 19.1.4, all examples.
        for (a, b) in [
            (
                "sip:%61lice@atlanta.com;transport=TCP",
                "sip:alice@AtLanTa.CoM;Transport=tcp",
            ),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"),
            (
                "sip:carol@chicago.com;newparam=5",
                "sip:carol@chicago.com;security=on",
            ),
            (
                "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
                "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
            ),
            (
                "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
                "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
            ),
        ] {
            assert!(
                equivalent(&uri(a), &uri(b)) && equivalent(&uri(b), &uri(a)),
                "{a} = {b}"
            );
        }
        for (a, b) in [
            (
                "SIP:ALICE@AtLanTa.CoM;Transport=udp",
                "sip:alice@AtLanTa.CoM;Transport=UDP",
            ),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
            (
                "sip:bob@biloxi.com",
                "sip:bob@biloxi.com:6000;transport=tcp",
            ),
            (
                "sip:carol@chicago.com",
                "sip:carol@chicago.com?Subject=next%20meeting",
            ),
            ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
            (
                "sip:carol@chicago.com;security=on",
                "sip:carol@chicago.com;security=off",
            ),
            ("sip:a%3bb@c", "sip:a;b@c"),
            ("sip:a@c", "sips:a@c"),
            ("sip:a@c", "sip:c"),
            ("sip:a@c?x=1&x=1", "sip:a@c?x=1&y=2"),
        ] {
            assert!(
                !equivalent(&uri(a), &uri(b)) && !equivalent(&uri(b), &uri(a)),
                "{a} != {b}"
            );
        }
    }
}
