//! A queue-manager that remembers what it was given.

use std::collections::VecDeque;
use std::fs;
use std::io::{Read as _, Seek as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::mpsc;

use mail_ipc::frame::Frame;
use mail_ipc::hello::{Hello, Role};
use mail_ipc::intake::{Content, Request, Response};
use mail_ipc::sockets;
use mail_net::ipc;
use mail_types::{EnhancedStatus, Envelope, QueueId, Reply, ReplyCode};

use crate::give;

/// A message that the queue has taken.
#[derive(Debug)]
pub struct Taken {
    pub id: QueueId,
    pub envelope: Envelope,
    content: Vec<u8>,
    pub in_file: bool,
    pub hold: bool,
}

impl Taken {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.content).into_owned()
    }

    pub fn recipients(&self) -> Vec<(String, Option<&str>)> {
        self.envelope.recipients.iter().map(|r| (r.address.to_string(), r.original.as_deref())).collect()
    }
}

/// What the queue does with the next submission.
pub enum Mood {
    /// The connection breaks before the answer.
    Break,
    Refuse,
}

/// A queue-manager that remembers what it was given.
pub struct Queue {
    pub taken: mpsc::Receiver<Taken>,
    _runtime: tokio::runtime::Runtime,
}

pub fn queue(state: &Path, moods: Vec<Mood>) -> Queue {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let (sender, taken) = mpsc::channel();
    let directory = state.join("private");
    let listener = ipc::bind(&directory, sockets::QUEUE.name, 0o666).expect("bound");
    give(&directory.join(sockets::QUEUE.name));
    runtime.spawn(async move {
        let listener = tokio::net::UnixListener::from_std(listener).expect("in a runtime");
        let mut moods = VecDeque::from(moods);
        let mut first = 1;
        loop {
            let (stream, _) = listener.accept().await.expect("a caller");
            // A conversation that breaks is opened again.
            let _ = talk(stream, &mut moods, &mut first, &sender).await;
        }
    });
    Queue { taken, _runtime: runtime }
}

async fn talk(
    stream: tokio::net::UnixStream,
    moods: &mut VecDeque<Mood>,
    first: &mut u32,
    taken: &mpsc::Sender<Taken>,
) -> std::io::Result<()> {
    let mut talk = ipc::accept(stream, &Hello::new(Role::QueueManager, "queue-manager")).await?;
    let mut file: Option<fs::File> = None;
    while let Some(received) = talk.reader.frame().await? {
        let frame = received.read::<Request>().expect("understood");
        let answer = match frame.body {
            Request::Ids => {
                *first += 10;
                Response::Ids { first: *first, count: 10 }
            }
            Request::OpenContent { id } => {
                let made = tempfile::tempfile()?;
                talk.writer.send(&Frame::new(frame.id, Response::Opened { id }), &[made.as_fd()], &[]).await?;
                file = Some(made);
                continue;
            }
            Request::Abandon { .. } | Request::Recipients { .. } => continue,
            Request::Verify { .. } => Response::Verified { answer: mail_ipc::intake::Verified::Unknown },
            Request::Submit { id, mut envelope, mut more_recipients, content, hold } => {
                while more_recipients {
                    let page = talk.reader.frame().await?.expect("a page").read::<Request>().expect("understood");
                    let Request::Recipients { recipients, more, .. } = page.body else { panic!("no page") };
                    envelope.recipients.extend(recipients);
                    more_recipients = more;
                }
                let (octets, in_file) = match content {
                    Content::Follows(length) => (talk.reader.content(length as usize).await?, false),
                    Content::File => {
                        let mut file = file.take().expect("opened before");
                        let mut octets = Vec::new();
                        file.rewind()?;
                        file.read_to_end(&mut octets)?;
                        (octets, true)
                    }
                };
                assert_eq!(envelope.size, octets.len() as u64);
                let _ = taken.send(Taken { id, envelope: *envelope, content: octets, in_file, hold });
                match moods.pop_front() {
                    Some(Mood::Break) => return Ok(()),
                    Some(Mood::Refuse) => {
                        let reply = Reply::new(ReplyCode::of(452), EnhancedStatus::of(4, 3, 1), "no space");
                        Response::Refused { id, reply }
                    }
                    None => Response::Accepted { id },
                }
            }
        };
        talk.writer.send(&Frame::new(frame.id, answer), &[], &[]).await?;
    }
    Ok(())
}
