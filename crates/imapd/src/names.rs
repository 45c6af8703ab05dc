//! Namespaces: how the names of clients and those of the store translate into each other.

use mail_config::dovecot::Namespace;
use mail_imap::{MailboxName, Namespaces, Refusal, ResponseCode, encode_mailbox_name};
use mail_store::MailboxName as StoreName;

/// A mailbox that the configuration describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Its name for clients.
    pub name: MailboxName,
    /// Its use by RFC 6154, such as `\Sent`; the first where there are several.
    pub special_use: String,
    /// It is made when it is missing.
    pub create: bool,
    /// It is subscribed when it is made.
    pub subscribe: bool,
}

/// A private namespace in the user's own mail location.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Space {
    prefix: String,
    hidden: bool,
    list: bool,
    /// It cannot be served: names in it are refused.
    unbuilt: bool,
}

/// The namespaces of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// What separates the levels of names, in every namespace.
    pub separator: char,
    spaces: Vec<Space>,
    /// The mailboxes that the configuration describes.
    pub described: Vec<Described>,
}

impl Names {
    /// Reads the namespaces. All use the separator of the one with INBOX, as Dovecot demands of namespaces that share a location.
    #[must_use]
    pub fn new(namespaces: &[Namespace]) -> Self {
        let separator = namespaces.iter().find(|n| n.inbox).map_or('.', |n| n.separator);
        let space = |n: &Namespace| Space {
            prefix: n.prefix.clone(),
            hidden: n.hidden,
            list: n.list,
            unbuilt: n.unsupported.is_some() || n.separator != separator,
        };
        let described = namespaces.iter().filter(|n| n.unsupported.is_none()).flat_map(|n| {
            n.mailboxes.iter().filter_map(|mailbox| {
                let name = if mailbox.name.eq_ignore_ascii_case("INBOX") {
                    "INBOX".to_owned()
                } else {
                    format!("{}{}", n.prefix, mailbox.name)
                };
                Some(Described {
                    name: MailboxName::new(&name).ok()?,
                    special_use: mailbox.special_use.first().cloned().unwrap_or_default(),
                    create: mailbox.create,
                    subscribe: mailbox.subscribe,
                })
            })
        });
        Self { separator, spaces: namespaces.iter().map(space).collect(), described: described.collect() }
    }

    /// The answer to NAMESPACE.
    #[must_use]
    pub fn namespaces(&self) -> Namespaces {
        let shown = self.spaces.iter().filter(|space| !space.hidden && !space.unbuilt);
        Namespaces {
            personal: shown.map(|space| (space.prefix.clone(), self.separator)).collect(),
            ..Namespaces::default()
        }
    }

    /// The store's name of what a client calls `name`.
    ///
    /// # Errors
    /// What the client is told.
    pub fn to_store(&self, name: &MailboxName) -> Result<StoreName, Refusal> {
        let text = name.as_str();
        if name.is_inbox() {
            return Ok(StoreName::inbox());
        }
        let fitting =
            self.spaces.iter().filter(|space| text.starts_with(&space.prefix)).max_by_key(|space| space.prefix.len());
        let Some(space) = fitting.filter(|space| !space.unbuilt) else {
            return Err(Refusal::new(
                ResponseCode::NonExistent,
                format!("Client tried to access nonexistent namespace: {name}"),
            ));
        };
        let inner = &text[space.prefix.len()..];
        self.check(name, inner)?;
        StoreName::from_imap(&encode_mailbox_name(inner), self.separator)
            .map_err(|error| Refusal::new(ResponseCode::Cannot, format!("Invalid mailbox name: {error}")))
    }

    /// The rules of names that the store does not know, in Dovecot's words.
    fn check(&self, name: &MailboxName, inner: &str) -> Result<(), Refusal> {
        let refuse = |text: &str| Err(Refusal::new(ResponseCode::Cannot, text));
        let levels = || inner.split(self.separator);
        if inner.is_empty() || inner.starts_with(self.separator) {
            return refuse("Invalid mailbox name: Begins with hierarchy separator");
        }
        if inner.ends_with(self.separator) {
            return refuse("Invalid mailbox name: Ends with hierarchy separator");
        }
        if levels().any(str::is_empty) {
            return refuse("Invalid mailbox name: Has adjacent hierarchy separators");
        }
        if levels().any(|level| level == "." || level == "..") || name.as_str().starts_with('~') {
            return refuse("Invalid mailbox name");
        }
        if self.separator != '.' && inner.contains('.') {
            return refuse("Character not allowed in mailbox name: '.'");
        }
        if self.separator != '/' && inner.contains('/') {
            return refuse("Character not allowed in mailbox name: '/'");
        }
        Ok(())
    }

    /// What a client calls a mailbox of the store; none if no namespace shows it.
    #[must_use]
    pub fn to_client(&self, name: &StoreName) -> Option<MailboxName> {
        if name.is_inbox() {
            return Some(MailboxName::inbox());
        }
        let space = self.spaces.iter().find(|space| space.list && !space.unbuilt)?;
        MailboxName::new(&format!("{}{}", space.prefix, name.to_utf8(self.separator))).ok()
    }

    /// The special use of a mailbox, empty for none.
    #[must_use]
    pub fn special_use(&self, name: &MailboxName) -> String {
        self.described.iter().find(|d| d.name == *name).map_or(String::new(), |d| d.special_use.clone())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use mail_config::dovecot::MailboxSpec;
    use mail_types::SourceLine;

    use super::*;

    pub(crate) fn namespace(prefix: &str, separator: char, mailboxes: &[(&str, &str)]) -> Namespace {
        Namespace {
            name: "inbox".into(),
            inbox: true,
            prefix: prefix.into(),
            separator,
            list: true,
            hidden: false,
            subscriptions: true,
            mailboxes: mailboxes
                .iter()
                .map(|(name, special_use)| MailboxSpec {
                    name: (*name).into(),
                    special_use: vec![(*special_use).into()],
                    create: true,
                    subscribe: *special_use == "\\Sent",
                    source: SourceLine::built_in(),
                })
                .collect(),
            unsupported: None,
            source: SourceLine::built_in(),
        }
    }

    #[test]
    fn names_go_to_the_store_and_back() {
        let names = Names::new(&[namespace("INBOX.", '.', &[("Sent", "\\Sent")])]);
        let client = |text: &str| MailboxName::new(text).expect("name");
        assert_eq!(names.to_store(&client("inbox")).map(|n| n.is_inbox()), Ok(true));
        let sent = names.to_store(&client("INBOX.Sent")).expect("in the namespace");
        assert_eq!(sent.as_stored(), "Sent");
        assert_eq!(names.to_client(&sent), Some(client("INBOX.Sent")));
        assert_eq!(names.special_use(&client("INBOX.Sent")), "\\Sent");
        assert!(names.to_store(&client("Sent")).is_err(), "outside every namespace");
        assert_eq!(names.namespaces().personal, [("INBOX.".to_owned(), '.')]);
    }

    #[test]
    fn names_that_are_paths_never_reach_the_store() {
        // I08, path traversal
        let names = Names::new(&[namespace("", '/', &[])]);
        for bad in ["../a", "a/../b", "a//b", "/etc", "a/", "~root", "a.b", "..", "."] {
            let name = MailboxName::new(bad).expect("a name by itself");
            assert!(names.to_store(&name).is_err(), "{bad}");
        }
        assert_eq!(
            names.to_store(&MailboxName::new("a/Ü").expect("name")).map(|n| n.as_stored().to_owned()),
            Ok("a.&ANw-".to_owned())
        );
    }
}
