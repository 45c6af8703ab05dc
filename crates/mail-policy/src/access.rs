//! Access tables: which keys are asked, and what their answers mean (`access(5)`).

use mail_config::Main;
use mail_config::main_cf::kinds::{Context, Kind as _};
use mail_config::main_cf::lists::{Restrictions, Rule, TableKind, TableRef};
use mail_types::{Address, EnhancedStatus, Reply, ReplyCode, Sender, Severity};

use crate::evaluate::Run;
use crate::facts::{Missing, TableFact};
use crate::networks::lookup;
use crate::plan::Stage;
use crate::replies::{Subject, configuration_error, refusal};
use crate::restrictions::Applied;
use crate::verdict::Effect;

/// Asks a table what its stage judges.
pub(crate) fn check(run: &mut Run<'_>, table: &TableRef, stage: Stage) -> Result<Applied, Missing> {
    let keys = match stage {
        Stage::Client => client_keys(run, run.input.name.verified.as_deref(), table),
        Stage::Helo => run.input.helo.map(|name| domain_keys(name, &run.plan.main)).unwrap_or_default(),
        Stage::Sender => match run.input.sender {
            Some(Sender::Address(address)) => keys_of(address, &run.plan.main, table),
            Some(Sender::Null) => vec![run.plan.main.smtpd_null_access_lookup_key.value.clone()],
            None => Vec::new(),
        },
        Stage::Recipient => run.input.recipient.map(|a| keys_of(a, &run.plan.main, table)).unwrap_or_default(),
        // DATA and END-OF-MESSAGE have no key of their own.
        Stage::Data | Stage::EndOfData => return Ok(Effect::Refuse(configuration_error(&table.to_string())).into()),
    };
    let subject = Subject::of(stage, run.input);
    let fact = first_answer(run, table, &keys)?;
    answer(run, fact, &subject)
}

/// `check_sasl_access`: the key is the login.
pub(crate) fn check_sasl(run: &mut Run<'_>, table: &TableRef) -> Result<Applied, Missing> {
    let Some(user) = run.input.user else { return Ok(Effect::Neutral.into()) };
    let subject = Subject { name: user.to_owned(), class: "SASL login name", status: (7, 1) };
    let fact = first_answer(run, table, &[user.to_owned()])?;
    answer(run, fact, &subject)
}

/// `check_reverse_client_hostname_access`: the reverse name, verified or not.
pub(crate) fn check_reverse_client(run: &mut Run<'_>, table: &TableRef) -> Result<Applied, Missing> {
    let keys = client_keys(run, run.input.name.reverse.as_deref(), table);
    let name = run.input.name.reverse.clone().unwrap_or_else(|| "unknown".to_owned());
    let subject = Subject { name, class: "Unverified Client host", status: (7, 1) };
    let fact = first_answer(run, table, &keys)?;
    answer(run, fact, &subject)
}

/// The answer to the first key that the table knows.
pub(crate) fn first_answer(run: &mut Run<'_>, table: &TableRef, keys: &[String]) -> Result<TableFact, Missing> {
    for key in keys {
        let fact = run.facts.table(table, key)?;
        run.lookups.push(lookup(table.to_string(), key.clone(), &fact));
        if fact != TableFact::Nothing {
            return Ok(fact);
        }
    }
    Ok(TableFact::Nothing)
}

/// Tables of patterns see the whole key once; tables of keys also its parts.
fn is_pattern_table(table: &TableRef) -> bool {
    matches!(table.kind, TableKind::Regexp | TableKind::Cidr)
}

fn client_keys(run: &Run<'_>, name: Option<&str>, table: &TableRef) -> Vec<String> {
    let address = run.input.client.to_string();
    if is_pattern_table(table) {
        return name.map(str::to_owned).into_iter().chain([address]).collect();
    }
    let mut keys = name.map(|name| domain_keys(name, &run.plan.main)).unwrap_or_default();
    keys.extend(address_prefixes(&address));
    keys
}

/// An address and the networks around it: `192.0.2.1`, `192.0.2`, `192.0`, `192`; with colons for IPv6.
fn address_prefixes(address: &str) -> Vec<String> {
    let separator = if address.contains(':') { ':' } else { '.' };
    let mut keys = vec![address.to_owned()];
    let mut rest = address;
    while let Some((head, _)) = rest.rsplit_once(separator) {
        rest = head.trim_end_matches(separator);
        if !rest.is_empty() {
            keys.push(rest.to_owned());
        }
    }
    keys
}

/// A name and its parents: as `parent` where `parent_domain_matches_subdomains` has `smtpd_access_maps`, else as `.parent`.
fn domain_keys(name: &str, main: &Main) -> Vec<String> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let plain = main.parent_domain_matches_subdomains.iter().any(|word| word == "smtpd_access_maps");
    let mut keys = vec![name.clone()];
    let mut rest = name.as_str();
    while let Some((_, parent)) = rest.split_once('.') {
        keys.push(if plain { parent.to_owned() } else { format!(".{parent}") });
        rest = parent;
    }
    keys
}

fn keys_of(address: &Address, main: &Main, table: &TableRef) -> Vec<String> {
    if is_pattern_table(table) {
        return vec![address.to_string().to_lowercase()];
    }
    address_keys(address, main, true)
}

/// The keys of an address: `user+ext@domain`, `user@domain`, the domain (with `parents` also its parents), `user+ext@`, `user@`.
pub(crate) fn address_keys(address: &Address, main: &Main, parents: bool) -> Vec<String> {
    let (local, domain) = (address.local().to_lowercase(), address.domain().key());
    let bare = without_extension(&local, &main.recipient_delimiter);
    let locals: Vec<&str> = std::iter::once(local.as_str()).chain(bare).collect();
    let mut keys: Vec<String> = locals.iter().map(|local| format!("{local}@{domain}")).collect();
    if parents {
        keys.extend(domain_keys(&domain, main));
        keys.extend(locals.iter().map(|local| format!("{local}@")));
    } else {
        keys.extend(locals.iter().map(|local| (*local).to_owned()));
        keys.push(format!("@{domain}"));
    }
    keys
}

fn without_extension<'a>(local: &'a str, delimiters: &str) -> Option<&'a str> {
    let at = local.find(|c| delimiters.contains(c)).filter(|&at| at > 0)?;
    Some(&local[..at])
}

/// What a table's answer means.
fn answer(run: &Run<'_>, fact: TableFact, subject: &Subject) -> Result<Applied, Missing> {
    Ok(match fact {
        TableFact::Nothing => Effect::Neutral.into(),
        TableFact::Unavailable(_) => {
            Effect::Refuse(refusal(451, (3, 5), format!("<{}>: Server configuration error", subject.name))).into()
        }
        TableFact::Found { value, .. } => action(run, value.trim(), subject),
    })
}

fn action(run: &Run<'_>, value: &str, subject: &Subject) -> Applied {
    let (word, text) = value.split_once([' ', '\t']).map_or((value, ""), |(word, text)| (word, text.trim()));
    let main = &run.plan.main;
    let or = |default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
    let effect = match word.to_ascii_uppercase().as_str() {
        "OK" => Effect::Permit,
        "DUNNO" => Effect::Neutral,
        "REJECT" => Effect::Refuse(with_text(subject, *main.access_map_reject_code, &or("Access denied"))),
        "DEFER" => Effect::Refuse(with_text(subject, *main.access_map_defer_code, &or("Access denied"))),
        "DEFER_IF_PERMIT" if !text.is_empty() => Effect::DeferIfPermit(with_text(subject, 450, text)),
        "DEFER_IF_REJECT" if !text.is_empty() => Effect::DeferIfReject(with_text(subject, 450, text)),
        "HOLD" => Effect::Hold,
        "WARN" | "INFO" => Effect::Log(or("triggers an access table")),
        // What changes where mail goes, and is not built, is never a yes.
        "FILTER" | "REDIRECT" | "BCC" | "PREPEND" | "DISCARD" => Effect::Refuse(configuration_error(word)),
        _ => return number_or_rules(run, word, text, value, subject),
    };
    effect.into()
}

/// `4NN text`, `5NN text`, all digits (yes), or a list of restrictions.
fn number_or_rules(run: &Run<'_>, word: &str, text: &str, value: &str, subject: &Subject) -> Applied {
    if !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit()) {
        let code = word.parse::<u16>().ok().filter(|code| word.len() == 3 && (400..600).contains(code));
        return match code {
            Some(code) => Effect::Refuse(with_text(subject, u64::from(code), text)).into(),
            None => Effect::Permit.into(),
        };
    }
    match rules(run, value) {
        Some(rules) => Applied::Rules(rules),
        None => Effect::Refuse(configuration_error(word)).into(),
    }
}

/// Restrictions in the place of an action. Each must be a name that is built, or a class.
fn rules(run: &Run<'_>, value: &str) -> Option<Vec<Rule>> {
    let default_table = run.plan.main.default_database_type.as_str();
    let mut context = Context { default: "", written: true, run_without: &[], default_table, warnings: Vec::new() };
    let rules = Restrictions::parse(value, &mut context).ok()?;
    let known = |rule: &Rule| run.plan.classes.contains_key(&rule.name) || crate::restrictions::is_built(rule);
    (!rules.is_empty() && rules.iter().all(known)).then_some(rules)
}

/// A refusal whose text may begin with an enhanced status of its own.
fn with_text(subject: &Subject, code: u64, text: &str) -> Reply {
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    let Ok(status) = first.parse::<EnhancedStatus>() else {
        return subject.refuse(code, if text.is_empty() { "Access denied" } else { text });
    };
    let mut reply = subject.refuse(code, if rest.is_empty() { "Access denied" } else { rest.trim() });
    reply.status = Some(status.with_severity(severity(reply.code)));
    reply
}

fn severity(code: ReplyCode) -> Severity {
    code.severity()
}
