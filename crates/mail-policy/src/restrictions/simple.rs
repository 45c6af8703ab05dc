//! Restrictions that look at nothing but the session.

use crate::evaluate::Run;
use crate::facts::Missing;
use crate::plan::Stage;
use crate::replies::{configuration_error, refusal};
use crate::verdict::Effect;

pub(super) fn permit(_: &mut Run<'_>) -> Result<Effect, Missing> {
    Ok(Effect::Permit)
}

pub(super) fn neutral(_: &mut Run<'_>) -> Result<Effect, Missing> {
    Ok(Effect::Neutral)
}

/// A restriction that Postfix itself has given up: a configuration error there too.
pub(super) fn not_built_any_more(_: &mut Run<'_>) -> Result<Effect, Missing> {
    Ok(Effect::Refuse(configuration_error("obsolete restriction")))
}

pub(super) fn reject(run: &mut Run<'_>) -> Result<Effect, Missing> {
    Ok(Effect::Refuse(run.subject().refuse(*run.plan.main.reject_code, "Access denied")))
}

pub(super) fn defer(run: &mut Run<'_>) -> Result<Effect, Missing> {
    Ok(Effect::Refuse(run.subject().refuse(*run.plan.main.defer_code, "Try again later")))
}

pub(super) fn defer_if_permit(run: &mut Run<'_>) -> Result<Effect, Missing> {
    Ok(Effect::DeferIfPermit(run.subject().refuse(450, "defer_if_permit requested")))
}

pub(super) fn defer_if_reject(run: &mut Run<'_>) -> Result<Effect, Missing> {
    Ok(Effect::DeferIfReject(run.subject().refuse(450, "defer_if_reject requested")))
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

/// A bounce has one recipient; only after all RCPT commands is it known.
pub(super) fn reject_multi_recipient_bounce(run: &mut Run<'_>) -> Result<Effect, Missing> {
    let null = run.input.sender.is_some_and(|sender| sender.address().is_none());
    let early = run.stage < Stage::Recipient;
    let count = run.input.recipients + usize::from(run.stage == Stage::Recipient);
    if early || !null || count <= 1 {
        return Ok(Effect::Neutral);
    }
    let text = run.subject().text("Multi-recipient bounce");
    Ok(Effect::Refuse(refusal(*run.plan.main.multi_recipient_bounce_reject_code, (5, 3), text)))
}
