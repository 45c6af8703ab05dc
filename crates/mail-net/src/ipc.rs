//! The conversations of `mail-ipc` on Unix sockets: frames, contents and descriptors.
//!
//! [`connect`] and [`accept`] exchange the [`Hello`]s and give a [`Reader`] and a [`Writer`]. [`Caller`] is the client side of the request-reply
//! conversations: one connection for a whole process, requests in flight side by side, connected again when it broke.

mod caller;
mod listen;

pub use caller::{CallError, Caller, Reply};
pub use listen::{bind, connect_stream};

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
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
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;

/// Content up to here rides with its frame in one write.
const JOINED: usize = 64 * 1024;
/// What one read takes at most. So large a piece comes fresh from the kernel, which gives memory to what is used of it.
const SCRATCH_SIZE: usize = 128 * 1024;

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
    stream: Arc<Line>,
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
        let mut content = Vec::with_capacity(length.min(SCRATCH_SIZE));
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
        loop {
            let mut ready = self.stream.0.readable().await?;
            match receive(self.stream.0.as_fd(), &mut self.decoder, &mut self.descriptors) {
                Ok((count, all)) => {
                    if all {
                        // The next read waits at once, and asks the kernel when there is something.
                        ready.clear_ready();
                    }
                    return Ok(count > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) => return Err(error),
            }
        }
    }
}

/// The socket of a conversation, of which input is waited for and nothing else. The kernel would tell of room for output whenever the other
/// side has read something, and wake this process for nothing each time; where there is none, [`Line::room`] waits for it.
#[derive(Debug)]
struct Line(AsyncFd<StdUnixStream>);

impl Line {
    fn new(stream: UnixStream) -> io::Result<Self> {
        watched(stream.into_std()?, Interest::READABLE).map(Self)
    }

    /// Waits until something can be written.
    async fn room(&self) -> io::Result<()> {
        let copy = self.0.get_ref().try_clone()?;
        watched(copy, Interest::WRITABLE)?.writable().await.map(drop)
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe, for owners whose descriptor changes; that of a socket does not"
)]
fn watched(stream: StdUnixStream, interest: Interest) -> io::Result<AsyncFd<StdUnixStream>> {
    AsyncFd::with_interest(stream, interest)
}

thread_local! {
    /// Reads land here first, so that an idle conversation holds no buffer.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_SIZE].into_boxed_slice());
}

/// Reads with recvmsg, so that descriptors are never lost or inherited. Tells how much came, and whether it is known to be all there was.
fn receive(
    socket: BorrowedFd<'_>,
    decoder: &mut FrameDecoder,
    descriptors: &mut VecDeque<OwnedFd>,
) -> io::Result<(usize, bool)> {
    let before = descriptors.len();
    let count = SCRATCH.with_borrow_mut(|buffer| {
        let count = receive_into(socket, buffer, descriptors)?;
        decoder.push(&buffer[..count]);
        io::Result::Ok(count)
    })?;
    // The kernel ends a read behind descriptors, whatever follows them.
    Ok((count, 0 < count && count < SCRATCH_SIZE && descriptors.len() == before))
}

fn receive_into(socket: BorrowedFd<'_>, buffer: &mut [u8], descriptors: &mut VecDeque<OwnedFd>) -> io::Result<usize> {
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
    stream: Arc<Line>,
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
        while let Some((first, rest)) = contents.split_first().filter(|(first, _)| bytes.len() + first.len() <= JOINED)
        {
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
            match transmit(self.stream.0.as_fd(), rest, descriptors) {
                Ok(count) => {
                    rest = &rest[count..];
                    // They went with the first octet.
                    descriptors = &[];
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.stream.room().await?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
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
///
/// # Errors
/// The socket cannot be waited for.
pub fn split(stream: UnixStream) -> io::Result<(Reader, Writer)> {
    let stream = Arc::new(Line::new(stream)?);
    let reader = Reader { stream: Arc::clone(&stream), decoder: FrameDecoder::default(), descriptors: VecDeque::new() };
    Ok((reader, Writer { stream }))
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
    let (mut reader, writer) = split(stream)?;
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
