//! The same Maildir under a real Dovecot and under us: equal UIDs, flags, keywords, sizes, dates and UIDLs, in both directions and at once.
//!
//! Dovecot's `imap` and `pop3` run on pipes, without listener or login. Without Dovecot these tests say that they are skipped; with `CI=true`
//! they fail.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mail_store::maildir::{DeliveryName, Maildir, MaildirAccount};
use mail_store::{Access, Account, FlagChange, FlagMode, Flags, Location, Mailbox, MailboxName, NewMessage};
use mail_types::QueueId;

/// The uid and gid under which Dovecot runs when the tests run as root, which Dovecot refuses to serve.
const NOBODY: u32 = 65534;

struct Fixture {
    dir: tempfile::TempDir,
    account: MaildirAccount,
}

/// A Maildir for both; `None` where there is no Dovecot.
fn fixture(options: &str) -> Option<Fixture> {
    if !Path::new("/usr/lib/dovecot/imap").exists() {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "dovecot is not installed");
        eprintln!("SKIPPED: dovecot is not installed");
        return None;
    }
    let dir = tempfile::tempdir().expect("tempdir");
    let home = dir.path().display().to_string();
    for name in ["run", "state"] {
        std::fs::create_dir(dir.path().join(name)).expect("made");
    }
    let me = if rustix::process::getuid().is_root() { "nobody".to_owned() } else { whoami() };
    let config = format!(
        "log_path = {home}/log\nssl = no\nbase_dir = {home}/run\nstate_dir = {home}/state\nfirst_valid_uid = 1\n\
         default_internal_user = {me}\ndefault_login_user = {me}\ndefault_internal_group = {}\nmail_location = maildir:{home}/Maildir{options}\n",
        if me == "nobody" { "nogroup".to_owned() } else { me.clone() },
    );
    std::fs::write(dir.path().join("dovecot.conf"), config).expect("written");
    let location = Location::parse(&format!("maildir:{home}/Maildir{options}"), dir.path()).expect("good");
    let account = MaildirAccount::new(location, Arc::new(|line: &str| eprintln!("notice: {line}")));
    Some(Fixture { dir, account })
}

fn whoami() -> String {
    let output = Command::new("id").arg("-un").output().expect("id");
    String::from_utf8(output.stdout).expect("utf-8").trim().to_owned()
}

impl Fixture {
    fn deliver(&self, number: u32) {
        let maildir = Maildir::create(&self.dir.path().join("Maildir")).expect("made");
        let queue_id = QueueId::new(1_700_000_000 + u64::from(number), 5, number).expect("in range");
        let mut batch = maildir.batch();
        let content = format!("Subject: {number}\r\n\r\n{}\r\n", "x\r\n".repeat(number as usize));
        let name = DeliveryName { queue_id, recipient: 0, host: "h.example" };
        batch.add(&name, false, |message| message.write(content.as_bytes()));
        batch.commit().pop().expect("one").expect("delivered");
    }

    /// Gives everything to Dovecot's user; we, as root, may go on.
    fn hand_over(&self) {
        if rustix::process::getuid().is_root() {
            chown(self.dir.path());
        }
    }

    fn program(&self, name: &str) -> Child {
        self.hand_over();
        let mut command = Command::new(format!("/usr/lib/dovecot/{name}"));
        command.arg("-c").arg(self.dir.path().join("dovecot.conf"));
        command.env_clear().env("USER", "tester").env("HOME", self.dir.path()).current_dir("/");
        if rustix::process::getuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let log = std::fs::File::create(self.dir.path().join(format!("{name}.log"))).expect("made");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        command.spawn().expect("dovecot runs")
    }

    fn imap(&self) -> Imap {
        let mut child = self.program("imap");
        let (input, output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let mut imap = Imap { child, input, output: BufReader::new(output), tag: 0 };
        assert!(imap.line().starts_with("* PREAUTH"));
        imap
    }

    fn open(&self) -> Box<dyn Mailbox> {
        self.account.open(&MailboxName::inbox(), Access::ReadWrite).expect("opens")
    }

    /// What a fresh Dovecot sees.
    fn seen_by_dovecot(&self, mailbox: &str) -> Seen {
        let mut imap = self.imap();
        let seen = imap.look(mailbox);
        imap.logout();
        seen
    }

    fn seen_by_us(&self, mailbox: &str) -> Seen {
        let name = MailboxName::from_imap(mailbox, '.').expect("good");
        let mailbox = self.account.open(&name, Access::ReadWrite).expect("opens");
        look(&*mailbox)
    }
}

fn chown(path: &Path) {
    std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)).expect("chown");
    if path.is_dir() {
        for entry in std::fs::read_dir(path).expect("read") {
            chown(&entry.expect("entry").path());
        }
    }
}

/// A mailbox as a client sees it: UIDVALIDITY, UIDNEXT, and for each UID its flags and keywords, size and date.
type Seen = (u32, u32, BTreeMap<u32, (Vec<String>, u64, i64)>);

fn look(mailbox: &dyn Mailbox) -> Seen {
    let mut messages = BTreeMap::new();
    for message in mailbox.messages() {
        let facts = mailbox.facts(message.uid).expect("there");
        let names = [
            (Flags::ANSWERED, "\\Answered"),
            (Flags::FLAGGED, "\\Flagged"),
            (Flags::DELETED, "\\Deleted"),
            (Flags::SEEN, "\\Seen"),
            (Flags::DRAFT, "\\Draft"),
        ];
        let flags = names.iter().filter(|(flag, _)| message.flags.contains(*flag)).map(|(_, name)| (*name).to_owned());
        let keywords = mailbox.keywords().iter().enumerate().filter(|(at, _)| message.keywords & 1 << at != 0);
        let mut all: Vec<String> = flags.chain(keywords.map(|(_, name)| name.clone())).collect();
        all.sort();
        messages.insert(message.uid, (all, facts.size, facts.internal_date));
    }
    (mailbox.uid_validity(), mailbox.uid_next(), messages)
}

struct Imap {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    tag: u32,
}

impl Imap {
    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.output.read_line(&mut line).expect("open") > 0, "dovecot ended");
        line.trim_end().to_owned()
    }

    /// Runs a command that must succeed; its untagged lines and the tagged one.
    fn command(&mut self, text: &str) -> Vec<String> {
        self.tag += 1;
        let tag = format!("t{}", self.tag);
        self.input.write_all(format!("{tag} {text}\r\n").as_bytes()).expect("open");
        let mut lines = Vec::new();
        loop {
            let line = self.line();
            if let Some(status) = line.strip_prefix(&format!("{tag} ")) {
                assert!(status.starts_with("OK"), "{text}: {status}");
                lines.push(line);
                return lines;
            }
            lines.push(line);
        }
    }

    fn look(&mut self, mailbox: &str) -> Seen {
        let selected = self.command(&format!("SELECT {mailbox}"));
        let number = |key: &str| -> u32 {
            let text = selected.iter().find_map(|line| line.split(key).nth(1)).unwrap_or_else(|| panic!("{key}"));
            text.trim_start().split(']').next().expect("split").parse().expect("a number")
        };
        let (validity, next) = (number("[UIDVALIDITY"), number("[UIDNEXT"));
        let mut messages = BTreeMap::new();
        if !selected.iter().any(|line| line == "* 0 EXISTS") {
            for line in self.command("UID FETCH 1:* (FLAGS RFC822.SIZE INTERNALDATE)") {
                let Some((_, rest)) = line.split_once(" FETCH (UID ") else { continue };
                let (uid, rest) = rest.split_once(" FLAGS (").expect("flags");
                let (flags, rest) = rest.split_once(") RFC822.SIZE ").expect("size");
                let (size, date) = rest.split_once(" INTERNALDATE ").expect("date");
                let mut flags: Vec<String> =
                    flags.split(' ').filter(|f| !f.is_empty() && *f != "\\Recent").map(str::to_owned).collect();
                flags.sort();
                let date = seconds(date.trim_matches(|c| c == '"' || c == ')'));
                messages.insert(uid.parse().expect("uid"), (flags, size.parse().expect("size"), date));
            }
        }
        (validity, next, messages)
    }

    fn logout(mut self) {
        self.command("LOGOUT");
        self.child.wait().expect("ends");
    }
}

/// Seconds since 1970 of ` 2-Jan-1970 00:00:00 +0000`.
fn seconds(date: &str) -> i64 {
    let output = Command::new("date").args(["-u", "+%s", "-d", date.trim()]).output().expect("date");
    String::from_utf8(output.stdout).expect("utf-8").trim().parse().unwrap_or_else(|_| panic!("{date}"))
}

fn change(mode: FlagMode, flags: Flags, keywords: &[&str]) -> FlagChange {
    FlagChange { mode, flags, keywords: keywords.iter().map(|&k| k.to_owned()).collect() }
}

#[test]
fn dovecots_mailbox_is_the_same_under_us() {
    let Some(f) = fixture("") else { return };
    (1..6).for_each(|number| f.deliver(number));
    let mut imap = f.imap();
    imap.command("SELECT INBOX");
    imap.command("STORE 2 +FLAGS (\\Seen $Forwarded Work)");
    imap.command("STORE 3 FLAGS (\\Answered \\Flagged \\Draft)");
    imap.command("STORE 1 +FLAGS (\\Deleted)");
    imap.command("EXPUNGE");
    imap.command("CREATE Entw&APw-rfe.alt");
    imap.command("COPY 1:2 Entw&APw-rfe.alt");
    imap.command("SUBSCRIBE Entw&APw-rfe.alt");
    imap.logout();
    for mailbox in ["INBOX", "Entw&APw-rfe.alt"] {
        let dovecot = f.seen_by_dovecot(mailbox);
        assert_eq!(f.seen_by_us(mailbox), dovecot);
        assert_eq!(f.seen_by_dovecot(mailbox), dovecot);
    }
    let alt = MailboxName::from_stored("Entw&APw-rfe.alt").expect("good");
    assert_eq!(f.account.subscriptions().expect("read"), std::slice::from_ref(&alt));
    assert!(f.account.list().expect("list").iter().any(|listed| listed.name == alt));
}

#[test]
fn our_mailbox_is_the_same_under_dovecot() {
    let Some(f) = fixture("") else { return };
    (1..6).for_each(|number| f.deliver(number));
    let mut mailbox = f.open();
    mailbox.store(&[2], &change(FlagMode::Add, Flags::SEEN, &["$Forwarded", "Work"])).expect("stored");
    mailbox.store(&[3], &change(FlagMode::Replace, Flags::ANSWERED | Flags::DRAFT, &[])).expect("stored");
    mailbox.expunge(&[1]).expect("expunged");
    let name = MailboxName::from_stored("Entw&APw-rfe.alt").expect("good");
    f.account.create(&name).expect("created");
    mailbox.copy(&[2, 3], &name).expect("copied");
    f.account.set_subscribed(&name, true).expect("subscribed");
    let message =
        NewMessage { flags: Flags::FLAGGED, keywords: vec!["Work".into()], internal_date: Some(1_000_000_000) };
    let mut append = f.account.append(&MailboxName::inbox(), message).expect("begins");
    append.write(b"Subject: appended\r\n\r\nbare\nline\r\n").expect("written");
    assert_eq!(append.finish().expect("placed").uids, [6]);
    drop(mailbox);
    for mailbox in ["INBOX", "Entw&APw-rfe.alt"] {
        let ours = f.seen_by_us(mailbox);
        assert!(ours.2.len() >= 2);
        assert_eq!(f.seen_by_dovecot(mailbox), ours);
    }
    let mut imap = f.imap();
    let listed = imap.command("LSUB \"\" *");
    assert!(listed.iter().any(|line| line.ends_with("Entw&APw-rfe.alt")), "{listed:?}");
    imap.logout();
}

#[test]
fn pop3_ids_are_the_same() {
    // P05c
    let Some(f) = fixture("") else { return };
    (1..4).for_each(|number| f.deliver(number));
    let mut child = f.program("pop3");
    child.stdin.take().expect("piped").write_all(b"UIDL\r\nQUIT\r\n").expect("open");
    let mut text = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut text).expect("open");
    child.wait().expect("ends");
    let dovecot: Vec<String> = text
        .lines()
        .filter_map(|line| line.split_once(' ').filter(|(n, _)| n.parse::<u32>().is_ok()))
        .map(|(_, id)| id.to_owned())
        .collect();
    let mailbox = f.open();
    let ours: Vec<String> =
        mailbox.messages().iter().map(|message| mailbox.uidl(message.uid).expect("there")).collect();
    assert_eq!(ours, dovecot);
    assert_eq!(ours.len(), 3);
}

#[test]
fn control_and_index_directories_are_where_dovecot_has_them() {
    let Some(f) = fixture(":CONTROL=~/control:INDEX=~/index") else { return };
    f.deliver(1);
    let mut imap = f.imap();
    imap.command("CREATE a.b");
    imap.command("SUBSCRIBE a.b");
    imap.logout();
    let dovecot = f.seen_by_dovecot("INBOX");
    assert_eq!(f.seen_by_us("INBOX"), dovecot);
    let ab = f.seen_by_dovecot("a.b");
    assert_eq!(f.seen_by_us("a.b"), ab);
    assert_eq!(f.account.subscriptions().expect("read").len(), 1);
    f.account.create(&MailboxName::from_stored("ours").expect("good")).expect("created");
    assert_eq!(f.seen_by_us("ours"), f.seen_by_dovecot("ours"));
    assert!(!PathBuf::from(f.dir.path()).join("Maildir/dovecot-uidlist").exists());
}

#[test]
fn both_at_once_agree_on_every_uid() {
    // I09
    let Some(f) = fixture("") else { return };
    f.deliver(0);
    let mut mailbox = f.open();
    f.hand_over();
    let mut imap = f.imap();
    imap.command("SELECT INBOX");
    let done = AtomicBool::new(false);
    let mut ours: BTreeMap<u32, String> = BTreeMap::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (1..120).for_each(|number| f.deliver(number));
            done.store(true, Ordering::Relaxed);
        });
        let mut round = 0;
        while !done.load(Ordering::Relaxed) {
            round += 1;
            // What root made is Dovecot's to lock and rename too.
            f.hand_over_quietly();
            mailbox.sync().expect("sync");
            for message in mailbox.messages() {
                let uidl = mailbox.uidl(message.uid).expect("there");
                let before = ours.entry(message.uid).or_insert_with(|| uidl.clone());
                assert_eq!(*before, uidl);
            }
            let last = mailbox.messages().last().expect("one").uid;
            mailbox.store(&[last], &change(FlagMode::Add, Flags::SEEN, &[])).expect("stored");
            f.hand_over_quietly();
            imap.command("NOOP");
            if round % 3 == 0 {
                imap.command("STORE 1 FLAGS (\\Flagged)");
            }
        }
    });
    f.hand_over();
    imap.command("NOOP");
    imap.logout();
    drop(mailbox);
    let seen = f.seen_by_us("INBOX");
    assert_eq!(seen.2.len(), 120);
    assert_eq!(f.seen_by_dovecot("INBOX"), seen);
}

impl Fixture {
    /// [`Fixture::hand_over`] while files come and go.
    fn hand_over_quietly(&self) {
        fn walk(path: &Path) {
            let _ = std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY));
            for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
                walk(&entry.path());
            }
        }
        if rustix::process::getuid().is_root() {
            walk(&self.dir.path().join("Maildir"));
        }
    }
}
