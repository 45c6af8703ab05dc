//! Which transport and next hop a recipient has (trivial-rewrite(8), transport(5)).

use std::net::IpAddr;
use std::path::Path;

use decision::Lookup;
use mail_config::dovecot::LmtpSocket;
use mail_config::main_cf::lists::TableRef;
use mail_config::{Main, TransportKind, Value};
use mail_tables::address::{Delimiters, Key, transport_keys};
use mail_types::{Address, Domain, EnhancedStatus, Sender, Severity, SourceLine};

use crate::class::{Class, is_own_address, literal, resolve};
use crate::nexthop::NextHop;
use crate::world::{Hit, Stop, World};

/// What is done with the mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Aliases and users of this machine.
    Local,
    /// Mailboxes of `virtual_mailbox_maps`.
    Virtual,
    /// Users of Dovecot's userdb: the transport leads to our own LMTP listener or to dovecot-lda.
    Mailbox,
    /// SMTP.
    Smtp,
    /// LMTP to another server.
    Lmtp,
    /// The mail is thrown away.
    Discard,
    /// The mail is returned with this reason, which may begin with an enhanced status.
    Error(String),
    /// The mail waits with this reason.
    Retry(String),
}

/// Where a recipient's mail goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// The name of the transport in master.cf.
    pub transport: String,
    /// What it means.
    pub kind: Kind,
    /// The next hop; for local kinds the recipient's domain.
    pub nexthop: String,
    /// The address, after routing of its local part was followed.
    pub address: Address,
    /// The parameter that chose transport and next hop: `default_transport`, `relayhost`, `transport_maps` ...
    pub rule: &'static str,
    /// The line that states it; for a table the table's own line.
    pub source: SourceLine,
}

/// Chooses transport and next hop: by class and sender, `relayhost`, then `transport_maps` and `relocated_maps`.
///
/// # Errors
/// [`Stop`] if a table cannot say.
pub fn transport(
    world: &World<'_>,
    sender: &Sender,
    recipient: &Address,
    lookups: &mut Vec<Lookup>,
) -> Result<Routed, Stop> {
    choose(world, Some(sender), recipient, lookups)
}

/// The transport and next hop that a parameter of local(8) names, such as `mailbox_transport`. Without a next hop of its own it has that of local mail.
#[must_use]
pub fn handed_on(world: &World<'_>, rule: &'static str, text: &str, source: &SourceLine, address: &Address) -> Routed {
    let local = Choice::of("local_transport", &world.main.local_transport, address.domain().as_str());
    Choice::parse(rule, text, source, &local.nexthop).routed(world, address.clone())
}

/// The enhanced status that a reason of [`Kind::Error`] or [`Kind::Retry`] may begin with, in the class of `otherwise`, and the rest of it.
#[must_use]
pub fn reason(text: &str, otherwise: EnhancedStatus) -> (EnhancedStatus, String) {
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    let stated: Option<EnhancedStatus> = first.parse().ok();
    match stated.filter(|status| status.severity() != Severity::Success) {
        Some(status) => (status.with_severity(otherwise.severity()), rest.trim().to_owned()),
        None => (otherwise, text.to_owned()),
    }
}

/// As [`transport`]; without a sender, what depends on it is left out.
pub(crate) fn choose(
    world: &World<'_>,
    sender: Option<&Sender>,
    recipient: &Address,
    lookups: &mut Vec<Lookup>,
) -> Result<Routed, Stop> {
    let main = world.main;
    let resolved = resolve(world, recipient, lookups)?;
    let (class, address) = (resolved.class.class, numeric(main, resolved.address));
    if let Some(choice) = without_lookup(main, class, &address) {
        return Ok(choice.routed(world, address));
    }
    let mut choice = by_class(world, class, sender, &address, lookups)?;
    // A virtual alias domain has aliases and nothing else.
    if class != Class::VirtualAlias {
        let keys = transport_keys(&address, Delimiters::of(main), world.parents_match("transport_maps"));
        if let Some(hit) = world.search(&main.transport_maps, &keys, lookups)? {
            choice.replace(&hit.value, hit.source, &address);
        }
    }
    if let Some(hit) = world.ask(&address, &main.relocated_maps, lookups)? {
        let prefix = if *main.relocated_prefix_enable { "5.1.6 User has moved to " } else { "" };
        choice = Choice::error(format!("{prefix}{}", hit.value), "relocated_maps", &hit.source);
    }
    Ok(choice.routed(world, address))
}

/// Whether mail could be sent to an address at all; `user@192.0.2.1` and, without `allow_min_user`, `-user@domain` are none.
///
/// # Errors
/// [`Stop`] if a table cannot say.
pub fn is_sendable(world: &World<'_>, address: &Address) -> Result<bool, Stop> {
    let resolved = resolve(world, address, &mut Vec::new())?;
    let address = numeric(world.main, resolved.address);
    let choice = without_lookup(world.main, resolved.class.class, &address);
    Ok(choice.is_none_or(|choice| choice.transport != "error"))
}

/// `user@192.0.2.1` as `user@[192.0.2.1]`, with `resolve_numeric_domain`.
fn numeric(main: &Main, address: Address) -> Address {
    let domain = address.domain().as_str();
    if !*main.resolve_numeric_domain || domain.parse::<IpAddr>().is_err() {
        return address;
    }
    let literal = Domain::new(&format!("[{domain}]")).and_then(|domain| Address::new(address.local(), domain));
    literal.unwrap_or(address)
}

/// What is decided without tables: an address that no mail can be sent to, and mail that nobody reads.
fn without_lookup(main: &Main, class: Class, address: &Address) -> Option<Choice> {
    let bad = "5.1.3 bad address syntax".to_owned();
    if !is_mail_domain(address.domain()) {
        return Some(Choice::error(bad, "resolve_numeric_domain", &main.resolve_numeric_domain.source));
    }
    // A local part that looks like an option is dangerous to programs further on.
    if address.local().starts_with('-') && !*main.allow_min_user {
        return Some(Choice::error(bad, "allow_min_user", &main.allow_min_user.source));
    }
    let double_bounce = address.local().eq_ignore_ascii_case(&main.double_bounce_sender);
    (class == Class::Local && double_bounce).then(|| Choice {
        transport: "discard".to_owned(),
        nexthop: "undeliverable postmaster notification discarded".to_owned(),
        rule: "double_bounce_sender",
        source: main.double_bounce_sender.source.clone(),
    })
}

/// Whether a domain can have mail servers: a literal, or a name whose labels neither begin nor end with a hyphen, and that is no
/// number.
fn is_mail_domain(domain: &Domain) -> bool {
    let name = domain.as_str();
    if domain.is_literal() {
        return literal(name).is_some();
    }
    let number = name.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    !number && name.split('.').all(|label| !label.starts_with('-') && !label.ends_with('-'))
}

/// A transport and a next hop, before master.cf says what the transport is.
struct Choice {
    transport: String,
    nexthop: String,
    rule: &'static str,
    source: SourceLine,
}

fn by_class(
    world: &World<'_>,
    class: Class,
    sender: Option<&Sender>,
    address: &Address,
    lookups: &mut Vec<Lookup>,
) -> Result<Choice, Stop> {
    let main = world.main;
    let domain = address.domain().as_str();
    match class {
        Class::Local => Ok(Choice::of("local_transport", &main.local_transport, domain)),
        Class::VirtualMailbox => Ok(Choice::of("virtual_transport", &main.virtual_transport, domain)),
        Class::Relay => {
            outside(world, Choice::of("relay_transport", &main.relay_transport, ""), sender, domain, lookups)
        }
        Class::Default => {
            let transport =
                (&main.sender_dependent_default_transport_maps, &main.empty_address_default_transport_maps_lookup_key);
            let own = by_sender(world, transport.0, transport.1, sender, lookups)?.filter(|hit| !is_dunno(&hit.value));
            let choice = match own {
                Some(hit) => Choice::parse("sender_dependent_default_transport_maps", &hit.value, &hit.source, ""),
                None => Choice::of("default_transport", &main.default_transport, ""),
            };
            outside(world, choice, sender, domain, lookups)
        }
        Class::VirtualAlias => {
            let table = if *main.show_user_unknown_table_name { " in virtual alias table" } else { "" };
            let source = &main.virtual_alias_domains.source;
            Ok(Choice::error(format!("5.1.1 User unknown{table}"), "virtual_alias_domains", source))
        }
    }
}

/// Mail that leaves goes to the relayhost, its sender's or everybody's; a next hop of the transport itself goes before both.
fn outside(
    world: &World<'_>,
    mut choice: Choice,
    sender: Option<&Sender>,
    domain: &str,
    lookups: &mut Vec<Lookup>,
) -> Result<Choice, Stop> {
    let main = world.main;
    let (maps, key) = (&main.sender_dependent_relayhost_maps, &main.empty_address_relayhost_maps_lookup_key);
    let own = by_sender(world, maps, key, sender, lookups)?.filter(|hit| !is_dunno(&hit.value));
    let (relay, rule, source) = match own {
        Some(hit) => (hit.value, "sender_dependent_relayhost_maps", hit.source),
        None if main.relayhost.is_empty() => (domain.to_owned(), choice.rule, choice.source.clone()),
        None => (main.relayhost.value.clone(), "relayhost", main.relayhost.source.clone()),
    };
    if choice.nexthop.is_empty() {
        // The relayhost says more about the way than the transport that leads there.
        (choice.nexthop, choice.rule, choice.source) = (relay, rule, source);
    }
    Ok(choice)
}

/// What a table holds for a sender.
fn by_sender(
    world: &World<'_>,
    maps: &[TableRef],
    null_key: &str,
    sender: Option<&Sender>,
    lookups: &mut Vec<Lookup>,
) -> Result<Option<Hit>, Stop> {
    match sender {
        None => Ok(None),
        Some(Sender::Address(sender)) => world.ask(sender, maps, lookups),
        Some(Sender::Null) => world.search(maps, &[Key::full(null_key)], lookups),
    }
}

/// Whether a table says that it has nothing to say.
fn is_dunno(value: &str) -> bool {
    value.trim().is_empty() || value.trim().eq_ignore_ascii_case("DUNNO")
}

impl Choice {
    fn of(rule: &'static str, parameter: &Value<String>, nexthop: &str) -> Self {
        Self::parse(rule, parameter, &parameter.source, nexthop)
    }

    fn parse(rule: &'static str, text: &str, source: &SourceLine, nexthop: &str) -> Self {
        let (transport, own) = text.trim().split_once(':').unwrap_or((text.trim(), ""));
        let nexthop = if own.is_empty() { nexthop } else { own };
        Self { transport: transport.to_owned(), nexthop: nexthop.to_owned(), rule, source: source.clone() }
    }

    fn error(text: String, rule: &'static str, source: &SourceLine) -> Self {
        Self { transport: "error".to_owned(), nexthop: text, rule, source: source.clone() }
    }

    /// What a transport table says: `transport:nexthop`, either of which may be empty.
    fn replace(&mut self, value: &str, source: SourceLine, address: &Address) {
        let (transport, nexthop) = value.trim().split_once(':').unwrap_or((value.trim(), ""));
        if transport.is_empty() && nexthop.is_empty() {
            return;
        }
        self.rule = "transport_maps";
        self.source = source;
        if !transport.is_empty() {
            transport.clone_into(&mut self.transport);
            // A transport without next hop goes to the recipient's domain, not to the relayhost.
            let words = matches!(transport, "error" | "retry");
            self.nexthop = if words { "Address is undeliverable" } else { address.domain().as_str() }.to_owned();
        }
        if !nexthop.is_empty() {
            nexthop.clone_into(&mut self.nexthop);
        }
    }

    fn routed(self, world: &World<'_>, address: Address) -> Routed {
        let Self { transport, nexthop, rule, source } = self;
        let kind = match world.config.master.transport(&transport) {
            None if transport == "error" => Kind::Error(nexthop.clone()),
            None if transport == "retry" => Kind::Retry(nexthop.clone()),
            None if transport == "discard" => Kind::Discard,
            None => Kind::Retry(format!("4.3.0 mail transport unavailable: `{transport}' is not in master.cf")),
            Some(found) => match found.kind {
                TransportKind::Local => Kind::Local,
                TransportKind::Virtual => Kind::Virtual,
                TransportKind::Smtp => Kind::Smtp,
                TransportKind::Lmtp if is_own_lmtp(world, &nexthop) => Kind::Mailbox,
                TransportKind::Lmtp => Kind::Lmtp,
                TransportKind::Discard => Kind::Discard,
                TransportKind::Error => Kind::Error(nexthop.clone()),
                TransportKind::Retry => Kind::Retry(nexthop.clone()),
                TransportKind::Pipe if runs_dovecot_lda(&found.service.arguments) => Kind::Mailbox,
                TransportKind::Pipe => {
                    Kind::Retry(format!("4.3.5 transport `{transport}' runs a command, which is not built"))
                }
            },
        };
        let nexthop = match kind {
            Kind::Local | Kind::Virtual | Kind::Mailbox => address.domain().key(),
            _ => nexthop,
        };
        Routed { transport, kind, nexthop, address, rule, source }
    }
}

/// Whether a next hop is an LMTP listener of the same dovecot.conf.
fn is_own_lmtp(world: &World<'_>, nexthop: &str) -> bool {
    let Some(hop) = NextHop::parse(nexthop) else { return false };
    world.config.dovecot.lmtp_sockets.iter().any(|socket| match (socket, &hop) {
        (LmtpSocket::Unix { path, .. }, NextHop::Unix(named)) => {
            // Postfix's clients work in the queue directory.
            Path::new(world.main.queue_directory.as_str()).join(named) == *path
        }
        (LmtpSocket::Inet { addresses, .. }, NextHop::Host { name, port } | NextHop::Domain { name, port }) => {
            let port = port.as_deref().unwrap_or(world.main.lmtp_tcp_port.as_str());
            let Some(port) = world.config.port(port) else { return false };
            let named = |address: IpAddr| match name.parse::<IpAddr>() {
                Ok(ip) => ip == address || (address.is_unspecified() && is_own_address(world.config, world.main, ip)),
                Err(_) => name.eq_ignore_ascii_case("localhost") && (address.is_loopback() || address.is_unspecified()),
            };
            addresses.iter().any(|address| address.port() == port && named(address.ip()))
        }
        _ => false,
    })
}

/// `argv=/usr/lib/dovecot/deliver ...` or `dovecot-lda` among the arguments of pipe(8).
fn runs_dovecot_lda(arguments: &[String]) -> bool {
    let program = arguments.iter().find_map(|argument| argument.strip_prefix("argv=")).unwrap_or_default();
    matches!(program.rsplit('/').next(), Some("dovecot-lda" | "deliver")) && program.contains("dovecot")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Made, address, files};

    const MAIN: &str = "myhostname = server.info.net\nmydestination = info.net\nvirtual_alias_domains = example.net\n\
                        virtual_mailbox_domains = box.org\nrelay_domains = partner.com\nqueue_directory = /q\n";
    const MASTER: &str = "smtp unix - - y - - smtp\nrelay unix - - y - - smtp\nlmtp unix - - y - - lmtp\nlocal unix - n n - - local\n\
                          virtual unix - n n - - virtual\nerror unix - - y - - error\nretry unix - - y - - error\ndiscard unix - - y - - discard\n\
                          dovecot unix - n n - - pipe\n  flags=DRhu user=vmail argv=/usr/lib/dovecot/deliver -d ${recipient}\nuucp unix - n n - - pipe argv=uux\n";
    const DOVECOT: &str = "protocols = lmtp\nservice lmtp {\n unix_listener /q/private/dovecot-lmtp {\n }\n inet_listener lmtp {\n  address = 127.0.0.1\n  port = 2424\n }\n}\n";

    fn route(more: &str, map: &str, text: &str) -> (String, Kind, String) {
        let main = format!("{MAIN}{more}");
        let config = files(&[("main.cf", &main), ("master.cf", MASTER), ("dovecot.conf", DOVECOT)]);
        let made = Made::new(config, &[("/transport", map)]);
        from(&made, "x@y.org", text)
    }

    fn from(made: &Made, sender: &str, text: &str) -> (String, Kind, String) {
        let sender = if sender.is_empty() { Sender::Null } else { Sender::Address(address(sender)) };
        let routed = transport(&made.world(), &sender, &address(text), &mut Vec::new()).expect("decided");
        (routed.transport, routed.kind, routed.nexthop)
    }

    fn is(found: (String, Kind, String), transport: &str, kind: Kind, nexthop: &str) {
        assert_eq!(found, (transport.to_owned(), kind, nexthop.to_owned()));
    }

    #[test]
    fn each_class_has_its_transport() {
        is(route("", "", "john@info.net"), "local", Kind::Local, "info.net");
        is(route("", "", "john@box.org"), "virtual", Kind::Virtual, "box.org");
        is(route("", "", "john@mx.partner.com"), "relay", Kind::Smtp, "mx.partner.com");
        is(route("", "", "john@gmail.com"), "smtp", Kind::Smtp, "gmail.com");
        let unknown = "5.1.1 User unknown in virtual alias table";
        is(route("", "", "john@example.net"), "error", Kind::Error(unknown.into()), unknown);
        is(route("", "", "john%gmail.com@info.net"), "smtp", Kind::Smtp, "gmail.com");
        let option = "5.1.3 bad address syntax";
        is(route("", "", "-oQ@gmail.com"), "error", Kind::Error(option.into()), option);
        is(route("allow_min_user = yes\n", "", "-oQ@gmail.com"), "smtp", Kind::Smtp, "gmail.com");
    }

    #[test]
    fn a_relayhost_takes_what_leaves() {
        let relay = "relayhost = [127.0.0.1]:2525\n";
        is(route(relay, "", "john@gmail.com"), "smtp", Kind::Smtp, "[127.0.0.1]:2525");
        is(route(relay, "", "john@partner.com"), "relay", Kind::Smtp, "[127.0.0.1]:2525");
        is(route(relay, "", "john@info.net"), "local", Kind::Local, "info.net");
        let both = "relayhost = [a]\ndefault_transport = smtp:[b]:26\n";
        is(route(both, "", "john@gmail.com"), "smtp", Kind::Smtp, "[b]:26");
    }

    #[test]
    fn a_transport_table_goes_before_the_class() {
        let maps = "transport_maps = hash:/transport\nrelayhost = [r]\n";
        let table = "gmail.com smtp:[127.0.0.1]:2525\n.slow.org relay:\nkeep.org :\nhop.org :[h]\nbad.org error:5.1.2 no such place\n\
                     wait.org retry:4.0.0 later\nnull.org discard:\njohn@info.net smtp:[x]\nnone.org nothing:\nuu.org uucp:\nlda.org dovecot:\n";
        is(route(maps, table, "a@gmail.com"), "smtp", Kind::Smtp, "[127.0.0.1]:2525");
        is(route(maps, table, "a@b.slow.org"), "relay", Kind::Smtp, "b.slow.org");
        is(route(maps, table, "a@keep.org"), "smtp", Kind::Smtp, "[r]");
        is(route(maps, table, "a@hop.org"), "smtp", Kind::Smtp, "[h]");
        is(route(maps, table, "a@bad.org"), "error", Kind::Error("5.1.2 no such place".into()), "5.1.2 no such place");
        is(route(maps, table, "a@wait.org"), "retry", Kind::Retry("4.0.0 later".into()), "4.0.0 later");
        is(route(maps, table, "a@null.org"), "discard", Kind::Discard, "null.org");
        is(route(maps, table, "john@info.net"), "smtp", Kind::Smtp, "[x]");
        is(route(maps, table, "a@lda.org"), "dovecot", Kind::Mailbox, "lda.org");
        let text = "Address is undeliverable";
        is(route(maps, "bad.org error:\n", "a@bad.org"), "error", Kind::Error(text.into()), text);
        is(route(maps, "* smtp:[all]\n", "a@any.org"), "smtp", Kind::Smtp, "[all]");
        assert!(
            matches!(route(maps, "* smtp:[all]\n", "a@example.net").1, Kind::Error(_)),
            "aliases have no transport"
        );
        assert!(matches!(route(maps, table, "a@none.org").1, Kind::Retry(_)));
        assert!(matches!(route(maps, table, "a@uu.org").1, Kind::Retry(_)));
    }

    #[test]
    fn a_sender_has_its_own_way_out() {
        let main = format!(
            "{MAIN}relayhost = [all]\nsender_dependent_relayhost_maps = hash:/relays\n\
             sender_dependent_default_transport_maps = hash:/transports\n"
        );
        let config = files(&[("main.cf", &main), ("master.cf", MASTER), ("dovecot.conf", DOVECOT)]);
        let relays = "john@info.net [johns]:587\n@info.net [ours]\nfree@info.net DUNNO\n<> [null]\n";
        let transports = "eve@info.net lmtp:[eves]\nmike@info.net lmtp:\nfree@info.net dunno\n<> relay\n";
        let made = Made::new(config, &[("/relays", relays), ("/transports", transports)]);
        let to = "a@gmail.com";
        is(from(&made, "john@info.net", to), "smtp", Kind::Smtp, "[johns]:587");
        is(from(&made, "ann@info.net", to), "smtp", Kind::Smtp, "[ours]");
        is(from(&made, "free@info.net", to), "smtp", Kind::Smtp, "[all]");
        is(from(&made, "x@y.org", to), "smtp", Kind::Smtp, "[all]");
        is(from(&made, "", to), "relay", Kind::Smtp, "[null]");
        is(from(&made, "eve@info.net", to), "lmtp", Kind::Lmtp, "[eves]");
        is(from(&made, "mike@info.net", to), "lmtp", Kind::Lmtp, "[ours]");
        is(from(&made, "eve@info.net", "a@partner.com"), "relay", Kind::Smtp, "[ours]");
        is(from(&made, "eve@info.net", "john@info.net"), "local", Kind::Local, "info.net");
    }

    #[test]
    fn who_has_moved_is_told_whatever_the_class() {
        let main = format!(
            "{MAIN}recipient_delimiter = +\nrelocated_maps = hash:/relocated\ntransport_maps = hash:/transport\n"
        );
        let made = |more: &str| {
            let config =
                files(&[("main.cf", &format!("{main}{more}")), ("master.cf", MASTER), ("dovecot.conf", DOVECOT)]);
            Made::new(
                config,
                &[("/relocated", "john john@new.org\n@box.org us\n"), ("/transport", "box.org smtp:[x]\n")],
            )
        };
        let text = "5.1.6 User has moved to john@new.org";
        is(from(&made(""), "", "john+x@info.net"), "error", Kind::Error(text.into()), text);
        let text = "5.1.6 User has moved to us";
        is(from(&made(""), "", "any@box.org"), "error", Kind::Error(text.into()), text);
        is(from(&made("relocated_prefix_enable = no\n"), "", "any@box.org"), "error", Kind::Error("us".into()), "us");
        is(from(&made(""), "", "mike@info.net"), "local", Kind::Local, "info.net");
    }

    #[test]
    fn what_no_server_can_have_is_no_domain() {
        let bad = "5.1.3 bad address syntax";
        for text in ["a@192.0.2.1", "a@-x.org", "a@x-.org", "a@[x]"] {
            is(route("", "", text), "error", Kind::Error(bad.into()), bad);
        }
        is(route("", "", "a@[192.0.2.1]"), "smtp", Kind::Smtp, "[192.0.2.1]");
        is(route("resolve_numeric_domain = yes\n", "", "a@192.0.2.1"), "smtp", Kind::Smtp, "[192.0.2.1]");
        is(
            route("", "", "Double-Bounce@info.net"),
            "discard",
            Kind::Discard,
            "undeliverable postmaster notification discarded",
        );
    }

    #[test]
    fn our_own_lmtp_listener_is_mailbox_delivery() {
        let unix = "local_transport = lmtp:unix:private/dovecot-lmtp\n";
        is(route(unix, "", "john@info.net"), "lmtp", Kind::Mailbox, "info.net");
        let absolute = "virtual_transport = lmtp:unix:/q/private/dovecot-lmtp\n";
        is(route(absolute, "", "john@box.org"), "lmtp", Kind::Mailbox, "box.org");
        for hop in ["inet:127.0.0.1:2424", "[127.0.0.1]:2424", "inet:localhost:2424"] {
            is(
                route(&format!("local_transport = lmtp:{hop}\n"), "", "john@info.net"),
                "lmtp",
                Kind::Mailbox,
                "info.net",
            );
        }
        let other = "local_transport = lmtp:inet:127.0.0.1:2425\n";
        is(route(other, "", "john@info.net"), "lmtp", Kind::Lmtp, "inet:127.0.0.1:2425");
    }
}
