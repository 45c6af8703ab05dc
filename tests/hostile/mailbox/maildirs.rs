//! Attack class hostile Maildirs: what is no message is skipped and logged, what cannot be read harms nobody, and nothing of another user is read.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use test_support::clients::{Pop3, Security};
use test_support::{Builder, System};

use super::bombs::give;
use super::dialogue::check;
use super::session::Session;

/// What stands in files that john's sessions must never show.
const SECRET: &str = "the secret of another user";

pub fn what_is_no_message_is_skipped() -> Result<(), String> {
    let system = Builder::new("info.net").start()?;
    let mut mary = Session::login(&system, "mary", "mary")?;
    let secret = format!("Subject: {SECRET}\r\n\r\n{SECRET}\r\n");
    mary.ok(&format!("APPEND INBOX {{{}+}}\r\n{secret}", secret.len()))?;
    let mut john = Session::login(&system, "john", "a hostile Maildir")?;
    for number in 0..3 {
        let good = format!("Subject: good {number}\r\n\r\ntext\r\n");
        john.ok(&format!("APPEND INBOX {{{}+}}\r\n{good}", good.len()))?;
    }
    for name in ["a", "b", "c"] {
        john.ok(&format!("CREATE {name}"))?;
    }
    furnish(&system).map_err(|error| format!("the hostile Maildir: {error}"))?;
    read_all(&system, "IMAP")?;
    for skipped in ["fifo", "link", "directory", "device"] {
        system.wait_for_line("imapd", &[skipped])?;
    }
    by_pop3(&system)?;
    lists_are_replaced(&system)
}

/// Reads whatever john's mailboxes show: the good messages, and nothing of mary's.
fn read_all(system: &System, what: &'static str) -> Result<(), String> {
    let mut john = Session::login(system, "john", what)?;
    let listed = john.ok("LIST \"\" *")?;
    check(!listed.contains("linked") && !listed.contains("etc"), || format!("LIST: {listed}"))?;
    john.refused(b"SELECT linked")?;
    john.refused(b"SELECT a")?;
    let opened = john.ok("SELECT INBOX")?;
    check(opened.contains("* 6 EXISTS"), || format!("SELECT: {opened}"))?;
    let all = john.text(b"FETCH 1:* (UID FLAGS ENVELOPE BODY.PEEK[])")?;
    check(all.matches("Subject: good").count() == 4, || format!("FETCH: {all}"))?;
    check(!all.contains(SECRET) && !all.contains("root:"), || format!("FETCH shows what it may not: {all}"))?;
    let found = john.text(b"SEARCH TEXT secret")?;
    check(!found.contains("* SEARCH 1"), || format!("SEARCH: {found}"))?;
    john.ok("STORE 1 +FLAGS (\\Flagged)")?;
    john.ok("COPY 1 b")?;
    Ok(())
}

fn furnish(system: &System) -> std::io::Result<()> {
    let (john, mary) = (system.maildir("john"), system.maildir("mary"));
    let cur = john.join("cur");
    let others: Vec<_> = fs::read_dir(mary.join("new"))?.chain(fs::read_dir(mary.join("cur"))?).flatten().collect();
    symlink("/etc/passwd", cur.join("1700000001.link:2,"))?;
    symlink(&mary, john.join(".linked"))?;
    for (number, other) in others.iter().enumerate() {
        symlink(other.path(), cur.join(format!("17000000{number}2.link:2,")))?;
        symlink(other.path(), john.join("new").join(format!("17000000{number}3.link")))?;
    }
    symlink("nowhere", cur.join("1700000004.link"))?;
    symlink("1700000005.link", cur.join("1700000005.link"))?;
    mknodat(CWD, cur.join("1700000006.fifo:2,"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    mknodat(CWD, john.join("new/1700000007.fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    if rustix::process::geteuid().is_root() {
        mknodat(
            CWD,
            cur.join("1700000008.device:2,"),
            FileType::CharacterDevice,
            Mode::RUSR,
            rustix::fs::makedev(1, 5),
        )?;
    } else {
        symlink("/dev/zero", cur.join("1700000008.device:2,"))?;
    }
    fs::create_dir(cur.join("1700000009.directory:2,S"))?;
    fs::create_dir(john.join("new/1700000010.directory"))?;
    fs::write(cur.join("line\nend:2,"), "Subject: no name\n\nx\n")?;
    fs::write(cur.join("x".repeat(255)), "Subject: good, with a long name\n\nx\n")?;
    let unreadable = cur.join("1700000011.unreadable:2,");
    fs::write(&unreadable, "Subject: unreadable\n\nx\n")?;
    fs::set_permissions(&unreadable, fs::Permissions::from_mode(0o000))?;
    give(system, &unreadable).map_err(std::io::Error::other)?;
    // A file of more octets than a message can have, and none on the disk.
    let huge = fs::File::create(cur.join("1700000012.huge:2,"))?;
    huge.set_len(1 << 40)?;
    give(system, &cur.join("1700000012.huge:2,")).map_err(std::io::Error::other)?;
    // Mailboxes that are none.
    fs::remove_dir_all(john.join(".a/cur"))?;
    symlink(mary.join("cur"), john.join(".a/cur"))?;
    fs::write(john.join(".file"), "no directory")?;
    symlink("/etc", john.join(".etc"))?;
    fs::create_dir(john.join(".bad&name"))
}

fn by_pop3(system: &System) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("POP3 on a hostile Maildir: {error}");
    let mut pop3 = Pop3::connect(system.ports.at(system.ports.pop3), Security::Clear).map_err(failed)?;
    pop3.login("john", "secret").map_err(failed)?;
    let listed = pop3.listing("LIST").map_err(failed)?;
    check(listed.len() == 4, || format!("POP3 lists {listed:?}"))?;
    for number in 1..=4 {
        let message = pop3.listing(&format!("RETR {number}")).map_err(failed)?;
        check(message.concat().contains("Subject: good"), || format!("RETR {number}: {message:?}"))?;
    }
    pop3.command("QUIT").map(drop).map_err(failed)
}

/// A uidlist that is damaged, or no file at all, never keeps a mailbox shut.
fn lists_are_replaced(system: &System) -> Result<(), String> {
    let maildir = system.maildir("john");
    let path = maildir.join("dovecot-uidlist");
    for (what, spoil) in SPOILS {
        remove(&path);
        spoil(&path).map_err(|error| format!("a uidlist as {what}: {error}"))?;
        if !path.is_symlink() && path.is_file() {
            give(system, &path)?;
        }
        read_all(system, "damaged lists").map_err(|error| format!("a uidlist as {what}: {error}"))?;
    }
    Ok(())
}

fn remove(path: &Path) {
    if fs::remove_file(path).is_err() {
        let _ = fs::remove_dir_all(path);
    }
}

type Spoil = fn(&Path) -> std::io::Result<()>;

const SPOILS: [(&str, Spoil); 7] = [
    ("rubbish", |path| fs::write(path, b"\0\xff\n3 V0 N0\n99999999999 :x\n1 :../../x\n")),
    ("an empty file", |path| fs::write(path, b"")),
    ("a huge file", |path| fs::File::create(path)?.set_len(1 << 40)),
    ("a link to a secret", |path| symlink("/etc/passwd", path)),
    ("a link to nothing", |path| symlink("nowhere", path)),
    ("a FIFO", |path| Ok(mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?)),
    ("a directory", |path| fs::create_dir_all(path.join("inside"))),
];
