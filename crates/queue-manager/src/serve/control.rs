//! `control.sock`: operators ask.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use mail_ipc::Frame;
use mail_ipc::control::{Request, Response};
use mail_net::ipc::Conversation;
use tokio::sync::oneshot;

use super::{Hub, is_privileged};
use crate::core::Event;

/// Serves one operator, one request after the other.
pub async fn serve(hub: Arc<Hub>, conversation: Conversation) -> io::Result<()> {
    let privileged = is_privileged(&conversation);
    let Conversation { mut reader, writer, .. } = conversation;
    while let Some(received) = reader.frame().await? {
        let number = received.raw.id();
        let (response, file) = match received.read::<Request>() {
            Ok(frame) => ask(&hub, frame.body, privileged).await,
            Err(_) => (Response::NotUnderstood, None),
        };
        let frame = Frame::new(number, response);
        match file {
            Some(file) => writer.send(&frame, &[file.as_fd()], &[]).await?,
            None => writer.send(&frame, &[], &[]).await?,
        }
    }
    Ok(())
}

async fn ask(hub: &Hub, request: Request, privileged: bool) -> (Response, Option<std::fs::File>) {
    let ending = || (Response::Failed { text: "queue-manager is ending".to_owned() }, None);
    let (answer, answered) = oneshot::channel();
    match hub.events.send(Event::Control { request, privileged, answer }) {
        Ok(()) => answered.await.unwrap_or_else(|_| ending()),
        Err(_) => ending(),
    }
}
