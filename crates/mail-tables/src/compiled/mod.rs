//! Files that postmap makes: cdb, LMDB, and the Berkeley DB files of hash and btree tables. Readers take a whole file as it is, whoever wrote it, and
//! give its entries; writers make a whole new file.
//!
//! A reader believes nothing: every offset is checked, chains have an end, and more octets than the file can hold are never gathered.

mod berkeley;
mod cdb;
mod lmdb;

pub use berkeley::read as read_berkeley;
pub use cdb::{read as read_cdb, write as write_cdb};
pub use lmdb::{read as read_lmdb, write as write_lmdb};

/// Keys and values, in the order of the file.
pub type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// The text of a key or value: programs that keep a terminating NUL and programs that do not read each other's files.
pub(crate) fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets.strip_suffix(b"\0").unwrap_or(octets)).into_owned()
}

/// A range of octets of a file.
fn slice(file: &[u8], at: usize, length: usize) -> Result<&[u8], String> {
    let end = at.checked_add(length);
    end.and_then(|end| file.get(at..end)).ok_or_else(|| "it is cut off or damaged".to_owned())
}

fn little_u16(file: &[u8], at: usize) -> Result<u16, String> {
    let octets = slice(file, at, 2)?;
    Ok(u16::from_le_bytes([octets[0], octets[1]]))
}

fn little_u32(file: &[u8], at: usize) -> Result<u32, String> {
    let octets = slice(file, at, 4)?;
    Ok(u32::from_le_bytes([octets[0], octets[1], octets[2], octets[3]]))
}

fn little_u64(file: &[u8], at: usize) -> Result<u64, String> {
    Ok(u64::from(little_u32(file, at)?) | u64::from(little_u32(file, at + 4)?) << 32)
}

fn place(number: u64) -> Result<usize, String> {
    usize::try_from(number).map_err(|_| "a number in it is too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn what_was_written_is_read(pairs in proptest::collection::btree_map("[a-z]{1,40}", "[ -~]{0,3000}", 0..60)) {
            let pairs: Pairs = pairs.into_iter().map(|(key, value)| (key.into_bytes(), value.into_bytes())).collect();
            proptest::prop_assert_eq!(&read_cdb(&write_cdb(&pairs).expect("small")).expect("sound"), &pairs);
            proptest::prop_assert_eq!(&read_lmdb(&write_lmdb(&pairs).expect("small")).expect("sound"), &pairs);
        }

        #[test]
        fn damage_is_noticed_or_harmless(at in 0usize..20_000, octet: u8, cut in 0usize..20_000) {
            let pairs: Pairs = (0..200).map(|n: u32| (format!("key{n:03}").into_bytes(), vec![b'v'; 40])).collect();
            for (write, read) in [(write_cdb as fn(&Pairs) -> _, read_cdb as fn(&[u8]) -> _), (write_lmdb, read_lmdb)] {
                let mut file: Vec<u8> = write(&pairs).expect("small");
                if let Some(place) = file.get_mut(at) {
                    *place = octet;
                }
                let _: Result<Pairs, String> = read(&file);
                file.truncate(cut);
                let _ = read(&file);
            }
        }
    }
}
