//! Headers of segments and records: fixed layouts, little-endian, each with its own checksum (`docs/queue-format.md`).

/// Octets of a segment's header and of a record's header.
pub const HEADER: usize = 64;
/// The longest metadata of one record; a longer one is damage.
pub const META_MAX: u32 = 64 * 1024 * 1024;
/// The longest content inside a record; a longer one is damage.
pub const CONTENT_MAX: u64 = 64 * 1024 * 1024;

const MAGIC: [u8; 8] = *b"PRQUEUE\x01";
const META_VERSION: u8 = 1;

/// The random bytes of a segment.
pub type Tag = [u8; 16];

/// The first octets of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The segment's number.
    pub number: u64,
    /// What every record header of the segment repeats.
    pub tag: Tag,
    /// The sequence number of its first record.
    pub first: u64,
    /// Milliseconds since 1970 of its creation.
    pub created: u64,
}

impl SegmentHeader {
    /// The octets on disk.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[..8].copy_from_slice(&MAGIC);
        out[8..16].copy_from_slice(&self.number.to_le_bytes());
        out[16..32].copy_from_slice(&self.tag);
        out[32..40].copy_from_slice(&self.first.to_le_bytes());
        out[40..48].copy_from_slice(&self.created.to_le_bytes());
        seal(&mut out);
        out
    }

    /// Reads a header; none if the octets are not one.
    #[must_use]
    pub fn decode(octets: &[u8; HEADER]) -> Option<Self> {
        let good = octets[..8] == MAGIC && octets[48..60].iter().all(|&b| b == 0) && is_sealed(octets);
        good.then(|| Self {
            number: u64_at(octets, 8),
            tag: tag_at(octets),
            first: u64_at(octets, 32),
            created: u64_at(octets, 40),
        })
    }
}

/// The type of a record, as it stands in its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// A block of serial numbers was granted.
    Granted = 1,
    /// A message was accepted.
    Accepted = 2,
    /// An attempt ended for some recipients.
    Outcome = 3,
    /// A recipient became others.
    Expanded = 4,
    /// A message was put on hold.
    Held = 5,
    /// A message was released.
    Released = 6,
    /// A message begins again.
    Requeued = 7,
    /// A message was deleted by an operator.
    Deleted = 8,
    /// A message was copied forward with its present state.
    Moved = 9,
    /// Sequence numbers do not count.
    Void = 10,
}

impl Kind {
    /// Every type, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::Granted,
        Self::Accepted,
        Self::Outcome,
        Self::Expanded,
        Self::Held,
        Self::Released,
        Self::Requeued,
        Self::Deleted,
        Self::Moved,
        Self::Void,
    ];

    fn from_octet(octet: u8) -> Option<Self> {
        Self::ALL.get(usize::from(octet).checked_sub(1)?).copied()
    }
}

/// The header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    /// The type.
    pub kind: Kind,
    /// How many further records belong to the same group.
    pub group_left: u16,
    /// Octets of metadata.
    pub meta: u32,
    /// Octets of content.
    pub content: u64,
    /// The sequence number.
    pub sequence: u64,
    /// The sequence number of the first record that the same sync made durable.
    pub batch: u64,
    /// CRC-32C of the metadata.
    pub meta_crc: u32,
    /// CRC-32C of the content.
    pub content_crc: u32,
}

impl RecordHeader {
    /// Octets of the whole record.
    #[must_use]
    pub fn total(&self) -> u64 {
        HEADER as u64 + u64::from(self.meta) + self.content
    }

    /// The octets on disk.
    #[must_use]
    pub fn encode(&self, tag: &Tag) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[..16].copy_from_slice(tag);
        out[16] = self.kind as u8;
        out[17] = META_VERSION;
        out[18..20].copy_from_slice(&self.group_left.to_le_bytes());
        out[20..24].copy_from_slice(&self.meta.to_le_bytes());
        out[24..32].copy_from_slice(&self.content.to_le_bytes());
        out[32..40].copy_from_slice(&self.sequence.to_le_bytes());
        out[40..48].copy_from_slice(&self.batch.to_le_bytes());
        out[48..52].copy_from_slice(&self.meta_crc.to_le_bytes());
        out[52..56].copy_from_slice(&self.content_crc.to_le_bytes());
        seal(&mut out);
        out
    }

    /// Reads a header of the segment with these random bytes; none if the octets are not one.
    #[must_use]
    pub fn decode(octets: &[u8; HEADER], tag: &Tag) -> Option<Self> {
        if octets[..16] != *tag || octets[17] != META_VERSION || octets[56..60] != [0; 4] || !is_sealed(octets) {
            return None;
        }
        let header = Self {
            kind: Kind::from_octet(octets[16])?,
            group_left: u16::from_le_bytes([octets[18], octets[19]]),
            meta: u32_at(octets, 20),
            content: u64_at(octets, 24),
            sequence: u64_at(octets, 32),
            batch: u64_at(octets, 40),
            meta_crc: u32_at(octets, 48),
            content_crc: u32_at(octets, 52),
        };
        (header.meta <= META_MAX && header.content <= CONTENT_MAX).then_some(header)
    }
}

fn seal(octets: &mut [u8; HEADER]) {
    let crc = crc32c::crc32c(&octets[..60]);
    octets[60..].copy_from_slice(&crc.to_le_bytes());
}

fn is_sealed(octets: &[u8; HEADER]) -> bool {
    crc32c::crc32c(&octets[..60]) == u32_at(octets, 60)
}

fn u32_at(octets: &[u8; HEADER], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&octets[at..at + 4]);
    u32::from_le_bytes(field)
}

fn u64_at(octets: &[u8; HEADER], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&octets[at..at + 8]);
    u64::from_le_bytes(field)
}

fn tag_at(octets: &[u8; HEADER]) -> Tag {
    let mut tag = [0; 16];
    tag.copy_from_slice(&octets[16..32]);
    tag
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> RecordHeader {
        RecordHeader {
            kind: Kind::Outcome,
            group_left: 2,
            meta: 300,
            content: 70_000,
            sequence: 1 << 40,
            batch: (1 << 40) - 3,
            meta_crc: 7,
            content_crc: 8,
        }
    }

    #[test]
    fn headers_come_back_as_they_were_written() {
        let segment = SegmentHeader { number: 7, tag: [9; 16], first: 100, created: 1_700_000_000_000 };
        assert_eq!(SegmentHeader::decode(&segment.encode()), Some(segment));
        assert_eq!(RecordHeader::decode(&header().encode(&[9; 16]), &[9; 16]), Some(header()));
        assert_eq!(RecordHeader::decode(&header().encode(&[9; 16]), &[8; 16]), None);
        for kind in Kind::ALL {
            assert_eq!(Kind::from_octet(kind as u8), Some(kind));
        }
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_never_accepted(bit in 0usize..HEADER * 8) {
            let mut octets = header().encode(&[9; 16]);
            octets[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(RecordHeader::decode(&octets, &[9; 16]), None);
            let mut octets = SegmentHeader { number: 7, tag: [9; 16], first: 100, created: 1 }.encode();
            octets[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(SegmentHeader::decode(&octets), None);
        }

        #[test]
        fn no_octets_make_the_decoder_panic(octets: [u8; 32], more: [u8; 32]) {
            let mut all = [0; HEADER];
            all[..32].copy_from_slice(&octets);
            all[32..].copy_from_slice(&more);
            let mut tag = [0; 16];
            tag.copy_from_slice(&octets[..16]);
            seal(&mut all);
            let _ = RecordHeader::decode(&all, &tag);
            let _ = SegmentHeader::decode(&all);
        }
    }
}
