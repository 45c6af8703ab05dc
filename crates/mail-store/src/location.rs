//! Dovecot's `mail_location`: where a user's mailboxes lie.

use std::path::{Path, PathBuf};

use crate::{Result, StoreError};

/// The directories of one user's Maildir++ (`mail_location = maildir:~/Maildir:INDEX=...:CONTROL=...`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The Maildir that holds the mailboxes as `.Name` directories; the inbox too unless [`Location::inbox`] is set.
    pub root: PathBuf,
    /// `INBOX=`: the inbox's own directory.
    pub inbox: Option<PathBuf>,
    /// `CONTROL=`: where uidlists, keywords and subscriptions lie.
    pub control: Option<PathBuf>,
    /// `INDEX=`: where our index lies.
    pub index: Index,
}

/// Where the index of a mailbox lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Index {
    /// Beside the mail.
    Mailbox,
    /// `INDEX=PATH`.
    Directory(PathBuf),
    /// `INDEX=MEMORY`: there is none.
    Memory,
}

impl Location {
    /// A Maildir with everything inside it.
    #[must_use]
    pub fn maildir(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), inbox: None, control: None, index: Index::Mailbox }
    }

    /// Reads a `mail_location` whose `%` variables are expanded already; `~/` is `home`.
    ///
    /// # Errors
    /// [`StoreError::Unsupported`] for another type, layout or option than those above: never an empty mailbox instead.
    pub fn parse(text: &str, home: &Path) -> Result<Self> {
        let unsupported = || StoreError::Unsupported(format!("mail_location {text}"));
        let rest = text.strip_prefix("maildir:").ok_or_else(unsupported)?;
        let mut parts = rest.split(':');
        let root = parts.next().filter(|path| !path.is_empty()).ok_or_else(unsupported)?;
        let mut location = Self::maildir(absolute(root, home).ok_or_else(unsupported)?);
        for option in parts {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            let path = || absolute(value, home).ok_or_else(unsupported);
            match key {
                "INBOX" => location.inbox = Some(path()?),
                "CONTROL" => location.control = Some(path()?),
                "INDEX" if value == "MEMORY" => location.index = Index::Memory,
                "INDEX" => location.index = Index::Directory(path()?),
                "LAYOUT" if value == "Maildir++" || value == "maildir++" => {}
                // Both only concern Dovecot's own volatile and cache files.
                "VOLATILEDIR" | "INDEXCACHE" => {}
                _ => return Err(unsupported()),
            }
        }
        Ok(location)
    }

    /// The directory of the inbox.
    #[must_use]
    pub fn inbox_path(&self) -> &Path {
        self.inbox.as_deref().unwrap_or(&self.root)
    }

    /// All directories in which a session of this user reads and writes, for its confinement.
    #[must_use]
    pub fn directories(&self) -> Vec<&Path> {
        let index = match &self.index {
            Index::Directory(path) => Some(path.as_path()),
            Index::Mailbox | Index::Memory => None,
        };
        [Some(self.root.as_path()), self.inbox.as_deref(), self.control.as_deref(), index]
            .into_iter()
            .flatten()
            .collect()
    }
}

/// `~/x` and `~` below `home`, an absolute path as it is; anything else has no meaning without a working directory.
fn absolute(path: &str, home: &Path) -> Option<PathBuf> {
    if path == "~" {
        return Some(home.to_owned());
    }
    match path.strip_prefix("~/") {
        Some(rest) => Some(home.join(rest)),
        None => path.starts_with('/').then(|| PathBuf::from(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_of_the_field_is_read() {
        let home = Path::new("/home/john");
        let plain = Location::parse("maildir:~/Maildir", home).expect("good");
        assert_eq!(plain, Location::maildir("/home/john/Maildir"));
        let full = Location::parse("maildir:/m/john:INBOX=~/in:CONTROL=/c/john:INDEX=/i/john:LAYOUT=Maildir++", home);
        let full = full.expect("good");
        assert_eq!(full.inbox_path(), Path::new("/home/john/in"));
        assert_eq!(full.index, Index::Directory("/i/john".into()));
        assert_eq!(full.directories().len(), 4);
    }

    #[test]
    fn what_is_not_built_is_refused() {
        for text in [
            "mbox:~/mail",
            "mdbox:~/m",
            "maildir:",
            "maildir:Maildir",
            "maildir:~/M:LAYOUT=fs",
            "maildir:~/M:UTF-8",
            "maildir:~/M:DIRNAME=x",
            "",
        ] {
            let result = Location::parse(text, Path::new("/h"));
            assert!(matches!(result, Err(StoreError::Unsupported(_))), "{text}");
        }
    }
}
