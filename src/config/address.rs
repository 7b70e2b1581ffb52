//! The texts that name an end of the network: addresses, networks, host names, SIP next hops.
//!
//! Each parser gives its mistake as one line with the cure.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::datagram::Transport;

/// The port of SIP where a URI names none (RFC 3261 19.1.2).
pub(super) const SIP_PORT: u16 = 5060;

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

/// Where requests are sent on to: a literal address and a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The address and port.
    pub address: SocketAddr,
    /// The transport protocol.
    pub transport: Transport,
}

/// Parses `sip:ADDRESS[:PORT][;transport=udp|tcp][;lr]`.
pub(super) fn next_hop(text: &str) -> Result<NextHop, String> {
    let shape = || {
        format!(
            "{text:?} is not a next hop; write it as \"sip:198.51.100.7:5060\", with ;transport=tcp for TCP"
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
    let host = parts.next().unwrap_or_default();
    let mut transport = Transport::Udp;
    for parameter in parts {
        match parameter.to_ascii_lowercase().as_str() {
            "lr" | "transport=udp" => {}
            "transport=tcp" => transport = Transport::Tcp,
            _ => {
                return Err(format!(
                    "{text:?}: {parameter:?} is not understood; use ;transport=udp or ;transport=tcp"
                ));
            }
        }
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address = match (host.parse::<SocketAddr>(), bare.parse::<IpAddr>()) {
        (Ok(address), _) => address,
        (_, Ok(ip)) if ip.is_ipv4() || host.starts_with('[') => SocketAddr::new(ip, SIP_PORT),
        (_, Ok(ip)) => {
            return Err(format!(
                "{text:?}: write an IPv6 address in brackets: \"sip:[{ip}]\""
            ));
        }
        _ if is_host_name(host.split(':').next().unwrap_or_default()) => {
            return Err(format!(
                "{text:?} names a host, and this version does not resolve names; give its address"
            ));
        }
        _ => return Err(shape()),
    };
    if address.port() == 0 || address.ip().is_unspecified() {
        return Err(format!(
            "{text:?} is nowhere that a request could be sent to; give an address and a port"
        ));
    }
    Ok(NextHop { address, transport })
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
        let hop = next_hop("sip:198.51.100.7;transport=TCP").expect("good");
        assert_eq!(
            (hop.address.to_string().as_str(), hop.transport),
            ("198.51.100.7:5060", Transport::Tcp)
        );
        assert_eq!(
            next_hop("sip:[2001:db8::7]").expect("good").address.port(),
            5060
        );
        assert!(
            next_hop("sip:carrier.example:5060")
                .expect_err("a name")
                .contains("does not resolve names")
        );
        for bad in [
            "198.51.100.7",
            "sips:198.51.100.7",
            "sip:u@198.51.100.7",
            "sip:198.51.100.7;transport=sctp",
            "sip:1.2.3.4:0",
        ] {
            assert!(next_hop(bad).is_err(), "{bad}");
        }
    }
}
