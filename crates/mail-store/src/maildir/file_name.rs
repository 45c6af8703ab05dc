//! File names in a Maildir: `SECONDS.UNIQUE.HOST,S=size,W=size:2,FLAGS`.

use std::cmp::Ordering;

use crate::{Flags, KeywordSet};

/// The part of a name that identifies the message: everything before the first `:`.
#[must_use]
pub fn base(name: &[u8]) -> &[u8] {
    name.iter().position(|&byte| byte == b':').map_or(name, |at| &name[..at])
}

/// The part of a base name that a delivery knows before it has written the content: everything before the first `,`.
#[must_use]
pub fn stem(name: &[u8]) -> &[u8] {
    let base = base(name);
    base.iter().position(|&byte| byte == b',').map_or(base, |at| &base[..at])
}

/// The number after `,KEY=` in a base name.
#[must_use]
pub fn size(name: &[u8], key: u8) -> Option<u64> {
    base(name).split(|&byte| byte == b',').skip(1).find_map(|field| match field {
        [k, b'=', digits @ ..] if *k == key && !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
            std::str::from_utf8(digits).ok()?.parse().ok()
        }
        _ => None,
    })
}

/// The flags and keywords of a name, from the letters after `:2,`.
#[must_use]
pub fn flags(name: &[u8]) -> (Flags, KeywordSet) {
    let mut flags = Flags::NONE;
    let mut keywords = 0;
    for &letter in letters(name) {
        match letter {
            b'a'..=b'z' => keywords |= 1 << (letter - b'a'),
            _ => flags |= flag_of(letter),
        }
    }
    (flags, keywords)
}

fn letters(name: &[u8]) -> &[u8] {
    let info = &name[base(name).len()..];
    let letters = info.strip_prefix(b":2,").unwrap_or_default();
    letters.split(|&byte| byte == b',').next().unwrap_or_default()
}

fn flag_of(letter: u8) -> Flags {
    match letter {
        b'D' => Flags::DRAFT,
        b'F' => Flags::FLAGGED,
        b'R' => Flags::ANSWERED,
        b'S' => Flags::SEEN,
        b'T' => Flags::DELETED,
        _ => Flags::NONE,
    }
}

/// The name with other flags and keywords. Letters that are neither (such as `P`) and whatever follows a further comma are kept.
#[must_use]
pub fn with_flags(name: &[u8], flags: Flags, keywords: KeywordSet) -> Vec<u8> {
    let base = base(name);
    let foreign = letters(name).iter().copied().filter(|&l| flag_of(l).is_empty() && !l.is_ascii_lowercase());
    let own = b"DFRST".iter().copied().filter(|&letter| flags.contains(flag_of(letter)));
    let named = (b'a'..=b'z').filter(|letter| keywords & 1 << (letter - b'a') != 0);
    let mut all: Vec<u8> = foreign.chain(own).chain(named).collect();
    // The Maildir specification asks for ASCII order.
    all.sort_unstable();
    all.dedup();
    let info = name[base.len()..].strip_prefix(b":2,").unwrap_or_default();
    let tail = info.iter().position(|&byte| byte == b',').map_or(&[][..], |at| &info[at..]);
    [base, b":2,", &all, tail].concat()
}

/// The name with which a file moves from `new/` to `cur/`.
#[must_use]
pub fn seen_by_a_reader(name: &[u8]) -> Vec<u8> {
    if name.contains(&b':') { name.to_vec() } else { [name, b":2,"].concat() }
}

/// The order in which messages without UID get theirs: seconds, microseconds after `M`, then the rest of the name, as Dovecot sorts.
#[must_use]
pub fn delivery_order(a: &[u8], b: &[u8]) -> Ordering {
    let ((a_seconds, a_rest), (b_seconds, b_rest)) = (number(a), number(b));
    a_seconds.cmp(&b_seconds).then_with(|| {
        let micros = match (micros(a_rest), micros(b_rest)) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => Ordering::Equal,
        };
        micros.then_with(|| base(a_rest).cmp(base(b_rest)))
    })
}

/// The digits at the front as a number, and the rest.
fn number(text: &[u8]) -> (u64, &[u8]) {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let value =
        text[..digits].iter().fold(0u64, |value, digit| value.saturating_mul(10).saturating_add((digit - b'0').into()));
    (value, &text[digits..])
}

fn micros(after_seconds: &[u8]) -> Option<u64> {
    let unique = after_seconds.strip_prefix(b".")?.split(|&byte| byte == b'.' || byte == b':').next()?;
    let at = unique.iter().position(|&byte| byte == b'M')?;
    Some(number(&unique[at + 1..]).0)
}

/// A host name as it may stand in a file name: `/` and `:` as octal codes, at most 64 octets.
#[must_use]
pub fn host(name: &str) -> String {
    let safe = name.replace('/', "\\057").replace(':', "\\072").replace(',', "\\054");
    let printable: String = safe.chars().filter(char::is_ascii_graphic).take(64).collect();
    if printable.is_empty() { "localhost".to_owned() } else { printable }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_a_name_change_and_foreign_letters_stay() {
        let name = b"1.M2P3.host,S=10,W=12:2,PSb,x=y";
        assert_eq!(base(name), b"1.M2P3.host,S=10,W=12");
        assert_eq!(stem(name), b"1.M2P3.host");
        assert_eq!(flags(name), (Flags::SEEN, 2));
        assert_eq!(with_flags(name, Flags::FLAGGED | Flags::DRAFT, 5), b"1.M2P3.host,S=10,W=12:2,DFPac,x=y");
        assert_eq!(with_flags(b"a", Flags::NONE, 0), b"a:2,");
        assert_eq!(with_flags(b"a:1,x", Flags::SEEN, 0), b"a:2,S");
    }

    #[test]
    fn sizes_are_read_from_the_base_name_only() {
        assert_eq!(size(b"1.x,S=10,W=12:2,S", b'S'), Some(10));
        assert_eq!(size(b"1.x,S=10,W=12", b'W'), Some(12));
        for name in [&b"1.x"[..], b"1.x,S=", b"1.x,S=1a", b"S=1", b"1.x:2,S=5", b"1.x,S=99999999999999999999999"] {
            assert_eq!(size(name, b'S'), None);
        }
    }

    #[test]
    fn messages_sort_by_time_of_delivery() {
        let mut names: Vec<&[u8]> = vec![b"20.M5P1.h", b"3.M9P1.h", b"20.M10P1.h", b"20.M5P0.h", b"x"];
        names.sort_by(|a, b| delivery_order(a, b));
        assert_eq!(names, [&b"x"[..], b"3.M9P1.h", b"20.M5P0.h", b"20.M5P1.h", b"20.M10P1.h"]);
    }

    #[test]
    fn a_host_name_cannot_break_a_file_name() {
        assert_eq!(host("a/b:c,d"), "a\\057b\\072c\\054d");
        assert_eq!(host(""), "localhost");
    }
}
