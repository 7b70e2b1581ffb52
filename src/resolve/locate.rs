//! The procedure of RFC 3263 4.1 and 4.2: from a host with or without port and transport to a plan.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::proto::rr::rdata::SRV;

use super::names::{Names, Records, far_off};
use super::naptr::{self, LeadsTo, Rule};
use super::plan::{Service, Target};
use crate::datagram::Transport;
use crate::limits::SRV_RECORDS_MAX;

/// The way to a host, as a question names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// In lower case.
    pub(super) host: Box<[u8]>,
    pub(super) port: Option<u16>,
    pub(super) transport: Option<Transport>,
}

/// What was found on the way.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) services: Vec<Service>,
    /// When the first piece of it grows old.
    pub(super) expires: Instant,
    /// Whether a lookup failed: there may be more, or something else.
    pub(super) has_failed: bool,
    /// Whether there are SRV records, be it to say that there is no service.
    is_declared: bool,
}

/// Locates a host. `naptr_within` is the time for NAPTR: there are networks that let none through, and SRV follows.
pub(super) async fn locate(
    names: &Names,
    key: &Key,
    transports: &[Transport],
    naptr_within: Duration,
) -> Found {
    let Some(host) = host_name(&key.host) else {
        return Found::nothing();
    };
    let usual = key.transport.unwrap_or(Transport::Udp);
    // RFC 3263 4.2: with a port there is no SRV. Nor with an address that the operator wrote into the hosts file.
    if key.port.is_some() || names.in_hosts_file(&host).is_some() {
        return by_address(names, &host, key.port.unwrap_or(SIP_PORT), usual).await;
    }
    let mut found = Found::nothing();
    if key.transport.is_none() {
        match tokio::time::timeout(naptr_within, names.naptr(&host)).await {
            Ok(Records::Found(records, until)) => {
                found.expires = found.expires.min(until);
                let rules = naptr::rules(&records, transports);
                found = found.and(by_rules(names, &rules).await);
                if !found.services.is_empty() {
                    return found;
                }
            }
            Ok(Records::None(until)) => found.expires = found.expires.min(until),
            Ok(Records::Failed) | Err(_) => found.has_failed = true,
        }
    }
    // RFC 3263 4.1: without NAPTR, an SRV query for each transport that we speak, in the order of our liking.
    let asked: Vec<Transport> = key.transport.map_or(transports.to_vec(), |one| vec![one]);
    let sets = asked.iter().map(|transport| async {
        let name = service_name(&host, *transport)?;
        Some(by_service(names, &name, *transport).await)
    });
    let sets = join_all(sets).await.into_iter().flatten();
    let services = sets.fold(Found::nothing(), Found::and);
    if services.is_declared || services.has_failed {
        // A set that was not to be had is no word that there is none: the host's own address may be another machine's.
        return found.and(services);
    }
    found
        .and(services)
        .and(by_address(names, &host, SIP_PORT, usual).await)
}

/// Follows NAPTR rules: the first order that leads anywhere counts, with all its preferences (RFC 3403 4.1).
async fn by_rules(names: &Names, rules: &[Rule]) -> Found {
    let mut all = Found::nothing();
    for same_order in rules.chunk_by(|one, other| one.order == other.order) {
        let ways = same_order.iter().map(|rule| async {
            match &rule.leads_to {
                LeadsTo::Service(name) => by_service(names, name, rule.transport).await,
                LeadsTo::Host(name) => by_address(names, name, SIP_PORT, rule.transport).await,
            }
        });
        all = join_all(ways).await.into_iter().fold(all, Found::and);
        if !all.services.is_empty() {
            break;
        }
    }
    all
}

/// An SRV set and the addresses of its targets.
async fn by_service(names: &Names, name: &Name, transport: Transport) -> Found {
    let mut found = Found::nothing();
    let mut records = match names.srv(name).await {
        Records::Found(records, until) => {
            found.expires = found.expires.min(until);
            records
        }
        Records::None(until) => {
            found.expires = found.expires.min(until);
            return found;
        }
        Records::Failed => {
            found.has_failed = true;
            return found;
        }
    };
    found.is_declared = true;
    // RFC 2782: the root as target says that there is no such service.
    records.retain(|record| !record.target.is_root());
    records.sort_by_key(|record| record.priority);
    records.truncate(SRV_RECORDS_MAX);
    let targets = records.iter().map(|record| target(names, record));
    let mut service = Service {
        transport,
        targets: Vec::new(),
    };
    for (target, until, has_failed) in join_all(targets).await {
        found.expires = found.expires.min(until);
        found.has_failed |= has_failed;
        service.targets.push(target);
    }
    if !service.is_empty() {
        found.services.push(service);
    }
    found
}

async fn target(names: &Names, record: &SRV) -> (Target, Instant, bool) {
    let addresses = names.addresses(&record.target).await;
    let target = Target {
        priority: record.priority,
        weight: record.weight,
        port: record.port,
        addresses: addresses.list,
    };
    (target, addresses.expires, addresses.has_failed)
}

/// A host's addresses, at one port.
async fn by_address(names: &Names, host: &Name, port: u16, transport: Transport) -> Found {
    let addresses = names.addresses(host).await;
    let service = Service {
        transport,
        targets: vec![Target {
            priority: 0,
            weight: 0,
            port,
            addresses: addresses.list,
        }],
    };
    Found {
        services: Some(service)
            .filter(|service| !service.is_empty())
            .into_iter()
            .collect(),
        expires: addresses.expires,
        has_failed: addresses.has_failed,
        is_declared: false,
    }
}

impl Found {
    fn nothing() -> Self {
        Self {
            services: Vec::new(),
            expires: far_off(),
            has_failed: false,
            is_declared: false,
        }
    }

    /// With what was found beside or after it.
    fn and(mut self, other: Self) -> Self {
        self.services.extend(other.services);
        self.expires = self.expires.min(other.expires);
        self.has_failed |= other.has_failed;
        self.is_declared |= other.is_declared;
        self
    }
}

/// The name to ask for: as it stands, without a search list, since a SIP URI's host is whole.
fn host_name(host: &[u8]) -> Option<Name> {
    let text = std::str::from_utf8(host).ok()?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if text.is_empty() || !text.bytes().all(is_plain) {
        return None;
    }
    let mut name = Name::from_ascii(text).ok()?;
    name.set_fqdn(true);
    (!name.is_root()).then_some(name)
}

/// `_sip._udp.HOST` (RFC 3263 4.1).
fn service_name(host: &Name, transport: Transport) -> Option<Name> {
    let label = match transport {
        Transport::Udp => "_udp",
        Transport::Tcp => "_tcp",
    };
    let service = Name::from_ascii("_sip").ok()?.append_label(label).ok()?;
    service.append_name(host).ok()
}

const SIP_PORT: u16 = 5_060;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_asked_for_as_it_stands() {
        let name = host_name(b"carrier.example").expect("a name");
        assert!(name.is_fqdn());
        let service = service_name(&name, Transport::Tcp).expect("a name");
        assert_eq!(service.to_ascii(), "_sip._tcp.carrier.example.");
        assert_eq!(host_name(b"carrier.example.").expect("a name"), name);
    }

    #[test]
    fn what_is_no_name_is_not_asked_for() {
        let long = [b'a'; 64];
        for bad in [
            &b""[..],
            b".",
            b"a..b",
            b"a b",
            b"a\\.b",
            b"[::1]",
            b"\xff",
            &long,
        ] {
            assert_eq!(host_name(bad), None, "{bad:?}");
        }
    }
}
