//! Message content on its way to disk and back: lines end in LF on disk and in CRLF on the wire.

use std::fs::File;
use std::io::{self, Read};

/// Turns CRLF into LF in a stream of chunks and counts both sizes. A bare CR stays; an LF without CR before it counts
/// as CRLF, as it will be served.
#[derive(Debug, Default)]
pub struct ToLf {
    held_cr: bool,
    physical: u64,
    bare_lf: u64,
    last: u8,
}

impl ToLf {
    /// Appends the converted chunk to `out`.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        let before = out.len();
        let mut rest = chunk;
        if self.held_cr && !rest.is_empty() {
            if rest[0] != b'\n' {
                out.push(b'\r');
            }
            self.held_cr = false;
        }
        while let Some(at) = memchr::memchr(b'\r', rest) {
            out.extend_from_slice(&rest[..at]);
            match rest.get(at + 1) {
                Some(b'\n') => {}
                Some(_) => out.push(b'\r'),
                None => self.held_cr = true,
            }
            rest = &rest[at + 1..];
        }
        out.extend_from_slice(rest);
        self.count(&out[before..]);
    }

    /// Appends what was held back at the end of the content.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.held_cr) {
            out.push(b'\r');
            self.count(b"\r");
        }
    }

    fn count(&mut self, written: &[u8]) {
        self.physical += written.len() as u64;
        self.bare_lf += bare_lf(self.last, written);
        self.last = written.last().copied().unwrap_or(self.last);
    }

    /// Octets written so far: `S=` of the file name.
    #[must_use]
    pub fn physical(&self) -> u64 {
        self.physical
    }

    /// Octets with every line end as CRLF: `W=` of the file name, RFC822.SIZE.
    #[must_use]
    pub fn virtual_size(&self) -> u64 {
        self.physical + self.bare_lf
    }
}

/// An open message: its file, and reading it with CRLF line ends.
#[derive(Debug)]
pub struct MessageFile {
    file: File,
    physical: u64,
}

impl MessageFile {
    pub(crate) fn new(file: File, physical: u64) -> Self {
        Self { file, physical }
    }

    /// The file as it is stored; most programs store LF line ends, some CRLF.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Octets of the file.
    #[must_use]
    pub fn physical(&self) -> u64 {
        self.physical
    }

    /// How many octets it has with every line end as CRLF, counted.
    ///
    /// # Errors
    /// What reading says.
    pub fn count(&mut self) -> io::Result<u64> {
        io::Seek::rewind(&mut self.file)?;
        virtual_size(&self.file, self.physical)
    }

    /// The content with every line end as CRLF, from the beginning.
    ///
    /// # Errors
    /// What seeking to the beginning says.
    pub fn into_reader(mut self) -> io::Result<CrlfReader<File>> {
        io::Seek::rewind(&mut self.file)?;
        Ok(CrlfReader::new(self.file))
    }

    /// The whole content with every line end as CRLF.
    ///
    /// # Errors
    /// What reading says.
    pub fn read_all(self) -> io::Result<Vec<u8>> {
        self.read_stored().map(with_crlf)
    }

    /// The header with its blank line, every line end as CRLF; all of a message that has no blank line. The file is read little further, and a
    /// header is given up to about `limit` octets.
    ///
    /// # Errors
    /// What reading says.
    pub fn read_header(&self, limit: usize) -> io::Result<Vec<u8>> {
        let mut stored = Vec::new();
        loop {
            let searched = stored.len();
            let count = read_piece(&self.file, &mut stored, HEADER_PIECE.max(searched))?;
            if let Some(end) = header_end(&stored, searched) {
                stored.truncate(end);
                return Ok(with_crlf(stored));
            }
            if count == 0 || stored.len() >= limit {
                return Ok(with_crlf(stored));
            }
        }
    }

    /// The whole content as it is stored.
    ///
    /// # Errors
    /// What reading says.
    pub fn read_stored(&self) -> io::Result<Vec<u8>> {
        // One octet more, so that the end shows without another look.
        let mut stored = vec![0; usize::try_from(self.physical).unwrap_or(0) + 1];
        let mut length = 0;
        loop {
            if length == stored.len() {
                stored.resize(2 * length, 0);
            }
            match std::os::unix::fs::FileExt::read_at(&self.file, &mut stored[length..], length as u64) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if length as u64 == self.physical {
                break;
            }
        }
        stored.truncate(length);
        Ok(stored)
    }
}

/// Most headers are no longer.
const HEADER_PIECE: usize = 4 * 1024;

/// Reads on behind what is there, up to `most` octets; tells how many came.
fn read_piece(file: &File, stored: &mut Vec<u8>, most: usize) -> io::Result<usize> {
    let there = stored.len();
    stored.resize(there + most, 0);
    let read = loop {
        match std::os::unix::fs::FileExt::read_at(file, &mut stored[there..], there as u64) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => break read,
        }
    };
    stored.truncate(there + *read.as_ref().unwrap_or(&0));
    read
}

/// Where the header ends, with its blank line, whichever line ends the text has. Up to `searched` it is known not to.
fn header_end(text: &[u8], searched: usize) -> Option<usize> {
    let blank = |at: usize| match text.get(at..)? {
        [b'\n', ..] => Some(at + 1),
        [b'\r', b'\n', ..] => Some(at + 2),
        _ => None,
    };
    let from = searched.saturating_sub(2);
    let after_line = || memchr::memchr_iter(b'\n', &text[from..]).find_map(|at| blank(from + at + 1));
    blank(0).or_else(after_line)
}

/// The text with every line end as CRLF.
fn with_crlf(stored: Vec<u8>) -> Vec<u8> {
    let bare = bare_lf(0, &stored);
    if bare == 0 {
        return stored;
    }
    let mut content = Vec::with_capacity(stored.len() + usize::try_from(bare).unwrap_or(0));
    let mut from = 0;
    for at in memchr::memchr_iter(b'\n', &stored) {
        content.extend_from_slice(&stored[from..at]);
        if content.last() != Some(&b'\r') {
            content.push(b'\r');
        }
        content.push(b'\n');
        from = at + 1;
    }
    content.extend_from_slice(&stored[from..]);
    content
}

/// The size of a chunk that is read from a file at once.
const CHUNK: usize = 64 * 1024;

/// A reader that gives every LF without a CR before it as CRLF.
#[derive(Debug)]
pub struct CrlfReader<R> {
    inner: R,
    chunk: Vec<u8>,
    at: usize,
    after_cr: bool,
    owed_lf: bool,
}

impl<R: Read> CrlfReader<R> {
    /// A reader over stored content.
    pub fn new(inner: R) -> Self {
        Self { inner, chunk: Vec::new(), at: 0, after_cr: false, owed_lf: false }
    }

    fn refill(&mut self) -> io::Result<bool> {
        if self.at == self.chunk.len() {
            self.chunk.resize(CHUNK, 0);
            self.at = 0;
            let read = self.inner.read(&mut self.chunk);
            self.chunk.truncate(*read.as_ref().unwrap_or(&0));
            read?;
        }
        Ok(self.at < self.chunk.len())
    }
}

impl<R: Read + io::Seek> CrlfReader<R> {
    /// Goes back to the beginning.
    ///
    /// # Errors
    /// What seeking says.
    pub fn rewind(&mut self) -> io::Result<()> {
        self.inner.rewind()?;
        self.chunk.clear();
        (self.at, self.after_cr, self.owed_lf) = (0, false, false);
        Ok(())
    }
}

impl<R: Read> Read for CrlfReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < out.len() {
            if std::mem::take(&mut self.owed_lf) {
                out[written] = b'\n';
                written += 1;
                continue;
            }
            // What is there already goes out before the file is asked again.
            if self.at == self.chunk.len() && written > 0 {
                break;
            }
            if !self.refill()? {
                break;
            }
            let ready = &self.chunk[self.at..];
            let room = out.len() - written;
            let within = &ready[..ready.len().min(room)];
            let run = memchr::memchr(b'\n', within).unwrap_or(within.len());
            if run > 0 {
                out[written..written + run].copy_from_slice(&ready[..run]);
                self.after_cr = ready[run - 1] == b'\r';
                written += run;
                self.at += run;
                continue;
            }
            self.at += 1;
            let complete = std::mem::take(&mut self.after_cr);
            out[written] = if complete { b'\n' } else { b'\r' };
            self.owed_lf = !complete;
            written += 1;
        }
        Ok(written)
    }
}

/// How many LF stand without a CR before them; `last` is the octet before the text.
fn bare_lf(last: u8, text: &[u8]) -> u64 {
    let before = |at: usize| if at == 0 { last } else { text[at - 1] };
    memchr::memchr_iter(b'\n', text).map(|at| u64::from(before(at) != b'\r')).sum()
}

/// The size of stored content of about `physical` octets when every line end is CRLF.
///
/// # Errors
/// What reading says.
pub(crate) fn virtual_size(mut stored: impl Read, physical: u64) -> io::Result<u64> {
    // A short message fits with its end, and a large buffer would cost more than its reading.
    let mut chunk = vec![0; usize::try_from(physical).unwrap_or(CHUNK).saturating_add(1).min(CHUNK)];
    let (mut total, mut last) = (0u64, 0u8);
    loop {
        let read = stored.read(&mut chunk)?;
        if read == 0 {
            return Ok(total);
        }
        total += read as u64 + bare_lf(last, &chunk[..read]);
        last = chunk[read - 1];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(chunks: &[&[u8]]) -> (Vec<u8>, ToLf) {
        let (mut out, mut converter) = (Vec::new(), ToLf::default());
        for chunk in chunks {
            converter.push(chunk, &mut out);
        }
        converter.finish(&mut out);
        (out, converter)
    }

    #[test]
    fn crlf_becomes_lf_and_a_bare_cr_stays() {
        let (out, sizes) = stored(&[b"a\r", b"\nb\rc\r\n\r", b"\r\nd\ne\r"]);
        assert_eq!(out, b"a\nb\rc\n\r\nd\ne\r");
        assert_eq!(sizes.physical(), 12);
        assert_eq!(sizes.virtual_size(), 15);
    }

    proptest::proptest! {
        #[test]
        fn what_is_served_has_the_size_that_was_counted(text in "[a\r\n]{0,40}", cut in 0usize..40, room in 1usize..9) {
            let cut = cut.min(text.len());
            let (out, sizes) = stored(&[&text.as_bytes()[..cut], &text.as_bytes()[cut..]]);
            let mut served = Vec::new();
            let mut reader = CrlfReader::new(&out[..]);
            let mut chunk = vec![0; room];
            loop {
                let read = reader.read(&mut chunk).expect("memory");
                if read == 0 { break; }
                served.extend_from_slice(&chunk[..read]);
            }
            let bare = served.windows(2).filter(|pair| pair[1] == b'\n' && pair[0] != b'\r').count();
            proptest::prop_assert_eq!(bare, 0);
            proptest::prop_assert_eq!(virtual_size(&out[..], out.len() as u64).expect("memory"), served.len() as u64);
            proptest::prop_assert_eq!(sizes.physical(), out.len() as u64);
            proptest::prop_assert_eq!(sizes.virtual_size(), served.len() as u64);
        }

        #[test]
        fn a_header_is_what_stands_before_the_first_empty_line(text in "[a\r\n]{0,30}", long in 0usize..2) {
            // Once within the first piece that is read, once across its end.
            let text = ["x".repeat(long * (HEADER_PIECE - 15)), text].concat();
            let mut file = tempfile::tempfile().expect("a file");
            io::Write::write_all(&mut file, text.as_bytes()).expect("written");
            let served = with_crlf(text.as_bytes().to_vec());
            let blank = memchr::memmem::find(&served, b"\r\n\r\n").map(|at| at + 4);
            let end = if served.starts_with(b"\r\n") { Some(2) } else { blank };
            let header = MessageFile::new(file, text.len() as u64).read_header(usize::MAX).expect("read");
            proptest::prop_assert_eq!(&header[..], &served[..end.unwrap_or(served.len())]);
        }
    }
}
