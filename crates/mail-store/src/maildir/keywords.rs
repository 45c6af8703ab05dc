//! `dovecot-keywords`: which keyword each of the letters `a` to `z` stands for, one `NUMBER NAME` per line.

use super::dir::{Dir, Stamp};
use super::dotlock::DotLock;
use crate::{KEYWORDS_MAX, KeywordSet, Result, StoreError};

const NAME: &str = "dovecot-keywords";
const FILE_MAX: u64 = 256 * 1024;

/// The keywords of one mailbox, as last read.
#[derive(Debug, Default)]
pub struct Keywords {
    names: Vec<String>,
    stamp: Stamp,
}

impl Keywords {
    /// The names by letter; a letter without a name has an empty one.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Reads the file again if it changed; whether it did.
    pub fn refresh(&mut self, control: &Dir) -> Result<bool> {
        let stamp = control.stat(NAME.as_bytes())?.as_ref().map_or_else(Stamp::default, Stamp::from);
        if stamp == self.stamp {
            return Ok(false);
        }
        let found = if control.is_strange(NAME.as_bytes(), FILE_MAX)? {
            Some((Vec::new(), stamp))
        } else {
            control.read_file(NAME.as_bytes(), FILE_MAX)?
        };
        let Some((text, stamp)) = found else { return Ok(false) };
        let before = std::mem::replace(&mut self.names, parse(&text));
        self.stamp = stamp;
        Ok(before != self.names)
    }

    /// The letters of keywords, in any case; names that the mailbox does not know yet get the next free ones, durably.
    ///
    /// # Errors
    /// [`StoreError::TooManyKeywords`] when no letter is left.
    pub fn set_of(&mut self, control: &Dir, wanted: &[String]) -> Result<KeywordSet> {
        let known = |names: &[String], wanted: &str| names.iter().position(|name| name.eq_ignore_ascii_case(wanted));
        if wanted.iter().any(|name| known(&self.names, name).is_none()) {
            let _lock = DotLock::take(control, NAME)?;
            // The lock's holder before us may have added some.
            self.refresh(control)?;
            let mut names = self.names.clone();
            for name in wanted {
                if known(&names, name).is_none() {
                    names.push(name.clone());
                }
            }
            if names.len() > KEYWORDS_MAX {
                return Err(StoreError::TooManyKeywords);
            }
            control.replace_file(NAME.as_bytes(), to_text(&names).as_bytes(), true)?;
            self.refresh(control)?;
        }
        Ok(wanted.iter().filter_map(|name| known(&self.names, name)).fold(0, |set, position| set | 1 << position))
    }

    /// The letters of those keywords that the mailbox knows; the others need no room, as when they are removed.
    pub fn known(&self, wanted: &[String]) -> KeywordSet {
        let position = |wanted: &String| self.names.iter().position(|name| name.eq_ignore_ascii_case(wanted));
        wanted.iter().filter_map(position).fold(0, |set, position| set | 1 << position)
    }

    /// The names of a set.
    pub fn names_of(&self, set: KeywordSet) -> Vec<String> {
        let named = self.names.iter().enumerate().filter(|(at, name)| set & 1 << at != 0 && !name.is_empty());
        named.map(|(_, name)| name.clone()).collect()
    }
}

/// The names of a `dovecot-keywords` file by letter; lines that are none are left out.
#[must_use]
pub fn parse(text: &[u8]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for line in String::from_utf8_lossy(text).lines() {
        let Some((number, name)) = line.split_once(' ') else { continue };
        let Ok(number) = number.parse::<usize>() else { continue };
        if number >= KEYWORDS_MAX || !is_keyword(name) {
            continue;
        }
        if names.len() <= number {
            names.resize(number + 1, String::new());
        }
        name.clone_into(&mut names[number]);
    }
    names
}

/// Whether a name can stand among flags: an atom of RFC 3501, not a system flag. Other programs write this file as well.
fn is_keyword(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && !b"(){%*\"\\]".contains(&b))
}

/// The text of a `dovecot-keywords` file.
#[must_use]
pub fn to_text(names: &[String]) -> String {
    let named = names.iter().enumerate().filter(|(_, name)| !name.is_empty());
    named.map(|(number, name)| format!("{number} {name}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords_get_letters_once() {
        let temporary = tempfile::tempdir().expect("tempdir");
        let dir = Dir::open(temporary.path()).expect("open");
        std::fs::write(temporary.path().join(NAME), "0 $Forwarded\n2 Junk\n1 (x\n4 \\Seen\n5 a b\nnonsense\n99 x\n")
            .expect("write");
        let mut keywords = Keywords::default();
        assert!(keywords.refresh(&dir).expect("read"));
        assert_eq!(keywords.set_of(&dir, &["junk".into(), "New".into()]).expect("room"), 0b1100);
        let text = std::fs::read_to_string(temporary.path().join(NAME)).expect("read");
        assert_eq!(text, "0 $Forwarded\n2 Junk\n3 New\n");
        let many: Vec<String> = (0..26).map(|number| format!("k{number}")).collect();
        assert!(matches!(keywords.set_of(&dir, &many), Err(StoreError::TooManyKeywords)));
        assert_eq!(keywords.names_of(0b1001), ["$Forwarded", "New"]);
    }
}
