//! What `explain` found out: one value, which [`super::text`] shows to people and serde to programs. `docs/explain.md` describes the JSON.

use decision::Lookup;
use mail_policy::{Action, Decision, Effect};
use serde::Serialize;

use super::case::Case;

/// What becomes of the case, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The message is taken.
    Accept,
    /// A command is answered with a 5xx.
    Reject,
    /// A command is answered with a 4xx.
    Defer,
    /// The message is taken and put on hold.
    Hold,
    /// The message is taken and thrown away.
    Discard,
}

impl Outcome {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Reject => "reject",
            Self::Defer => "defer",
            Self::Hold => "hold",
            Self::Discard => "discard",
        }
    }

    /// The outcome of a word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        [Self::Accept, Self::Reject, Self::Defer, Self::Hold, Self::Discard].into_iter().find(|one| one.word() == word)
    }

    /// Whether the client hears a yes.
    #[must_use]
    pub fn is_taken(self) -> bool {
        !matches!(self, Self::Reject | Self::Defer)
    }
}

/// One restriction that ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// The list, such as `smtpd_client_restrictions`.
    pub list: String,
    /// The restriction as it is written.
    pub rule: String,
    /// Where the list is written; `default` where no file states it.
    pub source: String,
    /// What it judged.
    pub input: String,
    /// The tables asked.
    pub lookups: Vec<Lookup>,
    /// `neutral`, `permit`, `reject`, `defer`, `warn`, `defer-if-permit`, `defer-if-reject`, `hold` or another action of an access table.
    pub verdict: String,
    /// What it says, where it says something: a reply, or a text for the log.
    pub text: Option<String>,
}

impl Rule {
    /// What a decision of `mail-policy` says.
    #[must_use]
    pub fn of(decision: &Decision) -> Self {
        let (verdict, text) = verdict(&decision.effect);
        Self {
            list: decision.list.to_owned(),
            rule: decision.rule.clone(),
            source: decision.source.to_string(),
            input: decision.input.clone(),
            lookups: decision.lookups.clone(),
            verdict,
            text,
        }
    }
}

fn verdict(effect: &Effect) -> (String, Option<String>) {
    let reply = |reply: &mail_types::Reply| Some(reply.to_string());
    let (word, text) = match effect {
        Effect::Neutral => ("neutral", None),
        Effect::Permit => ("permit", None),
        Effect::Refuse(refusal) => (refusal_word(refusal), reply(refusal)),
        Effect::Warn(refusal) => ("warn", reply(refusal)),
        Effect::DeferIfPermit(refusal) => ("defer-if-permit", reply(refusal)),
        Effect::DeferIfReject(refusal) => ("defer-if-reject", reply(refusal)),
        Effect::Fail { reply: refusal, why } => (refusal_word(refusal), Some(format!("{refusal} ({why})"))),
        Effect::Act(Action::Prepend(field)) => ("prepend", Some(field.clone())),
        Effect::Act(action) => {
            let (word, text) = action.log().unwrap_or_default();
            (word, Some(text.to_owned()))
        }
        Effect::Log(action, text) => (*action, Some(text.clone())),
        Effect::Ignored(why) => ("neutral", Some(why.clone())),
    };
    (word.to_owned(), text)
}

/// `reject` or `defer`.
#[must_use]
pub fn refusal_word(reply: &mail_types::Reply) -> &'static str {
    if reply.severity() == mail_types::Severity::Permanent { "reject" } else { "defer" }
}

/// One command of the session and what smtpd did about it; for a user of this machine the call of sendmail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The command as the client sends it; empty for the connection itself.
    pub command: String,
    /// The restrictions that ran.
    pub rules: Vec<Rule>,
    /// What the restrictions and tables wanted to know from outside, and what was answered.
    pub facts: Vec<Fact>,
    /// The lines of the reply, without CRLF.
    pub reply: Vec<String>,
}

/// A fact that does not stand in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// What was asked.
    pub question: String,
    /// What came back.
    pub answer: String,
    /// Who said so: `dns`, `authd`, `passwd database`, `dovecot.conf`, `supposed` ...
    pub from: String,
}

/// What decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decider {
    /// The restriction or parameter.
    pub rule: String,
    /// The list of restrictions it stands in, if it stands in one.
    pub list: Option<String>,
    /// Where the list, or the parameter, is written.
    pub list_source: String,
    /// The line that decided: of the table that answered, else of the list or parameter.
    pub source: String,
    /// The lookup that decided, if one did.
    pub lookup: Option<Lookup>,
}

/// An address after rewriting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rewritten {
    /// As it was.
    pub from: String,
    /// As it became; empty if it could not be found out.
    pub to: Vec<String>,
    /// The tables asked.
    pub lookups: Vec<Lookup>,
    /// Why it could not be found out.
    pub error: Option<String>,
}

/// Where the mail of one address goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Destination {
    /// The address.
    pub address: String,
    /// What led here, outermost first: lists, or an automatic copy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub via: Vec<String>,
    /// The envelope sender, where a list has an owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// The class of its domain: `local`, `virtual-alias`, `virtual-mailbox`, `relay`, `default`.
    pub class: String,
    /// What makes it so.
    pub class_source: String,
    /// The transport's name in master.cf.
    pub transport: String,
    /// The next hop.
    pub nexthop: String,
    /// The parameter that chose the transport.
    pub rule: String,
    /// Where that is written.
    pub source: String,
    /// The tables asked.
    pub lookups: Vec<Lookup>,
    /// `relay=` of the log line: `local`, `virtual`, our LMTP listener, `none`; empty where another server is spoken to.
    pub relay: String,
    /// The program of the log line, such as `local`.
    #[serde(skip)]
    pub program: &'static str,
    /// What the client wrote.
    #[serde(skip)]
    pub original: String,
    /// Where it ends.
    pub place: Place,
}

/// Where mail ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Place {
    /// A Maildir.
    Maildir {
        /// Its directory.
        path: String,
        /// As whom it is written.
        owner: String,
        /// Who said so.
        from: String,
        /// What the log says of the delivery.
        said: String,
    },
    /// An mbox file.
    Mbox {
        /// The file.
        path: String,
        /// As whom it is written.
        owner: String,
        /// Who said so.
        from: String,
        /// What the log says of the delivery.
        said: String,
    },
    /// A program that reads the message.
    Command {
        /// The command line.
        command: String,
        /// As whom it runs.
        owner: String,
        /// The parameter or file that names it.
        from: String,
    },
    /// A list: an alias, an `:include:` file or a forward file.
    List {
        /// The table or the kind of file.
        table: String,
        /// The line.
        source: String,
        /// The members that take the recipient's place.
        members: Vec<Destination>,
    },
    /// Another server.
    Remote {
        /// `smtp` or `lmtp`.
        protocol: String,
        /// The hosts in the order in which they are tried: name, address, port.
        hosts: Vec<Host>,
        /// Why there are no hosts here: DNS was not asked, or what it said.
        note: Option<String>,
        /// What that server is shown, where generic maps make it another.
        #[serde(flatten)]
        shown: Box<Shown>,
    },
    /// Thrown away.
    Discard {
        /// What the log says.
        text: String,
    },
    /// Returned to the sender.
    Bounce {
        /// The enhanced status.
        status: String,
        /// The reason.
        text: String,
    },
    /// Kept in the queue and tried again.
    Defer {
        /// The enhanced status.
        status: String,
        /// The reason.
        text: String,
    },
    /// It cannot be said from here; the server itself will know.
    Unknown {
        /// Why.
        text: String,
    },
}

/// A message as the next server sees it (generic(5)).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Shown {
    /// The recipient, where it is another.
    #[serde(rename = "shown_recipient", skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// The sender, likewise.
    #[serde(rename = "shown_sender", skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// The fields of the header that are others.
    #[serde(rename = "shown_header", skip_serializing_if = "Vec::is_empty")]
    pub header: Vec<String>,
    /// The tables asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lookups: Vec<Lookup>,
}

/// A host that is tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Its address; none for a socket.
    pub address: Option<String>,
    /// The port; none for a socket.
    pub port: Option<u16>,
}

/// What became of one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Recipient {
    /// What the client wrote.
    pub given: String,
    /// What becomes of it.
    pub outcome: Outcome,
    /// The reply to its RCPT.
    pub reply: Vec<String>,
    /// What decided; none where nothing refused and no rule said yes.
    pub decided_by: Option<Decider>,
    /// The address as it is queued, if the message is taken.
    pub rewritten: Option<Rewritten>,
    /// Where its mail goes. An address that the queue has already, from a recipient before this one, is not there again.
    pub destinations: Vec<Destination>,
}

/// A copy that nobody asked for in the envelope, or the address that gets the mail in the place of all recipients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Copied {
    /// Who wants it: `always_bcc`, `sender_bcc_maps`, `recipient_bcc_maps`, `BCC`, `REDIRECT`.
    pub rule: String,
    /// The address.
    pub rewritten: Rewritten,
    /// Where it goes.
    pub destinations: Vec<Destination>,
}

/// The header of the message before and after its way in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Header {
    /// Whose addresses these are: `ours` (completed with `myorigin`), `others` (with `remote_header_rewrite_domain`), `untouched`.
    pub origin: String,
    /// Each address that is looked at.
    pub addresses: Vec<Rewritten>,
    /// The fields as they are stored, without the Received field on top.
    pub stored: Vec<String>,
}

/// What happens where something that nobody knows yet turns out otherwise than was supposed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alternative {
    /// What is supposed instead.
    pub supposed: String,
    /// What becomes of the case then.
    pub outcome: Outcome,
    /// At which command.
    pub at: String,
    /// The reply that says so.
    pub reply: Vec<String>,
}

/// Everything about a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// What was asked.
    pub case: Case,
    /// What becomes of it: of the message, where one recipient at least is taken.
    pub outcome: Outcome,
    /// The command at which that is decided: `RCPT`, `end of data` ...
    pub at: String,
    /// The reply that says so.
    pub reply: Vec<String>,
    /// What decided; none where nothing refused and no rule said yes.
    pub decided_by: Option<Decider>,
    /// The listener.
    pub listener: Listener,
    /// The session.
    pub steps: Vec<Step>,
    /// The envelope sender as it is queued, if the message is taken.
    pub sender: Option<Rewritten>,
    /// The recipients, in the order of the client.
    pub recipients: Vec<Recipient>,
    /// Copies, and who gets the mail in the place of its recipients.
    pub copies: Vec<Copied>,
    /// The header, where the case has one and the message is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<Header>,
    /// Other outcomes that depend on what is not known yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<Alternative>,
    /// The lines for the log.
    pub log: Vec<String>,
    /// What the reader should know about this answer.
    pub notes: Vec<String>,
}

/// The listener that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listener {
    /// Its name in master.cf; `pickup` for a user of this machine.
    pub service: String,
    /// Its line.
    pub source: String,
    /// Its port, if it is known.
    pub port: Option<u16>,
}

impl Explanation {
    /// The places where the mail ends: the leaves of its lists.
    #[must_use]
    pub fn places(&self) -> Vec<(&Destination, &Place)> {
        let mut found = Vec::new();
        self.destinations().for_each(|destination| leaves(destination, &mut found));
        found
    }

    /// Every address that is queued.
    pub fn destinations(&self) -> impl Iterator<Item = &Destination> {
        let copies = self.copies.iter().flat_map(|copy| &copy.destinations);
        self.recipients.iter().flat_map(|recipient| &recipient.destinations).chain(copies)
    }

    /// The rule that decided as records name it.
    #[must_use]
    pub fn rule(&self) -> &str {
        self.decided_by.as_ref().map_or("", |decider| decider.rule.as_str())
    }

    /// The recipient that the answer is about: the first one that was refused, where the answer is no; else the first.
    #[must_use]
    pub fn about(&self) -> &str {
        let refused = self.recipients.iter().find(|one| !one.outcome.is_taken() && !self.outcome.is_taken());
        let first = || self.case.to.first().map(String::as_str);
        let command = || match &self.case.command {
            Some(super::case::Command::Vrfy(address)) => address.as_str(),
            _ => "",
        };
        refused.map(|one| one.given.as_str()).or_else(first).unwrap_or_else(command)
    }
}

fn leaves<'a>(destination: &'a Destination, found: &mut Vec<(&'a Destination, &'a Place)>) {
    match &destination.place {
        Place::List { members, .. } if !members.is_empty() => members.iter().for_each(|member| leaves(member, found)),
        place => found.push((destination, place)),
    }
}
