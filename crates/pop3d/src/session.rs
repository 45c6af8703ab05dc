//! A session on the inbox, from the reply to the login to the log line.

use std::sync::{Arc, Mutex, PoisonError};

use mail_net::{Answers, Driver, Handler, Stream};
use mail_pop3::mailbox::{Answer, Event, MailboxMachine, Message, Options, Question, Statistics};
use mail_pop3::reply::{self, Code};
use mail_store::StoreError;
use mailbox_service::{Connection, Home, LineLevel};
use session::{AskId, Close};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;

use crate::inbox::{Ahead, Batch, Content, Inbox, OpenError};
use crate::settings::{Settings, logout_text};

/// Serves a session; gives what the log says of its end after `Disconnected: `.
pub async fn serve(settings: Arc<Settings>, home: Arc<Home>, connection: Connection) -> String {
    let Connection { hand_over, stream, mut shutdown } = connection;
    // P02c
    let lock = settings.lock.then(|| Arc::clone(&home.exclusive).try_lock_owned());
    if let Some(Err(_)) = lock {
        let text = reply::err_code(Code::InUse, "Mailbox is locked by another POP3 session.");
        return refuse(stream, &text, "Mailbox is locked", &settings).await;
    }
    let (inbox, messages) = match open(&settings, &home, &hand_over.session).await {
        Ok(opened) => opened,
        Err(error) => {
            let (code, text) = match error {
                OpenError::Temporary(text) => (Code::SysTemp, text),
                OpenError::Permanent(text) => (Code::SysPerm, text),
            };
            home.line(&hand_over.session, LineLevel::Error, format!("Couldn't open INBOX: {text}"));
            let reply = reply::err_code(code, "Mailbox cannot be opened. Refer to server log.");
            return refuse(stream, &reply, "Couldn't open INBOX", &settings).await;
        }
    };
    let inbox = Arc::new(Mutex::new(inbox));
    let machine = MailboxMachine::new(messages, Options { last: settings.last });
    let mut jobs = Jobs {
        inbox: Arc::clone(&inbox),
        settings: Arc::clone(&settings),
        home: Arc::clone(&home),
        session: hand_over.session.clone(),
        ahead: Arc::default(),
        last: None,
    };
    let (events, mut heard) = mpsc::channel(1);
    let driver = Driver::new(machine, stream, hand_over.unread.as_bytes().to_vec());
    let ended = {
        // Pinned where it is made: a future keeps room for what is moved.
        let mut run = std::pin::pin!(driver.run(&mut jobs, None, &mut heard));
        tokio::select! {
            ended = &mut run => ended,
            () = asked_to_end(&mut shutdown) => {
                let _ = events.try_send(Event::Shutdown);
                run.await
            }
        }
    };
    drop(jobs);
    close(inbox, &settings, &home, &hand_over.session).await;
    let text = logout_text(
        &settings.logout_format,
        &ended.machine.statistics(),
        ended.octets_in + hand_over.unread.as_bytes().len() as u64,
        ended.octets_out,
    );
    format!("{} {text}", why(&ended.reason))
}

/// Waits until the service ends.
async fn asked_to_end(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|end| *end).await;
}

async fn open(settings: &Arc<Settings>, home: &Arc<Home>, session: &str) -> Result<(Inbox, Vec<Message>), OpenError> {
    let (home, settings, session) = (Arc::clone(home), Arc::clone(settings), session.to_owned());
    let opened = spawn_blocking(move || {
        let notice = |text| home.line(&session, LineLevel::Warning, text);
        Inbox::open(&*home.account, &settings, notice)
    })
    .await;
    opened.unwrap_or_else(|_| Err(OpenError::Temporary("internal error".to_owned())))
}

/// Closes the inbox.
async fn close(inbox: Arc<Mutex<Inbox>>, settings: &Arc<Settings>, home: &Home, session: &str) {
    let settings = Arc::clone(settings);
    if let Err(error) = job(move || lock(&inbox).close(&settings)).await {
        home.line(session, LineLevel::Error, format!("Couldn't set flags: {error}"));
    }
}

/// Tells a client that there is no session, and closes.
async fn refuse(mut stream: Stream, reply: &[u8], why: &str, settings: &Settings) -> String {
    let _ = stream.write_all(reply).await;
    let _ = stream.shutdown().await;
    format!("{why} {}", logout_text(&settings.logout_format, &Statistics::default(), 0, reply.len() as u64))
}

/// Dovecot's words for the end of a session.
fn why(reason: &Close) -> &'static str {
    match reason {
        Close::Quit | Close::HandOver => "Logged out",
        Close::Timeout => "Disconnected for inactivity",
        Close::Lost => "Connection closed",
        Close::Hangup(text) => text,
    }
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Carries the machine's questions out on the pool of mailbox jobs.
struct Jobs {
    inbox: Arc<Mutex<Inbox>>,
    settings: Arc<Settings>,
    home: Arc<Home>,
    session: String,
    /// What was read before it was asked for.
    ahead: Arc<Mutex<Ahead>>,
    /// The message that was last asked for as a whole.
    last: Option<usize>,
}

impl Jobs {
    /// A message that has been read already.
    fn read_before(&self, index: usize) -> Option<Vec<u8>> {
        let mut ahead = lock(&self.ahead);
        while let Some((known, content)) = ahead.pop_front() {
            if known == index {
                return Some(content);
            }
        }
        None
    }
}

impl Handler<MailboxMachine> for Jobs {
    async fn ask(&mut self, id: AskId, question: Question, answers: &Answers<MailboxMachine>) -> Option<Answer> {
        let (inbox, answers) = (Arc::clone(&self.inbox), answers.clone());
        let (home, session) = (Arc::clone(&self.home), self.session.clone());
        match question {
            Question::Content { index, lines } => {
                let follow = self.last.replace(index).is_some_and(|last| last + 1 == index);
                if let Some(content) = lines.is_none().then(|| self.read_before(index)).flatten() {
                    lock(&inbox).retrieved(index);
                    return Some(Answer::Whole(content));
                }
                let (settings, ahead) = (Arc::clone(&self.settings), Arc::clone(&self.ahead));
                tokio::spawn(async move {
                    let wanted = Wanted { index, lines, follow };
                    let sent = send(inbox, wanted, settings, ahead, id, &answers).await;
                    let last = match sent {
                        Ok(last) => last,
                        Err(StoreError::Expunged) => Answer::Expunged,
                        Err(error) => {
                            home.line(&session, LineLevel::Error, format!("Couldn't read a message: {error}"));
                            Answer::Unreadable
                        }
                    };
                    let _ = answers.send((id, last)).await;
                });
            }
            // Nobody waits for it, and no other job of the session runs now.
            Question::Reset { all } => lock(&inbox).reset(all),
            Question::Update { deleted } => {
                let settings = Arc::clone(&self.settings);
                spawn_blocking(move || {
                    let mut inbox = lock(&inbox);
                    let answer = match inbox.update(&deleted, &settings) {
                        Ok(()) => Answer::Updated,
                        Err(error) => {
                            home.line(&session, LineLevel::Error, format!("Couldn't update the mailbox: {error}"));
                            Answer::NotUpdated
                        }
                    };
                    if let Err(error) = inbox.close(&settings) {
                        home.line(&session, LineLevel::Error, format!("Couldn't set flags: {error}"));
                    }
                    let _ = answers.blocking_send((id, answer));
                });
            }
        }
        None
    }

    async fn give(&mut self, _chunk: Vec<u8>) {}

    fn tls_started(&mut self, _stream: &Stream) {}
}

/// Which message is sent, and how.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    index: usize,
    /// So many lines of its body; none: all of it.
    lines: Option<u32>,
    /// The client takes one message after the other.
    follow: bool,
}

/// What a job found: all of a message and of some that follow it, or the beginning of a long one.
enum Found {
    Whole(Ahead),
    Long(Box<Content>, Batch),
}

/// Reads a message on the pool and sends it as fast as the client takes it; gives the last answer. Ends early, and well, when nobody takes it
/// any more.
async fn send(
    inbox: Arc<Mutex<Inbox>>,
    wanted: Wanted,
    settings: Arc<Settings>,
    ahead: Arc<Mutex<Ahead>>,
    id: AskId,
    answers: &Answers<MailboxMachine>,
) -> Result<Answer, StoreError> {
    let Wanted { index, lines, follow } = wanted;
    let opening = Arc::clone(&inbox);
    let found = job(move || {
        let inbox = lock(&opening);
        if lines.is_none()
            && let Some(read) = inbox.whole(index, follow, &settings)?
        {
            return Ok(Found::Whole(read));
        }
        let mut content = inbox.content(index, lines, &settings)?;
        let batch = content.read()?;
        Ok(Found::Long(Box::new(content), batch))
    })
    .await?;
    let last = match found {
        Found::Whole(mut read) => {
            let first = read.pop_front().map(|(_, content)| content).unwrap_or_default();
            *lock(&ahead) = read;
            Answer::Whole(first)
        }
        Found::Long(content, batch) => {
            if !send_long(content, batch, id, answers).await? {
                return Ok(Answer::End);
            }
            Answer::End
        }
    };
    if lines.is_none() {
        lock(&inbox).retrieved(index);
    }
    Ok(last)
}

/// Sends a long message piece by piece; whether the client took all of it.
async fn send_long(
    mut content: Box<Content>,
    mut batch: Batch,
    id: AskId,
    answers: &Answers<MailboxMachine>,
) -> Result<bool, StoreError> {
    loop {
        for chunk in batch.chunks {
            if answers.send((id, Answer::Chunk(chunk))).await.is_err() {
                return Ok(false);
            }
        }
        if batch.last {
            return Ok(true);
        }
        (content, batch) = job(move || {
            let batch = content.read()?;
            Ok((content, batch))
        })
        .await?;
    }
}

/// Runs a job on the pool.
async fn job<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let failed = |_| StoreError::Io("internal error".to_owned(), std::io::ErrorKind::Other.into());
    spawn_blocking(work).await.map_err(failed)?
}
