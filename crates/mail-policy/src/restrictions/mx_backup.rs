//! `permit_mx_backup`: whether this machine is a mail server of the recipient's domain.

use std::net::IpAddr;

use mail_tables::lists::{Match, match_client};
use mail_types::{Domain, Reply};

use super::relay::{Destination, destination};
use crate::evaluate::Run;
use crate::facts::{Classified, DomainClass, Host, HostKind, HostsFact, Missing, Question, hosts};
use crate::plan::Stage;
use crate::replies::{Subject, lookup_failure, refusal};
use crate::verdict::Effect;

pub(super) fn permit(run: &mut Run<'_>) -> Result<Effect, Missing> {
    let Some(recipient) = run.input.recipient else { return Ok(Effect::Neutral) };
    match destination(run, recipient)? {
        Destination::Unknown(why) => return Ok(lookup_failure(&run.input.recipient_name(), why)),
        Destination::Routed => return Ok(Effect::Neutral),
        Destination::Class(DomainClass::Foreign | DomainClass::Relay) => {}
        Destination::Class(_) => return Ok(Effect::Permit),
    }
    if recipient.domain().is_literal() {
        return Ok(Effect::Neutral);
    }
    let found = match hosts(run.facts, Question::Hosts(HostKind::MailServer, recipient.domain().key()))? {
        HostsFact::Hosts(hosts) => hosts,
        // Without mail servers of its own, the domain may still be a name of ours.
        HostsFact::Itself(host) => return Ok(own_host(run, &host)),
        HostsFact::Nothing => return Ok(Effect::Neutral),
        HostsFact::Temporary => {
            let text = "Unable to look up mail exchanger information: Host not found, try again";
            return Ok(Effect::DeferIfReject(later(run, text)));
        }
    };
    Ok(match is_ours(run, &found)? {
        Ok(true) => primaries_allowed(run, &found)?,
        Ok(false) => Effect::Neutral,
        Err(effect) => effect,
    })
}

fn later(run: &Run<'_>, text: &str) -> Reply {
    refusal(450, (4, 4), Subject::of(Stage::Recipient, run.input).text(text))
}

fn own_host(run: &Run<'_>, host: &Host) -> Effect {
    match is_own(run, host) {
        Some(true) => Effect::Permit,
        Some(false) => Effect::Neutral,
        None => unknown_host(run, host),
    }
}

fn unknown_host(run: &Run<'_>, host: &Host) -> Effect {
    let text = format!("Unable to look up mail exchanger host {}: Host not found, try again", host.name);
    Effect::DeferIfReject(later(run, &text))
}

/// Whether a host has an address of ours; none if nobody can tell.
fn is_own(run: &Run<'_>, host: &Host) -> Option<bool> {
    host.addresses.as_ref().map(|all| all.iter().any(|address| run.facts.is_own_address(*address)))
}

/// Whether one of the mail servers is this machine, by name or by address.
fn is_ours(run: &Run<'_>, found: &[Host]) -> Result<Result<bool, Effect>, Missing> {
    for host in found {
        let class = match Domain::new(&host.name) {
            Ok(domain) => run.facts.class(&domain)?,
            Err(_) => Classified::Class(DomainClass::Foreign),
        };
        if class == Classified::Class(DomainClass::Local) || is_own(run, host) == Some(true) {
            return Ok(Ok(true));
        }
    }
    Ok(match found.iter().find(|host| host.addresses.is_none()) {
        Some(host) => Err(unknown_host(run, host)),
        None => Ok(false),
    })
}

/// `permit_mx_backup_networks`: where the best mail servers must be.
fn primaries_allowed(run: &Run<'_>, found: &[Host]) -> Result<Effect, Missing> {
    let networks = &run.plan.main.permit_mx_backup_networks;
    if networks.is_empty() {
        return Ok(Effect::Permit);
    }
    let best = found.iter().map(|host| host.preference).min().unwrap_or_default();
    for host in found.iter().filter(|host| host.preference == best) {
        let Some(addresses) = &host.addresses else {
            let text = format!("Unable to look up host {} as mail exchanger", host.name);
            return Ok(Effect::DeferIfReject(later(run, &text)));
        };
        for address in addresses {
            if !is_within(run, &host.name, *address)? {
                return Ok(Effect::Neutral);
            }
        }
    }
    Ok(Effect::Permit)
}

fn is_within(run: &Run<'_>, name: &str, address: IpAddr) -> Result<bool, Missing> {
    let main = &run.plan.main;
    let parents = main.parent_domain_matches_subdomains.iter().any(|word| word == "permit_mx_backup_networks");
    let list = &main.permit_mx_backup_networks;
    match match_client(list, name, address, parents, run.facts.tables(), run.facts.remote()) {
        Match::Missing(query) => Err(Missing(Question::Table(query))),
        found => Ok(found.is_in()),
    }
}
