//! Restrictions about the domains of sender and recipient.

use mail_types::{Address, Domain, Sender};

use super::names::{is_fqdn, is_host_name};
use crate::evaluate::Run;
use crate::facts::{Classified, DnsFact, DomainClass, Missing, Question};
use crate::plan::Stage;
use crate::replies::{Subject, lookup_failure, refusal};
use crate::verdict::Effect;

fn sender<'a>(run: &Run<'a>) -> Option<&'a Address> {
    run.input.sender.and_then(Sender::address)
}

pub(super) fn reject_non_fqdn_sender(run: &mut Run<'_>) -> Result<Effect, Missing> {
    Ok(non_fqdn(run, sender(run), Stage::Sender))
}

pub(super) fn reject_non_fqdn_recipient(run: &mut Run<'_>) -> Result<Effect, Missing> {
    Ok(non_fqdn(run, run.input.recipient, Stage::Recipient))
}

fn non_fqdn(run: &Run<'_>, address: Option<&Address>, stage: Stage) -> Effect {
    let complete = |domain: &Domain| domain.is_literal() || (is_fqdn(domain.as_str()) && is_host_name(domain.as_str()));
    match address {
        Some(address) if !complete(address.domain()) => {
            let text = Subject::of(stage, run.input).text("need fully-qualified address");
            Effect::Refuse(refusal(*run.plan.main.non_fqdn_reject_code, (5, 2), text))
        }
        _ => Effect::Neutral,
    }
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
    match run.facts.class(address.domain())? {
        Classified::Class(DomainClass::Foreign) => {}
        Classified::Class(_) => return Ok(Effect::Neutral),
        Classified::Unavailable(_) => return Ok(Effect::DeferIfPermit(lookup_failure(&address.to_string()))),
    }
    let subject = Subject::of(stage, run.input);
    let domain = address.domain().key();
    Ok(match run.facts.dns(&Question::MailDomain(domain.clone()))? {
        DnsFact::Found => Effect::Neutral,
        DnsFact::NullMx => {
            let text = subject.text(&format!("Domain {domain} does not accept mail (nullMX)"));
            Effect::Refuse(refusal(null_mx.0, null_mx.1, text))
        }
        DnsFact::Nothing => {
            let text = subject.text("Domain not found");
            Effect::Refuse(refusal(*run.plan.main.unknown_address_reject_code, status, text))
        }
        DnsFact::Temporary => Effect::DeferIfPermit(refusal(450, status, subject.text("Domain not found"))),
    })
}
