//! A process is killed at a random moment while it delivers, appends and assigns UIDs: nothing it said is untrue afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use mail_store::maildir::{DeliveryName, Maildir, MaildirAccount};
use mail_store::{Access, Account, FlagChange, FlagMode, Flags, Location, MailboxName, NewMessage};
use mail_types::QueueId;

/// Where the child works; the test below is the child when this is set.
const PLACE: &str = "MAIL_STORE_CRASH_PLACE";
const ROUNDS: u64 = 25;

fn account(path: &Path) -> MaildirAccount {
    MaildirAccount::new(Location::maildir(path), Arc::new(|_: &str| {}))
}

fn deliver(path: &Path, number: u32, repeated: bool) {
    let maildir = Maildir::create(path).expect("made");
    let queue_id = QueueId::new(1_700_000_000, 0, number).expect("in range");
    let mut batch = maildir.batch();
    let name = DeliveryName { queue_id, recipient: 1, host: "h" };
    let content = format!("Subject: {number}\r\n\r\n");
    batch.add(&name, repeated, |message| message.write(content.as_bytes()));
    batch.commit().pop().expect("one").expect("delivered");
}

/// Says something that must stay true.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // The parent has closed its end: it is about to kill us anyway.
    let _ = writeln!(out, "@{line}");
    let _ = out.flush();
}

/// The child's life: runs only as a child, until it is killed.
#[test]
fn child() {
    let Some(place) = std::env::var_os(PLACE).map(PathBuf::from) else { return };
    let first: u32 = std::env::var("MAIL_STORE_CRASH_FIRST").expect("set").parse().expect("a number");
    let account = account(&place);
    let inbox = MailboxName::inbox();
    for number in first.. {
        say(&format!("begun {number}"));
        deliver(&place, number, false);
        say(&format!("delivered {number}"));
        let mut mailbox = account.open(&inbox, Access::ReadWrite).expect("opens");
        for message in mailbox.messages() {
            say(&format!(
                "uid {} {} {}",
                mailbox.uid_validity(),
                message.uid,
                mailbox.file_name(message.uid).expect("there")
            ));
        }
        say(&format!("next {}", mailbox.uid_next()));
        let mut append =
            account.append(&inbox, NewMessage { flags: Flags::SEEN, ..NewMessage::default() }).expect("begins");
        append.write(format!("Subject: appended {number}\r\n\r\n").as_bytes()).expect("written");
        let uid = append.finish().expect("placed").uids[0];
        say(&format!("appended {uid} {number}"));
        mailbox.sync().expect("sync");
        let oldest = mailbox.messages().first().expect("one").uid;
        let change =
            FlagChange { mode: FlagMode::Add, flags: Flags::DELETED, keywords: vec![format!("k{}", number % 5)] };
        mailbox.store(&[oldest, uid], &change).expect("stored");
        if mailbox.messages().len() > 8 {
            say(&format!("expunging {oldest}"));
            mailbox.expunge(&[oldest]).expect("expunged");
        }
    }
}

#[derive(Default)]
struct Known {
    delivered: BTreeSet<u32>,
    begun: u32,
    appended: BTreeMap<u32, String>,
    expunging: BTreeSet<u32>,
    validity: Option<String>,
    uids: BTreeMap<u32, String>,
    next: u32,
}

impl Known {
    fn hear(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u32>().expect("a number");
        match words[0] {
            "begun" => self.begun = number(1),
            "delivered" => {
                self.delivered.insert(number(1));
            }
            "appended" => {
                self.appended.insert(number(1), words[2].to_owned());
            }
            "expunging" => {
                self.expunging.insert(number(1));
            }
            "next" => {
                assert!(number(1) >= self.next, "UIDNEXT fell");
                self.next = number(1);
            }
            "uid" => {
                let validity = self.validity.get_or_insert_with(|| words[1].to_owned());
                assert_eq!(validity, words[1], "UIDVALIDITY changed");
                let before = self.uids.entry(number(2)).or_insert_with(|| words[3].to_owned());
                assert_eq!(before, words[3], "a UID was given twice");
            }
            other => panic!("{other}"),
        }
    }
}

/// Runs a child for a while, kills it, and hears all that it said before.
fn run_and_kill(place: &Path, known: &mut Known, first: u32, pause: Duration) {
    let mut child = Command::new(std::env::current_exe().expect("known"))
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(PLACE, place)
        .env("MAIL_STORE_CRASH_FIRST", first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the child runs");
    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    let mut heard = |output: &mut BufReader<_>, known: &mut Known| {
        line.clear();
        let read = output.read_line(&mut line).expect("a pipe");
        if let Some(text) = line.trim_end().split_once('@') {
            known.hear(text.1);
        }
        read > 0
    };
    // It is at work once it has said so.
    while known.begun < first && heard(&mut output, known) {}
    let end = std::time::Instant::now() + pause;
    while std::time::Instant::now() < end && heard(&mut output, known) {}
    child.kill().expect("alive");
    while heard(&mut output, known) {}
    child.wait().expect("ended");
}

#[test]
fn what_was_said_before_a_kill_holds_after_it() {
    // R1, R3, R6, I09
    let dir = tempfile::tempdir().expect("tempdir");
    let place = dir.path().join("Maildir");
    let mut known = Known::default();
    for round in 0..ROUNDS {
        let first = known.begun + 1;
        // Moments spread over everything that one turn of the child does.
        run_and_kill(&place, &mut known, first, Duration::from_micros(200 + (round * 7919) % 23_000));
        // The message under way is attempted again, as after a lost lease.
        deliver(&place, known.begun, true);
        known.delivered.insert(known.begun);
        let mailbox = account(&place).open(&MailboxName::inbox(), Access::ReadWrite).expect("opens");
        let mut subjects = Vec::new();
        for message in mailbox.messages() {
            let name = mailbox.file_name(message.uid).expect("there");
            known.hear(&format!("uid {} {} {name}", mailbox.uid_validity(), message.uid));
            let content = mailbox.open_message(message.uid).expect("there").read_all().expect("read");
            subjects.push(String::from_utf8(content).expect("utf-8").trim_end().to_owned());
        }
        known.hear(&format!("next {}", mailbox.uid_next()));
        check(&known, &subjects, mailbox.messages().iter().map(|message| message.uid).collect());
    }
    assert!(known.delivered.len() as u64 >= ROUNDS && !known.appended.is_empty());
}

fn check(known: &Known, subjects: &[String], present: BTreeSet<u32>) {
    for number in &known.delivered {
        let id = QueueId::new(1_700_000_000, 0, *number).expect("in range").to_string();
        let copies = subjects.iter().filter(|subject| **subject == format!("Subject: {number}")).count();
        assert!(copies <= 1, "message {number} lies there {copies} times");
        let uid = known.uids.iter().find(|(_, name)| name.contains(&format!("Q{id}R1.h"))).map(|(uid, _)| *uid);
        let gone = uid.is_some_and(|uid| known.expunging.contains(&uid));
        assert!(copies == 1 || gone, "message {number} is lost");
    }
    for uid in known.appended.keys() {
        assert!(present.contains(uid) || known.expunging.contains(uid), "appended message {uid} is lost");
    }
}
