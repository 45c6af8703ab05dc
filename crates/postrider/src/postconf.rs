//! `postconf`: what main.cf and master.cf say, and the defaults of what they do not; changes in main.cf.

mod edit;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Write as _;

use mail_config::main_cf::reference::REFERENCE;
use mail_config::main_cf::{PARAMETERS, RawMain};
use mail_config::{Config, Service};

use self::edit::{Edit, Edits};

use mail_tables::TableKind;

use crate::arguments::{Grammar, Parsed};
use crate::exit::{Failure, Outcome, UNAVAILABLE};
use crate::rewrite::rewrite;
use crate::system::System;
use crate::terminal::{complain, print};

const GRAMMAR: Grammar = Grammar::letters("aAbc:C:deEfFhHlmMno:pPtTvxX#");

/// How parameters are printed.
#[derive(Debug, Clone, Copy, Default)]
struct Look {
    values_only: bool,
    names_only: bool,
    expanded: bool,
    defaults: bool,
}

/// Runs the command.
///
/// # Errors
/// Wrong options (1), what is not built (69), wrong files (78).
pub fn run(arguments: &[OsString]) -> Outcome {
    let parsed = GRAMMAR.parse(arguments).map_err(|error| Failure::usage(error.to_string()))?;
    let unbuilt = "aAbCEFlPtTo";
    if let Some(given) = parsed.options.iter().find(|given| unbuilt.contains(given.option)) {
        return Err(Failure::new(UNAVAILABLE, format!("-{} is not supported", given.option)));
    }
    if let Some(edits) = edits(&parsed)? {
        let directory = crate::system::directory(parsed.last('c'));
        rewrite(&directory.join("main.cf"), |text| Some(edit::edited(text, &edits)))?;
        return Ok(0);
    }
    if parsed.has('m') {
        let mut types: Vec<&str> = TableKind::names().collect();
        types.sort_unstable();
        print(&(types.join("\n") + "\n"))?;
        return Ok(0);
    }
    let config = System::load(parsed.last('c'))?.config;
    let names: Vec<String> = parsed.operands.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    let text = if parsed.has('M') { services(&config, &names) } else { parameters(&config, &parsed, names) };
    print(&text)?;
    Ok(0)
}

/// The edits that the command line asks for: `-e`, `-#`, `-X`, and `NAME=VALUE` without any option, as postconf takes it.
fn edits(parsed: &Parsed) -> Result<Option<Edits>, Failure> {
    let asked: Vec<char> = "e#X".chars().filter(|option| parsed.has(*option)).collect();
    let assigns = parsed.operands.iter().any(|operand| operand.to_string_lossy().contains('='));
    let option = match (asked.as_slice(), assigns) {
        ([], false) => return Ok(None),
        ([], true) => 'e',
        ([option], _) => *option,
        ([first, second, ..], _) => return Err(Failure::usage(format!("specify one of -{first} -{second}"))),
    };
    if let Some(other) = parsed.options.iter().find(|given| "dmMnxhHfp".contains(given.option)) {
        if other.option == 'M' {
            return Err(Failure::new(UNAVAILABLE, "editing master.cf is not supported; use an editor"));
        }
        return Err(Failure::usage(format!("specify one of -{option} -{}", other.option)));
    }
    if parsed.operands.is_empty() {
        return Err(Failure::usage(format!(
            "-{option} requires name{} argument",
            if option == 'e' { "=value" } else { "" }
        )));
    }
    let words = parsed
        .operands
        .iter()
        .map(|operand| operand.to_str().ok_or_else(|| Failure::usage("an operand is not UTF-8 text")));
    let edit = |word: &str| match option {
        'X' => edit::name(word, Edit::Remove),
        '#' => edit::name(word, Edit::Comment),
        _ => edit::assignment(word),
    };
    words.map(|word| edit(word?)).collect::<Result<Edits, _>>().map(Some)
}

fn parameters(config: &Config, parsed: &Parsed, names: Vec<String>) -> String {
    let raw = config.main.raw();
    let look = Look {
        values_only: parsed.has('h'),
        names_only: parsed.has('H'),
        expanded: parsed.has('x'),
        defaults: parsed.has('d'),
    };
    let named = !names.is_empty();
    let names: Vec<String> = if named {
        names
    } else if parsed.has('n') {
        written(raw)
    } else {
        known(raw).into_iter().collect()
    };
    let mut out = String::new();
    for name in names {
        match line(raw, &name, look) {
            Some(line) => out.push_str(&line),
            None => complain(&format!("postconf: warning: {name}: unknown parameter")),
        }
    }
    out
}

/// The names that the file sets, and the configuration directory where it is not the usual one.
fn written(raw: &RawMain) -> Vec<String> {
    let known = known(raw);
    let mut names: BTreeSet<String> = BTreeSet::new();
    for entry in raw.entries.values() {
        if known.contains(&entry.name) {
            names.insert(entry.name.clone());
        } else {
            complain(&format!("postconf: warning: {}: unused parameter: {}={}", raw.file, entry.name, entry.value));
        }
    }
    if raw.directory != crate::system::DEFAULT_DIRECTORY {
        names.insert("config_directory".to_owned());
    }
    names.into_iter().collect()
}

/// Every name that means something: ours, Postfix's, and those that values of the file mention.
fn known(raw: &RawMain) -> BTreeSet<String> {
    let declared = PARAMETERS.iter().map(|parameter| parameter.name).chain(REFERENCE.iter().map(|known| known.name));
    let mentioned = raw.entries.values().flat_map(|entry| mail_config::expand::mentioned(&entry.value));
    let transports = raw.entries.keys().filter(|name| raw.default_of(name).is_some()).cloned();
    declared.map(str::to_owned).chain(mentioned).chain(transports).filter(|name| raw.lookup(name).is_some()).collect()
}

fn line(raw: &RawMain, name: &str, look: Look) -> Option<String> {
    let value = if look.defaults { raw.default_of(name)? } else { raw.lookup(name)? };
    if look.names_only {
        return Some(format!("{name}\n"));
    }
    let value = if look.expanded { raw.expand(&value).unwrap_or_default() } else { value.into_owned() };
    let gap = if value.is_empty() { "" } else { " " };
    Some(if look.values_only { format!("{value}\n") } else { format!("{name} ={gap}{value}\n") })
}

/// Lines of master.cf; `names` are `SERVICE` or `SERVICE/TYPE`, all where there are none.
fn services(config: &Config, names: &[String]) -> String {
    let wanted = |service: &Service| {
        let full = format!("{}/{}", service.name, service.kind);
        names.is_empty() || names.iter().any(|name| *name == service.name || *name == full)
    };
    config.master.services.iter().filter(|service| wanted(service)).map(service_line).collect()
}

fn service_line(service: &Service) -> String {
    let [private, unprivileged, chroot, wakeup] = &service.flags;
    let limit = service.maxproc.map_or_else(|| "-".to_owned(), |limit| limit.to_string());
    let mut out = format!(
        "{:<10} {:<5} {private:<7} {unprivileged:<7} {chroot:<7} {wakeup:<7} {limit:<7} {}",
        service.name,
        service.kind.to_string(),
        service.command
    );
    for entry in &service.overrides {
        let word = format!("{}={}", entry.name, entry.value);
        let _ = if word.contains(char::is_whitespace) {
            write!(out, " -o {{ {} = {} }}", entry.name, entry.value)
        } else {
            write!(out, " -o {word}")
        };
    }
    for argument in &service.arguments {
        let _ = write!(out, " {argument}");
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(main: &str, master: &str) -> (tempfile::TempDir, Config) {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("main.cf"), main).expect("written");
        std::fs::write(directory.path().join("master.cf"), master).expect("written");
        let config = Config::load(directory.path(), Some(Path::new("/dev/null"))).expect("good").config;
        (directory, config)
    }

    #[test]
    fn values_are_shown_as_written_expanded_or_default() {
        let (_directory, config) = config("mydomain = info.net\nmyorigin = $mydomain\nrelayhost =\n", "");
        let raw = config.main.raw();
        let show = |name, look| line(raw, name, look);
        assert_eq!(show("myorigin", Look::default()).as_deref(), Some("myorigin = $mydomain\n"));
        let expanded = Look { expanded: true, values_only: true, ..Look::default() };
        assert_eq!(show("myorigin", expanded).as_deref(), Some("info.net\n"));
        assert_eq!(show("relayhost", Look::default()).as_deref(), Some("relayhost =\n"));
        let defaults = Look { defaults: true, ..Look::default() };
        assert_eq!(show("myorigin", defaults).as_deref(), Some("myorigin = $myhostname\n"));
        assert_eq!(show("no_such", Look::default()), None);
        assert!(written(raw).contains(&"myorigin".to_owned()) && !written(raw).contains(&"mydestination".to_owned()));
    }

    #[test]
    fn services_are_shown_in_the_columns_of_postconf() {
        let (_directory, config) =
            config("", "smtp unix - - n - - smtp\nrelay unix - - n - 7 smtp\n  -o syslog_name=postfix/relay\n");
        assert_eq!(
            services(&config, &["smtp/unix".into()]),
            "smtp       unix  -       -       n       -       -       smtp\n"
        );
        assert_eq!(
            services(&config, &["relay".into()]),
            "relay      unix  -       -       n       -       7       smtp -o syslog_name=postfix/relay\n"
        );
    }
}
