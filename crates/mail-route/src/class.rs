//! Whose a domain is: Postfix's address classes (ADDRESS_CLASS_README), and the resolution of routed addresses.

use std::net::IpAddr;

use decision::Lookup;
use mail_config::Config;
use mail_config::main_cf::kinds::Interfaces;
use mail_config::main_cf::lists::MatchList;
use mail_config::{Main, Value};
use mail_tables::lists::{Match, match_domain, match_name};
use mail_types::{Address, Domain, SourceLine};

use crate::complete::{complete_noting, note, split_routing};
use crate::world::{Question, Stop, World};

/// The deepest routing (`a%b%c@here`) that is followed.
const ROUTING_DEPTH: usize = 16;

/// What a domain is to this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// `mydestination`, or a literal with an address of ours.
    Local,
    /// `virtual_alias_domains`.
    VirtualAlias,
    /// `virtual_mailbox_domains`.
    VirtualMailbox,
    /// `relay_domains`.
    Relay,
    /// Everything else.
    Default,
}

/// A class and what makes it so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classified {
    /// The class.
    pub class: Class,
    /// The line that decided: of main.cf, or of the table or file that it names. Built in for [`Class::Default`].
    pub source: SourceLine,
}

/// The class of a domain.
///
/// # Errors
/// [`Stop`] if a table cannot say; never [`Class::Default`] by accident.
pub fn class(world: &World<'_>, domain: &Domain, lookups: &mut Vec<Lookup>) -> Result<Classified, Stop> {
    let main = world.main;
    let name = domain.key();
    if let Some(source) = local(world, domain, lookups)? {
        return Ok(Classified { class: Class::Local, source });
    }
    let relay = Names::Parents(world.parents_match("relay_domains"));
    let lists = [
        ("virtual_alias_domains", &main.virtual_alias_domains, Names::Alone, Class::VirtualAlias),
        ("virtual_mailbox_domains", &main.virtual_mailbox_domains, Names::Alone, Class::VirtualMailbox),
        ("relay_domains", &main.relay_domains, relay, Class::Relay),
    ];
    for (parameter, list, names, class) in lists {
        if let Some(source) = in_list(world, parameter, list, &name, names, lookups)? {
            return Ok(Classified { class, source });
        }
    }
    Ok(Classified { class: Class::Default, source: SourceLine::built_in() })
}

/// The line that makes a domain local, if one does.
pub(crate) fn local(world: &World<'_>, domain: &Domain, lookups: &mut Vec<Lookup>) -> Result<Option<SourceLine>, Stop> {
    let main = world.main;
    let name = domain.key();
    if let Some(source) = in_list(world, "mydestination", &main.mydestination, &name, Names::Alone, lookups)? {
        return Ok(Some(source));
    }
    let own = literal(&name).is_some_and(|address| is_own_address(world.config, main, address));
    Ok(own.then(|| main.inet_interfaces.source.clone()))
}

/// What a name in a list stands for.
#[derive(Clone, Copy)]
enum Names {
    /// Itself alone.
    Alone,
    /// `.name` for the subdomains, and with `true` the plain name for them too.
    Parents(bool),
}

/// The line that puts a domain into a list, if one does.
fn in_list(
    world: &World<'_>,
    parameter: &str,
    list: &Value<MatchList<String>>,
    domain: &str,
    names: Names,
    lookups: &mut Vec<Lookup>,
) -> Result<Option<SourceLine>, Stop> {
    let (tables, remote) = (world.tables, world.facts.remote());
    let matched = match names {
        Names::Alone => match_name(list, domain, tables, remote),
        Names::Parents(parents) => match_domain(list, domain, parents, tables, remote),
    };
    match matched {
        Match::Decided { is_in: true, item, source } => {
            let source = source.unwrap_or_else(|| list.source.clone());
            let (table, key) = (parameter.to_owned(), domain.to_owned());
            lookups.push(Lookup { table, key, value: Some(item), source: Some(source.clone()) });
            Ok(Some(source))
        }
        Match::Decided { is_in: false, .. } | Match::No => Ok(None),
        Match::Temporary(why) => Err(Stop::Temporary(why)),
        Match::Missing(query) => Err(Stop::Missing(Question::Table(query))),
    }
}

/// The address of `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 section 4.1.3).
pub(crate) fn literal(domain: &str) -> Option<IpAddr> {
    let inside = domain.strip_prefix('[')?.strip_suffix(']')?;
    let v6 = inside.get(..5).filter(|tag| tag.eq_ignore_ascii_case("ipv6:")).map(|_| &inside[5..]);
    match v6 {
        Some(text) => text.parse().ok().map(IpAddr::V6),
        None => inside.parse().ok(),
    }
}

/// Whether mail for an address of the network comes to this machine: `inet_interfaces` and `proxy_interfaces`.
#[must_use]
pub fn is_own_address(config: &Config, main: &Main, address: IpAddr) -> bool {
    let address = address.to_canonical();
    let named = |names: &[String]| {
        names.iter().any(|name| name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|own| own == address))
    };
    if named(&main.proxy_interfaces) {
        return true;
    }
    let of_machine = || config.main.raw().machine.interfaces.iter().any(|net| net.addr() == address);
    match &main.inet_interfaces.value {
        Interfaces::All => of_machine(),
        Interfaces::LoopbackOnly => address.is_loopback(),
        // Names were resolved for the listeners; whatever they bind is ours.
        Interfaces::Named(names) => {
            named(names) || config.listeners().iter().any(|l| l.addresses.iter().any(|bound| bound.ip() == address))
        }
    }
}

/// Where an address leads after routing that its sender put into the local part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The address that counts: `user@elsewhere` for `user%elsewhere@here` and `user@elsewhere@here`.
    pub address: Address,
    /// The class of its domain.
    pub class: Classified,
    /// Whether there was such routing; only trusted clients may use it (`allow_untrusted_routing`).
    pub routed: bool,
}

/// Follows routing through this machine: as long as the domain is ours and the local part holds `@`, `%` (with
/// `allow_percent_hack`) or `!` (with `swap_bangpath`), the rest is the address.
///
/// # Errors
/// As [`class`]. An address whose routing leads to no valid address is a temporary failure of nobody: it comes back as it is,
/// and is local.
pub fn resolve(world: &World<'_>, address: &Address, lookups: &mut Vec<Lookup>) -> Result<Resolved, Stop> {
    let mut current = address.clone();
    for depth in 0..ROUTING_DEPTH {
        let class = class(world, current.domain(), lookups)?;
        let inner = if class.class == Class::Local { routed(&current, world.main, lookups) } else { None };
        match inner {
            Some(inner) => current = inner,
            None => return Ok(Resolved { address: current, class, routed: depth > 0 }),
        }
    }
    Err(Stop::Temporary(format!("{address}: routing is nested too deep")))
}

fn routed(address: &Address, main: &Main, lookups: &mut Vec<Lookup>) -> Option<Address> {
    let local = address.local();
    let quoted = address.to_string().starts_with('"');
    if quoted && !*main.resolve_dequoted_address {
        return None;
    }
    let (user, domain, rule) = match local.rsplit_once('@') {
        Some((user, domain)) => (user, domain, ("resolve_dequoted_address", &main.resolve_dequoted_address.source)),
        None => split_routing(local, main)?,
    };
    let inner = complete_noting(user, Some(domain), main, lookups).ok()?;
    note(lookups, rule.0, &address.to_string(), &inner.to_string(), rule.1);
    Some(inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Made, address, main_cf};

    const MAIN: &str = "myhostname = server.info.net\nmydestination = $myhostname, localhost, $mydomain, .dotted.org\n\
                        virtual_alias_domains = example.net, hash:/vdomains\nvirtual_mailbox_domains = box.org\n\
                        relay_domains = partner.com\nrecipient_delimiter = +\nproxy_interfaces = 192.0.2.7\n";

    fn made() -> Made {
        Made::new(main_cf(MAIN), &[("/vdomains", "# list\nmore.net x\n")])
    }

    #[test]
    fn each_domain_has_its_class_and_line() {
        let made = made();
        let cases = [
            ("INFO.net", Class::Local, 2),
            ("sub.info.net", Class::Default, 0),
            ("x.dotted.org", Class::Default, 0),
            ("[127.0.0.1]", Class::Local, 0),
            ("[192.0.2.7]", Class::Local, 0),
            ("[IPv6:::1]", Class::Local, 0),
            ("[192.0.2.8]", Class::Default, 0),
            ("example.net", Class::VirtualAlias, 3),
            ("more.net", Class::VirtualAlias, 2),
            ("box.org", Class::VirtualMailbox, 4),
            ("mx.partner.com", Class::Relay, 5),
            ("gmail.com", Class::Default, 0),
        ];
        for (domain, wanted, line) in cases {
            let found = class(&made.world(), &Domain::new(domain).expect("domain"), &mut Vec::new()).expect("decided");
            assert_eq!((found.class, found.source.line), (wanted, line), "{domain}");
        }
    }

    #[test]
    fn a_missing_table_is_never_a_foreign_domain() {
        let made = Made::new(main_cf(MAIN), &[]);
        let result = class(&made.world(), &Domain::new("gmail.com").expect("domain"), &mut Vec::new());
        assert!(matches!(result, Err(Stop::Temporary(_))));
    }

    #[test]
    fn routing_through_us_leads_to_its_end() {
        let made = made();
        let cases = [
            ("john@info.net", "john@info.net", false),
            ("\"a@elsewhere.org\"@info.net", "a@elsewhere.org", true),
            ("a%elsewhere.org@info.net", "a@elsewhere.org", true),
            ("a%b%info.net@info.net", "a@b.info.net", true),
            ("elsewhere.org!a@info.net", "a@elsewhere.org", true),
            ("a%elsewhere.org@gmail.com", "a%elsewhere.org@gmail.com", false),
            ("\"x @\"@info.net", "\"x @\"@info.net", false),
        ];
        let kept =
            Made::new(main_cf(&format!("{MAIN}resolve_dequoted_address = no\n")), &[("/vdomains", "more.net x\n")]);
        let found = resolve(&kept.world(), &address("\"a@elsewhere.org\"@info.net"), &mut Vec::new()).expect("decided");
        assert!(!found.routed);
        for (text, wanted, routed) in cases {
            let found = resolve(&made.world(), &address(text), &mut Vec::new()).expect("decided");
            assert_eq!((found.address.to_string().as_str(), found.routed), (wanted, routed), "{text}");
        }
    }
}
