//! Replies in Postfix's words.

use mail_types::{EnhancedStatus, Reply, ReplyCode, Severity};

use crate::Stage;
use crate::input::Input;

/// A refusal with a configured code; the class of the status follows the code (D04c).
pub(crate) fn refusal(code: u64, (subject, detail): (u16, u16), text: impl Into<String>) -> Reply {
    let code = u16::try_from(code)
        .ok()
        .and_then(|code| ReplyCode::try_from(code).ok())
        .filter(|code| code.severity() != Severity::Success);
    let code = code.unwrap_or(ReplyCode::of(451));
    Reply::new(code, EnhancedStatus::of(4, subject, detail).with_severity(code.severity()), text)
}

/// `451 4.3.5`: the configuration says what is not built, or what is wrong.
pub(crate) fn configuration_error(what: &str) -> Reply {
    refusal(451, (3, 5), format!("{what}: Server configuration error"))
}

/// `451 4.3.0`: a table cannot answer.
pub(crate) fn lookup_failure(what: &str) -> Reply {
    refusal(451, (3, 0), format!("<{what}>: Temporary lookup failure"))
}

/// What a refusal at a list is about: `<x@y>` and `Recipient address`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    pub name: String,
    pub class: &'static str,
    /// Subject and detail of the status.
    pub status: (u16, u16),
}

impl Subject {
    /// What the list of a stage judges.
    pub fn of(stage: Stage, input: &Input<'_>) -> Self {
        let (name, class) = match stage {
            Stage::Client => (input.peer(), "Client host"),
            Stage::Helo => (input.helo.unwrap_or_default().to_owned(), "Helo command"),
            Stage::Sender => (input.sender_name(), "Sender address"),
            Stage::Recipient => (input.recipient_name(), "Recipient address"),
            Stage::Data => ("DATA".to_owned(), "Data command"),
            Stage::EndOfData => ("END-OF-MESSAGE".to_owned(), "End-of-data"),
        };
        Self { name, class, status: (7, 1) }
    }

    /// `554 5.7.1 <x@y>: Recipient address rejected: Access denied`
    pub fn refuse(&self, code: u64, text: &str) -> Reply {
        refusal(code, self.status, self.text(text))
    }

    /// `<x@y>: Recipient address triggers HOLD action`, or with the table's own words.
    pub fn hold(&self, text: &str) -> String {
        let text = if text.is_empty() { "triggers HOLD action" } else { text };
        format!("<{}>: {} {text}", self.name, self.class)
    }

    pub fn text(&self, text: &str) -> String {
        format!("<{}>: {} rejected: {text}", self.name, self.class)
    }
}
