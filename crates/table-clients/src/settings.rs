//! What says how a server is asked: a file in the form of main.cf, or parameters of main.cf with the table's name before theirs.

use std::collections::HashMap;

use mail_config::Main;
use mail_config::lines::logical_lines;

/// The parameters of one table.
#[derive(Debug, Default)]
pub(crate) struct Settings(HashMap<String, String>);

impl Settings {
    /// Reads the text of a file. As in main.cf the last of equal names counts, but `$name` stands for itself.
    pub(crate) fn of_text(text: &str) -> Self {
        let lines = logical_lines(text);
        let pairs = lines.iter().filter_map(|line| line.text.split_once('='));
        Self(pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect())
    }

    /// Reads `NAME_parameter` of main.cf for these parameters.
    pub(crate) fn of_main(main: &Main, table: &str, names: &[&str]) -> Self {
        let written = |name: &&str| Some(((*name).to_owned(), main.expanded(&format!("{table}_{name}"))?));
        Self(names.iter().filter_map(written).collect())
    }

    /// A parameter as it is written; none if it is not, or empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub(crate) fn text<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.get(name).unwrap_or(default)
    }

    pub(crate) fn words(&self, name: &str) -> Vec<String> {
        let words = self.text(name, "").split(|c: char| c == ',' || c.is_whitespace());
        words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    pub(crate) fn number(&self, name: &str, default: u64) -> Result<u64, String> {
        let Some(text) = self.get(name) else { return Ok(default) };
        text.parse().map_err(|_| format!("{name}: `{text}' is no number"))
    }

    pub(crate) fn yes(&self, name: &str, default: bool) -> Result<bool, String> {
        match self.get(name).map(str::to_ascii_lowercase).as_deref() {
            None => Ok(default),
            Some("yes") => Ok(true),
            Some("no") => Ok(false),
            Some(other) => Err(format!("{name}: write yes or no, not `{other}'")),
        }
    }

    /// What is written but not built must not be passed over.
    pub(crate) fn refuse(&self, names: &[&str]) -> Result<(), String> {
        match names.iter().find(|name| self.get(name).is_some()) {
            Some(name) => Err(format!("{name} is not built")),
            None => Ok(()),
        }
    }
}
