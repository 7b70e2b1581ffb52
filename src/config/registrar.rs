//! `[registrar]`: how long bindings live and how many a user may have.

use super::address;
use super::section::{Found, Section};
use crate::limits::BRANCHES_MAX;

/// The settings of the registrar (RFC 3261 10.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registrar {
    /// The expiry of a contact that asks for none.
    pub expires_default_s: u32,
    /// The shortest: less is answered 423 with this as Min-Expires.
    pub expires_min_s: u32,
    /// The longest: more is granted this.
    pub expires_max_s: u32,
    /// By up to how many hundredths an expiry is shortened by lot, so that refreshes spread.
    pub expires_spread_percent: u8,
    /// Contacts of one AoR.
    pub contacts_max: usize,
    /// What becomes of one more.
    pub contacts_full: ContactsFull,
    /// By what a contact is known again.
    pub matching: ContactMatching,
    /// Whether a Path is kept though the phone does not say that it knows of Path; else it is refused (420).
    pub keeps_unasked_path: bool,
    /// After how long without a keepalive a phone takes its flow for lost (RFC 5626); 0: it is not told.
    pub flow_timer_s: u32,
    /// The URIs of Service-Route (RFC 3608), the first to be visited first.
    pub service_route: Vec<String>,
    /// Whether the AoR is `user@domain`, and not the user alone.
    pub use_domain: bool,
}

/// What becomes of a contact that is one too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContactsFull {
    /// It is refused with 403.
    #[default]
    Forbid,
    /// It is refused with 503, as Kamailio does.
    Unavailable,
    /// It takes the place of the one saved longest ago.
    ReplaceOldest,
}

/// By what a contact is known again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContactMatching {
    /// By its URI.
    #[default]
    Uri,
    /// By its URI and the Call-ID.
    UriAndCallId,
    /// By the Call-ID.
    CallId,
    /// By `+sip.instance`, else by its URI.
    Instance,
}

impl Default for Registrar {
    fn default() -> Self {
        Self {
            expires_default_s: 3_600,
            expires_min_s: 60,
            expires_max_s: 7_200,
            expires_spread_percent: 0,
            contacts_max: 10,
            contacts_full: ContactsFull::Forbid,
            matching: ContactMatching::Uri,
            keeps_unasked_path: false,
            flow_timer_s: 120,
            service_route: Vec::new(),
            use_domain: false,
        }
    }
}

/// Reads `[registrar]`.
pub(super) fn read(root: &mut Section<'_>) -> Registrar {
    let mut section = root.section("registrar");
    let usual = Registrar::default();
    let default_s = section.number("expires_default_s", 1..=EXPIRES_S_MAX);
    let min_s = section.number("expires_min_s", 1..=EXPIRES_S_MAX);
    let max_s = section.number("expires_max_s", 1..=EXPIRES_S_MAX);
    let contacts_max = section.number("contacts_max", 1..=BRANCHES_MAX as u64);
    let use_domain = section.flag("use_domain");
    let spread = section.number("expires_spread_percent", 0..=SPREAD_PERCENT_MAX);
    let contacts_full = section.choice("contacts_full", &CONTACTS_FULL);
    let matching = section.choice("matching", &MATCHING);
    let path = section.choice("path", &PATH);
    let flow_timer_s = section.number("flow_timer_s", 0..=FLOW_TIMER_S_MAX);
    let service_route = section.parsed_list("service_route", address::route_uri);
    let seconds = |found: Option<super::section::Found<u64>>, usual: u32| {
        found.map_or(usual, |found| {
            u32::try_from(found.value).unwrap_or(u32::MAX)
        })
    };
    let registrar = Registrar {
        expires_default_s: seconds(default_s, usual.expires_default_s),
        expires_min_s: seconds(min_s, usual.expires_min_s),
        expires_max_s: seconds(max_s, usual.expires_max_s),
        contacts_max: contacts_max.map_or(usual.contacts_max, |found| {
            usize::try_from(found.value).unwrap_or(BRANCHES_MAX)
        }),
        use_domain: use_domain.map_or(usual.use_domain, |flag| flag.value),
        expires_spread_percent: spread.map_or(usual.expires_spread_percent, |found| {
            u8::try_from(found.value).unwrap_or(0)
        }),
        contacts_full: contacts_full.map_or(usual.contacts_full, |found| found.value),
        matching: matching.map_or(usual.matching, |found| found.value),
        keeps_unasked_path: path.map_or(usual.keeps_unasked_path, |found| found.value),
        flow_timer_s: seconds(flow_timer_s, usual.flow_timer_s),
        service_route: routes(&section, service_route),
    };
    let places = [default_s, min_s, max_s].map(|found| found.map(|found| found.at));
    // A value that could not be read has its own mistake; its default would only make another.
    let is_wrong = |(key, at): (&&str, &Option<usize>)| at.is_none() && section.has(key);
    if !["expires_default_s", "expires_min_s", "expires_max_s"]
        .iter()
        .zip(&places)
        .any(is_wrong)
    {
        check_order(&section, &registrar, places);
    }
    section.finish();
    registrar
}

/// The shortest, the usual and the longest expiry stand in this order; the mistake is noted where the file says more.
fn check_order(
    section: &Section<'_>,
    registrar: &Registrar,
    [default_at, min_at, max_at]: [Option<usize>; 3],
) {
    let Registrar {
        expires_default_s,
        expires_min_s,
        expires_max_s,
        ..
    } = *registrar;
    if expires_min_s > expires_max_s {
        match (min_at, max_at) {
            (Some(at), _) => section.mistake(
                at,
                "expires_min_s",
                &format!("{expires_min_s} is larger than expires_max_s ({expires_max_s}); lower it or raise expires_max_s"),
            ),
            (None, at) => section.mistake(
                at.unwrap_or(0),
                "expires_max_s",
                &format!("{expires_max_s} is less than expires_min_s ({expires_min_s}); raise it or lower expires_min_s"),
            ),
        }
        return;
    }
    if (expires_min_s..=expires_max_s).contains(&expires_default_s) {
        return;
    }
    let range = format!("expires_min_s ({expires_min_s}) to expires_max_s ({expires_max_s})");
    match default_at {
        Some(at) => section.mistake(
            at,
            "expires_default_s",
            &format!("{expires_default_s} is not within {range}; change one of them"),
        ),
        None => section.mistake(
            max_at.or(min_at).unwrap_or(0),
            "expires_default_s",
            &format!(
                "{expires_default_s}, the default, is not within {range}; set expires_default_s too"
            ),
        ),
    }
}

/// The URIs of a route, as far as one header field should hold them.
fn routes(section: &Section<'_>, found: Option<Found<Vec<Found<String>>>>) -> Vec<String> {
    let Some(found) = found else {
        return Vec::new();
    };
    if found.value.len() > SERVICE_ROUTES_MAX {
        let text = format!("more than {SERVICE_ROUTES_MAX}; remove some");
        section.mistake(found.at, "service_route", &text);
    }
    let uris = found.value.into_iter().map(|uri| uri.value);
    uris.take(SERVICE_ROUTES_MAX).collect()
}

const CONTACTS_FULL: [(&str, ContactsFull); 3] = [
    ("403", ContactsFull::Forbid),
    ("503", ContactsFull::Unavailable),
    ("replace_oldest", ContactsFull::ReplaceOldest),
];
const MATCHING: [(&str, ContactMatching); 4] = [
    ("uri", ContactMatching::Uri),
    ("uri_and_call_id", ContactMatching::UriAndCallId),
    ("call_id", ContactMatching::CallId),
    ("instance", ContactMatching::Instance),
];
/// Whether a Path is kept that the phone does not say it knows of.
const PATH: [(&str, bool); 2] = [("supported", false), ("always", true)];
/// Half of what was asked for: less would be another expiry.
const SPREAD_PERCENT_MAX: u64 = 50;
/// A flow that says nothing for an hour is none.
const FLOW_TIMER_S_MAX: u64 = 3_600;
/// Values of one Service-Route.
const SERVICE_ROUTES_MAX: usize = 8;
/// A day more than a month: phones that ask for more are mistaken.
const EXPIRES_S_MAX: u64 = 32 * 86_400;

#[cfg(test)]
mod tests {
    use super::super::Config;

    fn mistake(registrar: &str) -> String {
        let text = format!("[[listen]]\naddress = \"192.0.2.1:5060\"\n[registrar]\n{registrar}");
        Config::parse("t.toml".as_ref(), &text)
            .expect_err("a mistake")
            .to_string()
    }

    #[test]
    fn the_shortest_is_not_longer_than_the_longest() {
        assert_eq!(
            mistake("expires_min_s = 90000\n"),
            "t.toml:4:17: [registrar] expires_min_s: 90000 is larger than expires_max_s (7200); lower it or raise expires_max_s"
        );
        assert!(mistake("expires_max_s = 30\n").contains("30 is less than expires_min_s (60)"));
    }

    #[test]
    fn the_default_lies_between_them() {
        assert!(mistake("expires_max_s = 600\n").contains("3600, the default, is not within"));
        assert!(mistake("expires_default_s = 30\n").contains("30 is not within"));
    }

    #[test]
    fn what_phones_use_today_is_configured() {
        let text = "[[listen]]\naddress = \"192.0.2.1:5060\"\n[registrar]\nexpires_spread_percent = 20\ncontacts_full = \"replace_oldest\"\n\
            matching = \"call_id\"\npath = \"always\"\nflow_timer_s = 60\nservice_route = [\"sip:edge.example.com;lr\"]\n";
        let config = Config::parse("t.toml".as_ref(), text).expect("good");
        let registrar = config.registrar;
        assert_eq!(registrar.expires_spread_percent, 20);
        assert_eq!(registrar.contacts_full, super::ContactsFull::ReplaceOldest);
        assert_eq!(registrar.matching, super::ContactMatching::CallId);
        assert!(registrar.keeps_unasked_path);
        assert_eq!(registrar.flow_timer_s, 60);
        assert_eq!(registrar.service_route, ["sip:edge.example.com;lr"]);
        for wrong in [
            "expires_spread_percent = 51\n",
            "contacts_full = \"404\"\n",
            "matching = \"ruid\"\n",
            "service_route = [\"edge.example.com\"]\n",
            "service_route = [\"sip:edge.example.com>\\r\\nEvil: 1\"]\n",
            "service_route = [\"sip:edge.example.com\"]\n",
        ] {
            assert!(mistake(wrong).starts_with("t.toml:4:"), "{wrong}");
        }
    }

    #[test]
    fn contacts_are_at_most_as_many_as_branches() {
        assert!(mistake("contacts_max = 17\n").contains("give 1 to 16"));
    }
}
