//! `postrider explain`: what the mail system would do with a message, and why, without sending one.
//!
//! The session is the machine of `mail-smtp` with the settings of the listener; restrictions, rewriting, routing and the end on this machine
//! are the functions that smtpd, queue-manager and local-delivery call. Nothing is changed, nothing is sent; DNS is asked unless
//! `--no-dns` says otherwise, and users of authd, or where that is away of the same files.

mod case;
pub mod cases;
mod changes;
mod explanation;
mod header;
mod intake;
mod journey;
mod local;
mod log;
mod queued;
mod session;
mod setting;
mod submission;
mod text;
mod users;
mod verification;
mod why_not;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use mail_config::Config;
use mail_policy::VerifiedFact;
use serde::Serialize;

use crate::arguments::{Grammar, Parsed};
use crate::exit::{CONFIGURATION, Failure, Outcome, SOFTWARE, USAGE};
use crate::system::directory;
use crate::terminal::print;
use case::Case;
use explanation::{Alternative, Explanation, Listener, Outcome as Answered};
use setting::{Outside, Setting};
use text::shown;
use why_not::WhyNot;

const USAGE_TEXT: &str = "usage: explain --client IP --helo NAME {--from ADDRESS --to ADDRESS ... | --command 'VRFY ADDRESS' | --command 'ETRN DOMAIN'} \
                          [--name NAME] [--auth USER] [--tls] [--port PORT | --service NAME] [--size N] [--header 'NAME: VALUE' ...] [--no-dns] [--json] \
                          [--why-not[=OUTCOME]] [-c DIR] [--dovecot FILE], or \
                          explain --local [--user NAME] [--from ADDRESS] --to ADDRESS ... [the same]";

/// What stands in for DNS where it is not asked.
const SUPPOSED: &str = "DNS was not asked: the client is supposed to have the name that --name gives, else none, and every other name to exist";

const GRAMMAR: Grammar = Grammar {
    letters: "c:D:i:n:h:f:t:a:sp:z:H:lu:C:NjW::",
    long: &[
        ("dovecot", 'D'),
        ("client", 'i'),
        ("name", 'n'),
        ("helo", 'h'),
        ("from", 'f'),
        ("to", 't'),
        ("auth", 'a'),
        ("tls", 's'),
        ("port", 'p'),
        ("service", 'p'),
        ("size", 'z'),
        ("header", 'H'),
        ("local", 'l'),
        ("user", 'u'),
        ("command", 'C'),
        ("no-dns", 'N'),
        ("json", 'j'),
        ("why-not", 'W'),
    ],
};

/// The explanation and what would change it, as `--json` writes it.
#[derive(Serialize)]
struct Written<'a> {
    /// The version of this format; it grows when a field changes its meaning.
    version: u32,
    #[serde(flatten)]
    explanation: &'a Explanation,
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not: Option<&'a WhyNot>,
}

/// Runs the command.
///
/// # Errors
/// 64 for a wrong command line, 78 for wrong files. Else 0, whatever becomes of the message.
pub fn run(arguments: &[OsString]) -> Outcome {
    let arguments = with_command(with_detached_value(arguments));
    let usage = |error: &dyn std::fmt::Display| Failure::new(USAGE, format!("{error}; {USAGE_TEXT}"));
    let parsed = GRAMMAR.parse(&arguments).map_err(|error| usage(&error))?;
    if let Some(operand) = parsed.operands.first() {
        return Err(usage(&format!("`{}' belongs to no option", shown(&operand.to_string_lossy()))));
    }
    let case = case_of(&parsed).map_err(|error| usage(&error))?;
    let wanted = wanted(&parsed).map_err(|error| usage(&error))?;
    let config = load(&parsed)?;
    let setting = Setting::new(Arc::new(config), &BTreeMap::new());
    if case.local.is_none() {
        setting.listener(case.service.as_deref()).map_err(|error| Failure::new(USAGE, error))?;
    }
    let runtime = runtime()?;
    let outside = runtime.block_on(async { Outside::new(&setting.config, !parsed.has('N')) });
    let mut found = runtime.block_on(explain(&setting, &outside, &case)).map_err(|error| Failure::new(USAGE, error))?;
    found.notes.extend(remarks(&setting, &found));
    let ways = wanted.map(|wanted| runtime.block_on(why_not::search(&setting, &outside, &found, wanted)));
    if parsed.has('j') {
        let written = Written { version: 2, explanation: &found, why_not: ways.as_ref() };
        let json = decision::ascii_json(&written).map_err(|error| Failure::new(SOFTWARE, error.to_string()))?;
        print(&format!("{json}\n"))?;
    } else {
        let ways = ways.as_ref().map_or_else(String::new, text::why_not);
        print(&format!("{}{ways}", text::explanation(&found)))?;
    }
    Ok(0)
}

/// `--why-not accept` as `--why-not=accept`: its value may be left out, so the grammar wants it in the word.
fn with_detached_value(arguments: &[OsString]) -> Vec<OsString> {
    let mut joined: Vec<OsString> = Vec::new();
    for word in arguments {
        let known = word.to_str().is_some_and(|word| Answered::of(word).is_some());
        match joined.last_mut() {
            Some(last) if known && last == "--why-not" => {
                last.push("=");
                last.push(word);
            }
            _ => joined.push(word.clone()),
        }
    }
    joined.iter().map(|word| if word == "--why-not" { OsString::from("-W") } else { word.clone() }).collect()
}

/// `--command VRFY john` as `--command 'VRFY john'`.
fn with_command(arguments: Vec<OsString>) -> Vec<OsString> {
    let mut joined: Vec<OsString> = Vec::new();
    let mut words = arguments.into_iter().peekable();
    while let Some(word) = words.next() {
        let is_value = joined.last().is_some_and(|last| last == "--command");
        let is_verb =
            word.to_str().is_some_and(|word| ["VRFY", "ETRN"].iter().any(|verb| word.eq_ignore_ascii_case(verb)));
        let object = words.next_if(|next| is_value && is_verb && !next.to_string_lossy().starts_with("--"));
        joined.push(match object {
            Some(object) => [word, object].join(std::ffi::OsStr::new(" ")),
            None => word,
        });
    }
    joined
}

/// What is wrong with the tables that were asked.
fn remarks(setting: &Setting, found: &Explanation) -> Vec<String> {
    let rules = found.steps.iter().flat_map(|step| &step.rules);
    let asked: String = rules.map(|rule| format!("{} ", rule.rule)).collect();
    let about = |report: &&String| {
        let file = report.split(':').next().unwrap_or_default();
        file.starts_with('/') && asked.contains(file)
    };
    setting.reports.iter().filter(about).cloned().collect()
}

/// A runtime for the questions to name servers.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| Failure::new(SOFTWARE, error.to_string()))
}

fn load(parsed: &Parsed) -> Result<Config, Failure> {
    let loaded = Config::load(&directory(parsed.last('c')), parsed.last('D').map(Path::new));
    loaded.map(|loaded| loaded.config).map_err(|errors| Failure::new(CONFIGURATION, errors.to_string()))
}

fn case_of(parsed: &Parsed) -> Result<Case, String> {
    let text = |option| match parsed.last(option) {
        None => Ok(None),
        Some(value) => match value.to_str() {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(format!("`{}' is no UTF-8", shown(&value.to_string_lossy()))),
        },
    };
    let needed = |option, name: &str| text(option)?.ok_or_else(|| format!("--{name} is missing"));
    let all = |option| {
        let given = parsed.options.iter().filter(move |given| given.option == option);
        given.map(|given| match given.argument.as_deref().and_then(std::ffi::OsStr::to_str) {
            Some(text) => Ok(text.to_owned()),
            None => Err(format!("`{}' is no UTF-8", shown(&given.text()))),
        })
    };
    let command = text('C')?.map(|text| case::Command::of(&text)).transpose()?;
    let local = local_user(parsed.has('l'), text('u')?)?;
    let to: Vec<String> = all('t').map(|to| to.map(|to| case::bare(&to))).collect::<Result<_, _>>()?;
    let sends = command.is_none();
    let case = Case {
        client: if local.is_some() { case::LOOPBACK } else { case::client(&needed('i', "client")?)? },
        name: text('n')?,
        helo: if local.is_some() { text('h')?.unwrap_or_default() } else { needed('h', "helo")? },
        from: match &local {
            Some(user) => text('f')?.map_or_else(|| user.clone(), |from| case::bare(&from)),
            None if sends => case::bare(&needed('f', "from")?),
            None => String::new(),
        },
        to: if sends { to } else { Vec::new() },
        auth: text('a')?,
        tls: parsed.has('s'),
        service: text('p')?,
        size: text('z')?
            .map(|size| size.parse().map_err(|_| "--size needs a number of octets".to_owned()))
            .transpose()?,
        header: all('H').collect::<Result<_, _>>()?,
        local,
        command,
    };
    if sends && case.to.is_empty() {
        return Err("--to is missing".to_owned());
    }
    case.check()?;
    Ok(case)
}

/// Who hands mail in, where it is no client: the user that is named, else whoever asks.
fn local_user(local: bool, user: Option<String>) -> Result<Option<String>, String> {
    match (local, user) {
        (false, Some(_)) => Err("--user belongs to --local; a login of a client is --auth".to_owned()),
        (false, None) => Ok(None),
        (true, Some(user)) => Ok(Some(user)),
        (true, None) => {
            let uid = rustix::process::getuid().as_raw();
            let user = mail_posix::users::by_uid(uid).ok().flatten();
            user.map(|user| Some(user.name)).ok_or_else(|| "--local: name the --user; yours has no name".to_owned())
        }
    }
}

/// What `--why-not` asks for: an outcome; none inside: the opposite of what happens.
fn wanted(parsed: &Parsed) -> Result<Option<Option<Answered>>, String> {
    let Some(given) = parsed.options.iter().rfind(|given| given.option == 'W') else { return Ok(None) };
    match given.argument.as_ref().map(|word| word.to_string_lossy().into_owned()) {
        None => Ok(Some(None)),
        Some(word) => match Answered::of(&word) {
            Some(outcome) => Ok(Some(Some(outcome))),
            None => Err(format!("--why-not {}: accept, reject, defer, hold or discard", shown(&word))),
        },
    }
}

/// Who would be asked, and is not, since that leaves traces.
fn not_asked(steps: &[explanation::Step]) -> Vec<String> {
    let facts = steps.iter().flat_map(|step| &step.facts).filter(|fact| fact.from == verification::SUPPOSED);
    let words = |fact: &explanation::Fact| match fact.question.split(' ').next() {
        Some("policy" | "pause") => Some(format!("{} was not asked; supposed: {}", fact.question, fact.answer)),
        Some("deliverability") => {
            Some(format!("{}: nobody knows it yet, a probe will find it out; supposed: {}", fact.question, fact.answer))
        }
        _ => None,
    };
    facts.filter_map(words).collect()
}

/// The same case where addresses that nobody has verified yet turn out otherwise.
async fn alternatives(
    setting: &Setting,
    outside: &Outside,
    case: &Case,
    steps: &[explanation::Step],
) -> Vec<Alternative> {
    let facts = steps.iter().flat_map(|step| &step.facts);
    let mut open =
        facts.filter(|fact| fact.from == verification::SUPPOSED && fact.question.starts_with("deliverability"));
    let Ok(listener) = setting.listener(case.service.as_deref()) else { return Vec::new() };
    if open.next().is_none() {
        return Vec::new();
    }
    let others = [
        ("the probe finds it undeliverable", VerifiedFact::Undeliverable("what the probe was told".to_owned())),
        ("the probe has not ended in time", VerifiedFact::Deferred("Address verification in progress".to_owned())),
    ];
    let mut all = Vec::new();
    for (supposed, fact) in others {
        let session = session::run(setting, &outside.with_unverified(fact), listener, case).await;
        let session::Session { outcome, at, reply, .. } = session;
        all.push(Alternative { supposed: supposed.to_owned(), outcome, at, reply });
    }
    all
}

/// Explains one case.
///
/// # Errors
/// The case names no listener that there is.
pub async fn explain(setting: &Setting, outside: &Outside, case: &Case) -> Result<Explanation, String> {
    let (session, listener) = match &case.local {
        Some(user) => {
            let (service, source) = submission::service(setting);
            (submission::run(setting, outside, case, user).await, Listener { service, source, port: None })
        }
        None => {
            let listener = setting.listener(case.service.as_deref())?;
            let shown = Listener {
                service: listener.service.name.clone(),
                source: listener.service.source.to_string(),
                port: listener.addresses.first().map(std::net::SocketAddr::port),
            };
            (session::run(setting, outside, listener, case).await, shown)
        }
    };
    let mut notes = Vec::new();
    let of_dns =
        |fact: &explanation::Fact| fact.from == verification::SUPPOSED && !fact.question.starts_with("deliver");
    if !outside.ask_dns && session.steps.iter().any(|step| step.facts.iter().any(of_dns)) {
        notes.push(SUPPOSED.to_owned());
    }
    notes.extend(not_asked(&session.steps));
    let alternatives = if case.local.is_none() && outside.unverified == VerifiedFact::Deliverable {
        alternatives(setting, outside, case, &session.steps).await
    } else {
        Vec::new()
    };
    let mut found = Explanation {
        case: case.clone(),
        outcome: session.outcome,
        at: session.at,
        reply: session.reply,
        decided_by: session.decider,
        listener,
        steps: session.steps,
        sender: None,
        recipients: session.recipients,
        copies: Vec::new(),
        header: None,
        alternatives,
        log: session.log,
        notes,
    };
    if let Some(taken) = session.taken {
        queued::follow(setting, outside, taken, &mut found).await;
    }
    Ok(found)
}
