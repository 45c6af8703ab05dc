//! Restrictions about the client.

use decision::Lookup;
use mail_tables::lists::{Match, match_client};
use mail_types::Reply;

use crate::evaluate::Run;
use crate::facts::{Missing, Question};
use crate::replies::refusal;
use crate::verdict::Effect;

/// Membership only ever gives rights, so a table that cannot answer is a no.
pub(super) fn permit_mynetworks(run: &mut Run<'_>) -> Result<Effect, Missing> {
    let main = &run.plan.main;
    let parents = main.parent_domain_matches_subdomains.iter().any(|word| word == "mynetworks");
    let name = run.input.name.verified.as_deref().unwrap_or_default();
    let client = run.input.client;
    match match_client(&main.mynetworks, name, client, parents, run.facts.tables(), run.facts.remote()) {
        Match::Decided { is_in, item, source } => {
            run.lookups.push(Lookup {
                table: "mynetworks".to_owned(),
                key: client.to_string(),
                value: Some(item),
                source,
            });
            Ok(if is_in { Effect::Permit } else { Effect::Neutral })
        }
        Match::No | Match::Temporary(_) => Ok(Effect::Neutral),
        Match::Missing(query) => Err(Missing(Question::Table(query))),
    }
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
