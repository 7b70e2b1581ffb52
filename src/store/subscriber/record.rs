//! A row of the users' tables, and the secrets that follow from it.

use data_encoding::HEXLOWER_PERMISSIVE;

use crate::auth::Algorithm;
use crate::location::Secrets;

/// A user as the tables have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) username: String,
    pub(super) domain: String,
    /// In the clear, where the operator keeps it so; else empty.
    pub(super) password: String,
    /// HA1 with MD5, in hex; empty where it is to be computed.
    pub(super) ha1: String,
    /// HA1 with SHA-256 and SHA-512-256 out of the side table.
    pub(super) sha256: Option<String>,
    pub(super) sha512_256: Option<String>,
}

impl Record {
    /// The secrets: as they are stored, else computed from a password that is there.
    pub(super) fn secrets(&self, realm: &str) -> Secrets {
        Secrets {
            sha512_256: self.ha1::<32>(Algorithm::Sha512_256, self.sha512_256.as_deref(), realm),
            sha256: self.ha1::<32>(Algorithm::Sha256, self.sha256.as_deref(), realm),
            md5: self.ha1::<16>(Algorithm::Md5, Some(&self.ha1), realm),
        }
    }

    fn ha1<const LEN: usize>(
        &self,
        algorithm: Algorithm,
        stored: Option<&str>,
        realm: &str,
    ) -> Option<[u8; LEN]> {
        let raw = |hex: &[u8]| HEXLOWER_PERMISSIVE.decode(hex).ok()?.try_into().ok();
        let stored = stored.filter(|hex| !hex.is_empty());
        if let Some(known) = stored.and_then(|hex| raw(hex.as_bytes())) {
            return Some(known);
        }
        if self.password.is_empty() {
            return None;
        }
        let computed = algorithm.ha1(
            self.username.as_bytes(),
            realm.as_bytes(),
            self.password.as_bytes(),
        );
        raw(computed.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_goes_before_what_follows_from_the_password() {
        let mut record = Record {
            username: "bob".to_owned(),
            password: "secret".to_owned(),
            ..Record::default()
        };
        let computed = record.secrets("example.com");
        assert!(
            computed.md5.is_some() && computed.sha256.is_some() && computed.sha512_256.is_some()
        );
        record.ha1 = "00".repeat(16);
        record.password.clear();
        let stored = record.secrets("example.com");
        assert_eq!(stored.md5, Some([0; 16]));
        assert_eq!((stored.sha256, stored.sha512_256), (None, None));
        record.sha256 = Some("FF".repeat(32));
        assert_eq!(record.secrets("example.com").sha256, Some([255; 32]));
        // Rubbish in the table is no secret.
        record.ha1 = "xyz".to_owned();
        assert_eq!(record.secrets("example.com").md5, None);
    }
}
