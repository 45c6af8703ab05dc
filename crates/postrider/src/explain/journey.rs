//! Where the mail goes once it is taken: class, transport and next hop of each recipient, hosts, and the end on this machine.

use std::net::{IpAddr, SocketAddr};

use admission::facts::Fetched;
use decision::Lookup;
use mail_config::Main;
use mail_dns::Mx;
use mail_dns::route::{self, for_domain, for_host};
use mail_ipc::delivery::LeaseRecipient;
use mail_route::{Class, Classified, Kind, NextHop, Routed, Stop, World};
use mail_types::{Address, EnhancedStatus, Sender, Severity};

use super::explanation::{Destination, Host, Place, Shown};
use super::local::Local;
use super::setting::{Outside, Route, Setting};

/// How deep lists in lists are followed.
const DEPTH_MAX: usize = 60;

/// Follows recipients to their places.
pub struct Journey<'a> {
    /// The configuration and its tables.
    pub setting: &'a Setting,
    /// Users and names.
    pub outside: &'a Outside,
    /// What was fetched.
    pub fetched: Fetched,
    /// What the reader should know.
    pub notes: Vec<String>,
    /// The header of the message as it is stored; empty where the case has none.
    pub header: Vec<u8>,
    /// The lookups of the recipient that is followed.
    asked: Vec<Lookup>,
}

impl<'a> Journey<'a> {
    /// A journey through a configuration.
    #[must_use]
    pub fn new(setting: &'a Setting, outside: &'a Outside) -> Self {
        let (notes, header, asked) = (Vec::new(), Vec::new(), Vec::new());
        Self { setting, outside, fetched: Fetched::default(), notes, header, asked }
    }

    /// Asks a function of the daemons behind the queue, and remembers its lookups for the recipient that is followed.
    pub(super) async fn decide<T>(
        &mut self,
        run: impl Fn(&World<'_>, &mut Vec<Lookup>) -> Result<T, Stop>,
    ) -> Result<T, String> {
        let route = self.route();
        let (decided, lookups) = route.decide(&mut self.fetched, run).await?;
        self.asked.extend(lookups);
        Ok(decided)
    }

    /// main.cf as the daemons behind the queue have it.
    pub(super) fn route(&self) -> Route<'a> {
        Route { setting: self.setting, main: &self.setting.config.main, outside: self.outside }
    }

    /// Where the mail of one recipient goes.
    pub async fn follow(&mut self, recipient: &LeaseRecipient, sender: &Sender) -> Destination {
        let via: Vec<String> = recipient.chain.iter().map(ToString::to_string).collect();
        let address = recipient.address.clone();
        let route = self.route();
        let routed = route.decide(&mut self.fetched, |world, lookups| {
            let resolved = mail_route::resolve(world, &address, &mut Vec::new())?;
            Ok((resolved.class, mail_route::transport(world, sender, &address, lookups)?))
        });
        match routed.await {
            Ok(((class, routed), mut lookups)) => {
                let outer = std::mem::take(&mut self.asked);
                let place = self.place(&routed, recipient, sender).await;
                lookups.extend(std::mem::replace(&mut self.asked, outer));
                let (program, relay) = program(&routed, &self.setting.config.main);
                Destination { program, relay, ..destination(recipient, via, &class, routed, lookups, place) }
            }
            Err(why) => Destination {
                address: recipient.address.to_string(),
                via,
                sender: None,
                class: "unknown".to_owned(),
                class_source: String::new(),
                transport: String::new(),
                nexthop: String::new(),
                rule: String::new(),
                source: String::new(),
                lookups: Vec::new(),
                relay: "none".to_owned(),
                program: "error",
                original: original(recipient),
                place: Place::Defer { status: "4.3.0".to_owned(), text: format!("address resolver failure: {why}") },
            },
        }
    }

    pub(super) async fn place(&mut self, routed: &Routed, recipient: &LeaseRecipient, sender: &Sender) -> Place {
        if recipient.chain.len() > DEPTH_MAX {
            return Place::Unknown { text: "lists are nested deeper than explain follows".to_owned() };
        }
        match &routed.kind {
            Kind::Local => Box::pin(Local { journey: self, recipient, sender }.place()).await,
            Kind::Virtual => Local { journey: self, recipient, sender }.virtual_mailbox().await,
            Kind::Mailbox => Local { journey: self, recipient, sender }.mailbox(),
            Kind::Smtp => self.remote(routed, sender, false).await,
            Kind::Lmtp => self.remote(routed, sender, true).await,
            Kind::Discard => Place::Discard { text: routed.nexthop.clone() },
            Kind::Error(text) => {
                let (status, text) = mail_route::reason(text, EnhancedStatus::of(5, 0, 0));
                Place::Bounce { status: status.to_string(), text }
            }
            Kind::Retry(text) => {
                let (status, text) = mail_route::reason(text, EnhancedStatus::of(4, 0, 0));
                Place::Defer { status: status.to_string(), text }
            }
        }
    }

    /// The members of a list, each followed to its own place.
    pub(super) async fn members(
        &mut self,
        members: Vec<mail_ipc::delivery::Member>,
        original: &LeaseRecipient,
        sender: &Sender,
    ) -> Vec<Destination> {
        let mut found = Vec::new();
        for member in members {
            let recipient =
                LeaseRecipient { address: member.address, chain: member.chain, part: member.part, ..original.clone() };
            let owner = member.owner.map(Sender::Address);
            let own = owner.as_ref().unwrap_or(sender);
            let mut destination = Box::pin(self.follow(&recipient, own)).await;
            destination.sender = owner.map(|owner| owner.to_string());
            found.push(destination);
        }
        found
    }

    /// Another server, and the addresses that it is shown.
    async fn remote(&mut self, routed: &Routed, sender: &Sender, lmtp: bool) -> Place {
        let main = self.transport_main(&routed.transport);
        let mut place = self.server(routed, &main, lmtp).await;
        let maps = if lmtp { &main.lmtp_generic_maps } else { &main.smtp_generic_maps };
        if let Place::Remote { shown, .. } = &mut place
            && !maps.is_empty()
        {
            let Shown { recipient, sender: from, header, lookups } = shown.as_mut();
            *recipient = self.generic(&main, maps, &routed.address, lookups).await;
            if let Some(address) = sender.address() {
                *from = self.generic(&main, maps, address, lookups).await;
            }
            *header = self.generic_header(&main, maps, lookups).await;
            let mut seen: Vec<Lookup> = Vec::new();
            lookups.retain(|lookup| {
                !seen.contains(lookup) && {
                    seen.push(lookup.clone());
                    true
                }
            });
        }
        place
    }

    /// The fields of the header that generic maps make others.
    async fn generic_header(
        &mut self,
        main: &Main,
        maps: &[mail_tables::TableRef],
        lookups: &mut Vec<Lookup>,
    ) -> Vec<String> {
        let route = Route { setting: self.setting, main, outside: self.outside };
        let mut rewrites = mail_intake::Rewrites::default();
        for (role, text) in mail_intake::addresses(&self.header) {
            let asked = route
                .decide(&mut self.fetched, |world, lookups| mail_route::generic_header(world, maps, &text, lookups));
            let Ok((next, more)) = asked.await else { continue };
            lookups.extend(more);
            if let Some(next) = next {
                rewrites.insert((role, text), next);
            }
        }
        let (shown, _) = mail_intake::rewrite(&self.header, &rewrites);
        let (before, after) = (super::header::fields(&self.header), super::header::fields(&shown));
        before.iter().zip(after).filter(|(before, after)| *before != after).map(|(_, after)| after).collect()
    }

    /// What generic maps make of an address, where that is another one.
    async fn generic(
        &mut self,
        main: &Main,
        maps: &[mail_tables::TableRef],
        address: &Address,
        lookups: &mut Vec<Lookup>,
    ) -> Option<String> {
        let route = Route { setting: self.setting, main, outside: self.outside };
        let asked =
            route.decide(&mut self.fetched, |world, lookups| mail_route::generic(world, maps, address, lookups));
        let (shown, more) = asked.await.ok()?;
        lookups.extend(more);
        (shown != *address).then(|| shown.to_string())
    }

    async fn server(&mut self, routed: &Routed, main: &Main, lmtp: bool) -> Place {
        let protocol = if lmtp { "lmtp" } else { "smtp" }.to_owned();
        let Some(hop) = NextHop::parse(&routed.nexthop) else {
            let text = format!("`{}' is no next hop of this transport", routed.nexthop);
            return Place::Defer { status: "4.3.5".to_owned(), text };
        };
        let (name, port, by_mx) = match hop {
            NextHop::Unix(path) => {
                let path = std::path::Path::new(main.queue_directory.as_str()).join(path);
                let host = Host { name: path.display().to_string(), address: None, port: None };
                return to_server(protocol, vec![host], None);
            }
            NextHop::Host { name, port } => (name, port, false),
            NextHop::Domain { name, port } => (name, port, !lmtp),
        };
        let default = if lmtp { main.lmtp_tcp_port.as_str() } else { main.smtp_tcp_port.as_str() };
        let port = port.as_deref().unwrap_or(default);
        let Some(port) = port.parse().ok().or_else(|| self.setting.config.port(port)) else {
            return Place::Defer { status: "4.3.5".to_owned(), text: format!("unknown service `{port}'") };
        };
        let literal = name.parse::<IpAddr>().ok().filter(|_| !by_mx);
        if let Some(address) = literal {
            let host = Host { name, address: Some(address.to_string()), port: Some(port) };
            return to_server(protocol, vec![host], None);
        }
        let Some(dns) = self.outside.sources.dns.as_ref() else {
            let note = if self.outside.ask_dns { "no name server can be used" } else { "DNS not asked" };
            let what = if by_mx { format!("the mail exchangers of {name}") } else { name.clone() };
            let note = Some(format!("{what}, port {port} ({note})"));
            return to_server(protocol, Vec::new(), note);
        };
        let rules = Rules { config: &self.setting.config, main, port };
        let hosts = if by_mx { for_domain(dns, &name, &rules).await } else { for_host(dns, &name, &rules).await };
        match hosts {
            Ok(hosts) => {
                let hosts = hosts.into_iter().map(|host| Host {
                    name: host.name,
                    address: Some(host.address.to_string()),
                    port: Some(port),
                });
                to_server(protocol, hosts.collect(), None)
            }
            Err(none) => {
                let (status, text) = (none.status.to_string(), none.text);
                let unknown = format!("550 5.1.2 <{}>... Host unknown", routed.address);
                let text = if text == "Host unknown" { unknown } else { text };
                match none.status.severity() {
                    Severity::Permanent => Place::Bounce { status, text },
                    _ => Place::Defer { status, text },
                }
            }
        }
    }

    /// main.cf with the overrides of a transport's line.
    fn transport_main(&self, transport: &str) -> Main {
        let config = &self.setting.config;
        match config.master.transport(transport) {
            Some(found) if !found.service.overrides.is_empty() => config.for_service(found.service),
            _ => Main::clone(&config.main),
        }
    }
}

fn to_server(protocol: String, hosts: Vec<Host>, note: Option<String>) -> Place {
    Place::Remote { protocol, hosts, note, shown: Box::default() }
}

fn destination(
    recipient: &LeaseRecipient,
    via: Vec<String>,
    class: &Classified,
    routed: Routed,
    lookups: Vec<Lookup>,
    place: Place,
) -> Destination {
    Destination {
        address: recipient.address.to_string(),
        via,
        sender: None,
        class: class_word(class.class).to_owned(),
        class_source: class.source.to_string(),
        transport: routed.transport,
        nexthop: routed.nexthop,
        rule: routed.rule.to_owned(),
        source: routed.source.to_string(),
        lookups,
        relay: String::new(),
        program: "",
        original: original(recipient),
        place,
    }
}

/// Who writes the log line of a delivery, and what it names as relay.
fn program(routed: &Routed, main: &Main) -> (&'static str, String) {
    match routed.kind {
        Kind::Local => ("local", "local".to_owned()),
        Kind::Virtual => ("virtual", "virtual".to_owned()),
        Kind::Mailbox => ("lmtp", local_plan::route::lmtp_relay(&routed.nexthop, main)),
        Kind::Smtp => ("smtp", String::new()),
        Kind::Lmtp => ("lmtp", String::new()),
        Kind::Discard => ("discard", "none".to_owned()),
        Kind::Error(_) | Kind::Retry(_) => ("error", "none".to_owned()),
    }
}

/// The recipient as it was given to us, before aliases.
fn original(recipient: &LeaseRecipient) -> String {
    let first = || recipient.chain.first().unwrap_or(&recipient.address).to_string();
    recipient.original.clone().unwrap_or_else(first)
}

fn class_word(class: Class) -> &'static str {
    match class {
        Class::Local => "local",
        Class::VirtualAlias => "virtual-alias",
        Class::VirtualMailbox => "virtual-mailbox",
        Class::Relay => "relay",
        Class::Default => "default",
    }
}

/// What main.cf says about hosts, as remote-delivery has it; equal ones stay in the order of their names, so that the answer is the same twice.
struct Rules<'a> {
    config: &'a mail_config::Config,
    main: &'a Main,
    port: u16,
}

impl route::Rules for Rules<'_> {
    fn is_self(&self, _: &str, address: Option<IpAddr>) -> bool {
        let Some(address) = address else { return false };
        let machine = &self.config.main.raw().machine.interfaces;
        let bound = self.config.listeners().iter().flat_map(|listener| &listener.addresses);
        bound.into_iter().filter(|own| own.port() == self.port).any(|own: &SocketAddr| {
            own.ip() == address
                || own.ip().is_unspecified()
                    && (address.is_loopback() || machine.iter().any(|net| net.addr() == address))
        }) || self.main.proxy_interfaces.iter().any(|text| text.parse() == Ok(address))
    }

    fn usable(&self, address: IpAddr) -> bool {
        let versions = *self.main.inet_protocols;
        if address.is_ipv4() { versions.v4 } else { versions.v6 }
    }

    fn shuffle(&self, exchangers: &mut Vec<Mx>) {
        exchangers.sort_by(|a, b| a.exchange.cmp(&b.exchange));
    }

    fn limit(&self) -> usize {
        usize::try_from(*self.main.smtp_mx_address_limit).unwrap_or(usize::MAX)
    }
}

/// A recipient as it comes from the queue; `original` is what the client wrote (`enable_original_recipient`).
#[must_use]
pub fn queued(address: &Address, original: Option<&str>) -> LeaseRecipient {
    LeaseRecipient {
        number: 0,
        address: address.clone(),
        original: original.map(str::to_owned),
        orcpt: None,
        notify: None,
        chain: Vec::new(),
        rule: None,
        part: None,
    }
}
