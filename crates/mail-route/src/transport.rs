//! Which transport and next hop a recipient has (trivial-rewrite(8), transport(5)).

use std::net::IpAddr;
use std::path::Path;

use decision::Lookup;
use mail_config::dovecot::LmtpSocket;
use mail_config::{TransportKind, Value};
use mail_tables::address::{Delimiters, transport_keys};
use mail_types::{Address, SourceLine};

use crate::class::{Class, is_own_address, resolve};
use crate::nexthop::NextHop;
use crate::world::{Stop, World};

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

/// Chooses transport and next hop: by class, `relayhost`, then `transport_maps`.
///
/// # Errors
/// [`Stop`] if a table cannot say.
pub fn transport(world: &World<'_>, recipient: &Address, lookups: &mut Vec<Lookup>) -> Result<Routed, Stop> {
    let resolved = resolve(world, recipient, lookups)?;
    let address = resolved.address;
    let mut choice = by_class(world, resolved.class.class, &address);
    // A local part that looks like an option is dangerous to programs further on.
    if address.local().starts_with('-') && !*world.main.allow_min_user {
        let source = world.main.allow_min_user.source.clone();
        let (transport, nexthop) = ("error".to_owned(), "5.1.3 bad address syntax".to_owned());
        return Ok(Choice { transport, nexthop, rule: "allow_min_user", source }.routed(world, address));
    }
    let keys = transport_keys(&address, Delimiters::of(world.main), world.parents_match("transport_maps"));
    if let Some(hit) = world.search(&world.main.transport_maps, &keys, lookups)? {
        choice.replace(&hit.value, hit.source, &address);
    }
    Ok(choice.routed(world, address))
}

/// A transport and a next hop, before master.cf says what the transport is.
struct Choice {
    transport: String,
    nexthop: String,
    rule: &'static str,
    source: SourceLine,
}

fn by_class(world: &World<'_>, class: Class, address: &Address) -> Choice {
    let main = world.main;
    let domain = address.domain().as_str();
    let choose = |rule: &'static str, parameter: &Value<String>, nexthop: &str| {
        let (transport, own) = parameter.split_once(':').unwrap_or((parameter.as_str(), ""));
        let nexthop = if own.is_empty() { nexthop } else { own };
        let (transport, nexthop) = (transport.to_owned(), nexthop.to_owned());
        // The relayhost says more about the way than the transport that leads there.
        let relayed = own.is_empty() && matches!(class, Class::Relay | Class::Default) && !main.relayhost.is_empty();
        let (rule, source) = if relayed { ("relayhost", &main.relayhost.source) } else { (rule, &parameter.source) };
        Choice { transport, nexthop, rule, source: source.clone() }
    };
    // Mail that leaves goes to the relayhost; a next hop of the transport itself goes before it.
    let outside = if main.relayhost.is_empty() { domain } else { main.relayhost.as_str() };
    match class {
        Class::Local => choose("local_transport", &main.local_transport, domain),
        Class::VirtualMailbox => choose("virtual_transport", &main.virtual_transport, domain),
        Class::Relay => choose("relay_transport", &main.relay_transport, outside),
        Class::Default => choose("default_transport", &main.default_transport, outside),
        Class::VirtualAlias => Choice {
            transport: "error".to_owned(),
            nexthop: "5.1.1 User unknown in virtual alias table".to_owned(),
            rule: "virtual_alias_domains",
            source: main.virtual_alias_domains.source.clone(),
        },
    }
}

impl Choice {
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
            address.domain().as_str().clone_into(&mut self.nexthop);
        }
        if !nexthop.is_empty() {
            nexthop.clone_into(&mut self.nexthop);
        }
    }

    fn routed(self, world: &World<'_>, address: Address) -> Routed {
        let Self { transport, nexthop, rule, source } = self;
        let kind = match world.config.master.transport(&transport) {
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
        let routed = transport(&made.world(), &address(text), &mut Vec::new()).expect("decided");
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
        assert!(matches!(route(maps, table, "a@none.org").1, Kind::Retry(_)));
        assert!(matches!(route(maps, table, "a@uu.org").1, Kind::Retry(_)));
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
