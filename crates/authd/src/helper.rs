//! The front's side: questions to the monitor, many at a time.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mail_ipc::Frame;
use mail_net::ipc::{Reader, Writer};
use tokio::sync::{Mutex as AsyncMutex, oneshot};

use crate::questions::{Answer, Question};

/// The monitor ends a helper after 60 seconds, so an answer comes before this.
const PATIENCE: Duration = Duration::from_secs(70);

/// An answer with the descriptors that came with it.
type Answered = (Answer, Vec<OwnedFd>);
/// Who waits for which answer.
type Waiters = HashMap<u64, oneshot::Sender<Answered>>;
type Waiting = Arc<Mutex<Waiters>>;

/// The conversation with the monitor.
#[derive(Clone)]
pub(crate) struct Helper {
    writer: Arc<AsyncMutex<(u64, Writer)>>,
    waiting: Waiting,
}

impl Helper {
    /// Takes the conversation; answers are read by a task of its own.
    pub(crate) fn start((reader, writer): (Reader, Writer)) -> Self {
        let helper = Self { writer: Arc::new(AsyncMutex::new((1, writer))), waiting: Waiting::default() };
        tokio::spawn(read(reader, Arc::clone(&helper.waiting)));
        helper
    }

    /// Asks, and waits for the answer.
    pub(crate) async fn ask(&self, question: Question) -> Result<Answered, String> {
        let (sender, receiver) = oneshot::channel();
        let id = {
            let mut writer = self.writer.lock().await;
            let id = writer.0;
            writer.0 += 1;
            self.lock().insert(id, sender);
            if let Err(error) = writer.1.send(&Frame::new(id, question), &[], &[]).await {
                self.lock().remove(&id);
                return Err(format!("the monitor does not answer: {error}"));
            }
            id
        };
        match tokio::time::timeout(PATIENCE, receiver).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err("the monitor has ended".into()),
            Err(_) => {
                self.lock().remove(&id);
                Err("the monitor does not answer in time".into())
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiters> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read(mut reader: Reader, waiting: Waiting) {
    while let Ok(Some(received)) = reader.frame().await {
        let Ok(frame) = received.read::<Answer>() else { continue };
        let sender = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&frame.id);
        if let Some(sender) = sender {
            // Nobody waits any more when a client has gone.
            let _ = sender.send((frame.body, received.descriptors));
        }
    }
    waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
}
