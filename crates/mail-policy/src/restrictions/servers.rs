//! `check_*_a_access`, `check_*_mx_access`, `check_*_ns_access`: access tables that are asked about the hosts of a name.

use mail_config::main_cf::lists::TableRef;
use mail_tables::access::address_keys;
use mail_types::{Address, Domain};

use super::Applied;
use crate::access::{Asking, Yes, ask, host_keys, judge, parents};
use crate::evaluate::Run;
use crate::facts::{Host, HostKind, HostsFact, Missing, Question, hosts};
use crate::plan::Stage;
use crate::replies::Subject;
use crate::verdict::Effect;

/// Whose hosts are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Client,
    ReverseClient,
    Helo,
    Sender,
    Recipient,
}

const OWNERS: [(&str, Of); 5] = [
    ("check_client_", Of::Client),
    ("check_reverse_client_hostname_", Of::ReverseClient),
    ("check_helo_", Of::Helo),
    ("check_sender_", Of::Sender),
    ("check_recipient_", Of::Recipient),
];

const KINDS: [(&str, HostKind); 3] =
    [("a_access", HostKind::Address), ("mx_access", HostKind::MailServer), ("ns_access", HostKind::NameServer)];

/// Which hosts a restriction looks at; none for another restriction.
pub(super) fn find(name: &str) -> Option<(Of, HostKind)> {
    OWNERS.iter().find_map(|(prefix, of)| {
        let rest = name.strip_prefix(prefix)?;
        KINDS.iter().find(|(suffix, _)| *suffix == rest).map(|(_, kind)| (*of, *kind))
    })
}

/// Asks the table for the names of the hosts and for their addresses.
pub(super) fn check(run: &mut Run<'_>, table: &TableRef, (of, kind): (Of, HostKind)) -> Result<Applied, Missing> {
    let Some((domain, subject)) = named(run, of) else { return Ok(Effect::Neutral.into()) };
    if let Some(address) = literal(&domain) {
        // A literal is its own mail server, and has no name server.
        if kind == HostKind::NameServer {
            return Ok(Effect::Neutral.into());
        }
        let answer = ask(run, table, &address_keys(address))?;
        return Ok(judge(run, answer, &subject, Yes::Forbidden));
    }
    if domain.starts_with('[') {
        return Ok(Effect::Neutral.into());
    }
    let found = match hosts(run.facts, Question::Hosts(kind, domain))? {
        HostsFact::Hosts(hosts) => hosts,
        HostsFact::Itself(host) => vec![host],
        HostsFact::Nothing | HostsFact::Temporary => return Ok(Effect::Neutral.into()),
    };
    for host in &found {
        match ask_host(run, table, host, kind)? {
            Asking::NotFound => {}
            answer => return Ok(judge(run, answer, &subject, Yes::Forbidden)),
        }
    }
    Ok(Effect::Neutral.into())
}

/// The name whose hosts are looked at, and what a refusal is about.
fn named(run: &Run<'_>, of: Of) -> Option<(String, Subject)> {
    let input = run.input;
    let domain = |address: &Address| address.domain().key();
    Some(match of {
        Of::Client => (input.name.verified.clone()?, Subject::of(Stage::Client, input)),
        Of::ReverseClient => {
            let name = input.name.reverse.clone()?;
            (name.clone(), Subject { name, class: "Unverified Client host" })
        }
        Of::Helo => (input.helo?.to_owned(), Subject::of(Stage::Helo, input)),
        Of::Sender => (domain(input.sender_address()?), Subject::of(Stage::Sender, input)),
        Of::Recipient => (domain(input.recipient?), Subject::of(Stage::Recipient, input)),
    })
}

/// The address of `[192.0.2.1]`, `[IPv6:2001:db8::1]` or of a bare number.
fn literal(name: &str) -> Option<std::net::IpAddr> {
    let inside = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    let plain = inside.get(..5).filter(|tag| tag.eq_ignore_ascii_case("IPv6:")).map_or(inside, |_| &inside[5..]);
    plain.parse().ok().filter(|_| Domain::new(name).is_ok() || name == plain)
}

fn ask_host(run: &mut Run<'_>, table: &TableRef, host: &Host, kind: HostKind) -> Result<Asking, Missing> {
    if kind != HostKind::Address {
        match ask(run, table, &host_keys(&host.name, parents(run)))? {
            Asking::NotFound => {}
            answer => return Ok(answer),
        }
    }
    for address in host.addresses.iter().flatten() {
        match ask(run, table, &address_keys(*address))? {
            Asking::NotFound => {}
            answer => return Ok(answer),
        }
    }
    Ok(Asking::NotFound)
}
