//! What is kept in the store's cache for a message: ENVELOPE, BODY and BODYSTRUCTURE as they go over the wire, and the header fields that clients
//! ask for when they list a mailbox.

/// The form of entries; another number makes old entries worthless, which costs only time.
const VERSION: u8 = 2;
/// Header fields that are kept: what the lists of common clients ask for beside ENVELOPE.
const FIELDS: [&str; 24] = [
    "From",
    "To",
    "Cc",
    "Bcc",
    "Sender",
    "Reply-To",
    "Subject",
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "Newsgroups",
    "Content-Type",
    "MIME-Version",
    "Priority",
    "X-Priority",
    "Importance",
    "X-MSMail-Priority",
    "Disposition-Notification-To",
    "List-ID",
    "List-Post",
    "List-Unsubscribe",
    "Delivered-To",
    "X-Spam-Flag",
];
/// Fields of more octets than this are read from the message every time.
const FIELDS_MAX: usize = 16 * 1024;

/// What of an entry is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// BODY or BODYSTRUCTURE.
    pub structure: bool,
    /// Header fields that are kept.
    pub fields: bool,
}

/// Whether all these header fields are kept.
#[must_use]
pub fn keeps(names: &[String]) -> bool {
    names.iter().all(|name| FIELDS.iter().any(|kept| kept.eq_ignore_ascii_case(name)))
}

/// The fields of a header that are kept; empty if they are too long.
#[must_use]
pub fn fields_of(header: &[u8]) -> Vec<u8> {
    let names: Vec<String> = FIELDS.iter().map(|name| (*name).to_owned()).collect();
    let fields = mail_message::mime::SectionPart::Fields(&names).choose(header);
    if fields.len() <= FIELDS_MAX { fields } else { Vec::new() }
}

/// A cache entry. Structures and fields are empty where they were never asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cached {
    /// ENVELOPE
    pub envelope: Vec<u8>,
    /// BODY
    pub body: Vec<u8>,
    /// BODYSTRUCTURE
    pub structure: Vec<u8>,
    /// The kept fields of the header, with a blank line behind them.
    pub fields: Vec<u8>,
}

impl Cached {
    /// Whether the entry is enough; it always has the envelope.
    #[must_use]
    pub fn has(&self, wanted: Wanted) -> bool {
        (!wanted.structure || !self.structure.is_empty()) && (!wanted.fields || !self.fields.is_empty())
    }

    /// How many octets its texts have.
    #[must_use]
    pub fn octets(&self) -> usize {
        [&self.envelope, &self.body, &self.structure, &self.fields].map(Vec::len).iter().sum()
    }

    /// The entry as octets: the version, then each text with its length.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        for text in [&self.envelope, &self.body, &self.structure, &self.fields] {
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
        let entry = Self { envelope: text()?, body: text()?, structure: text()?, fields: text()? };
        (rest.is_empty() && !entry.envelope.is_empty()).then_some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_it_was_written_and_anything_else_is_none() {
        let entry = Cached {
            envelope: b"(NIL)".to_vec(),
            body: Vec::new(),
            structure: b"(x)".to_vec(),
            fields: b"\r\n".to_vec(),
        };
        let octets = entry.write();
        assert_eq!(Cached::read(&octets), Some(entry));
        assert!((0..octets.len()).all(|cut| Cached::read(&octets[..cut]).is_none()));
        assert_eq!(Cached::read(&[&octets[..], b"x"].concat()), None);
    }
}
