//! Contents outside the segments: one file for each message of 1 MiB and more.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use mail_posix::points;
use mail_types::QueueId;

use crate::segment::sync_directory;

/// Content of this length and more keeps its own file; shorter content is copied into the segment.
pub const OWN_FILE_MIN: u64 = 1024 * 1024;

/// The content of a message on its way in.
#[derive(Debug)]
pub enum Content {
    /// The octets; they go into the segment.
    Octets(Vec<u8>),
    /// The message's file in `content/`, synced; so many octets.
    File(u64),
}

impl Content {
    /// Octets of content.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self {
            Self::Octets(octets) => octets.len() as u64,
            Self::File(length) => *length,
        }
    }
}

pub(crate) fn path(dir: &Path, id: QueueId) -> PathBuf {
    dir.join("content").join(id.to_string())
}

/// Creates the file for the content of `id`, empty; one that an earlier try left is emptied.
pub(crate) fn create(dir: &Path, id: QueueId) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path(dir, id))
}

/// Takes the complete file: short content is read, long content is made durable under its name.
pub(crate) fn complete(dir: &Path, id: QueueId) -> io::Result<Content> {
    let mut file = File::open(path(dir, id))?;
    let length = file.metadata()?.len();
    if length >= OWN_FILE_MIN {
        let synced = file.sync_all().and_then(|()| sync_directory(&dir.join("content")));
        if let Err(error) = synced {
            // The same intake may be presented again: a second sync would say that all is well, and it is not (R4).
            let _ = remove(dir, id);
            return Err(error);
        }
        points::reached("content-synced");
        return Ok(Content::File(length));
    }
    let mut octets = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    file.read_to_end(&mut octets)?;
    Ok(Content::Octets(octets))
}

/// Removes the file of `id`, if it has one.
pub(crate) fn remove(dir: &Path, id: QueueId) -> io::Result<()> {
    match std::fs::remove_file(path(dir, id)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes every file of which `remains` does not know.
pub(crate) fn remove_unnamed<E>(
    dir: &Path,
    remains: impl Fn(QueueId) -> Result<bool, E>,
) -> Result<(), crate::OpenError>
where
    crate::OpenError: From<E>,
{
    for entry in std::fs::read_dir(dir.join("content"))? {
        let entry = entry?;
        let known = match entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            Some(id) => remains(id)?,
            None => false,
        };
        if !known {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
