//! How an agent proves who it is (RFC 7616, RFC 3261 22), from the RFCs: it shares no line with `src/auth`.

use md5::{Digest, Md5};
use sha2::Sha256;

use super::super::message::Message;
use super::super::random::Random;

/// What an agent knows of its account, and of the challenges that it has got.
pub(crate) struct Prover {
    password: String,
    /// Whether the password is not the user's.
    pub(crate) is_impostor: bool,
    is_modern: bool,
    has_qop: bool,
    /// The nonce of a registrar or a proxy, and how often it was used.
    nonce: Option<(String, u32)>,
}

impl Prover {
    /// Of a user; one in twenty knows a wrong password.
    pub(crate) fn new(user: &str, random: &mut Random) -> Self {
        let is_impostor = random.chance(50);
        Self {
            password: if is_impostor {
                "guess".to_owned()
            } else {
                password(user)
            },
            is_impostor,
            is_modern: random.chance(500),
            has_qop: random.chance(800),
            nonce: None,
        }
    }

    /// Takes a challenge; says whether to try again: not where the same credentials were refused for what they are.
    pub(crate) fn learn(&mut self, request: &[u8], response: &Message<'_>) -> bool {
        let text = String::from_utf8_lossy(response.bytes).into_owned();
        let wanted = if self.is_modern { "SHA-256" } else { "MD5" };
        let challenges = text.lines().filter(|line| line.contains("-Authenticate: "));
        let challenge = challenges
            .into_iter()
            .find(|line| line.contains(&format!("algorithm={wanted}")));
        let Some(challenge) = challenge else {
            return false;
        };
        let Some((_, rest)) = challenge.split_once("nonce=\"") else {
            return false;
        };
        let nonce = rest.split('"').next().unwrap_or_default().to_owned();
        self.nonce = Some((nonce, 0));
        let had_proof = String::from_utf8_lossy(request).contains("uthorization: Digest");
        !had_proof || challenge.contains("stale=true")
    }

    /// The header line for a request, if there was a challenge.
    pub(crate) fn line(&mut self, name: &str, user: &str, method: &str, uri: &str) -> String {
        // Without a count a nonce is good once.
        let has_qop = self.has_qop;
        let Some((nonce, count)) = self
            .nonce
            .as_mut()
            .filter(|(_, count)| has_qop || *count == 0)
        else {
            return String::new();
        };
        *count += 1;
        let (algorithm, hash): (_, fn(&str) -> String) = if self.is_modern {
            ("SHA-256", hash::<Sha256>)
        } else {
            ("MD5", hash::<Md5>)
        };
        let a1 = hash(&format!("{user}:example.com:{}", self.password));
        let a2 = hash(&format!("{method}:{uri}"));
        let (response, rest) = if self.has_qop {
            let response = hash(&format!("{a1}:{nonce}:{count:08x}:cafe:auth:{a2}"));
            (
                response,
                format!(", qop=auth, nc={count:08x}, cnonce=\"cafe\""),
            )
        } else {
            (hash(&format!("{a1}:{nonce}:{a2}")), String::new())
        };
        format!(
            "{name}: Digest username=\"{user}\", realm=\"example.com\", nonce=\"{nonce}\", uri=\"{uri}\", \
             response=\"{response}\", algorithm={algorithm}{rest}\r\n"
        )
    }
}

/// A user's password.
fn password(user: &str) -> String {
    format!("secret-{user}")
}

/// HA1 of a user, raw, as a store has it: with SHA-256, with MD5.
pub(crate) fn ha1s(user: &str) -> ([u8; 32], [u8; 16]) {
    let plain = format!("{user}:example.com:{}", password(user));
    (Sha256::digest(&plain).into(), Md5::digest(&plain).into())
}

fn hash<D: Digest>(text: &str) -> String {
    let digest = D::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
