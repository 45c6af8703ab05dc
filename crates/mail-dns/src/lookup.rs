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

/// Whether a name that DNS gave may be the name of a host: labels of letters, digits, `-` and `_`, as A-labels. DNS itself allows any octets; what is
/// beyond these never reaches a log, a header or another lookup.
#[must_use]
pub fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_hosts_hold_nothing_that_a_log_could_mistake() {
        for good in [
            "mx.example.org",
            "MX1.example.org",
            "_dmarc.example.org",
            "xn--bcher-kva.example",
            "127.0.0.1",
            "localhost",
        ] {
            assert!(is_host_name(good), "{good}");
        }
        let long = format!("{}.example", "a".repeat(64));
        for bad in [
            "",
            ".",
            "a..b",
            "a b.example",
            "a\\032b.example",
            "a;rm.example",
            "x\r\ny.example",
            "-a.example",
            "*.example",
            &long,
        ] {
            assert!(!is_host_name(bad), "{bad:?}");
        }
    }
}
