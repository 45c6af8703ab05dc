//! Restrictions about the domains of sender and recipient.

use mail_types::Address;

use super::names::{is_fqdn, is_host_name};
use crate::evaluate::Run;
use crate::facts::{Classified, DnsFact, DomainClass, Missing, Question, dns};
use crate::plan::Stage;
use crate::replies::{Subject, lookup_failure, refusal};
use crate::verdict::Effect;

fn sender<'a>(run: &Run<'a>) -> Option<&'a Address> {
    run.input.sender_address()
}

pub(super) fn reject_non_fqdn_sender(run: &mut Run<'_>) -> Result<Effect, Missing> {
    Ok(match sender(run) {
        Some(_) => non_fqdn(run, &run.input.sender_name(), Stage::Sender),
        None => Effect::Neutral,
    })
}

pub(super) fn reject_non_fqdn_recipient(run: &mut Run<'_>) -> Result<Effect, Missing> {
    Ok(match run.input.recipient {
        Some(_) => non_fqdn(run, &run.input.recipient_name(), Stage::Recipient),
        None => Effect::Neutral,
    })
}

/// What the client wrote counts, not what `append_at_myorigin` makes of it.
fn non_fqdn(run: &Run<'_>, written: &str, stage: Stage) -> Effect {
    let domain = written.rsplit_once('@').map_or("", |(_, domain)| domain);
    if domain.starts_with('[') || (is_fqdn(domain) && is_host_name(domain)) {
        return Effect::Neutral;
    }
    let subject = Subject::of(stage, run.input);
    Effect::Refuse(subject.refuse(*run.plan.main.non_fqdn_reject_code, (5, 2), "need fully-qualified address"))
}

pub(super) fn reject_unknown_sender_domain(run: &mut Run<'_>) -> Result<Effect, Missing> {
    unknown_domain(run, sender(run), Stage::Sender, (1, 8), (550, (7, 27)))
}

pub(super) fn reject_unknown_recipient_domain(run: &mut Run<'_>) -> Result<Effect, Missing> {
    unknown_domain(run, run.input.recipient, Stage::Recipient, (1, 2), (556, (1, 10)))
}

/// Refuses a domain of others that DNS does not know, or that takes no mail (M02).
fn unknown_domain(
    run: &mut Run<'_>,
    address: Option<&Address>,
    stage: Stage,
    status: (u16, u16),
    null_mx: (u64, (u16, u16)),
) -> Result<Effect, Missing> {
    let Some(address) = address.filter(|address| !address.domain().is_literal()) else { return Ok(Effect::Neutral) };
    let subject = Subject::of(stage, run.input);
    match run.facts.class(address.domain())? {
        Classified::Class(DomainClass::Foreign | DomainClass::Relay) => {}
        Classified::Class(_) => return Ok(Effect::Neutral),
        Classified::Unavailable(why) => return Ok(lookup_failure(&subject.name, why)),
    }
    let domain = address.domain().key();
    Ok(match dns(run.facts, Question::MailDomain(domain.clone()))? {
        DnsFact::Found => Effect::Neutral,
        DnsFact::NullMx => {
            let text = subject.text(&format!("Domain {domain} does not accept mail (nullMX)"));
            Effect::Refuse(refusal(null_mx.0, null_mx.1, text))
        }
        DnsFact::Nothing => {
            let text = subject.text("Domain not found");
            Effect::Refuse(refusal(*run.plan.main.unknown_address_reject_code, status, text))
        }
        DnsFact::Temporary => {
            let action = *run.plan.main.unknown_address_tempfail_action;
            Run::tempfail(action, subject.refuse(450, status, "Domain not found"))
        }
    })
}
