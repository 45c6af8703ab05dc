//! What comes out: the verdict and every decision on the way.

use decision::Lookup;
use mail_types::{Address, Reply, SourceLine};

use crate::facts::Question;

/// What is to be done about the command. What is to be done about the message stands in the decisions ([`Actions::of`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The command is accepted.
    Accept {
        /// What a later stage must know ([`crate::Input::deferral`]).
        deferral: Option<Reply>,
    },
    /// The command is refused.
    Refuse(Reply),
}

/// What one rule did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// It had nothing to say.
    Neutral,
    /// It ended its list with yes.
    Permit,
    /// It refused.
    Refuse(Reply),
    /// It cannot judge, because of the configuration or of a table: the command is refused for now, whatever stands before the rule.
    Fail {
        /// What the client hears.
        reply: Reply,
        /// What is wrong; for the log alone.
        why: String,
    },
    /// It would have refused, but `warn_if_reject` stands before it.
    Warn(Reply),
    /// It refuses if nothing later refuses.
    DeferIfPermit(Reply),
    /// A later permanent refusal becomes a temporary one.
    DeferIfReject(Reply),
    /// An access table wants something done with the message.
    Act(Action),
    /// A table wants this text in the log, as `warn` or `info`.
    Log(&'static str, String),
    /// It asks for what cannot be done here, and is passed over; the text is for the log.
    Ignored(String),
}

/// What an access table wants done with a message (access(5)). Each has the text that the log shows, but for PREPEND, which is silent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It goes on hold.
    Hold(String),
    /// It is accepted and thrown away.
    Discard(String),
    /// It goes to this address instead of its recipients.
    Redirect(Address, String),
    /// One more copy goes to this address.
    Bcc(Address, String),
    /// This field is put before its header.
    Prepend(String),
}

impl Action {
    /// The word of the log line and its text; none for what is silent.
    #[must_use]
    pub fn log(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::Hold(text) => Some(("hold", text)),
            Self::Discard(text) => Some(("discard", text)),
            Self::Redirect(_, text) => Some(("redirect", text)),
            Self::Bcc(_, text) => Some(("bcc", text)),
            Self::Prepend(_) => None,
        }
    }
}

/// What is done with a message in the end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actions {
    /// It goes on hold.
    pub hold: bool,
    /// It is thrown away.
    pub discard: bool,
    /// It goes here alone; the last that was named counts.
    pub redirect: Option<Address>,
    /// A copy goes to each.
    pub bcc: Vec<Address>,
    /// These fields stand before its header, in this order.
    pub prepend: Vec<String>,
}

impl Actions {
    /// What these decisions ask for.
    #[must_use]
    pub fn of(decisions: &[Decision]) -> Self {
        let mut all = Self::default();
        all.add(decisions);
        all
    }

    /// The fields that stand before the header, as octets. None of them can bring a second field, or the end of the header.
    #[must_use]
    pub fn prepended(fields: &[String]) -> Vec<u8> {
        let line = |field: &String| -> String {
            field.chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).chain("\r\n".chars()).collect()
        };
        fields.iter().flat_map(|field| line(field).into_bytes()).collect()
    }

    /// Adds what further decisions ask for.
    pub fn add(&mut self, decisions: &[Decision]) {
        for decision in decisions {
            let Effect::Act(action) = &decision.effect else { continue };
            match action {
                Action::Hold(_) => self.hold = true,
                Action::Discard(_) => self.discard = true,
                Action::Redirect(to, _) => self.redirect = Some(to.clone()),
                Action::Bcc(to, _) => self.bcc.push(to.clone()),
                Action::Prepend(field) => self.prepend.push(field.clone()),
            }
        }
    }
}

/// One rule's decision: which rule, where it is written, on which input, after which lookups, and what it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The list: `smtpd_recipient_restrictions` ...
    pub list: &'static str,
    /// The rule as it is written.
    pub rule: String,
    /// Where the list is written.
    pub source: SourceLine,
    /// The file and line of the table entry that named the rule; none if its list does.
    pub named_by: Option<SourceLine>,
    /// What it judged.
    pub input: String,
    /// What kind of thing that is: `Client host`, `Recipient address` ...
    pub class: &'static str,
    /// The tables asked.
    pub lookups: Vec<Lookup>,
    /// What it did.
    pub effect: Effect,
    /// Its yes, as the log may show it; none where it said none, or where an earlier deferral overrules it.
    pub permission: Option<Permission>,
}

/// A yes in the words of `smtpd_log_access_permit_actions`, which says whether the log shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    /// The action that the parameter names: a restriction, or the word of a table.
    pub action: String,
    /// `action=OK for Client host=unknown[192.0.2.1] from hash:/etc/postfix/access`
    pub text: String,
}

impl Decision {
    /// The decision that a verdict comes from: the one that made the refusal, or the last yes; none where no rule said anything.
    #[must_use]
    pub fn behind<'a>(verdict: &Verdict, decisions: &'a [Self]) -> Option<&'a Self> {
        let is_behind = |decision: &&Self| match (verdict, &decision.effect) {
            (
                Verdict::Refuse(reply),
                Effect::Refuse(said)
                | Effect::Fail { reply: said, .. }
                | Effect::DeferIfPermit(said)
                | Effect::DeferIfReject(said),
            ) => reply == said,
            (Verdict::Accept { .. }, Effect::Permit | Effect::Act(Action::Discard(_))) => true,
            _ => false,
        };
        decisions.iter().rfind(is_behind)
    }
}

/// The result of [`crate::evaluate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Decided. [`Decision::behind`] says which decision is the reason.
    Decided(Verdict, Vec<Decision>),
    /// This fact is missing: fetch it, then evaluate again.
    Missing(Question),
}
