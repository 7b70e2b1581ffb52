//! The phones' side of digest authentication (RFC 7616, RFC 8760, RFC 3261 22): a challenge is read, and answered as long as
//! its nonce is good.

use super::compose::Draft;
use crate::auth::{Algorithm, Hex, Proof, Qop};
use crate::scan;
use crate::sip::{HeaderName, Message, Sink};

/// What a phone answers a realm's challenges with.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    realm: Vec<u8>,
    nonce: Vec<u8>,
    opaque: Option<Vec<u8>>,
    algorithm: Algorithm,
    has_qop: bool,
    ha1: Hex,
    /// How often the nonce was used.
    count: u32,
    /// Whether a proxy asked: then the field is Proxy-Authorization.
    is_proxy: bool,
}

impl Credentials {
    /// Takes up the challenge of a 401 or 407: the topmost whose algorithm we know (RFC 8760 2.4).
    pub(super) fn answer(response: &Message<'_>, user: &[u8], password: &[u8]) -> Option<Self> {
        let is_proxy = response.status() == 407;
        let name = if is_proxy {
            HeaderName::ProxyAuthenticate
        } else {
            HeaderName::WWWAuthenticate
        };
        response.headers(name).find_map(|field| {
            let params = Params::of_digest(field.value)?;
            let algorithm = match params.value(b"algorithm") {
                Some(name) => Algorithm::parse(name)?,
                None => Algorithm::Md5,
            };
            let qops = params.value(b"qop");
            let has_qop = qops.is_some_and(|qops| {
                qops.split(|byte| *byte == b',')
                    .any(|qop| qop.trim_ascii().eq_ignore_ascii_case(b"auth"))
            });
            // auth-int alone is more than we do.
            if qops.is_some() && !has_qop {
                return None;
            }
            let realm = params.value(b"realm")?;
            Some(Self {
                realm: realm.to_vec(),
                nonce: params.value(b"nonce")?.to_vec(),
                opaque: params.value(b"opaque").map(<[u8]>::to_vec),
                algorithm,
                has_qop,
                ha1: algorithm.ha1(user, realm, password),
                count: 0,
                is_proxy,
            })
        })
    }

    /// Writes the header line that proves a request of `method` for `uri`.
    pub(super) fn prove(&mut self, user: &[u8], method: &str, uri: &[u8], out: &mut Draft) {
        self.count += 1;
        let mut nc = Draft::default();
        nc.put_hex(u64::from(self.count), 8);
        let qop = Qop {
            name: b"auth",
            nc: &nc.0,
            cnonce: CNONCE,
        };
        let proof = Proof {
            method: method.as_bytes(),
            uri,
            nonce: &self.nonce,
            qop: self.has_qop.then_some(qop),
        };
        let response = self.algorithm.response(self.ha1.as_bytes(), &proof);
        out.put(if self.is_proxy {
            b"Proxy-Authorization: Digest username=\""
        } else {
            b"Authorization: Digest username=\""
        });
        out.put(user);
        for (name, value) in [
            (&b"\", realm=\""[..], &self.realm[..]),
            (b"\", nonce=\"", &self.nonce),
            (b"\", uri=\"", uri),
            (b"\", response=\"", response.as_bytes()),
            (b"\", algorithm=", self.algorithm.as_str().as_bytes()),
        ] {
            out.put(name);
            out.put(value);
        }
        if self.has_qop {
            out.put(b", qop=auth, cnonce=\"");
            out.put(CNONCE);
            out.put(b"\", nc=");
            out.put(&nc.0);
        }
        if let Some(opaque) = &self.opaque {
            out.put(b", opaque=\"");
            out.put(opaque);
            out.put(b"\"");
        }
        out.put(b"\r\n");
    }

    /// Whether a challenge is for another nonce than this one: then ours was stale, and not the password wrong.
    pub(super) fn is_outdated_by(&self, fresh: &Self) -> bool {
        self.nonce != fresh.nonce
    }
}

/// The parameters of a challenge.
struct Params<'a>(Vec<(&'a [u8], &'a [u8])>);

impl<'a> Params<'a> {
    /// Reads the parameters of a Digest challenge; nothing of another scheme's.
    fn of_digest(value: &'a [u8]) -> Option<Self> {
        let end = scan::skip(value, 0, scan::TOKEN);
        let (scheme, mut rest) = value.split_at_checked(end)?;
        if !scheme.eq_ignore_ascii_case(b"Digest") {
            return None;
        }
        let mut params = Vec::new();
        loop {
            let start = rest
                .iter()
                .position(|byte| !byte.is_ascii_whitespace() && *byte != b',');
            let Some(text) = start.and_then(|start| rest.get(start..)) else {
                return Some(Self(params));
            };
            let equals = text.iter().position(|byte| *byte == b'=')?;
            let (name, behind) = (text.get(..equals)?.trim_ascii(), text.get(equals + 1..)?);
            let behind = behind.trim_ascii_start();
            let (value, after) = if behind.first() == Some(&b'"') {
                let close = scan::skip_quoted(behind, 1)?;
                (behind.get(1..close - 1)?, behind.get(close..)?)
            } else {
                let end = behind
                    .iter()
                    .position(|byte| *byte == b',')
                    .unwrap_or(behind.len());
                (behind.get(..end)?.trim_ascii(), behind.get(end..)?)
            };
            params.push((name, value));
            rest = after;
        }
    }

    fn value(&self, name: &[u8]) -> Option<&'a [u8]> {
        let found = self
            .0
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| *value)
    }
}

/// The client's nonce: it guards a user against a server that chooses nonces, which no load need fear.
const CNONCE: &[u8] = b"strowger-load";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::auth::Credentials as Field;
    use crate::sip::{Index, Parsed, parse};

    fn challenged(fields: &str) -> Option<Credentials> {
        let text = format!(
            "SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>;tag=2\r\n\
             Call-ID: c\r\nCSeq: 1 REGISTER\r\n{fields}Content-Length: 0\r\n\r\n"
        );
        let mut index = Index::new();
        let Parsed::Good(message) = parse(text.as_bytes(), &mut index) else {
            panic!("{text}");
        };
        Credentials::answer(&message, b"alice", b"secret")
    }

    #[test]
    fn the_topmost_challenge_that_is_understood_is_answered() {
        let fields = "WWW-Authenticate: Basic realm=\"x\"\r\nWWW-Authenticate: Digest realm=\"r\", nonce=\"n0\", algorithm=FUTURE-1\r\n\
                      WWW-Authenticate: Digest realm=\"r, s\",nonce=\"n1\" , qop=\"auth-int, auth\", algorithm=SHA-256, opaque=\"o\"\r\n\
                      WWW-Authenticate: Digest realm=\"r\", nonce=\"n2\", algorithm=MD5\r\n";
        let mut credentials = challenged(fields).expect("one is known");
        let mut draft = Draft::default();
        credentials.prove(b"alice", "REGISTER", b"sip:b", &mut draft);
        draft.0.clear();
        credentials.prove(b"alice", "REGISTER", b"sip:b", &mut draft);
        let line = String::from_utf8(draft.0).expect("text");
        let value = line
            .strip_prefix("Authorization: ")
            .expect("its name")
            .trim_end();
        let field = Field::parse(value.as_bytes())
            .expect("Digest")
            .expect("good");
        assert_eq!(
            (field.username, field.realm, field.nonce),
            (&b"alice"[..], &b"r, s"[..], &b"n1"[..])
        );
        assert_eq!(
            (field.nc, field.qop),
            (&b"00000002"[..], Some(&b"auth"[..]))
        );
        assert!(value.ends_with("opaque=\"o\""));
        let ha1 = Algorithm::Sha256.ha1(b"alice", b"r, s", b"secret");
        let proof = Proof {
            method: b"REGISTER",
            uri: b"sip:b",
            nonce: b"n1",
            qop: Some(Qop {
                name: b"auth",
                nc: field.nc,
                cnonce: field.cnonce,
            }),
        };
        assert_eq!(
            field.response,
            Algorithm::Sha256
                .response(ha1.as_bytes(), &proof)
                .as_bytes()
        );
    }

    #[test]
    fn what_is_no_challenge_is_none() {
        assert!(challenged("").is_none());
        assert!(challenged("WWW-Authenticate: Digest realm=\"r\"\r\n").is_none());
        assert!(challenged("WWW-Authenticate: Digest realm=\"r, nonce=\"n\"\r\n").is_none());
        assert!(
            challenged("WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", qop=\"auth-int\"\r\n")
                .is_none()
        );
    }
}
