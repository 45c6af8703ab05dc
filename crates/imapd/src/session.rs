//! A session, from the reply to the login to the log line: the machine on its stream, its jobs on the pool, and the watch of IDLE.

use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mail_imap::{Answer, Event, HandOver, Mailbox as Machine, Question};
use mail_net::{Answers, Driver, Handler, Stream};
use mail_store::{Account, Tell, Watch, Watches};
use mailbox_service::{Connection, Home, LineLevel};
use session::{AskId, Close};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::{AbortHandle, spawn_blocking};

use crate::jobs::{Counts, Jobs};
use crate::names::Names;
use crate::settings::{Settings, logout_text};

/// Content of APPEND is gathered up to here before it goes to a thread.
const CONTENT_BATCH: usize = 256 * 1024;
/// A job on a mailbox of so many messages may use much memory.
const MANY: usize = 256;

/// What a session works on.
pub struct Parts {
    /// The owner's mailboxes.
    pub account: Arc<dyn Account>,
    /// Namespaces and described mailboxes.
    pub names: Arc<Names>,
    /// Takes errors for the administrator.
    pub log: Arc<dyn Fn(String) + Send + Sync>,
    /// Names of mailboxes that got mail.
    pub announcements: broadcast::Sender<String>,
    /// How often a mailbox without a watch is looked at.
    pub poll: Duration,
    /// To be called after a job on many messages.
    pub worked_hard: Arc<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("names", &self.names).finish_non_exhaustive()
    }
}

/// Serves a session; gives what the log says of its end after `Disconnected: `.
pub fn serve(
    settings: Arc<Settings>,
    home: Arc<Home>,
    connection: Connection,
) -> impl Future<Output = String> + Send + use<> {
    let Connection { hand_over, stream, shutdown } = connection;
    let (name, lines, worker) = (hand_over.session.clone(), Arc::clone(&home), Arc::clone(&home));
    let parts = Parts {
        account: Arc::clone(&home.account),
        names: Arc::clone(&settings.names),
        log: Arc::new(move |text| lines.line(&name, LineLevel::Error, text)),
        announcements: home.announcements.clone(),
        poll: settings.poll,
        worked_hard: Arc::new(move || worker.worked_hard()),
    };
    let tag = hand_over.tag.clone().unwrap_or_else(|| "*".to_owned());
    let machine = Machine::new(settings.machine.clone(), &HandOver { tag, unread: hand_over.unread.clone() });
    let end = move |counts: &Counts, octets_in, octets_out| {
        logout_text(&settings.logout_format, counts, octets_in, octets_out)
    };
    run(machine, stream, parts, end, shutdown)
}

/// Runs a machine on a stream until it ends or the service does. `end` says what the log tells of what was done, of octets in, and out.
///
/// What the session holds is put where it stays before the future begins: that would keep room for all it is given, and for where it goes.
pub fn run(
    machine: Machine,
    stream: Stream,
    parts: Parts,
    end: impl FnOnce(&Counts, u64, u64) -> String + Send,
    shutdown: watch::Receiver<bool>,
) -> impl Future<Output = String> + Send {
    let (events, heard) = mpsc::channel(8);
    let handler = Box::new(Session::new(parts, events));
    converse(Driver::new(machine, stream, Vec::new()), handler, heard, end, shutdown)
}

async fn converse(
    driver: Box<Driver<Machine>>,
    mut handler: Box<Session>,
    mut heard: mpsc::Receiver<Event>,
    end: impl FnOnce(&Counts, u64, u64) -> String,
    mut shutdown: watch::Receiver<bool>,
) -> String {
    handler.prepare().await;
    let events = handler.events.clone();
    let (reason, octets_in, octets_out) = {
        // Pinned where it is made: a future keeps room for what is moved.
        let mut run = std::pin::pin!(driver.run(&mut *handler, None, &mut heard));
        let ended = tokio::select! {
            ended = &mut run => ended,
            () = asked_to_end(&mut shutdown) => {
                let _ = events.try_send(Event::Shutdown);
                run.await
            }
        };
        (ended.reason, ended.octets_in, ended.octets_out)
    };
    // The last job may still be under way, and must not stop the thread of all sessions.
    let counts = handler.jobs.try_lock().ok().map(|jobs| jobs.counts);
    let counts = match counts {
        Some(counts) => counts,
        None => {
            let jobs = Arc::clone(&handler.jobs);
            spawn_blocking(move || lock(&jobs).counts).await.unwrap_or_default()
        }
    };
    format!("{} {}", why(&reason), end(&counts, octets_in, octets_out))
}

/// Waits until the service ends.
async fn asked_to_end(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|end| *end).await;
}

/// Dovecot's words for the end of a session.
fn why(reason: &Close) -> &'static str {
    match reason {
        Close::Quit | Close::HandOver => "Logged out",
        Close::Timeout => "Inactivity",
        Close::Lost => "Connection closed",
        Close::Hangup(text) => text,
    }
}

/// The outside of the machine.
struct Session {
    account: Arc<dyn Account>,
    jobs: Arc<Mutex<Jobs>>,
    /// Content of APPEND that no job has taken yet.
    content: Vec<u8>,
    events: mpsc::Sender<Event>,
    announcements: broadcast::Sender<String>,
    poll: Duration,
    worked_hard: Arc<dyn Fn() + Send + Sync>,
    watching: Option<Watching>,
}

/// How a session hears of changes while its client idles.
enum Watching {
    /// The kernel tells, of local-delivery's mail as well.
    Kernel { _watch: Watch },
    /// A task hears local-delivery, and looks now and then.
    Task(AbortHandle),
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Self::Task(task) = self {
            task.abort();
        }
    }
}

impl Session {
    fn new(parts: Parts, events: mpsc::Sender<Event>) -> Self {
        let Parts { account, names, log, announcements, poll, worked_hard } = parts;
        let jobs = Arc::new(Mutex::new(Jobs::new(Arc::clone(&account), names, log)));
        Self { account, jobs, content: Vec::new(), events, announcements, poll, worked_hard, watching: None }
    }

    /// What is done before the client hears that it is logged in.
    async fn prepare(&self) {
        if !lock(&self.jobs).has_to_make_described() {
            return;
        }
        let jobs = Arc::clone(&self.jobs);
        let _ = spawn_blocking(move || lock(&jobs).make_described()).await;
    }

    async fn watch(&mut self) {
        self.watching = None;
        let (jobs, events) = (Arc::clone(&self.jobs), self.events.clone());
        let tell: Tell = Arc::new(move || {
            // A full queue holds the same news already.
            let _ = events.try_send(Event::Changed);
        });
        let watch = spawn_blocking(move || lock(&jobs).watch(&tell)).await.ok().flatten();
        if let Some(watches) = self.account.watches().filter(|watches| watches.to_be_attended()) {
            tokio::spawn(attend(watches));
        }
        self.watching = Some(match watch {
            Some(watch) => Watching::Kernel { _watch: watch },
            None => {
                let (events, announced) = (self.events.clone(), self.announcements.subscribe());
                Watching::Task(tokio::spawn(follow(announced, events, self.poll)).abort_handle())
            }
        });
    }
}

impl Handler<Machine> for Session {
    async fn ask(&mut self, id: AskId, question: Question, answers: &Answers<Machine>) -> Option<Answer> {
        match question {
            Question::Watch => self.watch().await,
            Question::Unwatch => self.watching = None,
            question => {
                let (jobs, answers, content) =
                    (Arc::clone(&self.jobs), answers.clone(), std::mem::take(&mut self.content));
                let worked_hard = Arc::clone(&self.worked_hard);
                spawn_blocking(move || {
                    let mut jobs = lock(&jobs);
                    jobs.write(&content);
                    // The channel is bounded: a slow client makes the job wait, a lost one ends it.
                    let answer =
                        jobs.run(question, &mut |chunk| answers.blocking_send((id, Answer::Data(chunk))).is_ok());
                    if jobs.messages() >= MANY {
                        worked_hard();
                    }
                    if let Some(answer) = answer {
                        let _ = answers.blocking_send((id, answer));
                    }
                });
            }
        }
        None
    }

    async fn give(&mut self, chunk: Vec<u8>) {
        self.content.extend_from_slice(&chunk);
        if self.content.len() >= CONTENT_BATCH {
            let (jobs, content) = (Arc::clone(&self.jobs), std::mem::take(&mut self.content));
            let _ = spawn_blocking(move || lock(&jobs).write(&content)).await;
        }
    }

    fn tls_started(&mut self, _stream: &Stream) {}
}

/// Tells the machine of changes without a watch: by local-delivery's word, or by looking now and then.
async fn follow(mut announced: broadcast::Receiver<String>, events: mpsc::Sender<Event>, poll: Duration) {
    loop {
        tokio::select! {
            heard = announced.recv() => match heard {
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            },
            () = tokio::time::sleep(poll) => {}
        }
        if events.is_closed() {
            return;
        }
        let _ = events.try_send(Event::Changed);
    }
}

/// Passes on what the kernel says of changes by other programs, for all sessions of the process.
async fn attend(watches: Arc<Watches>) {
    // An inotify descriptor is read like a pipe.
    let copy = watches.as_fd().try_clone_to_owned();
    let Some(watched) = copy.ok().and_then(|copy| Receiver::from_owned_fd_unchecked(copy).ok()) else { return };
    while watched.readable().await.is_ok() {
        let mut events = vec![0; 4096];
        match watched.try_read(&mut events) {
            Ok(count) if count > 0 => watches.tell(&events[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => return,
        }
    }
}

fn lock(jobs: &Mutex<Jobs>) -> MutexGuard<'_, Jobs> {
    jobs.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use mail_imap::MailboxSettings;
    use mail_store::Location;
    use mail_store::maildir::MaildirAccount;
    use mail_types::Octets;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixStream;

    use super::*;
    use crate::names::tests::namespace;

    struct Client {
        stream: UnixStream,
        heard: String,
        ended: tokio::task::JoinHandle<String>,
        shutdown: watch::Sender<bool>,
    }

    impl Client {
        async fn on(path: &std::path::Path) -> Self {
            let (ours, theirs) = UnixStream::pair().expect("pair");
            let parts = Parts {
                account: Arc::new(MaildirAccount::new(Location::maildir(path), Arc::new(|_: &str| {}))),
                names: Arc::new(Names::new(&[namespace("", '/', &[])])),
                log: Arc::new(|text| panic!("an error was logged: {text}")),
                announcements: broadcast::channel(4).0,
                poll: Duration::from_secs(3600),
                worked_hard: Arc::new(|| {}),
            };
            let machine =
                Machine::new(MailboxSettings::default(), &HandOver { tag: "l".into(), unread: Octets::default() });
            let (shutdown, asked) = watch::channel(false);
            let end = |counts: &Counts, octets_in, octets_out| {
                logout_text("in=%i deleted=%{deleted}", counts, octets_in, octets_out)
            };
            let ended = tokio::spawn(run(machine, Stream::Unix(theirs), parts, end, asked));
            let mut client = Self { stream: ours, heard: String::new(), ended, shutdown };
            client.until("l OK").await;
            client
        }

        /// Everything up to the line that begins so.
        async fn until(&mut self, beginning: &str) -> String {
            let wait = async {
                loop {
                    let lines = self.heard.split_inclusive("\r\n").filter(|line| line.ends_with("\r\n"));
                    let mut end = 0;
                    for line in lines {
                        end += line.len();
                        if line.starts_with(beginning) {
                            let rest = self.heard.split_off(end);
                            return std::mem::replace(&mut self.heard, rest);
                        }
                    }
                    let mut chunk = [0; 4096];
                    let count = self.stream.read(&mut chunk).await.expect("read");
                    assert!(count > 0, "closed while waiting for {beginning}: {}", self.heard);
                    self.heard.push_str(&String::from_utf8_lossy(&chunk[..count]));
                }
            };
            tokio::time::timeout(Duration::from_secs(120), wait)
                .await
                .unwrap_or_else(|_| panic!("waited for {beginning}"))
        }

        async fn say(&mut self, command: &str) -> String {
            self.stream.write_all(format!("t {command}\r\n").as_bytes()).await.expect("written");
            self.until("t ").await
        }
    }

    #[tokio::test]
    async fn an_idling_client_hears_of_mail_and_flags_that_another_brings() {
        // I22
        let directory = tempfile::tempdir().expect("directory");
        let (mut one, mut two) = (Client::on(directory.path()).await, Client::on(directory.path()).await);
        assert!(one.say("SELECT INBOX").await.contains("* 0 EXISTS"));
        one.stream.write_all(b"t IDLE\r\n").await.expect("written");
        one.until("+ idling").await;
        two.say("APPEND INBOX {4+}\r\na\r\nb").await;
        one.until("* 1 EXISTS").await;
        two.say("SELECT INBOX").await;
        two.say("STORE 1 +FLAGS \\Deleted").await;
        one.until("* 1 FETCH (FLAGS (\\Deleted").await;
        two.say("EXPUNGE").await;
        one.until("* 1 EXPUNGE").await;
        one.stream.write_all(b"DONE\r\n").await.expect("written");
        one.until("t OK Idle completed.").await;
        two.say("LOGOUT").await;
        assert_eq!(two.ended.await.expect("ended"), "Logged out in=91 deleted=1");
    }

    #[tokio::test]
    async fn a_big_message_passes_in_chunks_and_back() {
        // R1, I19
        let directory = tempfile::tempdir().expect("directory");
        let mut client = Client::on(directory.path()).await;
        let body = format!("Subject: big\r\n\r\n{}", "0123456789abcdef\r\n".repeat(100_000));
        let appended = client.say(&format!("APPEND INBOX {{{}+}}\r\n{body}", body.len())).await;
        assert!(appended.starts_with("t OK [APPENDUID"), "{appended}");
        client.say("SELECT INBOX").await;
        let fetched = client.say("FETCH 1 BODY.PEEK[]").await;
        assert!(fetched.contains(&body) && fetched.starts_with(&format!("* 1 FETCH (BODY[] {{{}}}\r\n", body.len())));
    }

    #[tokio::test]
    async fn the_end_of_the_service_is_announced() {
        // I29
        let directory = tempfile::tempdir().expect("directory");
        let mut client = Client::on(directory.path()).await;
        client.shutdown.send(true).expect("heard");
        client.until("* BYE Server shutting down.").await;
        assert!(client.ended.await.expect("ended").starts_with("Server shutting down."));
    }
}
