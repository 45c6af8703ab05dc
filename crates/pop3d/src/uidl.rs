//! How a UIDL is made: `pop3_uidl_format` in the syntax of Dovecot 2.3 (`%08Xu%08Xv`) and 2.4 (`%{uid | hex(8)}`).

use std::collections::HashMap;
use std::fmt::Write as _;

use mail_pop3::mailbox::Message;

/// The longest UIDL (RFC 1939 section 7).
const LENGTH_MAX: usize = 70;

/// What a variable stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variable {
    /// The IMAP UID.
    Uid,
    /// The mailbox's UIDVALIDITY.
    UidValidity,
    /// The name of the message's file without flags; also its GUID, which is the same in a Maildir.
    FileName,
}

/// How a variable is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Form {
    hexadecimal: bool,
    width: usize,
    zeros: bool,
    upper: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Variable(Variable, Form),
}

/// A parsed `pop3_uidl_format`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format(Vec<Piece>);

/// A variable or modifier that is not known here. UIDLs made without it would make clients fetch everything again, so nobody is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownVariable(pub String);

impl std::fmt::Display for UnknownVariable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "pop3_uidl_format: {} is not supported", self.0)
    }
}

impl std::error::Error for UnknownVariable {}

/// What is known of a message.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The IMAP UID.
    pub uid: u32,
    /// The mailbox's UIDVALIDITY.
    pub uid_validity: u32,
    /// The name of its file without flags.
    pub file_name: &'a str,
}

impl Format {
    /// Parses a format of either generation.
    ///
    /// # Errors
    /// [`UnknownVariable`] names what is not known.
    pub fn parse(text: &str) -> Result<Self, UnknownVariable> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            push_text(&mut pieces, &rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                push_text(&mut pieces, "%");
                rest = after;
            } else if let Some((inside, after)) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
                pieces.push(long(inside)?);
                rest = after;
            } else {
                let (piece, after) = short(rest)?;
                pieces.push(piece);
                rest = after;
            }
        }
        push_text(&mut pieces, rest);
        Ok(Self(pieces))
    }

    /// The UIDL of a message: 1 to 70 octets of 0x21 to 0x7e, whatever the format says (P05c).
    #[must_use]
    pub fn write(&self, facts: Facts<'_>) -> String {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Variable(variable, form) => form.write(*variable, facts, &mut out),
            }
        }
        out.retain(|c| c.is_ascii_graphic());
        if out.is_empty() {
            let _ = write!(out, "{:08x}{:08x}", facts.uid, facts.uid_validity);
        }
        // The end differs more than the beginning.
        out.split_off(out.len().saturating_sub(LENGTH_MAX))
    }
}

impl Form {
    fn write(self, variable: Variable, facts: Facts<'_>, out: &mut String) {
        let number = match variable {
            Variable::Uid => facts.uid,
            Variable::UidValidity => facts.uid_validity,
            Variable::FileName => {
                let name = facts.file_name;
                return out.push_str(&if self.upper { name.to_ascii_uppercase() } else { name.to_owned() });
            }
        };
        let text = if self.hexadecimal { format!("{number:x}") } else { number.to_string() };
        let fill = if self.zeros { "0" } else { " " };
        out.push_str(&fill.repeat(self.width.saturating_sub(text.len())));
        out.push_str(&if self.upper { text.to_ascii_uppercase() } else { text });
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

fn variable(name: &str) -> Option<Variable> {
    Some(match name {
        "u" | "uid" => Variable::Uid,
        "v" | "uidvalidity" => Variable::UidValidity,
        "f" | "filename" | "g" | "guid" => Variable::FileName,
        _ => return None,
    })
}

/// 2.3: `%08Xu`, flags and width before the letter.
fn short(text: &str) -> Result<(Piece, &str), UnknownVariable> {
    let mut form = Form::default();
    for (at, c) in text.char_indices() {
        match c {
            '0' if form.width == 0 => form.zeros = true,
            '0'..='9' => form.width = (form.width * 10 + c as usize - '0' as usize).min(LENGTH_MAX),
            'X' => form.hexadecimal = true,
            'U' => form.upper = true,
            'L' => form.upper = false,
            _ => {
                let end = at + c.len_utf8();
                let known = variable(&text[at..end]).ok_or_else(|| UnknownVariable(format!("%{}", &text[..end])))?;
                return Ok((Piece::Variable(known, form), &text[end..]));
            }
        }
    }
    Err(UnknownVariable(format!("%{text}")))
}

/// 2.4: `%{uid | hex(8) | upper}`.
fn long(inside: &str) -> Result<Piece, UnknownVariable> {
    let unknown = || UnknownVariable(format!("%{{{inside}}}"));
    let mut parts = inside.split('|').map(str::trim);
    let known = parts.next().and_then(variable).ok_or_else(unknown)?;
    let mut form = Form::default();
    for filter in parts {
        match filter {
            "hex" => form.hexadecimal = true,
            "upper" => form.upper = true,
            "lower" => form.upper = false,
            _ => {
                let width = filter.strip_prefix("hex(").and_then(|rest| rest.strip_suffix(')'));
                let width: usize = width.and_then(|width| width.parse().ok()).ok_or_else(unknown)?;
                form = Form { hexadecimal: true, width: width.min(LENGTH_MAX), zeros: true, ..form };
            }
        }
    }
    Ok(Piece::Variable(known, form))
}

/// The value of the first `X-UIDL` field of a header (`pop3_reuse_xuidl`), if POP3 allows it.
#[must_use]
pub fn from_header(header: &[u8]) -> Option<String> {
    let lines = header.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut fields = lines.take_while(|line| !line.is_empty()).filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        line[..colon].trim_ascii_end().eq_ignore_ascii_case(b"x-uidl").then(|| line[colon + 1..].trim_ascii())
    });
    let value = fields.next().filter(|value| (1..=LENGTH_MAX).contains(&value.len()))?;
    value.iter().all(u8::is_ascii_graphic).then(|| String::from_utf8_lossy(value).into_owned())
}

/// `pop3_uidl_duplicates = rename`: the second of equal UIDLs gets `-2`, the third `-3`.
pub fn rename_duplicates(messages: &mut [Message]) {
    let mut seen: HashMap<String, u32> = HashMap::new();
    for message in messages {
        let count = seen.entry(message.uidl.clone()).or_default();
        *count += 1;
        if *count > 1 {
            let suffix = format!("-{count}");
            message.uidl.truncate(LENGTH_MAX - suffix.len());
            message.uidl.push_str(&suffix);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: Facts<'_> = Facts { uid: 0x1a, uid_validity: 0x6b03_018f, file_name: "1600000003.M3P1.host,S=29" };

    #[test]
    fn formats_of_the_field_are_written_as_dovecot_writes_them() {
        let cases = [
            ("%08Xu%08Xv", "0000001a6b03018f"),
            ("%08Xv%08Xu", "6b03018f0000001a"),
            ("%v.%u", "1795359119.26"),
            ("UID%u-%v", "UID26-1795359119"),
            ("%f", "1600000003.M3P1.host,S=29"),
            ("%{uid | hex(8)}%{uidvalidity | hex(8)}", "0000001a6b03018f"),
            ("%{uidvalidity}%%%{uid | hex | upper}", "1795359119%1A"),
        ];
        for (format, uidl) in cases {
            assert_eq!(Format::parse(format).expect(format).write(FACTS), uidl, "{format}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for format in ["%m", "%08Xm", "%{uid | sha1}", "%{home}", "%", "%08"] {
            assert!(Format::parse(format).is_err(), "{format}");
        }
    }

    #[test]
    fn a_uidl_keeps_its_limits_whatever_the_format_says() {
        // P05c
        let name = "x".repeat(200);
        let long = Format::parse("%f").expect("known").write(Facts { file_name: &name, ..FACTS });
        assert_eq!(long.len(), 70);
        let odd = Format::parse(" é\u{7}").expect("no variable").write(FACTS);
        assert_eq!(odd, "0000001a6b03018f");
    }

    #[test]
    fn a_message_may_bring_its_own_uidl() {
        let cases: [(&[u8], Option<&str>); 5] = [
            (b"A: b\r\nX-UIDL: abc$1\r\n\r\n", Some("abc$1")),
            (b"x-uidl :  abc  \nX-UIDL: second\n\n", Some("abc")),
            (b"A: b\n\nX-UIDL: in the body\n", None),
            (b"X-UIDL: two words\n\n", None),
            (b"X-UIDL:\n\n", None),
        ];
        for (header, uidl) in cases {
            assert_eq!(from_header(header).as_deref(), uidl);
        }
    }

    #[test]
    fn equal_uidls_can_be_told_apart() {
        let message = |uidl: &str| Message { size: 1, uidl: uidl.to_owned() };
        let mut messages = [message("a"), message("b"), message("a"), message("a")];
        rename_duplicates(&mut messages);
        assert_eq!(messages.map(|message| message.uidl), ["a", "b", "a-2", "a-3"]);
    }
}
