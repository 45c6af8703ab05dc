//! Transcripts of the machine after login, against a mailbox of plain values.

use std::sync::Arc;

use mail_types::Octets;
use session::transcript::Player;
use session::{AskId, Machine};

use super::*;
use crate::grammar::flags::{Flags, SystemFlags};
use crate::list::{Folder, Folders};
use crate::response::write_fetch_flags;
use crate::{HandOver, MAILBOX_CAPABILITIES};

const LOGGED_IN: &str = "S: l OK [CAPABILITY IMAP4rev1 ...\n";

/// INBOX with the UIDs 3, 5 and 9; 9 is recent. Everything named `nope` does not exist.
fn answer(question: Question) -> Option<Answer> {
    let nope = || Answer::Refused(Refusal::new(ResponseCode::NonExistent, "Mailbox doesn't exist: nope"));
    let exists = |name: &MailboxName| name.as_str() != "nope";
    Some(match question {
        Question::Open { mailbox, .. } if !exists(&mailbox) => nope(),
        Question::Open { .. } => Answer::Opened(Opened {
            uids: vec![3, 5, 9],
            recent: vec![9],
            uid_validity: 77,
            uid_next: 10,
            first_unseen: Some(5),
            keywords: vec!["$Forwarded".into()],
            mark: 1,
            read_only: false,
        }),
        Question::Sync { mark, .. } => Answer::Changes(Changes { mark, ..Changes::default() }),
        Question::Folders => Answer::Folders(Folders {
            separator: '/',
            mailboxes: vec![Folder { name: MailboxName::inbox(), special_use: String::new(), no_select: false }],
            subscriptions: vec![],
        }),
        Question::Namespaces => {
            Answer::Namespaces(Namespaces { personal: vec![(String::new(), '/')], ..Namespaces::default() })
        }
        Question::Status(mailbox) if exists(&mailbox) => {
            Answer::Status(MailboxStatus { messages: 3, recent: 1, uid_next: 10, uid_validity: 77, unseen: 2 })
        }
        Question::Status(_) | Question::Delete(_) | Question::Rename(..) => nope(),
        Question::Append { mailbox, .. } if !exists(&mailbox) => {
            Answer::Refused(Refusal::new(ResponseCode::TryCreate, "Mailbox doesn't exist: nope"))
        }
        Question::Commit => Answer::Appended { uid_validity: 77, uid: Some(10) },
        Question::Fetch { messages, items, .. } => {
            let mut out = Vec::new();
            for (number, uid) in messages.iter() {
                let uid = items.contains(&crate::grammar::fetch::FetchItem::Uid).then_some(uid);
                write_fetch_flags(number, uid, &Flags::default(), false, &mut out);
            }
            return Some(Answer::Data(out));
        }
        Question::Store { messages, flags, .. } => {
            Answer::Stored { flags: messages.iter().map(|(_, uid)| (uid, flags.clone())).collect(), missing: false }
        }
        Question::Search { charset: Some(charset), .. } if charset == "X" => {
            Answer::Refused(Refusal::new(ResponseCode::BadCharset, "Unknown charset"))
        }
        Question::Search { .. } => Answer::Found(vec![3, 9]),
        Question::Copy { messages, .. } => {
            Answer::Copied { uid_validity: 5, uids: messages.iter().map(|(n, uid)| (uid, 100 + n)).collect() }
        }
        Question::Watch | Question::Unwatch | Question::Abort => return None,
        _ => Answer::Done,
    })
}

type Play = Player<Mailbox, fn(Question) -> Option<Answer>>;

fn player() -> Play {
    player_with(answer)
}

fn player_with(answer: fn(Question) -> Option<Answer>) -> Play {
    let hand_over = HandOver { tag: "l".into(), unread: Octets::default() };
    let mut player: Play = Player::new(Mailbox::new(MailboxSettings::default(), &hand_over), answer);
    player.play(LOGGED_IN);
    player
}

const SELECTED: &str = "C: s SELECT inbox
         S: * FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $Forwarded)
         S: * OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $Forwarded \\*)] Flags permitted.
         S: * 3 EXISTS
         S: * 1 RECENT
         S: * OK [UNSEEN 2] First unseen.
         S: * OK [UIDVALIDITY 77] UIDs valid
         S: * OK [UIDNEXT 10] Predicted next UID
         S: s OK [READ-WRITE] Select completed.";

fn selected() -> Play {
    let mut player = player();
    player.play(SELECTED);
    player
}

/// The answer to the last question, as a streamed one needs.
fn fetched(player: &mut Play) {
    let id = player.machine.asked;
    player.machine.answer(id, Answer::Fetched { seen: vec![], missing: false });
    player.run();
}

#[test]
fn every_command_is_refused_in_the_wrong_state() {
    // I03
    player().play(
        "C: a FETCH 1 FLAGS
         S: a BAD No mailbox selected
         C: b LOGIN u p
         S: b BAD Error in IMAP command LOGIN: Unknown command
         C: c XYZ
         S: c BAD Error in IMAP command XYZ: Unknown command
         C: d CLOSE
         S: d BAD No mailbox selected",
    );
}

#[test]
fn what_is_announced_answers() {
    // I01, I25
    assert!(MAILBOX_CAPABILITIES.split(' ').all(|c| !["CONDSTORE", "QRESYNC", "MULTIAPPEND", "ESEARCH"].contains(&c)));
    player().play(
        "C: a NAMESPACE
         S: * NAMESPACE ((\"\" \"/\")) NIL NIL
         S: a OK Namespace completed.
         C: b ENABLE CONDSTORE
         S: * ENABLED
         S: b OK Enabled.
         C: c ID NIL
         S: * ID (\"name\" \"Postrider\")
         S: c OK ID completed.
         C: d LIST \"\" *
         S: * LIST (\\HasNoChildren) \"/\" INBOX
         S: d OK List completed.
         C: e STATUS inbox (UNSEEN MESSAGES)
         S: * STATUS INBOX (UNSEEN 2 MESSAGES 3)
         S: e OK Status completed.
         C: f STATUS nope (UNSEEN)
         S: f NO [NONEXISTENT] Mailbox doesn't exist: nope
         C: g CREATE &AGE-
         S: g NO [CANNOT] Mailbox name is not valid mUTF-7
         C: h LOGOUT
         S: * BYE Logging out
         S: h OK Logout completed.
         X:",
    );
}

#[test]
fn a_failed_select_leaves_nothing_selected() {
    // I03
    let mut player = selected();
    player.play(
        "C: a SELECT nope
         S: * OK [CLOSED] Previous mailbox closed.
         S: a NO [NONEXISTENT] Mailbox doesn't exist: nope
         C: b CHECK
         S: b BAD No mailbox selected",
    );
}

#[test]
fn an_examined_mailbox_is_not_changed() {
    // I12, I21
    let mut player = player();
    player.play(
        "C: s EXAMINE inbox
         S: * FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $Forwarded)
         S: * OK [PERMANENTFLAGS ()] Read-only mailbox.
         S: * 3 EXISTS
         S: * 1 RECENT
         S: * OK [UNSEEN 2] First unseen.
         S: * OK [UIDVALIDITY 77] UIDs valid
         S: * OK [UIDNEXT 10] Predicted next UID
         S: s OK [READ-ONLY] Examine completed.
         C: a STORE 1 FLAGS \\Seen
         S: a NO [READ-ONLY] Mailbox is read-only.
         C: b EXPUNGE
         S: b NO [READ-ONLY] Mailbox is read-only.
         C: c MOVE 1 x
         S: c NO [READ-ONLY] Mailbox is read-only.
         C: d CLOSE
         S: d OK Close completed.",
    );
}

#[test]
fn uid_commands_name_uids_and_ignore_unknown_ones() {
    // I16
    let mut player = selected();
    player.play("C: a UID FETCH 4:*,100 FLAGS\nS: * 2 FETCH (UID 5 FLAGS ())\nS: * 3 FETCH (UID 9 FLAGS ())");
    fetched(&mut player);
    player.play("S: a OK Fetch completed.\nC: b FETCH 4 FLAGS\nS: b BAD Error in IMAP command FETCH: Invalid messageset\nC: c UID FETCH 4 FLAGS");
    fetched(&mut player);
    player.play(
        "S: c OK Fetch completed.
         C: d UID SEARCH ALL
         S: * SEARCH 3 9
         S: d OK Search completed.
         C: e SEARCH 1:* UNSEEN
         S: * SEARCH 1 3
         S: e OK Search completed.
         C: f SEARCH CHARSET X TEXT y
         S: f NO [BADCHARSET (US-ASCII UTF-8)] Unknown charset",
    );
}

#[test]
fn store_tells_unless_silent() {
    // I18
    selected().play(
        "C: a STORE 3 +FLAGS (\\Seen)
         S: * 3 FETCH (FLAGS (\\Seen \\Recent))
         S: a OK Store completed.
         C: b UID STORE 3 -FLAGS.SILENT \\Seen
         S: b OK Store completed.",
    );
}

#[test]
fn copy_and_move_say_where_the_messages_went() {
    // I20
    selected().play(
        "C: a COPY 1:2 x
         S: a OK [COPYUID 5 3,5 101:102] Copy completed.
         C: b UID MOVE 9 x
         S: * OK [COPYUID 5 9 103] Moved UIDs.
         S: b OK Move completed.
         C: c UID COPY 4 x
         S: c OK No messages found.",
    );
}

#[test]
fn an_append_streams_its_message_and_nothing_may_follow_it() {
    // I19, I05
    let mut player = player();
    player.play(
        "C: a APPEND INBOX (\\Seen) {5}\nS: + OK\nc: he\nc: llo\\r\\n\nS: a OK [APPENDUID 77 10] Append completed.",
    );
    assert_eq!(player.given, b"hello");
    player.play(
        "C: b APPEND INBOX {3+}
         C: abc
         S: b OK [APPENDUID 77 10] Append completed.
         C: c APPEND nope {5}
         S: c NO [TRYCREATE] Mailbox doesn't exist: nope
         C: d APPEND nope {5+}
         C: hello
         S: d NO [TRYCREATE] Mailbox doesn't exist: nope
         C: e APPEND INBOX {107374182400}
         S: e NO [TOOBIG] Message is too big.
         C: f APPEND INBOX {3+}
         c: a\\0b\\r\\n
         S: f NO [CANNOT] NUL characters are not allowed in a message.
         C: g APPEND INBOX {3+}
         C: abc (\\Seen)
         S: g BAD Error in IMAP command APPEND: Invalid arguments
         C: h APPEND {5+}
         C: INBOX {1+}
         C: x
         S: h OK [APPENDUID 77 10] Append completed.
         C: i NOOP
         S: i OK NOOP completed.",
    );
}

#[test]
fn an_idling_client_is_told_at_once() {
    // I22
    let mut player = selected();
    player.play("C: a IDLE\nS: + idling");
    assert!(player.machine.is_idle());
    player.machine.event(Event::Changed);
    player.run();
    player.now = player.machine.deadline().expect("a notice is due");
    player.run();
    player.play("S: * OK Still here\nC: done\nS: a OK Idle completed.\nC: b IDLE\nS: + idling\nC: c NOOP\nS: b BAD Expected DONE.");
}

#[test]
fn changes_are_told_before_the_tagged_reply() {
    // I02, I10, I11
    fn changing(question: Question) -> Option<Answer> {
        match question {
            Question::Sync { mark: 1, .. } => Some(Answer::Changes(Changes {
                vanished: vec![3],
                flags: vec![(5, Flags { system: SystemFlags::SEEN, keywords: vec![Arc::from("new")] })],
                appeared: vec![10],
                recent: vec![],
                keywords: Some(vec!["new".into()]),
                mark: 2,
            })),
            other => answer(other),
        }
    }
    let mut player: Play = Player::new(
        Mailbox::new(MailboxSettings::default(), &HandOver { tag: "l".into(), unread: Octets::default() }),
        changing,
    );
    player.play(&format!("{LOGGED_IN}C: s EXAMINE x\nS: * FLAGS...\nS: * OK...\nS: * 3 EXISTS\nS: * 1 RECENT\nS: * OK...\nS: * OK...\nS: * OK...\nS: s OK..."));
    player.play(
        "C: a SEARCH ALL
         S: * SEARCH 1 3
         S: * FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft new)
         S: * OK [PERMANENTFLAGS ()] Read-only mailbox.
         S: * 2 FETCH (FLAGS (\\Seen new))
         S: * 4 EXISTS
         S: * 1 RECENT
         S: a OK Search completed.
         C: b NOOP
         S: * 1 EXPUNGE
         S: b OK NOOP completed.",
    );
}

#[test]
fn the_state_of_an_idling_session_can_be_stored() {
    let mut player = selected();
    player.play("C: a IDLE\nS: + idling");
    let stored = serde_json::to_string(&player.machine).expect("stored");
    player.machine = serde_json::from_str(&stored).expect("read");
    player.play("C: DONE\nS: a OK Idle completed.\nC: b CLOSE\nS: b OK Close completed.");
}

#[test]
fn a_long_line_is_refused_with_its_tag_and_the_next_command_runs() {
    let mut player = player();
    player.send(format!("a SELECT {}\r\n", "x".repeat(70_000)).as_bytes());
    player.play("S: a BAD Error in IMAP command: Too long argument.\nC: b NOOP\nS: b OK NOOP completed.");
}

#[test]
fn commands_that_are_none_end_the_session_after_twenty() {
    let mut player = player();
    for _ in 0..19 {
        player.play("C: a X\nS: a BAD Error in IMAP command X: Unknown command");
    }
    player.play(
        "C: a X\nS: a BAD Error in IMAP command X: Unknown command\nS: * BYE Too many invalid IMAP commands.\nX:",
    );
}

#[test]
fn a_stop_and_silence_are_announced() {
    // I29
    let mut stopped = player();
    stopped.machine.event(Event::Shutdown);
    stopped.run();
    stopped.play("S: * BYE Server shutting down.\nX:");
    let mut silent = player();
    silent.now = silent.machine.deadline().expect("waits");
    silent.run();
    silent.play("S: * BYE Disconnected for inactivity.\nX:");
}

#[test]
fn a_command_under_way_is_completed_before_a_stop() {
    // I29
    let mut player =
        player_with(|question| if matches!(question, Question::Store { .. }) { None } else { answer(question) });
    player.play(SELECTED);
    player.play("C: a STORE 1 +FLAGS.SILENT (\\Seen)");
    player.machine.event(Event::Shutdown);
    player.run();
    player.play("# nothing is said yet");
    let id = player.machine.asked;
    player.machine.answer(id, Answer::Stored { flags: Vec::new(), missing: false });
    player.run();
    player.play("S: a OK Store completed.\nS: * BYE Server shutting down.\nX:");
}

#[test]
fn a_late_answer_to_another_question_is_ignored() {
    let mut player = selected();
    player.machine.answer(AskId(1), Answer::Done);
    player.play("C: a NOOP\nS: a OK NOOP completed.");
}

proptest::proptest! {
    #[test]
    fn no_input_makes_the_machine_panic(pieces in proptest::collection::vec(
        "(a (SELECT|FETCH|STORE|APPEND|IDLE|SEARCH|UID|LIST|CLOSE|COPY) [A-Z1:*(){}+\"\\[\\]\\\\ ]{0,14}\r\n)|DONE\r\n|[ -~\r\n]{0,30}", 0..30)) {
        let mut player = selected();
        for piece in pieces {
            player.send(piece.as_bytes());
        }
    }
}
