//! Constant databases (D. J. Bernstein's cdb): 256 hash tables behind the records.

use super::{Pairs, little_u32, place, slice};

const HEADER: usize = 2048;

/// The entries of a file.
///
/// # Errors
/// It is cut off or damaged.
pub fn read(file: &[u8]) -> Result<Pairs, String> {
    // The records end where the first hash table begins.
    let tables = slice(file, 0, HEADER)?.chunks_exact(8);
    let first = tables.map(|table| u32::from_le_bytes([table[0], table[1], table[2], table[3]])).min();
    let end = place(u64::from(first.unwrap_or_default()))?;
    if end < HEADER || end > file.len() {
        return Err("it is no cdb file, or cut off".to_owned());
    }
    let (mut pairs, mut at) = (Pairs::new(), HEADER);
    while at < end {
        let (key, value) = (little_u32(file, at)?, little_u32(file, at + 4)?);
        let (key, value) = (place(u64::from(key))?, place(u64::from(value))?);
        let octets = slice(file, at + 8, key.saturating_add(value))?;
        pairs.push((octets[..key].to_vec(), octets[key..].to_vec()));
        at += 8 + key + value;
    }
    Ok(pairs)
}

/// A file with these entries, each key once.
///
/// # Errors
/// More than 4 GiB do not fit.
pub fn write(pairs: &Pairs) -> Result<Vec<u8>, String> {
    let number = |octets: usize| u32::try_from(octets).map_err(|_| "a cdb file holds no more than 4 GiB".to_owned());
    let mut file = vec![0; HEADER];
    let mut tables: Vec<Vec<(u32, u32)>> = vec![Vec::new(); 256];
    for (key, value) in pairs {
        let hash = hash(key);
        let table = usize::try_from(hash & 0xff).unwrap_or_default();
        tables[table].push((hash, number(file.len())?));
        file.extend(number(key.len())?.to_le_bytes());
        file.extend(number(value.len())?.to_le_bytes());
        file.extend_from_slice(key);
        file.extend_from_slice(value);
    }
    for (number_of, table) in tables.iter().enumerate() {
        let (at, slots) = (number(file.len())?, number(table.len() * 2)?);
        file[number_of * 8..number_of * 8 + 4].copy_from_slice(&at.to_le_bytes());
        file[number_of * 8 + 4..number_of * 8 + 8].copy_from_slice(&slots.to_le_bytes());
        for (hash, position) in filled(table) {
            file.extend(hash.to_le_bytes());
            file.extend(position.to_le_bytes());
        }
    }
    number(file.len())?;
    Ok(file)
}

/// The slots of one table: each entry in the first free one from the one that its hash names.
fn filled(table: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let mut slots = vec![(0, 0); table.len() * 2];
    for &(hash, position) in table {
        let mut slot = usize::try_from(hash >> 8).unwrap_or_default() % slots.len();
        while slots[slot].1 != 0 {
            slot = (slot + 1) % slots.len();
        }
        slots[slot] = (hash, position);
    }
    slots
}

fn hash(key: &[u8]) -> u32 {
    key.iter().fold(5381, |hash: u32, octet| (hash << 5).wrapping_add(hash) ^ u32::from(*octet))
}
