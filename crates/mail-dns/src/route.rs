//! From a domain to the hosts that take its mail (RFC 5321 section 5.1).

use std::net::IpAddr;

use mail_types::EnhancedStatus;

use crate::lookup::{DnsError, Lookup, Mx, is_host_name};

/// A host to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// One of its addresses.
    pub address: IpAddr,
    /// Whether no other host is preferred to it: mail that comes back from there has nowhere else to go.
    pub best: bool,
}

/// The most MX records of one domain that are looked at: a zone may hold thousands of names, each of which costs a lookup.
const EXCHANGERS: usize = 100;

/// Why there is no host to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoRoute {
    /// Class 4: try again later; class 5: never.
    pub status: EnhancedStatus,
    /// The reason, as log, mailq and bounce show it.
    pub text: String,
}

/// What the caller decides.
pub trait Rules: Sync {
    /// Whether a host or address is this machine: then it and all that are not better are left out (S20).
    fn is_self(&self, name: &str, address: Option<IpAddr>) -> bool;
    /// Whether an address may be used (`inet_protocols`).
    fn usable(&self, address: IpAddr) -> bool;
    /// Puts hosts into some order, before they are sorted by preference: equal ones share the load.
    fn shuffle(&self, exchangers: &mut Vec<Mx>);
    /// The most addresses (`smtp_mx_address_limit`); 0 is no limit.
    fn limit(&self) -> usize;
}

fn no_route(class: u8, subject: u16, detail: u16, text: String) -> NoRoute {
    NoRoute { status: EnhancedStatus::of(class, subject, detail), text }
}

/// The hosts for mail to a domain, best first.
///
/// # Errors
/// [`NoRoute`]: `5.1.2` if the domain does not exist, `5.1.10` for a null MX, `5.4.4` without any address, `5.4.6` where the best host is ourselves,
/// `4.4.3` while DNS does not answer, `4.4.4` where only worse hosts than ourselves have addresses.
pub async fn for_domain(lookup: &dyn Lookup, domain: &str, rules: &dyn Rules) -> Result<Vec<Host>, NoRoute> {
    let exchangers = match lookup.mx(domain).await {
        Ok(exchangers) => exchangers,
        // An implicit MX only where there is none at all.
        Err(DnsError::NoData) => return for_host(lookup, domain, rules).await,
        Err(error) => return Err(unknown(domain, &error)),
    };
    if exchangers.iter().all(|mx| mx.exchange.is_empty()) {
        let text = format!("Domain {domain} does not accept mail (nullMX)");
        return Err(no_route(5, 1, 10, text));
    }
    collect(lookup, domain, in_order(exchangers, rules), rules).await
}

/// The addresses of one host that was named, as in `[host]:port`.
///
/// # Errors
/// As [`for_domain`].
pub async fn for_host(lookup: &dyn Lookup, host: &str, rules: &dyn Rules) -> Result<Vec<Host>, NoRoute> {
    let found = lookup.addresses(host).await.map_err(|error| match error {
        DnsError::NoData | DnsError::BadName => no_route(
            5,
            4,
            4,
            format!("Host or domain name not found. Name service error for name={host} type=A: {error}"),
        ),
        _ => unknown(host, &error),
    })?;
    let mut hosts: Vec<Host> = found
        .into_iter()
        .filter(|address| rules.usable(*address))
        .map(|address| Host { name: host.to_owned(), address, best: true })
        .collect();
    if hosts.iter().any(|host| rules.is_self(&host.name, Some(host.address))) {
        return Err(no_route(5, 4, 6, format!("mail for {host} loops back to myself")));
    }
    if hosts.is_empty() {
        return Err(no_route(5, 4, 4, format!("{host} has no address of a protocol in use here")));
    }
    truncate(&mut hosts, rules.limit());
    Ok(hosts)
}

fn unknown(name: &str, error: &DnsError) -> NoRoute {
    match error {
        DnsError::NoDomain => no_route(5, 1, 2, "Host unknown".to_owned()),
        DnsError::BadName => no_route(5, 4, 4, format!("{name} is no domain name")),
        DnsError::NoData => no_route(
            5,
            4,
            4,
            format!("Host or domain name not found. Name service error for name={name} type=MX: {error}"),
        ),
        DnsError::Temporary(_) => no_route(
            4,
            4,
            3,
            format!("Host or domain name not found. Name service error for name={name} type=MX: {error}"),
        ),
    }
}

/// By preference; equal ones in the caller's order.
fn in_order(mut exchangers: Vec<Mx>, rules: &dyn Rules) -> Vec<Mx> {
    exchangers.retain(|mx| !mx.exchange.is_empty());
    rules.shuffle(&mut exchangers);
    exchangers.sort_by_key(|mx| mx.preference);
    exchangers
}

async fn collect(
    lookup: &dyn Lookup,
    domain: &str,
    mut exchangers: Vec<Mx>,
    rules: &dyn Rules,
) -> Result<Vec<Host>, NoRoute> {
    exchangers.truncate(EXCHANGERS);
    let best = exchangers.iter().map(|mx| mx.preference).min();
    let mut found: Vec<(u16, Host)> = Vec::new();
    let mut temporary = None;
    let mut ours = exchangers.iter().filter(|mx| rules.is_self(&mx.exchange, None)).map(|mx| mx.preference).min();
    for mx in &exchangers {
        let cut = ours.is_some_and(|preference| mx.preference >= preference);
        let enough =
            rules.limit() > 0 && found.iter().filter(|(other, _)| *other < mx.preference).count() >= rules.limit();
        if cut || enough {
            break;
        }
        match addresses_of(lookup, &mx.exchange).await {
            Ok(addresses) if addresses.iter().any(|&address| rules.is_self(&mx.exchange, Some(address))) => {
                ours = Some(mx.preference);
            }
            Ok(addresses) => {
                for address in addresses.into_iter().filter(|&address| rules.usable(address)) {
                    // One address under many names is tried once.
                    if found.iter().all(|(_, other)| other.address != address) {
                        let host = Host { name: mx.exchange.clone(), address, best: best == Some(mx.preference) };
                        found.push((mx.preference, host));
                    }
                }
            }
            Err(error @ DnsError::Temporary(_)) => temporary = Some(format!("name={} type=A: {error}", mx.exchange)),
            // A host that does not exist, or whose name is none, is passed over for the next.
            Err(_) => {}
        }
    }
    if let Some(preference) = ours {
        found.retain(|(mine, _)| *mine < preference);
    }
    let mut hosts: Vec<Host> = found.into_iter().map(|(_, host)| host).collect();
    truncate(&mut hosts, rules.limit());
    if !hosts.is_empty() {
        return Ok(hosts);
    }
    Err(match (ours, temporary) {
        (Some(_), _) if ours == best => no_route(5, 4, 6, format!("mail for {domain} loops back to myself")),
        (_, Some(why)) => no_route(4, 4, 3, format!("Host or domain name not found. Name service error for {why}")),
        (Some(_), None) => no_route(4, 4, 4, format!("no better mail server of {domain} than this one has an address")),
        (None, None) => no_route(5, 4, 4, format!("no mail server of {domain} has an address")),
    })
}

/// The addresses of a mail server. Many zones wrongly hold an address in place of its name; it is taken for what it is, as Postfix does.
async fn addresses_of(lookup: &dyn Lookup, exchange: &str) -> Result<Vec<IpAddr>, DnsError> {
    if let Ok(address) = exchange.parse() {
        return Ok(vec![address]);
    }
    if is_host_name(exchange) { lookup.addresses(exchange).await } else { Err(DnsError::BadName) }
}

fn truncate(hosts: &mut Vec<Host>, limit: usize) {
    if limit > 0 {
        hosts.truncate(limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Zone;

    fn ip(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    /// 192.0.2.99 and `mail.ours.example` are this machine.
    struct Ours;

    impl Rules for Ours {
        fn is_self(&self, name: &str, address: Option<IpAddr>) -> bool {
            name.eq_ignore_ascii_case("mail.ours.example") || address == Some(ip(99))
        }
        fn usable(&self, _address: IpAddr) -> bool {
            true
        }
        fn shuffle(&self, _exchangers: &mut Vec<Mx>) {}
        fn limit(&self) -> usize {
            5
        }
    }

    async fn ask(zone: &Zone, domain: &str) -> Result<Vec<u8>, String> {
        let hosts = for_domain(zone, domain, &Ours).await.map_err(|error| error.status.to_string())?;
        Ok(hosts.iter().map(|host| if let IpAddr::V4(v4) = host.address { v4.octets()[3] } else { 0 }).collect())
    }

    fn zone() -> Zone {
        (1..=20)
            .fold(Zone::default(), |zone, n| zone.address(&format!("h{n}.example"), ip(n)))
            .address("mail.ours.example", ip(99))
    }

    #[tokio::test]
    async fn the_lowest_preference_comes_first_and_five_are_enough() {
        // S20
        let zone = (1..=7).fold(zone(), |zone, n: u16| zone.mx("a.example", 100 - n, &format!("h{n}.example")));
        assert_eq!(ask(&zone, "a.example").await, Ok(vec![7, 6, 5, 4, 3]));
    }

    #[tokio::test]
    async fn without_mx_the_domain_itself_is_the_host() {
        assert_eq!(ask(&zone(), "h3.example").await, Ok(vec![3]));
    }

    #[tokio::test]
    async fn only_an_authoritative_answer_is_permanent() {
        // S21, M02
        let down = DnsError::Temporary("SERVFAIL".to_owned());
        let zone = zone()
            .mx("null.example", 0, "")
            .broken("down.example", &down)
            .mx("halfdown.example", 1, "down.example")
            .mx("empty.example", 1, "missing.example")
            .mx("missing-first.example", 1, "missing.example")
            .mx("missing-first.example", 2, "h2.example");
        for (domain, status) in [
            ("nowhere.example", "5.1.2"),
            ("null.example", "5.1.10"),
            ("down.example", "4.4.3"),
            ("halfdown.example", "4.4.3"),
            ("empty.example", "5.4.4"),
        ] {
            assert_eq!(ask(&zone, domain).await, Err(status.to_owned()), "{domain}");
        }
        assert_eq!(ask(&zone, "missing-first.example").await, Ok(vec![2]));
    }

    #[tokio::test]
    async fn names_that_no_host_can_have_are_passed_over() {
        let zone = zone()
            .mx("hostile.example", 1, "a\\032status=sent.example")
            .address("a\\032status=sent.example", ip(1))
            .mx("mixed.example", 1, "-x.example")
            .address("-x.example", ip(1))
            .mx("mixed.example", 2, "h2.example")
            .mx("number.example", 1, "192.0.2.7");
        assert_eq!(ask(&zone, "hostile.example").await, Err("5.4.4".to_owned()));
        assert_eq!(ask(&zone, "mixed.example").await, Ok(vec![2]));
        assert_eq!(ask(&zone, "number.example").await, Ok(vec![7]));
    }

    #[tokio::test]
    async fn dead_names_do_not_hide_the_good_one_and_one_address_is_tried_once() {
        let zone = (1..=28).fold(zone(), |zone, n: u16| zone.mx("long.example", n, &format!("unknown{n}.example")));
        let zone = zone.mx("long.example", 29, "h3.example").mx("same.example", 1, "h4.example");
        let zone = zone.mx("same.example", 2, "again.example").address("again.example", ip(4));
        assert_eq!(ask(&zone, "long.example").await, Ok(vec![3]));
        assert_eq!(ask(&zone, "same.example").await, Ok(vec![4]));
    }

    #[tokio::test]
    async fn a_zone_with_thousands_of_servers_costs_a_hundred_lookups() {
        let zone = (1..=2000).fold(zone(), |zone, n: u16| zone.mx("huge.example", 1, &format!("unknown{n}.example")));
        let zone = zone.mx("huge.example", 2, "h1.example");
        assert_eq!(ask(&zone, "huge.example").await, Err("5.4.4".to_owned()));
    }

    #[tokio::test]
    async fn our_own_name_cuts_the_list() {
        // S20: it and all equal or worse are cut; 5.4.6 only if ours was the best.
        let zone = zone()
            .mx("backup.example", 10, "h1.example")
            .mx("backup.example", 20, "MAIL.ours.example")
            .mx("backup.example", 20, "h2.example")
            .mx("backup.example", 30, "h3.example")
            .mx("best.example", 10, "mail.ours.example")
            .mx("best.example", 20, "h1.example")
            .mx("dead.example", 10, "missing.example")
            .mx("dead.example", 20, "mail.ours.example")
            .address("other-name.example", ip(99))
            .mx("by-address.example", 10, "other-name.example");
        assert_eq!(ask(&zone, "backup.example").await, Ok(vec![1]));
        assert_eq!(ask(&zone, "best.example").await, Err("5.4.6".to_owned()));
        assert_eq!(ask(&zone, "dead.example").await, Err("4.4.4".to_owned()));
        assert_eq!(ask(&zone, "by-address.example").await, Err("5.4.6".to_owned()));
    }
}
