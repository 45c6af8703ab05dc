//! The rules that keep strangers from relaying.

use mail_types::{Address, Reply};

use crate::evaluate::Run;
use crate::facts::{Classified, DomainClass, Missing};
use crate::replies::{lookup_failure, refusal};
use crate::verdict::Effect;

pub(super) fn permit_auth_destination(run: &mut Run<'_>) -> Result<Effect, Missing> {
    let Some(recipient) = run.input.recipient else { return Ok(Effect::Neutral) };
    Ok(match destination(run, recipient)? {
        Destination::Ours => Effect::Permit,
        Destination::Foreign => Effect::Neutral,
        Destination::Unknown => Effect::DeferIfPermit(lookup_failure(&run.input.recipient_name())),
    })
}

pub(super) fn reject_unauth_destination(run: &mut Run<'_>) -> Result<Effect, Missing> {
    unauth(run, *run.plan.main.relay_domains_reject_code)
}

pub(super) fn defer_unauth_destination(run: &mut Run<'_>) -> Result<Effect, Missing> {
    unauth(run, 454)
}

fn unauth(run: &Run<'_>, code: u64) -> Result<Effect, Missing> {
    let Some(recipient) = run.input.recipient else { return Ok(Effect::Neutral) };
    Ok(match destination(run, recipient)? {
        Destination::Ours => Effect::Neutral,
        Destination::Foreign => Effect::Refuse(denied(run, code)),
        Destination::Unknown => Effect::Refuse(lookup_failure(&run.input.recipient_name())),
    })
}

fn denied(run: &Run<'_>, code: u64) -> Reply {
    refusal(code, (7, 1), format!("<{}>: Relay access denied", run.input.recipient_name()))
}

enum Destination {
    Ours,
    Foreign,
    /// A table could not answer: neither yes nor no.
    Unknown,
}

/// Whether mail for an address ends here. Routing that the sender wrote into the local part is never followed for strangers: such a
/// recipient counts as foreign, unless `allow_untrusted_routing` says otherwise.
fn destination(run: &Run<'_>, recipient: &Address) -> Result<Destination, Missing> {
    Ok(match run.facts.class(recipient.domain())? {
        Classified::Unavailable(_) => Destination::Unknown,
        Classified::Class(DomainClass::Foreign) => Destination::Foreign,
        Classified::Class(_) if is_routed(run, recipient.local()) => Destination::Foreign,
        Classified::Class(_) => Destination::Ours,
    })
}

fn is_routed(run: &Run<'_>, local: &str) -> bool {
    let main = &run.plan.main;
    if *main.allow_untrusted_routing {
        return false;
    }
    let percent = *main.allow_percent_hack && local.contains('%');
    let bang = *main.swap_bangpath && local.contains('!');
    local.contains('@') || percent || bang
}
