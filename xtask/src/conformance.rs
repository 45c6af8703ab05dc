//! `cargo xtask conformance`: the page of rules and requirements, each with the tests that prove it.
//!
//! `docs/conformance.tsv` holds the ids and what each asks for. A test names the ids that it proves in a line comment directly above it, or in
//! the first line of its body: `// S07, T01`, or `// S07: why`. An id has tests, or a reason why it has none, never both. The page's word
//! "passes" has one ground: `cargo xtask ci` looks up every test that the page names in the output of `cargo test`, and a test that
//! failed, was skipped or did not run is an error there.

mod catalogue;
mod outcomes;
mod scan;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use test_support::binaries;

use crate::process;
use catalogue::{Item, Without};
use scan::Test;

const PAGE: &str = "docs/conformance.md";

/// Writes the page; with `--check` only compares; with `--outcomes FILE` looks for its tests in the saved output of `cargo test`. An error if an id lacks
/// a test or a reason, has both, or is unknown; the page is written even then.
pub fn run(arguments: &[String]) -> Result<(), String> {
    match arguments {
        [] => write(),
        [flag] if flag == "--check" => check(),
        [flag, file] if flag == "--outcomes" => check_outcomes(&process::read(file)?),
        _ => Err("conformance: [--check | --outcomes FILE]".to_owned()),
    }
}

fn write() -> Result<(), String> {
    let report = Report::read()?;
    process::write(&path(), &report.page())?;
    println!("wrote {PAGE}");
    report.sound()
}

/// Whether the page is what the tests say, and every id has its tests or its reason.
pub fn check() -> Result<(), String> {
    let report = Report::read()?;
    report.sound()?;
    let current = std::fs::read_to_string(path()).is_ok_and(|old| old == report.page());
    if current { Ok(()) } else { Err(format!("run `cargo xtask conformance' for\n  {PAGE}")) }
}

/// Whether every test that the page names ended in `ok`. `output` is what `cargo test --workspace` wrote, both streams in one.
pub fn check_outcomes(output: &str) -> Result<(), String> {
    let passed = outcomes::passed(output);
    let report = Report::read()?;
    let missing: Vec<String> =
        report.named().filter(|test| !passed.contains(&test.in_output())).map(Test::to_string).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("{PAGE} names tests that did not end in ok:\n  {}", missing.join("\n  ")))
}

fn path() -> PathBuf {
    binaries::workspace().join(PAGE)
}

/// The catalogue, and the tests of the sources.
struct Report {
    items: Vec<Item>,
    tests: Vec<Test>,
    /// Comments with ids above functions that are no tests.
    stray: Vec<String>,
}

impl Report {
    fn read() -> Result<Self, String> {
        let items = catalogue::parse(&process::read(catalogue::FILE)?)?;
        let (tests, stray) = scan::sources(&binaries::workspace())?;
        Ok(Self { items, tests, stray })
    }

    /// The tests that prove something.
    fn named(&self) -> impl Iterator<Item = &Test> {
        self.tests.iter().filter(|test| !test.ids.is_empty())
    }

    fn by_id(&self) -> BTreeMap<&str, Vec<&Test>> {
        let mut by_id: BTreeMap<&str, Vec<&Test>> = BTreeMap::new();
        for test in self.named() {
            for id in &test.ids {
                by_id.entry(id).or_default().push(test);
            }
        }
        by_id
    }

    fn sound(&self) -> Result<(), String> {
        let by_id = self.by_id();
        let mut problems = self.stray.clone();
        for item in &self.items {
            match (by_id.contains_key(item.id.as_str()), &item.without) {
                (true, Some(_)) => problems.push(format!("{}: has a test, so its reason must go", item.id)),
                (false, None) => problems.push(format!("{}: has neither a test nor a reason", item.id)),
                _ => {}
            }
        }
        for (id, tests) in by_id {
            if !self.items.iter().any(|item| item.id == id) {
                problems.push(format!("{id}: no such id, but {} names it", tests[0]));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(format!("{}:\n  {}", catalogue::FILE, problems.join("\n  "))) }
    }

    fn page(&self) -> String {
        let by_id = self.by_id();
        let mut page = HEAD.to_owned();
        for item in &self.items {
            let (tests, result) = match (by_id.get(item.id.as_str()), &item.without) {
                (Some(tests), _) => {
                    (tests.iter().map(|test| cell(&test.to_string())).collect::<Vec<_>>().join("<br>"), "passes")
                }
                (None, Some(Without::NotYet(why))) => (cell(why), "not yet"),
                (None, Some(Without::DoesNotApply(why))) => (cell(why), "does not apply"),
                (None, None) => (String::new(), "no test"),
            };
            let _ = writeln!(page, "| {} | {} | {tests} | {result} |", item.id, cell(&item.text));
        }
        page
    }
}

const HEAD: &str = "\
# Conformance

Made by `cargo xtask conformance` from [conformance.tsv](conformance.tsv) and the tests. R1 to R12 are our own rules of reliability, the others are
requirements of the standards. \"passes\" means that `cargo xtask ci` saw every test of the row end in `ok`; there a skipped test is an error. Where nothing is
tested, the row says why.

| id | what must hold | tests, or why there are none | result |
|---|---|---|---|
";

/// Text as a cell of a Markdown table takes it.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;").replace('*', "\\*")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(without: Option<Without>, ids: &[&str]) -> Report {
        let item = Item { id: "S01".to_owned(), text: "a | b".to_owned(), without };
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        let test = Test { package: "smtpd".to_owned(), target: None, name: "greets".to_owned(), ids };
        Report { items: vec![item], tests: vec![test], stray: Vec::new() }
    }

    #[test]
    fn an_id_has_tests_or_a_reason_and_never_both() {
        let reason = || Some(Without::NotYet("no time".to_owned()));
        assert_eq!(report(None, &["S01"]).sound(), Ok(()));
        assert_eq!(report(reason(), &[]).sound(), Ok(()));
        assert!(report(reason(), &["S01"]).sound().is_err());
        assert!(report(None, &[]).sound().is_err());
        assert!(report(None, &["S01", "S99"]).sound().is_err_and(|error| error.contains("S99")));
    }

    #[test]
    fn the_page_names_the_tests() {
        assert!(report(None, &["S01"]).page().ends_with("| S01 | a \\| b | smtpd :: greets | passes |\n"));
        let reason = Some(Without::DoesNotApply("not offered".to_owned()));
        assert!(report(reason, &[]).page().ends_with("| S01 | a \\| b | not offered | does not apply |\n"));
    }
}
