//! The machine on a real Maildir, in one process.

use std::path::Path;

use mail_imap::{HandOver, Mailbox as Machine, MailboxSettings};
use mail_store::Location;
use mail_store::maildir::MaildirAccount;
use mail_types::Octets;
use session::transcript::Player;
use session::{AskId, Machine as _, Step};

use super::*;
use crate::names::tests::namespace;

/// A client of a session without network.
struct Client {
    machine: Machine,
    jobs: Jobs,
    _directory: Option<tempfile::TempDir>,
}

impl Client {
    fn on(path: &Path) -> Self {
        let account = Arc::new(MaildirAccount::new(Location::maildir(path), Arc::new(|_: &str| {})));
        let names = Names::new(&[namespace("", '/', &[("Sent", "\\Sent"), ("Trash", "\\Trash")])]);
        let mut jobs = Jobs::new(account, Arc::new(names), Arc::new(|text| panic!("an error was logged: {text}")));
        jobs.make_described();
        let hand_over = HandOver { tag: "l".into(), unread: Octets::default() };
        let mut client = Self { machine: Machine::new(MailboxSettings::default(), &hand_over), jobs, _directory: None };
        client.run();
        client
    }

    fn new() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let mut client = Self::on(directory.path());
        client._directory = Some(directory);
        client
    }

    fn run(&mut self) -> String {
        let mut out = Vec::new();
        loop {
            match self.machine.next(session::Moment(0)) {
                Step::Send(bytes) => out.extend(bytes),
                Step::Give(chunk) => self.jobs.write(&chunk),
                Step::Ask(id, question) => self.answer(id, question),
                Step::Close(_) | Step::Wait => return String::from_utf8_lossy(&out).into_owned(),
                Step::StartTls => unreachable!("after login"),
            }
        }
    }

    fn answer(&mut self, id: AskId, question: Question) {
        let mut chunks = Vec::new();
        let answer = self.jobs.run(question, &mut |chunk| {
            chunks.push(chunk);
            true
        });
        for chunk in chunks {
            self.machine.answer(id, Answer::Data(chunk));
        }
        if let Some(answer) = answer {
            self.machine.answer(id, answer);
        }
    }

    /// Sends a command and gives everything that is said.
    fn say(&mut self, command: &str) -> String {
        self.machine.receive(format!("{command}\r\n").as_bytes());
        self.run()
    }

    /// The same, which must end with OK.
    fn ok(&mut self, command: &str) -> String {
        let said = self.say(&format!("t {command}"));
        let last = said.lines().last().unwrap_or_default();
        assert!(last.starts_with("t OK"), "{command}: {said}");
        said
    }

    fn append(&mut self, mailbox: &str, message: &str) -> String {
        self.ok(&format!("APPEND {mailbox} {{{}+}}\r\n{message}", message.len()))
    }
}

const MESSAGE: &str =
    "From: A <a@b.c>\r\nSubject: hi\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\n\r\nhello\r\nworld\r\n";

#[test]
fn a_message_is_appended_fetched_copied_and_expunged() {
    let mut client = Client::new();
    assert!(client.append("INBOX", MESSAGE).contains("[APPENDUID "));
    client.append("INBOX", &MESSAGE.replace("hi", "second"));
    let selected = client.ok("SELECT INBOX");
    assert!(
        selected.contains("* 2 EXISTS\r\n* 2 RECENT\r\n* OK [UNSEEN 1]") && selected.contains("[UIDNEXT 3]"),
        "{selected}"
    );
    let fetched =
        client.ok("FETCH 1 (FLAGS RFC822.SIZE ENVELOPE BODY BODY.PEEK[TEXT] BODY.PEEK[HEADER.FIELDS (SUBJECT)])");
    assert!(
        fetched
            .contains("RFC822.SIZE 84 ENVELOPE (\"Mon, 1 Jan 2024 00:00:00 +0000\" \"hi\" ((\"A\" NIL \"a\" \"b.c\"))"),
        "{fetched}"
    );
    assert!(
        fetched.contains(
            "BODY[TEXT] {14}\r\nhello\r\nworld\r\n BODY[HEADER.FIELDS (SUBJECT)] {15}\r\nSubject: hi\r\n\r\n)"
        ),
        "{fetched}"
    );
    assert!(fetched.contains("FLAGS (\\Recent)"), "{fetched}");
    // I12
    assert!(client.ok("FETCH 2 BODY[]<3.5>").contains("BODY[]<3> {5}\r\nm: A  FLAGS (\\Seen \\Recent))"));
    assert!(client.ok("SEARCH UNSEEN").contains("* SEARCH 1\r\n"));
    // I20
    assert!(client.ok("COPY 1:2 Sent").contains("1:2 1:2] Copy completed."));
    let moved = client.ok("MOVE 1 Trash");
    assert!(moved.starts_with("* OK [COPYUID ") && moved.contains("* 1 EXPUNGE\r\nt OK"), "{moved}");
    assert!(client.ok("STORE 1 +FLAGS (\\Deleted $x)").contains("* 1 FETCH (FLAGS (\\Deleted \\Seen \\Recent $x))"));
    assert_eq!(client.ok("EXPUNGE"), "* 1 EXPUNGE\r\nt OK Expunge completed.\r\n");
    assert!(
        client.ok("STATUS Sent (MESSAGES UNSEEN UIDNEXT)").starts_with("* STATUS Sent (MESSAGES 2 UNSEEN 1 UIDNEXT 3)")
    );
    assert_eq!((client.jobs.counts.expunged, client.jobs.counts.deleted, client.jobs.counts.trashed), (2, 1, 1));
}

#[test]
fn two_sessions_see_each_others_changes() {
    // I10, I11, I18
    let directory = tempfile::tempdir().expect("directory");
    let (mut one, mut two) = (Client::on(directory.path()), Client::on(directory.path()));
    one.append("INBOX", MESSAGE);
    one.ok("SELECT INBOX");
    two.ok("SELECT INBOX");
    one.ok("STORE 1 +FLAGS (\\Flagged)");
    assert!(two.ok("NOOP").contains("* 1 FETCH (FLAGS (\\Flagged))"));
    two.append("INBOX", MESSAGE);
    assert!(one.ok("NOOP").contains("* 2 EXISTS"));
    one.ok("STORE 1 +FLAGS.SILENT \\Deleted");
    one.ok("EXPUNGE");
    let said = two.ok("FETCH 2 FLAGS");
    assert!(!said.contains("EXPUNGE"), "{said}");
    assert!(two.ok("NOOP").contains("* 1 EXPUNGE"));
}

#[test]
fn folders_are_made_listed_renamed_and_removed() {
    // I06, I08
    let mut client = Client::new();
    client.ok("CREATE a/b");
    let listed = client.ok("LIST \"\" *");
    assert!(
        listed.contains("* LIST (\\Noselect \\HasChildren) \"/\" a\r\n* LIST (\\HasNoChildren) \"/\" a/b\r\n"),
        "{listed}"
    );
    assert!(listed.contains("(\\HasNoChildren \\Sent) \"/\" Sent"));
    assert!(client.ok("LSUB \"\" *").starts_with("* LSUB (\\Sent) \"/\" Sent\r\nt OK"));
    client.ok("RENAME a c/d");
    assert!(client.ok("LIST \"\" c/*").contains("c/d/b\r\n"));
    client.append("INBOX", MESSAGE);
    client.ok("RENAME INBOX old");
    assert!(client.ok("STATUS old (MESSAGES)").contains("MESSAGES 1"));
    assert!(client.ok("STATUS INBOX (MESSAGES)").contains("MESSAGES 0"));
    client.ok("DELETE c/d/b");
    for (command, code) in [
        ("DELETE INBOX", "CANNOT"),
        ("DELETE nope", "NONEXISTENT"),
        ("CREATE inbox", "ALREADYEXISTS"),
        ("CREATE old", "ALREADYEXISTS"),
        ("CREATE ../x", "CANNOT"),
        ("SELECT nope", "NONEXISTENT"),
        ("RENAME nope x", "NONEXISTENT"),
        ("RENAME old Sent", "ALREADYEXISTS"),
        ("SUBSCRIBE nope", "NONEXISTENT"),
        ("APPEND nope {1+}\r\nx", "TRYCREATE"),
    ] {
        assert!(client.say(&format!("t {command}")).starts_with(&format!("t NO [{code}] ")), "{command}");
    }
}

#[test]
fn a_deleted_mailbox_is_not_selected_any_more() {
    let mut client = Client::new();
    client.ok("CREATE x");
    client.ok("SELECT x");
    client.ok("DELETE x");
    assert_eq!(client.say("t CHECK"), "t BAD No mailbox selected\r\n");
}

#[test]
fn searches_find_by_flag_date_size_and_text() {
    // I17
    let mut client = Client::new();
    client.ok(&format!(
        "APPEND INBOX (\\Flagged $Work) \"05-Feb-2020 12:00:00 +0000\" {{{}+}}\r\n{MESSAGE}",
        MESSAGE.len()
    ));
    client.append("INBOX", "Subject: =?utf-8?q?caf=C3=A9?=\r\n\r\nGr\u{fc}n\r\n");
    client.ok("SELECT INBOX");
    for (key, expected) in [
        ("ALL", " 1 2"),
        ("FLAGGED", " 1"),
        ("KEYWORD $work", " 1"),
        ("UNKEYWORD nope", " 1 2"),
        ("ON 5-Feb-2020", " 1"),
        ("SINCE 6-Feb-2020", " 2"),
        ("SENTBEFORE 2-Jan-2024", " 1"),
        ("LARGER 60", " 1"),
        ("NOT LARGER 60", " 2"),
        ("FROM \"a@B.C\"", " 1"),
        ("HEADER Date \"\"", " 1"),
        ("CHARSET UTF-8 SUBJECT {5+}\r\nCAF\u{c9}", " 2"),
        ("TEXT world", " 1"),
        ("BODY subject", ""),
        ("OR (BODY \"gr\u{fc}n\") 1", " 1 2"),
        ("UID 2:*", " 2"),
        ("NEW", " 2"),
        ("OLD", " 1"),
        ("NOT (1 ALL)", " 2"),
    ] {
        let said = client.ok(&format!("SEARCH {key}"));
        assert_eq!(said.lines().next(), Some(&*format!("* SEARCH{expected}")), "{key}");
    }
    assert!(client.say("t SEARCH CHARSET X-NONE ALL").starts_with("t NO [BADCHARSET (US-ASCII UTF-8)]"));
}

#[test]
fn the_cache_answers_as_the_file_does() {
    let mut client = Client::new();
    client.append("INBOX", MESSAGE);
    client.ok("SELECT INBOX");
    let first = client.ok("FETCH 1 (ENVELOPE)");
    let structure = client.ok("FETCH 1 (BODYSTRUCTURE BODY)");
    assert_eq!(client.ok("FETCH 1 (ENVELOPE)"), first);
    assert_eq!(client.ok("FETCH 1 (BODYSTRUCTURE BODY)"), structure);
}

#[test]
fn a_player_sees_the_same_session() {
    let client = Client::new();
    let mut jobs = client.jobs;
    let hand_over = HandOver { tag: "l".into(), unread: Octets::default() };
    let answer = move |question| jobs.run(question, &mut |_| true);
    let mut player = Player::new(Machine::new(MailboxSettings::default(), &hand_over), answer);
    player.play("S: l OK [CAPABILITY...\nC: a SELECT nope\nS: a NO [NONEXISTENT] Mailbox doesn't exist: nope\nC: b LOGOUT\nS: * BYE Logging out\nS: b OK Logout completed.\nX:");
}
