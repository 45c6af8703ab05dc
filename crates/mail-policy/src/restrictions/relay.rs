//! The rules that keep strangers from relaying.

use mail_config::Main;
use mail_types::Address;

use crate::evaluate::Run;
use crate::facts::{Classified, DomainClass, Missing};
use crate::replies::{lookup_failure, refusal};
use crate::verdict::Effect;

pub(super) fn permit_auth_destination(run: &mut Run<'_>) -> Result<Effect, Missing> {
    let Some(recipient) = run.input.recipient else { return Ok(Effect::Neutral) };
    Ok(match destination(run, recipient)? {
        Destination::Unknown(why) => lookup_failure(&run.input.recipient_name(), why),
        found if found.is_ours() => Effect::Permit,
        _ => Effect::Neutral,
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
        Destination::Unknown(why) => lookup_failure(&run.input.recipient_name(), why),
        found if found.is_ours() => Effect::Neutral,
        _ => {
            let text = format!("<{}>: Relay access denied", run.input.recipient_name());
            Effect::Refuse(refusal(code, (7, 1), text))
        }
    })
}

/// Whether mail for the recipient ends here or at a relay domain of ours; no if nobody can tell.
pub(super) fn is_for_us(run: &Run<'_>) -> Result<bool, Missing> {
    match run.input.recipient {
        Some(recipient) => Ok(destination(run, recipient)?.is_ours()),
        None => Ok(false),
    }
}

/// Where mail for an address goes.
pub(super) enum Destination {
    /// To a domain of this class.
    Class(DomainClass),
    /// Where the sender's own routing leads. It is never followed for strangers, unless `allow_untrusted_routing` says otherwise.
    Routed,
    /// A table could not answer: neither yes nor no.
    Unknown(String),
}

impl Destination {
    fn is_ours(&self) -> bool {
        matches!(self, Self::Class(class) if *class != DomainClass::Foreign)
    }
}

pub(super) fn destination(run: &Run<'_>, recipient: &Address) -> Result<Destination, Missing> {
    Ok(match run.facts.class(recipient.domain())? {
        Classified::Unavailable(why) => Destination::Unknown(why),
        Classified::Class(DomainClass::Foreign) => Destination::Class(DomainClass::Foreign),
        Classified::Class(_) if is_routed(&run.plan.main, recipient.local()) => Destination::Routed,
        Classified::Class(class) => Destination::Class(class),
    })
}

/// Whether a local part holds routing that counts here.
pub(crate) fn is_routed(main: &Main, local: &str) -> bool {
    if *main.allow_untrusted_routing {
        return false;
    }
    let percent = *main.allow_percent_hack && local.contains('%');
    let bang = *main.swap_bangpath && local.contains('!');
    local.contains('@') || percent || bang
}
