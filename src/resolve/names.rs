//! Lookups in the DNS by hickory, and in `/etc/hosts`: records, or the word that there are none, or no word at all.
//!
//! hickory keeps answers for their TTL, negative ones by their SOA (RFC 2308), joins equal lookups that are under way, and asks
//! again by TCP where an answer was cut short. How many lookups run at once is bounded here: each holds sockets.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::{NAPTR, SRV};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::preference::{Rank, Sources};
use super::{ResolverError, Settings};
use crate::counters::{Counter, Counters};
use crate::limits::{DNS_LOOKUPS_MAX, DNS_NEGATIVE_TTL_MAX, DNS_TTL_MAX};

/// The DNS and the hosts file.
pub(super) struct Names {
    resolver: TokioResolver,
    hosts: Hosts,
    sources: Sources,
    room: Semaphore,
    counters: Arc<Counters>,
}

/// What a lookup gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Records<T> {
    /// These, until then.
    Found(Vec<T>, Instant),
    /// The DNS says that there are none, until then.
    None(Instant),
    /// Nobody said anything that can be relied on.
    Failed,
}

/// The addresses of a host.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    /// The least rank first.
    pub(super) list: Vec<(Rank, IpAddr)>,
    pub(super) expires: Instant,
    /// Whether a lookup failed, so that there may be others.
    pub(super) has_failed: bool,
}

impl Names {
    pub(super) fn new(
        settings: &Settings,
        servers: Vec<NameServerConfig>,
        counters: Arc<Counters>,
    ) -> Result<Self, ResolverError> {
        let hosts = Hosts::from_system().unwrap_or_else(|error| {
            warn!("/etc/hosts: {error}; it is left out");
            Hosts::default()
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        let timeout = Duration::from_micros(settings.timeout.as_micros());
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options(timeout, settings.names_max);
        let resolver = builder
            .build()
            .map_err(|error| ResolverError::Client(error.to_string()))?;
        Ok(Self {
            resolver,
            hosts,
            sources: Sources::new(&settings.sources),
            room: Semaphore::new(DNS_LOOKUPS_MAX),
            counters,
        })
    }

    /// NAPTR records.
    pub(super) async fn naptr(&self, name: &Name) -> Records<NAPTR> {
        self.look_up(name, RecordType::NAPTR, Counter::DnsLookupNaptr, |data| {
            let RData::NAPTR(record) = data else {
                return None;
            };
            Some(record.clone())
        })
        .await
    }

    /// SRV records, of the name or of what it is an alias for.
    pub(super) async fn srv(&self, name: &Name) -> Records<SRV> {
        let record = |data: &RData| {
            let RData::SRV(record) = data else {
                return None;
            };
            Some(record.clone())
        };
        let (mut name, mut expires) = (name.clone(), far_off());
        for _ in 0..ALIASES_MAX {
            let (kind, counter) = (RecordType::SRV, Counter::DnsLookupSrv);
            let given = self.ask(&name, kind, counter, record).await;
            if !is_astray(&given, &name) {
                return records(given).until(expires);
            }
            let target = self.ask(&name, RecordType::CNAME, Counter::DnsLookupCname, |data| {
                let RData::CNAME(target) = data else {
                    return None;
                };
                Some(target.0.clone())
            });
            match records(target.await) {
                Records::Found(targets, until) => {
                    expires = expires.min(until);
                    name = targets.into_iter().next().unwrap_or_default();
                }
                Records::None(until) => return Records::None(until),
                Records::Failed => return Records::Failed,
            }
        }
        Records::Failed
    }

    /// The addresses of a host, of the families that we speak (RFC 7984 4.1: both are looked up, at once).
    pub(super) async fn addresses(&self, name: &Name) -> Addresses {
        if let Some(addresses) = self.in_hosts_file(name) {
            return addresses;
        }
        let address = |data: &RData| data.ip_addr();
        let four = async {
            if !self.sources.speak(true) {
                return Records::None(far_off());
            }
            self.look_up(name, RecordType::A, Counter::DnsLookupA, address)
                .await
        };
        let six = async {
            if !self.sources.speak(false) {
                return Records::None(far_off());
            }
            self.look_up(name, RecordType::AAAA, Counter::DnsLookupAaaa, address)
                .await
        };
        let (six, four) = futures_util::future::join(six, four).await;
        let mut addresses = Addresses {
            list: Vec::new(),
            expires: far_off(),
            has_failed: false,
        };
        for records in [six, four] {
            match records {
                Records::Found(list, until) => {
                    addresses.expires = addresses.expires.min(until);
                    addresses
                        .list
                        .extend(list.iter().filter_map(|ip| self.ranked(*ip)));
                }
                Records::None(until) => addresses.expires = addresses.expires.min(until),
                Records::Failed => addresses.has_failed = true,
            }
        }
        addresses.list.sort_unstable();
        addresses
    }

    /// What the operator says of a name in `/etc/hosts`; that goes before whatever the DNS says.
    pub(super) fn in_hosts_file(&self, name: &Name) -> Option<Addresses> {
        let mut list = Vec::new();
        for kind in [RecordType::AAAA, RecordType::A] {
            let found = self
                .hosts
                .lookup_static_host(&Query::query(name.clone(), kind));
            let found = found.iter().flat_map(|lookup| lookup.answers());
            list.extend(found.filter_map(|record| self.ranked(record.data.ip_addr()?)));
        }
        list.sort_unstable();
        (!list.is_empty()).then(|| Addresses {
            list,
            expires: far_off(),
            has_failed: false,
        })
    }

    fn ranked(&self, ip: IpAddr) -> Option<(Rank, IpAddr)> {
        let ip = ip.to_canonical();
        Some((self.sources.rank(ip)?, ip))
    }

    async fn look_up<T>(
        &self,
        name: &Name,
        kind: RecordType,
        counter: Counter,
        pick: impl Fn(&RData) -> Option<T>,
    ) -> Records<T> {
        records(self.ask(name, kind, counter, pick).await)
    }

    async fn ask<T>(
        &self,
        name: &Name,
        kind: RecordType,
        counter: Counter,
        pick: impl Fn(&RData) -> Option<T>,
    ) -> Given<T> {
        let Ok(_place) = self.room.acquire().await else {
            return Err(NetError::NoConnections);
        };
        self.counters.increment(counter);
        let found = self.resolver.lookup(name.clone(), kind).await?;
        let of_kind = found.answers().iter();
        let of_kind = of_kind.filter(|record| record.record_type() == kind);
        let list = of_kind.filter_map(|record| pick(&record.data)).collect();
        Ok((list, found.valid_until()))
    }
}

/// What hickory gave: records and their end, or why not.
type Given<T> = Result<(Vec<T>, Instant), NetError>;

impl<T> Records<T> {
    /// The same, at most until then.
    fn until(self, end: Instant) -> Self {
        match self {
            Self::Found(list, until) => Self::Found(list, until.min(end)),
            Self::None(until) => Self::None(until.min(end)),
            Self::Failed => Self::Failed,
        }
    }
}

fn records<T>(given: Given<T>) -> Records<T> {
    match given {
        Ok((list, _)) if list.is_empty() => Records::None(Instant::now()),
        Ok((list, until)) => Records::Found(list, until),
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) if is_denial(none.response_code) => {
            // RFC 2308 5: without the SOA it is not kept.
            let ttl_s = none.negative_ttl.unwrap_or(0);
            Records::None(Instant::now() + Duration::from_secs(ttl_s.into()))
        }
        Err(error) => {
            debug!("a lookup failed: {error}");
            Records::Failed
        }
    }
}

/// Whether hickory 0.26 went astray: where an SRV set stands behind a CNAME, it goes on to the set's *target*, asks for SRV
/// there, and gives that denial. It is known by the name in it.
fn is_astray<T>(given: &Given<T>, name: &Name) -> bool {
    let Err(NetError::Dns(DnsError::NoRecordsFound(none))) = given else {
        return false;
    };
    none.query.name() != name
}

/// Whether the server says that there is nothing, and not that it cannot say.
fn is_denial(code: ResponseCode) -> bool {
    code == ResponseCode::NoError || code == ResponseCode::NXDomain
}

fn options(timeout: Duration, names_max: usize) -> ResolverOpts {
    let mut options = ResolverOpts::default();
    // A lookup is over when its caller says so; until then a try follows the other.
    options.attempts = TRIES_MAX;
    options.timeout = (timeout / TRIES).min(TRY_MAX);
    // A host's name, NAPTR, SRV and addresses.
    options.cache_size = (names_max as u64).saturating_mul(4);
    options.use_hosts_file = ResolveHosts::Never;
    options.positive_max_ttl = Some(Duration::from_secs(DNS_TTL_MAX.as_secs()));
    options.negative_max_ttl = Some(Duration::from_secs(DNS_NEGATIVE_TTL_MAX.as_secs()));
    options
}

/// When nothing depends on the DNS: as good as never.
pub(super) fn far_off() -> Instant {
    Instant::now() + Duration::from_secs(DNS_TTL_MAX.as_secs())
}

/// CNAME behind CNAME, before an SRV set.
const ALIASES_MAX: usize = 4;
/// Tries that fit into the time of an answer.
const TRIES: u32 = 4;
/// More than that is cut off by the time of the answer.
const TRIES_MAX: usize = 8;
/// The longest wait for one datagram. hickory sends another beside the first one after 666 ms, by a socket of its own: with this,
/// a lookup holds one socket a server at any time.
const TRY_MAX: Duration = Duration::from_millis(650);
