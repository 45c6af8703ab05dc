//! Replies in Postfix's words.

use mail_types::{EnhancedStatus, Reply, ReplyCode, Severity};

use crate::Stage;
use crate::input::Input;
use crate::verdict::Effect;

/// A refusal with a configured code; the class of the status follows the code (D04c).
pub(crate) fn refusal(code: u64, (subject, detail): (u16, u16), text: impl Into<String>) -> Reply {
    let code = u16::try_from(code)
        .ok()
        .and_then(|code| ReplyCode::try_from(code).ok())
        .filter(|code| code.severity() != Severity::Success);
    let code = code.unwrap_or(ReplyCode::of(451));
    Reply::new(code, EnhancedStatus::of(4, subject, detail).with_severity(code.severity()), text)
}

/// `451 4.3.5`: the configuration says what is not built, or what is wrong. Which, the decision says; the client does not hear it.
pub(crate) fn configuration_error() -> Reply {
    refusal(451, (3, 5), "Server configuration error")
}

/// The same as what a rule did, with what is wrong.
pub(crate) fn fail(why: impl Into<String>) -> Effect {
    Effect::Fail { reply: configuration_error(), why: why.into() }
}

/// `451 4.3.0`: a table cannot answer, for this reason.
pub(crate) fn lookup_failure(what: &str, why: impl Into<String>) -> Effect {
    Effect::Fail { reply: refusal(451, (3, 0), format!("<{what}>: Temporary lookup failure")), why: why.into() }
}

/// What a refusal at a list is about: `<x@y>` and `Recipient address`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    pub name: String,
    pub class: &'static str,
}

impl Subject {
    /// What the list of a stage judges.
    pub fn of(stage: Stage, input: &Input<'_>) -> Self {
        let (name, class) = match stage {
            Stage::Client => (input.peer(), "Client host"),
            Stage::Helo => (input.helo.unwrap_or_default().to_owned(), "Helo command"),
            Stage::Sender => (input.sender_name(), SENDER),
            Stage::Recipient => (input.recipient_name(), RECIPIENT),
            Stage::Data => ("DATA".to_owned(), "Data command"),
            Stage::EndOfData => ("END-OF-MESSAGE".to_owned(), "End-of-data"),
            Stage::Etrn => (input.etrn.unwrap_or_default().to_owned(), "Etrn command"),
        };
        Self { name, class }
    }

    /// `554 5.7.1 <x@y>: Recipient address rejected: Access denied`
    pub fn refuse(&self, code: u64, status: (u16, u16), text: &str) -> Reply {
        refusal(code, status, self.text(text))
    }

    /// `<x@y>: Recipient address triggers HOLD action`, or with the table's own words.
    pub fn remark(&self, text: &str) -> String {
        format!("<{}>: {} {text}", self.name, self.class)
    }

    pub fn text(&self, text: &str) -> String {
        format!("<{}>: {} rejected: {text}", self.name, self.class)
    }

    /// The status of a table or template, which knows not whom it judges: what is about a sender is turned into what is about a recipient
    /// and the other way, and what is about neither says nothing of addresses (access(5), ENHANCED STATUS CODES).
    pub fn fitting(&self, status: EnhancedStatus) -> EnhancedStatus {
        let severity = status.severity();
        let (subject, detail) = status.about();
        if subject != 1 {
            return status;
        }
        let (subject, detail) = match (self.class, detail) {
            (SENDER, 2 | 8) => (1, 8),
            (SENDER, 1 | 3 | 4 | 6 | 7) => (1, 7),
            (SENDER, _) => (1, 0),
            (RECIPIENT, 7) => (1, 3),
            (RECIPIENT, 8) => (1, 2),
            (RECIPIENT, 1..=6) => (1, detail),
            (RECIPIENT, _) => (1, 0),
            _ => (0, 0),
        };
        EnhancedStatus::of(4, subject, detail).with_severity(severity)
    }
}

const SENDER: &str = "Sender address";
const RECIPIENT: &str = "Recipient address";
