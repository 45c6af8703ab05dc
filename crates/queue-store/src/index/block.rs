//! Many entries in one value of sled.
//!
//! sled keeps a leaf for every dozen of entries, whole in memory, and each entry costs it more than a hundred octets beside its own. Neighbours
//! are therefore kept together: a block holds entries in the order of their keys, each without what it shares with the one before it (of its
//! key the beginning, of its value the beginning and the end), and its name in sled is not greater than the least key it may hold.

use super::{IndexError, Key, Value, Write};

/// A block that would be longer is cut into pieces; octets.
const MOST: usize = 1536;
/// The length of such a piece, as far as single entries allow.
const PIECE: usize = 1024;
/// A block that would be shorter takes the next one in.
const LEAST: usize = 384;

/// The name of a block that holds the least keys.
pub const FIRST: &[u8] = b"\0";

/// A key with its value.
type Entry<'a> = (&'a [u8], &'a [u8]);

/// The entries of a block, in order; reading ends at the first that is not what [`Pieces`] writes.
pub struct Entries<'a> {
    rest: &'a [u8],
    key: Vec<u8>,
    value: Vec<u8>,
    /// The value before it, whose room is used again.
    before: Vec<u8>,
}

impl<'a> Entries<'a> {
    pub fn of(block: &'a [u8]) -> Self {
        Self { rest: block, key: Vec::with_capacity(64), value: Vec::new(), before: Vec::new() }
    }

    /// The next key with its value.
    pub fn next(&mut self) -> Result<Option<Entry<'_>>, IndexError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        self.read().ok_or_else(|| IndexError("a block is not what was written".to_owned()))?;
        Ok(Some((&self.key, &self.value)))
    }

    fn read(&mut self) -> Option<()> {
        let shared = self.number().filter(|shared| *shared <= self.key.len())?;
        self.key.truncate(shared);
        let own = self.octets()?;
        self.key.extend_from_slice(own);
        let (begin, end) = (self.number()?, self.number()?);
        let own = self.octets()?;
        std::mem::swap(&mut self.value, &mut self.before);
        let end = self.before.len().checked_sub(end).filter(|end| begin <= *end)?;
        self.value.clear();
        [&self.before[..begin], own, &self.before[end..]].iter().for_each(|part| self.value.extend_from_slice(part));
        Some(())
    }

    fn number(&mut self) -> Option<usize> {
        let mut number = 0_usize;
        for shift in [0, 7, 14, 21, 28] {
            let (&octet, rest) = self.rest.split_first()?;
            self.rest = rest;
            number |= usize::from(octet & 0x7f) << shift;
            if octet < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn octets(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        let (octets, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(octets)
    }
}

/// The value of a key in a block.
pub fn find(block: &[u8], key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
    let mut entries = Entries::of(block);
    while let Some((known, value)) = entries.next()? {
        if known >= key {
            return Ok((known == key).then(|| value.to_vec()));
        }
    }
    Ok(None)
}

/// A block while it is changed.
#[derive(Default)]
pub struct Changed {
    entries: Vec<(Key, Value)>,
}

impl Changed {
    /// Takes in the entries of a block whose keys are greater than all that are here.
    pub fn take_in(&mut self, block: &[u8]) -> Result<(), IndexError> {
        let mut entries = Entries::of(block);
        while let Some((key, value)) = entries.next()? {
            self.entries.push((key.into(), value.into()));
        }
        Ok(())
    }

    /// Carries out writes, which are in the order of their keys.
    pub fn write(&mut self, writes: impl IntoIterator<Item = Write>) {
        let mut before = std::mem::take(&mut self.entries).into_iter().peekable();
        for (key, value) in writes {
            self.entries.extend(std::iter::from_fn(|| before.next_if(|(known, _)| *known < key)));
            before.next_if(|(known, _)| *known == key);
            self.entries.extend(value.map(|value| (key, value)));
        }
        self.entries.extend(before);
    }

    /// Whether the next block belongs to it.
    pub fn is_short(&self) -> bool {
        let mut length = 0;
        !self.entries.iter().any(|(key, value)| {
            length += key.len() + value.len();
            length >= LEAST
        })
    }

    /// The blocks that it becomes, with their names: the first keeps the one given.
    pub fn pieces(self, name: Key) -> Vec<(Key, Vec<u8>)> {
        let whole = Piece::of(&self.entries, usize::MAX).0;
        if whole.len() <= MOST {
            return if whole.is_empty() { Vec::new() } else { vec![(name, whole)] };
        }
        let (mut pieces, mut name, mut rest) = (Vec::new(), Some(name), &self.entries[..]);
        while let Some((first, _)) = rest.first() {
            let (piece, count) = Piece::of(rest, PIECE);
            pieces.push((name.take().unwrap_or_else(|| first.clone()), piece));
            rest = &rest[count..];
        }
        pieces
    }
}

/// A block that is being written.
struct Piece(Vec<u8>);

impl Piece {
    /// The block of the first entries, until it has so many octets; and how many they are, at least one.
    fn of(entries: &[(Key, Value)], octets: usize) -> (Vec<u8>, usize) {
        let (mut piece, mut before, mut count) = (Self(Vec::new()), (&[][..], &[][..]), 0);
        for (key, value) in entries {
            if piece.0.len() >= octets {
                break;
            }
            let shared = alike(key, before.0, |octets, at| octets.get(at));
            piece.number(shared);
            piece.octets(&key[shared..]);
            let begin = alike(value, before.1, |octets, at| octets.get(at));
            let rests = (&value[begin..], &before.1[begin..]);
            let end = alike(rests.0, rests.1, |octets, at| octets.get(octets.len().wrapping_sub(at + 1)));
            piece.number(begin);
            piece.number(end);
            piece.octets(&value[begin..value.len() - end]);
            (before, count) = ((&key[..], &value[..]), count + 1);
        }
        (piece.0, count)
    }

    fn number(&mut self, mut number: usize) {
        while number > 0x7f {
            self.0.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn octets(&mut self, octets: &[u8]) {
        self.number(octets.len());
        self.0.extend_from_slice(octets);
    }
}

/// How many octets are the same, from either end, until one differs.
fn alike(one: &[u8], other: &[u8], octet: impl Fn(&[u8], usize) -> Option<&u8>) -> usize {
    let mut same = 0;
    while octet(one, same).is_some_and(|own| octet(other, same) == Some(own)) {
        same += 1;
    }
    same
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Hardly alike.
    fn value_of(key: &str) -> Vec<u8> {
        let last = *key.as_bytes().last().expect("a name");
        (0..20).map(|n| last.wrapping_mul(n * 2 + 7)).collect()
    }

    fn changed(keys: impl IntoIterator<Item = String>) -> Changed {
        let mut changed = Changed::default();
        changed.write(keys.into_iter().map(|key| (key.as_bytes().into(), Some(value_of(&key).into()))));
        changed
    }

    #[test]
    fn a_long_block_is_cut_and_a_short_one_wants_more() {
        assert!(changed(["a".to_owned()]).is_short());
        let many = || changed((100..200).map(|n| format!("key {n}")));
        assert!(!many().is_short());
        let pieces = many().pieces(FIRST.into());
        assert_eq!((pieces.len(), &*pieces[0].0), (3, FIRST));
        for (name, piece) in &pieces {
            assert!(piece.len() < PIECE + 40, "{}", piece.len());
            let mut entries = Entries::of(piece);
            let first = entries.next().expect("sound").expect("one").0.to_vec();
            assert!(**name == first || **name == *FIRST);
        }
        let found = find(&pieces[1].1, b"key 150").expect("sound");
        assert_eq!((found, find(&pieces[1].1, b"key 1500")), (Some(value_of("key 150")), Ok(None)));
        assert!(changed([]).pieces(FIRST.into()).is_empty());
    }

    #[test]
    fn what_neighbours_share_is_written_once() {
        let value =
            |n: u32| format!("\u{1}user{n}@example.org connect to mail.example.org: Connection refused").into_bytes();
        let mut changed = Changed::default();
        changed.write((100..110).map(|n| (format!("key {n}").as_bytes().into(), Some(value(n).into()))));
        let pieces = changed.pieces(FIRST.into());
        assert!(pieces[0].1.len() < 100 + 10 * 10, "{}", pieces[0].1.len());
        for n in 100..110 {
            assert_eq!(find(&pieces[0].1, format!("key {n}").as_bytes()), Ok(Some(value(n))));
        }
    }

    proptest! {
        #[test]
        fn damage_is_an_error_and_no_panic(octets: Vec<u8>) {
            let mut changed = Changed::default();
            let _ = (find(&octets, b"key"), changed.take_in(&octets));
        }
    }
}
