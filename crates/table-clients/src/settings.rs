//! What says how a server is asked: a file in the form of main.cf, or parameters of main.cf with the table's name before theirs.

use std::collections::HashMap;
use std::fmt;

use mail_config::Main;
use mail_config::lines::logical_lines;
use mail_types::SourceLine;

/// The parameters of one table.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    written: HashMap<String, Written>,
    /// The lines of the file that state nothing.
    idle: Vec<u32>,
}

#[derive(Debug)]
struct Written {
    value: String,
    source: SourceLine,
}

/// What is wrong with a parameter, or with all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// The parameter; none for what no single one is to blame for.
    pub(crate) parameter: Option<String>,
    what: String,
}

impl Mistake {
    pub(crate) fn of(parameter: &str, what: impl Into<String>) -> Self {
        Self { parameter: Some(parameter.to_owned()), what: what.into() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.parameter {
            Some(parameter) => write!(f, "{parameter}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl From<String> for Mistake {
    fn from(what: String) -> Self {
        Self { parameter: None, what }
    }
}

impl From<&str> for Mistake {
    fn from(what: &str) -> Self {
        Self::from(what.to_owned())
    }
}

impl Settings {
    /// Reads the text of a file. As in main.cf the last of equal names counts, but `$name` stands for itself.
    pub(crate) fn of_file(file: &str, text: &str) -> Self {
        let mut settings = Self::default();
        for line in logical_lines(text) {
            let Some((name, value)) = line.text.split_once('=').filter(|_| !line.indented) else {
                settings.idle.push(line.line);
                continue;
            };
            let source = SourceLine::new(file, line.line);
            settings.written.insert(name.trim().to_owned(), Written { value: value.trim().to_owned(), source });
        }
        settings
    }

    #[cfg(test)]
    pub(crate) fn of_text(text: &str) -> Self {
        Self::of_file("t", text)
    }

    /// Reads `NAME_parameter` of main.cf for these parameters.
    pub(crate) fn of_main(main: &Main, table: &str, names: &[&str]) -> Self {
        let written = |name: &&str| {
            let full = format!("{table}_{name}");
            let source = main.raw().entries.get(&full)?.source.clone();
            Some(((*name).to_owned(), Written { value: main.expanded(&full)?, source }))
        };
        Self { written: names.iter().filter_map(written).collect(), idle: Vec::new() }
    }

    /// A parameter as it is written; none if it is not, or empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.written.get(name).map(|written| written.value.as_str()).filter(|value| !value.is_empty())
    }

    /// Whether a parameter stands there, be it empty.
    pub(crate) fn written(&self, name: &str) -> bool {
        self.written.contains_key(name)
    }

    /// Where a parameter stands.
    pub(crate) fn source(&self, name: &str) -> Option<&SourceLine> {
        self.written.get(name).map(|written| &written.source)
    }

    /// The names of the parameters, in the order of their lines.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.written.keys().map(String::as_str).collect();
        names.sort_by_key(|name| (self.source(name).map(|source| source.line), *name));
        names
    }

    /// The lines that have no `name = value`.
    pub(crate) fn idle_lines(&self) -> &[u32] {
        &self.idle
    }

    pub(crate) fn text<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.get(name).unwrap_or(default)
    }

    pub(crate) fn words(&self, name: &str) -> Vec<String> {
        let words = self.text(name, "").split(|c: char| c == ',' || c.is_whitespace());
        words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    pub(crate) fn number(&self, name: &str, default: u64) -> Result<u64, Mistake> {
        let Some(text) = self.get(name) else { return Ok(default) };
        text.parse().map_err(|_| Mistake::of(name, format!("`{text}' is no number")))
    }

    pub(crate) fn yes(&self, name: &str, default: bool) -> Result<bool, Mistake> {
        match self.get(name).map(str::to_ascii_lowercase).as_deref() {
            None => Ok(default),
            Some("yes") => Ok(true),
            Some("no") => Ok(false),
            Some(other) => Err(Mistake::of(name, format!("write yes or no, not `{other}'"))),
        }
    }

    /// What is written but not built must not be passed over.
    pub(crate) fn refuse(&self, names: &[&str]) -> Result<(), Mistake> {
        match names.iter().find(|name| self.get(name).is_some()) {
            Some(name) => Err(Mistake::of(name, "it is not built here")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_main_cf_is() {
        let settings = Settings::of_file("/t", "# x\na = 1\nb =\n  2,\n# no\n  3\nnothing\na = $x\nc=\n");
        assert_eq!((settings.get("a"), settings.words("b")), (Some("$x"), vec!["2".to_owned(), "3".to_owned()]));
        assert_eq!((settings.get("c"), settings.written("c"), settings.written("d")), (None, true, false));
        assert_eq!((settings.names(), settings.idle_lines()), (vec!["b", "a", "c"], [7].as_slice()));
        assert_eq!(settings.source("a").map(ToString::to_string).as_deref(), Some("/t:8"));
        let wrong = settings.number("a", 0).expect_err("no number");
        assert_eq!((wrong.to_string().as_str(), wrong.parameter.as_deref()), ("a: `$x' is no number", Some("a")));
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in "[a-c= \\n\\t#$é,0-9]{0,60}") {
            let settings = Settings::of_text(&text);
            let lines = u32::try_from(text.lines().count()).unwrap_or(0);
            for name in settings.names() {
                let source = settings.source(name).expect("it is written");
                proptest::prop_assert!((1..=lines).contains(&source.line));
                let _ = (settings.words(name), settings.number(name, 0), settings.yes(name, false));
            }
        }
    }
}
