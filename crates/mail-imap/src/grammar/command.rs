//! Commands: tag, name and arguments.

use nom::Parser;
use nom::branch::alt;
use nom::character::complete::char;
use nom::combinator::{eof, map, opt, success, value};
use nom::multi::separated_list1;
use nom::sequence::{delimited, preceded, terminated};
use serde::{Deserialize, Serialize};

use super::date::{DateTime, date_time};
use super::fetch::{FetchItem, fetch_items};
use super::flags::{Flags, flag_list, store_flags};
use super::search::{SearchProgram, search_program};
use super::sequence::{SequenceSet, sequence_set};
use super::{
    Parsed, after_sp, astring, fail, keyword, list_mailbox, nstring, number64, parenthesised, sp, string, tag_name,
    word,
};
use crate::mailbox_name::{MailboxName, NameError};

/// A mailbox argument: names that are not modified UTF-7 are answered NO, not BAD, as Dovecot does.
pub type Mailbox = Result<MailboxName, NameError>;

/// A field of ID and its value.
pub type IdPair = (Vec<u8>, Option<Vec<u8>>);

/// A command of the states after login, and those of every state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `CAPABILITY`
    Capability,
    /// `NOOP`
    Noop,
    /// `LOGOUT`
    Logout,
    /// `ID`; field and value pairs.
    Id(Vec<IdPair>),
    /// `STARTTLS`
    StartTls,
    /// `LOGIN`
    Login {
        /// The user name as given.
        user: Vec<u8>,
        /// The password as given.
        password: Vec<u8>,
    },
    /// `AUTHENTICATE`
    Authenticate {
        /// The mechanism, in upper case.
        mechanism: String,
        /// The initial response (SASL-IR), still in base64; `=` is an empty one.
        initial: Option<Vec<u8>>,
    },
    /// `ENABLE`; capability names in upper case.
    Enable(Vec<String>),
    /// `SELECT` and `EXAMINE`
    Select {
        /// Which mailbox.
        mailbox: Mailbox,
        /// `EXAMINE`
        read_only: bool,
    },
    /// `CREATE`; whether a hierarchy separator ended the name stays in the name.
    Create(Mailbox),
    /// `DELETE`
    Delete(Mailbox),
    /// `RENAME`
    Rename {
        /// The name it has.
        from: Mailbox,
        /// The name it gets.
        to: Mailbox,
    },
    /// `SUBSCRIBE`
    Subscribe(Mailbox),
    /// `UNSUBSCRIBE`
    Unsubscribe(Mailbox),
    /// `LIST` and `LSUB`; reference and pattern in modified UTF-7.
    List {
        /// What the pattern is relative to.
        reference: Vec<u8>,
        /// Name with `*` and `%`.
        pattern: Vec<u8>,
        /// `LSUB`
        subscribed: bool,
    },
    /// `NAMESPACE`
    Namespace,
    /// `STATUS`
    Status {
        /// Which mailbox.
        mailbox: Mailbox,
        /// The mailbox argument as written, for the response.
        items: Vec<StatusItem>,
    },
    /// `CHECK`
    Check,
    /// `CLOSE`
    Close,
    /// `UNSELECT`
    Unselect,
    /// `IDLE`
    Idle,
    /// `EXPUNGE`, and `UID EXPUNGE` with its set (UIDPLUS).
    Expunge(Option<SequenceSet>),
    /// `SEARCH`
    Search {
        /// `UID SEARCH`
        uid: bool,
        /// What is looked for.
        program: SearchProgram,
    },
    /// `FETCH`
    Fetch {
        /// `UID FETCH`
        uid: bool,
        /// Which messages.
        set: SequenceSet,
        /// What of them.
        items: Vec<FetchItem>,
    },
    /// `STORE`
    Store {
        /// `UID STORE`
        uid: bool,
        /// Which messages.
        set: SequenceSet,
        /// How the flags combine.
        mode: StoreMode,
        /// `.SILENT`
        silent: bool,
        /// The flags.
        flags: Flags,
    },
    /// `COPY`, and `MOVE` (RFC 6851).
    Copy {
        /// `UID COPY`, `UID MOVE`
        uid: bool,
        /// Which messages.
        set: SequenceSet,
        /// Where to.
        mailbox: Mailbox,
        /// `MOVE`
        remove: bool,
    },
}

/// `status-att`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StatusItem {
    /// `MESSAGES`
    Messages,
    /// `RECENT`
    Recent,
    /// `UIDNEXT`
    UidNext,
    /// `UIDVALIDITY`
    UidValidity,
    /// `UNSEEN`: how many messages have no `\Seen`.
    Unseen,
}

/// `store-att-flags`: how given flags combine with those of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoreMode {
    /// `FLAGS`
    Replace,
    /// `+FLAGS`
    Add,
    /// `-FLAGS`
    Remove,
}

/// APPEND up to its message literal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// Where to.
    pub mailbox: Mailbox,
    /// Flags of the new message.
    pub flags: Flags,
    /// Its internal date; now, where none is given.
    pub date: Option<DateTime>,
}

/// Why a command was not understood; the texts are Dovecot's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandError {
    /// No tag, or none that can be echoed.
    NoTag,
    /// No name, or one that is none.
    NoName(String),
    /// A name that is not known here.
    Unknown(String, String),
    /// The name is known, the arguments are not its own.
    Arguments(String, String),
}

impl CommandError {
    /// The tag, where there is one.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        match self {
            Self::NoTag => None,
            Self::NoName(tag) | Self::Unknown(tag, _) | Self::Arguments(tag, _) => Some(tag),
        }
    }
}

/// The text after BAD.
impl std::fmt::Display for CommandError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoTag => write!(f, "Error in IMAP command received by server."),
            Self::NoName(_) => write!(f, "Error in IMAP command: Invalid command name"),
            Self::Unknown(_, name) => write!(f, "Error in IMAP command {name}: Unknown command"),
            Self::Arguments(_, name) => write!(f, "Error in IMAP command {name}: Invalid arguments"),
        }
    }
}

/// Reads a whole command.
///
/// # Errors
/// What is wrong with it, with the tag where there is one.
pub fn command(input: &[u8]) -> Result<(String, Command), CommandError> {
    let Ok((rest, tag)) = tag_name(input) else { return Err(CommandError::NoTag) };
    // Neither a tag that is too long nor one with an octet that is not allowed is echoed in part.
    if !matches!(rest.first(), None | Some(b' ')) {
        return Err(CommandError::NoTag);
    }
    let tag = String::from_utf8_lossy(tag).into_owned();
    let Ok((rest, name)) = after_sp(command_name).parse(rest) else { return Err(CommandError::NoName(tag)) };
    let Some(arguments) = arguments_of(&name) else { return Err(CommandError::Unknown(tag, name)) };
    match terminated(arguments, eof).parse(rest) {
        Ok((_, command)) => Ok((tag, command)),
        Err(_) => Err(CommandError::Arguments(tag, name)),
    }
}

/// The tag at the beginning of a command that will not be read whole.
#[must_use]
pub fn tag_of(input: &[u8]) -> Option<String> {
    let (rest, tag) = tag_name(input).ok()?;
    (rest.first() == Some(&b' ')).then(|| String::from_utf8_lossy(tag).into_owned())
}

/// Reads APPEND up to the announcement of its message literal: `tag APPEND mailbox [flags] [date] ` and nothing more. None if this is something else,
/// for example an APPEND whose mailbox is the literal.
#[must_use]
pub fn append_prefix(input: &[u8]) -> Option<(String, Append)> {
    let (rest, tag) = tag_name(input).ok()?;
    let (rest, ()) = preceded(sp, keyword("APPEND")).parse(rest).ok()?;
    let arguments = (after_sp(mailbox), opt(after_sp(flag_list)), opt(after_sp(date_time)));
    let (_, (mailbox, flags, date)) = terminated(arguments, (sp, eof)).parse(rest).ok()?;
    Some((String::from_utf8_lossy(tag).into_owned(), Append { mailbox, flags: flags.unwrap_or_default(), date }))
}

/// The announcement of a literal at the end of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiteralMark {
    /// Octets that follow. 64 bits, so that an absurd size is refused as too big and not as a syntax error.
    pub size: u64,
    /// The client waits for `+` (no LITERAL+).
    pub synchronising: bool,
    /// Octets of the announcement itself, from `{` to `}`.
    pub length: usize,
}

/// The literal that a line announces at its end, if any.
#[must_use]
pub fn literal_mark(line: &[u8]) -> Option<LiteralMark> {
    if line.last() != Some(&b'}') {
        return None;
    }
    // Twenty digits, braces and a plus sign; looking further back would find a brace of other text.
    let from = line.len().saturating_sub(24);
    let at = from + line[from..].iter().rposition(|&b| b == b'{')?;
    let plus = map(opt(char('+')), |plus| plus.is_none());
    let (_, (size, synchronising)) =
        terminated(delimited(char('{'), (number64, plus), char('}')), eof::<_, nom::error::Error<_>>)
            .parse(&line[at..])
            .ok()?;
    Some(LiteralMark { size, synchronising, length: line.len() - at })
}

/// `FETCH` or `UID FETCH`, in upper case.
fn command_name(input: &[u8]) -> Parsed<'_, String> {
    let (rest, name) = word(input)?;
    if name != "UID" {
        return Ok((rest, name));
    }
    map(after_sp(word), |sub| format!("UID {sub}")).parse(rest)
}

type Arguments = fn(&[u8]) -> Parsed<'_, Command>;

/// The table of commands.
fn arguments_of(name: &str) -> Option<Arguments> {
    Some(match name {
        "CAPABILITY" => |i| success(Command::Capability).parse(i),
        "NOOP" => |i| success(Command::Noop).parse(i),
        "LOGOUT" => |i| success(Command::Logout).parse(i),
        "STARTTLS" => |i| success(Command::StartTls).parse(i),
        "NAMESPACE" => |i| success(Command::Namespace).parse(i),
        "CHECK" => |i| success(Command::Check).parse(i),
        "CLOSE" => |i| success(Command::Close).parse(i),
        "UNSELECT" => |i| success(Command::Unselect).parse(i),
        "IDLE" => |i| success(Command::Idle).parse(i),
        "EXPUNGE" => |i| success(Command::Expunge(None)).parse(i),
        "UID EXPUNGE" => |i| map(after_sp(sequence_set), |set| Command::Expunge(Some(set))).parse(i),
        "ID" => |i| map(after_sp(id_params), Command::Id).parse(i),
        "LOGIN" => |i| {
            map((after_sp(astring), after_sp(astring)), |(user, password)| Command::Login { user, password }).parse(i)
        },
        "AUTHENTICATE" => authenticate,
        "ENABLE" => |i| map(after_sp(separated_list1(sp, word)), Command::Enable).parse(i),
        "SELECT" => |i| map(after_sp(mailbox), |mailbox| Command::Select { mailbox, read_only: false }).parse(i),
        "EXAMINE" => |i| map(after_sp(mailbox), |mailbox| Command::Select { mailbox, read_only: true }).parse(i),
        "CREATE" => |i| map(after_sp(mailbox), Command::Create).parse(i),
        "DELETE" => |i| map(after_sp(mailbox), Command::Delete).parse(i),
        "RENAME" => |i| map((after_sp(mailbox), after_sp(mailbox)), |(from, to)| Command::Rename { from, to }).parse(i),
        "SUBSCRIBE" => |i| map(after_sp(mailbox), Command::Subscribe).parse(i),
        "UNSUBSCRIBE" => |i| map(after_sp(mailbox), Command::Unsubscribe).parse(i),
        "LIST" => |i| list(i, false),
        "LSUB" => |i| list(i, true),
        "STATUS" => status,
        "SEARCH" => |i| map(after_sp(search_program), |program| Command::Search { uid: false, program }).parse(i),
        "UID SEARCH" => |i| map(after_sp(search_program), |program| Command::Search { uid: true, program }).parse(i),
        "FETCH" => |i| fetch(i, false),
        "UID FETCH" => |i| fetch(i, true),
        "STORE" => |i| store(i, false),
        "UID STORE" => |i| store(i, true),
        "COPY" => |i| copy(i, false, false),
        "UID COPY" => |i| copy(i, true, false),
        "MOVE" => |i| copy(i, false, true),
        "UID MOVE" => |i| copy(i, true, true),
        // A whole APPEND never comes here: its message is streamed, and only a broken one is read as a line.
        "APPEND" => fail,
        _ => return None,
    })
}

fn mailbox(input: &[u8]) -> Parsed<'_, Mailbox> {
    map(astring, |name| MailboxName::decode(&name)).parse(input)
}

/// `id-params-list = "(" *(string SP nstring) ")" / nil` (RFC 2971)
fn id_params(input: &[u8]) -> Parsed<'_, Vec<IdPair>> {
    let pairs = parenthesised((string, after_sp(nstring)));
    alt((value(Vec::new(), keyword("NIL")), pairs)).parse(input)
}

fn authenticate(input: &[u8]) -> Parsed<'_, Command> {
    let initial = opt(after_sp(nom::bytes::complete::take_while1(|b: u8| {
        b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=')
    })));
    map((after_sp(word), initial), |(mechanism, initial)| Command::Authenticate {
        mechanism,
        initial: initial.map(<[u8]>::to_vec),
    })
    .parse(input)
}

fn list(input: &[u8], subscribed: bool) -> Parsed<'_, Command> {
    map((after_sp(astring), after_sp(list_mailbox)), |(reference, pattern)| Command::List {
        reference,
        pattern,
        subscribed,
    })
    .parse(input)
}

fn status(input: &[u8]) -> Parsed<'_, Command> {
    let item = alt((
        value(StatusItem::Messages, keyword("MESSAGES")),
        value(StatusItem::Recent, keyword("RECENT")),
        value(StatusItem::UidNext, keyword("UIDNEXT")),
        value(StatusItem::UidValidity, keyword("UIDVALIDITY")),
        value(StatusItem::Unseen, keyword("UNSEEN")),
    ));
    let items = delimited(char('('), separated_list1(sp, item), char(')'));
    map((after_sp(mailbox), after_sp(items)), |(mailbox, mut items)| {
        items.dedup();
        Command::Status { mailbox, items }
    })
    .parse(input)
}

fn fetch(input: &[u8], uid: bool) -> Parsed<'_, Command> {
    map((after_sp(sequence_set), after_sp(fetch_items)), |(set, items)| Command::Fetch { uid, set, items }).parse(input)
}

fn store(input: &[u8], uid: bool) -> Parsed<'_, Command> {
    let mode =
        alt((value(StoreMode::Add, char('+')), value(StoreMode::Remove, char('-')), success(StoreMode::Replace)));
    let silent = alt((value(true, keyword("FLAGS.SILENT")), value(false, keyword("FLAGS"))));
    map((after_sp(sequence_set), after_sp(mode), silent, after_sp(store_flags)), |(set, mode, silent, flags)| {
        Command::Store { uid, set, mode, silent, flags }
    })
    .parse(input)
}

fn copy(input: &[u8], uid: bool, remove: bool) -> Parsed<'_, Command> {
    map((after_sp(sequence_set), after_sp(mailbox)), |(set, mailbox)| Command::Copy { uid, set, mailbox, remove })
        .parse(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_in_any_case_and_need_all_their_arguments() {
        for good in [
            "a noop",
            "a1 Login \"u\\\"s\" {3+}\r\np w",
            "x UID fetch 1:*,3 (FLAGS BODY.PEEK[])",
            "x store 1 -flags.silent \\Seen $x",
            "x STORE 1 +FLAGS ()",
            "x status \"a b\" (messages UNSEEN)",
            "x list \"\" %/*",
            "x id (\"name\" NIL)",
            "x id nil",
            "x authenticate plain =",
            "x uid expunge 1:3",
        ] {
            assert!(command(good.as_bytes()).is_ok(), "{good}");
        }
        for bad in [
            "a noop x",
            "a",
            "",
            "a  noop",
            "+ noop",
            "a select",
            "a fetch 1",
            "a uid",
            "a status x ()",
            "a store 1 flags",
            "a login u",
            "a noop ",
        ] {
            assert!(command(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn errors_say_what_dovecot_says() {
        let error = |text: &str| command(text.as_bytes()).expect_err(text).to_string();
        assert_eq!(error("a xyz"), "Error in IMAP command XYZ: Unknown command");
        assert_eq!(error("a uid foo 1"), "Error in IMAP command UID FOO: Unknown command");
        assert_eq!(error("a uid"), "Error in IMAP command: Invalid command name");
        assert_eq!(error("a select"), "Error in IMAP command SELECT: Invalid arguments");
        assert_eq!(command(format!("{} noop", "a".repeat(200)).as_bytes()), Err(CommandError::NoTag));
        assert_eq!(command(b"a+b noop"), Err(CommandError::NoTag));
    }

    #[test]
    fn an_append_is_recognised_where_its_message_begins() {
        let (tag, append) = append_prefix(b"a append INBOX (\\Seen) \"01-Jan-2024 00:00:00 +0000\" ").expect("append");
        assert_eq!((tag.as_str(), append.flags.to_string().as_str(), append.date.is_some()), ("a", "(\\Seen)", true));
        assert!(append_prefix(b"a append {5}\r\nINBOX ").is_some());
        assert!(append_prefix(b"a append ").is_none(), "the mailbox is the literal");
        assert!(append_prefix(b"a select x ").is_none());
    }

    #[test]
    fn a_literal_is_announced_only_at_the_end() {
        let mark = |text: &str| literal_mark(text.as_bytes()).map(|m| (m.size, m.synchronising, m.length));
        assert_eq!(mark("a login {5}"), Some((5, true, 3)));
        assert_eq!(mark("a login {5+}"), Some((5, false, 4)));
        assert_eq!(mark("a append x {107374182400}"), Some((107_374_182_400, true, 14)));
        for none in ["a {5} ", "a {}", "a {x}", "a {-5}", "a }", "{99999999999999999999999}"] {
            assert_eq!(mark(none), None, "{none}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_input_makes_the_parser_panic(input: Vec<u8>) {
            let _ = command(&input);
            let _ = append_prefix(&input);
            let _ = literal_mark(&input);
        }

        #[test]
        fn no_line_of_protocol_words_makes_the_parser_panic(words in proptest::collection::vec(
            proptest::sample::select(vec!["a", "UID", "FETCH", "1:*", "(", ")", "BODY[", "]", "SEARCH", "OR", "NOT", "\"", "{3}\r\n", "{3+}\r\nabc", "STORE", "+FLAGS", "\\Seen", "LIST", "%", "*", "APPEND", "<0.1>", "HEADER.FIELDS", " "]), 0..30)) {
            let line = words.join(" ");
            let _ = command(line.as_bytes());
        }
    }
}
