//! The licences of all libraries, against the list in deny.toml.

use serde::Deserialize;

use crate::process;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
}

/// Every library must offer a licence of the list.
pub fn check() -> Result<(), String> {
    let allowed = allowed(&process::read("deny.toml")?);
    let metadata = process::output(
        "cargo",
        &["metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"],
    )?;
    let metadata: Metadata = serde_json::from_str(&metadata).map_err(|error| error.to_string())?;
    let refused =
        metadata.packages.iter().filter(|package| !package.license.as_deref().is_some_and(|l| permits(l, &allowed)));
    let refused: Vec<String> = refused
        .map(|package| {
            format!("{} {}: {}", package.name, package.version, package.license.as_deref().unwrap_or("none"))
        })
        .collect();
    if refused.is_empty() { Ok(()) } else { Err(format!("licences not in deny.toml:\n  {}", refused.join("\n  "))) }
}

/// The strings of the `allow = [...]` list under `[licenses]`.
fn allowed(text: &str) -> Vec<String> {
    let section = text.split_once("[licenses]").map_or("", |(_, rest)| rest);
    let list = section.split_once("allow = [").and_then(|(_, rest)| rest.split_once(']')).map_or("", |(list, _)| list);
    list.split(',').map(|word| word.trim().trim_matches('"').to_owned()).filter(|word| !word.is_empty()).collect()
}

/// Whether an SPDX expression can be met from the list: one side of each OR, both sides of each AND.
fn permits(expression: &str, allowed: &[String]) -> bool {
    let expression = expression.replace('/', " OR ").replace(['(', ')'], " ");
    let term = |term: &str| allowed.iter().any(|licence| licence == term.trim());
    // Without their parentheses, expressions of the form `(A OR B) AND C` are a product of sums: every factor needs one permitted licence.
    expression.split(" AND ").all(|factor| factor.split(" OR ").any(term))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_side_of_or_and_both_of_and() {
        let allowed = ["MIT".to_owned(), "Apache-2.0".to_owned()];
        for (expression, good) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("GPL-3.0 OR MIT", true),
            ("MIT/Apache-2.0", true),
            ("MIT AND GPL-3.0", false),
            ("(MIT OR GPL-3.0) AND Apache-2.0", true),
        ] {
            assert_eq!(permits(expression, &allowed), good, "{expression}");
        }
    }
}
