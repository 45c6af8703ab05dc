//! Restrictions about the login: who it is, and whose address the sender is.

use mail_tables::address::{Delimiters, Search, map_keys, search};

use crate::access::record;
use crate::evaluate::Run;
use crate::facts::{Classified, DomainClass, Missing, Question};
use crate::plan::Stage;
use crate::replies::{Subject, lookup_failure};
use crate::verdict::Effect;

pub(super) fn permit_sasl_authenticated(run: &mut Run<'_>) -> Result<Effect, Missing> {
    Ok(if is_active(run) && run.input.user.is_some() { Effect::Permit } else { Effect::Neutral })
}

/// Without AUTH nobody has a login, and the rules about logins judge nothing.
fn is_active(run: &Run<'_>) -> bool {
    *run.plan.main.smtpd_sasl_auth_enable
}

pub(super) fn reject_mismatch(run: &mut Run<'_>) -> Result<Effect, Missing> {
    if run.input.user.is_some() { reject_authenticated_mismatch(run) } else { reject_unauthenticated_mismatch(run) }
}

/// A logged-in client may use only addresses that its login owns.
pub(super) fn reject_authenticated_mismatch(run: &mut Run<'_>) -> Result<Effect, Missing> {
    let Some(user) = run.input.user else { return Ok(Effect::Neutral) };
    owned_by(run, user, true)
}

/// As above, but an address that nobody owns is free.
pub(super) fn reject_known_mismatch(run: &mut Run<'_>) -> Result<Effect, Missing> {
    match run.input.user {
        Some(user) => owned_by(run, user, false),
        None => reject_unauthenticated_mismatch(run),
    }
}

/// A client without login may not use an address that somebody owns.
pub(super) fn reject_unauthenticated_mismatch(run: &mut Run<'_>) -> Result<Effect, Missing> {
    if run.input.user.is_some() || !is_active(run) {
        return Ok(Effect::Neutral);
    }
    Ok(match owners(run)? {
        Owners::Unavailable(why) => lookup_failure(&run.input.sender_name(), why),
        Owners::Nobody => Effect::Neutral,
        Owners::These(_) => refuse(run, "not logged in"),
    })
}

fn owned_by(run: &mut Run<'_>, user: &str, must_be_listed: bool) -> Result<Effect, Missing> {
    if run.input.sender_address().is_none() || !is_active(run) {
        return Ok(Effect::Neutral);
    }
    Ok(match owners(run)? {
        Owners::Unavailable(why) => lookup_failure(&run.input.sender_name(), why),
        Owners::These(names) if names.iter().any(|name| name.eq_ignore_ascii_case(user)) => Effect::Neutral,
        Owners::Nobody if !must_be_listed => Effect::Neutral,
        Owners::These(_) | Owners::Nobody => refuse(run, &format!("not owned by user {user}")),
    })
}

enum Owners {
    These(Vec<String>),
    Nobody,
    Unavailable(String),
}

fn owners(run: &mut Run<'_>) -> Result<Owners, Missing> {
    let Some(address) = run.input.sender_address() else { return Ok(Owners::Nobody) };
    let main = &run.plan.main;
    let is_local = run.facts.class(address.domain())? == Classified::Class(DomainClass::Local);
    let keys = map_keys(address, Delimiters::of(main), is_local);
    match search(&main.smtpd_sender_login_maps, &keys, run.facts.tables(), run.facts.remote()) {
        Search::Found { found, .. } => {
            let names = found.value.split([',', ' ', '\t']).filter(|name| !name.is_empty());
            let names = names.map(str::to_owned).collect();
            run.lookups.push(record(&found));
            Ok(Owners::These(names))
        }
        Search::NotFound => Ok(Owners::Nobody),
        Search::Temporary(why) => Ok(Owners::Unavailable(why)),
        Search::Missing(query) => Err(Missing(Question::Table(query))),
    }
}

fn refuse(run: &Run<'_>, why: &str) -> Effect {
    let subject = Subject::of(Stage::Sender, run.input);
    Effect::Refuse(subject.refuse(553, (7, 1), why))
}
