//! The restrictions: one table of names, one function each.

mod address;
mod certificate;
mod client;
mod dns_list;
mod helo;
mod login;
mod mx_backup;
mod names;
mod policy_service;
mod relay;
mod servers;
mod simple;
mod verified;

use mail_config::main_cf::lists::{BARE_TABLE, Rule};
use mail_types::SourceLine;

use crate::access::{self, Yes};
use crate::evaluate::Run;
use crate::facts::Missing;
use crate::plan::Stage;
use crate::replies::{Subject, fail};
use crate::unlisted;
use crate::verdict::Effect;

pub(crate) use relay::is_routed;

/// What a rule came to.
pub(crate) enum Applied {
    /// It decided, or not.
    Effect(Effect),
    /// A table names other rules, which run in its place.
    Rules {
        rules: Vec<Rule>,
        /// The line of the table.
        source: SourceLine,
        /// What their yes is worth.
        yes: Yes,
        /// What refusals that name nothing of their own are about: what the table judged.
        subject: Subject,
    },
}

impl From<Effect> for Applied {
    fn from(effect: Effect) -> Self {
        Self::Effect(effect)
    }
}

type Restriction = fn(&mut Run<'_>) -> Result<Effect, Missing>;

/// Every restriction without an argument that is built. The old names of Postfix 1 are the same restrictions.
const BUILT: [(&str, Restriction); 42] = [
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
    ("permit_mx_backup", mx_backup::permit),
    ("permit_tls_clientcerts", certificate::permit_listed),
    ("permit_tls_all_clientcerts", certificate::permit_trusted),
    ("reject_maps_rbl", dns_list::reject_all),
    ("reject_unverified_sender", verified::reject_sender),
    ("reject_unverified_recipient", verified::reject_recipient),
    ("permit_naked_ip_address", simple::not_built_any_more),
];

type WithArgument = fn(&mut Run<'_>, &str) -> Result<Applied, Missing>;

/// Every restriction with an argument that is no table.
const WITH_ARGUMENT: [(&str, WithArgument); 11] = [
    ("reject_rbl_client", dns_list::reject_client),
    ("reject_rbl", dns_list::reject_client),
    ("permit_dnswl_client", dns_list::permit_client),
    ("reject_rhsbl_client", dns_list::reject_client_name),
    ("reject_rhsbl_reverse_client", dns_list::reject_reverse_client_name),
    ("permit_rhswl_client", dns_list::permit_client_name),
    ("reject_rhsbl_helo", dns_list::reject_helo),
    ("reject_rhsbl_sender", dns_list::reject_sender),
    ("reject_rhsbl_recipient", dns_list::reject_recipient),
    ("check_policy_service", policy_service::check),
    ("sleep", simple::sleep),
];

/// The access checks that are built, and what each looks up.
const CHECKS: [(&str, Stage); 5] = [
    ("check_client_access", Stage::Client),
    ("check_helo_access", Stage::Helo),
    ("check_sender_access", Stage::Sender),
    ("check_recipient_access", Stage::Recipient),
    ("check_etrn_access", Stage::Etrn),
];

/// Whether a restriction is built; `check` and `explain` say so of each line.
pub(crate) fn is_built(rule: &Rule) -> bool {
    let name = rule.name.as_str();
    name == BARE_TABLE
        || BUILT.iter().any(|(known, _)| *known == name)
        || WITH_ARGUMENT.iter().any(|(known, _)| *known == name)
        || CHECKS.iter().any(|(known, _)| *known == name)
        || servers::find(name).is_some()
        || matches!(name, "check_sasl_access" | "check_reverse_client_hostname_access" | "check_ccert_access")
}

/// Applies one rule.
pub(crate) fn apply(run: &mut Run<'_>, rule: &Rule) -> Result<Applied, Missing> {
    let name = rule.name.as_str();
    if let Some((_, restriction)) = BUILT.iter().find(|(known, _)| *known == name) {
        return restriction(run).map(Applied::Effect);
    }
    if let Some((_, restriction)) = WITH_ARGUMENT.iter().find(|(known, _)| *known == name) {
        return restriction(run, rule.argument.as_deref().unwrap_or_default());
    }
    let Some(table) = &rule.table else {
        return Ok(not_built(rule).into());
    };
    if let Some(check) = servers::find(name) {
        return servers::check(run, table, check);
    }
    // A table alone means the check of its list (DESIGN section 5).
    let checked = if name == BARE_TABLE {
        Some(run.stage)
    } else {
        CHECKS.iter().find(|(known, _)| *known == name).map(|(_, stage)| *stage)
    };
    match (checked, name) {
        (Some(stage), _) => access::check(run, table, stage),
        (None, "check_sasl_access") => access::check_sasl(run, table),
        (None, "check_reverse_client_hostname_access") => access::check_reverse_client(run, table),
        (None, "check_ccert_access") => certificate::check(run, table),
        (None, _) => Ok(not_built(rule).into()),
    }
}

/// Fail closed: what is not built refuses for now, and says which restriction it was in the log.
fn not_built(rule: &Rule) -> Effect {
    fail(format!("unknown restriction `{rule}'"))
}
