//! The users of a database: Kamailio's `subscriber` (version 7), and `strowger_subscriber` for the hashes that it has no column for.
//!
//! `ha1` is MD5's, of `username:realm:password`. Where it is empty, and for the SHA hashes that are not in the side table, HA1 is
//! computed of a `password` that is not empty, as Kamailio does with `calculate_ha1`. `ha1b` is MD5's of `username@domain` as the
//! user name; those of the SHA hashes stand in the side table with a `b` behind the algorithm's name.

use data_encoding::HEXLOWER_PERMISSIVE;

use super::engine::EngineError;
use crate::auth::Algorithm;
use crate::location::{Ha1s, Row, Secrets};

/// Where users are looked up and kept.
pub(super) trait Directory: Send {
    /// Connects, where there is no connection.
    fn connect(&mut self) -> Result<(), EngineError>;

    /// The accounts of these users, in no order; with a domain those of it alone.
    fn find(&mut self, users: &[(&str, Option<&str>)]) -> Result<Vec<Account>, EngineError>;

    /// Gives every row of these AoRs to `each`.
    fn bindings(
        &mut self,
        aors: &[&str],
        each: &mut dyn FnMut(&Row<'_>),
    ) -> Result<(), EngineError>;

    /// Makes the tables that are not there, checks the versions of those that are, and gives the names of what it made.
    fn migrate(&mut self) -> Result<Vec<&'static str>, EngineError>;

    /// Adds an account, or changes the one that is there, as `mode` allows; gives whether it did.
    fn put(&mut self, account: &Account, mode: Mode) -> Result<bool, EngineError>;

    /// Removes an account; gives whether there was one.
    fn remove(&mut self, user: &str, domain: &str) -> Result<bool, EngineError>;

    /// Forgets the connection, after an error.
    fn disconnect(&mut self);
}

/// What may become of an account that is there, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// It is not there yet.
    Add,
    /// It is there.
    Change,
}

/// One user's rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) user: String,
    pub(super) domain: String,
    /// Empty where only hashes are kept, as here.
    pub(super) password: String,
    pub(super) ha1: String,
    /// HA1 of `username@domain` as the user name, for phones that send that.
    pub(super) ha1b: String,
    /// Of the side table: the algorithm's name and HA1.
    pub(super) others: Vec<(String, String)>,
}

impl Account {
    /// The account of a new password, which itself is not kept.
    pub(super) fn new(user: &str, domain: &str, password: &str) -> Self {
        let hex = |algorithm: Algorithm, user: &str| {
            let ha1 = algorithm.ha1(user.as_bytes(), domain.as_bytes(), password.as_bytes());
            String::from_utf8_lossy(ha1.as_bytes()).into_owned()
        };
        let full = format!("{user}@{domain}");
        let others = [Algorithm::Sha256, Algorithm::Sha512_256].map(|algorithm| {
            let name = algorithm.as_str();
            [
                (name.to_owned(), hex(algorithm, user)),
                (format!("{name}{WITH_DOMAIN}"), hex(algorithm, &full)),
            ]
        });
        Self {
            user: user.to_owned(),
            domain: domain.to_owned(),
            password: String::new(),
            ha1: hex(Algorithm::Md5, user),
            ha1b: hex(Algorithm::Md5, &full),
            others: others.into_iter().flatten().collect(),
        }
    }

    /// What the user proves to know, in `realm`.
    pub(super) fn secrets(&self, realm: &str) -> Secrets {
        let full = format!("{}@{}", self.user, self.domain);
        Secrets {
            bare: self.ha1s(realm, &self.user, (&self.ha1, "")),
            with_domain: self.ha1s(realm, &full, (&self.ha1b, WITH_DOMAIN)),
        }
    }

    /// The hashes for one way to write the user's name: MD5's is given, the others' names in the side table have this ending.
    fn ha1s(&self, realm: &str, name: &str, (md5, ending): (&str, &str)) -> Ha1s {
        let side = |algorithm: Algorithm| {
            let is_it = |kept: &str| {
                let (kept, end) = kept.split_at_checked(algorithm.as_str().len())?;
                (kept.eq_ignore_ascii_case(algorithm.as_str()) && end == ending).then_some(())
            };
            let found = self.others.iter().find(|(kept, _)| is_it(kept).is_some());
            found.map_or("", |(_, ha1)| ha1.as_str())
        };
        Ha1s {
            sha512_256: self.ha1(
                Algorithm::Sha512_256,
                side(Algorithm::Sha512_256),
                realm,
                name,
            ),
            sha256: self.ha1(Algorithm::Sha256, side(Algorithm::Sha256), realm, name),
            md5: self.ha1(Algorithm::Md5, md5, realm, name),
        }
    }

    /// The hash that is kept, else the one that the password gives.
    fn ha1<const LEN: usize>(
        &self,
        algorithm: Algorithm,
        kept: &str,
        realm: &str,
        name: &str,
    ) -> Option<[u8; LEN]> {
        let decode = |hex: &[u8]| {
            HEXLOWER_PERMISSIVE
                .decode(hex)
                .ok()
                .and_then(|bytes| bytes.try_into().ok())
        };
        decode(kept.as_bytes()).or_else(|| {
            let password = Some(&self.password).filter(|password| !password.is_empty())?;
            let ha1 = algorithm.ha1(name.as_bytes(), realm.as_bytes(), password.as_bytes());
            decode(ha1.as_bytes())
        })
    }
}

/// What stands behind an algorithm's name in the side table where HA1 is of `username@domain`.
const WITH_DOMAIN: &str = "b";

/// The account of a user among those that were found: the one of `domain`; without one that must fit, the realm's before others.
pub(super) fn choose<'a>(
    accounts: &'a [Account],
    user: &str,
    domain: Option<&str>,
    realm: &str,
) -> Option<&'a Account> {
    let of_user = || accounts.iter().filter(|account| account.user == user);
    match domain {
        Some(domain) => of_user().find(|account| account.domain.eq_ignore_ascii_case(domain)),
        None => of_user()
            .find(|account| account.domain.eq_ignore_ascii_case(realm))
            .or_else(|| of_user().next()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_account_keeps_hashes_and_no_password() {
        // RFC 7616 3.9.1: Mufasa's.
        let account = Account::new("Mufasa", "http-auth@example.org", "Circle of Life");
        assert_eq!(account.ha1, "3d78807defe7de2157e2b0b6573a855f");
        assert!(account.password.is_empty());
        let secrets = account.secrets("http-auth@example.org").bare;
        assert_eq!(secrets.md5.map(|md5| md5[0]), Some(0x3d));
        assert_eq!(
            secrets.sha256.map(|sha| sha[..2].to_vec()),
            Some(vec![0x79, 0x87])
        );
        assert!(secrets.sha512_256.is_some());
    }

    #[test]
    fn what_is_not_kept_comes_of_the_password() {
        let whole = Account::new("alice", "h", "secret");
        let bare = Account {
            password: "secret".into(),
            ha1: String::new(),
            others: Vec::new(),
            ..whole.clone()
        };
        assert!(bare.secrets("h") == whole.secrets("h"));
        let kamailios = Account {
            password: String::new(),
            others: Vec::new(),
            ..whole.clone()
        };
        let secrets = kamailios.secrets("h").bare;
        assert!(
            secrets.md5 == whole.secrets("h").bare.md5
                && secrets.sha256.is_none()
                && secrets.sha512_256.is_none()
        );
        let damaged = Account {
            ha1: "no hash".into(),
            ..kamailios
        };
        assert!(damaged.secrets("h").bare.md5.is_none());
    }

    #[test]
    fn a_name_with_its_domain_has_hashes_of_its_own() {
        let whole = Account::new("alice", "example.com", "secret");
        let secrets = whole.secrets("example.com");
        let hash = |name: &[u8]| Algorithm::Sha256.ha1(name, b"example.com", b"secret");
        let hex = |ha1: Option<[u8; 32]>| ha1.map(|ha1| HEXLOWER_PERMISSIVE.encode(&ha1));
        let text = |hex: &crate::auth::Hex| String::from_utf8_lossy(hex.as_bytes()).into_owned();
        assert_eq!(hex(secrets.bare.sha256), Some(text(&hash(b"alice"))));
        assert_eq!(
            hex(secrets.with_domain.sha256),
            Some(text(&hash(b"alice@example.com")))
        );
        assert!(secrets.with_domain.md5.is_some() && secrets.with_domain.md5 != secrets.bare.md5);
        // The same of a password that Kamailio keeps.
        let plain = Account {
            password: "secret".into(),
            user: "alice".into(),
            domain: "example.com".into(),
            ..Account::default()
        };
        assert!(plain.secrets("example.com") == secrets);
    }

    #[test]
    fn of_several_domains_the_right_one_counts() {
        let account = |domain: &str| Account {
            user: "alice".into(),
            domain: domain.into(),
            ..Account::default()
        };
        let accounts = [account("one"), account("Two")];
        let chosen = |domain, realm| {
            choose(&accounts, "alice", domain, realm).map(|account| account.domain.as_str())
        };
        assert_eq!(chosen(Some("two"), "one"), Some("Two"));
        assert_eq!(chosen(Some("three"), "one"), None);
        assert_eq!(chosen(None, "two"), Some("Two"));
        assert_eq!(chosen(None, "three"), Some("one"));
        assert_eq!(choose(&accounts, "bob", None, "one"), None);
    }
}
