//! The content of a lease, as the jobs for its recipients see it.

use std::io;

use mail_daemon::worker::Content;

use crate::headers::{HEADER_MAX, Scan};
use crate::job::JobContent;

/// How a job refers to a content.
#[must_use]
pub fn reference(content: &Content) -> JobContent {
    match content {
        Content::Memory(octets) => JobContent::Follows(octets.len() as u64),
        Content::File { length, .. } => JobContent::Descriptor { length: *length },
    }
}

/// What of a content's header matters for delivery.
///
/// # Errors
/// The file cannot be read.
pub fn scan(content: &Content) -> io::Result<Scan> {
    match content {
        Content::Memory(octets) => Ok(Scan::of(octets)),
        Content::File { .. } => Ok(Scan::of(&content.read(0, HEADER_MAX)?)),
    }
}
