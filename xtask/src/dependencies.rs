//! The directions of dependencies: crates/README.md says which crate may use which, and cargo says which does.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::process;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    path: Option<String>,
    kind: Option<String>,
}

/// One row of the table in crates/README.md.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    level: u32,
    uses: BTreeSet<String>,
}

/// Compares the table with the real dependencies, and the levels with their directions.
pub fn check() -> Result<(), String> {
    let rows = table(&process::read("crates/README.md")?);
    let metadata = process::output("cargo", &["metadata", "--format-version", "1", "--no-deps", "--locked"])?;
    let metadata: Metadata = serde_json::from_str(&metadata).map_err(|error| error.to_string())?;
    let problems = compare(&rows, &real(&metadata));
    if problems.is_empty() { Ok(()) } else { Err(format!("crates/README.md:\n  {}", problems.join("\n  "))) }
}

/// Rows look like `| 2 | mail-ipc | what it is | mail-types |`.
fn table(text: &str) -> BTreeMap<String, Row> {
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.trim().strip_prefix('|')?.split('|').map(str::trim).collect();
        let [level, name, _, uses, ..] = cells[..] else { return None };
        let level = level.parse().ok()?;
        let uses = uses.split_whitespace().map(|word| word.trim_matches(['`', ','])).filter(|word| *word != "-");
        Some((name.trim_matches('`').to_owned(), Row { level, uses: uses.map(str::to_owned).collect() }))
    });
    rows.collect()
}

fn real(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    let ours = |dependency: &&Dependency| dependency.path.is_some() && dependency.kind.as_deref() != Some("dev");
    let uses = |package: &Package| package.dependencies.iter().filter(ours).map(|d| d.name.clone()).collect();
    let products =
        metadata.packages.iter().filter(|package| !["xtask", "system-tests"].contains(&package.name.as_str()));
    products.map(|package| (package.name.clone(), uses(package))).collect()
}

fn compare(rows: &BTreeMap<String, Row>, real: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, uses) in real {
        let Some(row) = rows.get(name) else {
            problems.push(format!("{name} has no row"));
            continue;
        };
        for used in uses.difference(&row.uses) {
            problems.push(format!("{name} uses {used}, which its row does not permit"));
        }
        for unused in row.uses.difference(uses) {
            problems.push(format!("{name} does not use {unused}, which its row names"));
        }
        for used in uses {
            if rows.get(used).is_some_and(|lower| lower.level >= row.level) {
                problems.push(format!("{name} (level {}) uses {used}, which is not below it", row.level));
            }
        }
    }
    problems.extend(rows.keys().filter(|name| !real.contains_key(*name)).map(|name| format!("{name} does not exist")));
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_upwards_or_unlisted_is_found() {
        let rows =
            table("| level | crate | what | uses |\n|---|---|---|---|\n| 0 | `a` | x | - |\n| 1 | `b` | y | `a` |\n");
        let good =
            BTreeMap::from([("a".to_owned(), BTreeSet::new()), ("b".to_owned(), BTreeSet::from(["a".to_owned()]))]);
        assert_eq!(compare(&rows, &good), Vec::<String>::new());
        let upwards =
            BTreeMap::from([("a".to_owned(), BTreeSet::from(["b".to_owned()])), ("b".to_owned(), BTreeSet::new())]);
        assert_eq!(compare(&rows, &upwards).len(), 3);
    }
}
