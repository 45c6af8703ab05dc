//! The loop between a protocol machine and a stream.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use session::{AskId, Close, Machine, Moment, Step};
use tokio::io::{AsyncRead as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::stream::Stream;
use crate::tls::{ClientTls, ServerTls};

#[cfg(test)]
mod tests;

/// Output is flushed when so much has gathered, even if the machine has more.
const OUTPUT_HIGH: usize = 64 * 1024;
/// So many answers wait for the machine before their sender waits.
const ANSWERS: usize = 16;
/// How long a peer may take none of our output, or be in a handshake.
const PEER_STALLED: Duration = Duration::from_secs(300);
/// How long a client listens to a connection that broke while it wrote; the kernel has the last words already.
const LAST_WORDS: Duration = Duration::from_millis(200);
const READ: usize = 16 * 1024;
/// Input of so many octets at once is bulk: a flood of commands, or content.
const BULK: usize = 4 * 1024;

thread_local! {
    /// Reads land here first, so that an idle connection holds no buffer.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into_boxed_slice());
}

/// Where a handler's later answers go; each names its question.
pub struct Answers<M: Machine>(mpsc::Sender<Answered<M>>);

/// An answer on its way. In a box: a channel keeps room for 32 of what it carries, on an idle connection too.
type Answered<M> = Box<(AskId, <M as Machine>::Answer)>;

/// The session is over; nobody takes answers any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unheard;

impl<M: Machine> Clone for Answers<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M: Machine> std::fmt::Debug for Answers<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Answers")
    }
}

impl<M: Machine> Answers<M> {
    /// Sends an answer; waits while the machine has many before it.
    ///
    /// # Errors
    /// [`Unheard`].
    pub async fn send(&self, answer: (AskId, M::Answer)) -> Result<(), Unheard> {
        self.0.send(Box::new(answer)).await.map_err(|_| Unheard)
    }

    /// As [`Answers::send`], from a thread that may block.
    ///
    /// # Errors
    /// [`Unheard`].
    pub fn blocking_send(&self, answer: (AskId, M::Answer)) -> Result<(), Unheard> {
        self.0.blocking_send(Box::new(answer)).map_err(|_| Unheard)
    }
}

/// The outside of a machine: carries out its questions and takes its content.
pub trait Handler<M: Machine> {
    /// Carries out a question. `Some` answers at once; after `None` the answer, or a stream of answers, comes through `answers` later. While this
    /// future runs nothing is read, so long jobs and streams are spawned.
    fn ask(
        &mut self,
        id: AskId,
        question: M::Question,
        answers: &Answers<M>,
    ) -> impl Future<Output = Option<M::Answer>> + Send;

    /// Takes a chunk of content. The machine is not asked again before this is done: that is the back-pressure.
    fn give(&mut self, chunk: Vec<u8>) -> impl Future<Output = ()> + Send;

    /// TLS is active on the stream.
    fn tls_started(&mut self, stream: &Stream);
}

/// How a session ended.
#[derive(Debug)]
pub struct Ended<M> {
    /// Why.
    pub reason: Close,
    /// The machine in its last state; after [`Close::HandOver`] it holds what the next process needs.
    pub machine: M,
    /// The stream; still open after [`Close::HandOver`].
    pub stream: Stream,
    /// Input that was read and not taken by the machine.
    pub unread: Vec<u8>,
    /// Octets read from the peer.
    pub octets_in: u64,
    /// Octets written to the peer.
    pub octets_out: u64,
}

/// What [`Step::StartTls`] means on a connection.
#[derive(Clone, Copy)]
enum Upgrade<'a> {
    /// TLS is not available.
    None,
    /// We are the server.
    Server(&'a ServerTls),
    /// We are the client; the name of the server.
    Client(&'a ClientTls, &'a str),
}

impl Upgrade<'_> {
    async fn start(self, stream: Stream) -> io::Result<Stream> {
        match self {
            Self::None => Err(io::ErrorKind::Unsupported.into()),
            Self::Server(tls) => tls.accept(stream).await,
            Self::Client(tls, name) => tls.connect(stream, name).await,
        }
    }
}

/// A machine on a stream.
pub struct Driver<M: Machine> {
    machine: M,
    stream: Stream,
    input: Vec<u8>,
    output: Vec<u8>,
    began: Instant,
    /// The peer has ended its side, or the connection broke.
    at_end: bool,
    /// The machine knows of the end.
    end_told: bool,
    /// Whether input is read while output waits: a client must hear a refusal from a server that reads no more. A server does not listen
    /// to a client that does not read: that is the back-pressure.
    duplex: bool,
    /// The peer takes no more output: what is left of it is dropped.
    deaf: bool,
    /// Rings at the machine's deadline, or before it.
    timer: Option<Pin<Box<Sleep>>>,
    octets_in: u64,
    octets_out: u64,
}

/// What woke the driver.
enum Woken<M: Machine> {
    Read(io::Result<usize>),
    Answer(Answered<M>),
    Event(M::Event),
    Deadline,
}

impl<M: Machine> Driver<M> {
    /// Puts a machine on a stream. `unread` is input that another process read before the hand-over.
    ///
    /// In a box: the future of a session would keep room for the driver at each of its levels.
    pub fn new(machine: M, stream: Stream, unread: Vec<u8>) -> Box<Self> {
        Box::new(Self {
            machine,
            stream,
            input: unread,
            output: Vec::new(),
            began: Instant::now(),
            at_end: false,
            end_told: false,
            duplex: false,
            deaf: false,
            timer: None,
            octets_in: 0,
            octets_out: 0,
        })
    }

    /// Runs the session to its end. `events` may never bring anything; `tls` is needed only by machines that start TLS.
    pub fn run<H: Handler<M>>(
        self: Box<Self>,
        handler: &mut H,
        tls: Option<&ServerTls>,
        events: &mut mpsc::Receiver<M::Event>,
    ) -> impl Future<Output = Ended<M>> {
        self.run_with(handler, tls.map_or(Upgrade::None, Upgrade::Server), events)
    }

    /// As [`Driver::run`], for a machine that is the client of its protocol; with TLS comes the name of the server.
    pub fn run_client<'a, H: Handler<M>>(
        mut self: Box<Self>,
        handler: &'a mut H,
        tls: Option<(&'a ClientTls, &'a str)>,
        events: &'a mut mpsc::Receiver<M::Event>,
    ) -> impl Future<Output = Ended<M>> {
        let upgrade = tls.map_or(Upgrade::None, |(tls, name)| Upgrade::Client(tls, name));
        self.duplex = true;
        self.run_with(handler, upgrade, events)
    }

    async fn run_with<H: Handler<M>>(
        mut self: Box<Self>,
        handler: &mut H,
        tls: Upgrade<'_>,
        events: &mut mpsc::Receiver<M::Event>,
    ) -> Ended<M> {
        let (answers, mut answered) = mpsc::channel(ANSWERS);
        let answers = Answers(answers);
        let reason = self.serve(handler, tls, events, &answers, &mut answered).await;
        if reason != Close::HandOver {
            let _ = tokio::time::timeout(Duration::from_secs(5), self.stream.shutdown()).await;
        }
        let Self { machine, stream, input: unread, octets_in, octets_out, .. } = *self;
        Ended { reason, machine, stream, unread, octets_in, octets_out }
    }

    async fn serve<H: Handler<M>>(
        &mut self,
        handler: &mut H,
        tls: Upgrade<'_>,
        events: &mut mpsc::Receiver<M::Event>,
        answers: &Answers<M>,
        answered: &mut mpsc::Receiver<Answered<M>>,
    ) -> Close {
        let mut events_open = true;
        loop {
            if let Some(reason) = self.run_machine(handler, tls, answers).await {
                return reason;
            }
            if self.hand_input() {
                continue;
            }
            if self.flush().await.is_err() {
                return Close::Lost;
            }
            if self.hand_input() {
                continue;
            }
            match self.wait(events, &mut events_open, answered).await {
                Woken::Read(Ok(0)) => self.at_end = true,
                Woken::Read(Ok(count)) => {
                    self.octets_in += count as u64;
                    // Work for so much input takes long enough that the others come first, or a few peers that send much would hold every thread.
                    if count >= BULK {
                        tokio::task::yield_now().await;
                    }
                }
                Woken::Read(Err(_)) if self.duplex => self.at_end = true,
                Woken::Read(Err(_)) => return Close::Lost,
                Woken::Answer(answered) => {
                    let (id, answer) = *answered;
                    self.machine.answer(id, answer);
                }
                Woken::Event(event) => self.machine.event(event),
                Woken::Deadline => {}
            }
        }
    }

    fn now(&self) -> Moment {
        Moment(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Runs the machine until it waits; gives the reason if it ended.
    async fn run_machine<H: Handler<M>>(
        &mut self,
        handler: &mut H,
        tls: Upgrade<'_>,
        answers: &Answers<M>,
    ) -> Option<Close> {
        loop {
            match self.machine.next(self.now()) {
                Step::Send(bytes) if self.output.is_empty() => self.output = bytes,
                Step::Send(bytes) => self.output.extend_from_slice(&bytes),
                Step::Ask(id, question) => {
                    if let Some(answer) = handler.ask(id, question, answers).await {
                        self.hear_early_talk().await;
                        self.machine.answer(id, answer);
                    }
                }
                Step::Give(chunk) => handler.give(chunk).await,
                Step::StartTls => {
                    // On the heap while it runs: a session keeps no room for a handshake.
                    if let Err(reason) = Box::pin(self.start_tls(tls)).await {
                        return Some(reason);
                    }
                    handler.tls_started(&self.stream);
                }
                Step::Close(reason) => {
                    // What a client has left for a peer that it gives up would only hold it.
                    if !self.duplex || reason == Close::Quit {
                        let _ = self.flush().await;
                    }
                    return Some(reason);
                }
                Step::Wait => return None,
            }
            if self.output.len() >= OUTPUT_HIGH {
                if self.flush().await.is_err() {
                    return Some(Close::Lost);
                }
                if self.duplex {
                    self.hand_input();
                }
            }
        }
    }

    /// Takes what the peer has sent before the first answer, which in a server is the greeting: so the machine sees who talks before its turn.
    async fn hear_early_talk(&mut self) {
        if self.octets_in > 0 || !self.input.is_empty() {
            return;
        }
        let there = {
            let mut read = std::pin::pin!(read_some(&mut self.stream, &mut self.input));
            poll_fn(|context| Poll::Ready(read.as_mut().poll(context))).await
        };
        // Only what is there already; an end or an error shows again at the next read.
        if let Poll::Ready(Ok(count)) = there {
            self.octets_in += count as u64;
            self.offer_input();
        }
    }

    async fn start_tls(&mut self, tls: Upgrade<'_>) -> Result<(), Close> {
        self.flush().await.map_err(|_| Close::Lost)?;
        // T01: what came in clear after the command is never read as if it came through TLS.
        self.input.clear();
        let placeholder = Stream::Unix(unconnected().map_err(|_| Close::Lost)?);
        let plain = std::mem::replace(&mut self.stream, placeholder);
        let limit = match (tls, self.deadline()) {
            (Upgrade::Client(..), Some(deadline)) => deadline,
            _ => Instant::now() + PEER_STALLED,
        };
        let accepted = tokio::time::timeout_at(limit, tls.start(plain)).await;
        self.stream = accepted.map_err(|_| Close::Timeout)?.map_err(|_| Close::Hangup("TLS handshake failed"))?;
        self.machine.tls_started();
        Ok(())
    }

    /// Hands on input, and its end once all input was taken; whether the machine got anything.
    fn hand_input(&mut self) -> bool {
        if self.offer_input() {
            return true;
        }
        let ended = self.at_end && self.input.is_empty() && !self.end_told;
        if ended {
            self.end_told = true;
            self.machine.end_of_input();
        }
        ended
    }

    /// Offers input that the machine has not taken; whether it took any.
    fn offer_input(&mut self) -> bool {
        if self.input.is_empty() {
            return false;
        }
        let taken = self.machine.receive(&self.input);
        self.input.drain(..taken);
        if self.input.is_empty() && self.input.capacity() > READ {
            self.input = Vec::new();
        }
        taken > 0
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        if self.duplex {
            self.flush_and_listen().await;
            return Ok(());
        }
        let output = std::mem::take(&mut self.output);
        self.octets_out += output.len() as u64;
        let stream = &mut self.stream;
        let write = async {
            stream.write_all(&output).await?;
            stream.flush().await
        };
        tokio::time::timeout(PEER_STALLED, write).await?
    }

    /// As [`Driver::flush`] for the client of a protocol. What the peer says meanwhile is kept for the machine, up to a limit. Ends when all is
    /// written, when the peer takes no more, or at the machine's deadline; then output may be left.
    async fn flush_and_listen(&mut self) {
        let limit = self.deadline().unwrap_or_else(|| Instant::now() + PEER_STALLED);
        let mut written = 0;
        while !self.deaf {
            let input = (!self.at_end && self.input.len() < READ).then_some(&mut self.input);
            let moving = write_or_read(&mut self.stream, &self.output[written..], input);
            match tokio::time::timeout_at(limit, moving).await {
                Ok(Moved::Wrote(Ok(count))) => written += count,
                Ok(Moved::Flushed(Ok(()))) => break,
                Ok(Moved::Read(Ok(count))) => {
                    self.octets_in += count as u64;
                    self.at_end |= count == 0;
                }
                Ok(Moved::Read(Err(_))) => self.at_end = true,
                Ok(Moved::Wrote(Err(_)) | Moved::Flushed(Err(_))) => self.hear_last_words().await,
                Err(_) => break,
            }
        }
        self.octets_out += written as u64;
        if self.deaf {
            self.output.clear();
        } else {
            self.output.drain(..written);
        }
    }

    /// The connection is broken for writing. What the peer said before that can still be read (RFC 5321 section 4.2.5: a 5xx in the content
    /// followed by the end is a refusal, not a lost connection).
    async fn hear_last_words(&mut self) {
        self.deaf = true;
        while !self.at_end && self.input.len() < READ {
            let read = read_some(&mut self.stream, &mut self.input);
            match tokio::time::timeout(LAST_WORDS, read).await {
                Ok(Ok(count)) if count > 0 => self.octets_in += count as u64,
                _ => self.at_end = true,
            }
        }
        self.at_end = true;
    }

    /// The machine's deadline on our clock.
    fn deadline(&self) -> Option<Instant> {
        self.machine.deadline().map(|moment| self.began + Duration::from_millis(moment.0))
    }

    async fn wait(
        &mut self,
        events: &mut mpsc::Receiver<M::Event>,
        events_open: &mut bool,
        answered: &mut mpsc::Receiver<Answered<M>>,
    ) -> Woken<M> {
        let sleep = reach(self.deadline(), &mut self.timer);
        // With input left over the machine waits for an answer first: reading more would only fill memory.
        let may_read = !self.at_end && self.input.is_empty();
        let (stream, input) = (&mut self.stream, &mut self.input);
        tokio::select! {
            biased;
            Some(answer) = answered.recv() => Woken::Answer(answer),
            event = events.recv(), if *events_open => match event {
                Some(event) => Woken::Event(event),
                None => {
                    *events_open = false;
                    Woken::Deadline
                }
            },
            read = read_some(stream, input), if may_read => Woken::Read(read),
            () = sleep => Woken::Deadline,
        }
    }
}

/// Waits for a deadline. The timer is kept from one wait to the next and moved only where that must be: most deadlines are put off by the next
/// line of input, and every timer that is set costs a turn of the event loop.
async fn reach(deadline: Option<Instant>, timer: &mut Option<Pin<Box<Sleep>>>) {
    let Some(deadline) = deadline else { return std::future::pending().await };
    let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
    loop {
        if timer.is_elapsed() || timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().await;
        if timer.deadline() >= deadline {
            return;
        }
    }
}

fn unconnected() -> io::Result<tokio::net::UnixStream> {
    tokio::net::UnixStream::pair().map(|(one, _)| one)
}

async fn read_some(stream: &mut Stream, input: &mut Vec<u8>) -> io::Result<usize> {
    poll_fn(|cx| poll_read_some(cx, stream, input)).await
}

fn poll_read_some(cx: &mut TaskContext<'_>, stream: &mut Stream, input: &mut Vec<u8>) -> Poll<io::Result<usize>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut buffer = ReadBuf::new(&mut scratch[..]);
        match Pin::new(stream).poll_read(cx, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {
                input.extend_from_slice(buffer.filled());
                Poll::Ready(Ok(buffer.filled().len()))
            }
        }
    })
}

/// What a stream did of several things at once.
enum Moved {
    Wrote(io::Result<usize>),
    Flushed(io::Result<()>),
    Read(io::Result<usize>),
}

/// Writes what is there (flushes where nothing is left), and reads if `input` may take more, whichever comes first.
async fn write_or_read(stream: &mut Stream, output: &[u8], mut input: Option<&mut Vec<u8>>) -> Moved {
    poll_fn(|cx| {
        let wrote = if output.is_empty() {
            Pin::new(&mut *stream).poll_flush(cx).map(Moved::Flushed)
        } else {
            // Writing nothing means that nothing will ever be written.
            let wrote = Pin::new(&mut *stream).poll_write(cx, output);
            wrote.map(|wrote| Moved::Wrote(wrote.and_then(|count| some(count).ok_or(io::ErrorKind::WriteZero.into()))))
        };
        match (wrote, &mut input) {
            (Poll::Pending, Some(input)) => poll_read_some(cx, stream, input).map(Moved::Read),
            (wrote, _) => wrote,
        }
    })
    .await
}

fn some(count: usize) -> Option<usize> {
    (count > 0).then_some(count)
}
