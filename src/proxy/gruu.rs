//! GRUUs (RFC 5627): URIs that lead to one instance of a user, wherever it is now.
//!
//! A public one is the AoR with the instance in its `gr`. A temporary one tells nothing of either to whoever reads it, and takes no
//! memory: its user part is a cipher text of the AoR and of what names the instance and the Call-ID of its registration. It is
//! enciphered with a nonce that is a MAC of the plain text (the synthetic IV of RFC 5297, with HMAC-SHA-256 for a cipher), so that it
//! is known for ours by any node that has the key. It is good for as long as the instance is registered with that Call-ID.

use core::hash::Hasher;

use data_encoding::BASE32_DNSSEC;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use siphasher::sip::SipHasher24;
use subtle::ConstantTimeEq;

use crate::limits::AOR_LEN_MAX;
use crate::location::Target;
use crate::sip::Sink;
use crate::sip::uri::unescaped;

/// Makes and reads GRUUs under the keys of the cluster.
#[derive(Clone)]
pub(super) struct GruuCodec {
    keys: Vec<[u8; 16]>,
}

/// What a temporary GRUU says.
pub(super) struct Temporary {
    key: [u8; 16],
    instance: u64,
    call_id: u64,
    aor: [u8; AOR_LEN_MAX],
    aor_len: usize,
}

impl GruuCodec {
    /// A codec under `keys`: the current one first, then the one before it.
    #[must_use]
    pub(super) const fn new(keys: Vec<[u8; 16]>) -> Self {
        Self { keys }
    }

    /// Puts the user part of a temporary GRUU of a binding of `aor`: another for each REGISTER.
    pub(super) fn put_temporary(&self, out: &mut impl Sink, aor: &[u8], target: &Target<'_>) {
        let key = self.keys.first().copied().unwrap_or_default();
        let mut sealed = [0; SEALED_LEN_MAX];
        let len = HEAD_LEN + aor.len().min(AOR_LEN_MAX);
        let plain = &mut sealed[NONCE_LEN..NONCE_LEN + len];
        plain[..4].copy_from_slice(&target.cseq.to_be_bytes());
        plain[4..12].copy_from_slice(&fingerprint(&key, INSTANCE, target.instance).to_be_bytes());
        plain[12..HEAD_LEN]
            .copy_from_slice(&fingerprint(&key, CALL_ID, target.call_id).to_be_bytes());
        plain[HEAD_LEN..].copy_from_slice(&aor[..len - HEAD_LEN]);
        let nonce = nonce_of(&key, plain);
        cipher(&key, &nonce, plain);
        sealed[..NONCE_LEN].copy_from_slice(&nonce);
        let sealed = &sealed[..NONCE_LEN + len];
        let mut text = [0; TEXT_LEN_MAX];
        let text = &mut text[..BASE32_DNSSEC.encode_len(sealed.len())];
        BASE32_DNSSEC.encode_mut(sealed, text);
        out.put(PREFIX);
        out.put(text);
    }

    /// Reads the user part of a temporary GRUU; `None` where it is none of ours.
    #[must_use]
    pub(super) fn read_temporary(&self, user: &[u8]) -> Option<Temporary> {
        let text = user.strip_prefix(PREFIX)?;
        let mut sealed = [0; SEALED_LEN_MAX];
        let len = BASE32_DNSSEC
            .decode_len(text.len())
            .ok()
            .filter(|len| (NONCE_LEN + HEAD_LEN..=SEALED_LEN_MAX).contains(len))?;
        BASE32_DNSSEC
            .decode_mut(text, sealed.get_mut(..len)?)
            .ok()?;
        let (nonce, sealed) = sealed.get(..len)?.split_first_chunk::<NONCE_LEN>()?;
        self.keys
            .iter()
            .find_map(|key| Temporary::open(key, nonce, sealed))
    }
}

impl Temporary {
    fn open(key: &[u8; 16], nonce: &[u8; NONCE_LEN], sealed: &[u8]) -> Option<Self> {
        let mut plain = [0; HEAD_LEN + AOR_LEN_MAX];
        let plain = plain.get_mut(..sealed.len())?;
        plain.copy_from_slice(sealed);
        cipher(key, nonce, plain);
        if !bool::from(nonce_of(key, plain).ct_eq(nonce)) {
            return None;
        }
        let (_, rest) = plain.split_first_chunk::<4>()?;
        let (instance, rest) = rest.split_first_chunk::<8>()?;
        let (call_id, aor) = rest.split_first_chunk::<8>()?;
        let mut temporary = Self {
            key: *key,
            instance: u64::from_be_bytes(*instance),
            call_id: u64::from_be_bytes(*call_id),
            aor: [0; AOR_LEN_MAX],
            aor_len: aor.len(),
        };
        temporary.aor.get_mut(..aor.len())?.copy_from_slice(aor);
        Some(temporary)
    }

    /// The AoR, in canonical form.
    pub(super) fn aor(&self) -> &[u8] {
        self.aor.get(..self.aor_len).unwrap_or_default()
    }

    /// Whether a contact is one of the instance's.
    pub(super) fn is_of_instance(&self, target: &Target<'_>) -> bool {
        !target.instance.is_empty()
            && fingerprint(&self.key, INSTANCE, target.instance) == self.instance
    }

    /// Whether a contact of the instance's was registered with the Call-ID that this GRUU came with (RFC 5627 5.1).
    pub(super) fn is_of_registration(&self, target: &Target<'_>) -> bool {
        fingerprint(&self.key, CALL_ID, target.call_id) == self.call_id
    }
}

impl std::fmt::Debug for GruuCodec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GruuCodec")
    }
}

/// Puts the value of the `gr` parameter that names an instance: its URN, with what no parameter may have escaped.
pub(super) fn put_public(out: &mut impl Sink, instance: &[u8]) {
    for byte in bare(instance) {
        if byte.is_ascii_alphanumeric() || PLAIN.contains(byte) {
            out.put(&[*byte]);
        } else {
            out.put(b"%");
            out.put_hex(u64::from(*byte), 2);
        }
    }
}

/// Whether the value of a `gr` parameter names an instance.
pub(super) fn names(gr: &[u8], instance: &[u8]) -> bool {
    !instance.is_empty() && unescaped(gr).eq(bare(instance).iter().copied())
}

/// An instance without its angle brackets.
fn bare(instance: &[u8]) -> &[u8] {
    instance
        .strip_prefix(b"<")
        .and_then(|instance| instance.strip_suffix(b">"))
        .unwrap_or(instance)
}

fn fingerprint(key: &[u8; 16], domain: u8, text: &[u8]) -> u64 {
    let mut hasher = SipHasher24::new_with_key(key);
    // No length is so great: this hash is kept apart from those of tokens under the same key.
    hasher.write(&usize::MAX.to_le_bytes());
    hasher.write(&[domain]);
    hasher.write(text);
    hasher.finish()
}

fn nonce_of(key: &[u8; 16], plain: &[u8]) -> [u8; NONCE_LEN] {
    let digest = keyed(key, &[b"temporary GRUU: nonce", plain]);
    let mut nonce = [0; NONCE_LEN];
    nonce.copy_from_slice(&digest[..NONCE_LEN]);
    nonce
}

/// Adds the key stream that belongs to a nonce: enciphers and deciphers.
fn cipher(key: &[u8; 16], nonce: &[u8; NONCE_LEN], text: &mut [u8]) {
    for (number, block) in (0_u8..).zip(text.chunks_mut(BLOCK_LEN)) {
        let stream = keyed(key, &[b"temporary GRUU: stream", nonce, &[number]]);
        block
            .iter_mut()
            .zip(stream)
            .for_each(|(byte, key)| *byte ^= key);
    }
}

fn keyed(key: &[u8; 16], parts: &[&[u8]]) -> [u8; BLOCK_LEN] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// What the user part of a temporary GRUU begins with.
const PREFIX: &[u8] = b"tgruu.";
/// What may stand in a URI parameter as it is (RFC 3261 25.1, `paramchar`), beside letters and digits.
const PLAIN: &[u8] = b"[]/:&+$-_.!~*'()";
const INSTANCE: u8 = 1;
const CALL_ID: u8 = 2;
const NONCE_LEN: usize = 10;
/// CSeq, instance and Call-ID.
const HEAD_LEN: usize = 4 + 8 + 8;
const BLOCK_LEN: usize = 32;
const SEALED_LEN_MAX: usize = NONCE_LEN + HEAD_LEN + AOR_LEN_MAX;
const TEXT_LEN_MAX: usize = (SEALED_LEN_MAX * 8).div_ceil(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datagram::ListenerId;
    use crate::time::Instant;

    struct Collected(Vec<u8>);

    impl Sink for Collected {
        fn put(&mut self, bytes: &[u8]) {
            self.0.extend_from_slice(bytes);
        }
    }

    fn target(call_id: &'static str, cseq: u32) -> Target<'static> {
        Target {
            home: crate::location::HomeId::NONE,
            uri: b"sip:alice@192.0.2.9",
            path: b"",
            q: None,
            expires: Instant::EPOCH,
            listener: ListenerId(0),
            received: None,
            instance: b"<urn:uuid:00000000-0000-1000-8000-000A95A0E128>",
            reg_id: 0,
            call_id: call_id.as_bytes(),
            cseq,
        }
    }

    fn temporary(codec: &GruuCodec, aor: &[u8], call_id: &'static str, cseq: u32) -> Vec<u8> {
        let mut out = Collected(Vec::new());
        codec.put_temporary(&mut out, aor, &target(call_id, cseq));
        out.0
    }

    #[test]
    fn a_temporary_gruu_tells_its_maker_all_and_others_nothing() {
        let codec = GruuCodec::new(vec![[7; 16]]);
        let first = temporary(&codec, b"alice", "call-1", 1);
        assert_eq!(
            temporary(&codec, b"alice", "call-1", 1),
            first,
            "a retransmission"
        );
        let second = temporary(&codec, b"alice", "call-1", 2);
        // Nothing that two of them share, beside what all have.
        let alike = first
            .iter()
            .zip(&second)
            .skip(PREFIX.len())
            .filter(|(a, b)| a == b);
        assert!(alike.count() < 12);
        for user in [&first, &second] {
            let read = codec.read_temporary(user).expect("ours");
            assert_eq!(read.aor(), b"alice");
            assert!(read.is_of_instance(&target("call-1", 9)));
            assert!(read.is_of_registration(&target("call-1", 9)));
            assert!(!read.is_of_registration(&target("call-2", 1)));
        }
        let rotated = GruuCodec::new(vec![[8; 16], [7; 16]]);
        assert!(rotated.read_temporary(&first).is_some());
        assert!(
            GruuCodec::new(vec![[8; 16]])
                .read_temporary(&first)
                .is_none()
        );
    }

    #[test]
    fn the_longest_aor_fits_and_no_altered_gruu_is_taken() {
        let codec = GruuCodec::new(vec![[7; 16]]);
        let long = temporary(&codec, &[b'a'; AOR_LEN_MAX], "call-1", 1);
        assert_eq!(
            codec.read_temporary(&long).expect("ours").aor().len(),
            AOR_LEN_MAX
        );
        let good = temporary(&codec, b"alice", "call-1", 1);
        for place in PREFIX.len()..good.len() {
            let mut bad = good.clone();
            bad[place] = if bad[place] == b'0' { b'1' } else { b'0' };
            assert!(codec.read_temporary(&bad).is_none(), "{place}");
            assert!(codec.read_temporary(&good[..place]).is_none());
        }
        assert!(codec.read_temporary(&[b'a'; 2_000]).is_none());
    }

    #[test]
    fn a_public_gruu_names_its_instance() {
        let instance = b"<urn:x:a b;\"c\">";
        let mut out = Collected(Vec::new());
        put_public(&mut out, instance);
        assert_eq!(out.0, b"urn:x:a%20b%3b%22c%22");
        assert!(names(&out.0, instance));
        assert!(!names(b"urn:x:a", instance));
        assert!(!names(b"", b""));
    }
}
