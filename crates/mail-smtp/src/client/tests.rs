//! Transcripts of the client machine. What the peer says stands after `C:` (it goes in), what the machine says after `S:`.

mod logins;

use std::collections::VecDeque;
use std::sync::Arc;

use mail_types::{Body, DsnOptions, Notify, Recipient, Ret, Sender, Severity};
use session::transcript::Player;
use session::{Close, Machine, Moment, Step};

use super::{Answer, Cause, Client, Event, Message, Question, RcptOutcome, Settings, Stage};
use crate::server::Dialect;

fn message(recipients: &[&str]) -> Message {
    Message {
        sender: Sender::Address("a@b.org".parse().expect("an address")),
        recipients: recipients.iter().map(|text| Recipient::new(text.parse().expect("an address"))).collect(),
        size: 100,
        body: Body::SevenBit,
        smtputf8: false,
        dsn: DsnOptions::default(),
        verify: false,
    }
}

/// The outside: messages to send, and what was reported.
#[derive(Default)]
struct Outside {
    messages: VecDeque<Message>,
    chunks: VecDeque<&'static str>,
    reports: Vec<String>,
    abort: bool,
}

fn outcome(number: usize, outcome: &RcptOutcome) -> String {
    assert_eq!(outcome.number, number);
    format!("{} {}", outcome.cause.status(), outcome.cause.describe("mx[192.0.2.1]"))
}

impl Outside {
    fn answer(&mut self, question: Question) -> Answer {
        match question {
            Question::Ready(_) => self.messages.pop_front().map_or(Answer::Quit, |m| Answer::Message(Box::new(m))),
            Question::Content if self.abort => Answer::Abort,
            Question::Content => {
                self.chunks.pop_front().map_or(Answer::EndOfContent, |text| Answer::Chunk(text.as_bytes().to_vec()))
            }
            Question::Outcome(all) => {
                self.reports.extend(all.iter().enumerate().map(|(number, one)| outcome(number, one)));
                Answer::Noted
            }
            Question::Failed(failure) => {
                let severity = if failure.severity == Severity::Permanent { "permanent" } else { "temporary" };
                self.reports.push(format!("{severity} {}", failure.cause.describe("mx[192.0.2.1]")));
                Answer::Noted
            }
        }
    }
}

fn settings() -> Settings {
    Settings { helo_name: "client.example".to_owned(), ..Settings::default() }
}

/// Plays a transcript and gives what was reported.
fn play(settings: Settings, outside: &mut Outside, text: &str) {
    Player::new(Client::new(Arc::new(settings), false), |question| Some(outside.answer(question))).play(text);
}

fn one_message(recipients: &[&str]) -> Outside {
    Outside { messages: [message(recipients)].into(), chunks: ["Subject: x\n\n.dot\n"].into(), ..Outside::default() }
}

const HELLO: &str = "C: 220 mx ESMTP\nS: EHLO client.example\nC: 250-mx\nC: 250 PIPELINING\n";

#[test]
fn a_message_goes_out_in_one_group() {
    // X01
    let mut outside = one_message(&["x@y.org", "z@y.org"]);
    let text = "S: MAIL FROM:<a@b.org>
        S: RCPT TO:<x@y.org>
        S: RCPT TO:<z@y.org>
        S: DATA
        C: 250 2.1.0 Ok
        C: 250 2.1.5 Ok
        C: 250 2.1.5 Ok
        C: 354 go on
        S: Subject: x
        S:
        S: ..dot
        S: .
        C: 250 2.0.0 Ok: queued as 1
        S: QUIT
        X:";
    play(settings(), &mut outside, &format!("{HELLO}{text}"));
    assert_eq!(outside.reports, ["2.0.0 250 2.0.0 Ok: queued as 1"; 2]);
}

#[test]
fn good_bad_and_later_are_told_apart() {
    // Without PIPELINING one command at a time.
    let mut outside = one_message(&["good@y.org", "bad@y.org", "later@y.org"]);
    play(
        settings(),
        &mut outside,
        "C: 220 mx
        S: EHLO client.example
        C: 250 mx
        S: MAIL FROM:<a@b.org>
        C: 250 Ok
        S: RCPT TO:<good@y.org>
        C: 250 Ok
        S: RCPT TO:<bad@y.org>
        C: 550 5.1.1 no such user
        S: RCPT TO:<later@y.org>
        C: 450-4.2.0 try
        C: 450 4.2.0 later
        S: DATA
        C: 354 go
        S: Subject: x
        S:
        S: ..dot
        S: .
        C: 250 Ok
        S: QUIT
        X:",
    );
    assert_eq!(
        outside.reports,
        [
            "2.0.0 250 Ok",
            "5.1.1 host mx[192.0.2.1] said: 550 5.1.1 no such user (in reply to RCPT TO command)",
            "4.2.0 host mx[192.0.2.1] said: 450 4.2.0 try later (in reply to RCPT TO command)",
        ]
    );
}

#[test]
fn who_only_asks_stops_before_data() {
    let mut outside = one_message(&["good@y.org", "bad@y.org", "later@y.org"]);
    outside.messages[0].verify = true;
    outside.messages.push_back(Message { verify: true, ..message(&["bad@y.org"]) });
    let text = "S: MAIL FROM:<a@b.org>
        S: RCPT TO:<good@y.org>
        S: RCPT TO:<bad@y.org>
        S: RCPT TO:<later@y.org>
        C: 250 2.1.0 Ok
        C: 250 2.1.5 Ok
        C: 550 5.1.1 no such user
        C: 450 4.2.0 greylisted
        S: RSET
        C: 250 Ok
        S: MAIL FROM:<a@b.org>
        S: RCPT TO:<bad@y.org>
        C: 550 5.7.1 you again
        C: 503 5.5.1 MAIL first
        S: QUIT
        X:";
    play(settings(), &mut outside, &format!("{HELLO}{text}"));
    assert_eq!(
        outside.reports,
        [
            "2.1.5 250 2.1.5 Ok",
            "5.1.1 host mx[192.0.2.1] said: 550 5.1.1 no such user (in reply to RCPT TO command)",
            "4.2.0 host mx[192.0.2.1] said: 450 4.2.0 greylisted (in reply to RCPT TO command)",
            "5.7.1 host mx[192.0.2.1] said: 550 5.7.1 you again (in reply to MAIL FROM command)",
        ]
    );
}

#[test]
fn parameters_go_only_to_those_who_offer_them() {
    // E8, D01c, U01, Z01
    let mut full = message(&["ä@y.org"]);
    full.body = Body::EightBitMime;
    full.dsn = DsnOptions { ret: Some(Ret::Headers), envid: Some("a+b".to_owned()) };
    full.recipients[0].notify = Some(Notify { success: true, failure: false, delay: true });
    full.recipients[0].orcpt = Some("rfc822;a=b@c.org".to_owned());
    let mut outside = Outside { messages: [full.clone()].into(), ..Outside::default() };
    play(
        settings(),
        &mut outside,
        "C: 220 mx
        S: EHLO client.example
        C: 250-mx
        C: 250-SIZE 1000
        C: 250-8bitmime
        C: 250-SMTPUTF8
        C: 250 DSN
        S: MAIL FROM:<a@b.org> SIZE=100 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=a+2Bb
        C: 250 Ok
        S: RCPT TO:<ä@y.org> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+3Db@c.org
        C: 550 no
        S: RSET
        C: 250 Ok
        S: QUIT
        X:",
    );
    assert_eq!(outside.reports.len(), 1);

    let mut ascii = full.clone();
    ascii.recipients = message(&["x@y.org"]).recipients;
    let mut big = message(&["x@y.org"]);
    big.size = 1001;
    let mut outside = Outside { messages: [full, ascii, big].into(), ..Outside::default() };
    play(settings(), &mut outside, "C: 220 mx\nS: EHLO client.example\nC: 250-mx\nC: 250 SIZE 1000\nS: QUIT\nX:");
    assert_eq!(
        outside.reports,
        [
            "5.6.7 SMTPUTF8 is required, but was not offered by host mx[192.0.2.1]",
            "5.6.3 8BITMIME is required, but was not offered by host mx[192.0.2.1]",
            "5.3.4 message size 1001 exceeds size limit 1000 of server mx[192.0.2.1]",
        ]
    );
}

#[test]
fn several_messages_share_a_connection() {
    let mut outside = one_message(&["bad@y.org"]);
    outside.messages.push_back(message(&["x@y.org"]));
    let text = "S: MAIL FROM:<a@b.org>
        S: RCPT TO:<bad@y.org>
        S: DATA
        C: 250 Ok
        C: 550 no
        C: 503 no recipients
        S: RSET
        C: 250 Ok
        S: MAIL FROM:<a@b.org>
        S: RCPT TO:<x@y.org>
        S: DATA
        C: 250 Ok
        C: 250 Ok
        C: 354 go
        S: Subject: x
        S:
        S: ..dot
        S: .
        C: 250 Ok
        S: QUIT
        X:";
    play(settings(), &mut outside, &format!("{HELLO}{text}"));
    assert_eq!(outside.reports[0], "5.0.0 host mx[192.0.2.1] said: 550 no (in reply to RCPT TO command)");
    assert_eq!(outside.reports[1], "2.0.0 250 Ok");
}

#[test]
fn a_354_without_recipients_gets_the_lone_dot() {
    // X02
    let mut outside = one_message(&["bad@y.org"]);
    let text = "S: MAIL FROM:<a@b.org>
        S: RCPT TO:<bad@y.org>
        S: DATA
        C: 250 Ok
        C: 550 no
        C: 354 go
        S: .
        C: 554 no valid recipients
        S: QUIT
        X:";
    play(settings(), &mut outside, &format!("{HELLO}{text}"));
    assert_eq!(outside.reports, ["5.0.0 host mx[192.0.2.1] said: 550 no (in reply to RCPT TO command)"]);
}

#[test]
fn refusals_at_mail_data_and_dot_are_for_all() {
    for (replies, expected) in [
        (
            "C: 550 no\nC: 503 x\nC: 503 x\nS: QUIT",
            "5.0.0 host mx[192.0.2.1] said: 550 no (in reply to MAIL FROM command)",
        ),
        (
            "C: 250 Ok\nC: 250 Ok\nC: 452 full\nS: RSET\nC: 250\nS: QUIT",
            "4.0.0 host mx[192.0.2.1] said: 452 full (in reply to DATA command)",
        ),
        (
            "C: 250 Ok\nC: 250 Ok\nC: 354 go\nS: Subject: x\nS:\nS: ..dot\nS: .\nC: 554 5.7.1 spam\nS: QUIT",
            "5.7.1 host mx[192.0.2.1] said: 554 5.7.1 spam (in reply to end of DATA command)",
        ),
        (
            "C: 250 Ok\nC: 421 4.3.2 going down",
            "4.3.2 host mx[192.0.2.1] said: 421 4.3.2 going down (in reply to RCPT TO command)",
        ),
        ("C: 250 Ok\nC: hello\nX:", "4.5.0 host mx[192.0.2.1] sent an invalid reply while sending RCPT TO: hello"),
        ("C: 250 Ok\nC: 999 x\nX:", "4.5.0 host mx[192.0.2.1] sent an invalid reply while sending RCPT TO: 999 x"),
        (
            "C: 250 Ok\nC: 250 Ok\nC: 250 Ok\nS: RSET\nC: 250\nS: QUIT",
            "4.5.0 host mx[192.0.2.1] sent an invalid reply while sending DATA command: 250 Ok",
        ),
    ] {
        let mut outside = one_message(&["x@y.org"]);
        play(
            settings(),
            &mut outside,
            &format!("{HELLO}S: MAIL FROM:<a@b.org>\nS: RCPT TO:<x@y.org>\nS: DATA\n{replies}"),
        );
        assert_eq!(outside.reports, [expected]);
    }
}

#[test]
fn a_3xx_says_yes_to_nothing_but_data() {
    // S23: 354 to the final dot is no delivery, to RCPT no recipient.
    for (replies, expected) in [
        (
            "C: 354 x\nC: 250 Ok\nC: 503 x",
            "4.5.0 host mx[192.0.2.1] sent an invalid reply while sending MAIL FROM: 354 x",
        ),
        (
            "C: 250 Ok\nC: 354 x\nC: 503 x\nS: RSET\nC: 250",
            "4.5.0 host mx[192.0.2.1] sent an invalid reply while sending RCPT TO: 354 x",
        ),
        (
            "C: 250 Ok\nC: 250 Ok\nC: 354 go\nS: Subject: x\nS:\nS: ..dot\nS: .\nC: 354 more",
            "4.5.0 host mx[192.0.2.1] sent an invalid reply while sending end of data -- message may be sent more than once: 354 more",
        ),
    ] {
        let mut outside = one_message(&["x@y.org"]);
        let group = "S: MAIL FROM:<a@b.org>\nS: RCPT TO:<x@y.org>\nS: DATA\n";
        play(settings(), &mut outside, &format!("{HELLO}{group}{replies}\nS: QUIT\nX:"));
        assert_eq!(outside.reports, [expected]);
    }
}

/// Plays up to the first chunk of content, then does `what`, and gives the reports.
fn in_the_content(what: fn(&mut Client) -> Moment) -> Vec<String> {
    let mut outside = one_message(&["x@y.org"]);
    let mut machine = Client::new(Arc::new(settings()), false);
    machine.receive(b"220 mx\r\n250 mx\r\n250 Ok\r\n250 Ok\r\n354 go\r\n");
    let (mut now, mut acted) = (Moment(0), false);
    loop {
        match machine.next(now) {
            // After the first chunk the machine would ask for another one.
            Step::Ask(id, Question::Content) => {
                assert!(!acted, "more content was asked for");
                machine.answer(id, Answer::Chunk(b"Subject: x\n".to_vec()));
                assert!(matches!(machine.next(now), Step::Send(_)), "the chunk is on its way");
                now = what(&mut machine);
                acted = true;
            }
            Step::Ask(id, question) => {
                let answer = outside.answer(question);
                machine.answer(id, answer);
            }
            Step::Close(_) => return outside.reports,
            Step::Send(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_early_reply_a_loss_and_the_end_of_patience_end_the_content() {
    // S11, S25; CONFORMANCE section 3: stalled in DATA, 5xx in DATA.
    for (what, expected) in [
        (
            (|client| {
                client.receive(b"552 5.3.4 too much\r\n");
                client.end_of_input();
                Moment(0)
            }) as fn(&mut Client) -> Moment,
            "5.3.4 host mx[192.0.2.1] said: 552 5.3.4 too much (in reply to message body)",
        ),
        (
            |client| {
                client.receive(b"421 4.3.2 closing\r\n");
                Moment(0)
            },
            "4.3.2 host mx[192.0.2.1] said: 421 4.3.2 closing (in reply to message body)",
        ),
        (
            |client| {
                client.receive(b"250 Ok\r\n");
                Moment(0)
            },
            "4.5.0 host mx[192.0.2.1] sent an invalid reply while sending message body: 250 Ok",
        ),
        (
            |client| {
                client.end_of_input();
                Moment(0)
            },
            "4.4.2 lost connection with mx[192.0.2.1] while sending message body",
        ),
        (
            |client| client.deadline().expect("a deadline"),
            "4.4.2 conversation with mx[192.0.2.1] timed out while sending message body",
        ),
    ] {
        assert_eq!(in_the_content(what), [expected]);
    }
}

#[test]
fn an_endless_line_is_judged_by_its_beginning() {
    let mut outside = Outside::default();
    let mut player = Player::new(Client::new(Arc::new(settings()), false), |question| Some(outside.answer(question)));
    player.play("C: 220 mx\nS: EHLO client.example");
    player.send(b"250-mx\r\n250-");
    for _ in 0..64 {
        player.send(&[b'X'; 16 * 1024]);
    }
    player.send(b"\r\n");
    player.play("C: 250 PIPELINING\nS: QUIT\nX:");
}

#[test]
fn a_peer_with_our_own_name_takes_no_message() {
    // S20
    let ours = Settings { own_name: Some("Client.Example".to_owned()), ..settings() };
    let mut outside = one_message(&["x@y.org"]);
    play(ours, &mut outside, "C: 220 x\nS: EHLO client.example\nC: 250-client.example hello\nC: 250 DSN\nS: QUIT\nX:");
    assert_eq!(outside.reports, ["temporary host mx[192.0.2.1] replied to EHLO with my own hostname Client.Example"]);
    assert_eq!(outside.messages.len(), 1);
}

#[test]
fn ehlo_falls_back_to_helo() {
    let mut outside = Outside::default();
    play(
        settings(),
        &mut outside,
        "C: 220 mx\nS: EHLO client.example\nC: 502 what?\nS: HELO client.example\nC: 250 mx\nS: QUIT\nX:",
    );
    assert!(outside.reports.is_empty());
}

#[test]
fn an_enormous_ehlo_reply_is_read_with_little_memory() {
    // Section 3: 20,000 lines.
    let mut outside = Outside::default();
    let lines = "250-X-NOISE-NOISE-NOISE\r\n".repeat(20_000);
    let mut player = Player::new(Client::new(Arc::new(settings()), false), |question| Some(outside.answer(question)));
    player.play("C: 220 mx\nS: EHLO client.example");
    player.send(lines.as_bytes());
    player.play("C: 250 PIPELINING\nS: QUIT\nX:");
}

#[test]
fn an_unfriendly_greeting_takes_no_message() {
    for (greeting, expected) in [
        ("554 no", "temporary host mx[192.0.2.1] refused to talk to me: 554 no"),
        ("421 busy", "temporary host mx[192.0.2.1] refused to talk to me: 421 busy"),
        (
            "garbage",
            "temporary host mx[192.0.2.1] sent an invalid reply while receiving the initial server greeting: garbage",
        ),
    ] {
        let mut outside = one_message(&["x@y.org"]);
        let quit = if greeting == "garbage" { "" } else { "S: QUIT\n" };
        play(settings(), &mut outside, &format!("C: {greeting}\n{quit}X:"));
        assert_eq!(outside.reports, [expected]);
        assert_eq!(outside.messages.len(), 1);
    }
    let mut outside = Outside::default();
    play(Settings { skip_5xx_greeting: false, ..settings() }, &mut outside, "C: 554 no\nS: QUIT\nX:");
    assert_eq!(outside.reports, ["permanent host mx[192.0.2.1] refused to talk to me: 554 no"]);
}

#[test]
fn lmtp_has_a_result_for_each_recipient() {
    // L01
    let mut outside = one_message(&["a@y.org", "b@y.org", "c@y.org"]);
    play(
        Settings { dialect: Dialect::Lmtp, ..settings() },
        &mut outside,
        "C: 220 mx LMTP
        S: LHLO client.example
        C: 250-mx
        C: 250 PIPELINING
        S: MAIL FROM:<a@b.org>
        S: RCPT TO:<a@y.org>
        S: RCPT TO:<b@y.org>
        S: RCPT TO:<c@y.org>
        S: DATA
        C: 250 Ok
        C: 250 Ok
        C: 550 no
        C: 250 Ok
        C: 354 go
        S: Subject: x
        S:
        S: ..dot
        S: .
        C: 250 2.0.0 stored
        C: 452 4.2.2 full
        S: QUIT
        X:",
    );
    assert_eq!(
        outside.reports,
        [
            "2.0.0 250 2.0.0 stored",
            "5.0.0 host mx[192.0.2.1] said: 550 no (in reply to RCPT TO command)",
            "4.2.2 host mx[192.0.2.1] said: 452 4.2.2 full (in reply to end of DATA command)",
        ]
    );
}

/// Plays up to the final dot, then does `what`, and gives the reports and the close.
fn after_the_dot(what: fn(&mut Client) -> Moment) -> (Vec<String>, Close) {
    let mut outside = one_message(&["x@y.org"]);
    let mut player = Player::new(Client::new(Arc::new(settings()), false), |question| Some(outside.answer(question)));
    player.play(&format!("{HELLO}S: MAIL FROM:<a@b.org>\nS: RCPT TO:<x@y.org>\nS: DATA"));
    player.send(b"250 Ok\r\n250 Ok\r\n354 go\r\n");
    let now = what(&mut player.machine);
    let mut machine = player.machine;
    let mut reports = Vec::new();
    let close = loop {
        match machine.next(now) {
            Step::Ask(id, Question::Outcome(all)) => {
                reports.extend(all.iter().enumerate().map(|(number, one)| outcome(number, one)));
                machine.answer(id, Answer::Noted);
            }
            Step::Close(close) => break close,
            Step::Send(_) => {}
            other => panic!("{other:?}"),
        }
    };
    (reports, close)
}

#[test]
fn silence_and_loss_after_the_dot_are_temporary() {
    // S14, section 3: closed or silent after the final dot.
    let (reports, close) = after_the_dot(|client| {
        client.end_of_input();
        Moment(0)
    });
    let expected =
        "4.4.2 lost connection with mx[192.0.2.1] while sending end of data -- message may be sent more than once";
    assert_eq!((reports, close), (vec![expected.to_owned()], Close::Lost));
    let (reports, close) = after_the_dot(|client| client.deadline().expect("a deadline"));
    let expected = "4.4.2 conversation with mx[192.0.2.1] timed out while sending end of data -- message may be sent more than once";
    assert_eq!((reports, close), (vec![expected.to_owned()], Close::Timeout));
}

#[test]
fn content_that_ends_early_never_gets_its_dot() {
    let mut outside = one_message(&["x@y.org"]);
    outside.abort = true;
    let group = "S: MAIL FROM:<a@b.org>\nS: RCPT TO:<x@y.org>\nS: DATA\nC: 250 Ok\nC: 250 Ok\nC: 354 go\nX:";
    play(settings(), &mut outside, &format!("{HELLO}{group}"));
    assert_eq!(outside.reports, ["4.3.0 delivery was interrupted before the end of the message"]);
}

#[test]
fn a_worker_that_stops_begins_no_final_dot() {
    let mut outside = one_message(&["x@y.org"]);
    let mut player = Player::new(Client::new(Arc::new(settings()), false), |question| Some(outside.answer(question)));
    player.play(&format!("{HELLO}S: MAIL FROM:<a@b.org>\nS: RCPT TO:<x@y.org>\nS: DATA"));
    player.machine.event(Event::Stop);
    player.run();
    player.play("X:");
    drop(player);
    assert_eq!(outside.reports, ["4.3.0 delivery was interrupted before the end of the message"]);
}

#[test]
fn stages_have_their_own_patience() {
    // S11
    let mut client = Client::new(Arc::new(settings()), false);
    assert_eq!(client.next(Moment(5)), Step::Wait);
    assert_eq!(client.deadline(), Some(Moment(300_005)));
    let Step::Ask(_, Question::Failed(failure)) = client.next(Moment(300_005)) else { panic!("no failure") };
    assert_eq!(failure.cause, Cause::TimedOut(Stage::Greeting));
}

proptest::proptest! {
    #[test]
    fn every_recipient_has_exactly_one_outcome(
        lines in proptest::collection::vec("(220|250|250-x|354|421|450|550|503|999|x)( [a-z.0-9]{0,6})?", 0..12)
    ) {
        let mut outside = one_message(&["x@y.org", "z@y.org"]);
        let mut player = Player::new(Client::new(Arc::new(settings()), false), |question| Some(outside.answer(question)));
        for line in &lines {
            player.send(format!("{line}\r\n").as_bytes());
        }
        player.machine.end_of_input();
        player.run();
        drop(player);
        let taken = outside.messages.is_empty();
        let failed = outside.reports.iter().any(|report| report.starts_with("temporary") || report.starts_with("permanent"));
        let complete = if taken { outside.reports.len() == 2 } else { failed };
        proptest::prop_assert!(complete, "{:?}", outside.reports);
    }
}
