//! SMTP and LMTP: both machines, content on the wire, the grammar of paths, parameters and xtext.

use std::sync::Arc;
use std::time::Duration;

use mail_smtp::client::{self, Client};
use mail_smtp::content::{Decoder, Encoder, StrayCr};
use mail_smtp::grammar::{ReplyParser, params, path_argument, size_value, verb, xtext_decode, xtext_encode};
use mail_smtp::server::{Answer, AuthSettings, BareNewline, Dialect, Question, Server, Settings, Tls};
use mail_types::{Address, Body, Domain, DsnOptions, EnhancedStatus, Recipient, Reply, ReplyCode, Sender};

use crate::Target;
use crate::machine::{Heard, lines, play, shown};

pub const SERVER: Target = Target {
    name: "smtp_server",
    run: |input| server(input, Dialect::Smtp),
    tokens: &[
        "EHLO x\r\n",
        "HELO x\r\n",
        "MAIL FROM:<a@b.org>",
        "RCPT TO:<c@info.net>",
        "DATA\r\n",
        "\r\n.\r\n",
        "\n.\n",
        "\r.\r",
        "\r\n.\n",
        "..\r\n",
        "RSET\r\n",
        "STARTTLS\r\n",
        "AUTH PLAIN ",
        "AHUAcA==",
        "*\r\n",
        "VRFY x\r\n",
        "NOOP\r\n",
        "BDAT 5 LAST\r\n",
        "XCLIENT NAME=x\r\n",
        "QUIT\r\n",
        " SIZE=9",
        " BODY=8BITMIME",
        " SMTPUTF8",
        " ORCPT=rfc822;a",
        " NOTIFY=NEVER",
        "GET / HTTP/1.0\r\n",
        "\r\n",
    ],
    cost: 4,
};

pub const LMTP_SERVER: Target = Target {
    name: "lmtp_server",
    run: |input| server(input, Dialect::Lmtp),
    tokens: &[
        "LHLO x\r\n",
        "MAIL FROM:<>\r\n",
        "RCPT TO:<c@info.net>\r\n",
        "DATA\r\n",
        "\r\n.\r\n",
        "RSET\r\n",
        "QUIT\r\n",
    ],
    cost: 4,
};

pub const CLIENT: Target = Target {
    name: "smtp_client",
    run: |input| client(input, Dialect::Smtp),
    tokens: &[
        "220 mx ESMTP\r\n",
        "250-PIPELINING\r\n",
        "250-SIZE 10\r\n",
        "250-STARTTLS\r\n",
        "250-AUTH PLAIN LOGIN\r\n",
        "250-8BITMIME\r\n",
        "250-SMTPUTF8\r\n",
        "250-DSN\r\n",
        "250 ok\r\n",
        "354 go\r\n",
        "421 4.3.0 bye\r\n",
        "450 4.2.0 later\r\n",
        "550 5.1.1 no\r\n",
        "334 \r\n",
        "235 ok\r\n",
        "999 what\r\n",
        "x\r\n",
        "\n",
    ],
    cost: 2,
};

pub const LMTP_CLIENT: Target =
    Target { name: "lmtp_client", run: |input| client(input, Dialect::Lmtp), tokens: CLIENT.tokens, cost: 2 };

pub const CONTENT: Target = Target {
    name: "smtp_content",
    run: content,
    tokens: &[".", "..", "\r\n.\r\n", "\n.\n", "\r.\r", "\r\n.\n", "\r\r\n", "\r\n", "\r", "\n", "abcdefgh"],
    cost: 1,
};

pub const GRAMMAR: Target = Target {
    name: "smtp_grammar",
    run: grammar,
    tokens: &[
        "MAIL FROM:",
        "RCPT TO:",
        "<",
        ">",
        "@a,@b:",
        "\"",
        "\\",
        "[1.2.3.4]",
        "[IPv6:::1]",
        "a@b.org",
        "SIZE=",
        "ORCPT=rfc822;",
        "NOTIFY=",
        "SUCCESS,",
        "NEVER",
        "RET=HDRS",
        "ENVID=",
        "+41",
        "+0A",
        "AUTH=<>",
        "BODY=",
        "=",
        " ",
        "250-",
        "250 ",
        "ä",
        ".",
    ],
    cost: 1,
};

/// Everything that a session may meet is accepted, so that no input is cut short.
fn settings(dialect: Dialect, tls: Tls) -> Arc<Settings> {
    Arc::new(Settings {
        dialect,
        hostname: "mx.info.net".to_owned(),
        banner: "mx.info.net ESMTP".to_owned(),
        size_limit: 8_000,
        error_sleep: Duration::ZERO,
        hard_error_limit: u32::MAX,
        junk_command_limit: u32::MAX,
        bare_newline: if dialect == Dialect::Lmtp { BareNewline::Reject(550) } else { BareNewline::Normalize },
        tls,
        auth: Some(AuthSettings {
            mechanisms: vec!["PLAIN".to_owned(), "LOGIN".to_owned()],
            tls_only: false,
            response_limit: 12_288,
            broken_clients: true,
        }),
        ..Settings::default()
    })
}

fn reply(code: u16, status: (u8, u16, u16), text: &str) -> Reply {
    Reply::new(ReplyCode::of(code), EnhancedStatus::of(status.0, status.1, status.2), text)
}

/// A policy that refuses what names `refuse`, repeats what it heard, and counts the recipients for LMTP.
fn policy(dialect: Dialect) -> impl FnMut(Question) -> Vec<Answer> {
    let mut recipients = 0;
    move |question| {
        vec![match question {
            Question::Rcpt(command) if command.to.to_string().contains("refuse") => {
                Answer::Refuse(reply(550, (5, 1, 1), &format!("<{}>: unknown", command.to)))
            }
            Question::Rcpt(_) => {
                recipients += 1;
                Answer::Accept
            }
            Question::Mail(_) => {
                recipients = 0;
                Answer::Accept
            }
            Question::EndOfData { .. } if dialect == Dialect::Lmtp => {
                Answer::Recipients(vec![reply(250, (2, 0, 0), "stored"); std::mem::take(&mut recipients)])
            }
            Question::EndOfData { octets } => Answer::Done(reply(250, (2, 0, 0), &format!("Ok: {octets}"))),
            Question::AuthStart { initial: Some(initial), .. } if initial.contains(&0) => Answer::Authenticated,
            Question::AuthStart { .. } => Answer::Challenge(b"Username:".to_vec()),
            Question::AuthResponse(response) if response.is_empty() => {
                Answer::Refuse(reply(535, (5, 7, 8), "Error: authentication failed:"))
            }
            Question::AuthResponse(_) => Answer::Authenticated,
            Question::Vrfy(mailbox) => Answer::Done(reply(252, (2, 0, 0), &mailbox.to_string())),
            _ => Answer::Accept,
        }]
    }
}

fn server(input: &[u8], dialect: Dialect) {
    let session = |tls, piece| play(Server::new(settings(dialect, tls), false), input, piece, policy(dialect)).1;
    let whole = session(Tls::Off, usize::MAX);
    replies(&whole.output);
    clean(&whole.given);
    let piece = if input.len() > 4096 { 61 } else { 1 };
    assert_eq!(session(Tls::Off, piece), whole, "packets make a difference");
    replies(&session(Tls::May, usize::MAX).output);
}

/// `code` blank or hyphen, text of printable characters, 512 octets at most; the lines of a reply have one code.
fn replies(output: &[u8]) {
    let mut open: Option<&[u8]> = None;
    for line in lines(output) {
        let good = line.len() <= 510 && line.len() >= 4 && matches!(line[0], b'2'..=b'5') && line[..3].is_ascii();
        let good = good && line[1..3].iter().all(u8::is_ascii_digit) && matches!(line[3], b' ' | b'-');
        assert!(good && !line.iter().any(u8::is_ascii_control), "no reply: {}", shown(line));
        assert!(open.is_none_or(|code| code == &line[..3]), "a reply of two codes: {}", shown(output));
        open = (line[3] == b'-').then_some(&line[..3]);
    }
    assert!(open.is_none(), "a reply without its last line: {}", shown(output));
}

/// What is stored has no line end but CRLF.
fn clean(content: &[u8]) {
    for (at, octet) in content.iter().enumerate() {
        let good = match octet {
            b'\n' => at > 0 && content[at - 1] == b'\r',
            b'\r' => content.get(at + 1) == Some(&b'\n'),
            _ => true,
        };
        assert!(good, "a bare line end: {}", shown(&content[at.saturating_sub(20)..]));
    }
}

/// The outside of a client: two messages for two recipients each, and what was reported of them.
#[derive(Default)]
struct Outside {
    taken: usize,
    chunks: usize,
    reported: Vec<usize>,
    failed: usize,
}

const MESSAGE: &[u8] = b"Subject: x\r\n\r\n.dot\n..\r\rbare\rend\n.\n\xc3\xa4 8-bit";

impl Outside {
    fn answer(&mut self, question: client::Question) -> client::Answer {
        match question {
            client::Question::Ready(_) if self.taken == 2 => client::Answer::Quit,
            client::Question::Ready(_) => {
                self.taken += 1;
                self.chunks = 0;
                client::Answer::Message(Box::new(message()))
            }
            client::Question::Content if self.chunks < 3 => {
                self.chunks += 1;
                client::Answer::Chunk(if self.chunks == 2 { vec![b'.'; 3000] } else { MESSAGE.to_vec() })
            }
            client::Question::Content => client::Answer::EndOfContent,
            client::Question::Outcome(outcomes) => {
                outcomes.iter().for_each(|one| drop(one.cause.describe("mx[192.0.2.1]")));
                self.reported.push(outcomes.len());
                client::Answer::Noted
            }
            client::Question::Failed(failure) => {
                drop(failure.cause.describe("mx[192.0.2.1]"));
                self.failed += 1;
                client::Answer::Noted
            }
        }
    }
}

fn message() -> client::Message {
    let address = |local: &str| Address::new(local, Domain::new("y.org").expect("a domain")).expect("an address");
    client::Message {
        sender: Sender::Address(address("a b\"")),
        recipients: vec![Recipient::new(address("x")), Recipient::new(address("z"))],
        size: 3100,
        body: Body::EightBitMime,
        smtputf8: false,
        dsn: DsnOptions::default(),
        verify: false,
    }
}

fn client(input: &[u8], dialect: Dialect) {
    let session = |starttls, piece| {
        let credentials = client::Credentials {
            user: "u".into(),
            password: "p".into(),
            in_clear: client::Mechanism::ALL.to_vec(),
            in_tls: client::Mechanism::ALL.to_vec(),
            soft_bounce: true,
        };
        let settings = client::Settings {
            dialect,
            helo_name: "client.example".to_owned(),
            starttls,
            credentials: Some(credentials),
            ..client::Settings::default()
        };
        let mut outside = Outside::default();
        let (_, heard) = play(Client::new(Arc::new(settings), false), input, piece, |q| vec![outside.answer(q)]);
        for line in lines_until_cut(&heard) {
            assert!(line.len() <= 1000, "a long line: {}", shown(line));
        }
        // Each message that was taken has one outcome for each of its recipients.
        assert_eq!(outside.reported, vec![2; outside.taken], "taken {}, failed {}", outside.taken, outside.failed);
        (outside.taken, outside.failed, heard)
    };
    let whole = session(client::Starttls::Off, usize::MAX);
    let piece = if input.len() > 4096 { 61 } else { 1 };
    assert_eq!(session(client::Starttls::Off, piece), whole, "packets make a difference");
    session(client::Starttls::May, usize::MAX);
}

/// A connection may break within a line of content; all before it are lines.
fn lines_until_cut(heard: &Heard) -> Vec<&[u8]> {
    let end = heard.output.iter().rposition(|&octet| octet == b'\n').map_or(0, |at| at + 1);
    lines(&heard.output[..end])
}

/// Content that was encoded is decoded to the same text, ends where it ends and nowhere else, and packets make no difference.
fn content(input: &[u8]) {
    let mut wire = Vec::new();
    let mut encoder = Encoder::new(998);
    encoder.encode(input, &mut wire);
    encoder.finish(&mut wire);
    assert!(lines(&wire).iter().all(|line| line.len() <= 999), "a long line leaves: {}", shown(&wire));

    let (decoded, rest) = decode(&wire, usize::MAX);
    assert!(rest == Some(0), "the end is not where it was put: {}", shown(&wire));
    clean(&decoded);
    let mut unlimited = Vec::new();
    let mut encoder = Encoder::new(998);
    encoder.encode(&decoded, &mut unlimited);
    encoder.finish(&mut unlimited);
    assert_eq!(unlimited, wire, "what was decoded is encoded otherwise");

    // As a hostile client sends it.
    let hostile = decode(input, usize::MAX);
    clean(hostile.0.strip_suffix(b"\r").unwrap_or(&hostile.0));
    assert_eq!(decode(input, 1), hostile, "packets make a difference");
    if hostile.1.is_some() {
        let ended = input.len() - hostile.1.unwrap_or(0);
        let end = &input[..ended];
        assert!(end == b".\r\n" || end.ends_with(b"\r\n.\r\n"), "an end that is none: {}", shown(end));
    }
}

/// The text, and how many octets stand behind its end; none if it has no end.
fn decode(wire: &[u8], piece: usize) -> (Vec<u8>, Option<usize>) {
    let mut decoder = Decoder::new(StrayCr::Blank);
    let (mut out, mut read) = (Vec::new(), 0);
    for piece in wire.chunks(piece.max(1).min(wire.len().max(1))) {
        read += decoder.decode(piece, &mut out, usize::MAX);
        if decoder.is_ended() {
            return (out, Some(wire.len() - read));
        }
    }
    (out, None)
}

fn grammar(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut parser = ReplyParser::default();
    for line in input.split(|&octet| octet == b'\n') {
        let _ = parser.line(line);
    }
    for line in text.lines() {
        let (_, arguments) = verb(line);
        for (keyword, strict) in [("FROM", false), ("TO", true)] {
            path(keyword, arguments, strict);
        }
        let _ = size_value(line);
        if let Ok(params) = params(line) {
            assert!(params.len() <= line.len());
        }
        if let Some(decoded) = xtext_decode(line) {
            assert_eq!(xtext_decode(&xtext_encode(&decoded)).as_deref(), Some(decoded.as_str()));
        }
        if let Ok(address) = line.parse::<Address>() {
            let written = address.to_string();
            assert_eq!(written.parse(), Ok(address), "{written}");
            assert!(!written.contains(char::is_control), "{written:?}");
        }
    }
}

/// A mailbox that was read holds no control characters, and is read again from what we would write.
fn path(keyword: &str, arguments: &str, strict: bool) {
    let Ok((path, _)) = path_argument(keyword, arguments, strict) else { return };
    let Some(mailbox) = path.mailbox() else { return };
    assert!(!mailbox.local.is_empty() && !mailbox.local.contains(char::is_control), "{mailbox:?}");
    let Some(address) = mailbox.domain.clone().and_then(|domain| Address::new(&mailbox.local, domain).ok()) else {
        return;
    };
    let written = format!("{keyword}:<{address}>");
    let again = path_argument(keyword, &written, true);
    assert_eq!(again.as_ref().map(|(path, rest)| (path.mailbox(), *rest)), Ok((Some(mailbox), "")), "{written}");
}
