//! The content of one message on its way through: header first, then memory or a file.

use std::fs::File;
use std::io::Write as _;
use std::pin::Pin;

use mail_intake::{HeaderError, Prepared};
use mail_ipc::intake::INLINE_MAX;
use mail_message::header::Header;
use mail_types::{EnhancedStatus, QueueId, Reply, ReplyCode};
use tokio::sync::OwnedSemaphorePermit;

use crate::queue::{Queue, Stored, unavailable};

/// So much content is searched for the end of the header; of a longer header what follows is stored as it comes.
const HEADER_MAX: usize = 256 * 1024;

/// Makes the header that is stored of the header that came.
pub trait Prepare: Sync {
    /// The header of content that holds the whole header and may hold more; or what the client hears instead of 250.
    fn prepare<'a>(&'a self, content: &'a [u8]) -> Preparing<'a>;
}

/// A header in the making: tables may have to be asked for its addresses.
pub type Preparing<'a> = Pin<Box<dyn Future<Output = Result<Prepared, Reply>> + Send + 'a>>;

/// What a client hears whose header cannot be taken.
#[must_use]
pub fn refusal(error: HeaderError) -> Reply {
    match error {
        HeaderError::TooManyHops => Reply::new(ReplyCode::of(554), EnhancedStatus::of(5, 4, 6), "Error: too many hops"),
    }
}

/// Content that is being received.
pub struct Content {
    id: QueueId,
    /// The header as far as it came; none once it was prepared.
    header: Option<Vec<u8>>,
    searched: usize,
    memory: Vec<u8>,
    file: Option<File>,
    length: u64,
    /// What the client will hear instead of 250.
    failed: Option<Reply>,
    /// What was found in the header.
    pub message_id: Option<String>,
    /// Whether a header field holds UTF-8.
    pub utf8: bool,
    /// Whether any octet is outside ASCII.
    pub eight_bit: bool,
    _budget: OwnedSemaphorePermit,
}

/// How much of content without the end of its header is whole fields: all but the last one. All of it, where the header has ended or is none.
fn whole_fields(content: &[u8], ended: bool) -> usize {
    let lines = content.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
    let scanned = Header::scan(&content[..lines]);
    let goes_on = scanned.body() == lines && (lines > 0 || !Header::scan(content).fields().is_empty());
    if ended || !goes_on {
        return content.len();
    }
    scanned.fields().last().map_or(0, |last| lines - last.raw().len())
}

/// Content that came whole.
pub struct Complete {
    /// Where it is.
    pub stored: Stored,
    /// Octets as stored.
    pub length: u64,
    /// The file, where it is one: still open, at its end.
    pub file: Option<File>,
}

impl Content {
    /// Content of a message; `budget` is its share of the memory that all sessions have together.
    #[must_use]
    pub fn new(id: QueueId, budget: OwnedSemaphorePermit) -> Self {
        Self {
            id,
            header: Some(Vec::new()),
            searched: 0,
            memory: Vec::new(),
            file: None,
            length: 0,
            failed: None,
            message_id: None,
            utf8: false,
            eight_bit: false,
            _budget: budget,
        }
    }

    /// Takes a chunk. What goes wrong is kept until the end, since a client cannot be told before.
    pub async fn push(&mut self, chunk: Vec<u8>, prepare: &dyn Prepare, queue: &Queue) {
        if self.failed.is_some() {
            return;
        }
        self.eight_bit |= !chunk.is_ascii();
        let body = match self.header.take() {
            None => chunk,
            Some(mut header) => {
                header.extend_from_slice(&chunk);
                match Header::find_end(&header, self.searched) {
                    Err(searched) if header.len() < HEADER_MAX => {
                        self.searched = searched;
                        self.header = Some(header);
                        return;
                    }
                    found => match self.prepared_up_to(whole_fields(&header, found.is_ok()), &header, prepare).await {
                        Some(stored) => stored,
                        None => return,
                    },
                }
            }
        };
        if let Err(reply) = self.store(body, queue).await {
            self.failed = Some(reply);
        }
    }

    /// The stored form of a header of which only so many octets are whole fields; the rest of it follows as it comes.
    async fn prepared_up_to(&mut self, whole: usize, header: &[u8], prepare: &dyn Prepare) -> Option<Vec<u8>> {
        if whole == header.len() {
            return self.prepared(header, prepare).await;
        }
        let mut stored = self.prepared(&header[..whole], prepare).await?;
        // The empty line comes later.
        stored.truncate(stored.len().saturating_sub(2));
        stored.extend_from_slice(&header[whole..]);
        Some(stored)
    }

    /// The stored form of the header and of what came with it.
    async fn prepared(&mut self, content: &[u8], prepare: &dyn Prepare) -> Option<Vec<u8>> {
        match prepare.prepare(content).await {
            Ok(prepared) => {
                let mut stored = prepared.header;
                stored.extend_from_slice(&content[prepared.body..]);
                self.message_id = prepared.message_id;
                self.utf8 = prepared.utf8;
                Some(stored)
            }
            Err(reply) => {
                self.failed = Some(reply);
                None
            }
        }
    }

    async fn store(&mut self, octets: Vec<u8>, queue: &Queue) -> Result<(), Reply> {
        self.length += octets.len() as u64;
        if self.file.is_none() && self.length <= INLINE_MAX {
            if self.memory.is_empty() {
                self.memory = octets
            } else {
                self.memory.extend_from_slice(&octets)
            }
            return Ok(());
        }
        let mut file = match self.file.take() {
            Some(file) => file,
            None => Box::pin(queue.open_content(self.id)).await?,
        };
        let memory = std::mem::take(&mut self.memory);
        let written = tokio::task::spawn_blocking(move || {
            file.write_all(&memory)?;
            file.write_all(&octets)?;
            std::io::Result::Ok(file)
        });
        match written.await {
            Ok(Ok(file)) => {
                self.file = Some(file);
                Ok(())
            }
            _ => {
                Box::pin(queue.abandon(self.id)).await;
                Err(unavailable())
            }
        }
    }

    /// Ends the content.
    ///
    /// # Errors
    /// The reply that refuses it; nothing is left behind.
    pub async fn finish(&mut self, prepare: &dyn Prepare, queue: &Queue) -> Result<Complete, Reply> {
        if let Some(header) = self.header.take()
            && let Some(stored) = self.prepared(&header, prepare).await
            && let Err(reply) = self.store(stored, queue).await
        {
            self.failed = Some(reply);
        }
        match self.failed.take() {
            Some(reply) => {
                self.discard(queue).await;
                Err(reply)
            }
            None => {
                let file = self.file.take();
                let stored = match &file {
                    Some(_) => Stored::File,
                    None => Stored::Memory(std::mem::take(&mut self.memory)),
                };
                Ok(Complete { stored, length: self.length, file })
            }
        }
    }

    /// Gives the content up.
    pub async fn discard(&mut self, queue: &Queue) {
        if self.file.take().is_some() {
            Box::pin(queue.abandon(self.id)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_header_is_cut_between_fields() {
        assert_eq!(whole_fields(b"A: b\r\nC: d\r\n e", false), 6);
        assert_eq!(whole_fields(b"A: b\r\nC: d\r\n", false), 6);
        assert_eq!(whole_fields(b"A: b\r\nC: d\r\nX-", false), 6);
        assert_eq!(whole_fields(b"A: b", false), 0);
        assert_eq!(whole_fields(b"A: b\r\nno field\r\nx", false), 17);
        assert_eq!(whole_fields(b"A: b\r\n\r\nbody", true), 12);
        assert_eq!(whole_fields(b"no header at all", false), 16);
    }
}
