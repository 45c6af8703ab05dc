//! A zone in memory.

use std::collections::HashMap;
use std::future::ready;
use std::net::IpAddr;

use crate::lookup::{Answer, DnsError, Lookup, Mx};

/// Answers from memory, for tests of everything that asks [`Lookup`]. Names are compared without case; a name that was never mentioned does not exist.
#[derive(Debug, Clone, Default)]
pub struct Zone {
    mx: HashMap<String, Result<Vec<Mx>, DnsError>>,
    addresses: HashMap<String, Result<Vec<IpAddr>, DnsError>>,
    names: HashMap<IpAddr, Vec<String>>,
}

impl Zone {
    /// Adds an MX record.
    #[must_use]
    pub fn mx(mut self, domain: &str, preference: u16, exchange: &str) -> Self {
        let records = self.mx.entry(domain.to_lowercase()).or_insert_with(|| Ok(Vec::new()));
        if let Ok(records) = records {
            records.push(Mx { preference, exchange: exchange.to_owned() });
        }
        self
    }

    /// Adds an address.
    #[must_use]
    pub fn address(mut self, host: &str, address: IpAddr) -> Self {
        let records = self.addresses.entry(host.to_lowercase()).or_insert_with(|| Ok(Vec::new()));
        if let Ok(records) = records {
            records.push(address);
        }
        self
    }

    /// Adds a name of an address.
    #[must_use]
    pub fn name(mut self, address: IpAddr, name: &str) -> Self {
        self.names.entry(address).or_default().push(name.to_owned());
        self
    }

    /// Makes every question about a name fail.
    #[must_use]
    pub fn broken(mut self, name: &str, error: &DnsError) -> Self {
        self.mx.insert(name.to_lowercase(), Err(error.clone()));
        self.addresses.insert(name.to_lowercase(), Err(error.clone()));
        self
    }

    fn missing(&self, name: &str) -> DnsError {
        let known = self.mx.contains_key(name) || self.addresses.contains_key(name);
        if known { DnsError::NoData } else { DnsError::NoDomain }
    }
}

impl Lookup for Zone {
    fn mx<'a>(&'a self, domain: &'a str) -> Answer<'a, Vec<Mx>> {
        let name = domain.to_lowercase();
        Box::pin(ready(self.mx.get(&name).cloned().unwrap_or_else(|| Err(self.missing(&name)))))
    }

    fn addresses<'a>(&'a self, host: &'a str) -> Answer<'a, Vec<IpAddr>> {
        let name = host.to_lowercase();
        Box::pin(ready(self.addresses.get(&name).cloned().unwrap_or_else(|| Err(self.missing(&name)))))
    }

    fn names<'a>(&'a self, address: IpAddr) -> Answer<'a, Vec<String>> {
        Box::pin(ready(self.names.get(&address).cloned().ok_or(DnsError::NoDomain)))
    }
}
