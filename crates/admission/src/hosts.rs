//! The hosts of a name, for the access tables that are asked about them.

use mail_dns::{DnsError, Lookup as _, Resolver};
use mail_policy::{Host, HostKind, HostsFact};

use crate::facts::is_temporary;

/// So many hosts of one name are looked at.
const HOSTS_MAX: usize = 20;

/// The hosts of a name, with their addresses.
pub(crate) async fn of(dns: &Resolver, kind: HostKind, name: &str) -> HostsFact {
    match kind {
        HostKind::Address => HostsFact::Hosts(vec![host(dns, name.to_owned(), 0).await]),
        HostKind::MailServer => mail_servers(dns, name).await,
        HostKind::NameServer => name_servers(dns, name).await,
    }
}

async fn mail_servers(dns: &Resolver, name: &str) -> HostsFact {
    match dns.mx(name).await {
        Ok(found) if found.iter().any(|mx| mx.exchange.is_empty()) => HostsFact::Nothing,
        Ok(mut found) => {
            found.sort_by_key(|mx| mx.preference);
            let mut hosts = Vec::new();
            for mx in found.into_iter().take(HOSTS_MAX) {
                hosts.push(host(dns, mx.exchange, mx.preference).await);
            }
            HostsFact::Hosts(hosts)
        }
        Err(error) if is_temporary(&error) => HostsFact::Temporary,
        Err(_) => HostsFact::Itself(host(dns, name.to_owned(), 0).await),
    }
}

/// A name without name servers of its own has those of the nearest parent that has some; a top-level domain is not looked at.
async fn name_servers(dns: &Resolver, name: &str) -> HostsFact {
    let mut domain = name;
    loop {
        match dns.name_servers(domain).await {
            Ok(found) => {
                let mut hosts = Vec::new();
                for name in found.into_iter().take(HOSTS_MAX) {
                    hosts.push(host(dns, name, 0).await);
                }
                return HostsFact::Hosts(hosts);
            }
            Err(error) if is_temporary(&error) => return HostsFact::Temporary,
            Err(_) => match domain.split_once('.') {
                Some((_, parent)) if !parent.is_empty() => domain = parent,
                _ => return HostsFact::Nothing,
            },
        }
    }
}

async fn host(dns: &Resolver, name: String, preference: u16) -> Host {
    let addresses = match dns.addresses(&name).await {
        Ok(addresses) => Some(addresses),
        Err(DnsError::Temporary(_)) => None,
        Err(_) => Some(Vec::new()),
    };
    Host { name, preference, addresses }
}
