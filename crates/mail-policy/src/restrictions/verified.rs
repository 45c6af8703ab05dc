//! `reject_unverified_sender`, `reject_unverified_recipient`: would mail for this address be delivered?

use decision::Lookup;
use mail_config::main_cf::kinds::TempfailAction;
use mail_types::Address;

use crate::evaluate::Run;
use crate::facts::{Missing, Question, VerifiedFact, verified};
use crate::plan::Stage;
use crate::replies::Subject;
use crate::verdict::Effect;

/// So much of a reason goes into a reply, in characters.
const REASON_MAX: usize = 250;

/// The parameters of one of the two restrictions.
struct Parameters {
    status: (u16, u16),
    reject_code: u64,
    defer_code: u64,
    tempfail: TempfailAction,
    reason: String,
}

pub(super) fn reject_sender(run: &mut Run<'_>) -> Result<Effect, Missing> {
    let main = &run.plan.main;
    let parameters = Parameters {
        status: (1, 7),
        reject_code: *main.unverified_sender_reject_code,
        defer_code: *main.unverified_sender_defer_code,
        tempfail: *main.unverified_sender_tempfail_action,
        reason: main.unverified_sender_reject_reason.value.clone(),
    };
    check(run, run.input.sender_address(), Stage::Sender, &parameters)
}

pub(super) fn reject_recipient(run: &mut Run<'_>) -> Result<Effect, Missing> {
    let main = &run.plan.main;
    let parameters = Parameters {
        status: (1, 1),
        reject_code: *main.unverified_recipient_reject_code,
        defer_code: *main.unverified_recipient_defer_code,
        tempfail: *main.unverified_recipient_tempfail_action,
        reason: main.unverified_recipient_reject_reason.value.clone(),
    };
    check(run, run.input.recipient, Stage::Recipient, &parameters)
}

fn check(
    run: &mut Run<'_>,
    address: Option<&Address>,
    stage: Stage,
    parameters: &Parameters,
) -> Result<Effect, Missing> {
    let Some(address) = address else { return Ok(Effect::Neutral) };
    let fact = verified(run.facts, Question::Verified(address.clone()))?;
    let value = match &fact {
        VerifiedFact::Deliverable => Some("deliverable".to_owned()),
        VerifiedFact::Undeliverable(why) => Some(format!("undeliverable: {why}")),
        VerifiedFact::Deferred(why) => Some(format!("deferred: {why}")),
        VerifiedFact::Unavailable(_) => None,
    };
    run.lookups.push(Lookup { table: "verify".to_owned(), key: address.to_string(), value, source: None });
    let subject = Subject::of(stage, run.input);
    let text = |word: &str, why: &str| {
        let why = if parameters.reason.is_empty() { why } else { &parameters.reason };
        format!("{word}: {}", why.chars().take(REASON_MAX).collect::<String>())
    };
    Ok(match fact {
        VerifiedFact::Deliverable => Effect::Neutral,
        VerifiedFact::Undeliverable(_) if parameters.reject_code < 300 => Effect::Neutral,
        VerifiedFact::Undeliverable(why) => {
            let text = text("undeliverable address", &why);
            Effect::Refuse(subject.refuse(parameters.reject_code, parameters.status, &text))
        }
        VerifiedFact::Deferred(_) if parameters.defer_code < 300 => Effect::Neutral,
        VerifiedFact::Deferred(why) => {
            let text = text("unverified address", &why);
            let reply = subject.refuse(parameters.defer_code, parameters.status, &text);
            if parameters.defer_code < 500 { Run::tempfail(parameters.tempfail, reply) } else { Effect::Refuse(reply) }
        }
        VerifiedFact::Unavailable(_) => {
            let reply = subject.refuse(450, parameters.status, "address verification problem");
            Run::tempfail(parameters.tempfail, reply)
        }
    })
}
