//! The conversations of `mail-ipc` on Unix sockets: frames, contents and descriptors.
//!
//! [`connect`] and [`accept`] exchange the [`Hello`]s and give a [`Reader`] and a [`Writer`]. [`Caller`] is the client side of the request-reply
//! conversations: one connection for a whole process, requests in flight side by side, connected again when it broke.

mod caller;
mod listen;

pub use caller::{CallError, Caller, Reply};
pub use listen::{bind, connect_stream};

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use mail_ipc::frame::{self, Frame, FrameDecoder, FrameError, Raw};
use mail_ipc::hello::{Hello, Versions};
use mail_ipc::sockets::Socket;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixStream;

const READ: usize = 64 * 1024;

/// Who is at the other end, as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The uid.
    pub uid: u32,
    /// The gid.
    pub gid: u32,
    /// The process id, if the kernel knows it.
    pub pid: Option<i32>,
}

fn broken(error: FrameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The receiving half of a conversation.
#[derive(Debug)]
pub struct Reader {
    stream: Arc<UnixStream>,
    decoder: FrameDecoder,
    descriptors: VecDeque<OwnedFd>,
}

/// A frame that came, with its descriptors.
#[derive(Debug)]
pub struct Received {
    /// The frame.
    pub raw: Raw,
    /// Its descriptors, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
}

impl Received {
    /// Reads the message.
    ///
    /// # Errors
    /// [`FrameError`] if it is of another version; the reader answers `NotUnderstood`.
    pub fn read<T: DeserializeOwned>(&self) -> Result<Frame<T>, FrameError> {
        self.raw.read(&[])
    }
}

impl Reader {
    /// The next frame; none at the end of the conversation.
    ///
    /// # Errors
    /// A broken connection, a frame beyond the limits, missing descriptors.
    pub async fn frame(&mut self) -> io::Result<Option<Received>> {
        loop {
            if let Some(raw) = self.decoder.frame().map_err(broken)? {
                if self.descriptors.len() < raw.descriptors {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame came without its descriptors"));
                }
                let descriptors = self.descriptors.drain(..raw.descriptors).collect();
                return Ok(Some(Received { raw, descriptors }));
            }
            if !self.fill().await? {
                return if self.decoder.buffered() == 0 { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// Content that follows a frame, all of it.
    ///
    /// # Errors
    /// The connection ended before.
    pub async fn content(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut content = Vec::with_capacity(length.min(READ));
        while content.len() < length {
            let piece = self.content_chunk(length - content.len()).await?;
            content.extend_from_slice(&piece);
        }
        Ok(content)
    }

    /// A piece of content that follows a frame: between one octet and `most`.
    ///
    /// # Errors
    /// The connection ended before.
    pub async fn content_chunk(&mut self, most: usize) -> io::Result<Vec<u8>> {
        while self.decoder.buffered() == 0 {
            if !self.fill().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.decoder.content(most))
    }

    /// Reads once; false at the end.
    async fn fill(&mut self) -> io::Result<bool> {
        let mut buffer = vec![0; READ];
        let descriptors = &mut self.descriptors;
        let stream = &self.stream;
        let count = stream.async_io(Interest::READABLE, || receive(stream.as_fd(), &mut buffer, descriptors)).await?;
        self.decoder.push(&buffer[..count]);
        Ok(count > 0)
    }
}

/// Reads with recvmsg, so that descriptors are never lost or inherited.
fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8], descriptors: &mut VecDeque<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(frame::DESCRIPTORS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message = recvmsg(socket, &mut [io::IoSliceMut::new(buffer)], &mut ancillary, flags)?;
    for entry in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = entry {
            descriptors.extend(passed);
        }
    }
    if descriptors.len() > 4 * frame::DESCRIPTORS_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "too many descriptors"));
    }
    Ok(message.bytes)
}

/// The sending half of a conversation.
#[derive(Debug, Clone)]
pub struct Writer {
    stream: Arc<UnixStream>,
}

impl Writer {
    /// Sends a frame with descriptors and the contents that follow it. Only one task may send at a time: clones are for replies under a lock.
    ///
    /// # Errors
    /// A frame beyond the limits, or a broken connection; then nothing more can be sent.
    pub async fn send<T: Serialize>(
        &self,
        message: &Frame<T>,
        descriptors: &[BorrowedFd<'_>],
        contents: &[&[u8]],
    ) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(256);
        frame::encode(message, descriptors.len(), &mut bytes).map_err(broken)?;
        // Short contents ride with their frame in one system call; long ones are not copied.
        let mut contents = contents;
        while let Some((first, rest)) = contents.split_first().filter(|(first, _)| bytes.len() + first.len() <= READ) {
            bytes.extend_from_slice(first);
            contents = rest;
        }
        self.send_all(&bytes, descriptors).await?;
        for content in contents {
            self.send_all(content, &[]).await?;
        }
        Ok(())
    }

    async fn send_all(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut rest = bytes;
        let mut descriptors = descriptors;
        while !rest.is_empty() {
            let stream = &self.stream;
            let count = stream.async_io(Interest::WRITABLE, || transmit(stream.as_fd(), rest, descriptors)).await?;
            rest = &rest[count..];
            // They went with the first octet.
            descriptors = &[];
        }
        Ok(())
    }
}

fn transmit(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(frame::DESCRIPTORS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    Ok(sendmsg(socket, &[io::IoSlice::new(bytes)], &mut ancillary, flags)?)
}

/// Makes a conversation of a connected socket, without greetings; for the socket pairs between a monitor and its children.
#[must_use]
pub fn split(stream: UnixStream) -> (Reader, Writer) {
    let stream = Arc::new(stream);
    let reader = Reader { stream: Arc::clone(&stream), decoder: FrameDecoder::default(), descriptors: VecDeque::new() };
    (reader, Writer { stream })
}

/// An opened conversation.
#[derive(Debug)]
pub struct Conversation {
    /// The receiving half.
    pub reader: Reader,
    /// The sending half.
    pub writer: Writer,
    /// How the other side introduced itself.
    pub hello: Hello,
    /// Who it is for the kernel.
    pub peer: Peer,
}

/// Connects to a socket below the state directory and exchanges greetings.
///
/// # Errors
/// Nobody listens, the other side speaks no common version, or the connection broke.
pub async fn connect(state: &Path, socket: Socket, hello: &Hello) -> io::Result<Conversation> {
    let stream = connect_stream(&state.join(socket.directory), socket.name)?;
    greet(stream, hello).await
}

/// Exchanges greetings on a socket that was accepted.
///
/// # Errors
/// The other side speaks no common version, or the connection broke.
pub async fn accept(stream: UnixStream, hello: &Hello) -> io::Result<Conversation> {
    greet(stream, hello).await
}

async fn greet(stream: UnixStream, hello: &Hello) -> io::Result<Conversation> {
    let credentials = stream.peer_cred()?;
    let peer = Peer { uid: credentials.uid(), gid: credentials.gid(), pid: credentials.pid() };
    let (mut reader, writer) = split(stream);
    writer.send(&Frame::new(0, hello), &[], &[]).await?;
    let received = reader.frame().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let theirs = received.read::<Hello>().map_err(broken)?.body;
    if Versions::OURS.common(theirs.versions).is_none() {
        let text = format!("{} speaks versions {} to {}", theirs.instance, theirs.versions.from, theirs.versions.to);
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    Ok(Conversation { reader, writer, hello: theirs, peer })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_ipc::hello::Role;
    use std::io::{Read as _, Seek as _, Write as _};

    #[tokio::test]
    async fn frames_carry_contents_and_descriptors() {
        let (near, far) = UnixStream::pair().expect("a pair");
        let (near_hello, far_hello) =
            (Hello::new(Role::Smtpd, "smtpd"), Hello::new(Role::QueueManager, "queue-manager"));
        let (near, far) = tokio::join!(accept(near, &near_hello), accept(far, &far_hello));
        let (near, mut far) = (near.expect("greeted"), far.expect("greeted"));
        assert_eq!(far.hello.role, Role::Smtpd);

        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"from the file").expect("written");
        let long = vec![b'x'; 1_000_000];
        let message = Frame::new(5, "with everything".to_owned());
        let (passed, contents): (_, [&[u8]; 2]) = ([file.as_fd()], [b"short", &long]);
        let sent = near.writer.send(&message, &passed, &contents);
        let heard = async {
            let received = far.reader.frame().await.expect("sound").expect("a frame");
            assert_eq!(received.read::<String>().expect("understood"), message);
            assert_eq!(far.reader.content(5).await.expect("all"), b"short");
            assert_eq!(far.reader.content(1_000_000).await.expect("all"), long);
            received.descriptors
        };
        let (sent, mut descriptors) = tokio::join!(sent, heard);
        sent.expect("sent");
        let mut copy = std::fs::File::from(descriptors.pop().expect("one"));
        copy.rewind().expect("a file");
        let mut text = String::new();
        copy.read_to_string(&mut text).expect("text");
        assert_eq!(text, "from the file");
        drop(near);
        assert!(far.reader.frame().await.expect("sound").is_none());
    }
}
