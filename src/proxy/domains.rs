//! What we are responsible for: the configured domains, and our own addresses.

use std::cmp::Ordering;
use std::net::IpAddr;

use crate::sip::Host;

/// The domains of `[sip]` and the addresses that we listen at.
#[derive(Clone, Debug, Default)]
pub struct Domains {
    /// In lower case, sorted.
    names: Box<[Box<[u8]>]>,
    /// Sorted.
    addresses: Box<[IpAddr]>,
}

impl Domains {
    /// Takes names, in any case, and addresses. A name that is written as an address counts as one.
    pub fn new<'n>(
        names: impl IntoIterator<Item = &'n str>,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Self {
        let mut known: Vec<Box<[u8]>> = Vec::new();
        let mut ours: Vec<IpAddr> = addresses.into_iter().collect();
        for name in names {
            match Host::parse(name.as_bytes()).ok().and_then(|host| host.ip()) {
                Some(address) => ours.push(address),
                None => known.push(name.to_ascii_lowercase().into_bytes().into()),
            }
        }
        known.sort_unstable();
        ours.sort_unstable();
        Self {
            names: known.into(),
            addresses: ours.into(),
        }
    }

    /// Whether `host` is one of our domains or one of our addresses, whatever the port.
    #[must_use]
    pub fn owns(&self, host: &Host<'_>) -> bool {
        match host {
            Host::Name(name) => {
                // As it is written nearly always, and where there are few.
                if self.names.len() <= FEW && self.names.iter().any(|ours| **ours == **name) {
                    return true;
                }
                let name = name.strip_suffix(b".").unwrap_or(name);
                self.names
                    .binary_search_by(|ours| compare(ours, name))
                    .is_ok()
            }
            Host::V4(address) => self.addresses.binary_search(&(*address).into()).is_ok(),
            Host::V6(address) => self.addresses.binary_search(&(*address).into()).is_ok(),
        }
    }

    /// What follows the name of ours that `text` begins with, as it is written nearly always; of many the first few alone are tried.
    #[must_use]
    pub fn lead<'t>(&self, text: &'t [u8]) -> Option<&'t [u8]> {
        let few = self.names.get(..self.names.len().min(FEW))?;
        few.iter().find_map(|name| text.strip_prefix(&**name))
    }
}

/// So many names are looked through sooner than searched.
const FEW: usize = 8;

/// Compares a name in lower case with one in any case.
fn compare(ours: &[u8], name: &[u8]) -> Ordering {
    ours.iter()
        .copied()
        .cmp(name.iter().map(u8::to_ascii_lowercase))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_domains_are_known_in_any_case_and_our_addresses_in_any_form() {
        let addresses =
            ["192.0.2.1", "2001:db8::1"].map(|address| address.parse().expect("an address"));
        let domains = Domains::new(["Example.com", "sip.example.net", "203.0.113.9"], addresses);
        for host in [
            "example.COM",
            "SIP.example.net.",
            "192.0.2.1",
            "[2001:DB8:0::1]",
            "203.0.113.9",
        ] {
            assert!(
                domains.owns(&Host::parse(host.as_bytes()).expect(host)),
                "{host}"
            );
        }
        for host in [
            "example.co",
            "example.com..",
            "a.example.com",
            "192.0.2.2",
            "[2001:db8::2]",
        ] {
            assert!(
                !domains.owns(&Host::parse(host.as_bytes()).expect(host)),
                "{host}"
            );
        }
    }
}
