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
//! `to` and `header` may stand several times; `local USER` is mail of a user of this machine, `command VRFY ADDRESS` asks in the place of sending.
//! One thing per line: a word, blanks, its value. Indentation does not matter, `#` begins a comment where a line begins.

use std::path::Path;

use super::super::case::{self, Case, Command};
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
    to: Vec<String>,
    auth: Option<String>,
    tls: bool,
    service: Option<String>,
    size: Option<u64>,
    header: Vec<String>,
    local: Option<String>,
    command: Option<Command>,
    /// The list of recipients is that of the lines before the first case; a case of its own begins anew.
    inherited: Inherited,
}

/// Which lists a case has from before the first case.
#[derive(Debug, Clone, Copy, Default)]
struct Inherited {
    to: bool,
    header: bool,
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
                        fields: Fields { inherited: Inherited { to: true, header: true }, ..common.clone() },
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
            "to" => {
                let to = case::bare(&some()?.unwrap_or_default());
                if std::mem::take(&mut self.inherited.to) {
                    self.to.clear();
                }
                self.to.push(to);
            }
            "header" => {
                let field = some()?.unwrap_or_default();
                if std::mem::take(&mut self.inherited.header) {
                    self.header.clear();
                }
                self.header.push(field);
            }
            "local" => self.local = if value == "-" { None } else { some()? },
            "command" => self.command = if value == "-" { None } else { Some(Command::of(value)?) },
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
                    "`{word}' is none of case, client, name, helo, from, to, auth, tls, service, port, size, header, local, command, dns, expect"
                ));
            }
        }
        Ok(())
    }

    fn case(self) -> Result<Case, String> {
        let missing = |word: &str| format!("`{word}' is missing");
        let (local, sends) = (self.local, self.command.is_none());
        let is_client = local.is_none();
        let case = Case {
            client: if is_client { self.client.ok_or_else(|| missing("client"))? } else { case::LOOPBACK },
            name: self.name.filter(|_| is_client),
            helo: match self.helo {
                Some(helo) => helo,
                None if is_client => return Err(missing("helo")),
                None => String::new(),
            },
            from: match (self.from, &local) {
                (Some(from), _) => from,
                (None, Some(user)) => user.clone(),
                (None, None) if sends => return Err(missing("from")),
                (None, None) => String::new(),
            },
            to: if sends { self.to } else { Vec::new() },
            auth: self.auth.filter(|_| is_client),
            tls: self.tls && is_client,
            service: self.service.filter(|_| is_client),
            size: self.size,
            header: self.header,
            local,
            command: self.command,
        };
        if sends && case.to.is_empty() {
            return Err(missing("to"));
        }
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
        assert_eq!((one.case.from.as_str(), one.case.to.join(" "), one.source.as_str()), ("", "a@b.org".into(), "f:6"));
        assert_eq!((two.name.as_str(), two.case.from.as_str(), two.case.tls), ("two words", "x@y.org", true));
        assert_eq!(two.expectations[1], ("f:15".to_owned(), Expectation::Reply("554 5.7.1".into())));
    }

    #[test]
    fn lists_of_a_case_take_the_place_of_those_before_it() {
        let text = format!(
            "{HEAD}to z@z.org\nheader Subject: x\ncase one\n to a@b.org\n to c@d.org\n expect accept\ncase two\n header To: b\n expect accept\n\
             case local\n local john\n expect reject\ncase asks\n command vrfy <john@info.net>\n expect accept\n"
        );
        let file = File::parse("f", &text).expect("good");
        let [one, two, local, asks] = &file.cases[..] else { panic!("{file:?}") };
        assert_eq!((one.case.to.join(" "), one.case.header.join(" ")), ("a@b.org c@d.org".into(), "Subject: x".into()));
        assert_eq!((two.case.to.join(" "), two.case.header.join(" ")), ("z@z.org".into(), "To: b".into()));
        assert_eq!((local.case.local.as_deref(), local.case.from.as_str()), (Some("john"), ""));
        assert_eq!(asks.case.command, Some(Command::Vrfy("john@info.net".into())));
        assert!(asks.case.to.is_empty());
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

    proptest::proptest! {
        /// A file is cases, or mistakes with the lines where they stand.
        #[test]
        fn no_text_breaks_a_file_of_cases(lines in proptest::collection::vec(
            "(case|client|helo|name|from|to|auth|tls|service|size|header|local|command|expect|dns|#)? ?(\\PC{0,12}|192[.]0[.]2[.]1|VRFY a|accept|reply 5|recipient a b)",
            0..30,
        )) {
            let text = lines.join("\n");
            match File::parse("f", &text) {
                Ok(file) => proptest::prop_assert!(file.cases.iter().all(|case| !case.name.is_empty())),
                Err(mistakes) => proptest::prop_assert!(
                    !mistakes.is_empty() && mistakes.iter().all(|mistake| mistake.starts_with("f:") || mistake.starts_with("f ")),
                    "{:?}", mistakes
                ),
            }
        }
    }
}
