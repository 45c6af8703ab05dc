//! `reject_*_helo_hostname`.

use super::names::{is_fqdn, is_host_name, is_literal};
use crate::evaluate::Run;
use crate::facts::{DnsFact, Missing, Question, dns};
use crate::plan::Stage;
use crate::replies::Subject;
use crate::verdict::Effect;

pub(super) fn reject_invalid(run: &mut Run<'_>) -> Result<Effect, Missing> {
    Ok(match run.input.helo {
        Some(name) if name.starts_with('[') => invalid_address(run, name),
        // A bare address is no name, but none of the mistakes that are meant.
        Some(name) if !is_host_name(name) && name.parse::<std::net::IpAddr>().is_err() => {
            refuse(run, *run.plan.main.invalid_hostname_reject_code, (5, 2), "Invalid name")
        }
        _ => Effect::Neutral,
    })
}

pub(super) fn reject_non_fqdn(run: &mut Run<'_>) -> Result<Effect, Missing> {
    Ok(match run.input.helo {
        Some(name) if name.starts_with('[') => invalid_address(run, name),
        Some(name) if !(is_fqdn(name) && is_host_name(name)) => {
            refuse(run, *run.plan.main.non_fqdn_reject_code, (5, 2), "need fully-qualified hostname")
        }
        _ => Effect::Neutral,
    })
}

pub(super) fn reject_unknown(run: &mut Run<'_>) -> Result<Effect, Missing> {
    let Some(name) = run.input.helo else { return Ok(Effect::Neutral) };
    if name.starts_with('[') {
        return Ok(invalid_address(run, name));
    }
    let main = &run.plan.main;
    let reply = |code| Subject::of(Stage::Helo, run.input).refuse(code, (7, 1), "Host not found");
    Ok(match dns(run.facts, Question::Host(name.to_ascii_lowercase()))? {
        DnsFact::Found | DnsFact::NullMx => Effect::Neutral,
        DnsFact::Nothing => Effect::Refuse(reply(*main.unknown_hostname_reject_code)),
        DnsFact::Temporary => Run::tempfail(*main.unknown_helo_hostname_tempfail_action, reply(450)),
    })
}

fn invalid_address(run: &Run<'_>, name: &str) -> Effect {
    let sound = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(is_literal);
    if sound {
        return Effect::Neutral;
    }
    refuse(run, *run.plan.main.invalid_hostname_reject_code, (5, 2), "invalid ip address")
}

fn refuse(run: &Run<'_>, code: u64, status: (u16, u16), text: &str) -> Effect {
    Effect::Refuse(Subject::of(Stage::Helo, run.input).refuse(code, status, text))
}
