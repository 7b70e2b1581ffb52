//! Whom to ask: the configured DNS servers, or else the host's.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig};
use hickory_resolver::system_conf::read_system_conf;
use tracing::{info, warn};

/// The servers to ask, each by UDP and, for answers that are too long for it, by TCP.
pub(super) fn choose(configured: &[SocketAddr]) -> Vec<NameServerConfig> {
    if !configured.is_empty() {
        return configured.iter().map(|address| server(*address)).collect();
    }
    match read_system_conf() {
        Ok((config, _)) => {
            let (_, _, servers) = config.into_parts();
            for server in &servers {
                info!(server = %server.ip, "asking the host's DNS server");
            }
            servers
        }
        Err(error) => {
            // What glibc does without the file.
            warn!(
                "/etc/resolv.conf: {error}; names are asked of 127.0.0.1; write the file or set [dns] servers"
            );
            vec![server(SocketAddr::new(
                IpAddr::V4(Ipv4Addr::LOCALHOST),
                DNS_PORT,
            ))]
        }
    }
}

fn server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

const DNS_PORT: u16 = 53;
