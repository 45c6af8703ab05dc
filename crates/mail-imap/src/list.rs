//! LIST and LSUB: which names match, and what is said of them (RFC 3501 sections 6.3.8 and 6.3.9, RFC 3348, RFC 6154).
//!
//! A pure function over the mailboxes of a user: the outside says what exists, this says what the client sees.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::mailbox_name::{MailboxName, encode};
use crate::response::write_astring;

/// Everything that LIST and LSUB need to know.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Folders {
    /// The hierarchy separator; the same in every namespace.
    pub separator: char,
    /// The mailboxes that exist.
    pub mailboxes: Vec<Folder>,
    /// Every subscribed name, whether it exists or not.
    pub subscriptions: Vec<MailboxName>,
}

/// A mailbox that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folder {
    /// Its name.
    pub name: MailboxName,
    /// Its use by RFC 6154 (`\Sent`), empty for none.
    pub special_use: String,
    /// It holds no messages and cannot be selected, only children (`\Noselect`).
    pub no_select: bool,
}

/// What is known of one name while the answer is gathered.
#[derive(Default, Clone)]
struct Entry<'a> {
    folder: Option<&'a Folder>,
    children: bool,
    subscribed: bool,
}

impl Folders {
    /// The untagged responses of `LIST reference pattern`, or of LSUB where `subscribed` says so.
    #[must_use]
    pub fn respond(&self, reference: &[u8], pattern: &[u8], subscribed: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let command = if subscribed { "LSUB" } else { "LIST" };
        if pattern.is_empty() && !subscribed {
            self.line(&mut out, command, "\\Noselect", root_of(reference, self.separator));
            return out;
        }
        let pattern = [reference, pattern].concat();
        let matcher = Pattern::new(&pattern, self.separator);
        if subscribed {
            self.lsub(&matcher, &mut out)
        } else {
            self.list(&matcher, &mut out)
        }
        out
    }

    fn list(&self, pattern: &Pattern, out: &mut Vec<u8>) {
        for (name, entry) in self.entries() {
            if pattern.matches(&encode(name)) {
                let attributes = list_attributes(&entry);
                self.line(out, "LIST", &attributes, encode(name).as_bytes());
            }
        }
    }

    /// A subscribed name below a `%` is shown as its matching parent, with `\Noselect` (RFC 3501 section 6.3.9).
    fn lsub(&self, pattern: &Pattern, out: &mut Vec<u8>) {
        let mut shown: BTreeMap<&str, bool> = BTreeMap::new();
        for name in &self.subscriptions {
            if pattern.matches(&name.encoded()) {
                shown.insert(name.as_str(), true);
                continue;
            }
            let parent = self.parents(name.as_str()).find(|parent| pattern.matches(&encode(parent)));
            if let Some(parent) = parent {
                shown.entry(parent).or_insert(false);
            }
        }
        let special =
            |name: &str| self.mailboxes.iter().find(|f| f.name.as_str() == name).map_or("", |f| &f.special_use);
        for (name, subscribed) in shown {
            let attributes = if subscribed { special(name) } else { "\\Noselect" };
            self.line(out, "LSUB", attributes, encode(name).as_bytes());
        }
    }

    /// Every name with what is known of it, parents that do not exist included.
    fn entries(&self) -> BTreeMap<&str, Entry<'_>> {
        let mut entries: BTreeMap<&str, Entry> = BTreeMap::new();
        for folder in &self.mailboxes {
            entries.entry(folder.name.as_str()).or_default().folder = Some(folder);
            for parent in self.parents(folder.name.as_str()) {
                entries.entry(parent).or_default().children = true;
            }
        }
        for name in &self.subscriptions {
            if let Some(entry) = entries.get_mut(name.as_str()) {
                entry.subscribed = true;
            }
        }
        entries
    }

    /// `a/b/c` has the parents `a/b` and `a`, nearest first.
    fn parents<'a>(&self, name: &'a str) -> impl Iterator<Item = &'a str> + use<'a> {
        let separator = self.separator;
        std::iter::successors(Some(name), move |n| n.rfind(separator).map(|at| &n[..at]))
            .skip(1)
            .filter(|n| !n.is_empty())
    }

    fn line(&self, out: &mut Vec<u8>, command: &str, attributes: &str, name: &[u8]) {
        let separator = match self.separator {
            quoted @ ('"' | '\\') => format!("\\{quoted}"),
            plain => plain.to_string(),
        };
        out.extend_from_slice(format!("* {command} ({attributes}) \"{separator}\" ").as_bytes());
        write_astring(name, out);
        out.extend_from_slice(b"\r\n");
    }
}

fn list_attributes(entry: &Entry) -> String {
    let children = if entry.children { "\\HasChildren" } else { "\\HasNoChildren" };
    match entry.folder {
        None => format!("\\Noselect {children}"),
        Some(folder) if folder.no_select => format!("\\Noselect {children}"),
        Some(folder) if folder.special_use.is_empty() => children.to_owned(),
        Some(folder) => format!("{children} {}", folder.special_use),
    }
}

/// The root of a reference, for `LIST reference ""`: what stands before its first separator, with it, where the name is absolute in that sense.
fn root_of(reference: &[u8], separator: char) -> &[u8] {
    let mut octets = [0; 4];
    let separator = separator.encode_utf8(&mut octets).as_bytes();
    if reference.starts_with(separator) { &reference[..separator.len()] } else { b"" }
}

/// A name with wildcards, matched in time proportional to pattern times name and without recursion (I08): a set of positions in the pattern is moved along the name.
struct Pattern {
    /// Adjacent wildcards are merged, so a thousand stars cost one.
    elements: Vec<Element>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Element {
    Octet(u8),
    /// `*`
    Any,
    /// `%`: everything but the separator.
    Level(u8),
}

impl Pattern {
    fn new(pattern: &[u8], separator: char) -> Self {
        let separator = u8::try_from(separator).unwrap_or(b'/');
        let inbox = pattern.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"INBOX"))
            && pattern.get(5).is_none_or(|&b| b == separator || b == b'*' || b == b'%');
        let mut elements: Vec<Element> = Vec::with_capacity(pattern.len().min(4096));
        for (at, &octet) in pattern.iter().enumerate() {
            let element = match octet {
                b'*' => Element::Any,
                b'%' => Element::Level(separator),
                _ if inbox && at < 5 => Element::Octet(octet.to_ascii_uppercase()),
                _ => Element::Octet(octet),
            };
            match (elements.last(), element) {
                (Some(Element::Any), Element::Any | Element::Level(_)) => {}
                (Some(Element::Level(_)), Element::Any) => *elements.last_mut().expect("just seen") = Element::Any,
                (Some(Element::Level(_)), Element::Level(_)) => {}
                _ => elements.push(element),
            }
        }
        Self { elements }
    }

    fn matches(&self, name: &str) -> bool {
        // Each octet of the pattern needs one of the name, so that the work is bounded by the name's length.
        let octets = self.elements.iter().filter(|element| matches!(element, Element::Octet(_))).take(name.len() + 1);
        if octets.count() > name.len() {
            return false;
        }
        let mut at = vec![false; self.elements.len() + 1];
        at[0] = true;
        self.pass_wildcards(&mut at);
        for octet in name.bytes() {
            let mut next = vec![false; at.len()];
            for (i, element) in self.elements.iter().enumerate().filter(|&(i, _)| at[i]) {
                match *element {
                    Element::Octet(wanted) => next[i + 1] |= wanted == octet,
                    Element::Any => next[i] = true,
                    Element::Level(separator) => next[i] |= octet != separator,
                }
            }
            self.pass_wildcards(&mut next);
            at = next;
        }
        at[self.elements.len()]
    }

    /// A wildcard may stand for nothing.
    fn pass_wildcards(&self, at: &mut [bool]) {
        for (i, element) in self.elements.iter().enumerate() {
            if at[i] && !matches!(element, Element::Octet(_)) {
                at[i + 1] = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders() -> Folders {
        let folder = |name: &str, special_use: &str| Folder {
            name: MailboxName::new(name).expect("name"),
            special_use: special_use.to_owned(),
            no_select: false,
        };
        Folders {
            separator: '/',
            mailboxes: vec![
                folder("INBOX", ""),
                folder("Sent", "\\Sent"),
                folder("a/b/c", ""),
                folder("Entwürfe", ""),
                folder("x y", ""),
            ],
            subscriptions: ["Sent", "a/b/c", "gone"].map(|n| MailboxName::new(n).expect("name")).to_vec(),
        }
    }

    fn shown(reference: &str, pattern: &str, subscribed: bool) -> Vec<String> {
        let out = folders().respond(reference.as_bytes(), pattern.as_bytes(), subscribed);
        String::from_utf8(out).expect("ASCII").lines().map(str::to_owned).collect()
    }

    #[test]
    fn parents_that_do_not_exist_are_shown_as_noselect() {
        // I08
        assert_eq!(
            shown("", "*", false),
            [
                "* LIST (\\HasNoChildren) \"/\" Entw&APw-rfe",
                "* LIST (\\HasNoChildren) \"/\" INBOX",
                "* LIST (\\HasNoChildren \\Sent) \"/\" Sent",
                "* LIST (\\Noselect \\HasChildren) \"/\" a",
                "* LIST (\\Noselect \\HasChildren) \"/\" a/b",
                "* LIST (\\HasNoChildren) \"/\" a/b/c",
                "* LIST (\\HasNoChildren) \"/\" \"x y\"",
            ]
        );
    }

    #[test]
    fn an_empty_pattern_asks_for_the_separator() {
        assert_eq!(shown("", "", false), ["* LIST (\\Noselect) \"/\" \"\""]);
        assert_eq!(shown("a/b", "", false), ["* LIST (\\Noselect) \"/\" \"\""]);
    }

    #[test]
    fn a_percent_sign_stops_at_the_separator() {
        assert_eq!(shown("", "%", false).len(), 5);
        assert_eq!(shown("a/", "%", false), ["* LIST (\\Noselect \\HasChildren) \"/\" a/b"]);
        assert_eq!(shown("", "a/%/c", false), ["* LIST (\\HasNoChildren) \"/\" a/b/c"]);
        assert_eq!(shown("", "inbox", false), ["* LIST (\\HasNoChildren) \"/\" INBOX"]);
    }

    #[test]
    fn lsub_shows_subscriptions_and_their_parents_below_a_percent_sign() {
        assert_eq!(
            shown("", "*", true),
            ["* LSUB (\\Sent) \"/\" Sent", "* LSUB () \"/\" a/b/c", "* LSUB () \"/\" gone"]
        );
        assert_eq!(
            shown("", "%", true),
            ["* LSUB (\\Sent) \"/\" Sent", "* LSUB (\\Noselect) \"/\" a", "* LSUB () \"/\" gone"]
        );
    }

    #[test]
    fn many_wildcards_cost_no_more_than_their_number_times_the_name() {
        // I08: exponential and quadratic matchers do not come back from this.
        let pattern = Pattern::new("*a".repeat(2000).as_bytes(), '/');
        assert!(!pattern.matches(&"a".repeat(1999)));
        assert!(Pattern::new("%*".repeat(30_000).as_bytes(), '/').matches("a/b"));
    }
}
