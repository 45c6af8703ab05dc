//! Sets of message numbers and UIDs: as the client wrote them, and resolved against a mailbox.

use std::num::NonZeroU32;

use nom::Parser;
use nom::branch::alt;
use nom::character::complete::char;
use nom::combinator::{map, map_opt, opt, value};
use nom::multi::separated_list1;
use nom::sequence::preceded;
use serde::{Deserialize, Serialize};

use super::{Parsed, number};

/// `seq-number = nz-number / "*"`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeqNumber {
    /// A number.
    Number(NonZeroU32),
    /// `*`: the last one in use.
    Last,
}

/// `sequence-set`, as the client wrote it: numbers or UIDs, ranges in either order. Its length is bounded by that of the command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SequenceSet(pub Vec<(SeqNumber, SeqNumber)>);

/// Inclusive ranges, sorted, without overlap and merged: what a sequence set means in one mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ranges(Vec<(u32, u32)>);

impl SequenceSet {
    /// The ranges, with `*` as `last`. `9:*` contains `last` even where `last` is smaller (I16). An empty mailbox (`last` 0) gives `*` no meaning:
    /// a range from `*` to `*` is empty then.
    #[must_use]
    pub fn resolve(&self, last: u32) -> Ranges {
        let at = |n: SeqNumber| match n {
            SeqNumber::Number(n) => n.get(),
            SeqNumber::Last => last,
        };
        self.0.iter().map(|&(a, b)| (at(a).min(at(b)), at(a).max(at(b)))).filter(|&(_, end)| end > 0).collect()
    }
}

impl FromIterator<(u32, u32)> for Ranges {
    fn from_iter<I: IntoIterator<Item = (u32, u32)>>(ranges: I) -> Self {
        let mut ranges: Vec<_> = ranges.into_iter().collect();
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
        for (start, end) in ranges {
            match merged.last_mut() {
                Some(last) if start <= last.1.saturating_add(1) => last.1 = last.1.max(end),
                _ => merged.push((start, end)),
            }
        }
        Self(merged)
    }
}

impl Ranges {
    /// Ranges of single numbers.
    #[must_use]
    pub fn of_numbers(numbers: &[u32]) -> Self {
        numbers.iter().map(|&n| (n, n)).collect()
    }

    /// The ranges, first and last number of each.
    #[must_use]
    pub fn as_slice(&self) -> &[(u32, u32)] {
        &self.0
    }

    /// Whether nothing is in them.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The largest number.
    #[must_use]
    pub fn last(&self) -> Option<u32> {
        self.0.last().map(|r| r.1)
    }

    /// The smallest number.
    #[must_use]
    pub fn first(&self) -> Option<u32> {
        self.0.first().map(|r| r.0)
    }

    /// Whether a number is in them; logarithmic.
    #[must_use]
    pub fn contains(&self, number: u32) -> bool {
        let at = self.0.partition_point(|r| r.1 < number);
        self.0.get(at).is_some_and(|r| r.0 <= number)
    }

    /// How many numbers they hold.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|&(a, b)| u64::from(b - a) + 1).sum()
    }

    /// Every number, in order. Only for ranges that are known to be inside a mailbox.
    pub fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().flat_map(|&(a, b)| a..=b)
    }
}

/// `uid-set` as responses write it (COPYUID, APPENDUID): `1:3,7`. The order is kept, because COPYUID pairs two sets.
impl std::fmt::Display for Ranges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, (a, b)) in self.0.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            if a == b { write!(f, "{comma}{a}")? } else { write!(f, "{comma}{a}:{b}")? }
        }
        Ok(())
    }
}

fn seq_number(input: &[u8]) -> Parsed<'_, SeqNumber> {
    alt((map(map_opt(number, NonZeroU32::new), SeqNumber::Number), value(SeqNumber::Last, char('*')))).parse(input)
}

fn seq_range(input: &[u8]) -> Parsed<'_, (SeqNumber, SeqNumber)> {
    map((seq_number, opt(preceded(char(':'), seq_number))), |(a, b)| (a, b.unwrap_or(a))).parse(input)
}

/// `sequence-set = (seq-number / seq-range) *("," sequence-set)`
pub(crate) fn sequence_set(input: &[u8]) -> Parsed<'_, SequenceSet> {
    map(separated_list1(char(','), seq_range), SequenceSet).parse(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(text: &str, last: u32) -> String {
        sequence_set(text.as_bytes()).expect("a set").1.resolve(last).to_string()
    }

    #[test]
    fn sets_are_sorted_and_merged_and_a_star_is_the_last_even_if_smaller() {
        // I16
        let cases = [
            ("1", 9, "1"),
            ("4:2,3,9", 9, "2:4,9"),
            ("*", 9, "9"),
            ("12:*", 9, "9:12"),
            ("*:3", 9, "3:9"),
            ("1:*", 0, "0:1"),
            ("*", 0, ""),
            ("1,2,3,3,2,1", 9, "1:3"),
        ];
        for (text, last, expected) in cases {
            assert_eq!(resolved(text, last), expected, "{text}");
        }
    }

    #[test]
    fn zero_and_what_is_no_number_is_no_set() {
        for bad in ["0", "", ",1", "a", "4294967296"] {
            assert!(sequence_set(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn merged_ranges_hold_exactly_the_numbers_of_the_set(pairs in proptest::collection::vec((1u32..60, 1u32..60), 0..12), probe in 1u32..70) {
            let ranges: Ranges = pairs.iter().map(|&(a, b)| (a.min(b), a.max(b))).collect();
            let expected = pairs.iter().any(|&(a, b)| (a.min(b)..=a.max(b)).contains(&probe));
            proptest::prop_assert_eq!(ranges.contains(probe), expected);
        }
    }
}
