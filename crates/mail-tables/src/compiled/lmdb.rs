//! LMDB files with one unnamed database: two meta pages, and a B+ tree.

use super::{Pairs, little_u16, little_u32, little_u64, place, slice};

/// Where a page's own octets begin, behind its header.
const HEADER: usize = 16;
/// The octets of a node before its key.
const NODE: usize = 8;
const MAGIC: u32 = 0xBEEF_C0DE;
/// The version of the format that LMDB 0.9 reads and writes.
const VERSION: u32 = 1;
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
const OVERFLOW: u16 = 4;
const META: u16 = 8;
/// A value that lies in pages of its own.
const BIG: u16 = 1;
/// No page.
const NONE: u64 = u64::MAX;
/// More levels than a tree of 2^48 pages has.
const DEPTH_MAX: usize = 64;
/// The page size of the files that we write.
const PAGE: usize = 4096;
/// A larger node goes to pages of its own: two must fit into one page.
const NODE_MAX: usize = (((PAGE - HEADER) / 2) & !1) - 2;
/// LMDB's longest key.
const KEY_MAX: usize = 511;
/// The least size of the map that a file asks for (`lmdb_map_size`).
const MAP_MIN: u64 = 16 << 20;

/// The entries of a file, in the order of their keys.
///
/// # Errors
/// It is cut off or damaged, or of another version.
pub fn read(file: &[u8]) -> Result<Pairs, String> {
    let first = Meta::read(file, 0)?;
    let page = first.page;
    let meta = match Meta::read(file, page) {
        Ok(second) if second.transaction > first.transaction => second,
        _ => first,
    };
    if !(512..=65536).contains(&page) {
        return Err(format!("its pages of {page} octets cannot be right"));
    }
    let mut pairs = Pairs::new();
    let mut reader = Reader { file, page, pages_left: file.len() / page, left: file.len() };
    if meta.root != NONE {
        reader.tree(meta.root, 0, &mut pairs)?;
    }
    Ok(pairs)
}

struct Meta {
    page: usize,
    root: u64,
    transaction: u64,
}

impl Meta {
    fn read(file: &[u8], at: usize) -> Result<Self, String> {
        let at = at + HEADER;
        if little_u32(file, at)? != MAGIC || little_u32(file, at + 4)? != VERSION {
            return Err("it is no LMDB file of this machine's byte order and version 1".to_owned());
        }
        Ok(Self {
            page: place(u64::from(little_u32(file, at + 24)?))?,
            root: little_u64(file, at + 24 + 48 + 40)?,
            transaction: little_u64(file, at + 24 + 96 + 8)?,
        })
    }
}

struct Reader<'a> {
    file: &'a [u8],
    page: usize,
    /// How many pages may still be visited: a tree visits each page once.
    pages_left: usize,
    /// What may still be gathered: every octet of the file belongs to one node.
    left: usize,
}

impl Reader<'_> {
    fn tree(&mut self, number: u64, depth: usize, pairs: &mut Pairs) -> Result<(), String> {
        self.pages_left = self.pages_left.checked_sub(1).ok_or("its pages lead in a circle")?;
        if depth > DEPTH_MAX {
            return Err("its tree is too deep".to_owned());
        }
        let at = place(number)?.checked_mul(self.page).ok_or("a page number in it is too large")?;
        let octets = slice(self.file, at, self.page)?;
        let (flags, lower) = (little_u16(octets, 10)?, usize::from(little_u16(octets, 12)?));
        let nodes = lower.checked_sub(HEADER).ok_or("a page of it is damaged")? / 2;
        for node in 0..nodes {
            let node = usize::from(little_u16(octets, HEADER + node * 2)?);
            let (low, high) = (little_u16(octets, node)?, little_u16(octets, node + 2)?);
            let (more, key) = (little_u16(octets, node + 4)?, usize::from(little_u16(octets, node + 6)?));
            let size = u64::from(low) | u64::from(high) << 16;
            if flags & BRANCH != 0 {
                self.tree(size | u64::from(more) << 32, depth + 1, pairs)?;
            } else if flags & LEAF != 0 {
                let name = slice(octets, node + NODE, key)?.to_vec();
                let value = self.value(octets, node + NODE + key, place(size)?, more)?;
                let used = self.left.checked_sub(name.len() + value.len());
                self.left = used.ok_or("its nodes lie upon each other")?;
                pairs.push((name, value));
            } else {
                return Err("a page of it is damaged".to_owned());
            }
        }
        Ok(())
    }

    fn value(&mut self, octets: &[u8], at: usize, size: usize, flags: u16) -> Result<Vec<u8>, String> {
        match flags {
            0 => Ok(slice(octets, at, size)?.to_vec()),
            BIG => {
                self.pages_left =
                    self.pages_left.checked_sub(size.div_ceil(self.page).max(1)).ok_or("its pages are used twice")?;
                let first = place(little_u64(octets, at)?)?;
                let at = first.checked_mul(self.page).ok_or("a page number in it is too large")?;
                Ok(slice(self.file, at.saturating_add(HEADER), size)?.to_vec())
            }
            _ => Err("it holds other than one value for each key".to_owned()),
        }
    }
}

/// A file with these entries, each key once.
///
/// # Errors
/// A key is empty or longer than 511 octets.
pub fn write(pairs: &Pairs) -> Result<Vec<u8>, String> {
    let mut sorted: Vec<_> = pairs.iter().collect();
    sorted.sort();
    let mut writer = Writer { file: vec![0; 2 * PAGE], overflow: 0 };
    let mut nodes = Vec::with_capacity(sorted.len());
    for (key, value) in sorted {
        if key.is_empty() || key.len() > KEY_MAX {
            return Err(format!("a key must have 1 to {KEY_MAX} octets: {}", String::from_utf8_lossy(key)));
        }
        nodes.push((key.clone(), writer.leaf(key, value)?));
    }
    let (mut level, mut depth, mut branches, mut leaves) = (writer.level(nodes, LEAF), 1, 0, 0);
    leaves += level.len();
    while level.len() > 1 {
        let nodes = level.into_iter().map(|(key, page)| branch(key, page));
        level = writer.level(nodes.collect(), BRANCH);
        branches += level.len();
        depth += 1;
    }
    let root = level.first().map_or(NONE, |(_, page)| *page);
    let tree = Tree { depth: if root == NONE { 0 } else { depth }, branches, leaves, entries: pairs.len(), root };
    Ok(writer.finish(&tree))
}

struct Tree {
    depth: u16,
    branches: usize,
    leaves: usize,
    entries: usize,
    root: u64,
}

struct Writer {
    file: Vec<u8>,
    overflow: usize,
}

/// A key of a node and its octets, padded to an even number.
type Node = (Vec<u8>, Vec<u8>);

impl Writer {
    fn pages(&self) -> u64 {
        (self.file.len() / PAGE) as u64
    }

    /// A node of a leaf; its value goes to pages of its own where it is large.
    fn leaf(&mut self, key: &[u8], value: &[u8]) -> Result<Vec<u8>, String> {
        let size = u32::try_from(value.len()).map_err(|_| "a value of more than 4 GiB".to_owned())?;
        let big = NODE + key.len() + value.len() > NODE_MAX;
        let mut node = size.to_le_bytes().to_vec();
        node.extend((if big { BIG } else { 0 }).to_le_bytes());
        node.extend(u16::try_from(key.len()).unwrap_or_default().to_le_bytes());
        node.extend_from_slice(key);
        if big {
            node.extend(self.own_pages(value).to_le_bytes());
        } else {
            node.extend_from_slice(value);
        }
        Ok(node)
    }

    fn own_pages(&mut self, value: &[u8]) -> u64 {
        let number = self.pages();
        let count = (HEADER + value.len()).div_ceil(PAGE);
        self.overflow += count;
        self.file.extend(number.to_le_bytes());
        self.file.extend(0u16.to_le_bytes());
        self.file.extend(OVERFLOW.to_le_bytes());
        self.file.extend(u32::try_from(count).unwrap_or_default().to_le_bytes());
        self.file.extend_from_slice(value);
        self.file.resize((usize::try_from(number).unwrap_or_default() + count) * PAGE, 0);
        number
    }

    /// Puts nodes into pages; the first key of each page with its number.
    fn level(&mut self, nodes: Vec<Node>, flags: u16) -> Vec<(Vec<u8>, u64)> {
        let mut pages: Vec<(Vec<u8>, u64)> = Vec::new();
        let mut open: Vec<Vec<u8>> = Vec::new();
        let mut used = HEADER;
        for (key, mut node) in nodes {
            node.resize(node.len().next_multiple_of(2), 0);
            if open.is_empty() || used + node.len() + 2 > PAGE {
                self.page(&std::mem::take(&mut open), flags);
                pages.push((key, self.pages()));
                used = HEADER;
                if flags == BRANCH {
                    // Whatever is smaller goes to a branch's first child: it needs no key.
                    node.truncate(NODE);
                    node[6..8].fill(0);
                }
            }
            used += node.len() + 2;
            open.push(node);
        }
        self.page(&open, flags);
        pages
    }

    fn page(&mut self, nodes: &[Vec<u8>], flags: u16) {
        if nodes.is_empty() {
            return;
        }
        let mut page = vec![0; PAGE];
        page[..8].copy_from_slice(&self.pages().to_le_bytes());
        page[10..12].copy_from_slice(&flags.to_le_bytes());
        let mut upper = PAGE;
        for (at, node) in nodes.iter().enumerate() {
            upper -= node.len();
            page[upper..upper + node.len()].copy_from_slice(node);
            page[HEADER + at * 2..HEADER + at * 2 + 2].copy_from_slice(&short(upper));
        }
        page[12..14].copy_from_slice(&short(HEADER + nodes.len() * 2));
        page[14..16].copy_from_slice(&short(upper));
        self.file.extend(page);
    }

    fn finish(mut self, tree: &Tree) -> Vec<u8> {
        let last = self.pages() - 1;
        for (number, full) in [(0u64, false), (1, true)] {
            let mut page = number.to_le_bytes().to_vec();
            page.extend(0u16.to_le_bytes());
            page.extend(META.to_le_bytes());
            page.extend(0u32.to_le_bytes());
            page.extend(MAGIC.to_le_bytes());
            page.extend(VERSION.to_le_bytes());
            page.extend(0u64.to_le_bytes());
            page.extend(MAP_MIN.max(self.file.len() as u64 * 2).to_le_bytes());
            // The database of free pages, which also says how large a page is; its keys are numbers.
            page.extend(4096u32.to_le_bytes());
            page.extend(8u16.to_le_bytes());
            page.extend(0u16.to_le_bytes());
            page.extend([0; 32]);
            page.extend(NONE.to_le_bytes());
            page.extend([0; 6]);
            page.extend((if full { tree.depth } else { 0 }).to_le_bytes());
            let counts = [tree.branches, tree.leaves, self.overflow, tree.entries];
            counts.into_iter().for_each(|count| page.extend((if full { count as u64 } else { 0 }).to_le_bytes()));
            page.extend((if full { tree.root } else { NONE }).to_le_bytes());
            page.extend((if full { last } else { 1 }).to_le_bytes());
            page.extend(u64::from(full).to_le_bytes());
            let at = usize::from(full) * PAGE;
            self.file[at..at + page.len()].copy_from_slice(&page);
        }
        self.file
    }
}

fn branch(key: Vec<u8>, page: u64) -> Node {
    let octets = page.to_le_bytes();
    let mut node = octets[..6].to_vec();
    node.extend(u16::try_from(key.len()).unwrap_or_default().to_le_bytes());
    node.extend_from_slice(&key);
    (key, node)
}

/// Places in a page fit into 16 bits.
fn short(place: usize) -> [u8; 2] {
    u16::try_from(place).unwrap_or_default().to_le_bytes()
}
