//! What a command that moves mail has begun and finished: one JSON line each, synced before the next step. A last line that was cut short
//! was never relied on.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::marker::PhantomData;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use mail_posix::files::{sync_data, sync_directory};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// An open journal of lines of one type.
#[derive(Debug)]
pub struct Journal<Line> {
    file: File,
    lines: PhantomData<Line>,
}

impl<Line: Serialize + DeserializeOwned> Journal<Line> {
    /// Opens or makes the journal and reads what it holds.
    ///
    /// # Errors
    /// Any of the file system; a line before the last that is none.
    pub fn open(path: &Path) -> io::Result<(Self, Vec<Line>)> {
        let new = !path.exists();
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        if new {
            path.parent().map_or(Ok(()), sync_directory)?;
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let whole = text.iter().rposition(|&octet| octet == b'\n').map_or(0, |at| at + 1);
        let lines = text[..whole].split(|&octet| octet == b'\n').filter(|line| !line.is_empty());
        let lines = lines.map(serde_json::from_slice).collect::<Result<Vec<Line>, _>>();
        let lines = lines.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        file.set_len(whole as u64)?;
        file.seek(io::SeekFrom::End(0))?;
        Ok((Self { file, lines: PhantomData }, lines))
    }

    /// Appends lines and syncs once.
    ///
    /// # Errors
    /// Any of the file system; what came after must not be done.
    pub fn append(&mut self, lines: &[Line]) -> io::Result<()> {
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, line)?;
            text.push(b'\n');
        }
        if text.is_empty() {
            return Ok(());
        }
        self.file.write_all(&text)?;
        sync_data(&self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_cut_short_is_gone_and_the_rest_stays() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("journal");
        let (mut journal, lines) = Journal::<String>::open(&path).expect("made");
        assert!(lines.is_empty());
        journal.append(&["one".to_owned(), "two".to_owned()]).expect("written");
        drop(journal);
        OpenOptions::new().append(true).open(&path).expect("open").write_all(b"\"thr").expect("written");
        let (mut journal, lines) = Journal::<String>::open(&path).expect("read");
        assert_eq!(lines, ["one", "two"]);
        journal.append(&["three".to_owned()]).expect("written");
        drop(journal);
        assert_eq!(Journal::<String>::open(&path).expect("read").1, ["one", "two", "three"]);
    }
}
