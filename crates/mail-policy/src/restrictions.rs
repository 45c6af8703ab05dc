//! The restrictions: one table of names, one function each.

mod address;
mod client;
mod helo;
mod login;
mod names;
mod relay;
mod simple;

use mail_config::main_cf::lists::{BARE_TABLE, Rule};

use crate::access;
use crate::evaluate::Run;
use crate::facts::Missing;
use crate::plan::Stage;
use crate::replies::configuration_error;
use crate::unlisted;
use crate::verdict::Effect;

/// What a rule came to.
pub(crate) enum Applied {
    /// It decided, or not.
    Effect(Effect),
    /// It names other rules, which run in its place.
    Rules(Vec<Rule>),
}

impl From<Effect> for Applied {
    fn from(effect: Effect) -> Self {
        Self::Effect(effect)
    }
}

type Restriction = fn(&mut Run<'_>) -> Result<Effect, Missing>;

/// Every restriction without an argument that is built. The old names of Postfix 1 are the same restrictions.
const BUILT: [(&str, Restriction); 37] = [
    ("permit", simple::permit),
    ("reject", simple::reject),
    ("defer", simple::defer),
    ("defer_if_permit", simple::defer_if_permit),
    ("defer_if_reject", simple::defer_if_reject),
    ("permit_mynetworks", client::permit_mynetworks),
    ("permit_inet_interfaces", client::permit_inet_interfaces),
    ("permit_sasl_authenticated", login::permit_sasl_authenticated),
    ("permit_auth_destination", relay::permit_auth_destination),
    ("reject_unauth_destination", relay::reject_unauth_destination),
    ("defer_unauth_destination", relay::defer_unauth_destination),
    ("reject_unlisted_recipient", unlisted::recipient),
    ("check_recipient_maps", unlisted::recipient),
    ("reject_unlisted_sender", unlisted::sender),
    ("reject_unauth_pipelining", simple::reject_unauth_pipelining),
    ("reject_plaintext_session", simple::reject_plaintext_session),
    ("reject_multi_recipient_bounce", simple::reject_multi_recipient_bounce),
    ("reject_invalid_helo_hostname", helo::reject_invalid),
    ("reject_invalid_hostname", helo::reject_invalid),
    ("reject_non_fqdn_helo_hostname", helo::reject_non_fqdn),
    ("reject_non_fqdn_hostname", helo::reject_non_fqdn),
    ("reject_unknown_helo_hostname", helo::reject_unknown),
    ("reject_unknown_hostname", helo::reject_unknown),
    ("reject_unknown_client_hostname", client::reject_unknown),
    ("reject_unknown_client", client::reject_unknown),
    ("reject_unknown_reverse_client_hostname", client::reject_unknown_reverse),
    ("reject_non_fqdn_sender", address::reject_non_fqdn_sender),
    ("reject_non_fqdn_recipient", address::reject_non_fqdn_recipient),
    ("reject_unknown_sender_domain", address::reject_unknown_sender_domain),
    ("reject_unknown_address", address::reject_unknown_sender_domain),
    ("reject_unknown_recipient_domain", address::reject_unknown_recipient_domain),
    ("reject_sender_login_mismatch", login::reject_mismatch),
    ("reject_authenticated_sender_login_mismatch", login::reject_authenticated_mismatch),
    ("reject_unauthenticated_sender_login_mismatch", login::reject_unauthenticated_mismatch),
    ("reject_known_sender_login_mismatch", login::reject_known_mismatch),
    ("permit_naked_ip_address", simple::not_built_any_more),
    ("reject_warning", simple::neutral),
];

/// The access checks that are built, and what each looks up.
const CHECKS: [(&str, Stage); 4] = [
    ("check_client_access", Stage::Client),
    ("check_helo_access", Stage::Helo),
    ("check_sender_access", Stage::Sender),
    ("check_recipient_access", Stage::Recipient),
];

/// Whether a restriction is built; `check` and `explain` say so of each line.
pub(crate) fn is_built(rule: &Rule) -> bool {
    rule.name == BARE_TABLE
        || BUILT.iter().any(|(name, _)| *name == rule.name)
        || CHECKS.iter().any(|(name, _)| *name == rule.name)
        || matches!(rule.name.as_str(), "check_sasl_access" | "check_reverse_client_hostname_access")
}

/// Applies one rule.
pub(crate) fn apply(run: &mut Run<'_>, rule: &Rule) -> Result<Applied, Missing> {
    if let Some((_, restriction)) = BUILT.iter().find(|(name, _)| *name == rule.name) {
        return restriction(run).map(Applied::Effect);
    }
    let Some(table) = &rule.table else {
        return Ok(not_built(rule).into());
    };
    // A table alone means the check of its list (DESIGN section 5).
    let checked = if rule.name == BARE_TABLE {
        Some(run.stage)
    } else {
        CHECKS.iter().find(|(name, _)| *name == rule.name).map(|(_, stage)| *stage)
    };
    match (checked, rule.name.as_str()) {
        (Some(stage), _) => access::check(run, table, stage),
        (None, "check_sasl_access") => access::check_sasl(run, table),
        (None, "check_reverse_client_hostname_access") => access::check_reverse_client(run, table),
        (None, _) => Ok(not_built(rule).into()),
    }
}

/// Fail closed: what is not built refuses for now, and says which restriction it was in the log.
fn not_built(rule: &Rule) -> Effect {
    Effect::Refuse(configuration_error(&rule.name))
}
