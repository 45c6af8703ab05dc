//! Transcripts of the machine after the login.

use super::*;
use crate::content::Top;
use proptest::prelude::*;
use session::transcript::Player;

const TEXTS: [&str; 3] = ["A: b\r\n\r\n.dot\r\nlast", "Only: header\n", ""];

fn messages() -> Vec<Message> {
    let message = |(uid, size)| Message { size, uidl: format!("{uid:08x}6b03018f") };
    [(1, 20), (2, 14), (3, 0)].map(message).into()
}

fn machine() -> MailboxMachine {
    MailboxMachine::new(messages(), Options { last: true })
}

/// Gives content in chunks of four octets; notes what is to be deleted.
struct Mailbox {
    player: Player<MailboxMachine, Box<dyn FnMut(Question) -> Option<Answer>>>,
    asked: std::rc::Rc<std::cell::RefCell<Vec<Question>>>,
}

impl Mailbox {
    fn new(machine: MailboxMachine) -> Self {
        let asked = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        let notes = asked.clone();
        let note = move |question| {
            notes.borrow_mut().push(question);
            None
        };
        Self { player: Player::new(machine, Box::new(note)), asked }
    }

    /// Answers everything that was asked so far, until nothing more is asked.
    fn answer_all(&mut self) {
        while let Some(question) = { self.asked.borrow_mut().pop() } {
            let id = self.player.machine.talk.last_asked();
            let answers = match question {
                Question::Reset { .. } => Vec::new(),
                Question::Update { .. } => vec![Answer::Updated],
                Question::Content { index, lines } => {
                    let text = TEXTS[index].as_bytes();
                    let end = lines.map_or(text.len(), |lines| Top::new(lines).take(text));
                    let chunks = text[..end].chunks(4).map(|chunk| Answer::Chunk(chunk.to_vec()));
                    chunks.chain([Answer::End]).collect()
                }
            };
            for answer in answers {
                self.player.machine.answer(id, answer);
                self.player.run();
            }
        }
    }

    fn play(&mut self, transcript: &str) {
        for (number, line) in transcript.lines().enumerate() {
            let line = line.trim_start();
            if let Some(text) = line.strip_prefix("C: ") {
                self.player.send(format!("{text}\r\n").as_bytes());
                self.answer_all();
            } else {
                assert!(line.starts_with("S:") || line.starts_with("X:"), "line {number}");
            }
        }
        let heard: Vec<&str> = transcript.lines().filter(|line| !line.trim_start().starts_with("C:")).collect();
        self.player.play(&heard.join("\n"));
    }
}

fn play(transcript: &str) -> MailboxMachine {
    let mut mailbox = Mailbox::new(machine());
    mailbox.play(transcript);
    mailbox.player.machine
}

#[test]
fn sizes_are_equal_in_stat_list_and_retr() {
    // P04c
    play(
        "S: +OK Logged in.
             C: STAT
             S: +OK 3 34
             C: LIST
             S: +OK 3 messages:
             S: 1 20
             S: 2 14
             S: 3 0
             S: .
             C: list 1
             S: +OK 1 20
             C: RETR 1
             S: +OK 20 octets
             S: A: b
             S:
             S: ..dot
             S: last
             S: .
             C: RETR 2
             S: +OK 14 octets
             S: Only: header
             S: .
             C: RETR 3
             S: +OK 0 octets
             S: .",
    );
}

#[test]
fn top_gives_the_header_and_so_many_lines() {
    // P06c
    play(
        "S: +OK Logged in.
             C: TOP 1 0
             S: +OK
             S: A: b
             S:
             S: .
             C: TOP 1 1
             S: +OK
             S: A: b
             S:
             S: ..dot
             S: .
             C: TOP 2 5
             S: +OK
             S: Only: header
             S: .
             C: TOP 1
             S: -ERR Noise after message number: 
             C: TOP 9 1
             S: -ERR There's no message 9.",
    );
}

#[test]
fn a_marked_message_is_gone_from_view_until_rset() {
    // P03c
    let machine = play(
        "S: +OK Logged in.
             C: DELE 1
             S: +OK Marked to be deleted.
             C: DELE 1
             S: -ERR Message is deleted.
             C: RETR 1
             S: -ERR Message is deleted.
             C: UIDL 1
             S: -ERR Message is deleted.
             C: STAT
             S: +OK 2 14
             C: UIDL
             S: +OK
             S: 2 000000026b03018f
             S: 3 000000036b03018f
             S: .
             C: LAST
             S: +OK 1
             C: RSET
             S: +OK
             C: STAT
             S: +OK 3 34
             C: QUIT
             S: +OK Logging out.
             X:",
    );
    assert_eq!(machine.statistics().deleted, 0);
}

#[test]
fn rset_forgets_what_was_seen_and_all_of_it_where_last_is_answered() {
    for last in [false, true] {
        let mut mailbox = Mailbox::new(MailboxMachine::new(messages(), Options { last }));
        mailbox.player.send(b"RSET\r\n");
        mailbox.player.play("S: +OK Logged in.\nS: +OK");
        assert_eq!(*mailbox.asked.borrow(), [Question::Reset { all: last }]);
    }
}

#[test]
fn quit_deletes_and_a_lost_connection_does_not() {
    // P03c
    let machine = play(
        "S: +OK Logged in.
             C: DELE 1
             S: +OK Marked to be deleted.
             C: DELE 3
             S: +OK Marked to be deleted.
             C: QUIT
             S: +OK Logging out, messages deleted.
             X:",
    );
    assert_eq!(machine.statistics().deleted, 2);
    let mut lost = Mailbox::new(super::tests::machine());
    lost.play("S: +OK Logged in.\nC: DELE 1\nS: +OK Marked to be deleted.");
    lost.player.machine.end_of_input();
    lost.player.run();
    lost.player.play("X:");
    assert!(lost.asked.borrow().is_empty());
}

#[test]
fn a_failed_deletion_is_not_called_a_success() {
    let mut mailbox = Mailbox::new(machine());
    mailbox.play("S: +OK Logged in.\nC: DELE 2\nS: +OK Marked to be deleted.");
    mailbox.player.send(b"QUIT\r\n");
    mailbox.player.machine.answer(AskId(1), Answer::NotUpdated);
    mailbox.player.run();
    mailbox.player.play("S: -ERR [SYS/TEMP] Some messages could not be deleted.\nX:");
    assert_eq!(mailbox.player.machine.statistics().deleted, 0);
}

#[test]
fn pipelined_commands_are_answered_in_order() {
    let mut mailbox = Mailbox::new(machine());
    mailbox.player.send(b"RETR 2\r\nNOOP\r\nTOP 2 0\r\nBLA\x1b\r\n\r\n");
    mailbox.answer_all();
    mailbox.player.play(
        "S: +OK Logged in.
             S: +OK 14 octets
             S: Only: header
             S: .
             S: +OK
             S: +OK
             S: Only: header
             S: .
             S: -ERR Unknown command: BLA?
             S: -ERR Unknown command.",
    );
}

#[test]
fn a_message_deleted_by_another_session_is_an_error_and_half_a_message_ends_the_connection() {
    let mut mailbox = Mailbox::new(machine());
    mailbox.player.send(b"RETR 1\r\nRETR 2\r\n");
    mailbox.player.machine.answer(AskId(1), Answer::Expunged);
    mailbox.player.run();
    mailbox.player.machine.answer(AskId(2), Answer::Chunk(b"Only\n".to_vec()));
    mailbox.player.machine.answer(AskId(2), Answer::Unreadable);
    mailbox.player.run();
    mailbox.player.machine.answer(AskId(2), Answer::End);
    mailbox.player.run();
    mailbox.player.play("S: +OK Logged in.\nS: -ERR Message 1 expunged.\nS: +OK 14 octets\nS: Only\nX:");
}

#[test]
fn a_shutdown_waits_for_the_command_under_way_and_deletes_nothing() {
    let mut mailbox = Mailbox::new(machine());
    mailbox.play("S: +OK Logged in.\nC: DELE 1\nS: +OK Marked to be deleted.");
    mailbox.player.send(b"RETR 2\r\nNOOP\r\n");
    mailbox.player.machine.event(Event::Shutdown);
    mailbox.answer_all();
    mailbox.player.play("S: +OK 14 octets\nS: Only: header\nS: .\nS: -ERR [SYS/TEMP] Server shutting down.\nX:");
}

#[test]
fn silence_ends_after_ten_minutes_without_update() {
    // P09c
    let mut mailbox = Mailbox::new(machine());
    mailbox.play("S: +OK Logged in.\nC: DELE 1\nS: +OK Marked to be deleted.");
    mailbox.player.now = Moment(600_000);
    mailbox.player.run();
    mailbox.player.play("S: -ERR Disconnected for inactivity.\nX:");
    assert!(mailbox.asked.borrow().is_empty());
}

#[test]
fn babbling_ends_the_connection() {
    let mut mailbox = Mailbox::new(machine());
    mailbox.play("S: +OK Logged in.");
    for _ in 0..20 {
        mailbox.play("C: X\nS: -ERR Unknown command: X");
    }
    mailbox.play("C: X\nS: -ERR Unknown command: X\nS: -ERR Too many bad commands.\nX:");
}

#[test]
fn a_session_goes_on_from_its_stored_state() {
    let mut mailbox = Mailbox::new(machine());
    mailbox.play("S: +OK Logged in.\nC: DELE 2\nS: +OK Marked to be deleted.");
    mailbox.player.machine.receive(b"ST");
    let stored = serde_json::to_vec(&mailbox.player.machine).expect("plain values");
    let mut again = Mailbox::new(serde_json::from_slice(&stored).expect("what was written"));
    again.player.send(b"AT\r\n");
    again.play("S: +OK 2 20");
}

#[test]
fn statistics_count_what_was_sent() {
    let machine = play(
        "S: +OK Logged in.
             C: RETR 2
             S: +OK 14 octets
             S: Only: header
             S: .
             C: TOP 2 0
             S: +OK
             S: Only: header
             S: .",
    );
    let statistics = machine.statistics();
    // As Dovecot counts: reply line and content, not the final dot.
    assert_eq!((statistics.retr, statistics.retr_bytes), (1, 29));
    assert_eq!((statistics.top, statistics.top_bytes), (1, 19));
}

proptest! {
    #[test]
    fn no_input_makes_the_machine_panic_or_delete(chunks: Vec<Vec<u8>>) {
        let mut mailbox = Mailbox::new(machine());
        for chunk in &chunks {
            mailbox.player.send(chunk);
            mailbox.answer_all();
        }
        prop_assert_eq!(mailbox.player.machine.statistics().deleted, 0);
    }

    #[test]
    fn a_long_listing_comes_whole(count in 0usize..3000) {
        let messages = vec![Message { size: 7, uidl: "x".repeat(70) }; count];
        let mut mailbox = Mailbox::new(MailboxMachine::new(messages, Options::default()));
        mailbox.player.send(b"UIDL\r\n");
        let lines: String = (1..=count).map(|number| format!("S: {number} {}\n", "x".repeat(70))).collect();
        mailbox.player.play(&format!("S: +OK Logged in.\nS: +OK\n{lines}S: .\n"));
    }
}
