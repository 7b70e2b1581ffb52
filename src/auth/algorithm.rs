//! The hashes of digest authentication (RFC 7616 3.2, RFC 8760), and the response that is computed with them.

use md5::Md5;
use sha2::{Digest, Sha256, Sha512_256};

/// A hash that a challenge may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RFC 7616 keeps it for old phones.
    Md5,
    /// RFC 8760.
    Sha256,
    /// RFC 8760.
    Sha512_256,
}

/// A digest in lower-case hex, as it is written and hashed again.
#[derive(Clone, Copy)]
pub struct Hex {
    digits: [u8; HEX_LEN_MAX],
    len: usize,
}

/// What a response is computed of, beside HA1.
#[derive(Clone, Copy, Debug)]
pub struct Proof<'a> {
    /// The request's method.
    pub method: &'a [u8],
    /// The digest-uri.
    pub uri: &'a [u8],
    /// The nonce.
    pub nonce: &'a [u8],
    /// `qop`, nonce count and client nonce; none of an RFC 2069 client.
    pub qop: Option<Qop<'a>>,
}

/// What comes with a quality of protection.
#[derive(Clone, Copy, Debug)]
pub struct Qop<'a> {
    /// Its name: `auth`.
    pub name: &'a [u8],
    /// The nonce count as it was written: eight hex digits.
    pub nc: &'a [u8],
    /// The client's nonce.
    pub cnonce: &'a [u8],
}

impl Algorithm {
    /// All, the best first.
    pub const ALL: [Self; 3] = [Self::Sha512_256, Self::Sha256, Self::Md5];

    /// The algorithm of a name, in any case.
    #[must_use]
    pub fn parse(name: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|algorithm| name.eq_ignore_ascii_case(algorithm.as_str().as_bytes()))
    }

    /// Its name in `algorithm`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
            Self::Sha512_256 => "SHA-512-256",
        }
    }

    /// How many bytes its hash has.
    #[must_use]
    pub const fn hash_len(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha256 | Self::Sha512_256 => 32,
        }
    }

    /// HA1: the hash of `username:realm:password`, which stands for the password (RFC 7616 3.4.2).
    #[must_use]
    pub fn ha1(self, username: &[u8], realm: &[u8], password: &[u8]) -> Hex {
        self.hash(&[username, realm, password])
    }

    /// The hash that may stand in the place of a user's name (RFC 7616 3.4.4).
    #[must_use]
    pub fn userhash(self, username: &[u8], realm: &[u8]) -> Hex {
        self.hash(&[username, realm])
    }

    /// The response that the holder of `ha1` gives (RFC 7616 3.4.1).
    #[must_use]
    pub fn response(self, ha1: &[u8], proof: &Proof<'_>) -> Hex {
        let ha2 = self.hash(&[proof.method, proof.uri]);
        match &proof.qop {
            Some(qop) => self.hash(&[
                ha1,
                proof.nonce,
                qop.nc,
                qop.cnonce,
                qop.name,
                ha2.as_bytes(),
            ]),
            None => self.hash(&[ha1, proof.nonce, ha2.as_bytes()]),
        }
    }

    /// The hash of the parts, with colons between them.
    fn hash(self, parts: &[&[u8]]) -> Hex {
        match self {
            Self::Md5 => Hex::of(&joined::<Md5>(parts)),
            Self::Sha256 => Hex::of(&joined::<Sha256>(parts)),
            Self::Sha512_256 => Hex::of(&joined::<Sha512_256>(parts)),
        }
    }
}

fn joined<D: Digest>(parts: &[&[u8]]) -> sha2::digest::Output<D> {
    let mut digest = D::new();
    for (place, part) in parts.iter().enumerate() {
        if place > 0 {
            digest.update(b":");
        }
        digest.update(part);
    }
    digest.finalize()
}

impl Hex {
    /// The hex digits of at most 32 bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hex = Self {
            digits: [0; HEX_LEN_MAX],
            len: 0,
        };
        for (byte, pair) in bytes.iter().zip(hex.digits.chunks_exact_mut(2)) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
            hex.len += 2;
        }
        hex
    }

    /// The digits.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.digits.get(..self.len).unwrap_or_default()
    }
}

impl std::fmt::Debug for Hex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hex")
    }
}

const fn digit(nibble: u8) -> u8 {
    match nibble {
        0..=9 => b'0' + nibble,
        _ => b'a' + nibble - 10,
    }
}

const HEX_LEN_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7616 3.9.1.
    #[test]
    fn the_responses_of_rfc_7616_are_computed() {
        let nonce = b"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
        let proof = Proof {
            method: b"GET",
            uri: b"/dir/index.html",
            nonce,
            qop: Some(Qop {
                name: b"auth",
                nc: b"00000001",
                cnonce: b"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
            }),
        };
        for (algorithm, expected) in [
            (Algorithm::Md5, "8ca523f5e9506fed4657c9700eebdbec"),
            (
                Algorithm::Sha256,
                "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
            ),
        ] {
            let ha1 = algorithm.ha1(b"Mufasa", b"http-auth@example.org", b"Circle of Life");
            let response = algorithm.response(ha1.as_bytes(), &proof);
            assert_eq!(response.as_bytes(), expected.as_bytes(), "{algorithm:?}");
        }
    }

    /// RFC 2617 3.5 has a response of RFC 2069 shape in its errata: no qop.
    #[test]
    fn a_client_without_qop_is_understood() {
        let ha1 = Algorithm::Md5.ha1(b"Mufasa", b"testrealm@host.com", b"CircleOfLife");
        let proof = Proof {
            method: b"GET",
            uri: b"/dir/index.html",
            nonce: b"dcd98b7102dd2f0e8b11d0f600bfb0c093",
            qop: None,
        };
        assert_eq!(
            Algorithm::Md5.response(ha1.as_bytes(), &proof).as_bytes(),
            b"1949323746fe6a43ef61f9606e7febea"
        );
    }

    #[test]
    fn names_are_read_in_any_case() {
        assert_eq!(
            Algorithm::parse(b"sha-512-256"),
            Some(Algorithm::Sha512_256)
        );
        assert_eq!(Algorithm::parse(b"MD5-sess"), None);
    }
}
