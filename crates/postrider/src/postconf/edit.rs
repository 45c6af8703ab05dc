//! Editing main.cf: `-e` sets, `-#` comments out, `-X` removes. Comments and everything that is not named stay as they are, byte for byte.
//!
//! The new text is written beside the file, synced, and takes its place by rename, with the old one's owner and mode; whoever reads main.cf
//! meanwhile sees the one or the other. Of several definitions of a name all are changed, as Postfix's postconf does.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use crate::exit::Failure;

/// What happens to a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// It gets this value.
    Set(String),
    /// Its lines become comments.
    Comment,
    /// Its lines go.
    Remove,
}

/// Edits by name.
pub type Edits = BTreeMap<String, Edit>;

/// Reads `NAME = VALUE`.
///
/// # Errors
/// A sentence in Postfix's words.
pub fn assignment(text: &str) -> Result<(String, Edit), Failure> {
    one_line(text)?;
    let (name, value) =
        text.split_once('=').ok_or_else(|| Failure::usage(format!("missing '=' after attribute name: \"{text}\"")))?;
    Ok((attribute(name, text)?, Edit::Set(value.trim().to_owned())))
}

/// Reads the operand of `-#` or `-X`: a name alone.
///
/// # Errors
/// A sentence in Postfix's words.
pub fn name(text: &str, edit: Edit) -> Result<(String, Edit), Failure> {
    one_line(text)?;
    if text.contains('=') {
        let option = if edit == Edit::Remove { 'X' } else { '#' };
        return Err(Failure::usage(format!("-{option} requires names without value: \"{text}\"")));
    }
    Ok((attribute(text, text)?, edit))
}

fn one_line(text: &str) -> Result<(), Failure> {
    if text.contains(['\n', '\r', '\0']) {
        return Err(Failure::usage("-e, -X, or -# accepts no multi-line input"));
    }
    Ok(())
}

fn attribute(name: &str, whole: &str) -> Result<String, Failure> {
    let name = name.trim();
    if name.is_empty() {
        return Err(Failure::usage(format!("missing attribute name: \"{whole}\"")));
    }
    // A name with a space would be read back as another; one with `#' as a comment.
    if name.contains(char::is_whitespace) || name.starts_with('#') {
        return Err(Failure::usage(format!("missing '=' after attribute name: \"{whole}\"")));
    }
    Ok(name.to_owned())
}

/// The text of main.cf after the edits.
#[must_use]
pub fn edited(text: &str, edits: &Edits) -> String {
    let mut out = String::with_capacity(text.len() + 80);
    let mut found = std::collections::BTreeSet::new();
    // What happens to the continuation lines that follow.
    let mut current: Option<&Edit> = None;
    for line in text.split_inclusive('\n') {
        let is_note = line.trim().is_empty() || line.trim_start().starts_with('#');
        if !is_note && !line.starts_with([' ', '\t']) {
            let name = line.split('=').next().unwrap_or_default().trim();
            current = edits.get(name);
            if let Some(Edit::Set(value)) = current {
                out.push_str(&format!("{name} = {value}\n"));
            }
            found.insert(name);
        }
        match current {
            // Comments and empty lines between continuation lines are not the parameter's.
            _ if is_note => out.push_str(line),
            None => out.push_str(line),
            Some(Edit::Comment) => {
                out.push('#');
                out.push_str(line);
            }
            Some(Edit::Set(_) | Edit::Remove) => {}
        }
    }
    let missing = edits.iter().filter(|(name, _)| !found.contains(name.as_str()));
    for (name, value) in missing.filter_map(|(name, edit)| Some((name, set(edit)?))) {
        if !out.is_empty() && !out.ends_with('\n') {
            out.push('\n');
        }
        out.push_str(&format!("{name} = {value}\n"));
    }
    out
}

fn set(edit: &Edit) -> Option<&str> {
    if let Edit::Set(value) = edit { Some(value) } else { None }
}

/// Edits the file. A link is followed: what it leads to is changed.
///
/// # Errors
/// 1 if it cannot be read, written or put in place; then nothing has changed.
pub fn edit(path: &Path, edits: &Edits) -> Result<(), Failure> {
    let read = |error: &io::Error| Failure::usage(format!("open {} for reading: {}", path.display(), reason(error)));
    let path = fs::canonicalize(path).map_err(|error| read(&error))?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let failed = |error: io::Error| Failure::usage(format!("{}: {}", path.display(), reason(&error)));
    let directory = File::open(directory).map_err(failed)?;
    // Held until the rename: two edits at one time would lose one of them.
    rustix::fs::flock(&directory, rustix::fs::FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
    let text = fs::read(&path).map_err(|error| read(&error))?;
    let text = String::from_utf8(text).map_err(|_| failed(io::Error::other("it is not UTF-8 text")))?;
    let new = edited(&text, edits);
    replace(&path, &directory, new.as_bytes()).map_err(failed)
}

fn replace(path: &Path, directory: &File, text: &[u8]) -> io::Result<()> {
    let old = fs::metadata(path)?;
    let temporary = path.with_extension("cf.tmp");
    // One that is left over from a crash; nobody else writes it under the lock.
    let _ = fs::remove_file(&temporary);
    let written = File::options().write(true).create_new(true).mode(0o600).open(&temporary).and_then(|mut file| {
        file.write_all(text)?;
        let new = file.metadata()?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))?;
        file.sync_all()
    });
    let placed = written.and_then(|()| fs::rename(&temporary, path));
    if placed.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    placed.and_then(|()| directory.sync_all())
}

/// The system's words without the error number.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIN_CF: &str = "# comment\n\nmyhostname = a.b.c\nmydomain=b.c\nmynetworks = 127.0.0.0/8,\n  # inner comment\n  10.0.0.0/8\n\n  \
                           192.168.0.0/16\nrelayhost =\nmydomain = second\n# end\n";

    fn after(edits: &[(&str, Edit)]) -> String {
        let edits = edits.iter().map(|(name, edit)| ((*name).to_owned(), edit.clone())).collect();
        edited(MAIN_CF, &edits)
    }

    // What Postfix 3.7.11 made of the same file.
    #[test]
    fn the_file_reads_as_after_an_edit_by_postfix() {
        let set = |value: &str| Edit::Set(value.to_owned());
        assert_eq!(
            after(&[("mydomain", set("x y")), ("newparam", set("5"))]),
            MAIN_CF.replace("mydomain=b.c", "mydomain = x y").replace("mydomain = second", "mydomain = x y")
                + "newparam = 5\n"
        );
        assert_eq!(
            after(&[("mynetworks", set("1.2.3.4"))]),
            "# comment\n\nmyhostname = a.b.c\nmydomain=b.c\nmynetworks = 1.2.3.4\n  # inner comment\n\nrelayhost =\nmydomain = second\n# end\n"
        );
        assert_eq!(
            after(&[("mydomain", Edit::Comment), ("mynetworks", Edit::Comment)]),
            "# comment\n\nmyhostname = a.b.c\n#mydomain=b.c\n#mynetworks = 127.0.0.0/8,\n  # inner comment\n#  10.0.0.0/8\n\n#  192.168.0.0/16\n\
             relayhost =\n#mydomain = second\n# end\n"
        );
        assert_eq!(
            after(&[("mydomain", Edit::Remove), ("mynetworks", Edit::Remove), ("nonexist", Edit::Remove)]),
            "# comment\n\nmyhostname = a.b.c\n  # inner comment\n\nrelayhost =\n# end\n"
        );
    }

    #[test]
    fn a_file_without_final_newline_keeps_its_last_line() {
        let edits = [("b".to_owned(), Edit::Set("2".to_owned()))].into();
        assert_eq!(edited("a = 1", &edits), "a = 1\nb = 2\n");
    }

    #[test]
    fn operands_are_judged_as_postconf_judges_them() {
        assert_eq!(assignment(" x =  a b ").expect("good"), ("x".to_owned(), Edit::Set("a b".to_owned())));
        for bad in ["foo", "=x", "a b = c", "x=a\nb", "#x=1"] {
            assert_eq!(assignment(bad).expect_err("bad").code, 1, "{bad:?}");
        }
        assert!(name("x", Edit::Remove).is_ok());
        for bad in ["a=b", "", "a b"] {
            assert_eq!(name(bad, Edit::Comment).expect_err("bad").code, 1, "{bad:?}");
        }
    }

    #[test]
    fn mode_and_link_are_kept_and_no_other_file_is_left() {
        let directory = tempfile::tempdir().expect("a directory");
        let real = directory.path().join("real.cf");
        fs::write(&real, "a = 1\n").expect("written");
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).expect("a mode");
        let link = directory.path().join("main.cf");
        std::os::unix::fs::symlink("real.cf", &link).expect("a link");
        edit(&link, &[("a".to_owned(), Edit::Set("2".to_owned()))].into()).expect("edits");
        assert_eq!(fs::read_to_string(&real).expect("there"), "a = 2\n");
        assert_eq!(real.metadata().expect("there").mode() & 0o777, 0o640);
        assert!(link.is_symlink());
        assert_eq!(fs::read_dir(directory.path()).expect("lists").count(), 2);
        edit(&directory.path().join("none.cf"), &Edits::new()).expect_err("there is none");
    }
}
