//! NAPTR records as rules of RFC 3263 4.1: which of them concern us, and in which order.

use hickory_resolver::proto::rr::Name;
use hickory_resolver::proto::rr::rdata::NAPTR;

use crate::datagram::Transport;

/// A rule that we can follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) order: u16,
    preference: u16,
    pub(super) transport: Transport,
    pub(super) leads_to: LeadsTo,
}

/// What a rule's replacement names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LeadsTo {
    /// Flag `s`: an SRV set.
    Service(Name),
    /// Flag `a`: a host.
    Host(Name),
}

/// The rules among the records that lead to a transport of ours, in the order in which they are to be followed.
pub(super) fn rules(records: &[NAPTR], transports: &[Transport]) -> Vec<Rule> {
    let mut rules: Vec<Rule> = records
        .iter()
        .filter_map(rule)
        .filter(|rule| transports.contains(&rule.transport))
        .collect();
    rules.sort_by_key(|rule| (rule.order, rule.preference));
    rules
}

fn rule(record: &NAPTR) -> Option<Rule> {
    // RFC 3263 4.1: the services of SIPS are for who speaks TLS, and the regular expression is empty.
    let transport = match &*record.services.to_ascii_uppercase() {
        b"SIP+D2U" => Transport::Udp,
        b"SIP+D2T" => Transport::Tcp,
        _ => return None,
    };
    if !record.regexp.is_empty() || record.replacement.is_root() {
        return None;
    }
    let replacement = record.replacement.clone();
    let leads_to = match &*record.flags.to_ascii_lowercase() {
        b"s" => LeadsTo::Service(replacement),
        b"a" => LeadsTo::Host(replacement),
        _ => return None,
    };
    Some(Rule {
        order: record.order,
        preference: record.preference,
        transport,
        leads_to,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(order: u16, preference: u16, flags: &str, services: &str, to: &str) -> NAPTR {
        let bytes = |text: &str| text.as_bytes().to_vec().into_boxed_slice();
        let to = Name::from_ascii(to).expect("a name");
        NAPTR::new(
            order,
            preference,
            bytes(flags),
            bytes(services),
            bytes(""),
            to,
        )
    }

    const BOTH: &[Transport] = &[Transport::Udp, Transport::Tcp];

    #[test]
    fn order_goes_before_preference_and_what_we_do_not_speak_is_left_out() {
        // The example of RFC 3263 4.1, and a second preference.
        let records = [
            record(100, 50, "s", "SIP+D2U", "_sip._udp.example.com."),
            record(90, 60, "S", "sip+d2u", "_sip._udp.second.example.com."),
            record(90, 50, "s", "SIP+D2T", "_sip._tcp.example.com."),
            record(50, 50, "s", "SIPS+D2T", "_sips._tcp.example.com."),
            record(10, 1, "u", "E2U+sip", "."),
            record(10, 1, "", "SIP+D2U", "more.example.com."),
            record(10, 1, "s", "SIP+D2U", "."),
        ];
        let found = rules(&records, BOTH);
        let orders: Vec<(u16, Transport)> = found
            .iter()
            .map(|rule| (rule.order, rule.transport))
            .collect();
        assert_eq!(
            orders,
            [
                (90, Transport::Tcp),
                (90, Transport::Udp),
                (100, Transport::Udp)
            ]
        );
        assert_eq!(rules(&records, &[Transport::Udp]).len(), 2);
    }

    #[test]
    fn flag_a_leads_to_a_host() {
        let found = rules(&[record(1, 1, "a", "SIP+D2T", "host.example.com.")], BOTH);
        let host = Name::from_ascii("host.example.com.").expect("a name");
        assert_eq!(found[0].leads_to, LeadsTo::Host(host));
    }
}
