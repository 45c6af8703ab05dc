//! Queue ids as file names: the time and the inode of the file, short (hexadecimal) or long (`enable_long_queue_ids`), and the hashed
//! directories of `hash_queue_names`.

/// The digits of long ids: no vowels.
const DIGITS: &[u8; 52] = b"0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz";
/// The longest name of a file.
const LONGEST: usize = 255;

/// The name of a file with this inode: the inode keeps names of one file system apart, so the time need not be now.
#[must_use]
pub fn name(seconds: u64, micros: u32, inode: u64, long: bool) -> String {
    if long {
        let inode = digits(inode, 51, 0);
        format!("{}{}z{inode}", digits(seconds, 52, 6), digits(u64::from(micros), 52, 4))
    } else {
        format!("{micros:05X}{inode:X}")
    }
}

/// Whether a file name may be a queue id: letters and digits (and `_`, for names of the flush service).
#[must_use]
pub fn is_id(name: &str) -> bool {
    !name.is_empty() && name.len() <= LONGEST && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The subdirectories of a hashed queue in which a file lies: one character each of the microseconds, with `/` behind each.
#[must_use]
pub fn forest(id: &str, depth: usize) -> String {
    let hashed = long_micros(id).map_or_else(|| id.to_owned(), |micros| format!("{micros:05X}"));
    let mut characters = hashed.chars();
    (0..depth).flat_map(|_| [characters.next().unwrap_or('_'), '/']).collect()
}

/// The microseconds of a long id; none for a short one.
fn long_micros(id: &str) -> Option<u64> {
    let separator = id.rfind('z').filter(|&at| at >= 10)?;
    id.get(separator - 4..separator)?.bytes().try_fold(0, |value, octet| {
        let digit = DIGITS.iter().position(|&known| known == octet)?;
        Some(value * 52 + digit as u64)
    })
}

fn digits(mut value: u64, base: u64, width: usize) -> String {
    let mut out = Vec::new();
    while value > 0 || out.len() < width.max(1) {
        // Below the base, which is not larger than the alphabet.
        out.push(DIGITS[(value % base) as usize]);
        value /= base;
    }
    out.iter().rev().map(|&digit| char::from(digit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_postfix_gives() {
        // Seen: the file B3730A241F2 had the inode 10633714.
        assert_eq!(name(1_795_381_896, 0xB3730, 10_633_714, false), "B3730A241F2");
        assert_eq!(name(0, 5, 255, false), "00005FF");
        let long = name(1_795_381_896, 735_024, 10_633_714, true);
        assert!(long.len() > 12 && long.contains('z'), "{long}");
        assert!(is_id(&long) && is_id("B3730A241F2") && !is_id("735024.123") && !is_id("A#FIX") && !is_id(""));
    }

    #[test]
    fn hashed_directories_come_from_the_microseconds_of_either_form() {
        assert_eq!(forest("B3730A241F2", 1), "B/");
        assert_eq!(forest("B3730A241F2", 2), "B/3/");
        let long = name(1_795_381_896, 0xB3730, 10_633_714, true);
        assert_eq!(forest(&long, 2), "B/3/");
        assert_eq!(forest("A", 2), "A/_/");
    }
}
