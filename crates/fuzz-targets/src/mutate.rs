//! A small mutator: the same seed and number always give the same input.

/// A generator of numbers that are good enough to choose places (xorshift*).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator that begins from a name and a number.
    #[must_use]
    pub fn new(name: &str, number: u64) -> Self {
        // FNV-1a.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
            (hash ^ u64::from(octet)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self((hash ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1)
    }

    /// A number below `end`, which is at least 1.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let next = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        usize::try_from(next).unwrap_or(0) % end.max(1)
    }
}

/// Octets at which grammars turn.
const OCTETS: &[u8] = b"\r\n\0\t \"\\.,:;()<>[]{}@%$=+-*?/!#&|~'`\x01\x7f\x80\xc3\xff0a";
/// No input grows beyond this.
const LENGTH_MAX: usize = 16 * 1024;

/// A mutation of `seed`: one to eight changes of octets, tokens and stretches, some taken from `other`.
#[must_use]
pub fn mutate(seed: &[u8], other: &[u8], tokens: &[&str], random: &mut Random) -> Vec<u8> {
    let mut input = seed.to_vec();
    for _ in 0..=random.below(8) {
        change(&mut input, other, tokens, random);
        input.truncate(LENGTH_MAX);
    }
    input
}

fn change(input: &mut Vec<u8>, other: &[u8], tokens: &[&str], random: &mut Random) {
    let at = random.below(input.len() + 1);
    let until = (at + 1 + random.below(12)).min(input.len());
    match random.below(10) {
        0 | 1 => {
            if let Some(octet) = input.get_mut(at) {
                *octet = OCTETS[random.below(OCTETS.len())];
            }
        }
        2 => {
            if let Some(octet) = input.get_mut(at) {
                *octet ^= 1 << random.below(8);
            }
        }
        3 => input.insert(at, OCTETS[random.below(OCTETS.len())]),
        4 => drop(input.drain(at..until)),
        5 if !tokens.is_empty() => insert(input, at, tokens[random.below(tokens.len())].as_bytes()),
        6 if !tokens.is_empty() => {
            drop(input.drain(at..until));
            insert(input, at, tokens[random.below(tokens.len())].as_bytes());
        }
        7 => {
            let piece = input[at..until].to_vec();
            let times = 1 << random.below(8);
            insert(input, at, &piece.repeat(times));
        }
        8 => {
            let from = random.below(other.len() + 1);
            let length = random.below(64);
            insert(input, at, &other[from..(from + length).min(other.len())]);
        }
        _ => input.truncate(at),
    }
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    let _ = input.splice(at..at, piece.iter().copied());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_number_gives_the_same_input_and_another_gives_another() {
        let input = |number| mutate(b"MAIL FROM:<a@b>", b"RCPT TO:<c@d>", &["<", ">"], &mut Random::new("a", number));
        assert_eq!(input(1), input(1));
        let different = (0..100).map(input).collect::<std::collections::BTreeSet<_>>().len();
        assert!(different > 80, "{different}");
    }
}
