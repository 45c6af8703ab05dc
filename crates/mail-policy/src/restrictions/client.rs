//! Restrictions about the client.

use mail_types::Reply;

use crate::evaluate::Run;
use crate::facts::Missing;
use crate::networks::matches_network;
use crate::replies::refusal;
use crate::verdict::Effect;

pub(super) fn permit_mynetworks(run: &mut Run<'_>) -> Result<Effect, Missing> {
    let (input, name) = (run.input, run.input.name.verified.as_deref());
    let inside = matches_network(&run.plan.main.mynetworks, input.client, name, run.facts, &mut run.lookups)?;
    Ok(if inside { Effect::Permit } else { Effect::Neutral })
}

pub(super) fn permit_inet_interfaces(run: &mut Run<'_>) -> Result<Effect, Missing> {
    Ok(if run.facts.is_own_address(run.input.client) { Effect::Permit } else { Effect::Neutral })
}

pub(super) fn reject_unknown(run: &mut Run<'_>) -> Result<Effect, Missing> {
    Ok(unknown(run, run.input.name.verified.is_some(), "hostname"))
}

pub(super) fn reject_unknown_reverse(run: &mut Run<'_>) -> Result<Effect, Missing> {
    Ok(unknown(run, run.input.name.reverse.is_some(), "reverse hostname"))
}

fn unknown(run: &Run<'_>, known: bool, what: &str) -> Effect {
    let reply = |code| -> Reply {
        let text = format!("Client host rejected: cannot find your {what}, [{}]", run.input.client);
        refusal(code, (7, 25), text)
    };
    match (known, run.input.name.temporary) {
        (true, _) => Effect::Neutral,
        (false, true) => Effect::DeferIfPermit(reply(450)),
        (false, false) => Effect::Refuse(reply(*run.plan.main.unknown_client_reject_code)),
    }
}
