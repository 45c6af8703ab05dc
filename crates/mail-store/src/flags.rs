//! Flags and keywords of messages.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign, Not};

/// The system flags of a message (RFC 3501 section 2.3.2) as a set; `\Recent` is kept apart.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Flags(u8);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// `\Answered`, letter `R` in a Maildir.
    pub const ANSWERED: Self = Self(1);
    /// `\Flagged`, letter `F`.
    pub const FLAGGED: Self = Self(2);
    /// `\Deleted`, letter `T`.
    pub const DELETED: Self = Self(4);
    /// `\Seen`, letter `S`.
    pub const SEEN: Self = Self(8);
    /// `\Draft`, letter `D`.
    pub const DRAFT: Self = Self(16);
    /// All five.
    pub const ALL: Self = Self(31);

    /// The set as bits, in the order of the constants.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// A set from bits; unknown bits are dropped.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// Whether every flag of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether no flag is set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for Flags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for Flags {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Not for Flags {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0 & Self::ALL.0)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::ANSWERED, "\\Answered"),
            (Self::FLAGGED, "\\Flagged"),
            (Self::DELETED, "\\Deleted"),
            (Self::SEEN, "\\Seen"),
            (Self::DRAFT, "\\Draft"),
        ];
        f.debug_list().entries(names.iter().filter(|(flag, _)| self.contains(*flag)).map(|(_, name)| name)).finish()
    }
}

/// The keywords of a message as a set of positions in [`crate::Mailbox::keywords`] (bit 0 is the first keyword).
pub type KeywordSet = u32;

/// The most keywords a Maildir can hold: the letters `a` to `z` in file names.
pub const KEYWORDS_MAX: usize = 26;

/// How STORE changes flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagMode {
    /// `+FLAGS`.
    Add,
    /// `-FLAGS`.
    Remove,
    /// `FLAGS`: exactly these.
    Replace,
}

/// A change of flags and keywords, by name; keywords that are new to the mailbox are created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagChange {
    /// What to do with the flags and keywords named.
    pub mode: FlagMode,
    /// The system flags.
    pub flags: Flags,
    /// The keywords, such as `$Forwarded`.
    pub keywords: Vec<String>,
}

impl FlagChange {
    /// The flags of a message after this change.
    #[must_use]
    pub fn apply(&self, flags: Flags) -> Flags {
        match self.mode {
            FlagMode::Add => flags | self.flags,
            FlagMode::Remove => flags & !self.flags,
            FlagMode::Replace => self.flags,
        }
    }

    /// The keywords of a message after this change; `named` are the positions of [`FlagChange::keywords`].
    #[must_use]
    pub fn apply_keywords(&self, keywords: KeywordSet, named: KeywordSet) -> KeywordSet {
        match self.mode {
            FlagMode::Add => keywords | named,
            FlagMode::Remove => keywords & !named,
            FlagMode::Replace => named,
        }
    }
}
