//! What the files hold beyond what is built: one line per parameter, with its effect.

use std::collections::BTreeSet;

use crate::config::Config;
use crate::dovecot;
use crate::expand;
use crate::main_cf::catalogue::{self, Effect};
use crate::main_cf::{Entry, PARAMETERS, TRANSPORT_PARAMETERS};
use crate::report::{Level, Report, nearest};

/// Reports every written parameter of main.cf and of the overrides in master.cf, and what dovecot.conf holds beyond us.
pub(crate) fn report(config: &Config, reports: &mut Vec<Report>) {
    let raw = config.main.raw();
    let overrides = || config.master.services.iter().flat_map(|service| &service.overrides);
    let known = user_defined(config);
    let without: BTreeSet<&str> = config.main.postrider_run_without.iter().map(String::as_str).collect();
    for entry in raw.entries.values().chain(overrides()) {
        let value = raw.expand(&entry.value).unwrap_or_default();
        let found = match (declared(&entry.name), catalogue::find(&entry.name)) {
            (Some(partly), _) => supported(entry, partly),
            (None, Some(unbuilt)) => {
                let default = raw.expand(unbuilt.default).unwrap_or_default();
                not_built(entry, unbuilt, value.trim() == default.trim(), without.contains(entry.name.as_str()))
            }
            (None, None) if known.contains(&entry.name) || is_transport_parameter(&entry.name) => {
                entry.report_name(Level::Note, format!("{}: supported", entry.name), String::new())
            }
            (None, None) => unknown(entry),
        };
        reports.push(found);
    }
    dovecot::catalogue::report(&config.dovecot, &config.main.postrider_run_without, reports);
}

/// Whether the table declares the name, and what is missing of it.
fn declared(name: &str) -> Option<Option<&'static str>> {
    PARAMETERS.iter().find(|parameter| parameter.name == name).map(|parameter| parameter.partly)
}

fn supported(entry: &Entry, partly: Option<&str>) -> Report {
    match partly {
        None => entry.report_name(Level::Note, format!("{}: supported", entry.name), String::new()),
        Some(what) => entry.report_name(Level::Note, format!("{}: partly supported", entry.name), what.to_owned()),
    }
}

fn not_built(entry: &Entry, unbuilt: &catalogue::Unbuilt, is_default: bool, without: bool) -> Report {
    let name = &entry.name;
    let note = unbuilt.note.to_owned();
    if is_default {
        return entry.report_name(Level::Note, format!("{name}: no effect, it is the default"), note);
    }
    match unbuilt.effect {
        Effect::Reported => entry.report_name(Level::Warning, format!("{name}: no effect"), note),
        Effect::Stricter => entry.report_name(Level::Warning, format!("{name}: not built, acts stricter"), note),
        Effect::Stops if without => entry.report_name(
            Level::Warning,
            format!("{name}: not built, run without as postrider_run_without says"),
            note,
        ),
        Effect::Stops => {
            let hint = format!("{note}; write `postrider_run_without = {name}' to run without it");
            entry.report_name(Level::Error, format!("{name}: not built"), hint)
        }
    }
}

fn unknown(entry: &Entry) -> Report {
    let names = PARAMETERS.iter().map(|p| p.name).chain(catalogue::UNBUILT.iter().map(|unbuilt| unbuilt.name));
    let hint = match nearest(&entry.name, names) {
        Some(near) => format!("did you mean `{near}'?"),
        None => "it has no effect".to_owned(),
    };
    entry.report_name(Level::Warning, format!("unknown parameter `{}'", entry.name), hint)
}

/// The names that the files themselves make parameters: those that values mention with `$`, and restriction classes.
fn user_defined(config: &Config) -> BTreeSet<String> {
    let raw = config.main.raw();
    let overrides = config.master.services.iter().flat_map(|service| &service.overrides);
    let arguments = config.master.services.iter().flat_map(|service| &service.arguments);
    let values = raw.entries.values().chain(overrides).map(|entry| &entry.value).chain(arguments);
    let mut names: BTreeSet<String> = values.flat_map(|value| expand::mentioned(value)).collect();
    names.extend(config.main.smtpd_restriction_classes.iter().cloned());
    names
}

fn is_transport_parameter(name: &str) -> bool {
    TRANSPORT_PARAMETERS.iter().any(|(suffix, _)| name.len() > suffix.len() && name.ends_with(suffix))
}
