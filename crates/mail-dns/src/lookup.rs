//! What can be asked.

use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;

/// A mail exchanger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mx {
    /// Lower is tried first.
    pub preference: u16,
    /// The host's name without a dot at its end; empty for the null MX (RFC 7505).
    pub exchange: String,
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsError {
    /// The name does not exist (NXDOMAIN). Permanent.
    NoDomain,
    /// The name exists, but has no record of this type. Permanent.
    NoData,
    /// The name is none that DNS can hold. Permanent.
    BadName,
    /// Nobody knows just now: no answer, SERVFAIL, REFUSED. Temporary.
    Temporary(String),
}

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDomain => f.write_str("Host not found"),
            Self::NoData => f.write_str("Host found but no data record of requested type"),
            Self::BadName => f.write_str("not a domain name"),
            Self::Temporary(why) => write!(f, "Host not found, try again ({why})"),
        }
    }
}

impl std::error::Error for DnsError {}

/// An answer that is on its way.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, DnsError>> + Send + 'a>>;

/// Somebody who answers questions of DNS.
pub trait Lookup: Send + Sync {
    /// The MX records of a domain, at least one.
    fn mx<'a>(&'a self, domain: &'a str) -> Answer<'a, Vec<Mx>>;
    /// The addresses of a host, IPv4 and IPv6, at least one.
    fn addresses<'a>(&'a self, host: &'a str) -> Answer<'a, Vec<IpAddr>>;
    /// The names of an address (PTR), at least one.
    fn names<'a>(&'a self, address: IpAddr) -> Answer<'a, Vec<String>>;
}
