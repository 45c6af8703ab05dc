//! Transcripts of the server machine.

use std::sync::Arc;
use std::time::Duration;

use mail_types::{Reply, ReplyCode};
use session::transcript::Player;
use session::{Close, Machine, Moment, Step};

use super::{Answer, AuthSettings, BareNewline, Dialect, Note, Question, Server, Settings, Tls, reply};

mod limits;
mod logins;
mod standards;

fn settings() -> Settings {
    let (hostname, banner) = ("server.info.net".to_owned(), "server.info.net ESMTP Postfix".to_owned());
    Settings { hostname, banner, size_limit: 20_000, error_sleep: Duration::ZERO, ..Settings::default() }
}

/// A policy that knows one user, one other server, and one password.
fn policy(question: Question) -> Option<Answer> {
    Some(match question {
        Question::Rcpt(command) => match command.to.to_string().as_str() {
            "x@y.org" => Answer::Refuse(reply(554, (5, 7, 1), "<x@y.org>: Relay access denied")),
            "later@info.net" => Answer::Refuse(reply(450, (4, 2, 0), "<later@info.net>: try later")),
            _ => Answer::Accept,
        },
        Question::EndOfData { octets } => Answer::Done(reply(250, (2, 0, 0), format!("Ok: queued as {octets}"))),
        Question::AuthStart { initial: Some(octets), .. } | Question::AuthResponse(octets) => match octets.as_slice() {
            b"\0user\0secret" => Answer::Authenticated,
            b"user" => Answer::Challenge(b"Password:".to_vec()),
            _ => Answer::Refuse(reply(535, (5, 7, 8), "Error: authentication failed:")),
        },
        Question::AuthStart { initial: None, .. } => Answer::Challenge(Vec::new()),
        _ => Answer::Accept,
    })
}

type Policy = fn(Question) -> Option<Answer>;

fn player(settings: Settings) -> Player<Server, Policy> {
    Player::new(Server::new(Arc::new(settings), false), policy as Policy)
}

const BANNER: &str = "S: 220 server.info.net ESMTP Postfix\n";
const HELLO: &str = "S: 220 server.info.net ESMTP Postfix\nC: HELO x\nS: 250 server.info.net\n";

fn play(text: &str) {
    player(settings()).play(&format!("{BANNER}{text}"));
}

fn player_of(settings: Settings) -> Player<Server, Policy> {
    let mut player = player(settings);
    player.play(BANNER);
    player
}

fn with_auth(tls: Tls, tls_only: bool) -> Settings {
    let mechanisms = ["PLAIN", "LOGIN"].map(str::to_owned).to_vec();
    let auth = AuthSettings { mechanisms, tls_only, response_limit: 12_288, broken_clients: false };
    Settings { tls, auth: Some(auth), ..settings() }
}

// S01, S02, S04, S08, D01c
#[test]
fn a_message_goes_through() {
    let mut player = player(settings());
    player.play(
        "S: 220 server.info.net ESMTP Postfix
        C: ehlo client.example
        S: 250-server.info.net
        S: 250-PIPELINING
        S: 250-SIZE 20000
        S: 250-VRFY
        S: 250-ENHANCEDSTATUSCODES
        S: 250-8BITMIME
        S: 250-DSN
        S: 250 SMTPUTF8
        C: MAIL FROM:<a@b.org> SIZE=10 BODY=8BITMIME RET=HDRS ENVID=x1
        S: 250 2.1.0 Ok
        C: RCPT TO:<john@info.net> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;john@info.net
        S: 250 2.1.5 Ok
        C: DATA
        S: 354 End data with <CR><LF>.<CR><LF>
        C: Subject: x
        C:
        C: ..
        C: .
        S: 250 2.0.0 Ok: queued as 17
        C: QUIT
        S: 221 2.0.0 Bye
        X:",
    );
    assert_eq!(player.given, b"Subject: x\r\n\r\n.\r\n");
    assert_eq!(player.machine.summary().to_string(), "ehlo=1 mail=1 rcpt=1 data=1 quit=1 commands=5");
}

// S03, S04, S05, S06
#[test]
fn order_is_kept() {
    play(
        "C: RCPT TO:<john@info.net>
        S: 503 5.5.1 Error: need MAIL command
        C: DATA
        S: 503 5.5.1 Error: need RCPT command
        C: NOOP
        S: 250 2.0.0 Ok
        C: RSET
        S: 250 2.0.0 Ok
        C: VRFY john@info.net
        S: 252 2.0.0 john@info.net
        C: HELP
        S: 214 2.0.0 Commands: ...
        C: helo
        S: 501 Syntax: HELO hostname
        C: helo x
        S: 250 server.info.net
        C: mail from:<a@b.org>
        S: 250 2.1.0 Ok
        C: MAIL FROM:<>
        S: 503 5.5.1 Error: nested MAIL command
        C: rcpt to:<john@info.net>
        S: 250 2.1.5 Ok
        C: EHLO x
        S: 250-server.info.net
        S: 250-PIPELINING
        S: 250-SIZE 20000
        S: 250-VRFY
        S: 250-ENHANCEDSTATUSCODES
        S: 250-8BITMIME
        S: 250-DSN
        S: 250 SMTPUTF8
        C: rcpt to:<john@info.net>
        S: 503 5.5.1 Error: need MAIL command
        C: mail from:<>
        S: 250 2.1.0 Ok
        C: rset
        S: 250 2.0.0 Ok
        C: data
        S: 503 5.5.1 Error: need RCPT command",
    );
}

// S09, S12, S13, S19, A03c, D02c, Z01, U01
#[test]
fn bad_arguments_are_named() {
    play(
        "C: MAIL
        S: 501 5.5.4 Syntax: MAIL FROM:<address>
        C: MAIL FROM:
        S: 501 5.5.4 Syntax: MAIL FROM:<address>
        C: MAIL FROM:<a@b.org
        S: 501 5.1.7 Bad sender address syntax
        C: MAIL FROM:<a@b.org> foo=bar
        S: 555 5.5.4 Unsupported option: foo=bar
        C: MAIL FROM:<a@b.org> SIZE=x
        S: 501 5.5.4 Bad message size syntax
        C: MAIL FROM:<a@b.org> SIZE=99999999999999999999999
        S: 552 5.3.4 Message size exceeds fixed limit
        C: MAIL FROM:<a@b.org> RET=full RET=hdrs
        S: 501 5.5.4 Bad RET parameter syntax
        C: MAIL FROM:<a@b.org> ENVID=a+0A
        S: 501 5.5.4 Bad ENVID parameter syntax
        C: MAIL FROM:<ä@b.org>
        S: 553 5.6.7 Must declare SMTPUTF8 to send unicode address
        C: MAIL FROM:<ä@b.org> SMTPUTF8
        S: 250 2.1.0 Ok
        C: RCPT TO:<ä@info.net>
        S: 250 2.1.5 Ok
        C: RSET x
        S: 501 5.5.4 Syntax: RSET",
    );
    play(
        "C: MAIL FROM:<a@b.org> AUTH=<>
        S: 250 2.1.0 Ok
        C: RCPT
        S: 501 5.5.4 Syntax: RCPT TO:<address>
        C: RCPT TO:<>
        S: 501 5.1.3 Bad recipient address syntax
        C: RCPT TO:<\"\"@info.net>
        S: 501 5.1.3 Bad recipient address syntax
        C: RCPT TO:<a@info.net> NOTIFY=NEVER,SUCCESS
        S: 501 5.5.4 Error: Bad NOTIFY parameter syntax
        C: RCPT TO:<a@info.net> ORCPT=rfc822;a+0Ab
        S: 501 5.5.4 Error: Bad ORCPT parameter syntax
        C: RCPT TO:<ö@info.net>
        S: 553 5.6.7 Must declare SMTPUTF8 to send unicode address
        C: RCPT TO:<Postmaster>
        S: 250 2.1.5 Ok
        C: DATA now
        S: 501 5.5.4 Syntax: DATA",
    );
}

#[test]
fn garbage_gets_an_error_and_nothing_else_happens() {
    play(
        "C:
        S: 500 5.5.2 Error: bad syntax
        C: FOO
        S: 500 5.5.2 Error: command not recognized
        c: NOOP \\0x\\r\\n
        S: 500 5.5.2 Error: bad syntax
        c: MAIL FROM:<a\\xff@b.org>\\r\\n
        S: 500 5.5.2 Error: bad UTF-8 syntax
        c: NOOP\\n
        S: 250 2.0.0 Ok
        C: ETRN x
        S: 502 5.5.1 Error: command not implemented
        C: BDAT 4 LAST
        S: 521 5.5.1 Error: command not implemented
        X:",
    );
}

#[test]
fn other_protocols_are_hung_up() {
    for line in ["GET / HTTP/1.0", "post /x", "\u{1}\u{2}", "{json}"] {
        play(&format!("C: {line}\nS: 221 2.7.0 Error: I can break rules, too. Goodbye.\nX:"));
    }
}

// S09
#[test]
fn a_long_line_is_one_error() {
    let long = "x".repeat(100_000);
    play(&format!("C: NOOP {long}\nS: 500 5.5.2 Error: line too long\nC: NOOP\nS: 250 2.0.0 Ok"));
}

// X01, S10, S13
#[test]
fn commands_may_come_in_one_packet() {
    let mut settings = settings();
    settings.recipient_limit = 1;
    let mut player = player(settings);
    player.play(HELLO);
    player.send(
        b"MAIL FROM:<>\r\nRCPT TO:<x@y.org>\r\nRCPT TO:<john@info.net>\r\nRCPT TO:<mike@info.net>\r\nDATA\r\n\r\n.\r\nQUIT\r\n",
    );
    player.play(
        "S: 250 2.1.0 Ok
        S: 554 5.7.1 <x@y.org>: Relay access denied
        S: 250 2.1.5 Ok
        S: 452 4.5.3 Error: too many recipients
        S: 354 End data with <CR><LF>.<CR><LF>
        S: 250 2.0.0 Ok: queued as 2
        S: 221 2.0.0 Bye
        X:",
    );
}

// S07, S08
#[test]
fn one_octet_at_a_time_makes_no_difference() {
    let mut player = player(settings());
    player.play(HELLO);
    let mut bytes = b"MAIL FROM:<>\r\nRCPT TO:<a@info.net>\r\nDATA\r\n".to_vec();
    bytes.extend(b"..a\r\n.b\r\n\r\n.\r\nQUIT\r\n");
    bytes.chunks(1).for_each(|octet| player.send(octet));
    player.play(
        "S: 250 2.1.0 Ok
        S: 250 2.1.5 Ok
        S: 354 End data with <CR><LF>.<CR><LF>
        S: 250 2.0.0 Ok: queued as 9
        S: 221 2.0.0 Bye",
    );
    assert_eq!(player.given, b".a\r\nb\r\n\r\n");
}

// X02
#[test]
fn data_without_recipients_is_refused() {
    play(
        "C: MAIL FROM:<>
        S: 250 2.1.0 Ok
        C: RCPT TO:<x@y.org>
        S: 554 5.7.1 <x@y.org>: Relay access denied
        C: DATA
        S: 554 5.5.1 Error: no valid recipients",
    );
}

fn open_data(settings: Settings) -> Player<Server, Policy> {
    let mut player = player(settings);
    player.play(HELLO);
    player.send(b"MAIL FROM:<>\r\nRCPT TO:<a@info.net>\r\nDATA\r\n");
    player.play("S: 250 2.1.0 Ok\nS: 250 2.1.5 Ok\nS: 354 End data with <CR><LF>.<CR><LF>");
    player
}

// Z01
#[test]
fn content_over_the_limit_is_swallowed_and_refused() {
    let mut player = open_data(settings());
    player.send(&b"0123456789abcdef\r\n".repeat(2000));
    player.play("C: .\nS: 552 5.3.4 Error: message file too big\nC: NOOP\nS: 250 2.0.0 Ok");
    assert!(player.given.len() <= 20_000);
}

#[test]
fn big_content_leaves_in_bounded_chunks() {
    let mut settings = settings();
    settings.size_limit = 0;
    let mut machine = open_data(settings).machine;
    let wire = b"0123456789abcdef\r\n".repeat(20_000);
    let (mut sent, mut given) = (0, 0);
    while sent < wire.len() {
        sent += machine.receive(&wire[sent..]);
        loop {
            match machine.next(Moment(0)) {
                Step::Give(chunk) => {
                    assert!(chunk.len() <= 64 * 1024 + 2);
                    given += chunk.len();
                }
                Step::Wait => break,
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(wire.len() - given <= 64 * 1024);
}

// S07
#[test]
fn bare_newlines_are_normalised_or_refused() {
    let mut player = open_data(settings());
    player.play("c: a\\n.\\nb\\r\\n.\\n\\r\\n.\\r\\n\nS: 250 2.0.0 Ok: queued as ...");
    assert_eq!(player.given, b"a\r\n.\r\nb\r\n\r\n\r\n");

    let mut settings = settings();
    settings.bare_newline = BareNewline::Reject(550);
    let mut player = open_data(settings.clone());
    player.play(
        "c: a\\n.\\nb\\r\\n.\\r\\n
        S: 550 5.5.2 server.info.net Error: bare <LF> received
        c: NOOP\\n
        S: 550 5.5.2 server.info.net Error: bare <LF> received
        C: NOOP
        S: 250 2.0.0 Ok",
    );
    assert!(player.given.is_empty());
    settings.bare_newline = BareNewline::Reject(521);
    open_data(settings).play("c: a\\nb\\r\\n.\\r\\n\nS: 521 5.5.2 server.info.net Error: bare <LF> received\nX:");
}

// L01, L02
#[test]
fn lmtp_answers_each_recipient() {
    let lmtp = Settings { dialect: Dialect::Lmtp, ..settings() };
    let results = |question| match question {
        Question::EndOfData { .. } => {
            Some(Answer::Recipients(vec![reply(250, (2, 0, 0), "stored"), Reply::plain(ReplyCode::of(452), "full")]))
        }
        other => policy(other),
    };
    Player::new(Server::new(Arc::new(lmtp), false), results).play(
        "S: 220 server.info.net ESMTP Postfix
        C: EHLO x
        S: 500 5.5.2 Error: command not recognized
        C: LHLO x
        S: 250-server.info.net
        S: 250-PIPELINING
        S: 250-SIZE 20000
        S: 250-ENHANCEDSTATUSCODES
        S: 250-8BITMIME
        S: 250-DSN
        S: 250 SMTPUTF8
        C: MAIL FROM:<>
        S: 250 2.1.0 Ok
        C: DATA
        S: 503 5.5.1 Error: no valid recipients
        C: RCPT TO:<a@info.net>
        S: 250 2.1.5 Ok
        C: RCPT TO:<x@y.org>
        S: 554 5.7.1 <x@y.org>: Relay access denied
        C: RCPT TO:<b@info.net>
        S: 250 2.1.5 Ok
        C: DATA
        S: 354 End data with <CR><LF>.<CR><LF>
        C: .
        S: 250 2.0.0 stored
        S: 452 full",
    );
}

#[test]
fn a_wrong_answer_is_never_a_yes() {
    let wrong = |question| match question {
        Question::Connect | Question::Helo { .. } => Some(Answer::Accept),
        _ => Some(Answer::Authenticated),
    };
    Player::new(Server::new(Arc::new(settings()), false), wrong)
        .play(&format!("{HELLO}C: MAIL FROM:<>\nS: 451 4.3.0 Error: internal error"));
}

proptest::proptest! {
    #[test]
    fn no_input_breaks_the_machine(pieces: Vec<Vec<u8>>) {
        let mut player = player(settings());
        for piece in pieces {
            player.send(&piece);
        }
    }

    #[test]
    fn no_dialogue_breaks_the_machine(
        lines in proptest::collection::vec("(EHLO x|MAIL FROM:<a@b>|RCPT TO:<a@info.net>|DATA|\\.|RSET|STARTTLS|AUTH PLAIN|\\*|[ -~]{0,9})(\r\n|\n)", 0..30)
    ) {
        let mut player = player(with_auth(Tls::May, false));
        player.send(lines.concat().as_bytes());
    }
}

#[test]
fn extensions_are_announced_and_taken_as_the_settings_say() {
    let etrn = || Settings { etrn: true, ..settings() };
    let ehlo = |settings: Settings, listed: &str| {
        let mut player = player_of(settings);
        let mut text = "C: EHLO x\nS: 250-server.info.net\n".to_owned();
        let words: Vec<&str> = listed.split(' ').map(|word| if word == "SIZE" { "SIZE 20000" } else { word }).collect();
        for (at, word) in words.iter().enumerate() {
            let sign = if at + 1 == words.len() { ' ' } else { '-' };
            text += &format!("S: 250{sign}{word}\n");
        }
        player.play(text.trim_end());
        player
    };
    let mut all = ehlo(etrn(), "PIPELINING SIZE VRFY ETRN ENHANCEDSTATUSCODES 8BITMIME DSN SMTPUTF8");
    all.play("C: ETRN a.org b.org\nS: 500 Syntax: ETRN domain");
    let discarded = Settings { discard_ehlo_keywords: vec!["ETRN".into(), "DSN".into()], ..etrn() };
    let mut few = ehlo(discarded, "PIPELINING SIZE VRFY ENHANCEDSTATUSCODES 8BITMIME SMTPUTF8");
    few.play("C: ETRN a.org\nS: 502 5.5.1 Error: command not implemented");
    let mut strict = player_of(Settings { helo_required: true, ..etrn() });
    strict.play("C: ETRN a.org\nS: 503 5.5.1 Error: send HELO/EHLO first\nC: HELO x\nS: 250 server.info.net\nC: ETRN\nS: 500 Syntax: ETRN domain");
}

#[test]
fn a_sender_without_a_domain_is_refused_where_envelopes_are_strict() {
    for (strict_envelopes, bare) in [(true, "501 5.1.7 Bad sender address syntax"), (false, "250 2.1.0 Ok")] {
        let mut player = player_of(Settings { strict_envelopes, ..settings() });
        player.play(&format!(
            "C: HELO x\nS: 250 server.info.net\nC: MAIL FROM:<john>\nS: {bare}\nC: RSET\nS: 250 2.0.0 Ok"
        ));
        player.play(
            "C: MAIL FROM:<john@info.net>\nS: 250 2.1.0 Ok\nC: RSET\nS: 250 2.0.0 Ok\nC: MAIL FROM:<>\nS: 250 2.1.0 Ok",
        );
    }
}

// L01
#[test]
fn a_result_that_is_missing_is_tried_again() {
    let lmtp = Settings { dialect: Dialect::Lmtp, ..settings() };
    let results = |question| match question {
        Question::EndOfData { .. } => Some(Answer::Recipients(vec![reply(250, (2, 0, 0), "stored")])),
        other => policy(other),
    };
    Player::new(Server::new(Arc::new(lmtp), false), results).play(
        "S: 220 server.info.net ESMTP Postfix
        C: LHLO x
        S: 250-server.info.net
        S: 250-PIPELINING
        S: 250-SIZE 20000
        S: 250-ENHANCEDSTATUSCODES
        S: 250-8BITMIME
        S: 250-DSN
        S: 250 SMTPUTF8
        C: MAIL FROM:<>
        S: 250 2.1.0 Ok
        C: RCPT TO:<a@info.net>
        S: 250 2.1.5 Ok
        C: RCPT TO:<b@info.net>
        S: 250 2.1.5 Ok
        C: DATA
        S: 354 End data with <CR><LF>.<CR><LF>
        C: .
        S: 250 2.0.0 stored
        S: 451 4.3.0 Error: no result",
    );
}
