//! Restrictions about the client.

use decision::Lookup;
use mail_tables::lists::{Match, match_client};

use crate::evaluate::Run;
use crate::facts::{Missing, Question};
use crate::replies::{lookup_failure, refusal};
use crate::verdict::Effect;

/// A table that cannot answer is neither a yes nor a no for ever.
pub(super) fn permit_mynetworks(run: &mut Run<'_>) -> Result<Effect, Missing> {
    let main = &run.plan.main;
    let parents = main.parent_domain_matches_subdomains.iter().any(|word| word == "mynetworks");
    let name = run.input.name.shown();
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
        Match::No => Ok(Effect::Neutral),
        Match::Temporary(why) => Ok(lookup_failure(&client.to_string(), why)),
        Match::Missing(query) => Err(Missing(Question::Table(query))),
    }
}

pub(super) fn permit_inet_interfaces(run: &mut Run<'_>) -> Result<Effect, Missing> {
    Ok(if run.facts.is_own_address(run.input.client) { Effect::Permit } else { Effect::Neutral })
}

pub(super) fn reject_unknown(run: &mut Run<'_>) -> Result<Effect, Missing> {
    let name = run.input.name;
    Ok(unknown(run, name.verified.is_some(), name.temporary, (7, 25), "hostname"))
}

pub(super) fn reject_unknown_reverse(run: &mut Run<'_>) -> Result<Effect, Missing> {
    let name = run.input.name;
    Ok(unknown(run, name.reverse.is_some(), name.reverse_temporary, (7, 1), "reverse hostname"))
}

fn unknown(run: &Run<'_>, known: bool, temporary: bool, status: (u16, u16), what: &str) -> Effect {
    if known {
        return Effect::Neutral;
    }
    let code = if temporary { 450 } else { *run.plan.main.unknown_client_reject_code };
    let text = format!("Client host rejected: cannot find your {what}, [{}]", run.input.client);
    Effect::Refuse(refusal(code, status, text))
}
