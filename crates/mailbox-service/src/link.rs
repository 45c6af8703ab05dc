//! The monitor's end of a socket pair: frames and descriptors without an event loop.

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
    descriptors: VecDeque<OwnedFd>,
    waiting: VecDeque<Waiting>,
}

/// A frame with its descriptors.
#[derive(Debug)]
pub struct Received {
    /// The frame.
    pub raw: Raw,
    /// Its descriptors.
    pub descriptors: Vec<OwnedFd>,
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
        Ok(Self { socket, decoder: FrameDecoder::default(), descriptors: VecDeque::new(), waiting: VecDeque::new() })
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
        match fdpass::receive(&self.socket, &mut buffer, frame::DESCRIPTORS_MAX) {
            Ok(received) => {
                self.decoder.push(&buffer[..received.bytes]);
                self.descriptors.extend(received.descriptors);
                Ok(received.bytes > 0)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The next whole frame among what was read.
    ///
    /// # Errors
    /// A frame beyond the limits, or without its descriptors.
    pub fn frame(&mut self) -> io::Result<Option<Received>> {
        let Some(raw) = self.decoder.frame().map_err(invalid)? else { return Ok(None) };
        if self.descriptors.len() < raw.descriptors {
            return Err(invalid("a frame came without its descriptors"));
        }
        let descriptors = self.descriptors.drain(..raw.descriptors).collect();
        Ok(Some(Received { raw, descriptors }))
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
        let (mut near, mut far) = pair();
        let (stream, _other) = UnixStream::pair().expect("a pair");
        near.send(&"plain", Vec::new()).expect("sent");
        near.send(&"with", vec![stream.into()]).expect("sent");
        near.send(&"plain again", Vec::new()).expect("sent");
        let mut heard = Vec::new();
        while heard.len() < 3 {
            assert!(far.fill().expect("open"));
            while let Some(received) = far.frame().expect("sound") {
                let text = received.raw.read::<String>(&[]).expect("a text").body;
                heard.push((text, received.descriptors.len()));
            }
        }
        let expected = [("plain", 0), ("with", 1), ("plain again", 0)];
        assert_eq!(heard, expected.map(|(text, count)| (text.to_owned(), count)));
        drop(near);
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
