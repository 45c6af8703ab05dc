//! Options of delivery status notifications that travel with an envelope (RFC 3461).

use serde::{Deserialize, Serialize};

/// When the sender wants to hear about a recipient (NOTIFY, RFC 3461 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notify {
    /// Report delivery.
    #[serde(default)]
    pub success: bool,
    /// Report failure.
    #[serde(default)]
    pub failure: bool,
    /// Report delay.
    #[serde(default)]
    pub delay: bool,
}

impl Notify {
    /// NOTIFY=NEVER: nothing is reported, not even a failure.
    pub const NEVER: Self = Self { success: false, failure: false, delay: false };

    /// Whether nothing at all may be reported.
    #[must_use]
    pub fn is_never(self) -> bool {
        self == Self::NEVER
    }
}

/// What a bounce carries of the message (RET, RFC 3461 section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ret {
    /// The whole message.
    Full,
    /// The header only.
    Headers,
}

/// The DSN parameters of a MAIL command.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DsnOptions {
    /// RET, if it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ret: Option<Ret>,
    /// ENVID, decoded from xtext; printable ASCII, at most 100 octets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envid: Option<String>,
}
