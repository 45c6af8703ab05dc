//! POP3: the machines before and after the login.

use mail_pop3::content::Top;
use mail_pop3::login::{self, LoginMachine};
use mail_pop3::mailbox::{self, MailboxMachine, Message};

use crate::Target;
use crate::machine::{play, shown};

pub const LOGIN: Target = Target {
    name: "pop3_login",
    run: login,
    tokens: &[
        "CAPA\r\n",
        "USER u\r\n",
        "PASS p\r\n",
        "PASS  p p\r\n",
        "AUTH PLAIN ",
        "AUTH\r\n",
        "AHUAcA==\r\n",
        "=\r\n",
        "*\r\n",
        "STLS\r\n",
        "APOP x y\r\n",
        "NOOP\r\n",
        "QUIT\r\n",
        "\r\n",
    ],
    cost: 1,
};

pub const MAILBOX: Target = Target {
    name: "pop3_mailbox",
    run: mailbox,
    tokens: &[
        "STAT\r\n",
        "LIST\r\n",
        "LIST 1\r\n",
        "UIDL\r\n",
        "UIDL 2\r\n",
        "RETR 1\r\n",
        "RETR 2\r\n",
        "TOP 1 0\r\n",
        "TOP 2 9999999999\r\n",
        "DELE 1\r\n",
        "DELE 3\r\n",
        "RSET\r\n",
        "NOOP\r\n",
        "LAST\r\n",
        "CAPA\r\n",
        "QUIT\r\n",
        "-1",
        "4294967296",
        "00",
        "\r\n",
    ],
    cost: 1,
};

fn login(input: &[u8]) {
    let session = |starttls, piece| {
        let mechanisms = ["PLAIN", "LOGIN"].map(|name| login::Mechanism { name: name.to_owned(), plaintext: true });
        let options = login::Options {
            greeting: "Postrider ready.".to_owned(),
            mechanisms: mechanisms.to_vec(),
            starttls,
            tls: false,
            local: true,
            cleartext: true,
            tls_required: false,
        };
        let (_, heard) = play(LoginMachine::new(options), input, piece, |question| match question {
            login::Question::Begin { initial: Some(initial), .. } if initial.ends_with(b"\0p") => {
                vec![login::Answer::Authenticated]
            }
            login::Question::Begin { initial: None, .. } => vec![login::Answer::Challenge(b"Username:".to_vec())],
            login::Question::Begin { .. } => vec![login::Answer::Failed(login::Failure::Credentials)],
            login::Question::Continue(response) if response.is_empty() => {
                vec![login::Answer::Failed(login::Failure::Protocol)]
            }
            login::Question::Continue(_) => vec![login::Answer::Authenticated],
            login::Question::Cancel => Vec::new(),
        });
        replies(&heard.output);
        heard
    };
    let whole = session(false, usize::MAX);
    assert_eq!(session(false, 1), whole, "packets make a difference");
    session(true, usize::MAX);
}

const CONTENTS: [&[u8]; 3] =
    [b"Subject: a\r\n\r\n.\r\n..\r\n.dot\r\nend", b"", b"no header\n.\nbare\rcr\r\n\xff\x00nul\r\n"];

fn mailbox(input: &[u8]) {
    let session = |piece| {
        let message = |(content, number): (&&[u8], u32)| Message { size: wire(content), uidl: format!("{number:08x}") };
        let messages = CONTENTS.iter().zip(0..).map(message).collect();
        let machine = MailboxMachine::new(messages, mailbox::Options { last: true });
        let mut updates = Vec::new();
        let (_, heard) = play(machine, input, piece, |question| match question {
            mailbox::Question::Content { index, lines } => {
                let content = CONTENTS[index];
                let end = lines.map_or(content.len(), |lines| Top::new(lines).take(content));
                let chunks = content[..end].chunks(7).map(|chunk| mailbox::Answer::Chunk(chunk.to_vec()));
                chunks.chain([mailbox::Answer::End]).collect()
            }
            mailbox::Question::Reset { .. } => Vec::new(),
            mailbox::Question::Update { deleted } => {
                updates.push(deleted);
                vec![mailbox::Answer::Updated]
            }
        });
        replies(&heard.output);
        let quit = input.windows(4).any(|word| word.eq_ignore_ascii_case(b"quit"));
        assert!(updates.len() <= usize::from(quit), "an update without QUIT");
        (heard, updates)
    };
    let whole = session(usize::MAX);
    assert_eq!(session(1), whole, "packets make a difference");
}

/// Octets with CRLF line ends.
fn wire(content: &[u8]) -> u64 {
    let bare = |(at, octet): (usize, &u8)| *octet == b'\n' && (at == 0 || content[at - 1] != b'\r');
    (content.len() + content.iter().enumerate().filter(|&pair| bare(pair)).count()) as u64
}

/// Replies and listings are lines; a line that begins with a dot stands within a listing, which a lone dot ends.
fn replies(output: &[u8]) {
    let mut dots = 0;
    for line in text_lines(output) {
        dots += usize::from(line == b".");
        let is_status = line.starts_with(b"+OK") || line.starts_with(b"-ERR") || line.starts_with(b"+ ");
        assert!(
            !is_status || (line.len() <= 510 && !line.iter().any(u8::is_ascii_control)),
            "a status: {}",
            shown(line)
        );
    }
    let listings = output.windows(3).filter(|window| window == b"+OK").count();
    assert!(dots <= listings, "more listings end than begin: {}", shown(output));
}

/// Content may hold a bare CR or NUL; every LF ends a line with CRLF.
fn text_lines(output: &[u8]) -> impl Iterator<Item = &[u8]> {
    output
        .split_inclusive(|&octet| octet == b'\n')
        .map(|line| line.strip_suffix(b"\r\n").unwrap_or_else(|| panic!("a line has no end: {}", shown(line))))
}
