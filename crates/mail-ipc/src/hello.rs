//! The opening of every conversation, both ways: who speaks, and which versions.

use serde::{Deserialize, Serialize};

/// The major version of the messages in this crate.
pub const VERSION: u32 = 1;

/// Which part of the system a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// `smtpd`.
    Smtpd,
    /// `queue-manager`.
    QueueManager,
    /// `local-delivery`.
    LocalDelivery,
    /// `remote-delivery`.
    RemoteDelivery,
    /// The front of `pop3d`.
    Pop3Front,
    /// The front of `imapd`.
    ImapFront,
    /// The monitor of `pop3d` or `imapd`: the only one that may redeem a login.
    Monitor,
    /// `authd`.
    Authd,
    /// A command that a person typed.
    Command,
}

/// The major versions that a peer speaks: its own and the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The oldest.
    pub from: u32,
    /// The newest.
    pub to: u32,
}

impl Versions {
    /// What this build speaks.
    pub const OURS: Self = Self { from: VERSION, to: VERSION };

    /// The newest version that both speak.
    #[must_use]
    pub fn common(self, other: Self) -> Option<u32> {
        let newest = self.to.min(other.to);
        (newest >= self.from.max(other.from)).then_some(newest)
    }
}

/// The first message in each direction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// What the speaker is.
    pub role: Role,
    /// The instance, such as `local-delivery@2`; for logs and leases.
    pub instance: String,
    /// The versions it speaks.
    pub versions: Versions,
    /// The generation of the configuration that it runs on; 0 for commands.
    #[serde(default)]
    pub generation: u64,
}

impl Hello {
    /// A greeting in this build's versions.
    #[must_use]
    pub fn new(role: Role, instance: impl Into<String>) -> Self {
        Self { role, instance: instance.into(), versions: Versions::OURS, generation: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_builds_speak_the_newest_version_that_both_know() {
        let old = Versions { from: 1, to: 2 };
        assert_eq!(old.common(Versions { from: 2, to: 3 }), Some(2));
        assert_eq!(old.common(Versions { from: 3, to: 4 }), None);
    }
}
