//! An explanation for people: the answer first, then how it came about, each line with where it is written.

use decision::Lookup;

use super::explanation::{Destination, Explanation, Fact, Header, Outcome, Place, Rewritten, Rule, Step};
use super::why_not::WhyNot;

/// Where `file:line` stands, unless what stands before it is longer.
const SOURCE_COLUMN: usize = 66;
/// Where the verdict of a restriction stands.
const VERDICT_COLUMN: usize = 44;

/// Text for a terminal: what could move it is written as an escape.
#[must_use]
pub fn shown(text: &str) -> String {
    let plain = |c: char| (' '..='~').contains(&c) || (c.is_alphanumeric() && !c.is_ascii());
    text.chars().map(|c| if plain(c) { c.to_string() } else { c.escape_default().to_string() }).collect()
}

/// Rows of text with their sources.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn row(&mut self, indent: usize, left: &str) {
        let row = format!("{:indent$}{}", "", shown(left));
        self.text.push_str(row.trim_end());
        self.text.push('\n');
    }

    /// A row that says where it is written; what no file states is a default.
    fn sourced(&mut self, indent: usize, left: &str, source: &str) {
        if source.is_empty() {
            return self.row(indent, left);
        }
        let left = format!("{:indent$}{}", "", shown(left));
        let room = SOURCE_COLUMN.saturating_sub(left.chars().count()).max(2);
        self.text.push_str(&format!("{left}{:room$}{}\n", "", shown(source)));
    }

    fn blank(&mut self) {
        self.text.push('\n');
    }
}

/// The whole explanation.
#[must_use]
pub fn explanation(found: &Explanation) -> String {
    let mut page = Page::default();
    headline(&mut page, found);
    page.blank();
    session(&mut page, found);
    if found.sender.is_some() {
        page.blank();
        journey(&mut page, found);
    }
    page.blank();
    page.row(0, "log");
    found.log.iter().for_each(|line| page.row(2, line));
    if !found.notes.is_empty() {
        page.blank();
        found.notes.iter().for_each(|note| page.row(0, &format!("note: {note}")));
    }
    page.text
}

/// What happens, in one look.
fn headline(page: &mut Page, found: &Explanation) {
    let reply = found.reply.last().map_or("", String::as_str);
    let word = match found.outcome {
        // VRFY and ETRN hand nothing in.
        Outcome::Accept => "ACCEPTED".to_owned(),
        Outcome::Hold => "ACCEPTED, and put on hold".to_owned(),
        Outcome::Discard => "ACCEPTED, and thrown away".to_owned(),
        Outcome::Reject => format!("REJECTED at {}", found.at),
        Outcome::Defer => format!("DEFERRED at {}", found.at),
    };
    page.row(0, &format!("{word}: {reply}"));
    if let Some(decider) = &found.decided_by {
        if let Some(lookup) = &decider.lookup {
            let value = lookup.value.as_deref().unwrap_or("nothing");
            page.sourced(2, &format!("{} = {value}", lookup.key), &decider.source);
        }
        let list = decider.list.as_ref().filter(|list| **list != decider.rule);
        let list = list.map_or_else(String::new, |list| format!(" in {list}"));
        page.sourced(2, &format!("by {}{list}", decider.rule), &decider.list_source);
    }
    if found.outcome.is_taken() {
        for refused in found.recipients.iter().filter(|one| !one.outcome.is_taken()) {
            let reply = refused.reply.last().map_or("", String::as_str);
            page.row(2, &format!("{} -> refused: {reply}", refused.given));
        }
        for (destination, place) in found.places() {
            page.row(2, &format!("{} -> {}", destination.address, place_words(place)));
        }
    }
    for other in &found.alternatives {
        let reply = other.reply.last().map_or("", String::as_str);
        page.row(2, &format!("but if {}: {} at {}: {reply}", other.supposed, other.outcome.word(), other.at));
    }
}

fn session(page: &mut Page, found: &Explanation) {
    let port = found.listener.port.map_or_else(String::new, |port| format!(", port {port}"));
    let who = match &found.case.local {
        Some(user) => format!("session: {}, user {user} of this machine", found.listener.service),
        None => format!("session: {}{port}, client {}", found.listener.service, found.case.client),
    };
    page.sourced(0, &who, &found.listener.source);
    found.steps.iter().for_each(|step| one_step(page, step));
}

fn one_step(page: &mut Page, step: &Step) {
    if !step.command.is_empty() {
        let command = if step.command.starts_with("AUTH ") { "AUTH PLAIN ..." } else { &step.command };
        page.row(0, &format!("C: {command}"));
    }
    step.facts.iter().for_each(|fact| page.row(5, &fact_words(fact)));
    let mut list = "";
    for rule in &step.rules {
        if rule.rule == rule.list {
            list = "";
        } else if rule.list != list {
            list = &rule.list;
            page.sourced(5, list, &rule.source);
        }
        one_rule(page, rule);
    }
    match step.reply.as_slice() {
        [] => {}
        [only] => page.row(0, &format!("S: {only}")),
        [first, .., last] => page.row(0, &format!("S: {first} ... {last}  ({} lines)", step.reply.len())),
    }
}

fn one_rule(page: &mut Page, rule: &Rule) {
    let verdict = match rule.verdict.as_str() {
        "neutral" => "-".to_owned(),
        "reject" | "defer" => rule.verdict.to_uppercase(),
        other => other.to_owned(),
    };
    // A parameter that judges by itself is its own list.
    let own = rule.rule == rule.list;
    let indent = if own { 5 } else { 7 };
    let width = VERDICT_COLUMN - indent;
    page.sourced(indent, &format!("{:<width$} {verdict}", rule.rule), if own { &rule.source } else { "" });
    lookups(page, 9, &rule.lookups, &rule.rule);
    if let Some(text) = rule.text.as_ref().filter(|_| !matches!(rule.verdict.as_str(), "reject" | "defer")) {
        page.row(9, text);
    }
}

/// The lookups, those of one table that found nothing on one row. What `rule` names already is not named again.
fn lookups(page: &mut Page, indent: usize, all: &[Lookup], rule: &str) {
    let is_miss = |lookup: &Lookup| lookup.value.is_none();
    for group in all.chunk_by(|one, next| is_miss(one) && is_miss(next) && one.table == next.table) {
        let [first, ..] = group else { continue };
        let source = first.source.as_ref().map_or_else(String::new, ToString::to_string);
        let named = !first.table.is_empty() && rule.contains(&first.table);
        let words = match &first.value {
            None => {
                let keys: Vec<&str> = group.iter().map(|lookup| lookup.key.as_str()).collect();
                let table = if named { String::new() } else { format!("{}: ", first.table) };
                format!("{table}no entry for {}", keys.join(", "))
            }
            Some(value) if named => format!("{} = {value}", first.key),
            // A list of main.cf names what is in it.
            Some(value) if !first.table.contains(':') && *value == first.key => {
                format!("{} holds {value}", first.table)
            }
            Some(value) if first.key.is_empty() => format!("{} = {value}", first.table),
            Some(value) if value.is_empty() => format!("{}: {} found", first.table, first.key),
            Some(value) => format!("{}: {} = {value}", first.table, first.key),
        };
        page.sourced(indent, &words, &source);
    }
}

fn fact_words(fact: &Fact) -> String {
    format!("{}: {} ({})", fact.question, fact.answer, fact.from)
}

fn journey(page: &mut Page, found: &Explanation) {
    page.row(0, "delivery");
    if let Some(sender) = &found.sender {
        rewritten(page, "sender", sender);
    }
    if let Some(header) = &found.header {
        self::header(page, header);
    }
    for recipient in &found.recipients {
        let Some(one) = &recipient.rewritten else {
            page.row(2, &format!("recipient <{}> is not taken: {}", recipient.given, recipient.reply.join(" / ")));
            continue;
        };
        rewritten(page, "recipient", one);
        recipient.destinations.iter().for_each(|one| destination(page, 4, one));
    }
    for copy in &found.copies {
        let what = match copy.rule.as_str() {
            "REDIRECT" => "in the place of all recipients (REDIRECT)".to_owned(),
            rule => format!("copy ({rule})"),
        };
        rewritten(page, &what, &copy.rewritten);
        copy.destinations.iter().for_each(|one| destination(page, 4, one));
    }
}

fn rewritten(page: &mut Page, what: &str, one: &Rewritten) {
    let to = one.to.join(", ");
    match &one.error {
        Some(error) => page.row(2, &format!("{what} <{}>: {error}", one.from)),
        None if to == one.from => page.row(2, &format!("{what} <{to}>")),
        None => page.row(2, &format!("{what} <{}> becomes <{to}>", one.from)),
    }
    lookups(page, 4, &one.lookups, "");
}

fn header(page: &mut Page, header: &Header) {
    let how = match header.origin.as_str() {
        "ours" => "completed as of a client of ours (local_header_rewrite_clients)",
        "others" => "completed with remote_header_rewrite_domain",
        _ => "addresses stay as they are: the client is none of local_header_rewrite_clients",
    };
    page.row(2, &format!("header: {how}"));
    for address in &header.addresses {
        rewritten_within(page, address);
    }
    header.stored.iter().for_each(|field| page.row(4, &format!("stored: {field}")));
}

fn rewritten_within(page: &mut Page, one: &Rewritten) {
    let to = one.to.join(", ");
    page.row(4, &if to == one.from { format!("{to} stays") } else { format!("{} becomes {to}", one.from) });
    lookups(page, 6, &one.lookups, "");
}

fn destination(page: &mut Page, indent: usize, one: &Destination) {
    page.row(indent, &format!("<{}>", one.address));
    page.sourced(indent + 2, &format!("class {}", one.class), &default_as_empty(&one.class_source));
    let nexthop = if one.nexthop.is_empty() { String::new() } else { format!(":{}", one.nexthop) };
    page.sourced(indent + 2, &format!("{} says {}{nexthop}", one.rule, one.transport), &one.source);
    lookups(page, indent + 4, &one.lookups, "");
    if let Some(sender) = &one.sender {
        page.row(indent + 2, &format!("sender <{sender}>, the owner of the list"));
    }
    match &one.place {
        Place::List { table, source, members } => {
            page.sourced(indent + 2, &format!("list of {table}"), source);
            members.iter().for_each(|member| destination(page, indent + 4, member));
        }
        Place::Maildir { from, .. } | Place::Mbox { from, .. } | Place::Command { from, .. } => {
            let (name, source) = from.split_once(", ").unwrap_or((from, ""));
            page.sourced(indent + 2, &place_words(&one.place), format!("{name} {source}").trim());
        }
        Place::Remote { shown, .. } => {
            page.row(indent + 2, &place_words(&one.place));
            lookups(page, indent + 4, &shown.lookups, "");
        }
        place => page.row(indent + 2, &place_words(place)),
    }
}

fn default_as_empty(source: &str) -> String {
    if source == "default" { String::new() } else { source.to_owned() }
}

/// A place in a few words.
#[must_use]
pub fn place_words(place: &Place) -> String {
    match place {
        Place::Maildir { path, owner, .. } => format!("Maildir {path} ({owner})"),
        Place::Mbox { path, owner, .. } => format!("mbox {path} ({owner})"),
        Place::Command { command, owner, .. } => format!("command {command} ({owner})"),
        Place::List { source, .. } => format!("an empty list at {source}"),
        Place::Remote { protocol, hosts, note, shown } => {
            let host = |host: &super::explanation::Host| {
                let address = host.address.as_ref().map_or_else(String::new, |address| format!("[{address}]"));
                let port = host.port.map_or_else(String::new, |port| format!(":{port}"));
                format!("{}{address}{port}", host.name)
            };
            let hosts: Vec<String> = hosts.iter().map(host).collect();
            let mut words = format!("{protocol} to {}", note.clone().unwrap_or_else(|| hosts.join(", then ")));
            if let Some(sender) = &shown.sender {
                words.push_str(&format!(", from <{sender}>"));
            }
            if let Some(recipient) = &shown.recipient {
                words.push_str(&format!(", to <{recipient}>"));
            }
            shown.header.iter().for_each(|field| words.push_str(&format!(", {field}")));
            words
        }
        Place::Discard { text } if text.is_empty() => "thrown away".to_owned(),
        Place::Discard { text } => format!("thrown away: {text}"),
        Place::Bounce { status, text } => format!("returned to the sender: {status} {text}"),
        Place::Defer { status, text } => format!("waits in the queue: {status} {text}"),
        Place::Unknown { text } => text.clone(),
    }
}

/// What would change the outcome.
#[must_use]
pub fn why_not(found: &WhyNot) -> String {
    let mut page = Page::default();
    page.blank();
    if found.ways.is_empty() {
        page.row(0, &format!("why not {}: none of {} changes that were tried leads there", found.wanted, found.tried));
    } else {
        page.row(
            0,
            &format!(
                "why not {}: each of these would ({} changes were tried), the smallest first",
                found.wanted, found.tried
            ),
        );
    }
    for (number, way) in (1..).zip(&found.ways) {
        for (at, change) in way.changes.iter().enumerate() {
            let lead = if at == 0 { format!("{number}. ") } else { "   and ".to_owned() };
            page.sourced(2, &format!("{lead}{}", change.text), &change.source);
        }
        page.row(5, &format!("then {}", way.then));
    }
    found.notes.iter().for_each(|note| page.row(2, &format!("note: {note}")));
    page.text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_the_terminal() {
        assert_eq!(shown("a\u{1b}[31m\r\n\u{9b}\u{202e}é"), "a\\u{1b}[31m\\r\\n\\u{9b}\\u{202e}é");
    }

    #[test]
    fn a_long_row_keeps_its_source() {
        let mut page = Page::default();
        page.sourced(0, &"x".repeat(80), "main.cf:1");
        page.sourced(2, "short", "main.cf:2");
        let lines: Vec<&str> = page.text.lines().collect();
        assert_eq!(lines[0], format!("{}  main.cf:1", "x".repeat(80)));
        assert_eq!(lines[1].find("main.cf:2"), Some(SOURCE_COLUMN));
    }
}
