//! `postrider check`: one line per parameter of the files, what is wrong with them, and what is dangerous about them. `postrider publish`: makes the
//! checked files the generation that the daemons read.

mod dangers;
mod servers;

use std::ffi::OsString;
use std::path::Path;

use mail_config::{Config, Errors, Level, Report, Status};
use mail_daemon::generation;
use serde::Serialize;

use crate::arguments::{Grammar, Parsed};
use crate::exit::{CONFIGURATION, Failure, Outcome, SOFTWARE, USAGE};
use crate::system::directory;
use crate::terminal::{complain, print};

const GRAMMAR: Grammar = Grammar { letters: "c:D:S:j", long: &[("dovecot", 'D'), ("serves", 'S'), ("json", 'j')] };

fn parse(arguments: &[OsString], usage: &str) -> Result<Parsed, Failure> {
    let parsed = GRAMMAR.parse(arguments).map_err(|error| Failure::new(USAGE, format!("{error}; usage: {usage}")))?;
    if parsed.operands.is_empty() { Ok(parsed) } else { Err(Failure::new(USAGE, format!("usage: {usage}"))) }
}

/// One remark as `--json` prints it.
#[derive(Debug, Serialize)]
struct Remark<'a> {
    /// The file; empty for what a default does.
    file: &'a str,
    /// The line, 0 for the whole file.
    line: u32,
    /// The parameter, setting or service; empty if it is about a file.
    parameter: &'a str,
    /// What is said about it, one word of [`Status`].
    status: &'static str,
    /// What it means.
    effect: &'a str,
    /// What to write or to run instead; empty if nothing need change.
    mend: &'a str,
}

impl<'a> Remark<'a> {
    fn of(report: &'a Report) -> Self {
        let said = (report.message.as_str(), report.hint.as_str());
        let (effect, mend) = match report.status {
            Status::Unknown | Status::Wrong | Status::Danger => said,
            _ if report.level == Level::Error => said,
            _ if report.hint.is_empty() => (said.0, ""),
            _ => (said.1, ""),
        };
        let file: &str = if report.source.is_built_in() { "" } else { &report.source.file };
        let line = report.source.line;
        Self { file, line, parameter: &report.parameter, status: report.status.as_str(), effect, mend }
    }
}

/// Runs `check`. With `--json` it prints a list of remarks. With `--serves imap` (or `pop3`) it prints nothing and says by its exit code whether
/// dovecot.conf asks for that protocol.
///
/// # Errors
/// 78 with every mistake, each shown where it stands.
pub fn run(arguments: &[OsString]) -> Outcome {
    let parsed = parse(arguments, "check [-c DIR] [--dovecot FILE] [--json] [--serves PROTOCOL]")?;
    let examined = Config::examine(&directory(parsed.last('c')), parsed.last('D').map(Path::new));
    let (config, mut reports) = examined.map_err(|errors| Failure::new(CONFIGURATION, errors.to_string()))?;
    let failed = |reports: &[Report]| reports.iter().any(|report| report.level == Level::Error);
    if let Some(protocol) = parsed.last('S') {
        return match failed(&reports) {
            true => Err(Failure::new(CONFIGURATION, Errors(errors(reports)).to_string())),
            false => Ok(u8::from(!config.dovecot.serves(&protocol.to_string_lossy()))),
        };
    }
    reports.extend(dangers::dangers(&config));
    reports.extend(servers::remarks(&config));
    if parsed.has('j') {
        let remarks: Vec<Remark<'_>> = reports.iter().map(Remark::of).collect();
        let json = serde_json::to_string_pretty(&remarks).map_err(|error| Failure::new(SOFTWARE, error.to_string()))?;
        print(&format!("{json}\n"))?;
        return Ok(if failed(&reports) { CONFIGURATION } else { 0 });
    }
    for report in &reports {
        match report.level {
            Level::Note => print(&format!("{}\n", report.line()))?,
            Level::Warning => print(&format!("{report}\n"))?,
            Level::Error => {}
        }
    }
    if failed(&reports) { Err(Failure::new(CONFIGURATION, Errors(errors(reports)).to_string())) } else { Ok(0) }
}

fn errors(reports: Vec<Report>) -> Vec<Report> {
    reports.into_iter().filter(|report| report.level == Level::Error).collect()
}

/// Runs `publish`, which the units call before they start a daemon.
///
/// # Errors
/// 78 for wrong files; the generation before stays.
pub fn publish(arguments: &[OsString]) -> Outcome {
    let parsed = parse(arguments, "publish [-c DIR] [--dovecot FILE]")?;
    let dovecot = parsed.last('D').map(Path::new);
    let published = generation::publish(&directory(parsed.last('c')), dovecot).map_err(crate::up::published)?;
    for report in published.reports.iter().filter(|report| report.level == Level::Warning) {
        complain(&format!("postrider: {}", report.line()));
    }
    complain(&format!("postrider: generation {}", published.number));
    Ok(0)
}
