//! TLS stays in the front: octets between the client and the session process.

use std::io;

use mail_net::Stream;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

/// Relays until both sides have ended, or one of them broke. `unread` is what the client sent before the hand-over.
pub(super) async fn relay(mut client: Stream, mut session: UnixStream, unread: &[u8]) -> io::Result<()> {
    session.write_all(unread).await?;
    tokio::io::copy_bidirectional(&mut client, &mut session).await?;
    Ok(())
}
