//! What is kept in the store's cache for a message: ENVELOPE, BODY and BODYSTRUCTURE as they go over the wire.

/// The form of entries; another number makes old entries worthless, which costs only time.
const VERSION: u8 = 1;

/// A cache entry. Structures are empty where only the envelope was ever asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cached {
    /// ENVELOPE
    pub envelope: Vec<u8>,
    /// BODY
    pub body: Vec<u8>,
    /// BODYSTRUCTURE
    pub structure: Vec<u8>,
}

impl Cached {
    /// Whether the entry is enough; it always has the envelope.
    #[must_use]
    pub fn has(&self, structure: bool) -> bool {
        !structure || !self.structure.is_empty()
    }

    /// The entry as octets: the version, then each text with its length.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        for text in [&self.envelope, &self.body, &self.structure] {
            out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(0).to_le_bytes());
            out.extend_from_slice(text);
        }
        out
    }

    /// Reads an entry; none if it is not one of ours.
    #[must_use]
    pub fn read(octets: &[u8]) -> Option<Self> {
        let mut rest = octets.strip_prefix(&[VERSION])?;
        let mut text = || {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let (text, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            rest = after;
            Some(text.to_vec())
        };
        let entry = Self { envelope: text()?, body: text()?, structure: text()? };
        (rest.is_empty() && !entry.envelope.is_empty()).then_some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_it_was_written_and_anything_else_is_none() {
        let entry = Cached { envelope: b"(NIL)".to_vec(), body: Vec::new(), structure: b"(x)".to_vec() };
        let octets = entry.write();
        assert_eq!(Cached::read(&octets), Some(entry));
        assert!((0..octets.len()).all(|cut| Cached::read(&octets[..cut]).is_none()));
        assert_eq!(Cached::read(&[&octets[..], b"x"].concat()), None);
    }
}
