//! `doveconf`: what dovecot.conf says (`-n`), that over Dovecot's defaults (`-a`), single settings by their path; and the refusal of what else goes by
//! Dovecot's names.

mod tree;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use mail_config::dovecot::reference;
use mail_config::dovecot::{self, Node};
use mail_config::{Level, Report};

use self::tree::{Look, Tree};
use crate::arguments::{Grammar, Parsed};
use crate::exit::{CONFIGURATION, Failure, Outcome, USAGE};
use crate::system::directory;
use crate::terminal::{complain, print};

const GRAMMAR: Grammar = Grammar { letters: "ac:dC:f:hm:nNPSwx", long: &[("config-dir", 'C')] };

/// Runs `doveconf`. `-c FILE` names dovecot.conf, as Dovecot's does.
///
/// # Errors
/// 64 for a wrong command line, 78 for a wrong file.
pub fn run(arguments: &[OsString]) -> Outcome {
    let parsed = GRAMMAR.parse(arguments).map_err(|error| Failure::new(USAGE, error.to_string()))?;
    let (defaults, templates) = (Tree::of(reference::defaults()), Tree::of(reference::templates()));
    let file = file(&parsed);
    let nodes = if parsed.has('d') { Vec::new() } else { read(&file)? };
    let written = Tree::of(&nodes).filtered(&parsed)?;
    let names: Vec<String> = parsed.operands.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    let brief = (parsed.has('n') || parsed.has('N')) && !parsed.has('a');
    let shown = if brief { written.beyond(&defaults, &templates) } else { written.over(&defaults, &templates) };
    let look = Look { secrets: parsed.has('P'), values_only: parsed.has('h'), simple: parsed.has('S') };
    let mut text = String::new();
    if names.is_empty() {
        if !look.simple {
            text.push_str(&heading(&file));
        }
        text.push_str(&shown.text(look));
    }
    for name in &names {
        let found = shown.part(name, look);
        if found.is_none() && !brief {
            complain(&format!("doveconf: Fatal: Unknown setting: {name}"));
        }
        text.push_str(&found.unwrap_or_default());
    }
    if parsed.has('x') {
        text = contents(&text);
    }
    print(&text)?;
    Ok(0)
}

/// The file: `-c`, else dovecot.conf beside main.cf, else Dovecot's own.
fn file(parsed: &Parsed) -> PathBuf {
    let beside = directory(parsed.last('C')).join("dovecot.conf");
    match parsed.last('c') {
        Some(named) => PathBuf::from(named),
        None if beside.exists() => beside,
        None => PathBuf::from("/etc/dovecot/dovecot.conf"),
    }
}

/// What stands in the file and in those that it includes. Types are not judged: `postrider check` does that.
fn read(file: &Path) -> Result<Vec<Node>, Failure> {
    let mut reports: Vec<Report> = Vec::new();
    let Some(nodes) = dovecot::parse_file(file, &mut reports) else {
        return Err(Failure::new(CONFIGURATION, format!("open({}) failed: No such file or directory", file.display())));
    };
    if let Some(report) = reports.iter().find(|report| report.level == Level::Error) {
        return Err(Failure::new(CONFIGURATION, format!("Error in configuration file {}", report.line())));
    }
    for report in &reports {
        complain(&format!("doveconf: Warning: {}", report.line()));
    }
    Ok(nodes)
}

impl Tree {
    /// What `-f protocol=imap`, `-f remote=ADDRESS` and so on leave.
    fn filtered(self, parsed: &Parsed) -> Result<Self, Failure> {
        let given = parsed.options.iter().filter(|given| given.option == 'f');
        let words: Vec<String> =
            given.map(|given| given.argument.clone().unwrap_or_default().to_string_lossy().into_owned()).collect();
        if words.is_empty() {
            return Ok(self);
        }
        let mut wanted = Vec::new();
        for word in &words {
            match word.split_once('=') {
                Some(("protocol" | "service", name)) => wanted.push(("protocol", name)),
                Some((kind @ ("local" | "remote" | "local_name"), name)) => wanted.push((kind, name)),
                _ => return Err(Failure::new(USAGE, format!("Unknown filter argument: {word}"))),
            }
        }
        Ok(self.within(&|kind, name| wanted.iter().any(|(of, value)| *of == kind && fits(kind, name, value))))
    }
}

/// Whether a filter holds for a session.
fn fits(kind: &str, name: &str, value: &str) -> bool {
    match kind {
        "protocol" => name.strip_prefix('!').map_or(name == value, |other| other != value),
        "local_name" => name.split_ascii_whitespace().any(|name| name.eq_ignore_ascii_case(value)),
        _ => match (name.parse::<ipnet::IpNet>(), value.parse::<std::net::IpAddr>()) {
            (Ok(net), Ok(address)) => net.contains(&address),
            _ => name == value,
        },
    }
}

/// Values that name a file (`</path`), replaced by what it holds.
fn contents(text: &str) -> String {
    let replaced = |line: &str| {
        let (name, path) = line.split_once(" = <")?;
        Some(format!("{name} = {}", std::fs::read_to_string(path.trim()).ok()?.trim_end()))
    };
    text.lines().map(|line| format!("{}\n", replaced(line).unwrap_or_else(|| line.to_owned()))).collect()
}

fn heading(file: &Path) -> String {
    let host = mail_config::Machine::read().hostname;
    let host = host.split('.').next().unwrap_or_default();
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let (version, release) = (env!("CARGO_PKG_VERSION"), release.trim());
    format!(
        "# postrider {version}: {}\n# OS: Linux {release} {}\n# Hostname: {host}\n",
        file.display(),
        std::env::consts::ARCH
    )
}

/// Runs `dovecot`: `-n` is `doveconf -n`; daemons are not started by this name.
///
/// # Errors
/// As [`run`]; 64 for anything but `-n` and `-a`.
pub fn dovecot(arguments: &[OsString]) -> Outcome {
    if arguments.iter().any(|argument| argument == "-n" || argument == "-a") {
        return run(arguments);
    }
    refuse("dovecot", "use `dovecot -n', and `postfix start', `stop' and `reload'")
}

/// Refuses a command of Dovecot's that is not there.
///
/// # Errors
/// Always, with exit code 64.
pub fn refuse(name: &str, instead: &str) -> Outcome {
    Err(Failure::new(USAGE, format!("`{name}' is not supported; {instead}")))
}
