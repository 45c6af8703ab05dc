//! Questions to name servers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::{DnsError as NetDnsError, NetError, runtime::TokioRuntimeProvider};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use crate::lookup::{Answer, DnsError, Lookup, Mx, is_host_name};

/// How long one server may take, and how often each is asked: measured, a dead server then costs 10 seconds.
const TIMEOUT: Duration = Duration::from_secs(5);
const ATTEMPTS: usize = 2;
/// The longest time that an answer is remembered, whatever its TTL.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// A resolver with a cache. Clones share it.
#[derive(Clone)]
pub struct Resolver(TokioResolver);

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Resolver")
    }
}

impl Resolver {
    /// A resolver over the name servers of /etc/resolv.conf.
    ///
    /// # Errors
    /// The file cannot be read, or names no server that can be used.
    pub fn system() -> io::Result<Self> {
        let mut builder = TokioResolver::builder_tokio().map_err(io::Error::other)?;
        configure(builder.options_mut());
        Ok(Self(builder.build().map_err(io::Error::other)?))
    }

    /// A resolver over these name servers.
    ///
    /// # Errors
    /// The resolver cannot be made.
    pub fn with_servers(servers: &[SocketAddr]) -> io::Result<Self> {
        let servers = servers.iter().map(|server| {
            let mut config = NameServerConfig::udp_and_tcp(server.ip());
            for connection in &mut config.connections {
                connection.port = server.port();
            }
            config
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        configure(builder.options_mut());
        // Servers that somebody named are used for everything: /etc/hosts is not one of them.
        builder.options_mut().use_hosts_file = ResolveHosts::Never;
        Ok(Self(builder.build().map_err(io::Error::other)?))
    }

    /// The IPv4 addresses of a name, which is how a DNS list answers.
    ///
    /// # Errors
    /// [`DnsError`].
    pub async fn codes(&self, name: &str) -> Result<Vec<Ipv4Addr>, DnsError> {
        let records = self.records(name, RecordType::A).await?;
        let codes = records.iter().filter_map(|record| if let RData::A(a) = record { Some(a.0) } else { None });
        Ok(codes.collect())
    }

    /// The texts of a name (TXT), the strings of each joined.
    ///
    /// # Errors
    /// [`DnsError`].
    pub async fn texts(&self, name: &str) -> Result<Vec<String>, DnsError> {
        let records = self.records(name, RecordType::TXT).await?;
        let text = |record: &RData| match record {
            RData::TXT(txt) => Some(txt.txt_data.iter().map(|part| String::from_utf8_lossy(part)).collect::<String>()),
            _ => None,
        };
        Ok(records.iter().filter_map(text).collect())
    }

    /// The name servers of a domain.
    ///
    /// # Errors
    /// [`DnsError`].
    pub async fn name_servers(&self, domain: &str) -> Result<Vec<String>, DnsError> {
        let records = self.records(domain, RecordType::NS).await?;
        let names = records.iter().filter_map(|record| match record {
            RData::NS(ns) => Some(plain(&ns.0)).filter(|name| is_host_name(name)),
            _ => None,
        });
        Ok(names.collect())
    }

    async fn records(&self, name: &str, kind: RecordType) -> Result<Vec<RData>, DnsError> {
        // Mail domains are complete: no search list, no guessing.
        let mut name = Name::from_utf8(name).map_err(|_| DnsError::BadName)?;
        name.set_fqdn(true);
        let found = self.0.lookup(name, kind).await.map_err(|error| translate(&error))?;
        let records: Vec<RData> = found
            .answers()
            .iter()
            .filter(|record| record.record_type() == kind)
            .map(|record| record.data.clone())
            .collect();
        if records.is_empty() { Err(DnsError::NoData) } else { Ok(records) }
    }

    /// Whether the aliases that begin at a name never end. The library says "no data" to that, yet it is a mistake in a zone, not the absence of a host (S21).
    async fn aliases_loop(&self, name: &str) -> bool {
        let mut name = name.to_owned();
        for _ in 0..ALIASES {
            match self.records(&name, RecordType::CNAME).await.ok().and_then(|mut records| records.pop()) {
                Some(RData::CNAME(canonical)) => name = canonical.0.to_ascii(),
                _ => return false,
            }
        }
        true
    }
}

/// The longest chain of aliases (CNAME) that is followed.
const ALIASES: usize = 10;

fn configure(options: &mut ResolverOpts) {
    options.timeout = TIMEOUT;
    options.attempts = ATTEMPTS;
    options.ndots = 0;
    options.positive_max_ttl = Some(REMEMBERED);
    options.negative_max_ttl = Some(REMEMBERED);
}

fn translate(error: &NetError) -> DnsError {
    match error {
        NetError::Dns(NetDnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => DnsError::NoDomain,
            ResponseCode::NoError => DnsError::NoData,
            other => DnsError::Temporary(other.to_string()),
        },
        other => DnsError::Temporary(other.to_string()),
    }
}

/// A name as other parts write it: without the root's dot.
fn plain(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_owned()
}

impl Lookup for Resolver {
    fn mx<'a>(&'a self, domain: &'a str) -> Answer<'a, Vec<Mx>> {
        Box::pin(async move {
            let records = self.records(domain, RecordType::MX).await?;
            let exchangers = records.iter().filter_map(|record| match record {
                RData::MX(mx) => Some(Mx { preference: mx.preference, exchange: plain(&mx.exchange) }),
                _ => None,
            });
            Ok(exchangers.collect())
        })
    }

    fn addresses<'a>(&'a self, host: &'a str) -> Answer<'a, Vec<IpAddr>> {
        Box::pin(async move {
            let (four, six) = tokio::join!(self.records(host, RecordType::A), self.records(host, RecordType::AAAA));
            let records = match (four, six) {
                (Ok(four), Ok(six)) => [four, six].concat(),
                (Ok(one), Err(_)) | (Err(_), Ok(one)) => one,
                // "No such record" of one kind says nothing while the other kind is unknown.
                (Err(temporary @ DnsError::Temporary(_)), _) | (_, Err(temporary @ DnsError::Temporary(_))) => {
                    return Err(temporary);
                }
                (Err(DnsError::NoData), Err(_)) if self.aliases_loop(host).await => {
                    return Err(DnsError::Temporary("the aliases of the name form a loop".to_owned()));
                }
                (Err(error), Err(_)) => return Err(error),
            };
            let addresses = records.iter().filter_map(|record| match record {
                RData::A(a) => Some(IpAddr::V4(a.0)),
                RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
                _ => None,
            });
            Ok(addresses.collect())
        })
    }

    fn names<'a>(&'a self, address: IpAddr) -> Answer<'a, Vec<String>> {
        Box::pin(async move {
            let name = Name::from(address).to_ascii();
            let records = self.records(&name, RecordType::PTR).await?;
            let names = records.iter().filter_map(|record| match record {
                RData::PTR(ptr) => Some(plain(&ptr.0)).filter(|name| is_host_name(name)),
                _ => None,
            });
            let names: Vec<String> = names.collect();
            if names.is_empty() { Err(DnsError::NoData) } else { Ok(names) }
        })
    }
}
