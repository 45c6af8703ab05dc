//! The `subscriptions` file: one name per line; version 2 (`V<TAB>2`) separates levels by TAB and escapes with 0x01.

use super::dir::Dir;
use super::dotlock::DotLock;
use crate::{MailboxName, Result};

const NAME: &str = "subscriptions";
const HEADER: &str = "V\t2\n\n";
const FILE_MAX: u64 = 16 * 1024 * 1024;

/// The subscribed names; lines that can be no mailbox are left out.
pub fn read(control: &Dir) -> Result<Vec<MailboxName>> {
    Ok(parse(&text(control)?.unwrap_or_default()))
}

/// The names in the text of a file; lines that can be no mailbox are left out.
#[must_use]
pub fn parse(text: &str) -> Vec<MailboxName> {
    let (version, lines) = split(text);
    lines.filter_map(|line| MailboxName::from_stored(&decode(line, version)).ok()).collect()
}

/// Adds or removes a name; every other line stays as it is.
pub fn set(control: &Dir, name: &MailboxName, subscribed: bool) -> Result<()> {
    let _lock = DotLock::take(control, NAME)?;
    let old = text(control)?;
    match changed(old.as_deref().unwrap_or(HEADER), name, subscribed) {
        Some(new) => control.replace_file(NAME.as_bytes(), new.as_bytes(), true),
        None => Ok(()),
    }
}

/// The text of a file after a name was added or removed; none where nothing changes.
#[must_use]
pub fn changed(old: &str, name: &MailboxName, subscribed: bool) -> Option<String> {
    let (version, lines) = split(old);
    let is_name = |line: &str| MailboxName::from_stored(&decode(line, version)).is_ok_and(|found| found == *name);
    let mut new = String::from(if version == 2 { HEADER } else { "" });
    let mut found = false;
    for line in lines {
        let same = is_name(line);
        if !(same && (found || !subscribed)) {
            new.push_str(line);
            new.push('\n');
        }
        found |= same;
    }
    if subscribed && !found {
        new.push_str(&if version == 2 { encode(name) } else { name.as_stored().to_owned() });
        new.push('\n');
    }
    (found != subscribed).then_some(new)
}

fn text(control: &Dir) -> Result<Option<String>> {
    if control.is_strange(NAME.as_bytes(), FILE_MAX)? {
        return Ok(None);
    }
    let read = control.read_file(NAME.as_bytes(), FILE_MAX)?;
    Ok(read.map(|(octets, _)| String::from_utf8_lossy(&octets).into_owned()))
}

fn split(text: &str) -> (u8, impl Iterator<Item = &str>) {
    let (version, lines) = text.strip_prefix(HEADER).map_or((1, text), |lines| (2, lines));
    // A carriage return before the end of a line is part of the end, as it is for Dovecot, also where a last line has no end.
    (version, lines.lines().map(|line| line.trim_end_matches('\r')).filter(|line| !line.is_empty()))
}

fn encode(name: &MailboxName) -> String {
    // Names hold no control characters, so nothing needs escaping; levels are separated by TAB.
    name.as_stored().replace('.', "\t")
}

fn decode(line: &str, version: u8) -> String {
    if version == 1 {
        return line.to_owned();
    }
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\t' => out.push('.'),
            '\u{1}' => match chars.next() {
                Some('1') => out.push('\u{1}'),
                Some('t') => out.push('\t'),
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                Some('0') => out.push('\0'),
                Some(other) => out.push(other),
                None => {}
            },
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> MailboxName {
        MailboxName::from_stored(text).expect("good")
    }

    #[test]
    fn both_versions_are_read_and_kept() {
        let temporary = tempfile::tempdir().expect("tempdir");
        let dir = Dir::open(temporary.path()).expect("open");
        let path = temporary.path().join(NAME);
        set(&dir, &name("a.b"), true).expect("set");
        set(&dir, &name("INBOX"), true).expect("set");
        set(&dir, &name("a.b"), true).expect("again");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "V\t2\n\na\tb\nINBOX\n");
        set(&dir, &name("a.b"), false).expect("set");
        assert_eq!(read(&dir).expect("read"), [name("INBOX")]);
        std::fs::write(&path, "old.one\n../x\nother\n").expect("write");
        set(&dir, &name("other"), false).expect("set");
        set(&dir, &name("new.one"), true).expect("set");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "old.one\n../x\nnew.one\n");
        assert_eq!(read(&dir).expect("read"), [name("old.one"), name("new.one")]);
    }

    // Found by the target `subscriptions`: adding a name made another one of a last line without an end.
    #[test]
    fn the_end_of_a_line_is_the_same_with_and_without_a_further_one() {
        assert_eq!(parse("a\r\nb\r"), [name("a"), name("b")]);
        assert_eq!(changed("b\r", &name("c"), true).as_deref(), Some("b\nc\n"));
    }
}
