//! `reject_*_helo_hostname`.

use super::names::{is_fqdn, is_valid_helo};
use crate::evaluate::Run;
use crate::facts::{DnsFact, Missing, Question};
use crate::plan::Stage;
use crate::replies::{Subject, refusal};
use crate::verdict::Effect;

fn subject(run: &Run<'_>) -> Subject {
    Subject::of(Stage::Helo, run.input)
}

pub(super) fn reject_invalid(run: &mut Run<'_>) -> Result<Effect, Missing> {
    Ok(match run.input.helo {
        Some(name) if !is_valid_helo(name) => {
            let text = subject(run).text("Invalid name");
            Effect::Refuse(refusal(*run.plan.main.invalid_hostname_reject_code, (5, 2), text))
        }
        _ => Effect::Neutral,
    })
}

pub(super) fn reject_non_fqdn(run: &mut Run<'_>) -> Result<Effect, Missing> {
    Ok(match run.input.helo {
        Some(name) if !(name.starts_with('[') || is_fqdn(name) && is_valid_helo(name)) => {
            let text = subject(run).text("need fully-qualified hostname");
            Effect::Refuse(refusal(*run.plan.main.non_fqdn_reject_code, (5, 2), text))
        }
        _ => Effect::Neutral,
    })
}

pub(super) fn reject_unknown(run: &mut Run<'_>) -> Result<Effect, Missing> {
    let Some(name) = run.input.helo.filter(|name| !name.starts_with('[')) else { return Ok(Effect::Neutral) };
    let text = subject(run).text("Host not found");
    Ok(match run.facts.dns(&Question::Host(name.to_ascii_lowercase()))? {
        DnsFact::Found | DnsFact::NullMx => Effect::Neutral,
        DnsFact::Nothing => Effect::Refuse(refusal(*run.plan.main.unknown_hostname_reject_code, (7, 1), text)),
        DnsFact::Temporary => Effect::DeferIfPermit(refusal(450, (7, 1), text)),
    })
}
