//! `doveconf`: what dovecot.conf says (`-n`), that over Dovecot's defaults (`-a`), single settings by their path; and the refusal of what else goes by
//! Dovecot's names.

mod tree;

use std::ffi::OsString;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};

use mail_config::dovecot::{self, Connection, Node, filters, reference};
use mail_config::{Level, Report};

use self::tree::{Look, Tree};
use crate::arguments::{Grammar, Parsed};
use crate::exit::{CONFIGURATION, Failure, Outcome, USAGE};
use crate::system::directory;
use crate::terminal::{complain, print};

const GRAMMAR: Grammar = Grammar { letters: "ac:dC:f:hm:nNpPSsx", long: &[("config-dir", 'C')] };

/// How Dovecot's programs end when something is wrong (`FATAL_DEFAULT`).
const FATAL: u8 = 89;

/// Runs `doveconf`. `-c FILE` names dovecot.conf, as Dovecot's does. A wrong file or command line ends it with 89.
///
/// # Errors
/// The reader of its output has gone.
pub fn run(arguments: &[OsString]) -> Outcome {
    show(arguments).or_else(|failure| {
        if failure.text.is_empty() {
            return Err(failure);
        }
        complain(&format!("doveconf: Fatal: {}", failure.text));
        Ok(FATAL)
    })
}

fn show(arguments: &[OsString]) -> Outcome {
    let parsed = GRAMMAR.parse(arguments).map_err(|error| Failure::new(USAGE, error.to_string()))?;
    let everybody = Connection::default();
    let (defaults, templates) =
        (Tree::of(reference::defaults(), &everybody), Tree::of(reference::templates(), &everybody));
    let file = file(&parsed);
    let nodes = if parsed.has('d') { Vec::new() } else { read(&file)? };
    let connection = filtered(&parsed)?;
    let is_24 = nodes.iter().any(|node| matches!(node, Node::Setting { key, .. } if key == "dovecot_config_version"));
    let names: Vec<String> = parsed.operands.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    if let Some((key, line)) = filters::conflict(&nodes, &connection).filter(|_| !is_24 && !names.is_empty()) {
        complain(&format!("doveconf: Error: Conflict in setting {key} found from filter at {line}"));
        return Err(Failure::new(CONFIGURATION, "Errors in configuration"));
    }
    let written = Tree::of(&nodes, &connection);
    let brief = (parsed.has('n') || parsed.has('N')) && !parsed.has('a');
    let shown = match brief {
        true if parsed.has('N') => written.written(&defaults, &templates),
        true => written.beyond(&defaults, &templates),
        false => written.over(&defaults, &templates),
    };
    let shown = match parsed.last('m') {
        Some(module) => shown.of_module(reference::module(&module.to_string_lossy())),
        None => shown,
    };
    let look = Look {
        secrets: parsed.has('P'),
        values_only: parsed.has('h'),
        simple: parsed.has('S'),
        contents: parsed.has('x'),
    };
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
    print(&text)?;
    if let Some((key, line)) = filters::conflicts(&nodes).filter(|_| !is_24 && names.is_empty()) {
        let text = format!(
            "Error in configuration file {}: Conflict in setting {key} found from filter at {line}",
            file.display()
        );
        return Err(Failure::new(CONFIGURATION, text));
    }
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

/// The connection that `-f protocol=imap`, `-f remote=ADDRESS` and so on describe.
fn filtered(parsed: &Parsed) -> Result<Connection, Failure> {
    let mut connection = Connection::default();
    for given in parsed.options.iter().filter(|given| given.option == 'f') {
        let word = given.argument.clone().unwrap_or_default().to_string_lossy().into_owned();
        let (name, value) = word.split_once('=').unwrap_or((&word, ""));
        match name {
            "protocol" | "service" => connection.protocol = value.to_owned(),
            "lname" | "local_name" => connection.local_name = Some(value.to_owned()),
            "local" => connection.local = Some(address(name, value)?),
            "remote" => connection.remote = Some(address(name, value)?),
            _ => return Err(Failure::new(USAGE, format!("Unknown filter argument: {word}"))),
        }
    }
    Ok(connection)
}

/// An address, also with the length of a prefix behind it, or that of a host.
fn address(filter: &str, text: &str) -> Result<IpAddr, Failure> {
    let bare = text.split('/').next().unwrap_or_default();
    let host = || (bare, 0).to_socket_addrs().ok()?.map(|address| address.ip()).next();
    let found = bare.parse().ok().or_else(host);
    let unknown = || format!("{filter} filter: gethostbyname({bare}) failed: Name or service not known");
    found.ok_or_else(|| Failure::new(USAGE, unknown()))
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
