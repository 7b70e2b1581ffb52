//! The texts that name an end of the network: addresses, networks, host names, SIP next hops.
//!
//! Each parser gives its mistake as one line with the cure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use crate::datagram::{Destination, Transport};

/// The port of SIP where a URI names none (RFC 3261 19.1.2).
pub(super) const SIP_PORT: u16 = 5060;

/// The port of the DNS.
const DNS_PORT: u16 = 53;

/// Parses an address to listen on: a literal IP address with a port, as a packet carries it.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let address = socket_address(text)?;
    if address.port() == 0 {
        return Err(format!(
            "{text:?} has port 0; give the port that peers send to, {SIP_PORT} for SIP"
        ));
    }
    if address.ip().is_multicast() || matches!(address.ip(), IpAddr::V4(ip) if ip.is_broadcast()) {
        return Err(format!(
            "{text:?} is not one host's address; give an address of this host"
        ));
    }
    Ok(address)
}

/// Parses an IP address with a port.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Err(format!(
            "{text:?} has no port; write \"{}\"",
            SocketAddr::new(ip, SIP_PORT)
        ));
    }
    Err(format!(
        "{text:?} is not an IP address and a port; write it as \"192.0.2.1:{SIP_PORT}\" or \"[2001:db8::1]:{SIP_PORT}\""
    ))
}

/// Parses the address of a DNS server, at port 53 where it names none.
pub(super) fn dns_server(text: &str) -> Result<SocketAddr, String> {
    let address = match text.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, DNS_PORT),
        Err(_) => text.parse::<SocketAddr>().map_err(|_| {
            format!("{text:?} is not a DNS server's address; write it as \"192.0.2.53\" or \"[2001:db8::53]:5353\"")
        })?,
    };
    if address.port() == 0 || address.ip().is_unspecified() || address.ip().is_multicast() {
        return Err(format!(
            "{text:?} is nowhere that could be asked; give a server's address"
        ));
    }
    Ok(address)
}

/// Parses a network, or one address as the network of it alone.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(ip));
    }
    let Ok(network) = text.parse::<IpNet>() else {
        return Err(format!(
            "{text:?} is not a network; write it as \"198.51.100.0/24\", \"2001:db8::/32\" or one address"
        ));
    };
    if network.addr() != network.network() {
        return Err(format!(
            "{text:?} has bits beyond its prefix; write \"{}\" for the network or \"{}\" for the host",
            network.trunc(),
            network.addr()
        ));
    }
    Ok(network)
}

/// Parses a domain that we are responsible for, in lower case: a host name or a literal address, without a port.
pub(super) fn domain(text: &str) -> Result<String, String> {
    if text.starts_with("sip:") || text.starts_with("sips:") || text.contains('@') {
        return Err(format!(
            "{text:?} is a URI; give the domain alone, as \"example.com\""
        ));
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse::<IpAddr>() {
        // RFC 3261 25.1: an IPv6 address stands in brackets wherever a host does.
        return Ok(if ip.is_ipv6() {
            format!("[{ip}]")
        } else {
            ip.to_string()
        });
    }
    if is_host_name(text) {
        return Ok(text.trim_end_matches('.').to_ascii_lowercase());
    }
    Err(format!(
        "{text:?} is not a domain; write it as \"example.com\" or \"192.0.2.1\", without a port"
    ))
}

/// Whether `text` is a host name (RFC 3261 25.1, with the underscore that the field uses).
fn is_host_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // All digits in the last label: an address that is not one (RFC 1123 2.1).
    let ends_in_number = text
        .rsplit('.')
        .next()
        .is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    text.len() <= 253 && text.split('.').all(is_label) && !ends_in_number
}

/// Where requests are sent on to: what stands in a SIP URI, still to be located where it is a name (RFC 3263).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// A literal address or a name.
    pub host: HopHost,
    /// The port, where one is given: then there is neither NAPTR nor SRV.
    pub port: Option<u16>,
    /// The transport, where one is given: then there is no NAPTR.
    pub transport: Option<Transport>,
}

/// The host of a [`NextHop`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HopHost {
    /// A literal address.
    Address(IpAddr),
    /// A name for the resolver, in lower case, without the last dot, at most 253 bytes.
    Name(String),
}

impl NextHop {
    /// Where a literal address is reached (RFC 3263 4.1 and 4.2: UDP and port 5060 where nothing else is said); `None`: it is
    /// a name.
    #[must_use]
    pub fn literal(&self) -> Option<Destination> {
        let HopHost::Address(ip) = self.host else {
            return None;
        };
        Some(Destination {
            transport: self.transport.unwrap_or(Transport::Udp),
            address: SocketAddr::new(ip, self.port.unwrap_or(SIP_PORT)),
        })
    }
}

/// Parses `sip:HOST[:PORT][;transport=udp|tcp][;lr]`.
pub(super) fn next_hop(text: &str) -> Result<NextHop, String> {
    let shape = || {
        format!(
            "{text:?} is not a next hop; write it as \"sip:carrier.example.net\" or \"sip:198.51.100.7:5060\", with ;transport=tcp for TCP"
        )
    };
    let Some((scheme, rest)) = text.split_once(':') else {
        return Err(shape());
    };
    match scheme.to_ascii_lowercase().as_str() {
        "sip" => {}
        "sips" | "tls" => return Err(format!("{text:?}: TLS is not in this version; use sip:")),
        _ => return Err(shape()),
    }
    if rest.contains('@') || rest.contains('?') {
        return Err(format!(
            "{text:?} has a user or headers; a next hop is a host alone, as \"sip:198.51.100.7:5060\""
        ));
    }
    let mut parts = rest.split(';');
    let host_port = parts.next().unwrap_or_default();
    let mut transport = None;
    for parameter in parts {
        match parameter.to_ascii_lowercase().as_str() {
            "lr" => {}
            "transport=udp" => transport = Some(Transport::Udp),
            "transport=tcp" => transport = Some(Transport::Tcp),
            _ => {
                return Err(format!(
                    "{text:?}: {parameter:?} is not understood; use ;transport=udp or ;transport=tcp"
                ));
            }
        }
    }
    if !host_port.starts_with('[') && host_port.parse::<Ipv6Addr>().is_ok() {
        return Err(format!(
            "{text:?}: write an IPv6 address in brackets: \"sip:[{host_port}]\""
        ));
    }
    let (host, port) = host_and_port(host_port).ok_or_else(shape)?;
    let is_nowhere = matches!(&host, HopHost::Address(ip) if ip.is_unspecified());
    if port == Some(0) || is_nowhere {
        return Err(format!(
            "{text:?} is nowhere that a request could be sent to; give an address and a port"
        ));
    }
    Ok(NextHop {
        host,
        port,
        transport,
    })
}

/// Takes `hostport` of RFC 3261 25.1 apart; `None`: it is none.
fn host_and_port(text: &str) -> Option<(HopHost, Option<u16>)> {
    let host_len = if text.starts_with('[') {
        text.find(']')? + 1
    } else {
        text.find(':').unwrap_or(text.len())
    };
    let (host, port) = text.split_at(host_len);
    let port = match port.strip_prefix(':') {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.parse().ok()?)
        }
        Some(_) => return None,
        None if port.is_empty() => None,
        None => return None,
    };
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host = match (bracketed, host.parse::<Ipv4Addr>()) {
        (Some(bracketed), _) => HopHost::Address(bracketed.parse::<Ipv6Addr>().ok()?.into()),
        (None, Ok(ip)) => HopHost::Address(ip.into()),
        (None, Err(_)) if is_host_name(host) => {
            HopHost::Name(host.trim_end_matches('.').to_ascii_lowercase())
        }
        (None, Err(_)) => return None,
    };
    Some((host, port))
}

/// A SIP URI that a route may name: a loose router's.
pub(super) fn route_uri(text: &str) -> Result<String, String> {
    let is_whole = text
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>' | b'"' | b','));
    let (uri, params) = text.split_once(';').unwrap_or((text, ""));
    let is_sip = uri
        .get(..4)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("sip:"));
    let is_loose = params
        .split(';')
        .any(|param| param.split('=').next() == Some("lr"));
    if is_whole && is_sip && uri.len() > 4 && is_loose {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "{text:?} is no route; write it as \"sip:192.0.2.1:5060;lr\", with lr, for the routers of today are loose"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listen_address_is_an_ip_address_and_a_port() {
        assert_eq!(
            listen_address("[::1]:5060").expect("good"),
            "[::1]:5060".parse().expect("good")
        );
        assert!(
            listen_address("192.0.2.1")
                .expect_err("no port")
                .contains("write \"192.0.2.1:5060\"")
        );
        assert!(
            listen_address("::1")
                .expect_err("no port")
                .contains("write \"[::1]:5060\"")
        );
        for bad in [
            "example.com:5060",
            "192.0.2.1:0",
            "192.0.2.300:5060",
            "224.0.0.1:5060",
            "255.255.255.255:5060",
            "",
        ] {
            assert!(listen_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_network_has_no_bits_beyond_its_prefix() {
        assert_eq!(
            network("198.51.100.7").expect("good").to_string(),
            "198.51.100.7/32"
        );
        assert_eq!(
            network("2001:db8::/32").expect("good").to_string(),
            "2001:db8::/32"
        );
        assert!(
            network("198.51.100.7/24")
                .expect_err("bits")
                .contains("198.51.100.0/24")
        );
        assert!(network("carrier.example").is_err());
    }

    #[test]
    fn a_domain_is_kept_in_lower_case() {
        assert_eq!(domain("Example.COM.").expect("good"), "example.com");
        assert_eq!(domain("2001:DB8::1").expect("good"), "[2001:db8::1]");
        assert_eq!(domain("[2001:db8::1]").expect("good"), "[2001:db8::1]");
        for bad in [
            "sip:example.com",
            "a@b",
            "exa mple.com",
            "-a.com",
            "example.com:5060",
            "1.2.3",
            "a..b",
        ] {
            assert!(domain(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_next_hop_is_an_address_with_a_transport() {
        let literal = |text| next_hop(text).expect("good").literal().expect("an address");
        let hop = literal("sip:198.51.100.7;transport=TCP");
        assert_eq!(
            (hop.address.to_string().as_str(), hop.transport),
            ("198.51.100.7:5060", Transport::Tcp)
        );
        assert_eq!(literal("sip:[2001:db8::7]").address.port(), 5060);
        assert_eq!(literal("sip:[2001:db8::7]:5070").address.port(), 5070);
        assert_eq!(literal("sip:1.2.3.4:5070;lr").transport, Transport::Udp);
    }

    #[test]
    fn a_next_hop_may_be_a_name() {
        let hop = next_hop("sip:Carrier.Example.net.").expect("good");
        assert_eq!(hop.host, HopHost::Name("carrier.example.net".to_owned()));
        assert_eq!((hop.port, hop.transport, hop.literal()), (None, None, None));
        let hop = next_hop("sip:carrier.example:5070;transport=udp").expect("good");
        assert_eq!(
            (hop.port, hop.transport),
            (Some(5070), Some(Transport::Udp))
        );
    }

    #[test]
    fn what_is_no_next_hop_is_refused() {
        for bad in [
            "198.51.100.7",
            "sips:198.51.100.7",
            "sip:u@198.51.100.7",
            "sip:198.51.100.7;transport=sctp",
            "sip:1.2.3.4:0",
            "sip:0.0.0.0",
            "sip:",
            "sip:carrier.example:",
            "sip:carrier.example:65536",
            "sip:carrier.example:+1",
            "sip:carrier..example",
            "sip:1.2.3",
            "sip:[2001:db8::7",
            "sip:[2001:db8::7]5060",
            "sip:2001:db8::7",
            "sip:[carrier.example]",
        ] {
            assert!(next_hop(bad).is_err(), "{bad}");
        }
        let text = next_hop("sip:2001:db8::7").expect_err("no brackets");
        assert!(text.contains("sip:[2001:db8::7]"), "{text}");
    }
}
