//! `[nat]`: how the way to phones behind NATs is kept open, and what becomes of phones that fall silent.

use super::section::Section;
use crate::limits::KEEPALIVE_SILENT_MAX;
use crate::time::Duration;

/// Keepalives from us to contacts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nat {
    /// What contacts are sent.
    pub keepalive: Keepalive,
    /// How often each contact has its turn.
    pub cycle: Duration,
    /// Whether it is every contact's, and not only that of those behind a NAT or on a connection.
    pub all_contacts: bool,
    /// OPTIONS in a row without an answer after which a contact is removed; 0: it never is.
    pub remove_after: u8,
}

/// What contacts are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keepalive {
    /// Nothing.
    Off,
    /// A double CRLF.
    Crlf,
    /// An OPTIONS.
    Options,
}

impl Default for Nat {
    fn default() -> Self {
        Self {
            keepalive: Keepalive::Off,
            cycle: Duration::from_secs(CYCLE_S_DEFAULT),
            all_contacts: false,
            remove_after: 0,
        }
    }
}

/// Reads `[nat]`.
pub(super) fn read(root: &mut Section<'_>) -> Nat {
    let mut section = root.section("nat");
    let usual = Nat::default();
    let keepalive = section.choice(
        "keepalive",
        &[
            ("off", Keepalive::Off),
            ("crlf", Keepalive::Crlf),
            ("options", Keepalive::Options),
        ],
    );
    let cycle_s = section.number("cycle_s", CYCLE_S_MIN..=CYCLE_S_MAX);
    let all_contacts = section.choice("contacts", &[("nat", false), ("all", true)]);
    let remove_after = section.number("remove_after", 0..=u64::from(KEEPALIVE_SILENT_MAX));
    let nat = Nat {
        keepalive: keepalive.map_or(usual.keepalive, |found| found.value),
        cycle: cycle_s.map_or(usual.cycle, |found| Duration::from_secs(found.value)),
        all_contacts: all_contacts.map_or(usual.all_contacts, |found| found.value),
        remove_after: remove_after.map_or(usual.remove_after, |found| {
            u8::try_from(found.value).unwrap_or(KEEPALIVE_SILENT_MAX)
        }),
    };
    let is_read = keepalive.is_some() || !section.has("keepalive");
    if let Some(found) = remove_after
        .filter(|found| found.value > 0 && is_read && nat.keepalive != Keepalive::Options)
    {
        let text = "nothing but an OPTIONS is answered, so nobody is known to be silent; write keepalive = \"options\", or remove the key";
        section.mistake(found.at, "remove_after", text);
    }
    section.finish();
    nat
}

/// As Kamailio's `natping_interval` is mostly set: UDP mappings last 30 s at the least that is met with (RFC 4787 4.3 asks for 120).
const CYCLE_S_DEFAULT: u64 = 30;
/// Less tells nothing more, and costs.
const CYCLE_S_MIN: u64 = 1;
/// No mapping lasts longer.
const CYCLE_S_MAX: u64 = 3_600;

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn parse(section: &str) -> Result<Nat, String> {
        let text = format!("[[listen]]\naddress = \"192.0.2.1:5060\"\n{section}");
        Config::parse("t.toml".as_ref(), &text)
            .map(|config| config.nat)
            .map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn nothing_is_sent_unless_it_is_asked_for() {
        assert_eq!(parse(""), Ok(Nat::default()));
        assert_eq!(parse("[nat]\n").expect("good").keepalive, Keepalive::Off);
    }

    #[test]
    fn every_key_is_read() {
        let text =
            "[nat]\nkeepalive = \"options\"\ncycle_s = 60\ncontacts = \"all\"\nremove_after = 3\n";
        let nat = Nat {
            keepalive: Keepalive::Options,
            cycle: Duration::from_secs(60),
            all_contacts: true,
            remove_after: 3,
        };
        assert_eq!(parse(text), Ok(nat));
    }

    #[test]
    fn what_is_never_answered_removes_nobody() {
        for keepalive in ["crlf", "off"] {
            let text = format!("[nat]\nkeepalive = \"{keepalive}\"\nremove_after = 3\n");
            let mistake = parse(&text).expect_err("a mistake");
            assert!(
                mistake.starts_with("t.toml:5:16: [nat] remove_after: nothing but an OPTIONS"),
                "{mistake}"
            );
        }
        for bad in [
            "keepalive = \"ping\"",
            "cycle_s = 0",
            "contacts = \"some\"",
            "remove_after = 16",
        ] {
            assert!(parse(&format!("[nat]\n{bad}\n")).is_err(), "{bad}");
        }
    }
}
