//! Flags and keywords of messages.

use std::fmt;
use std::sync::Arc;

use nom::Parser;
use nom::branch::alt;
use nom::bytes::complete::{tag, take_while1};
use nom::combinator::map_opt;
use serde::{Deserialize, Serialize};

use super::{Parsed, atom, fail, is_atom_char, parenthesised, spaced};

/// The longest keyword that is kept; Dovecot has the same limit on a name in `dovecot-keywords`.
pub const KEYWORD_LIMIT: usize = 64;

/// System flags (RFC 3501 section 2.3.2) without `\Recent`, which belongs to a session and not to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SystemFlags(pub u8);

impl SystemFlags {
    /// `\Answered`
    pub const ANSWERED: Self = Self(1);
    /// `\Flagged`
    pub const FLAGGED: Self = Self(2);
    /// `\Deleted`
    pub const DELETED: Self = Self(4);
    /// `\Seen`
    pub const SEEN: Self = Self(8);
    /// `\Draft`
    pub const DRAFT: Self = Self(16);

    /// In the order in which Dovecot lists them.
    pub const NAMES: [(Self, &'static str); 5] = [
        (Self::ANSWERED, "\\Answered"),
        (Self::FLAGGED, "\\Flagged"),
        (Self::DELETED, "\\Deleted"),
        (Self::SEEN, "\\Seen"),
        (Self::DRAFT, "\\Draft"),
    ];

    /// Whether all of `other` is set.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The flags of a message: system flags and keywords. Two sets with the same keywords in another order are equal only after [`Flags::sort`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Flags {
    /// System flags.
    pub system: SystemFlags,
    /// Keywords, as they are spelt in the mailbox.
    pub keywords: Vec<Arc<str>>,
}

impl Flags {
    /// Puts the keywords in order, so that sets can be compared.
    pub fn sort(&mut self) {
        self.keywords.sort();
        self.keywords.dedup();
    }

    /// Writes `(\Seen word)`, with `\Recent` last of the system flags where the session says so.
    pub fn write(&self, recent: bool, out: &mut Vec<u8>) {
        let system = SystemFlags::NAMES.iter().filter(|(flag, _)| self.system.contains(*flag)).map(|(_, name)| *name);
        let names = system.chain(recent.then_some("\\Recent")).chain(self.keywords.iter().map(|k| &**k));
        out.push(b'(');
        for (i, name) in names.enumerate() {
            if i > 0 {
                out.push(b' ');
            }
            out.extend_from_slice(name.as_bytes());
        }
        out.push(b')');
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Vec::new();
        self.write(false, &mut out);
        f.write_str(&String::from_utf8_lossy(&out))
    }
}

/// `flag = "\Answered" / ... / flag-keyword / flag-extension`. `\Recent` and unknown system flags are no flags that a client may set.
fn flag(input: &[u8]) -> Parsed<'_, Flag> {
    alt((
        map_opt((tag(&b"\\"[..]), take_while1(is_atom_char)), |(_, name): (&[u8], &[u8])| system_flag(name)),
        map_opt(atom, |name: &[u8]| {
            (name.len() <= KEYWORD_LIMIT).then(|| Flag::Keyword(String::from_utf8_lossy(name).into()))
        }),
    ))
    .parse(input)
}

enum Flag {
    System(SystemFlags),
    Keyword(Arc<str>),
}

fn system_flag(name: &[u8]) -> Option<Flag> {
    let known = SystemFlags::NAMES.iter().find(|(_, known)| known.as_bytes()[1..].eq_ignore_ascii_case(name))?;
    Some(Flag::System(known.0))
}

fn collected(flags: Vec<Flag>) -> Flags {
    let mut set = Flags::default();
    for flag in flags {
        match flag {
            Flag::System(flag) => set.system = set.system.with(flag),
            Flag::Keyword(name) if set.keywords.iter().any(|k| k.eq_ignore_ascii_case(&name)) => {}
            Flag::Keyword(name) => set.keywords.push(name),
        }
    }
    set
}

/// `flag-list = "(" [flag *(SP flag)] ")"`
pub(crate) fn flag_list(input: &[u8]) -> Parsed<'_, Flags> {
    parenthesised(flag).map(collected).parse(input)
}

/// What STORE takes: a list, or flags without parentheses.
pub(crate) fn store_flags(input: &[u8]) -> Parsed<'_, Flags> {
    if input.first() == Some(&b'(') {
        return flag_list(input);
    }
    let (rest, flags) = spaced(flag).parse(input)?;
    if flags.is_empty() { fail(input) } else { Ok((rest, collected(flags))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_in_any_case_and_written_in_order() {
        let (_, flags) = flag_list(b"(\\SEEN $Forwarded \\answered $forwarded)").expect("flags");
        assert_eq!(flags.to_string(), "(\\Answered \\Seen $Forwarded)");
        let mut out = Vec::new();
        flags.write(true, &mut out);
        assert_eq!(out, b"(\\Answered \\Seen \\Recent $Forwarded)");
    }

    #[test]
    fn recent_and_unknown_system_flags_cannot_be_set() {
        for bad in ["(\\Recent)", "(\\Foo)", "(a(b))", "(\\*)"] {
            assert!(flag_list(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
