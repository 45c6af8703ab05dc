//! What comes out: the verdict and every decision on the way.

use decision::Lookup;
use mail_types::{Reply, SourceLine};

use crate::facts::Question;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The command is accepted. `hold`: an access table put the message on hold. `deferral` is what a later stage must know
    /// ([`crate::Input::deferral`]).
    Accept {
        /// The message goes on hold.
        hold: bool,
        /// What a later stage must know.
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
    /// It would have refused, but `warn_if_reject` stands before it.
    Warn(Reply),
    /// It refuses if nothing later refuses.
    DeferIfPermit(Reply),
    /// A later permanent refusal becomes a temporary one.
    DeferIfReject(Reply),
    /// It put the message on hold, for this reason.
    Hold(String),
    /// A table wants this text in the log, as `warn` or `info`.
    Log(&'static str, String),
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
    /// What it judged.
    pub input: String,
    /// The tables asked.
    pub lookups: Vec<Lookup>,
    /// What it did.
    pub effect: Effect,
}

/// The result of [`crate::evaluate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Decided. The last decision that is not neutral is the reason.
    Decided(Verdict, Vec<Decision>),
    /// These facts are missing: fetch them, then evaluate again.
    Missing(Vec<Question>),
}
