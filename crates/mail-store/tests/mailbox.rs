//! A mailbox through its traits: what sessions do, and what other programs do beside them.

use std::path::Path;
use std::sync::{Arc, Mutex};

use mail_store::maildir::{DeliveryName, Maildir, MaildirAccount};
use mail_store::{
    Access, Account, FlagChange, FlagMode, Flags, Location, Mailbox, MailboxName, NewMessage, Placed, StoreError,
};
use mail_types::QueueId;

struct Fixture {
    dir: tempfile::TempDir,
    account: MaildirAccount,
    notices: Arc<Mutex<Vec<String>>>,
}

fn account() -> Fixture {
    let dir = tempfile::tempdir().expect("tempdir");
    let notices = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&notices);
    let account = MaildirAccount::new(
        Location::maildir(dir.path().join("Maildir")),
        Arc::new(move |line: &str| sink.lock().expect("alive").push(line.to_owned())),
    );
    Fixture { dir, account, notices }
}

impl Fixture {
    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("Maildir")
    }

    fn deliver(&self, number: u32) {
        let maildir = Maildir::create(&self.path()).expect("made");
        let queue_id = QueueId::new(1_700_000_000 + u64::from(number), 5, number).expect("in range");
        let mut batch = maildir.batch();
        let content = format!("Subject: {number}\r\n\r\nx\r\n");
        let name = DeliveryName { queue_id, recipient: 0, host: "h.example" };
        batch.add(&name, false, |message| message.write(content.as_bytes()));
        batch.commit().pop().expect("one").expect("delivered");
    }

    fn open(&self, access: Access) -> Box<dyn Mailbox> {
        self.account.open(&MailboxName::inbox(), access).expect("opens")
    }

    fn append(&self, name: &MailboxName, message: NewMessage, content: &[u8]) -> Placed {
        let mut append = self.account.append(name, message).expect("begins");
        append.write(content).expect("written");
        append.finish().expect("placed")
    }
}

fn uids(mailbox: &dyn Mailbox) -> Vec<u32> {
    mailbox.messages().iter().map(|message| message.uid).collect()
}

fn add(flags: Flags, keywords: &[&str]) -> FlagChange {
    FlagChange { mode: FlagMode::Add, flags, keywords: keywords.iter().map(|&k| k.to_owned()).collect() }
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(path)
        .expect("read")
        .map(|e| e.expect("entry").file_name().into_string().expect("utf-8"))
        .collect();
    names.sort();
    names
}

#[test]
fn delivered_mail_gets_uids_in_order_and_keeps_them() {
    // I09
    let b = account();
    (1..4).for_each(|number| b.deliver(number));
    let mailbox = b.open(Access::ReadWrite);
    assert_eq!(uids(&*mailbox), [1, 2, 3]);
    assert!(mailbox.messages().iter().all(|message| message.recent));
    let validity = mailbox.uid_validity();
    drop(mailbox);
    b.deliver(4);
    let mailbox = b.open(Access::ReadWrite);
    assert_eq!((uids(&*mailbox), mailbox.uid_validity(), mailbox.uid_next()), (vec![1, 2, 3, 4], validity, 5));
    assert_eq!(mailbox.messages().iter().filter(|message| message.recent).count(), 1);
    assert_eq!(mailbox.facts(4).expect("there").size, 17);
    assert_eq!(mailbox.open_message(4).expect("there").read_all().expect("read"), b"Subject: 4\r\n\r\nx\r\n");
    assert_eq!(mailbox.uidl(4).expect("there"), format!("{:08x}{validity:08x}", 4));
}

#[test]
fn two_sessions_see_each_others_changes() {
    let b = account();
    (1..4).for_each(|number| b.deliver(number));
    let (mut one, mut two) = (b.open(Access::ReadWrite), b.open(Access::ReadWrite));
    assert!(one.sync().expect("sync").is_empty());
    assert_eq!(one.store(&[2], &add(Flags::SEEN, &["$Junk"])).expect("stored"), [2]);
    let changes = two.sync().expect("sync");
    assert_eq!((changes.flags, changes.keywords), (vec![2], true));
    assert_eq!(two.messages()[1].flags, Flags::SEEN);
    assert_eq!(two.keywords(), ["$Junk"]);
    // Session one does not know yet that two expunges; its own rename finds nothing.
    assert_eq!(two.expunge(&[1, 3]).expect("expunged"), [1, 3]);
    assert!(matches!(one.open_message(3), Err(StoreError::Expunged)));
    assert_eq!(one.store(&[2, 3], &add(Flags::DELETED, &[])).expect("stored"), [2]);
    b.deliver(9);
    let changes = one.sync().expect("sync");
    assert_eq!((changes.expunged, changes.added), (vec![1, 3], vec![4]));
    assert_eq!(two.sync().expect("sync").flags, [2]);
    assert_eq!(uids(&*two), [2, 4]);
}

#[test]
fn a_read_only_session_changes_nothing() {
    let b = account();
    b.deliver(1);
    let mut mailbox = b.open(Access::ReadOnly);
    assert!(mailbox.messages()[0].recent);
    assert!(matches!(mailbox.store(&[1], &add(Flags::SEEN, &[])), Err(StoreError::ReadOnly)));
    assert!(matches!(mailbox.expunge(&[1]), Err(StoreError::ReadOnly)));
    assert_eq!(names(&b.path().join("new")).len(), 1);
}

#[test]
fn append_and_copy_keep_flags_keywords_and_dates() {
    let b = account();
    let folder = MailboxName::from_stored("Archive.2024").expect("good");
    assert!(matches!(b.account.append(&folder, NewMessage::default()), Err(StoreError::NoSuchMailbox)));
    b.account.create(&folder).expect("created");
    let message = NewMessage { flags: Flags::SEEN, keywords: vec!["Work".into()], internal_date: Some(86_400) };
    let placed = b.append(&MailboxName::inbox(), message, b"a\nb\r\n");
    assert_eq!(placed.uids, [1]);
    b.append(&folder, NewMessage { keywords: vec!["Other".into()], ..NewMessage::default() }, b"x");
    let mut inbox = b.open(Access::ReadWrite);
    assert_eq!(inbox.copy(&[1, 1], &folder).expect("copied").uids, [2, 3]);
    let target = b.account.open(&folder, Access::ReadOnly).expect("opens");
    let copied = target.messages()[1];
    assert_eq!((copied.flags, target.keywords()), (Flags::SEEN, &["Other".to_owned(), "Work".to_owned()][..]));
    assert_eq!(copied.keywords, 2);
    let facts = target.facts(2).expect("there");
    assert_eq!((facts.internal_date, facts.size, facts.physical), (86_400, 6, 4));
    // I20: none of the copies is left when one source is gone.
    assert!(matches!(inbox.copy(&[1, 7], &folder), Err(StoreError::Expunged)));
    assert_eq!(names(&b.path().join(".Archive.2024/cur")).len(), 3);
    assert!(names(&b.path().join(".Archive.2024/tmp")).is_empty());
}

#[test]
fn a_hostile_maildir_stays_usable() {
    let b = account();
    (1..3).for_each(|number| b.deliver(number));
    let new = b.path().join("new");
    std::os::unix::fs::symlink("/etc/passwd", new.join("1.link")).expect("link");
    rustix::fs::mkfifoat(rustix::fs::CWD, new.join("2.fifo"), rustix::fs::Mode::RWXU).expect("fifo");
    std::fs::create_dir(new.join("3.dir")).expect("dir");
    std::fs::write(new.join("4.new\nline"), "x").expect("write");
    std::fs::write(new.join(format!("5.{}", "h".repeat(253))), "long name").expect("write");
    std::fs::write(new.join(":2,S"), "no base").expect("write");
    let mut mailbox = b.open(Access::ReadWrite);
    assert_eq!(mailbox.messages().len(), 3);
    assert_eq!(b.notices.lock().expect("alive").len(), 6, "{:?}", b.notices.lock());
    mailbox.store(&[1, 2, 3], &add(Flags::SEEN, &[])).expect("stored");
    let seen = mailbox.messages().iter().filter(|message| message.flags == Flags::SEEN).count();
    assert_eq!(seen, 2, "the longest name has no room for flags, the others have");
    assert_eq!(mailbox.expunge(&[1]).expect("expunged"), [1]);
    assert_eq!(mailbox.open_message(2).expect("opens").read_all().expect("read").len(), 17);
}

#[test]
fn folders_are_made_listed_renamed_and_removed() {
    let b = account();
    let name = |text: &str| MailboxName::from_stored(text).expect("good");
    b.account.create(&name("Entw&APw-rfe")).expect("created");
    b.account.create(&name("a.b")).expect("created");
    assert!(matches!(b.account.create(&name("a.b")), Err(StoreError::AlreadyExists)));
    let validity = b.account.status(&name("a.b")).expect("status").uid_validity;
    b.account.rename(&name("a.b"), &name("c")).expect("renamed");
    assert_eq!(b.account.status(&name("c")).expect("status").uid_validity, validity);
    let mut list: Vec<String> = b.account.list().expect("list").iter().map(|l| l.name.as_stored().to_owned()).collect();
    list.sort();
    assert_eq!(list, ["Entw&APw-rfe", "INBOX", "c"]);
    b.account.delete(&name("c")).expect("deleted");
    assert!(matches!(b.account.delete(&name("c")), Err(StoreError::NoSuchMailbox)));
    b.account.create(&name("c")).expect("created again");
    assert!(b.account.status(&name("c")).expect("status").uid_validity > validity);
}

#[test]
fn a_torn_uidlist_keeps_its_uids_and_a_lost_one_gets_a_new_validity() {
    let b = account();
    (1..4).for_each(|number| b.deliver(number));
    let validity = b.open(Access::ReadWrite).uid_validity();
    let list = b.path().join("dovecot-uidlist");
    let mut text = std::fs::read(&list).expect("read");
    text.extend_from_slice(b"4 :170000");
    std::fs::write(&list, &text).expect("write");
    b.deliver(4);
    let mailbox = b.open(Access::ReadWrite);
    assert_eq!((uids(&*mailbox), mailbox.uid_validity()), (vec![1, 2, 3, 4], validity));
    drop(mailbox);
    // Both lost.
    std::fs::remove_file(&list).expect("removed");
    std::fs::remove_file(b.path().join("postrider.index")).expect("removed");
    assert!(b.open(Access::ReadWrite).uid_validity() > validity);
}

#[test]
fn a_lost_or_damaged_uidlist_is_restored_from_the_index() {
    let b = account();
    (1..5).for_each(|number| b.deliver(number));
    let list = b.path().join("dovecot-uidlist");
    let mut mailbox = b.open(Access::ReadWrite);
    let validity = mailbox.uid_validity();
    mailbox.expunge(&[2, 4]).expect("expunged");
    drop(mailbox);
    let good = std::fs::read(&list).expect("read");
    let half = good[..good.len() / 2].to_vec();
    let zeroed: Vec<u8> =
        good.iter().enumerate().map(|(at, &byte)| if at > 60 && at < 140 { 0 } else { byte }).collect();
    for damage in [None, Some(vec![]), Some(b"garbage\n".to_vec()), Some(half), Some(zeroed)] {
        match &damage {
            Some(text) => std::fs::write(&list, text).expect("written"),
            None => std::fs::remove_file(&list).expect("removed"),
        }
        let mailbox = b.open(Access::ReadWrite);
        assert_eq!((uids(&*mailbox), mailbox.uid_validity()), (vec![1, 3], validity), "{damage:?}");
        assert_eq!(mailbox.uid_next(), 5, "{damage:?}");
    }
    // While a session is open.
    let mut mailbox = b.open(Access::ReadWrite);
    std::fs::remove_file(&list).expect("removed");
    b.deliver(9);
    let changes = mailbox.sync().expect("sync");
    assert_eq!((changes.added, changes.uid_validity), (vec![5], false));
}

#[test]
fn an_opening_from_the_index_sees_what_changed_since() {
    let b = account();
    (1..5).for_each(|number| b.deliver(number));
    let mut mailbox = b.open(Access::ReadWrite);
    mailbox.put_cached(&[(1, b"envelope".to_vec())]).expect("kept");
    mailbox.store(&[1], &add(Flags::SEEN, &["Work"])).expect("stored");
    let facts = mailbox.facts(1).expect("there");
    drop(mailbox);
    for _ in 0..3 {
        let mailbox = b.open(Access::ReadWrite);
        assert_eq!((mailbox.messages()[0].flags, mailbox.facts(1).expect("there")), (Flags::SEEN, facts));
        assert_eq!(mailbox.cached(1).as_deref(), Some(&b"envelope"[..]));
        drop(mailbox);
        // Old enough to be trusted by the next opening.
        let past = std::time::SystemTime::now() - std::time::Duration::from_secs(10);
        for part in ["new", "cur"] {
            std::fs::File::open(b.path().join(part)).expect("open").set_modified(past).expect("set");
        }
        drop(b.open(Access::ReadWrite));
    }
    let cur = b.path().join("cur");
    let second = names(&cur)[1].clone();
    std::fs::rename(cur.join(&second), cur.join(second.replace(":2,", ":2,F"))).expect("renamed");
    b.deliver(6);
    let mailbox = b.open(Access::ReadWrite);
    assert_eq!((uids(&*mailbox), mailbox.messages()[1].flags), (vec![1, 2, 3, 4, 5], Flags::FLAGGED));
    assert!(mailbox.messages()[4].recent && !mailbox.messages()[3].recent);
}

#[test]
fn a_file_that_comes_back_gets_a_new_uid_within_a_session() {
    let b = account();
    (1..3).for_each(|number| b.deliver(number));
    let mut mailbox = b.open(Access::ReadWrite);
    let cur = b.path().join("cur");
    let first = names(&cur)[0].clone();
    let aside = b.dir.path().join("aside");
    std::fs::rename(cur.join(&first), &aside).expect("rename");
    assert_eq!(mailbox.sync().expect("sync").expunged, [1]);
    std::fs::rename(&aside, cur.join(&first)).expect("rename");
    assert_eq!(mailbox.sync().expect("sync").added, [3]);
}
