//! TLS stays in the front: octets between the client and the session process.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use mail_net::Stream;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::UnixStream;

/// How long a client may take to hear of the end.
const GOODBYE: Duration = Duration::from_secs(5);

/// Octets that are carried at once.
const PIECE: usize = 16 * 1024;

thread_local! {
    /// Reads land here first, so that a connection that idles holds no buffer.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; PIECE].into_boxed_slice());
}

/// Relays until the session has ended, or the client's connection broke. A client that has only closed its sending side still gets its replies.
/// `unread` is what the client sent before the hand-over.
pub(super) async fn relay(client: Stream, session: UnixStream, unread: &[u8]) -> io::Result<()> {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_session, mut to_session) = session.into_split();
    let up = async {
        to_session.write_all(unread).await?;
        carry(&mut from_client, &mut to_session).await?;
        to_session.shutdown().await
    };
    let down = async {
        carry(&mut from_session, &mut to_client).await?;
        tokio::time::timeout(GOODBYE, to_client.shutdown()).await?
    };
    tokio::pin!(up, down);
    let mut up_open = true;
    loop {
        tokio::select! {
            ended = &mut down => return ended,
            ended = &mut up, if up_open => {
                up_open = false;
                ended?;
            }
        }
    }
}

/// Carries octets to the end of `from`.
async fn carry(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    loop {
        let piece = poll_fn(|context| {
            SCRATCH.with_borrow_mut(|scratch| {
                let mut buffer = ReadBuf::new(&mut scratch[..]);
                ready!(Pin::new(&mut *from).poll_read(context, &mut buffer))?;
                Poll::Ready(io::Result::Ok(buffer.filled().to_vec()))
            })
        })
        .await?;
        if piece.is_empty() {
            return Ok(());
        }
        to.write_all(&piece).await?;
        to.flush().await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    fn pair() -> (UnixStream, UnixStream) {
        UnixStream::pair().expect("a pair")
    }

    #[tokio::test]
    async fn the_end_of_the_session_ends_the_relay_although_the_client_stays() {
        let ((mut client, outer), (inner, mut session)) = (pair(), pair());
        let relaying = tokio::spawn(async move { relay(Stream::Unix(outer), inner, b"first ").await });
        client.write_all(b"second").await.expect("open");
        let mut heard = [0; 12];
        session.read_exact(&mut heard).await.expect("open");
        assert_eq!(&heard, b"first second");
        session.write_all(b"bye").await.expect("open");
        drop(session);
        relaying.await.expect("no panic").expect("a good end");
        let mut said = String::new();
        client.read_to_string(&mut said).await.expect("text");
        assert_eq!(said, "bye");
    }

    #[tokio::test]
    async fn a_client_that_has_nothing_more_to_say_still_gets_its_replies() {
        let ((mut client, outer), (inner, mut session)) = (pair(), pair());
        let relaying = tokio::spawn(async move { relay(Stream::Unix(outer), inner, b"").await });
        client.shutdown().await.expect("open");
        let mut heard = Vec::new();
        session.read_to_end(&mut heard).await.expect("an end");
        session.write_all(b"reply").await.expect("open");
        drop(session);
        relaying.await.expect("no panic").expect("a good end");
        let mut said = String::new();
        client.read_to_string(&mut said).await.expect("text");
        assert_eq!(said, "reply");
    }
}
