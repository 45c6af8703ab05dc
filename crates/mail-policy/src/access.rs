//! Access tables: which keys are asked, and what their answers mean here (`access(5)`).

use decision::Lookup;
use mail_config::main_cf::lists::TableRef;
use mail_tables::access::{self, Action, Refusal, Verdict as Answer};
use mail_tables::address::{Delimiters, Key, access_keys, domain_keys};
use mail_tables::{Found, Scope};
use mail_types::{Reply, Sender};

use crate::evaluate::Run;
use crate::facts::{Missing, Question};
use crate::plan::Stage;
use crate::replies::{Subject, configuration_error, refusal};
use crate::restrictions::{Applied, is_built};
use crate::verdict::Effect;

/// Asks a table what its stage judges.
pub(crate) fn check(run: &mut Run<'_>, table: &TableRef, stage: Stage) -> Result<Applied, Missing> {
    let subject = Subject::of(stage, run.input);
    let main = &run.plan.main;
    let parents = parents(run);
    let keys = match stage {
        Stage::Client => return check_client(run, table, run.input.name.verified.as_deref(), &subject),
        Stage::Helo => run.input.helo.map(|name| domain_keys(name, parents, Scope::Full)),
        Stage::Sender => run.input.sender.map(|sender| match sender {
            Sender::Address(address) => access_keys(address, Delimiters::of(main), parents),
            Sender::Null => vec![Key::full(main.smtpd_null_access_lookup_key.as_str())],
        }),
        Stage::Recipient => run.input.recipient.map(|address| access_keys(address, Delimiters::of(main), parents)),
        // DATA and END-OF-MESSAGE have no key of their own.
        Stage::Data | Stage::EndOfData => return Ok(Effect::Refuse(configuration_error(&table.to_string())).into()),
    };
    let answer = access::check(table, &keys.unwrap_or_default(), run.facts.tables(), run.facts.remote());
    judge(run, answer, &subject)
}

/// `check_sasl_access`: the key is the login.
pub(crate) fn check_sasl(run: &mut Run<'_>, table: &TableRef) -> Result<Applied, Missing> {
    let Some(user) = run.input.user else { return Ok(Effect::Neutral.into()) };
    let subject = Subject { name: user.to_owned(), class: "SASL login name", status: (7, 1) };
    let answer = access::check(table, &[Key::full(user)], run.facts.tables(), run.facts.remote());
    judge(run, answer, &subject)
}

/// `check_reverse_client_hostname_access`: the reverse name, verified or not.
pub(crate) fn check_reverse_client(run: &mut Run<'_>, table: &TableRef) -> Result<Applied, Missing> {
    let name = run.input.name.reverse.as_deref();
    let subject =
        Subject { name: name.unwrap_or("unknown").to_owned(), class: "Unverified Client host", status: (7, 1) };
    check_client(run, table, name, &subject)
}

fn check_client(
    run: &mut Run<'_>,
    table: &TableRef,
    name: Option<&str>,
    subject: &Subject,
) -> Result<Applied, Missing> {
    let (client, parents) = (run.input.client, parents(run));
    let name = name.unwrap_or("unknown");
    let answer = access::check_client(table, name, client, parents, run.facts.tables(), run.facts.remote());
    judge(run, answer, subject)
}

fn parents(run: &Run<'_>) -> bool {
    run.plan.main.parent_domain_matches_subdomains.iter().any(|word| word == "smtpd_access_maps")
}

/// A lookup for the record. Values of access tables are no secrets.
pub(crate) fn record(found: Found) -> Lookup {
    Lookup { table: found.table, key: found.key, value: Some(found.value), source: Some(found.source) }
}

fn judge(run: &mut Run<'_>, answer: Answer, subject: &Subject) -> Result<Applied, Missing> {
    match answer {
        Answer::NotFound => Ok(Effect::Neutral.into()),
        Answer::Missing(query) => Err(Missing(Question::Table(query))),
        Answer::Temporary(_) => {
            Ok(Effect::Refuse(refusal(451, (3, 5), format!("<{}>: Server configuration error", subject.name))).into())
        }
        Answer::Action { action, found, network_key } => {
            run.lookups.push(record(found));
            // A network key in a `hash:` table, which Postfix ignores, gives rights only where it is written for clients alone.
            if network_key && gives_rights(&action) && run.stage != Stage::Client {
                return Ok(Effect::Neutral.into());
            }
            Ok(carry_out(run, action, subject))
        }
    }
}

fn gives_rights(action: &Action) -> bool {
    matches!(action, Action::Ok | Action::Restrictions(_))
}

fn carry_out(run: &Run<'_>, action: Action, subject: &Subject) -> Applied {
    let main = &run.plan.main;
    let effect = match action {
        Action::Ok => Effect::Permit,
        Action::Dunno => Effect::Neutral,
        Action::Reject(what) => Effect::Refuse(refuse(subject, *main.access_map_reject_code, what)),
        Action::Defer(what) => Effect::Refuse(refuse(subject, *main.access_map_defer_code, what)),
        Action::DeferIfPermit(what) => Effect::DeferIfPermit(refuse(subject, 450, what)),
        Action::DeferIfReject(what) => Effect::DeferIfReject(refuse(subject, 450, what)),
        Action::Hold(text) => Effect::Hold(subject.hold(&text)),
        Action::Warn(text) => Effect::Log("warn", text),
        Action::Info(text) => Effect::Log("info", text),
        // What changes whether or where mail goes, and is not built, is never a yes.
        Action::Discard(_) => Effect::Refuse(configuration_error("DISCARD")),
        Action::Unbuilt(text) => Effect::Refuse(configuration_error(text.split_whitespace().next().unwrap_or("empty"))),
        Action::Restrictions(rules) => {
            let unknown = rules.iter().find(|rule| !run.plan.classes.contains_key(&rule.name) && !is_built(rule));
            match unknown {
                Some(rule) => Effect::Refuse(configuration_error(&rule.name)),
                None => return Applied::Rules(rules),
            }
        }
    };
    effect.into()
}

/// A refusal whose table may give code, status and text.
fn refuse(subject: &Subject, code: u64, what: Refusal) -> Reply {
    let code = what.code.map_or(code, |code| u64::from(code.get()));
    let mut reply = subject.refuse(code, if what.text.is_empty() { "Access denied" } else { &what.text });
    if let Some(status) = what.status {
        reply.status = Some(status.with_severity(reply.severity()));
    }
    reply
}
