//! Restrictions that look at nothing but the session.

use super::Applied;
use crate::evaluate::Run;
use crate::facts::{Fact, Missing, Question};
use crate::plan::Stage;
use crate::replies::{fail, refusal};
use crate::verdict::Effect;

pub(super) fn permit(_: &mut Run<'_>) -> Result<Effect, Missing> {
    Ok(Effect::Permit)
}

/// A restriction that would let in whoever names an address in HELO.
pub(super) fn not_built_any_more(_: &mut Run<'_>) -> Result<Effect, Missing> {
    Ok(fail("permit_naked_ip_address lets in whoever says so; write permit_mynetworks"))
}

pub(super) fn reject(run: &mut Run<'_>) -> Result<Effect, Missing> {
    Ok(Effect::Refuse(run.subject().refuse(*run.plan.main.reject_code, (7, 1), "Access denied")))
}

pub(super) fn defer(run: &mut Run<'_>) -> Result<Effect, Missing> {
    Ok(Effect::Refuse(run.subject().refuse(*run.plan.main.defer_code, (3, 2), "Try again later")))
}

pub(super) fn defer_if_permit(run: &mut Run<'_>) -> Result<Effect, Missing> {
    Ok(Effect::DeferIfPermit(run.subject().refuse(450, (7, 0), "defer_if_permit requested")))
}

pub(super) fn defer_if_reject(run: &mut Run<'_>) -> Result<Effect, Missing> {
    Ok(Effect::DeferIfReject(run.subject().refuse(450, (7, 0), "defer_if_reject requested")))
}

/// Asks for a pause; the caller makes it.
pub(super) fn sleep(run: &mut Run<'_>, seconds: &str) -> Result<Applied, Missing> {
    let Ok(seconds) = seconds.parse() else {
        return Ok(fail(format!("sleep needs a whole number of seconds, not `{seconds}'")).into());
    };
    let question = Question::Pause { seconds, rule: run.pauses };
    run.pauses += 1;
    match run.facts.fetched(&question) {
        Some(Fact::Paused) => Ok(Effect::Neutral.into()),
        _ => Err(Missing(question)),
    }
}

pub(super) fn reject_unauth_pipelining(run: &mut Run<'_>) -> Result<Effect, Missing> {
    if !run.input.pipelining {
        return Ok(Effect::Neutral);
    }
    let text = run.subject().text("Improper use of SMTP command pipelining");
    Ok(Effect::Refuse(refusal(503, (5, 0), text)))
}

pub(super) fn reject_plaintext_session(run: &mut Run<'_>) -> Result<Effect, Missing> {
    if run.input.tls {
        return Ok(Effect::Neutral);
    }
    Ok(Effect::Refuse(refusal(*run.plan.main.plaintext_reject_code, (7, 1), "Session encryption is required")))
}

/// A bounce has one recipient. At RCPT the one that is judged is not counted yet.
pub(super) fn reject_multi_recipient_bounce(run: &mut Run<'_>) -> Result<Effect, Missing> {
    let null = run.input.sender.is_some_and(|sender| sender.address().is_none());
    let count = run.input.recipients + usize::from(run.command == Stage::Recipient);
    if !null || count <= 1 {
        return Ok(Effect::Neutral);
    }
    let text = run.subject().text("Multi-recipient bounce");
    Ok(Effect::Refuse(refusal(*run.plan.main.multi_recipient_bounce_reject_code, (5, 3), text)))
}
