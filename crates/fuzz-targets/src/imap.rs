//! IMAP: the machines before and after the login, the grammar of commands, the names of mailboxes.

use std::time::Duration;

use mail_imap::grammar::command::{Command, command, literal_mark, tag_of};
use mail_imap::grammar::fetch::FetchItem;
use mail_imap::grammar::flags::Flags;
use mail_imap::grammar::sequence::Ranges;
use mail_imap::response::{write_fetch_flags, write_nstring, write_string};
use mail_imap::{
    Answer, AuthFailure, Changes, Folder, Folders, HandOver, Login, LoginAnswer, LoginQuestion, LoginSettings, Mailbox,
    MailboxName, MailboxSettings, MailboxStatus, Mechanism, Namespaces, Opened, Question, Refusal, ResponseCode,
    decode_mailbox_name, encode_mailbox_name,
};
use mail_types::Octets;

use crate::Target;
use crate::imap_lines::responses;
use crate::machine::{Heard, play, shown};

pub const LOGIN: Target = Target {
    name: "imap_login",
    run: login,
    tokens: &[
        "a LOGIN u p\r\n",
        "a LOGIN {1}\r\nu {1+}\r\np\r\n",
        "a AUTHENTICATE PLAIN\r\n",
        "a AUTHENTICATE PLAIN AHUAcA==\r\n",
        "=\r\n",
        "*\r\n",
        "a STARTTLS\r\n",
        "a CAPABILITY\r\n",
        "a ID NIL\r\n",
        "a ID (\"a\" \"b\")\r\n",
        "a SELECT {3+}\r\nabc\r\n",
        "{",
        "}",
        "{4294967296}\r\n",
        "\"",
        "\\",
        "a NOOP\r\n",
        "a LOGOUT\r\n",
        "\r\n",
        "(",
        ")",
    ],
    cost: 2,
};

const COMMANDS: &[&str] = &[
    "a SELECT inbox\r\n",
    "a EXAMINE a&AOQ-\r\n",
    "a FETCH 1:* (FLAGS UID BODY[1.2.HEADER.FIELDS (a b)]<0.9>)\r\n",
    "a UID FETCH * ALL\r\n",
    "a STORE 1,2:4 +FLAGS.SILENT (\\Seen $a)\r\n",
    "a SEARCH CHARSET UTF-8 OR NOT SEEN (SUBJECT \"a\" UID 1:*)\r\n",
    "a UID SEARCH ALL\r\n",
    "a COPY 1 x\r\n",
    "a MOVE 1:2 x\r\n",
    "a APPEND x (\\Seen) \"01-Jan-2020 00:00:00 +0000\" {3+}\r\nabc\r\n",
    "a APPEND x {3}\r\nabc\r\n",
    "a LIST \"\" *\r\n",
    "a LSUB \"\" %\r\n",
    "a CREATE a/b\r\n",
    "a DELETE a\r\n",
    "a RENAME a b\r\n",
    "a STATUS x (MESSAGES UIDNEXT)\r\n",
    "a NAMESPACE\r\n",
    "a IDLE\r\nDONE\r\n",
    "a EXPUNGE\r\n",
    "a UID EXPUNGE 3\r\n",
    "a CLOSE\r\n",
    "a UNSELECT\r\n",
    "a LOGOUT\r\n",
    "1:*,",
    "4294967295",
    "(",
    ")",
    "\"",
    "\\",
    "{",
    "{2}\r\n",
    "{2+}\r\n",
    "[",
    "]",
    "NOT ",
    "OR ",
    "NIL",
    "&AOQ-",
    "*",
    "%",
    "\r\n",
];

pub const MAILBOX: Target = Target { name: "imap_mailbox", run: mailbox, tokens: COMMANDS, cost: 3 };

pub const COMMAND: Target = Target { name: "imap_command", run: one_command, tokens: COMMANDS, cost: 1 };

pub const MAILBOX_NAME: Target = Target {
    name: "imap_mailbox_name",
    run: mailbox_name,
    tokens: &[
        "&", "-", "&-", "&AOQ-", "&2D3cqQ-", "&U,BTFw-", "/", ".", "..", "~", "INBOX", "inbox/", "%", "*", "ä", "&&",
        "AAAA",
    ],
    cost: 1,
};

fn login(input: &[u8]) {
    let session = |starttls, piece| {
        let settings = LoginSettings {
            greeting: "Postrider ready.".into(),
            tls: false,
            starttls,
            cleartext: true,
            tls_required: false,
            mechanisms: ["PLAIN", "LOGIN"].map(|name| Mechanism { name: name.into(), plaintext: true }).to_vec(),
            timeout: Duration::from_secs(180),
        };
        let (machine, heard) = play(Login::new(settings), input, piece, |question| match question {
            LoginQuestion::Begin { initial: Some(initial), .. } if initial.as_bytes().ends_with(b"\0p") => {
                vec![LoginAnswer::Success]
            }
            LoginQuestion::Begin { initial: None, .. } => vec![LoginAnswer::Challenge(Octets::from("Username:"))],
            LoginQuestion::Begin { .. } => vec![LoginAnswer::Failure(AuthFailure::Credentials)],
            LoginQuestion::Continue(response) if response.as_bytes().is_empty() => {
                vec![LoginAnswer::Failure(AuthFailure::Refused("[UNAVAILABLE] later".into()))]
            }
            LoginQuestion::Continue(_) => vec![LoginAnswer::Challenge(Octets::from("Password:"))],
            LoginQuestion::Cancel => Vec::new(),
        });
        answers(&heard, input);
        (heard, machine.hand_over().map(|hand_over| hand_over.tag))
    };
    let whole = session(false, usize::MAX);
    assert_eq!(session(false, piece(input)), whole, "packets make a difference");
    session(true, usize::MAX);
}

fn piece(input: &[u8]) -> usize {
    if input.len() > 4096 { 61 } else { 1 }
}

/// Responses are well-formed, and there are no more tagged ones than lines that can be commands.
fn answers(heard: &Heard, input: &[u8]) {
    let tagged =
        responses(&heard.output).iter().filter(|line| !line.starts_with(b"* ") && !line.starts_with(b"+ ")).count();
    let commands = 1 + input.iter().filter(|&&octet| octet == b'\n').count();
    assert!(tagged <= commands, "{tagged} tagged responses to {commands} lines: {}", shown(&heard.output));
}

/// An account with INBOX and what was created; messages with the UIDs 3, 5 and 9.
#[derive(Default)]
struct Account {
    names: Vec<MailboxName>,
    subscriptions: Vec<MailboxName>,
    appending: bool,
}

impl Account {
    fn answer(&mut self, question: Question) -> Vec<Answer> {
        let done = || vec![Answer::Done];
        match question {
            Question::Open { mailbox, read_only } => vec![self.open(&mailbox, read_only)],
            Question::Sync { mark, .. } => vec![Answer::Changes(Changes { mark, ..Changes::default() })],
            Question::Folders => vec![self.folders()],
            Question::Namespaces => vec![Answer::Namespaces(Namespaces {
                personal: vec![(String::new(), '/'), ("a \"b\\".into(), '/')],
                ..Namespaces::default()
            })],
            Question::Status(_) => vec![Answer::Status(MailboxStatus {
                messages: 3,
                recent: 1,
                uid_next: 10,
                uid_validity: 77,
                unseen: 2,
            })],
            Question::Create(name) => {
                self.names.push(name);
                done()
            }
            Question::Subscribe(name) => {
                self.subscriptions.push(name);
                done()
            }
            Question::Rename(_, name) => vec![missing(&name)],
            Question::Append { .. } => {
                self.appending = true;
                done()
            }
            Question::Commit => {
                assert!(std::mem::take(&mut self.appending), "a commit of nothing");
                vec![Answer::Appended { uid_validity: 77, uid: Some(10) }]
            }
            Question::Abort => {
                self.appending = false;
                Vec::new()
            }
            Question::Fetch { messages, items, .. } => {
                let data = messages.iter().map(|(number, uid)| Answer::Data(fetched(number, uid, &items)));
                data.chain([Answer::Fetched { seen: vec![(3, Flags::default())], missing: false }]).collect()
            }
            Question::Store { messages, flags, .. } => {
                let flags = messages.iter().map(|(_, uid)| (uid, flags.clone())).collect();
                vec![Answer::Stored { flags, missing: true }]
            }
            Question::Search { .. } => vec![Answer::Found(vec![3, 9])],
            Question::Copy { messages, .. } => {
                let uids = messages.iter().map(|(number, uid)| (uid, 100 + number)).collect();
                vec![Answer::Copied { uid_validity: 5, uids }]
            }
            Question::Watch | Question::Unwatch => Vec::new(),
            _ => done(),
        }
    }

    fn open(&self, name: &MailboxName, read_only: bool) -> Answer {
        if !name.is_inbox() && !self.names.contains(name) {
            return missing(name);
        }
        Answer::Opened(Opened {
            uids: vec![3, 5, 9],
            recent: vec![9],
            uid_validity: 77,
            uid_next: 10,
            first_unseen: Some(5),
            keywords: vec!["$Forwarded".into()],
            mark: 1,
            read_only,
        })
    }

    fn folders(&self) -> Answer {
        let inbox = [MailboxName::inbox()];
        let folder = |name: &MailboxName| Folder { name: name.clone(), special_use: "\\Sent".into(), no_select: false };
        let mailboxes = inbox.iter().chain(&self.names).map(folder).collect();
        Answer::Folders(Folders { separator: '/', mailboxes, subscriptions: self.subscriptions.clone() })
    }
}

/// A refusal whose text holds what the client sent.
fn missing(name: &MailboxName) -> Answer {
    let text = format!("Mailbox doesn't exist: {}", name.as_str());
    Answer::Refused(Refusal::new(ResponseCode::NonExistent, text))
}

/// What the outside writes for a message, with strings of every kind.
fn fetched(number: u32, uid: u32, items: &[FetchItem]) -> Vec<u8> {
    let mut out = Vec::new();
    write_fetch_flags(number, Some(uid), &Flags::default(), true, &mut out);
    out.extend_from_slice(format!("* {number} FETCH (X ").as_bytes());
    write_string(b"\"\\\r\n\0\xff", &mut out);
    out.push(b' ');
    write_nstring((!items.is_empty()).then_some(b"a\tb"), &mut out);
    out.extend_from_slice(b")\r\n");
    out
}

fn mailbox(input: &[u8]) {
    let session = |piece| {
        let hand_over = HandOver { tag: "l".into(), unread: Octets::from("i SELECT inbox\r\n") };
        let machine = Mailbox::new(MailboxSettings::default(), &hand_over);
        let mut account = Account::default();
        let (_, heard) = play(machine, input, piece, |question| account.answer(question));
        let with_login = [b"\n\n".as_slice(), input].concat();
        answers(&heard, &with_login);
        // How much of a message that is refused goes out before differs.
        (heard.output, heard.close, account.names)
    };
    let whole = session(usize::MAX);
    assert_eq!(session(piece(input)), whole, "packets make a difference");
}

fn one_command(input: &[u8]) {
    for line in input.split_inclusive(|&octet| octet == b'\n') {
        if let Some(mark) = literal_mark(line) {
            assert!(line.len() > 2, "{mark:?}");
        }
    }
    match command(input) {
        Ok((tag, command)) => {
            assert_eq!(tag_of(input), Some(tag));
            sets(&command);
        }
        Err(error) => {
            let tag = error.tag().unwrap_or_default();
            assert!(tag.bytes().all(|octet| octet.is_ascii_graphic()), "{tag:?}");
        }
    }
}

/// A set becomes rising ranges with gaps between them, whatever its size.
fn sets(command: &Command) {
    let set = match command {
        Command::Fetch { set, .. } | Command::Store { set, .. } | Command::Copy { set, .. } => set,
        _ => return,
    };
    for last in [0, 1, 7, u32::MAX] {
        let ranges = set.resolve(last);
        let pairs = ranges.as_slice();
        assert!(pairs.iter().all(|(from, to)| from <= to), "{pairs:?}");
        assert!(pairs.windows(2).all(|pair| u64::from(pair[0].1) + 1 < u64::from(pair[1].0)), "{pairs:?}");
        let again: Ranges = pairs.iter().rev().copied().collect();
        assert_eq!(again.as_slice(), pairs);
    }
}

/// A name that is read has one form, that one; no name leaves its mailbox.
fn mailbox_name(input: &[u8]) {
    if let Some(text) = decode_mailbox_name(input) {
        assert_eq!(encode_mailbox_name(&text).as_bytes(), input, "{text:?} has two forms");
    }
    let text = String::from_utf8_lossy(input);
    let encoded = encode_mailbox_name(&text);
    assert!(encoded.bytes().all(|octet| octet.is_ascii()), "{encoded:?}");
    assert_eq!(decode_mailbox_name(encoded.as_bytes()).as_deref(), Some(&*text));
    if let Ok(name) = MailboxName::decode(input) {
        assert_eq!(MailboxName::decode(name.encoded().as_bytes()).as_ref(), Ok(&name));
        stored(name.as_str());
    }
    stored(&text);
    let folders = Folders {
        separator: '/',
        mailboxes: vec![Folder { name: MailboxName::inbox(), special_use: String::new(), no_select: false }],
        subscriptions: Vec::new(),
    };
    responses(&folders.respond(b"", input, false));
}

/// A name of the mailbox store is one directory below the root.
fn stored(name: &str) {
    let Ok(name) = mail_store::MailboxName::from_imap(name, '/') else { return };
    let stored = name.as_stored();
    assert!(!stored.contains(['/', '\0']) && !stored.split('.').any(str::is_empty), "{stored:?}");
}
