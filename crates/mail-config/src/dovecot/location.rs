//! Where mail lies, and the namespaces over it.

use mail_types::SourceLine;

use super::Unsupported;
use super::parse::{Block, Node, blocks, last};
use super::settings::Settings;

/// The format of a mail location.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A Maildir++ directory.
    Maildir,
}

/// Where the mail of a user lies; paths may begin with `~` and hold `%` variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A location that we serve.
    At {
        /// Its format.
        format: Format,
        /// The directory.
        path: String,
        /// The directory of INBOX, where it is another one.
        inbox: Option<String>,
        /// The directory of control files (uidlist, subscriptions), where it is another one.
        control: Option<String>,
        /// The directory of indexes, where it is another one.
        index: Option<String>,
        /// The line.
        source: SourceLine,
    },
    /// The file names none: `~/Maildir` where there is one, else nothing that we serve.
    Detect,
    /// A location of a type that is not built: logins are refused.
    Unsupported(Unsupported),
}

impl Location {
    /// Reads `maildir:PATH:INBOX=...:CONTROL=...:INDEX=...` as `mail_location` and the user database's `mail` have it.
    #[must_use]
    pub fn parse(text: &str, source: &SourceLine) -> Self {
        let text = text.trim();
        let unsupported = |what: String| Self::Unsupported(Unsupported { what, source: source.clone() });
        let (driver, rest) = match text.split_once(':') {
            _ if text.is_empty() || text == "auto" => return Self::Detect,
            Some((driver, rest)) if !driver.contains('/') => (driver, rest),
            _ if text.eq_ignore_ascii_case("maildir") => (text, "~/Maildir"),
            _ => return unsupported(format!("mail location `{text}' without a type")),
        };
        if !driver.eq_ignore_ascii_case("maildir") {
            return unsupported(format!("mail location type `{driver}'"));
        }
        let mut parts = rest.split(':');
        let path = parts.next().filter(|path| !path.is_empty()).unwrap_or("~/Maildir").to_owned();
        let (mut inbox, mut control, mut index) = (None, None, None);
        for part in parts {
            match part.split_once('=') {
                Some(("INBOX", value)) => inbox = Some(value.to_owned()),
                Some(("CONTROL", value)) => control = Some(value.to_owned()),
                Some(("INDEX", value)) => index = Some(value.to_owned()),
                Some(("LAYOUT", "Maildir++" | "maildir++")) | Some(("VOLATILEDIR" | "INDEXCACHE" | "INDEXPVT", _)) => {}
                _ => return unsupported(format!("`{part}' of a mail location")),
            }
        }
        Self::At { format: Format::Maildir, path, inbox, control, index, source: source.clone() }
    }
}

/// The mail location of the file: `mail_location`, or 2.4's `mail_driver`, `mail_path` and their relatives.
pub(super) fn location(nodes: &[Node], settings: &Settings) -> Location {
    let Some((driver, source)) = last(nodes, "mail_driver") else {
        return Location::parse(&settings.mail_location, &settings.mail_location.source);
    };
    let mut text = format!("{driver}:{}", last(nodes, "mail_path").map_or("", |(path, _)| path));
    for (key, word) in [("mail_inbox_path", "INBOX"), ("mail_control_path", "CONTROL"), ("mail_index_path", "INDEX")] {
        if let Some((value, _)) = last(nodes, key).filter(|(value, _)| !value.is_empty()) {
            text.push_str(&format!(":{word}={value}"));
        }
    }
    if let Some((layout, _)) = last(nodes, "mailbox_list_layout") {
        text.push_str(&format!(":LAYOUT={layout}"));
    }
    Location::parse(&text, source)
}

/// A mailbox that a namespace describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxSpec {
    /// Its name within the namespace, with the namespace's separator.
    pub name: String,
    /// Its special use, such as `\Sent`.
    pub special_use: Vec<String>,
    /// Whether it is made when it is missing (`auto = create` or `subscribe`).
    pub create: bool,
    /// Whether it is also subscribed (`auto = subscribe`).
    pub subscribe: bool,
    /// The line.
    pub source: SourceLine,
}

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Its name in the file.
    pub name: String,
    /// Whether INBOX is in it.
    pub inbox: bool,
    /// What stands before the names of its mailboxes.
    pub prefix: String,
    /// What separates the levels of names.
    pub separator: char,
    /// Whether LIST shows it.
    pub list: bool,
    /// Whether NAMESPACE does not show it.
    pub hidden: bool,
    /// Whether it keeps its own subscriptions.
    pub subscriptions: bool,
    /// The mailboxes that it describes.
    pub mailboxes: Vec<MailboxSpec>,
    /// What of it is not built, such as a type other than private or a location of its own.
    pub unsupported: Option<Unsupported>,
    /// The line.
    pub source: SourceLine,
}

/// The namespaces of the file, blocks of one name joined; the private one with INBOX if the file has none.
pub(super) fn namespaces(nodes: &[Node], is_24: bool) -> Vec<Namespace> {
    let mut names: Vec<&str> = Vec::new();
    let all: Vec<&Block> = blocks(nodes, "namespace").collect();
    for block in &all {
        if block.name.is_empty() || !names.contains(&block.name.as_str()) {
            names.push(&block.name);
        }
    }
    let mut unnamed = all.iter().filter(|block| block.name.is_empty());
    let mut found: Vec<Namespace> = Vec::new();
    for name in names {
        let parts: Vec<&Block> = match name {
            "" => unnamed.next().into_iter().copied().collect(),
            name => all.iter().copied().filter(|block| block.name == name).collect(),
        };
        found.extend(namespace(name, &parts));
    }
    if !found.iter().any(|namespace| namespace.inbox) {
        let source = SourceLine::built_in();
        let root = Block { kind: "namespace".into(), name: String::new(), nodes: Vec::new(), source };
        match found.iter_mut().find(|namespace| namespace.prefix.is_empty()) {
            // Dovecot 2.4 has an INBOX namespace of its own, which blocks without `inbox` only describe.
            Some(namespace) if is_24 || namespace.name == "inbox" => namespace.inbox = true,
            _ => found.extend(namespace("", &[&root]).map(|namespace| Namespace { inbox: true, ..namespace })),
        }
    }
    found
}

fn namespace(name: &str, parts: &[&Block]) -> Option<Namespace> {
    let source = parts.first()?.source.clone();
    let get = |key: &str| parts.iter().rev().find_map(|block| block.get(key));
    let yes = |key: &str, default: bool| get(key).map_or(default, |(value, _)| matches!(value, "yes" | "y"));
    if yes("disabled", false) {
        return None;
    }
    let unsupported = |what: String, source: &SourceLine| Some(Unsupported { what, source: source.clone() });
    let mut problem = None;
    if let Some((kind, source)) = get("type").filter(|(kind, _)| !kind.is_empty() && *kind != "private") {
        problem = unsupported(format!("namespace of type `{kind}'"), source);
    } else if let Some((_, source)) = get("location").or_else(|| get("mail_path")).filter(|(path, _)| !path.is_empty())
    {
        problem = unsupported("namespace with a location of its own".to_owned(), source);
    }
    Some(Namespace {
        name: name.to_owned(),
        inbox: yes("inbox", false),
        prefix: get("prefix").map_or(String::new(), |(prefix, _)| prefix.to_owned()),
        separator: get("separator").and_then(|(separator, _)| separator.chars().next()).unwrap_or('.'),
        list: yes("list", true) || get("list").is_some_and(|(value, _)| value == "children"),
        hidden: yes("hidden", false),
        subscriptions: yes("subscriptions", true),
        mailboxes: parts.iter().flat_map(|block| block.blocks("mailbox")).map(mailbox).collect(),
        unsupported: problem,
        source,
    })
}

fn mailbox(block: &Block) -> MailboxSpec {
    let words = |text: &str| text.split([' ', ',']).filter(|word| !word.is_empty()).map(str::to_owned).collect();
    let auto = block.get("auto").map_or("no", |(value, _)| value);
    // 2.4 names the block freely and gives the mailbox in `name`.
    let name = block.get("name").map_or(block.name.as_str(), |(name, _)| name);
    MailboxSpec {
        name: name.to_owned(),
        special_use: block.get("special_use").map_or(Vec::new(), |(text, _)| words(text)),
        create: matches!(auto, "create" | "subscribe"),
        subscribe: auto == "subscribe",
        source: block.source.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::read;
    use super::*;

    #[test]
    fn a_maildir_location_is_read_with_its_options() {
        let (dovecot, _) =
            read("mail_location = maildir:~/Maildir:INBOX=~/Maildir/.in:INDEX=/var/index/%u:CONTROL=/c\n");
        let Location::At { path, inbox, index, control, .. } = &dovecot.location else { panic!("supported") };
        assert_eq!(path, "~/Maildir");
        assert_eq!(
            (inbox.as_deref(), index.as_deref(), control.as_deref()),
            (Some("~/Maildir/.in"), Some("/var/index/%u"), Some("/c"))
        );
    }

    #[test]
    fn both_generations_name_the_same_place() {
        let (old, _) = read("mail_location = maildir:/var/vmail/%d/%n\n");
        let (new, _) = read("dovecot_config_version = 2.4.0\nmail_driver = maildir\nmail_path = /var/vmail/%d/%n\n");
        let path = |location: &Location| match location {
            Location::At { path, .. } => path.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(path(&old.location), path(&new.location));
    }

    #[test]
    fn what_is_not_built_is_named_with_its_line() {
        for text in [
            "mbox:~/mail:INBOX=/var/mail/%u",
            "mdbox:~/x",
            "maildir:~/Maildir:LAYOUT=fs",
            "maildir:~/M:UTF-8",
            "/var/mail",
        ] {
            let (dovecot, _) = read(&format!("\nmail_location = {text}\n"));
            let Location::Unsupported(problem) = &dovecot.location else { panic!("{text}") };
            assert_eq!(problem.source.line, 2);
        }
        assert_eq!(read("").0.location, Location::Detect);
    }

    #[test]
    fn blocks_of_one_namespace_are_one_namespace() {
        let text = "namespace inbox {\n inbox = yes\n separator = /\n}\nnamespace inbox {\n mailbox Sent {\n  special_use = \\Sent\n  auto = subscribe\n }\n}\n";
        let (dovecot, _) = read(text);
        assert_eq!(dovecot.namespaces.len(), 1);
        let inbox = &dovecot.namespaces[0];
        assert!(inbox.inbox && inbox.separator == '/' && inbox.unsupported.is_none());
        assert_eq!((inbox.mailboxes[0].name.as_str(), inbox.mailboxes[0].special_use[0].as_str()), ("Sent", "\\Sent"));
        assert!(inbox.mailboxes[0].create && inbox.mailboxes[0].subscribe);
    }

    #[test]
    fn the_whole_names_of_2_4_are_read_in_their_blocks() {
        let text = "dovecot_config_version = 2.4.0\nnamespace inbox {\n namespace_inbox = yes\n namespace_separator = /\n mailbox sent {\n  mailbox_name = Sent\n  mailbox_auto = create\n  mailbox_special_use = \\Sent\n }\n}\n";
        let (dovecot, mut reports) = read(text);
        let inbox = &dovecot.namespaces[0];
        assert!(inbox.inbox && inbox.separator == '/' && inbox.mailboxes[0].create);
        assert_eq!((inbox.mailboxes[0].name.as_str(), inbox.mailboxes[0].special_use[0].as_str()), ("Sent", "\\Sent"));
        super::super::catalogue::report(&dovecot, &[], &mut reports);
        assert!(reports.iter().all(|report| report.status != crate::report::Status::Unknown), "{reports:?}");
    }

    #[test]
    fn there_is_always_an_inbox() {
        assert!(read("").0.namespaces[0].inbox);
        let (dovecot, _) = read("namespace {\n type = shared\n prefix = shared/\n}\n");
        assert_eq!(dovecot.namespaces.len(), 2);
        assert!(dovecot.namespaces[0].unsupported.is_some());
    }
}
