//! What a case may expect.

use std::fmt;

use super::super::explanation::{Explanation, Outcome, Place};
use super::super::text::place_words;

/// One expectation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expectation {
    /// The outcome.
    Outcome(Outcome),
    /// The command that is answered with it.
    At(String),
    /// One recipient and its outcome.
    Recipient(String, Outcome),
    /// An address that gets a copy, or the mail in the place of its recipients.
    Copy(String),
    /// The envelope sender as it is queued.
    Sender(String),
    /// A field of the header as it is stored.
    Header(String),
    /// How a line of the reply begins.
    Reply(String),
    /// What a line of the reply holds.
    Says(String),
    /// The restriction or parameter that decides.
    Rule(String),
    /// The end of the file and line that decide.
    Source(String),
    /// All final recipients.
    Recipients(Vec<String>),
    /// A Maildir or mbox.
    Mailbox(String),
    /// A command that reads the mail.
    Command(String),
    /// A transport's name.
    Transport(String),
    /// A next hop, or the name of a host that is tried.
    NextHop(String),
    /// Returned to the sender, for a reason that holds this.
    Bounce(String),
}

impl Expectation {
    /// The words of the format and what each takes.
    pub(super) fn parse(word: &str, rest: &str) -> Result<Self, String> {
        let text = || if rest.is_empty() { Err(format!("expect {word}: what?")) } else { Ok(rest.to_owned()) };
        if let Some(outcome) = Outcome::of(word) {
            return if rest.is_empty() {
                Ok(Self::Outcome(outcome))
            } else {
                Err(format!("expect {word} takes nothing more; write `expect reply {rest}'"))
            };
        }
        Ok(match word {
            "recipient" => {
                match text()?.rsplit_once([' ', '\t']).and_then(|(who, word)| Some((who, Outcome::of(word)?))) {
                    Some((who, outcome)) => Self::Recipient(super::super::case::bare(who), outcome),
                    None => return Err("expect recipient: ADDRESS accept, reject or defer".to_owned()),
                }
            }
            "copy" => Self::Copy(text()?),
            "sender" => Self::Sender(super::super::case::bare(rest)),
            "header" => Self::Header(text()?),
            "at" => Self::At(text()?),
            "reply" => Self::Reply(text()?),
            "says" => Self::Says(text()?),
            "rule" => Self::Rule(text()?),
            "source" => Self::Source(text()?),
            "recipients" => {
                let mut all: Vec<String> =
                    text()?.split([',', ' ', '\t']).filter(|one| !one.is_empty()).map(str::to_lowercase).collect();
                all.sort();
                Self::Recipients(all)
            }
            "mailbox" => Self::Mailbox(text()?),
            "command" => Self::Command(text()?),
            "transport" => Self::Transport(text()?),
            "nexthop" => Self::NextHop(text()?),
            "bounce" => Self::Bounce(rest.to_owned()),
            _ => {
                return Err(format!(
                    "expect {word}: one of accept, reject, defer, hold, discard, at, reply, says, rule, source, recipient, recipients, copy, sender, header, mailbox, command, transport, nexthop, bounce"
                ));
            }
        })
    }

    /// What there is instead; none if it is met.
    pub(super) fn unmet(&self, found: &Explanation) -> Option<String> {
        let reply = || found.reply.join(" / ");
        let places = || found.places();
        let met = match self {
            Self::Outcome(wanted) => found.outcome == *wanted,
            Self::At(wanted) => found.at.eq_ignore_ascii_case(wanted),
            Self::Reply(wanted) => found.reply.iter().any(|line| line.starts_with(wanted.as_str())),
            Self::Recipient(who, wanted) => {
                found.recipients.iter().any(|one| one.given.eq_ignore_ascii_case(who) && one.outcome == *wanted)
            }
            Self::Copy(wanted) => {
                found.copies.iter().any(|copy| copy.rewritten.to.iter().any(|to| to.eq_ignore_ascii_case(wanted)))
            }
            Self::Sender(wanted) => {
                found.sender.as_ref().is_some_and(|sender| sender.to.iter().any(|to| to.eq_ignore_ascii_case(wanted)))
            }
            Self::Header(wanted) => {
                found.header.as_ref().is_some_and(|header| header.stored.iter().any(|field| field == wanted))
            }
            Self::Says(wanted) => found.reply.iter().any(|line| line.contains(wanted.as_str())),
            Self::Rule(wanted) => found.decided_by.as_ref().is_some_and(|decider| {
                decider.rule == *wanted || decider.rule.split(' ').next() == Some(wanted) || decider.list.as_ref() == Some(wanted)
            }),
            Self::Source(wanted) => found.decided_by.as_ref().is_some_and(|decider| decider.source.ends_with(wanted.as_str())),
            Self::Recipients(wanted) => final_recipients(found) == *wanted,
            Self::Mailbox(wanted) => places().iter().any(|(_, place)| matches!(place,
                Place::Maildir { path, .. } | Place::Mbox { path, .. } if path.trim_end_matches('/') == wanted.trim_end_matches('/'))),
            Self::Command(wanted) => {
                places().iter().any(|(_, place)| matches!(place, Place::Command { command, .. } if command.contains(wanted.as_str())))
            }
            Self::Transport(wanted) => places().iter().any(|(one, _)| one.transport == *wanted),
            Self::NextHop(wanted) => places().iter().any(|(one, place)| {
                one.nexthop.eq_ignore_ascii_case(wanted)
                    || matches!(place, Place::Remote { hosts, .. } if hosts.iter().any(|host| host.name.eq_ignore_ascii_case(wanted)))
            }),
            Self::Bounce(wanted) => {
                places().iter().any(|(_, place)| matches!(place, Place::Bounce { status, text } if format!("{status} {text}").contains(wanted.as_str())))
            }
        };
        if met {
            return None;
        }
        Some(match self {
            Self::Outcome(_) | Self::At(_) | Self::Reply(_) | Self::Says(_) => {
                format!("{} at {}: {}", found.outcome.word(), found.at, reply())
            }
            Self::Recipient(..) => {
                joined(found.recipients.iter().map(|one| format!("{} {}", one.given, one.outcome.word())))
            }
            Self::Rule(_) | Self::Source(_) => match &found.decided_by {
                Some(decider) => format!("{}, {}", decider.rule, decider.source),
                None => format!("no rule ({})", reply()),
            },
            _ if !found.outcome.is_taken() => format!("{} at {}: {}", found.outcome.word(), found.at, reply()),
            Self::Copy(_) => joined(found.copies.iter().map(|copy| copy.rewritten.to.join(", "))),
            Self::Sender(_) => joined(found.sender.iter().map(|sender| sender.to.join(", "))),
            Self::Header(_) => joined(found.header.iter().flat_map(|header| header.stored.iter().cloned())),
            Self::Transport(_) | Self::NextHop(_) => {
                joined(places().iter().map(|(one, _)| format!("{} by {}:{}", one.address, one.transport, one.nexthop)))
            }
            _ => joined(places().iter().map(|(one, place)| format!("{} -> {}", one.address, place_words(place)))),
        })
    }
}

fn joined(all: impl Iterator<Item = String>) -> String {
    all.collect::<Vec<_>>().join("; ")
}

/// The addresses where the mail ends, each once, in order.
fn final_recipients(found: &Explanation) -> Vec<String> {
    let mut all: Vec<String> = found.places().iter().map(|(one, _)| one.address.to_lowercase()).collect();
    all.sort();
    all.dedup();
    all
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outcome(outcome) => f.write_str(outcome.word()),
            Self::At(text) => write!(f, "at {text}"),
            Self::Recipient(who, outcome) => write!(f, "recipient {who} {}", outcome.word()),
            Self::Copy(text) => write!(f, "copy {text}"),
            Self::Sender(text) => write!(f, "sender {text}"),
            Self::Header(text) => write!(f, "header {text}"),
            Self::Reply(text) => write!(f, "reply {text}"),
            Self::Says(text) => write!(f, "says {text}"),
            Self::Rule(text) => write!(f, "rule {text}"),
            Self::Source(text) => write!(f, "source {text}"),
            Self::Recipients(all) => write!(f, "recipients {}", all.join(", ")),
            Self::Mailbox(text) => write!(f, "mailbox {text}"),
            Self::Command(text) => write!(f, "command {text}"),
            Self::Transport(text) => write!(f, "transport {text}"),
            Self::NextHop(text) => write!(f, "nexthop {text}"),
            Self::Bounce(text) => write!(f, "bounce {text}"),
        }
    }
}
