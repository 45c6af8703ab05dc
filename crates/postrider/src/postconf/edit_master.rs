//! Editing master.cf: `-M` replaces, comments out or removes entries, `-F` sets fields, `-P` sets or removes overrides.
//!
//! An entry that changes is written anew in postconf's columns, after the comments that stood within it; the rest stays byte for byte.

use std::cell::Cell;

use mail_config::main_cf::RawMain;

use super::entry::{FIELDS, Service, Word};
use super::print::Look;
use crate::exit::Failure;

/// What happens to the entries that a pattern names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// `-M`: this entry stands in their place, or at the end if there is none.
    Replace(Service),
    /// `-M#`: they become comments.
    Comment,
    /// `-MX`: they go.
    Remove,
    /// `-F`: a field has this value.
    Field(usize, String),
    /// `-P`: an override has this value.
    Set(String, String),
    /// `-PX`: an override goes.
    Unset(String),
}

/// A change and the entries it is about.
#[derive(Debug, Clone)]
pub struct Edit {
    /// As it was typed, for messages.
    text: String,
    service: String,
    kind: String,
    change: Change,
    matched: Cell<usize>,
}

impl Edit {
    fn new(text: &str, path: &[&str], change: Change) -> Self {
        let part = |at: usize| path.get(at).map_or_else(String::new, |part| (*part).to_owned());
        Self { text: text.to_owned(), service: part(0), kind: part(1), change, matched: Cell::new(0) }
    }

    fn is_about(&self, service: &Service) -> bool {
        let fits = |pattern: &str, name: &str| pattern == "*" || pattern == name;
        fits(&self.service, &service.fields[0]) && fits(&self.kind, &service.fields[1])
    }
}

/// Reads the operand of an edit. `mode` is `M`, `F` or `P`, `option` is `e`, `#` or `X`.
///
/// # Errors
/// A sentence in Postfix's words.
pub fn edit(mode: char, option: char, text: &str) -> Result<Edit, Failure> {
    if text.contains(['\n', '\r', '\0']) {
        return Err(Failure::usage("-e, -X, or -# accepts no multi-line input"));
    }
    let (name, value) = match (option, text.split_once('=')) {
        ('e', Some((name, value))) => (name.trim(), value.trim()),
        ('e', None) => return Err(Failure::usage(format!("missing '=' after attribute name: \"{text}\""))),
        (_, Some(_)) => return Err(Failure::usage(format!("-{option} requires names without value: \"{text}\""))),
        (_, None) => (text.trim(), ""),
    };
    let path: Vec<&str> = name.splitn(3, '/').collect();
    let change = match (mode, option, path.as_slice()) {
        ('M', 'e', [_, _]) => {
            let bad = |error: String| {
                Failure::usage(if error == "bad field count" { format!("{error}: \"{text}\"") } else { error })
            };
            Change::Replace(Service::read(value).map_err(bad)?)
        }
        ('M', '#', [_, _]) => Change::Comment,
        ('M', _, [_, _]) => Change::Remove,
        ('M', ..) => return Err(Failure::usage("-Me, -MX or -M# requires service_name/type")),
        ('F', _, [_, _, field]) => {
            let at = FIELDS.iter().position(|name| name == field);
            let at = at.ok_or_else(|| Failure::usage(format!("invalid service attribute name: \"{field}\"")))?;
            Change::Field(at, value.to_owned())
        }
        ('F', ..) => return Err(Failure::usage("-Fe requires service_name/type/field_name")),
        (_, 'X', [_, _, name]) => Change::Unset((*name).to_owned()),
        (_, _, [_, _, _]) if value.contains(char::is_whitespace) => {
            return Err(Failure::usage("-Pe does not accept whitespace in parameter value"));
        }
        (_, _, [_, _, name]) => Change::Set((*name).to_owned(), value.to_owned()),
        _ => return Err(Failure::usage(format!("-P{option} requires service_name/type/parameter_name"))),
    };
    Ok(Edit::new(text, &path, change))
}

/// The text of master.cf after the edits, and what is to be said about those that match nothing.
///
/// # Errors
/// A field or entry is wrong.
pub fn edited(text: &str, edits: &[Edit], raw: &RawMain) -> Result<(String, Vec<String>), Failure> {
    let mut out = String::with_capacity(text.len() + 80);
    for piece in pieces(text) {
        match piece {
            Piece::Note(line) => out.push_str(line),
            Piece::Entry { lines, logical } => entry(&lines, &logical, edits, raw, &mut out)?,
        }
    }
    let mut warnings = Vec::new();
    for edit in edits.iter().filter(|edit| edit.matched.get() == 0) {
        match &edit.change {
            Change::Replace(service) => {
                if !out.is_empty() && !out.ends_with('\n') {
                    out.push('\n');
                }
                out.push_str(&service.line(raw, FOLDED));
            }
            Change::Comment | Change::Remove => {}
            _ => warnings.push(format!("unmatched service_name/type: \"{}\"", edit.text)),
        }
    }
    Ok((out, warnings))
}

const FOLDED: Look = Look { values_only: false, names_only: false, expanded: false, folded: true, json: false };

/// A part of the file.
enum Piece<'a> {
    /// A comment or an empty line outside of an entry.
    Note(&'a str),
    /// The lines of an entry, with the comments within it.
    Entry { lines: Vec<&'a str>, logical: String },
}

fn is_note(line: &str) -> bool {
    line.trim().is_empty() || line.trim_start().starts_with('#')
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut found: Vec<Piece<'_>> = Vec::new();
    // Comments belong to an entry only if one of its lines follows.
    let mut notes: Vec<&str> = Vec::new();
    for line in text.split_inclusive('\n') {
        if is_note(line) {
            notes.push(line);
            continue;
        }
        match found.last_mut() {
            Some(Piece::Entry { lines, logical }) if line.starts_with([' ', '\t']) => {
                lines.append(&mut notes);
                lines.push(line);
                logical.push_str(line.trim_end_matches(['\n', '\r']));
            }
            _ => {
                found.extend(notes.drain(..).map(Piece::Note));
                found.push(Piece::Entry { lines: vec![line], logical: line.trim_end().to_owned() });
            }
        }
    }
    found.extend(notes.drain(..).map(Piece::Note));
    found
}

fn entry(lines: &[&str], logical: &str, edits: &[Edit], raw: &RawMain, out: &mut String) -> Result<(), Failure> {
    let mut service = Service::read(logical).map_err(Failure::usage)?;
    let about: Vec<&Edit> = edits.iter().filter(|edit| edit.is_about(&service)).collect();
    if about.is_empty() {
        out.extend(lines.iter().copied());
        return Ok(());
    }
    for edit in about {
        edit.matched.set(edit.matched.get() + 1);
        match &edit.change {
            Change::Comment => {
                for line in lines {
                    out.push_str(if is_note(line) { "" } else { "#" });
                    out.push_str(line);
                }
                return Ok(());
            }
            Change::Remove => {
                out.extend(lines.iter().copied().filter(|line| is_note(line)));
                return Ok(());
            }
            Change::Replace(new) => {
                out.extend(lines.iter().copied().filter(|line| is_note(line)));
                // Further entries of the name go: the last one would win over the new one.
                if edit.matched.get() == 1 {
                    out.push_str(&new.line(raw, FOLDED));
                }
                return Ok(());
            }
            Change::Field(field, value) => service.set(*field, value).map_err(Failure::usage)?,
            Change::Set(name, value) => set_override(&mut service, name, value),
            Change::Unset(name) => service.words.retain(|word| !matches!(word, Word::Override(n, _) if n == name)),
        }
    }
    out.extend(lines.iter().copied().filter(|line| is_note(line)));
    out.push_str(&service.line(raw, FOLDED));
    Ok(())
}

/// An override has a value; a new one stands after the daemon's other options.
fn set_override(service: &mut Service, name: &str, value: &str) {
    let mut known = false;
    for word in &mut service.words {
        if let Word::Override(own, old) = word
            && own == name
        {
            value.clone_into(old);
            known = true;
        }
    }
    if !known {
        let at = service.words.iter().position(|word| matches!(word, Word::Argument(_)));
        let word = Word::Override(name.to_owned(), value.to_owned());
        service.words.insert(at.unwrap_or(service.words.len()), word);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mail_config::Machine;

    use super::*;

    const MASTER_CF: &str = "# head\nsmtp inet n - y - - smtpd\n  -o a=b -v\n# between\n\npickup unix n - y 60 1 pickup\n\t-o c=d\n# inner\n\t-o e=f\n# end\n";

    fn after(mode: char, option: char, operand: &str) -> Result<String, Failure> {
        let raw = RawMain {
            file: Arc::from("main.cf"),
            directory: "/x".into(),
            entries: Default::default(),
            machine: Machine::named("a"),
        };
        edited(MASTER_CF, &[edit(mode, option, operand)?], &raw).map(|(text, _)| text)
    }

    // What Postfix 3.7.11 made of such a file.
    #[test]
    fn the_file_reads_as_after_an_edit_by_postfix() {
        let smtp = "smtp inet n - y - - smtpd\n  -o a=b -v\n";
        let cases = [
            (
                'M',
                'e',
                "smtp/inet=smtp inet n - n - - smtpd -o x=y",
                "smtp       inet  n       -       n       -       -       smtpd\n    -o x=y\n",
            ),
            ('M', '#', "smtp/inet", "#smtp inet n - y - - smtpd\n#  -o a=b -v\n"),
            ('M', 'X', "*/inet", ""),
            (
                'F',
                'e',
                "smtp/inet/chroot=n",
                "smtp       inet  n       -       n       -       -       smtpd\n    -o a=b\n    -v\n",
            ),
            (
                'F',
                'e',
                "smtp/inet/command=smtpd -D",
                "smtp       inet  n       -       y       -       -       smtpd -D\n",
            ),
            (
                'P',
                'e',
                "smtp/inet/a=2",
                "smtp       inet  n       -       y       -       -       smtpd\n    -o a=2\n    -v\n",
            ),
            ('P', 'X', "smtp/inet/a", "smtp       inet  n       -       y       -       -       smtpd -v\n"),
        ];
        for (mode, option, operand, wanted) in cases {
            assert_eq!(after(mode, option, operand).expect("good"), MASTER_CF.replace(smtp, wanted), "{operand}");
        }
        let text = after('F', 'e', "pickup/unix/wakeup=5").expect("good");
        assert!(text.ends_with("# inner\npickup     unix  n       -       y       5       1       pickup\n    -o c=d\n    -o e=f\n# end\n"), "{text}");
        assert!(
            after('M', 'e', "new/unix=new unix - - n - - smtp")
                .expect("good")
                .ends_with("# end\nnew        unix  -       -       n       -       -       smtp\n")
        );
    }

    #[test]
    fn operands_are_judged_as_postconf_judges_them() {
        for (mode, option, operand) in [
            ('M', 'X', "smtp"),
            ('M', 'e', "smtp/inet"),
            ('M', '#', "smtp/inet=x"),
            ('M', 'e', "smtp/inet=smtp inet n"),
            ('F', 'e', "smtp/inet/nothing=x"),
            ('F', 'e', "smtp/inet/chroot=x"),
            ('P', 'e', "smtp/inet/a=b c"),
        ] {
            assert_eq!(after(mode, option, operand).expect_err("bad").code, 1, "{operand}");
        }
    }
}
