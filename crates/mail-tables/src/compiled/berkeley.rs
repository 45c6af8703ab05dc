//! Berkeley DB files of hash and btree tables, as versions 4 and 5 of its library write them: pages of one size, whose items are keys and values in turn.

use super::{Pairs, place, slice};

const HASH_MAGIC: u32 = 0x0006_1561;
const BTREE_MAGIC: u32 = 0x0005_3162;
/// Where a page's own octets begin, behind its header.
const HEADER: usize = 26;
/// Page types with keys and values.
const HASH_PAGES: [u8; 2] = [2, 13];
const BTREE_LEAF: u8 = 5;
const OVERFLOW: u8 = 7;

/// The entries of a file, in the order of its pages.
///
/// # Errors
/// It is cut off, damaged, encrypted, or made by a library before version 3.
pub fn read(octets: &[u8]) -> Result<Pairs, String> {
    let mut file = File::open(octets)?;
    let mut pairs = Pairs::new();
    for number in 1..octets.len() / file.page {
        let page = file.page(number)?;
        match (file.is_hash, page[25]) {
            (true, kind) if HASH_PAGES.contains(&kind) => file.items(page, &mut pairs, File::hash_item)?,
            (false, BTREE_LEAF) => file.items(page, &mut pairs, File::btree_item)?,
            _ => {}
        }
    }
    Ok(pairs)
}

struct File<'a> {
    octets: &'a [u8],
    page: usize,
    is_hash: bool,
    swapped: bool,
    /// What may still be gathered: every octet of the file belongs to one item.
    left: usize,
}

/// Reads the item at an index of a page; none for one that was deleted.
type Item<'a> = fn(&mut File<'a>, &'a [u8], usize) -> Result<Option<Vec<u8>>, String>;

impl<'a> File<'a> {
    fn open(octets: &'a [u8]) -> Result<Self, String> {
        let mut file = Self { octets, page: 0, is_hash: false, swapped: false, left: octets.len() };
        let magic = file.u32(octets, 12)?;
        file.swapped = [HASH_MAGIC, BTREE_MAGIC].contains(&magic.swap_bytes());
        file.is_hash = match file.u32(octets, 12)? {
            HASH_MAGIC => true,
            BTREE_MAGIC => false,
            _ => return Err("it is no Berkeley DB file of a hash or btree table".to_owned()),
        };
        if slice(octets, 24, 1)?[0] != 0 || slice(octets, 26, 1)?[0] & 1 != 0 {
            return Err("it has checksums or is encrypted, which Postfix never asks for".to_owned());
        }
        file.page = place(u64::from(file.u32(octets, 20)?))?;
        if !file.page.is_power_of_two() || !(512..=65536).contains(&file.page) {
            return Err(format!("its pages of {} octets cannot be right", file.page));
        }
        Ok(file)
    }

    fn page(&self, number: usize) -> Result<&'a [u8], String> {
        slice(self.octets, number.saturating_mul(self.page), self.page)
    }

    /// Keys and values in turn.
    fn items(&mut self, page: &'a [u8], pairs: &mut Pairs, item: Item<'a>) -> Result<(), String> {
        let count = usize::from(self.u16(page, 20)?);
        for index in (0..count.saturating_sub(1)).step_by(2) {
            if let (Some(key), Some(value)) = (item(self, page, index)?, item(self, page, index + 1)?) {
                let used = self.left.checked_sub(key.len() + value.len());
                self.left = used.ok_or("its pages are used twice")?;
                pairs.push((key, value));
            }
        }
        Ok(())
    }

    fn offset(&self, page: &[u8], index: usize) -> Result<usize, String> {
        Ok(usize::from(self.u16(page, HEADER + index * 2)?))
    }

    /// An item of a hash page lasts until the one before it begins.
    fn hash_item(&mut self, page: &'a [u8], index: usize) -> Result<Option<Vec<u8>>, String> {
        let at = self.offset(page, index)?;
        let end = if index == 0 { page.len() } else { self.offset(page, index - 1)? };
        let item = page.get(at..end).ok_or("a page of it is damaged")?;
        match item.first() {
            Some(1) => Ok(Some(item[1..].to_vec())),
            Some(3) => self.overflow(self.u32(item, 4)?, self.u32(item, 8)?).map(Some),
            _ => Err("it holds several values for one key".to_owned()),
        }
    }

    fn btree_item(&mut self, page: &'a [u8], index: usize) -> Result<Option<Vec<u8>>, String> {
        let at = self.offset(page, index)?;
        match slice(page, at + 2, 1)?[0] {
            1 => Ok(Some(slice(page, at + 3, usize::from(self.u16(page, at)?))?.to_vec())),
            3 => self.overflow(self.u32(page, at + 4)?, self.u32(page, at + 8)?).map(Some),
            kind if kind & 0x80 != 0 => Ok(None),
            _ => Err("it holds several values for one key".to_owned()),
        }
    }

    /// What lies in pages of its own.
    fn overflow(&self, first: u32, length: u32) -> Result<Vec<u8>, String> {
        let length = place(u64::from(length))?;
        if length > self.left {
            return Err("a value of it is longer than the file".to_owned());
        }
        let (mut out, mut number) = (Vec::new(), first);
        while out.len() < length {
            let page = self.page(place(u64::from(number))?)?;
            let held = usize::from(self.u16(page, 22)?);
            if page[25] != OVERFLOW || held == 0 {
                return Err("a page of it is damaged".to_owned());
            }
            out.extend_from_slice(slice(page, HEADER, held)?);
            number = self.u32(page, 16)?;
        }
        out.truncate(length);
        Ok(out)
    }

    fn u16(&self, octets: &[u8], at: usize) -> Result<u16, String> {
        let number = super::little_u16(octets, at)?;
        Ok(if self.swapped { number.swap_bytes() } else { number })
    }

    fn u32(&self, octets: &[u8], at: usize) -> Result<u32, String> {
        let number = super::little_u32(octets, at)?;
        Ok(if self.swapped { number.swap_bytes() } else { number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn no_file_breaks_the_reader(mut octets in proptest::collection::vec(proptest::num::u8::ANY, 0..3000), hash: bool) {
            let head = [(12, if hash { HASH_MAGIC } else { BTREE_MAGIC }), (20, 512), (24, 0)];
            for (at, number) in head {
                if let Some(place) = octets.get_mut(at..at + 4) {
                    place.copy_from_slice(&number.to_le_bytes());
                }
            }
            for page in octets.chunks_mut(512).skip(1) {
                if let Some(kind) = page.get_mut(25) {
                    *kind = [13, 5, 7][usize::from(*kind) % 3];
                }
            }
            let _ = read(&octets);
        }
    }
}
