//! The daemon's own control socket: which generation it runs on, reload, changed tables.

use std::path::PathBuf;
use std::sync::Arc;

use mail_ipc::Frame;
use mail_ipc::control::{DaemonRequest, DaemonResponse};
use mail_ipc::hello::Hello;
use mail_net::ipc;
use tokio::net::{UnixListener, UnixStream};

use crate::context::Keeper;

/// Serves the socket for ever.
pub(crate) async fn serve(keeper: Arc<Keeper>, listener: UnixListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // No descriptor left: operators wait until sessions end.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        tokio::spawn(talk(Arc::clone(&keeper), stream));
    }
}

async fn talk(keeper: Arc<Keeper>, stream: UnixStream) {
    let hello = Hello::new(keeper.setup.role, keeper.setup.instance.clone());
    let Ok(mut conversation) = ipc::accept(stream, &hello).await else { return };
    while let Ok(Some(received)) = conversation.reader.frame().await {
        let id = received.raw.id();
        let response = match received.read::<DaemonRequest>() {
            Ok(frame) => answer(&keeper, frame.body).await,
            Err(_) => DaemonResponse::NotUnderstood,
        };
        if conversation.writer.send(&Frame::new(id, response), &[], &[]).await.is_err() {
            return;
        }
    }
}

async fn answer(keeper: &Keeper, request: DaemonRequest) -> DaemonResponse {
    match request {
        DaemonRequest::Status => {}
        DaemonRequest::Reload => {
            if let Err(error) = keeper.reload().await {
                return DaemonResponse::Failed { text: error.to_string() };
            }
        }
        DaemonRequest::TableChanged { path } => {
            keeper.refresh_tables().await;
            // Nobody listening means that this daemon has no tables.
            let _ = keeper.tables.send(PathBuf::from(path));
        }
    }
    DaemonResponse::Running { generation: keeper.running.borrow().generation, pid: std::process::id() }
}
