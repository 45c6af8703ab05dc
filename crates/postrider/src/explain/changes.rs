//! Changes to a case, to main.cf and to tables, as one would make them; and a setting with them made.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mail_config::Config;
use mail_config::lines::logical_lines;
use serde::Serialize;

use super::case::Case;
use super::setting::Setting;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What to do, in words.
    pub text: String,
    /// The line that it is about; empty where it is about the client.
    pub source: String,
    /// How far it reaches: 1 for this client or address alone, more for what others notice too.
    pub cost: u32,
    #[serde(skip)]
    pub(super) edit: Edit,
}

/// How a change is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Edit {
    /// The client does something else.
    Client(Box<Case>),
    /// A parameter has another value: in main.cf, or in the line of a listener that overrides it.
    Parameter { name: String, value: String, of: Option<String> },
    /// A line of a file, with those that continue it, has another text; none: it is gone.
    Line { path: PathBuf, line: u32, text: Option<String> },
    /// There is a user of this name.
    User(String),
    /// A file has one more line, the first.
    NewLine { path: PathBuf, text: String },
}

impl Edit {
    /// The user that is supposed to be there.
    pub fn user(&self) -> Option<&str> {
        if let Self::User(name) = self { Some(name) } else { None }
    }
}

/// A case and a configuration with changes made.
pub(super) struct Changed {
    pub case: Case,
    pub setting: Setting,
}

/// Makes the changes. Nothing on disk is touched.
///
/// # Errors
/// The changed configuration is none.
pub(super) fn apply(setting: &Setting, case: &Case, changes: &[Change]) -> Result<Changed, String> {
    let mut case = case.clone();
    let mut files: BTreeMap<PathBuf, Vec<u8>> = BTreeMap::new();
    let mut parameters = Vec::new();
    for change in changes {
        match &change.edit {
            Edit::Client(other) => case = merged(&case, other),
            Edit::Parameter { name, value, of } => parameters.push((name, value, of)),
            Edit::Line { path, line, text } => {
                edit_file(&mut files, path, |old| replaced(old, *line, text.as_deref()))?
            }
            Edit::User(_) => {}
            Edit::NewLine { path, text } => edit_file(&mut files, path, |old| format!("{text}\n{old}"))?,
        }
    }
    let config =
        if parameters.is_empty() { Arc::clone(&setting.config) } else { with_parameters(setting, &parameters)? };
    let same = files.is_empty() && parameters.is_empty();
    let setting = if same { setting.clone() } else { Setting::new(config, &files) };
    Ok(Changed { case, setting })
}

/// What one change made different of a case, put into a case that others changed too.
fn merged(case: &Case, other: &Case) -> Case {
    let mut merged = case.clone();
    merged.auth.clone_from(&other.auth);
    merged.tls |= other.tls;
    merged.service.clone_from(&other.service);
    merged.helo.clone_from(&other.helo);
    merged.name.clone_from(&other.name);
    merged
}

fn edit_file(files: &mut BTreeMap<PathBuf, Vec<u8>>, path: &Path, edit: impl Fn(&str) -> String) -> Result<(), String> {
    let old = match files.get(path) {
        Some(octets) => octets.clone(),
        None => std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?,
    };
    files.insert(path.to_owned(), edit(&String::from_utf8_lossy(&old)).into_bytes());
    Ok(())
}

/// A text with another logical line in the place of the one that begins at `line`; the others keep their numbers.
fn replaced(text: &str, line: u32, new: Option<&str>) -> String {
    let logical = logical_lines(text);
    let gone: Vec<u32> = logical
        .iter()
        .filter(|logical| logical.line == line)
        .flat_map(|logical| logical.pieces.iter().map(|piece| piece.line))
        .collect();
    let mut out = String::with_capacity(text.len());
    for (number, physical) in (1u32..).zip(text.lines()) {
        match (number == line, gone.contains(&number)) {
            (true, _) => out.push_str(new.unwrap_or("#")),
            (false, true) => out.push('#'),
            (false, false) => out.push_str(physical),
        }
        out.push('\n');
    }
    out
}

/// The words of a line of a table, as it stands there.
pub(super) fn line_of(path: &Path, line: u32) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let found = logical_lines(&text).into_iter().find(|logical| logical.line == line)?;
    Some(found.text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The configuration with other values, read again by the types of mail-config as a generation is.
fn with_parameters(
    setting: &Setting,
    parameters: &[(&String, &String, &Option<String>)],
) -> Result<Arc<Config>, String> {
    let wrong = |error: serde_json::Error| error.to_string();
    let mut json = serde_json::to_value(&*setting.config).map_err(wrong)?;
    for (name, value, of) in parameters {
        let entry = |old: Option<&serde_json::Value>| {
            let source = old.and_then(|old| old.get("source")).cloned();
            let source = source.unwrap_or_else(|| serde_json::json!({"file": "main.cf", "line": 1}));
            serde_json::json!({"name": name, "value": value, "source": source})
        };
        match of {
            None => {
                let entries = json["main"]["entries"].as_object_mut().ok_or("a configuration without entries")?;
                let new = entry(entries.get(*name));
                entries.insert((*name).clone(), new);
            }
            Some(service) => {
                let services = json["master"]["services"].as_array_mut().ok_or("a configuration without services")?;
                let all = services.iter_mut().filter(|one| one["name"] == **service && one["kind"] == "Inet");
                for overrides in all.filter_map(|one| one["overrides"].as_array_mut()) {
                    let at = overrides.iter().rposition(|one| one["name"] == **name);
                    let new = entry(at.and_then(|at| overrides.get(at)));
                    match at {
                        Some(at) => overrides[at] = new,
                        None => overrides.push(new),
                    }
                }
            }
        }
    }
    serde_json::from_value(json).map(Arc::new).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_with_those_that_continue_it() {
        let text = "# head\na x,\n  y\nb z\n";
        assert_eq!(replaced(text, 2, None), "# head\n#\n#\nb z\n");
        assert_eq!(replaced(text, 4, Some("b OK")), "# head\na x,\n  y\nb OK\n");
        assert_eq!(logical_lines(&replaced(text, 2, Some("a n"))).len(), 2);
    }
}
