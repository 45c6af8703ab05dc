//! What the front asks its monitor, which has the rights. Both are the same build, so these messages have no versions.

use accounts::plan::PamAnswer;
use mail_types::Octets;
use serde::{Deserialize, Serialize};

/// From the front.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Question {
    /// Does the monitor have rights at all?
    Rights,
    /// PAM's opinion about a password.
    Pam { service: String, user: String, password: Octets, remote: String },
    /// The shadow database's opinion about a password; without one, about the account.
    Shadow { user: String, password: Option<Octets> },
    /// A passwd-file that the configuration names, opened for reading.
    File { path: String },
}

/// From the monitor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// Whether the monitor is root.
    Rights { root: bool },
    /// What PAM or shadow says.
    Opinion { opinion: Opinion },
    /// The file comes as a descriptor.
    File,
    /// The question was not carried out.
    Refused { text: String },
}

/// What PAM or shadow says; the texts are for the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Opinion {
    Granted { user: String },
    Denied { text: String },
    Unknown { text: String },
    Expired { text: String },
    Unavailable { text: String },
}

impl From<Opinion> for PamAnswer {
    fn from(opinion: Opinion) -> Self {
        match opinion {
            Opinion::Granted { user } => Self::Granted(user),
            Opinion::Denied { text } => Self::Denied(text),
            Opinion::Unknown { text } => Self::Unknown(text),
            Opinion::Expired { text } => Self::Expired(text),
            Opinion::Unavailable { text } => Self::Unavailable(text),
        }
    }
}
