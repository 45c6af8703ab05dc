//! `delivery.sock`: leases go out, outcomes come in.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;

use mail_ipc::Frame;
use mail_ipc::delivery::{FromWorker, ToWorker as Wire};
use mail_net::ipc::{Conversation, Writer};
use mail_posix::points;
use tokio::sync::mpsc;

use super::Hub;
use crate::core::{Event, Piece, ToWorker};

/// Serves one worker.
pub async fn serve(hub: Arc<Hub>, conversation: Conversation) -> io::Result<()> {
    let Conversation { mut reader, writer, hello, .. } = conversation;
    let connection = hub.next_connection();
    let (sender, outgoing) = mpsc::unbounded_channel();
    let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
    let refuse = sender.clone();
    hub.events.send(Event::Worker { connection, instance: hello.instance, sender }).map_err(|_| gone())?;
    let writing = tokio::spawn(write(writer, outgoing));
    let read = async {
        while let Some(received) = reader.frame().await? {
            match received.read::<FromWorker>() {
                Ok(frame) => hub.events.send(Event::FromWorker(connection, frame.body)).map_err(|_| gone())?,
                Err(_) => drop(refuse.send(ToWorker::NotUnderstood)),
            }
        }
        Ok(())
    };
    let ended: io::Result<()> = read.await;
    writing.abort();
    // If the core has ended, nobody is left to be told.
    let _ = hub.events.send(Event::WorkerGone(connection));
    ended
}

async fn write(writer: Writer, mut outgoing: mpsc::UnboundedReceiver<ToWorker>) -> io::Result<()> {
    while let Some(message) = outgoing.recv().await {
        match message {
            ToWorker::Grants(leases) => {
                grants(&writer, leases).await?;
                points::reached("leases-granted");
            }
            ToWorker::Recorded(outcomes) => writer.send(&Frame::new(0, Wire::Recorded { outcomes }), &[], &[]).await?,
            ToWorker::NotUnderstood => writer.send(&Frame::new(0, Wire::NotUnderstood), &[], &[]).await?,
        }
    }
    Ok(())
}

async fn grants(writer: &Writer, grants: Vec<(mail_ipc::delivery::Lease, Piece)>) -> io::Result<()> {
    let (leases, pieces): (Vec<_>, Vec<Piece>) = grants.into_iter().unzip();
    let mut contents: Vec<&[u8]> = Vec::new();
    let mut files: Vec<BorrowedFd<'_>> = Vec::new();
    for piece in &pieces {
        match piece {
            Piece::Octets(octets) => contents.push(octets),
            Piece::File(file, _) => files.push(file.as_fd()),
        }
    }
    writer.send(&Frame::new(0, Wire::Grants { leases }), &files, &contents).await
}
