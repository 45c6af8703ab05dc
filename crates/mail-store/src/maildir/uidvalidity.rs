//! `dovecot-uidvalidity`: the last UIDVALIDITY given to any mailbox of an account, so that a mailbox made anew never gets an old one.
//!
//! The value stands in the name of an empty file, `dovecot-uidvalidity.<8 hex digits>`; whoever renames it to the next value owns that
//! value. The file without suffix repeats it, so that no directory has to be read.

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::io::Errno;

use super::dir::Dir;
use crate::Result;

const NAME: &str = "dovecot-uidvalidity";
/// Others may win the race for a value this often.
const ATTEMPTS: u32 = 16;

/// A UIDVALIDITY that no mailbox of this account has had.
///
/// # Errors
/// What the file system says.
pub fn next(control: &Dir) -> Result<u32> {
    let written = control.read_file(NAME.as_bytes(), 64).ok().flatten();
    let hint = written.and_then(|(text, _)| u32::from_str_radix(std::str::from_utf8(&text).ok()?.trim(), 16).ok());
    if let Some(value) = hint.map(|last| claim(control, last)).transpose()?.flatten() {
        return remember(control, value);
    }
    match highest(control)? {
        Some(last) => match claim(control, last)? {
            Some(value) => remember(control, value),
            None => remember(control, first(control)?),
        },
        None => remember(control, first(control)?),
    }
}

/// Renames the file of `last` to that of the next value. Another process may be a few values ahead.
fn claim(control: &Dir, last: u32) -> Result<Option<u32>> {
    for step in 0..ATTEMPTS {
        let Some(value) = last.checked_add(step + 1) else { return Ok(None) };
        let (from, to) = (file(value - 1), file(value));
        match rustix::fs::renameat(control.fd(), &from[..], control.fd(), &to[..]) {
            Ok(()) => return Ok(Some(value)),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(control.error(&to, error)),
        }
    }
    Ok(None)
}

/// The first value of an account: the time, as every server that was here before may have used lower times.
fn first(control: &Dir) -> Result<u32> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs());
    let mut value = u32::try_from(now).unwrap_or(u32::MAX - 1).max(1);
    loop {
        match control.create_file(&file(value)) {
            Ok(_) => return Ok(value),
            Err(Errno::EXIST) => value = value.saturating_add(1),
            Err(error) => return Err(control.error(&file(value), error)),
        }
    }
}

fn highest(control: &Dir) -> Result<Option<u32>> {
    let mut values = Vec::new();
    control.entries(|name, _| {
        let digits = name.strip_prefix(NAME.as_bytes()).and_then(|rest| rest.strip_prefix(b"."));
        let digits = digits.filter(|digits| digits.len() == 8).and_then(|digits| std::str::from_utf8(digits).ok());
        values.extend(digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()));
    })?;
    Ok(values.into_iter().max())
}

fn remember(control: &Dir, value: u32) -> Result<u32> {
    let text = format!("{value:08x}");
    let result = match control.create_file(NAME.as_bytes()) {
        Ok(mut new) => new.write_all(text.as_bytes()).map_err(|error| control.error(NAME.as_bytes(), error)),
        Err(_) => control.replace_file(NAME.as_bytes(), text.as_bytes(), false),
    };
    result.map(|()| value)
}

fn file(value: u32) -> Vec<u8> {
    format!("{NAME}.{value:08x}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_rise_and_dovecots_files_are_continued() {
        let temporary = tempfile::tempdir().expect("tempdir");
        let dir = Dir::open(temporary.path()).expect("open");
        let first = next(&dir).expect("first");
        assert_eq!(next(&dir).expect("second"), first + 1);
        assert!(temporary.path().join(format!("dovecot-uidvalidity.{:08x}", first + 1)).exists());
        assert_eq!(std::fs::read_to_string(temporary.path().join(NAME)).expect("read"), format!("{:08x}", first + 1));
        std::fs::remove_file(temporary.path().join(NAME)).expect("remove");
        assert_eq!(next(&dir).expect("third"), first + 2);
        std::fs::write(temporary.path().join(NAME), "garbage").expect("write");
        assert_eq!(next(&dir).expect("fourth"), first + 3);
    }

    #[test]
    fn the_values_of_an_account_go_on_where_they_were() {
        let temporary = tempfile::tempdir().expect("tempdir");
        let dir = Dir::open(temporary.path()).expect("open");
        std::fs::write(temporary.path().join("dovecot-uidvalidity.00000010"), "").expect("write");
        assert_eq!(next(&dir).expect("next"), 0x11);
        // Another process is some values ahead of what is written down.
        std::fs::rename(
            temporary.path().join("dovecot-uidvalidity.00000011"),
            temporary.path().join("dovecot-uidvalidity.00000014"),
        )
        .expect("renamed");
        assert_eq!(next(&dir).expect("next"), 0x15);
        assert!(!temporary.path().join("dovecot-uidvalidity.00000014").exists());
    }
}
