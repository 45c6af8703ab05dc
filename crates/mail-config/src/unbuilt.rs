//! What the files hold beyond what is built: one line per parameter, with its effect.

use std::collections::BTreeSet;

use crate::config::Config;
use crate::dovecot;
use crate::main_cf::catalogue::{self, Effect};
use crate::main_cf::names::Names;
use crate::main_cf::reference::REFERENCE;
use crate::main_cf::{Entry, PARAMETERS, TRANSPORT_PARAMETERS};
use crate::master_cf::{Service, TransportKind};
use crate::report::{Level, Report, Status, nearest};

/// Reports every written parameter of main.cf and of the overrides in master.cf, and what dovecot.conf holds beyond us.
pub(crate) fn report(config: &Config, reports: &mut Vec<Report>) {
    let raw = config.main.raw();
    let overrides = || config.master.services.iter().flat_map(|service| &service.overrides);
    let unread: Vec<&Entry> = config
        .master
        .services
        .iter()
        .filter(|service| !reads_overrides(service))
        .flat_map(|service| &service.overrides)
        .collect();
    let names = Names::of(raw, &config.master.services);
    let without: BTreeSet<&str> = config.main.postrider_run_without.iter().map(String::as_str).collect();
    for entry in raw.entries.values().chain(overrides()) {
        let value = raw.expand(&entry.value).unwrap_or_default();
        let found = match (declared(&entry.name), catalogue::find(&entry.name)) {
            (Some(_), _) if unread.iter().any(|other| std::ptr::eq(*other, entry)) => {
                let same = config.main.expanded(&entry.name).is_some_and(|known| known.trim() == value.trim());
                let unused = config.master.services.iter().any(|service| {
                    !is_used(service, config) && service.overrides.iter().any(|other| std::ptr::eq(other, entry))
                });
                not_read(entry, same || unused, without.contains(entry.name.as_str()))
            }
            (Some(partly), _) => supported(entry, partly),
            (None, Some(unbuilt)) => {
                let default = raw.expand(unbuilt.default()).unwrap_or_default();
                not_built(entry, unbuilt, value.trim() == default.trim(), without.contains(entry.name.as_str()))
            }
            (None, None) if names.class(&entry.name).is_some() => supported(entry, None),
            (None, None) => match transport_of(&entry.name) {
                Some(transport) => of_transport(entry, transport, config),
                None => unknown(entry),
            },
        };
        reports.push(found);
    }
    dovecot::catalogue::report(&config.dovecot, &config.main.postrider_run_without, reports);
}

/// Whether we read the `-o` of a line: those of listeners, of local submission and of transports that deliver.
fn reads_overrides(service: &Service) -> bool {
    use TransportKind::{Lmtp, Local, Smtp, Virtual};
    matches!(service.command.as_str(), "smtpd" | "pickup")
        || matches!(service.transport(), Some(Smtp | Lmtp | Local | Virtual))
}

/// Whether mail would pass a program of this line: it has the name that the others know, or one of them is told to use it.
fn is_used(service: &Service, config: &Config) -> bool {
    let name = service.name.as_str();
    let known = match service.command.as_str() {
        "cleanup" => name == "cleanup",
        "qmgr" => name == "qmgr",
        "trivial-rewrite" => name == "rewrite",
        "bounce" => matches!(name, "bounce" | "defer" | "trace"),
        _ => true,
    };
    let readers = config.master.services.iter().filter(|service| reads_overrides(service));
    let mut entries = config.main.raw().entries.values().chain(readers.flat_map(|service| &service.overrides));
    known || entries.any(|entry| entry.name.ends_with("_service_name") && entry.value.trim() == name)
}

/// What changes no more than a log line, so that nothing is lost where a line's own value is not read.
const HARMLESS: [&str; 3] = ["syslog_name", "delay_logging_resolution_limit", "maillog_file"];

/// A parameter that main.cf may have, in a line whose program has no counterpart of its own: the value of main.cf holds.
fn not_read(entry: &Entry, is_same: bool, without: bool) -> Report {
    let name = &entry.name;
    let about = |level, what: &str, hint: String| {
        entry.report_name(level, format!("{name}: {what}"), hint).about(name, Status::NoEffect)
    };
    let own = "the value of main.cf holds: the programs of this line are no daemons of their own here";
    match (is_same || HARMLESS.contains(&name.as_str()), without) {
        (true, _) => about(Level::Note, "no effect", own.to_owned()),
        (false, true) => {
            about(Level::Warning, "not read here, run without as postrider_run_without says", own.to_owned())
        }
        (false, false) => {
            let hint = format!("{own}; write it into main.cf, or `postrider_run_without = {name}' to run without it");
            about(Level::Error, "not read in this line of master.cf", hint)
        }
    }
}

/// Whether the table declares the name, and what is missing of it.
fn declared(name: &str) -> Option<Option<&'static str>> {
    PARAMETERS.iter().find(|parameter| parameter.name == name).map(|parameter| parameter.partly)
}

fn supported(entry: &Entry, partly: Option<&str>) -> Report {
    let (status, what, hint) = match partly {
        None => (Status::Supported, "supported", String::new()),
        Some(missing) => (Status::Partly, "partly supported", missing.to_owned()),
    };
    entry.report_name(Level::Note, format!("{}: {what}", entry.name), hint).about(&entry.name, status)
}

fn not_built(entry: &Entry, unbuilt: &catalogue::Unbuilt, is_default: bool, without: bool) -> Report {
    let name = &entry.name;
    let note = unbuilt.note.to_owned();
    let status = if unbuilt.step.is_some() { Status::Later } else { Status::NoEffect };
    let about = |level, what: &str, hint| entry.report_name(level, format!("{name}: {what}"), hint);
    let report = match unbuilt.effect {
        _ if is_default => about(Level::Note, "no effect, it is the default", note),
        Effect::Reported if unbuilt.step.is_none() => about(Level::Note, "no effect", note),
        Effect::Reported => about(Level::Warning, "no effect", note),
        Effect::Stricter => about(Level::Warning, "not built, acts stricter", note),
        Effect::Stops if without => about(Level::Warning, "not built, run without as postrider_run_without says", note),
        Effect::Stops => {
            let hint = format!("{note}; write `postrider_run_without = {name}' to run without it");
            about(Level::Error, "not built", hint)
        }
    };
    report.about(name, status)
}

fn of_transport(entry: &Entry, transport: &str, config: &Config) -> Report {
    if config.master.services.iter().any(|service| service.name == transport) {
        return supported(entry, None);
    }
    let hint = format!("master.cf has no service `{transport}'");
    entry.report_name(Level::Note, format!("{}: no effect", entry.name), hint).about(&entry.name, Status::NoEffect)
}

fn unknown(entry: &Entry) -> Report {
    let names = PARAMETERS.iter().map(|p| p.name).chain(REFERENCE.iter().map(|known| known.name));
    let hint = match nearest(&entry.name, names) {
        Some(near) => format!("did you mean `{near}'?"),
        None => "it has no effect".to_owned(),
    };
    let message = format!("unknown parameter `{}'", entry.name);
    entry.report_name(Level::Warning, message, hint).about(&entry.name, Status::Unknown)
}

/// The transport whose own parameter a name is, such as `slow` of `slow_destination_rate_delay`.
fn transport_of(name: &str) -> Option<&str> {
    let suffixes = TRANSPORT_PARAMETERS.iter().map(|(suffix, _)| suffix);
    suffixes.filter_map(|suffix| name.strip_suffix(suffix)).find(|transport| !transport.is_empty())
}
