//! `postrider test FILE`: cases with what must become of them, evaluated as `explain` does; and the gate of `reload`.

mod expect;
mod parse;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mail_config::Config;
use serde::Serialize;

use super::explanation::Explanation;
use super::setting::{Outside, Setting};
use super::text::shown;
use crate::arguments::Grammar;
use crate::exit::{CONFIGURATION, DATA, Failure, Outcome, USAGE};
use crate::system::directory;
use crate::terminal::print;
use parse::{File, Planned};

const USAGE_TEXT: &str = "usage: test [-c DIR] [--dovecot FILE] [--quiet] [--json] FILE ...";
const GRAMMAR: Grammar = Grammar { letters: "c:D:qj", long: &[("dovecot", 'D'), ("quiet", 'q'), ("json", 'j')] };

/// What became of one case.
#[derive(Debug, Serialize)]
struct Judged {
    /// Its name.
    name: String,
    /// The file and line where it begins.
    source: String,
    /// Whether everything is as expected.
    ok: bool,
    /// What is not, with its line.
    failures: Vec<Unmet>,
}

/// An expectation that is not met.
#[derive(Debug, Serialize)]
struct Unmet {
    /// Its file and line.
    source: String,
    /// What was expected.
    expected: String,
    /// What there is.
    got: String,
}

/// The result of all files.
#[derive(Debug, Serialize)]
struct Summary {
    /// The version of this format.
    version: u32,
    cases: Vec<Judged>,
    passed: usize,
    failed: usize,
}

/// Runs the command.
///
/// # Errors
/// 64 for a wrong command line, 65 for a file that cannot be read, 78 for a wrong configuration. Else 0 if all cases are as expected, 1 if not.
pub fn run(arguments: &[OsString]) -> Outcome {
    let usage = |error: &dyn std::fmt::Display| Failure::new(USAGE, format!("{error}; {USAGE_TEXT}"));
    let parsed = GRAMMAR.parse(arguments).map_err(|error| usage(&error))?;
    if parsed.operands.is_empty() {
        return Err(usage(&"no file of cases"));
    }
    let files: Vec<PathBuf> = parsed.operands.iter().map(PathBuf::from).collect();
    let loaded = Config::load(&directory(parsed.last('c')), parsed.last('D').map(Path::new));
    let loaded = loaded.map_err(|errors| Failure::new(CONFIGURATION, errors.to_string()))?;
    let summary = judge(loaded.config, &files)?;
    if parsed.has('j') {
        let json = decision::ascii_json(&summary).map_err(|error| Failure::new(DATA, error.to_string()))?;
        print(&format!("{json}\n"))?;
    } else {
        print(&summary.text(parsed.has('q')))?;
    }
    Ok(u8::from(summary.failed > 0))
}

/// Runs the cases that `postrider_reload_tests` names, if it names some. What is not as expected is the failure.
///
/// # Errors
/// 78 with every case that failed; the configuration must not be taken then.
pub fn gate(config: &Config) -> Result<(), Failure> {
    let files: Vec<PathBuf> = config.main.postrider_reload_tests.iter().map(PathBuf::from).collect();
    if files.is_empty() {
        return Ok(());
    }
    let source = &config.main.postrider_reload_tests.source;
    let refused = |text: String| {
        let text =
            format!("{text}{source}: postrider_reload_tests: the configuration is not taken, nothing has changed");
        Failure::new(CONFIGURATION, text)
    };
    let summary = judge(config.clone(), &files).map_err(|failure| refused(format!("{}\n", failure.text)))?;
    if summary.failed == 0 { Ok(()) } else { Err(refused(summary.text(true))) }
}

fn judge(config: Config, paths: &[PathBuf]) -> Result<Summary, Failure> {
    let mut files = Vec::new();
    let mut mistakes = String::new();
    for path in paths {
        match File::read(path) {
            Ok(file) => files.push(file),
            Err(found) => found.iter().for_each(|mistake| {
                let _ = write!(mistakes, "{}{mistake}", if mistakes.is_empty() { "" } else { "\n" });
            }),
        }
    }
    if !mistakes.is_empty() {
        return Err(Failure::new(DATA, mistakes));
    }
    let setting = Setting::new(Arc::new(config), &BTreeMap::new());
    let runtime = super::runtime()?;
    let mut cases = Vec::new();
    for file in &files {
        let outside = runtime.block_on(async { Outside::new(&setting.config, file.dns) });
        for planned in &file.cases {
            let found = runtime.block_on(super::explain(&setting, &outside, &planned.case));
            cases.push(Judged::of(planned, found));
        }
    }
    let failed = cases.iter().filter(|case| !case.ok).count();
    Ok(Summary { version: 1, passed: cases.len() - failed, failed, cases })
}

impl Judged {
    fn of(planned: &Planned, found: Result<Explanation, String>) -> Self {
        let failures: Vec<Unmet> = match &found {
            Ok(found) => planned
                .expectations
                .iter()
                .filter_map(|(source, expectation)| {
                    let got = expectation.unmet(found)?;
                    Some(Unmet { source: source.clone(), expected: expectation.to_string(), got })
                })
                .collect(),
            Err(text) => {
                vec![Unmet { source: planned.source.clone(), expected: "a case".to_owned(), got: text.clone() }]
            }
        };
        Self { name: planned.name.clone(), source: planned.source.clone(), ok: failures.is_empty(), failures }
    }
}

impl Summary {
    fn text(&self, quiet: bool) -> String {
        let mut out = String::new();
        for case in self.cases.iter().filter(|case| !case.ok || !quiet) {
            let _ = writeln!(out, "{}  {}", if case.ok { "ok  " } else { "FAIL" }, shown(&case.name));
            for unmet in &case.failures {
                let source = shown(&unmet.source);
                let width = source.chars().count();
                let _ = writeln!(out, "      {source}  expected {}", shown(&unmet.expected));
                let _ = writeln!(out, "      {:width$}  got      {}", "", shown(&unmet.got));
            }
        }
        let plural = if self.cases.len() == 1 { "case" } else { "cases" };
        let _ = writeln!(out, "{} {plural}: {} as expected, {} not", self.cases.len(), self.passed, self.failed);
        out
    }
}
