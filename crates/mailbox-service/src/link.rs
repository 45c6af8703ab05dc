//! The monitor's end of a conversation that it has no event loop for: frames both ways, descriptors only out of the monitor.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use mail_ipc::frame::{self, Frame, FrameDecoder, Raw};
use mail_posix::fdpass;
use serde::Serialize;

/// So many messages wait for a process that does not read; beyond it the process counts as stuck.
const WAITING_MAX: usize = 1024;

/// A message that waits to be sent.
#[derive(Debug)]
struct Waiting {
    bytes: Vec<u8>,
    sent: usize,
    descriptors: Vec<OwnedFd>,
}

/// A conversation over a non-blocking socket.
#[derive(Debug)]
pub struct Link {
    socket: UnixStream,
    decoder: FrameDecoder,
    waiting: VecDeque<Waiting>,
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl Link {
    /// Takes a connected socket and makes it non-blocking.
    ///
    /// # Errors
    /// The system refuses.
    pub fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, decoder: FrameDecoder::default(), waiting: VecDeque::new() })
    }

    /// Sends a message, or keeps it until the socket takes it.
    ///
    /// # Errors
    /// The other side is gone, does not read, or the message is too long.
    pub fn send<T: Serialize>(&mut self, message: &T, descriptors: Vec<OwnedFd>) -> io::Result<()> {
        self.send_numbered(0, message, descriptors)
    }

    /// As [`Link::send`], with a frame number.
    ///
    /// # Errors
    /// As [`Link::send`].
    pub fn send_numbered<T: Serialize>(&mut self, id: u64, message: &T, descriptors: Vec<OwnedFd>) -> io::Result<()> {
        if self.waiting.len() >= WAITING_MAX {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the process does not read its messages"));
        }
        let mut bytes = Vec::new();
        frame::encode(&Frame::new(id, message), descriptors.len(), &mut bytes).map_err(invalid)?;
        self.waiting.push_back(Waiting { bytes, sent: 0, descriptors });
        self.flush()
    }

    /// Whether messages wait for room.
    #[must_use]
    pub fn wants_to_write(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Sends what waits, as far as the socket takes it.
    ///
    /// # Errors
    /// The other side is gone.
    pub fn flush(&mut self) -> io::Result<()> {
        while let Some(first) = self.waiting.front_mut() {
            let descriptors: Vec<BorrowedFd<'_>> = first.descriptors.iter().map(AsFd::as_fd).collect();
            match fdpass::send(&self.socket, &first.bytes[first.sent..], &descriptors) {
                Ok(count) => {
                    first.sent += count;
                    // They went with the first octet.
                    first.descriptors.clear();
                    if first.sent == first.bytes.len() {
                        self.waiting.pop_front();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads once what has come. False at the end of the conversation.
    ///
    /// # Errors
    /// A broken connection.
    pub fn fill(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        match fdpass::receive(&self.socket, &mut buffer, 0) {
            Ok(received) => {
                self.decoder.push(&buffer[..received.bytes]);
                Ok(received.bytes > 0)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The next whole frame among what was read.
    ///
    /// # Errors
    /// A frame beyond the limits, or one that claims to pass descriptors.
    pub fn frame(&mut self) -> io::Result<Option<Raw>> {
        match self.decoder.frame().map_err(invalid)? {
            Some(raw) if raw.descriptors > 0 => Err(invalid("descriptors are not taken here")),
            frame => Ok(frame),
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Link, Link) {
        let (near, far) = UnixStream::pair().expect("a pair");
        (Link::new(near).expect("a link"), Link::new(far).expect("a link"))
    }

    #[test]
    fn messages_and_descriptors_keep_together() {
        let (near, far) = UnixStream::pair().expect("a pair");
        let mut near = Link::new(near).expect("a link");
        let (stream, _other) = UnixStream::pair().expect("a pair");
        near.send(&"plain", Vec::new()).expect("sent");
        near.send(&"with", vec![stream.into()]).expect("sent");
        let mut decoder = FrameDecoder::default();
        let (mut texts, mut descriptors) = (Vec::new(), 0);
        while texts.len() < 2 {
            let mut buffer = [0; 64];
            let received = fdpass::receive(&far, &mut buffer, 4).expect("sound");
            decoder.push(&buffer[..received.bytes]);
            descriptors += received.descriptors.len();
            while let Some(raw) = decoder.frame().expect("sound") {
                texts.push((raw.read::<String>(&[]).expect("a text").body, raw.descriptors));
            }
        }
        assert_eq!((texts, descriptors), (vec![("plain".to_owned(), 0), ("with".to_owned(), 1)], 1));
    }

    #[test]
    fn descriptors_of_the_other_side_are_not_taken() {
        let (near, far) = UnixStream::pair().expect("a pair");
        let mut near = Link::new(near).expect("a link");
        fdpass::send(&far, b"x", &[far.as_fd()]).expect("sent");
        near.fill().expect_err("refused");
    }

    #[test]
    fn the_end_of_the_other_side_is_seen() {
        let (mut near, mut far) = pair();
        near.send(&"last words", Vec::new()).expect("sent");
        drop(near);
        assert!(far.fill().expect("open"));
        assert!(far.frame().expect("sound").is_some());
        assert!(!far.fill().expect("an end"));
    }

    #[test]
    fn a_process_that_does_not_read_fills_no_memory() {
        let (mut near, _far) = pair();
        let message = "x".repeat(60_000);
        let mut sent = 0;
        while near.send(&message, Vec::new()).is_ok() {
            sent += 1;
            assert!(sent < 10_000);
        }
        assert!(near.wants_to_write());
    }
}
