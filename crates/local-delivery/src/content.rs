//! The content of a lease, shared by the jobs for its recipients.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::headers::{HEADER_MAX, Scan};
use crate::job::JobContent;

/// Octets in memory, or a file that queue-manager opened for us.
#[derive(Debug)]
pub enum Content {
    /// In memory.
    Memory(Vec<u8>),
    /// In a file, read by position.
    File {
        /// The file, read-only.
        file: File,
        /// Its octets.
        length: u64,
    },
}

impl Content {
    /// How a job refers to it.
    #[must_use]
    pub fn reference(&self) -> JobContent {
        match self {
            Self::Memory(octets) => JobContent::Follows(octets.len() as u64),
            Self::File { length, .. } => JobContent::Descriptor { length: *length },
        }
    }

    /// What of the header matters for delivery.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn scan(&self) -> io::Result<Scan> {
        match self {
            Self::Memory(octets) => Ok(Scan::of(octets)),
            Self::File { file, length } => {
                let mut head = vec![0; HEADER_MAX.min(usize::try_from(*length).unwrap_or(HEADER_MAX))];
                file.read_exact_at(&mut head, 0)?;
                Ok(Scan::of(&head))
            }
        }
    }
}
