//! Replies: code, enhanced status, text; and whether a failure is for now or for ever.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What the first digit of a reply or status says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Severity {
    /// 2xx, 3xx.
    Success,
    /// 4xx: try again later.
    Temporary,
    /// 5xx: never try again.
    Permanent,
}

/// A value is out of the range that the standard gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyError;

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such reply code or status")
    }
}

impl std::error::Error for ReplyError {}

/// A three-digit reply code, 200 to 599 (RFC 5321 section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct ReplyCode(u16);

impl ReplyCode {
    /// A code known when the program is written.
    ///
    /// # Panics
    /// At compile time where used in a `const`, if the code is not 200 to 599.
    #[must_use]
    pub const fn of(code: u16) -> Self {
        assert!(code >= 200 && code < 600);
        Self(code)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// What the first digit says.
    #[must_use]
    pub const fn severity(self) -> Severity {
        match self.0 / 100 {
            5 => Severity::Permanent,
            4 => Severity::Temporary,
            _ => Severity::Success,
        }
    }
}

impl TryFrom<u16> for ReplyCode {
    type Error = ReplyError;

    fn try_from(code: u16) -> Result<Self, ReplyError> {
        if (200..600).contains(&code) { Ok(Self(code)) } else { Err(ReplyError) }
    }
}

impl From<ReplyCode> for u16 {
    fn from(code: ReplyCode) -> Self {
        code.0
    }
}

impl fmt::Display for ReplyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An enhanced status code such as `5.7.1` (RFC 3463).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EnhancedStatus {
    class: u8,
    subject: u16,
    detail: u16,
}

impl EnhancedStatus {
    /// A status known when the program is written.
    ///
    /// # Panics
    /// If `class` is not 2, 4 or 5, or subject or detail have more than three digits.
    #[must_use]
    pub const fn of(class: u8, subject: u16, detail: u16) -> Self {
        assert!(matches!(class, 2 | 4 | 5) && subject < 1000 && detail < 1000);
        Self { class, subject, detail }
    }

    /// What the class says.
    #[must_use]
    pub const fn severity(self) -> Severity {
        match self.class {
            5 => Severity::Permanent,
            4 => Severity::Temporary,
            _ => Severity::Success,
        }
    }

    /// What it is about: the second and the third number.
    #[must_use]
    pub const fn about(self) -> (u16, u16) {
        (self.subject, self.detail)
    }

    /// The same subject and detail in the class of `severity`, so that status and reply code agree (D04c).
    #[must_use]
    pub const fn with_severity(self, severity: Severity) -> Self {
        let class = match severity {
            Severity::Success => 2,
            Severity::Temporary => 4,
            Severity::Permanent => 5,
        };
        Self { class, ..self }
    }
}

impl fmt::Display for EnhancedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

impl FromStr for EnhancedStatus {
    type Err = ReplyError;

    fn from_str(text: &str) -> Result<Self, ReplyError> {
        let mut parts = text.split('.').map(|part| {
            let good = (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
            part.parse::<u16>().ok().filter(|_| good)
        });
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(Some(class @ (2 | 4 | 5))), Some(Some(subject)), Some(Some(detail)), None) => {
                Ok(Self { class: class as u8, subject, detail })
            }
            _ => Err(ReplyError),
        }
    }
}

impl TryFrom<String> for EnhancedStatus {
    type Error = ReplyError;

    fn try_from(text: String) -> Result<Self, ReplyError> {
        text.parse()
    }
}

impl From<EnhancedStatus> for String {
    fn from(status: EnhancedStatus) -> Self {
        status.to_string()
    }
}

/// A reply to a peer: code, enhanced status where the code has one (never with 3xx), and one or more lines of text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The three digits.
    pub code: ReplyCode,
    /// The enhanced status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<EnhancedStatus>,
    /// The text without code and status; lines separated by `\n`.
    pub text: String,
}

impl Reply {
    /// A reply with an enhanced status.
    #[must_use]
    pub fn new(code: ReplyCode, status: EnhancedStatus, text: impl Into<String>) -> Self {
        Self { code, status: Some(status), text: text.into() }
    }

    /// A reply without an enhanced status: greetings, HELO, EHLO, 3xx.
    #[must_use]
    pub fn plain(code: ReplyCode, text: impl Into<String>) -> Self {
        Self { code, status: None, text: text.into() }
    }

    /// What the code says.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.code.severity()
    }

    /// The same refusal as a temporary one (`soft_bounce`): 550 5.1.1 becomes 450 4.1.1. What is no permanent failure stays.
    #[must_use]
    pub fn softened(mut self) -> Self {
        if self.severity() == Severity::Permanent {
            self.code = ReplyCode(self.code.0 - 100);
            self.status = self.status.map(|status| status.with_severity(Severity::Temporary));
        }
        self
    }
}

impl fmt::Display for Reply {
    /// One line for the log: `550 5.1.1 <a@b>: text`, line breaks as spaces.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(status) = self.status {
            write!(f, " {status}")?;
        }
        write!(f, " {}", self.text.replace('\n', " "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_permanent_is_softened() {
        let reply = |code, status| Reply { code: ReplyCode::of(code), status, text: "text".into() };
        let status = |class| Some(EnhancedStatus::of(class, 7, 1));
        assert_eq!(reply(554, status(5)).softened(), reply(454, status(4)));
        assert_eq!(reply(521, None).softened(), reply(421, None));
        for (code, class) in [(450, 4), (250, 2)] {
            assert_eq!(reply(code, status(class)).softened(), reply(code, status(class)));
        }
    }

    #[test]
    fn a_status_is_three_numbers_of_the_standard() {
        assert_eq!("5.7.1".parse(), Ok(EnhancedStatus::of(5, 7, 1)));
        for text in ["", "5", "5.7", "3.0.0", "5.7.1.2", "5.7.1000", "5.+7.1", "5..1"] {
            assert!(text.parse::<EnhancedStatus>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_reply_is_one_line_in_the_log() {
        let reply = Reply::new(ReplyCode::of(554), EnhancedStatus::of(5, 7, 1), "<x@y>: Relay access denied");
        assert_eq!(reply.to_string(), "554 5.7.1 <x@y>: Relay access denied");
        assert_eq!(reply.severity(), Severity::Permanent);
    }
}
