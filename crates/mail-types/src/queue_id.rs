//! Queue ids in Postfix's long form.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

const DIGITS: &[u8; 52] = b"0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz";

/// A queue id in Postfix's long form (`enable_long_queue_ids`): six or more base-52 digits of seconds, four of microseconds, `z`,
/// and in the inode's place a number from a block that queue-manager granted, in base 51.
///
/// Ids order by time of minting. An id is never used twice: the serial comes from a persisted block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QueueId {
    seconds: u64,
    micros: u32,
    serial: u32,
}

/// The text is no long queue id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueIdError;

impl fmt::Display for QueueIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a queue id")
    }
}

impl std::error::Error for QueueIdError {}

impl QueueId {
    /// Puts an id together. `seconds` since 1970 (below 2^40), `micros` below 1,000,000.
    ///
    /// # Errors
    /// [`QueueIdError`] if a part is out of range.
    pub fn new(seconds: u64, micros: u32, serial: u32) -> Result<Self, QueueIdError> {
        if micros < 1_000_000 && seconds < 1 << 40 { Ok(Self { seconds, micros, serial }) } else { Err(QueueIdError) }
    }

    /// Seconds since 1970 of the minting.
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.seconds
    }

    /// Microseconds of the minting.
    #[must_use]
    pub fn micros(self) -> u32 {
        self.micros
    }

    /// The number from the granted block.
    #[must_use]
    pub fn serial(self) -> u32 {
        self.serial
    }

    /// Sixteen octets that order as the ids do; the key in an index.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.seconds.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.micros.to_be_bytes());
        bytes[12..].copy_from_slice(&self.serial.to_be_bytes());
        bytes
    }

    /// Reads what [`QueueId::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`QueueIdError`] if a part is out of range.
    pub fn from_bytes(bytes: [u8; 16]) -> Result<Self, QueueIdError> {
        let [s0, s1, s2, s3, s4, s5, s6, s7, m0, m1, m2, m3, n0, n1, n2, n3] = bytes;
        Self::new(
            u64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
            u32::from_be_bytes([m0, m1, m2, m3]),
            u32::from_be_bytes([n0, n1, n2, n3]),
        )
    }
}

fn write_digits(f: &mut fmt::Formatter<'_>, mut value: u64, base: u64, width: usize) -> fmt::Result {
    let mut digits = Vec::with_capacity(12);
    while value > 0 || digits.len() < width {
        digits.push(DIGITS[(value % base) as usize]);
        value /= base;
    }
    digits.iter().rev().try_for_each(|&digit| write!(f, "{}", char::from(digit)))
}

fn read_digits(text: &[u8], base: u64) -> Result<u64, QueueIdError> {
    if text.is_empty() {
        return Err(QueueIdError);
    }
    text.iter().try_fold(0u64, |value, byte| {
        let digit = DIGITS.iter().position(|d| d == byte).ok_or(QueueIdError)? as u64;
        if digit >= base {
            return Err(QueueIdError);
        }
        value.checked_mul(base).and_then(|v| v.checked_add(digit)).ok_or(QueueIdError)
    })
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_digits(f, self.seconds, 52, 6)?;
        write_digits(f, u64::from(self.micros), 52, 4)?;
        f.write_str("z")?;
        write_digits(f, u64::from(self.serial), 51, 1)
    }
}

impl FromStr for QueueId {
    type Err = QueueIdError;

    fn from_str(text: &str) -> Result<Self, QueueIdError> {
        let bytes = text.as_bytes();
        // The serial has no `z` in base 51, so the last one separates; before it come at least 6 + 4 digits.
        let split = bytes.iter().rposition(|&b| b == b'z').filter(|&at| (10..=16).contains(&at)).ok_or(QueueIdError)?;
        let (seconds, micros) = bytes[..split].split_at(split - 4);
        let narrow = |value: u64| u32::try_from(value).map_err(|_| QueueIdError);
        let id = Self::new(
            read_digits(seconds, 52)?,
            narrow(read_digits(micros, 52)?)?,
            narrow(read_digits(&bytes[split + 1..], 51)?)?,
        )?;
        if id.to_string() == text { Ok(id) } else { Err(QueueIdError) }
    }
}

impl TryFrom<String> for QueueId {
    type Error = QueueIdError;

    fn try_from(text: String) -> Result<Self, QueueIdError> {
        text.parse()
    }
}

impl From<QueueId> for String {
    fn from(id: QueueId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_no_queue_id() {
        for text in ["", "z", "4FvxxxxxxxzA", "../../etc/passwd", "4Fvabcdefgz", "ABC123", "4BBBBB0000z0 "] {
            assert!(text.parse::<QueueId>().is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn text_and_octets_keep_the_id(seconds in 0u64..1 << 40, micros in 0u32..1_000_000, serial: u32) {
            let id = QueueId::new(seconds, micros, serial).expect("in range");
            proptest::prop_assert_eq!(id.to_string().parse::<QueueId>(), Ok(id));
            proptest::prop_assert_eq!(QueueId::from_bytes(id.to_bytes()), Ok(id));
        }
    }
}
