//! Whether mail is read where it is delivered: main.cf says the one, dovecot.conf the other.

use mail_config::Config;
use mail_config::dovecot::Location;
use mail_types::SourceLine;

/// A mailbox of a user: its path with `~` for the home directory and `%u` for the user, and whether it is a Maildir.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mailbox {
    path: String,
    maildir: bool,
    source: SourceLine,
}

impl Mailbox {
    fn new(path: &str, maildir: bool, source: &SourceLine) -> Self {
        // What Dovecot calls %n, %u and %d is the same for the users of the machine, who have no domain.
        let path = path.trim_end_matches('/').replace("$HOME", "~").replace("%h", "~").replace("%n", "%u");
        Self { path, maildir, source: source.clone() }
    }

    fn describe(&self) -> String {
        format!("{} {}", if self.maildir { "the Maildir" } else { "the mbox" }, self.path)
    }
}

/// Where `local` delivers to; nothing where another transport does, which then knows dovecot.conf itself.
fn delivered(config: &Config) -> Option<Mailbox> {
    let main = &config.main;
    if !main.local_transport.starts_with("local") {
        return None;
    }
    let (home, spool) = (&main.home_mailbox, &main.mail_spool_directory);
    Some(if home.is_empty() {
        let path = format!("{}/%u", spool.trim_end_matches('/'));
        Mailbox::new(&path, spool.ends_with('/'), &spool.source)
    } else {
        Mailbox::new(&format!("~/{}", home.as_str()), home.ends_with('/'), &home.source)
    })
}

/// Where imapd and pop3d read; nothing where they do not run, or look for themselves.
fn read(config: &Config) -> Option<Mailbox> {
    let dovecot = &config.dovecot;
    if !(dovecot.serves("imap") || dovecot.serves("pop3")) {
        return None;
    }
    match &dovecot.location {
        Location::At { path, inbox, source, .. } => Some(Mailbox::new(inbox.as_deref().unwrap_or(path), true, source)),
        Location::Detect | Location::Unsupported(_) => None,
    }
}

/// The warning, where users would not see their mail.
#[must_use]
pub fn mismatch(config: &Config) -> Option<String> {
    let (delivered, read) = (delivered(config)?, read(config)?);
    if (&delivered.path, delivered.maildir) == (&read.path, read.maildir) {
        return None;
    }
    Some(format!(
        "{}: warning: mail for the users of this machine goes into {}, but {} reads {}",
        delivered.source,
        delivered.describe(),
        read.source,
        read.describe()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warning(main: &str, dovecot: &str) -> Option<String> {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("dovecot.conf");
        std::fs::write(directory.path().join("main.cf"), main).expect("written");
        std::fs::write(&file, dovecot).expect("written");
        mismatch(&Config::load(directory.path(), Some(&file)).expect("good").config)
    }

    #[test]
    fn mail_that_nobody_reads_is_warned_about() {
        let maildir = "protocols = imap\nmail_location = maildir:~/Maildir\n";
        assert_eq!(warning("home_mailbox = Maildir/\n", maildir), None);
        assert_eq!(
            warning("home_mailbox = Maildir/\n", "protocols = imap\nmail_location = maildir:$HOME/Maildir/\n"),
            None
        );
        let text = warning("# ours\nhome_mailbox = Mail/\n", maildir).expect("a warning");
        assert!(
            text.contains("main.cf:2: ") && text.contains("~/Mail,") && text.contains("dovecot.conf:2 reads"),
            "{text}"
        );
        assert!(warning("", maildir).expect("a warning").contains("the mbox /var/mail/%u"));
        assert_eq!(
            warning("mail_spool_directory = /var/spool/mail/\n", "mail_location = maildir:/var/spool/mail/%n\n"),
            None
        );
        assert_eq!(warning("", "protocols = lmtp\nmail_location = maildir:~/Maildir\n"), None);
    }
}
