//! I09: a Maildir goes from Dovecot to us and back, and no client notices.

use std::io;
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::Path;

use test_support::Builder;
use test_support::clients::Imap;

use crate::dovecot::{Dovecot, login};
use crate::response::{Value, fetched};

pub fn loses_nothing() -> Result<(), String> {
    let system = Builder::new("compat.example").start()?;
    let dovecot = Dovecot::beside(&system)?;
    let mut theirs = dovecot.login("john")?;
    append(&mut theirs, "INBOX", "(\\Seen)", "first")?;
    append(&mut theirs, "INBOX", "(\\Flagged $Forwarded)", "second")?;
    ask(&mut theirs, "CREATE Entw&APw-rfe")?;
    ask(&mut theirs, "SUBSCRIBE Entw&APw-rfe")?;
    append(&mut theirs, "Entw&APw-rfe", "(\\Draft)", "third")?;
    ask(&mut theirs, "LOGOUT")?;
    let before = state_of(&mut dovecot.login("john")?)?;

    let mut ours = login(system.ports.at(system.ports.imap), "john")?;
    let seen = state_of(&mut ours)?;
    same("after the switch to us", &before, &seen)?;
    append(&mut ours, "INBOX", "(Work)", "fourth")?;
    ask(&mut ours, "SELECT INBOX")?;
    ask(&mut ours, "UID STORE 1 +FLAGS (\\Answered $Forwarded)")?;
    ask(&mut ours, "UID STORE 2 +FLAGS.SILENT (\\Deleted)")?;
    ask(&mut ours, "EXPUNGE")?;
    ask(&mut ours, "UID COPY 1 Entw&APw-rfe")?;
    ask(&mut ours, "CLOSE")?;
    let after = state_of(&mut ours)?;
    ask(&mut ours, "LOGOUT")?;

    same("after the switch back", &after, &state_of(&mut dovecot.login("john")?)?)
}

fn same(when: &str, expected: &str, found: &str) -> Result<(), String> {
    if expected == found { Ok(()) } else { Err(format!("{when}:\n{expected}\n{found}")) }
}

fn ask(session: &mut Imap, command: &str) -> Result<Vec<String>, String> {
    session.command(command).map_err(|error| format!("{command}: {error}"))
}

fn append(session: &mut Imap, mailbox: &str, flags: &str, subject: &str) -> Result<(), String> {
    let message = format!("Subject: {subject}\r\n\r\n{subject}\r\n");
    ask(session, &format!("APPEND {mailbox} {flags} {{{}+}}\r\n{message}", message.len())).map(drop)
}

/// Everything that a client could remember of the two mailboxes.
fn state_of(session: &mut Imap) -> Result<String, String> {
    let mut lines = Vec::new();
    for mailbox in ["INBOX", "Entw&APw-rfe"] {
        lines.extend(
            ask(session, &format!("STATUS {mailbox} (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)"))?
                .into_iter()
                .filter(|l| l.starts_with('*')),
        );
        ask(session, &format!("EXAMINE {mailbox}"))?;
        for (number, data) in fetched(&ask(session, "UID FETCH 1:* (FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])")?) {
            lines.push(format!("{number} {:?}", without_recent(data)));
        }
    }
    lines.extend(ask(session, "LSUB \"\" *")?.into_iter().filter(|line| line.starts_with('*')));
    Ok(lines.join("\n"))
}

/// `\Recent` belongs to a session, not to the mailbox; flags come in any order.
pub fn without_recent(data: Vec<Value>) -> Vec<Value> {
    let flags = |value: Value| match value {
        Value::List(mut flags) => {
            flags.retain(|flag| *flag != Value::Atom("\\Recent".to_owned()));
            flags.sort_by_key(|flag| format!("{flag:?}"));
            Value::List(flags)
        }
        other => other,
    };
    data.into_iter().map(flags).collect()
}

/// Gives a Maildir to the owner of its home.
pub fn give(maildir: &Path) -> io::Result<()> {
    let owner = maildir.parent().map_or_else(|| maildir.metadata(), Path::metadata)?;
    give_to(maildir, owner.uid(), owner.gid())
}

fn give_to(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    lchown(path, Some(uid), Some(gid))?;
    if path.is_dir() {
        for entry in path.read_dir()? {
            give_to(&entry?.path(), uid, gid)?;
        }
    }
    Ok(())
}
