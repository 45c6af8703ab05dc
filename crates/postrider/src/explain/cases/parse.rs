//! The format of a file of cases.
//!
//! ```text
//! # Everything before the first case holds for all of them.
//! client 192.0.2.1
//! helo   mail.example.org
//! from   anna@example.org
//!
//! case John gets his mail
//!   to     john@info.net
//!   expect accept
//!   expect mailbox /home/john/Maildir
//! ```
//!
//! One thing per line: a word, blanks, its value. Indentation does not matter, `#` begins a comment where a line begins.

use std::path::Path;

use super::super::case::{self, Case};
use super::super::text::shown;
use super::expect::Expectation;

/// A file of cases.
#[derive(Debug)]
pub(super) struct File {
    /// Whether its cases may ask DNS (`dns yes`); a test that the network can break is none, so without it they do not.
    pub dns: bool,
    pub cases: Vec<Planned>,
}

/// A case and what it expects.
#[derive(Debug)]
pub(super) struct Planned {
    pub name: String,
    /// The file and line where it begins.
    pub source: String,
    pub case: Case,
    /// Each with its file and line.
    pub expectations: Vec<(String, Expectation)>,
}

/// Fields of a case as far as they were given.
#[derive(Debug, Clone, Default)]
struct Fields {
    client: Option<std::net::IpAddr>,
    name: Option<String>,
    helo: Option<String>,
    from: Option<String>,
    to: Option<String>,
    auth: Option<String>,
    tls: bool,
    service: Option<String>,
    size: Option<u64>,
}

struct Open {
    name: String,
    source: String,
    fields: Fields,
    expectations: Vec<(String, Expectation)>,
}

impl File {
    /// Reads a file.
    ///
    /// # Errors
    /// Every mistake, each with file and line.
    pub(super) fn read(path: &Path) -> Result<Self, Vec<String>> {
        let shown_path = shown(&path.to_string_lossy());
        let text = std::fs::read_to_string(path).map_err(|error| vec![format!("{shown_path}: {error}")])?;
        Self::parse(&shown_path, &text)
    }

    /// Reads a text.
    pub(super) fn parse(file: &str, text: &str) -> Result<Self, Vec<String>> {
        let mut found = Self { dns: false, cases: Vec::new() };
        let (mut common, mut open, mut mistakes) = (Fields::default(), None::<Open>, Vec::new());
        for (number, line) in (1u32..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let source = format!("{file}:{number}");
            let (word, rest) =
                line.split_once(char::is_whitespace).map_or((line, ""), |(word, rest)| (word, rest.trim()));
            let done = match (word, &mut open) {
                ("case", _) if rest.is_empty() => Err("case: it needs a name".to_owned()),
                ("case", _) => {
                    if let Some(open) = open.take() {
                        found.close(open, &mut mistakes);
                    }
                    open = Some(Open {
                        name: rest.to_owned(),
                        source: source.clone(),
                        fields: common.clone(),
                        expectations: Vec::new(),
                    });
                    Ok(())
                }
                ("dns", None) => match rest {
                    "yes" | "no" => {
                        found.dns = rest == "yes";
                        Ok(())
                    }
                    _ => Err("dns: yes or no".to_owned()),
                },
                ("dns", Some(_)) => Err("dns holds for all cases: write it before the first".to_owned()),
                ("expect", None) => Err("expect belongs into a case".to_owned()),
                ("expect", Some(open)) => {
                    let (word, rest) =
                        rest.split_once(char::is_whitespace).map_or((rest, ""), |(word, rest)| (word, rest.trim()));
                    Expectation::parse(word, rest)
                        .map(|expectation| open.expectations.push((source.clone(), expectation)))
                }
                (_, None) => common.set(word, rest),
                (_, Some(open)) => open.fields.set(word, rest),
            };
            if let Err(text) = done {
                mistakes.push(format!("{source}: {}", shown(&text)));
            }
        }
        if let Some(open) = open.take() {
            found.close(open, &mut mistakes);
        }
        if found.cases.is_empty() && mistakes.is_empty() {
            mistakes.push(format!("{file}: no case"));
        }
        if mistakes.is_empty() { Ok(found) } else { Err(mistakes) }
    }

    fn close(&mut self, open: Open, mistakes: &mut Vec<String>) {
        let Open { name, source, fields, expectations } = open;
        if expectations.is_empty() {
            mistakes.push(format!("{source}: case {}: nothing is expected", shown(&name)));
        }
        match fields.case() {
            Ok(case) => self.cases.push(Planned { name, source, case, expectations }),
            Err(text) => mistakes.push(format!("{source}: case {}: {text}", shown(&name))),
        }
    }
}

impl Fields {
    fn set(&mut self, word: &str, value: &str) -> Result<(), String> {
        let some = || if value.is_empty() { Err(format!("{word}: what?")) } else { Ok(Some(value.to_owned())) };
        match word {
            "client" => self.client = Some(case::client(value)?),
            "name" => self.name = some()?,
            "helo" => self.helo = some()?,
            // The null sender is an empty value, or `<>`.
            "from" => self.from = Some(case::bare(value)),
            "to" => self.to = Some(case::bare(&some()?.unwrap_or_default())),
            "auth" => self.auth = if value == "-" { None } else { some()? },
            "service" | "port" => self.service = some()?,
            "tls" => {
                self.tls = match value {
                    "yes" | "" => true,
                    "no" => false,
                    _ => return Err("tls: yes or no".to_owned()),
                }
            }
            "size" => self.size = Some(value.parse().map_err(|_| "size: a number of octets".to_owned())?),
            _ => {
                return Err(format!(
                    "`{word}' is none of case, client, name, helo, from, to, auth, tls, service, port, size, dns, expect"
                ));
            }
        }
        Ok(())
    }

    fn case(self) -> Result<Case, String> {
        let missing = |word: &str| format!("`{word}' is missing");
        let case = Case {
            client: self.client.ok_or_else(|| missing("client"))?,
            name: self.name,
            helo: self.helo.ok_or_else(|| missing("helo"))?,
            from: self.from.ok_or_else(|| missing("from"))?,
            to: self.to.ok_or_else(|| missing("to"))?,
            auth: self.auth,
            tls: self.tls,
            service: self.service,
            size: self.size,
        };
        case.check()?;
        Ok(case)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "client 192.0.2.1\nhelo a.example\nfrom <>\n\n";

    #[test]
    fn what_stands_before_the_first_case_holds_for_all() {
        let text = format!(
            "{HEAD}# c\ncase one\n  to a@b.org\n  expect accept\n\ncase two words\n from x@y.org\n to c@d.org\n tls yes\n expect reject\n expect reply 554 5.7.1\n"
        );
        let file = File::parse("f", &text).expect("good");
        let [one, two] = &file.cases[..] else { panic!("{file:?}") };
        assert_eq!((one.case.from.as_str(), one.case.to.as_str(), one.source.as_str()), ("", "a@b.org", "f:6"));
        assert_eq!((two.name.as_str(), two.case.from.as_str(), two.case.tls), ("two words", "x@y.org", true));
        assert_eq!(two.expectations[1], ("f:15".to_owned(), Expectation::Reply("554 5.7.1".into())));
    }

    #[test]
    fn every_mistake_is_named_with_its_line() {
        let text = format!(
            "{HEAD}expect accept\ncase\ncase a\nto b@c\ncase b\nclient x\nfoo bar\nto a@b\nexpect maybe\ndns yes\n"
        );
        let mistakes = File::parse("f", &text).expect_err("wrong");
        let wanted = [
            "f:5: expect belongs",
            "f:6: case: it needs",
            "f:7: case a: nothing is expected",
            "f:10: client: `x'",
            "f:11: `foo'",
            "f:13: expect maybe",
            "f:14: dns holds",
            "f:9: case b: nothing is expected",
        ];
        assert_eq!(mistakes.len(), wanted.len(), "{mistakes:#?}");
        for (mistake, wanted) in mistakes.iter().zip(wanted) {
            assert!(mistake.starts_with(wanted), "{mistake} / {wanted}");
        }
        assert_eq!(File::parse("f", "# nothing\n").expect_err("empty"), ["f: no case"]);
    }
}
