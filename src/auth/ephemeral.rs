//! Time-limited credentials: a user name that says until when it is good, and a password that is the HMAC of that name under a secret
//! which we share with whoever gives such credentials out (draft-uberti-behave-turn-rest-00; Kamailio's `auth_ephemeral`).
//!
//! Nothing is looked up: the name and the secret tell all. Several secrets are good while one is being replaced.

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;

use super::algorithm::{Algorithm, Hex};

/// What time-limited credentials are made and checked with.
#[derive(Clone, PartialEq, Eq)]
pub struct Ephemeral {
    secrets: Vec<Vec<u8>>,
    hash: EphemeralHash,
    order: EphemeralOrder,
}

/// The hash in the HMAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EphemeralHash {
    /// As TURN's REST interface has it, and Kamailio by default.
    Sha1,
    /// The better one.
    Sha256,
}

/// How the time and the user stand in the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EphemeralOrder {
    /// `1893456000:alice`.
    TimeFirst,
    /// `alice:1893456000`.
    UserFirst,
}

/// What a time-limited name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EphemeralName<'a> {
    /// Until when it is good, in seconds since the Unix epoch.
    pub until_s: u64,
    /// Whom it is for; perhaps with `@` and a domain.
    pub user: &'a [u8],
}

impl Ephemeral {
    /// Credentials under `secrets`: any of them is good.
    #[must_use]
    pub const fn new(secrets: Vec<Vec<u8>>, hash: EphemeralHash, order: EphemeralOrder) -> Self {
        Self {
            secrets,
            hash,
            order,
        }
    }

    /// Reads a user name; `None` where it is no time-limited one.
    #[must_use]
    pub fn read<'a>(&self, name: &'a [u8]) -> Option<EphemeralName<'a>> {
        let colon = match self.order {
            EphemeralOrder::TimeFirst => memchr::memchr(b':', name)?,
            EphemeralOrder::UserFirst => memchr::memrchr(b':', name)?,
        };
        let (before, after) = (name.get(..colon)?, name.get(colon + 1..)?);
        let (time, user) = match self.order {
            EphemeralOrder::TimeFirst => (before, after),
            EphemeralOrder::UserFirst => (after, before),
        };
        let is_time = !time.is_empty() && time.iter().all(u8::is_ascii_digit);
        let until_s = str::from_utf8(time)
            .ok()
            .filter(|_| is_time)?
            .parse()
            .ok()?;
        (!user.is_empty()).then_some(EphemeralName { until_s, user })
    }

    /// HA1 of a time-limited name under each secret, with the password that belongs to it.
    pub fn ha1s(
        &self,
        algorithm: Algorithm,
        name: &[u8],
        realm: &[u8],
    ) -> impl Iterator<Item = Hex> {
        self.secrets.iter().map(move |secret| {
            let mut text = [0; PASSWORD_LEN_MAX];
            algorithm.ha1(name, realm, self.password(secret, name, &mut text))
        })
    }

    /// The password of a name under one secret: base64 of the HMAC.
    fn password<'t>(
        &self,
        secret: &[u8],
        name: &[u8],
        text: &'t mut [u8; PASSWORD_LEN_MAX],
    ) -> &'t [u8] {
        match self.hash {
            EphemeralHash::Sha1 => encode(&mac::<Hmac<Sha1>>(secret, name), text),
            EphemeralHash::Sha256 => encode(&mac::<Hmac<Sha256>>(secret, name), text),
        }
    }
}

impl std::fmt::Debug for Ephemeral {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ephemeral")
            .field("secrets", &self.secrets.len())
            .field("hash", &self.hash)
            .field("order", &self.order)
            .finish()
    }
}

fn mac<M: Mac + KeyInit>(secret: &[u8], name: &[u8]) -> hmac::digest::Output<M> {
    let mut mac = <M as KeyInit>::new_from_slice(secret).expect("HMAC takes a key of any length");
    mac.update(name);
    mac.finalize().into_bytes()
}

fn encode<'t>(mac: &[u8], text: &'t mut [u8; PASSWORD_LEN_MAX]) -> &'t [u8] {
    let len = BASE64.encode_len(mac.len());
    let Some(text) = text.get_mut(..len) else {
        return b"";
    };
    BASE64.encode_mut(mac, text);
    text
}

/// Base64 of 32 bytes.
const PASSWORD_LEN_MAX: usize = 44;

#[cfg(test)]
mod tests {
    use super::*;

    fn ephemeral(hash: EphemeralHash, order: EphemeralOrder) -> Ephemeral {
        Ephemeral::new(vec![b"north".to_vec(), b"south".to_vec()], hash, order)
    }

    #[test]
    fn passwords_are_what_openssl_makes() {
        // printf 1893456000:alice | openssl dgst -sha1 -hmac south -binary | base64; and -sha256.
        for (hash, expected) in [
            (EphemeralHash::Sha1, SHA1_OF_SOUTH),
            (EphemeralHash::Sha256, SHA256_OF_SOUTH),
        ] {
            let ephemeral = ephemeral(hash, EphemeralOrder::TimeFirst);
            let mut text = [0; PASSWORD_LEN_MAX];
            let password = ephemeral.password(b"south", b"1893456000:alice", &mut text);
            assert_eq!(password, expected.as_bytes());
            let ha1s = ephemeral.ha1s(Algorithm::Md5, b"1893456000:alice", b"h");
            let known = Algorithm::Md5.ha1(b"1893456000:alice", b"h", expected.as_bytes());
            let last = ha1s.last().expect("two secrets");
            assert_eq!(last.as_bytes(), known.as_bytes());
        }
    }

    const SHA1_OF_SOUTH: &str = "NlNM948zMdXSSSIfBJeYFy8StRw=";
    const SHA256_OF_SOUTH: &str = "BKRP0rpRivy0Ex1px+eyNEfemwyV4RiGQY0VNxYF3hg=";

    #[test]
    fn a_name_is_read_in_its_order_and_nothing_else_is_one() {
        let read = |order, name: &str| {
            let ephemeral = ephemeral(EphemeralHash::Sha1, order);
            let read = ephemeral.read(name.as_bytes());
            read.map(|read| {
                (
                    read.until_s,
                    String::from_utf8_lossy(read.user).into_owned(),
                )
            })
        };
        let alice = |until_s| Some((until_s, "alice".to_owned()));
        assert_eq!(
            read(EphemeralOrder::TimeFirst, "1893456000:alice"),
            alice(1_893_456_000)
        );
        assert_eq!(read(EphemeralOrder::UserFirst, "alice:7"), alice(7));
        assert_eq!(
            read(EphemeralOrder::TimeFirst, "7:alice@example.com").map(|(_, user)| user),
            Some("alice@example.com".to_owned())
        );
        for name in [
            "alice",
            "1893456000",
            "1893456000:",
            ":alice",
            "+1:alice",
            "1 :alice",
            "alice:7",
            "99999999999999999999999:alice",
            "-1:alice",
        ] {
            assert_eq!(read(EphemeralOrder::TimeFirst, name), None, "{name}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let ephemeral = ephemeral(EphemeralHash::Sha1, EphemeralOrder::TimeFirst);
        let text = format!("{ephemeral:?}");
        assert!(
            !text.contains("north") && !text.contains("110, 111"),
            "{text}"
        );
    }
}
