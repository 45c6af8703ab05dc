//! Entries of master.cf as postconf shows and edits them: eight fields and the words after the command, in their order.

use mail_config::main_cf::{Entry, RawMain};
use mail_config::words::{split_blanks, unbraced};

use super::print::{INDENT, LINE_LIMIT, Look};

/// The names of the fields, in their order.
pub const FIELDS: [&str; 8] =
    ["service", "type", "private", "unprivileged", "chroot", "wakeup", "process_limit", "command"];
/// The columns at which the fields begin.
const COLUMNS: [usize; 8] = [0, 11, 17, 25, 33, 41, 49, 57];

/// A word after the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// `-o name=value`, an option of the daemon.
    Override(String, String),
    /// Another option of the daemon, such as `-v`.
    Option(String),
    /// An argument, after which options are no longer the daemon's; without outer braces.
    Argument(String),
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The fields up to the command.
    pub fields: [String; 8],
    /// What follows.
    pub words: Vec<Word>,
}

impl Service {
    /// Reads an entry, continuation lines joined.
    ///
    /// # Errors
    /// What is wrong, in Postfix's words.
    pub fn read(text: &str) -> Result<Self, String> {
        let words = split_blanks(text).map_err(|_| format!("missing '}}' in \"{text}\""))?;
        let Some((fields, rest)) = words.split_first_chunk::<8>() else {
            return Err("bad field count".to_owned());
        };
        for (at, name) in FIELDS.iter().enumerate() {
            if !is_valid(at, &fields[at]) {
                return Err(format!("invalid {name} field \"{}\" in \"{text}\"", fields[at]));
            }
        }
        Ok(Self { fields: fields.clone(), words: read_words(rest) })
    }

    /// `service/type`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}", self.fields[0], self.fields[1])
    }

    /// Sets one field; the command field is the command with its words.
    ///
    /// # Errors
    /// What is wrong, in Postfix's words.
    pub fn set(&mut self, field: usize, value: &str) -> Result<(), String> {
        if field == FIELDS.len() - 1 {
            let words = split_blanks(value).map_err(|_| format!("missing '}}' in \"{value}\""))?;
            let (command, rest) = words.split_first().ok_or("empty command field")?;
            self.fields[field] = command.clone();
            self.words = read_words(rest);
            return Ok(());
        }
        if !is_valid(field, value) {
            return Err(format!("invalid {} field \"{value}\" in \"{value}\"", FIELDS[field]));
        }
        value.clone_into(&mut self.fields[field]);
        Ok(())
    }

    /// A field as `-F` shows it.
    #[must_use]
    pub fn field(&self, field: usize, raw: &RawMain, look: Look) -> String {
        if field < FIELDS.len() - 1 {
            return self.fields[field].clone();
        }
        let words = self.words.iter().map(|word| format!(" {}", self.shown(word, raw, look)));
        format!("{}{}", self.fields[field], words.collect::<String>())
    }

    /// The overrides by name, sorted, the last of a name; expanded if asked for.
    #[must_use]
    pub fn overrides(&self, raw: &RawMain, look: Look) -> std::collections::BTreeMap<&str, String> {
        let overrides = self.words.iter().filter_map(|word| match word {
            Word::Override(name, value) => Some((name.as_str(), self.value(value, raw, look))),
            _ => None,
        });
        overrides.collect()
    }

    /// The entry in the columns of master.cf, with its newline; folded it is one option to a line.
    #[must_use]
    pub fn line(&self, raw: &RawMain, look: Look) -> String {
        let mut out = String::new();
        for (field, column) in self.fields.iter().zip(COLUMNS) {
            if column > 0 {
                out.push(' ');
            }
            while out.len() < column {
                out.push(' ');
            }
            out.push_str(field);
        }
        let mut length = out.len();
        let mut after_override = false;
        for word in &self.words {
            let shown = self.shown(word, raw, look);
            let is_override = matches!(word, Word::Override(..));
            let fits = length + 1 + shown.len() < LINE_LIMIT && !is_override && !after_override;
            if !look.folded || fits {
                out.push(' ');
                length += 1;
            } else {
                out.push('\n');
                out.push_str(INDENT);
                length = INDENT.len();
            }
            out.push_str(&shown);
            length += shown.len();
            after_override = is_override;
        }
        out.push('\n');
        out
    }

    fn shown(&self, word: &Word, raw: &RawMain, look: Look) -> String {
        match word {
            Word::Override(name, value) => {
                let value = self.value(value, raw, look);
                let assignment = format!("{name}={value}");
                let open = assignment.contains(char::is_whitespace);
                if open { format!("-o {{{assignment}}}") } else { format!("-o {assignment}") }
            }
            Word::Argument(text) if text.contains(char::is_whitespace) || text.is_empty() => format!("{{{text}}}"),
            Word::Option(text) | Word::Argument(text) => text.clone(),
        }
    }

    fn value(&self, value: &str, raw: &RawMain, look: Look) -> String {
        if !look.expanded {
            return value.to_owned();
        }
        let mut own = raw.clone();
        let source = mail_types::SourceLine::built_in;
        for word in &self.words {
            if let Word::Override(name, value) = word {
                own.entries.insert(name.clone(), Entry::new(name, value, source()));
            }
        }
        own.entries.insert("service_name".to_owned(), Entry::new("service_name", &self.fields[0], source()));
        own.expand(value).unwrap_or_default()
    }
}

fn is_valid(field: usize, value: &str) -> bool {
    let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    match FIELDS[field] {
        "type" => matches!(value, "inet" | "unix" | "unix-dgram" | "fifo" | "pass"),
        "private" | "unprivileged" | "chroot" => matches!(value, "y" | "n" | "-"),
        "wakeup" => value == "-" || is_number(value.strip_suffix('?').unwrap_or(value)),
        "process_limit" => value == "-" || (is_number(value) && !value.is_empty()),
        _ => true,
    }
}

fn read_words(words: &[String]) -> Vec<Word> {
    let mut found = Vec::new();
    let mut in_options = true;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let plain = unbraced(word).unwrap_or(word);
        if !in_options || !word.starts_with('-') || word == "--" || word == "-" {
            in_options = false;
            found.push(Word::Argument(plain.to_owned()));
            continue;
        }
        let assignment = match word.strip_prefix("-o") {
            Some("") => words.next().cloned(),
            Some(joined) => Some(joined.to_owned()),
            None => None,
        };
        let plain = |text: &str| unbraced(text).unwrap_or(text).to_owned();
        let parts = assignment.as_deref().map(plain);
        found.push(match parts.as_deref().and_then(|text| text.split_once('=')) {
            Some((name, value)) => Word::Override(name.trim().to_owned(), value.trim().to_owned()),
            None => Word::Option(word.clone()),
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mail_config::Machine;

    use super::*;

    fn raw() -> RawMain {
        let entries = mail_config::main_cf::parse(&Arc::from("main.cf"), "mine = x y\n", &mut Vec::new());
        RawMain { file: Arc::from("main.cf"), directory: "/x".into(), entries, machine: Machine::named("a.b") }
    }

    fn shown(text: &str, look: Look) -> String {
        Service::read(text).expect("an entry").line(&raw(), look)
    }

    // Each line was compared with `postconf -M` and `-Mf` of Postfix 3.7.11.
    #[test]
    fn entries_are_shown_in_the_columns_of_postconf() {
        let plain = [
            ("smtp unix - - n - - smtp", "smtp       unix  -       -       n       -       -       smtp\n"),
            (
                "127.0.0.1:10025 inet n - n - - smtpd",
                "127.0.0.1:10025 inet n   -       n       -       -       smtpd\n",
            ),
            (
                "very-long-service-name-here unix - - n 60? 1 proxymap",
                "very-long-service-name-here unix - - n   60?     1       proxymap\n",
            ),
            (
                "d unix - - y - - smtpd -oname=value -o  {  n =   v w }",
                "d          unix  -       -       y       -       -       smtpd -o name=value -o {n=v w}\n",
            ),
        ];
        for (text, wanted) in plain {
            assert_eq!(shown(text, Look::default()), wanted);
        }
        let folded = [
            ("a unix - - y - - smtpd -v foo bar -o a=b", "smtpd -v foo bar -o\n    a=b\n"),
            ("c unix - - y - - pipe -o a=b flags=x argv=/bin/x", "pipe\n    -o a=b\n    flags=x argv=/bin/x\n"),
            ("f unix - - y - - smtpd -v -o a=b -D", "smtpd -v\n    -o a=b\n    -D\n"),
            ("g unix - - y - - pipe user=vvvvvvvvvvvv", "pipe user=vvvvvvvvvvvv\n"),
            ("h unix - - y - - pipe user=vvvvvvvvvvvvv", "pipe\n    user=vvvvvvvvvvvvv\n"),
        ];
        for (text, wanted) in folded {
            let line = shown(text, Look { folded: true, ..Look::default() });
            assert_eq!(&line[57..], wanted);
        }
    }

    #[test]
    fn overrides_are_expanded_in_their_service() {
        let text = "slow unix - - y - - smtp -o syslog_name=$service_name -o a=$mine -o b=$a";
        let service = Service::read(text).expect("an entry");
        let look = Look { expanded: true, ..Look::default() };
        let found = service.overrides(&raw(), look);
        assert_eq!((found["syslog_name"].as_str(), found["b"].as_str()), ("slow", "x y"));
    }

    #[test]
    fn a_wrong_field_is_named_as_postconf_names_it() {
        let error = |text| Service::read(text).expect_err("wrong");
        assert_eq!(error("a inet y"), "bad field count");
        assert_eq!(error("s inet n - x - - smtpd"), "invalid chroot field \"x\" in \"s inet n - x - - smtpd\"");
        assert!(error("s inet n - - - 1? smtpd").starts_with("invalid process_limit field"));
    }
}
