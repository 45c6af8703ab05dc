//! `sendmail -bv` while queue-manager dies at its commits: each question is answered once, and nothing is delivered.
//!
//! Passages through a point before the death: the acceptance, the outcomes, the report with what it settles, the delivery of the report.

use std::path::Path;

use test_support::{Builder, Patience, System, wait_for};

use crate::points::{arm, open_to_all};
use crate::system::points_directory;

const DEATHS: &[(&str, usize)] = &[
    ("queue-synced", 0),
    ("queue-synced", 1),
    ("queue-synced", 2),
    ("queue-written", 1),
    ("queue-applied", 2),
    ("outcome-recorded", 0),
    ("index-applied", 0),
];

pub fn are_answered_once() -> Result<(), String> {
    let place = tempfile::tempdir().map_err(|error| error.to_string())?;
    open_to_all(place.path())?;
    let armed = place.path().join("points");
    points_directory(&armed)?;
    let builder = Builder::new("crash.example").environment("POSTRIDER_POINTS_DIRECTORY", &armed.display().to_string());
    let system = builder.start()?;
    for (round, (name, passages)) in DEATHS.iter().enumerate() {
        ask(&system, place.path(), &armed.join(name), *passages, round)
            .map_err(|error| format!("{name}, {passages}: {error}\n{}", system.logs()))?;
    }
    let reports = system.messages("john");
    let answered = |round: usize| reports.iter().filter(|text| text.contains(&format!("nobody-{round}@"))).count();
    for round in 0..DEATHS.len() {
        if answered(round) != 1 {
            return Err(format!("question {round} was answered {} times", answered(round)));
        }
    }
    if system.messages("mary").is_empty() { Ok(()) } else { Err("a question was delivered".to_owned()) }
}

fn ask(system: &System, place: &Path, file: &Path, passages: usize, round: usize) -> Result<(), String> {
    arm(&place.join("next"), file, passages)?;
    let nobody = format!("nobody-{round}@crash.example");
    system.run(&["sendmail", "-bv", "-f", "john@crash.example", "mary@crash.example", &nobody], "")?;
    wait_for("the report", Patience::default(), || {
        let reports = system.messages("john");
        let report = reports.iter().find(|text| text.contains(&nobody))?;
        (report.contains("Action: deliverable") && report.contains("Action: undeliverable")).then_some(())
    })?;
    wait_for("the death", Patience::default(), || (!file.exists()).then_some(()))?;
    system.wait_for_empty_queue()
}
