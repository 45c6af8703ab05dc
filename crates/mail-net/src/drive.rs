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
use tokio::time::Instant;

use crate::stream::Stream;
use crate::tls::{ClientTls, ServerTls};

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
    static SCRATCH: RefCell<Box<[u8; READ]>> = RefCell::new(Box::new([0; READ]));
}

/// Where a handler's later answers go; each names its question.
pub type Answers<M> = mpsc::Sender<(AskId, <M as Machine>::Answer)>;

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
    octets_in: u64,
    octets_out: u64,
}

/// What woke the driver.
enum Woken<M: Machine> {
    Read(io::Result<usize>),
    Answer((AskId, M::Answer)),
    Event(M::Event),
    Deadline,
}

impl<M: Machine> Driver<M> {
    /// Puts a machine on a stream. `unread` is input that another process read before the hand-over.
    pub fn new(machine: M, stream: Stream, unread: Vec<u8>) -> Self {
        Self {
            machine,
            stream,
            input: unread,
            output: Vec::new(),
            began: Instant::now(),
            at_end: false,
            end_told: false,
            duplex: false,
            deaf: false,
            octets_in: 0,
            octets_out: 0,
        }
    }

    /// Runs the session to its end. `events` may never bring anything; `tls` is needed only by machines that start TLS.
    pub async fn run<H: Handler<M>>(
        self,
        handler: &mut H,
        tls: Option<&ServerTls>,
        events: &mut mpsc::Receiver<M::Event>,
    ) -> Ended<M> {
        self.run_with(handler, tls.map_or(Upgrade::None, Upgrade::Server), events).await
    }

    /// As [`Driver::run`], for a machine that is the client of its protocol; with TLS comes the name of the server.
    pub async fn run_client<H: Handler<M>>(
        mut self,
        handler: &mut H,
        tls: Option<(&ClientTls, &str)>,
        events: &mut mpsc::Receiver<M::Event>,
    ) -> Ended<M> {
        let upgrade = tls.map_or(Upgrade::None, |(tls, name)| Upgrade::Client(tls, name));
        self.duplex = true;
        self.run_with(handler, upgrade, events).await
    }

    async fn run_with<H: Handler<M>>(
        mut self,
        handler: &mut H,
        tls: Upgrade<'_>,
        events: &mut mpsc::Receiver<M::Event>,
    ) -> Ended<M> {
        let (answers, mut answered) = mpsc::channel(ANSWERS);
        let reason = self.serve(handler, tls, events, &answers, &mut answered).await;
        if reason != Close::HandOver {
            let _ = tokio::time::timeout(Duration::from_secs(5), self.stream.shutdown()).await;
        }
        Ended {
            reason,
            machine: self.machine,
            stream: self.stream,
            unread: self.input,
            octets_in: self.octets_in,
            octets_out: self.octets_out,
        }
    }

    async fn serve<H: Handler<M>>(
        &mut self,
        handler: &mut H,
        tls: Upgrade<'_>,
        events: &mut mpsc::Receiver<M::Event>,
        answers: &Answers<M>,
        answered: &mut mpsc::Receiver<(AskId, M::Answer)>,
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
                Woken::Answer((id, answer)) => self.machine.answer(id, answer),
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
                    if let Err(reason) = self.start_tls(tls).await {
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
        answered: &mut mpsc::Receiver<(AskId, M::Answer)>,
    ) -> Woken<M> {
        let deadline = self.deadline();
        let sleep = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
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

#[cfg(test)]
mod tests {
    use super::*;
    use session::{Line, LineBuffer};
    use tokio::io::AsyncReadExt as _;
    use tokio::net::UnixStream;

    const SILENCE: Duration = Duration::from_millis(50);

    /// Echoes lines; `ask` asks, `tls` starts TLS, `quit` ends, silence of 50 ms closes.
    struct Echo {
        lines: LineBuffer,
        steps: Vec<Step<String>>,
        waits_for: Option<AskId>,
        last: Moment,
        ended: bool,
    }

    impl Machine for Echo {
        type Question = String;
        type Answer = String;
        type Event = &'static str;

        fn receive(&mut self, bytes: &[u8]) -> usize {
            if self.waits_for.is_some() { 0 } else { self.lines.push(bytes) }
        }
        fn end_of_input(&mut self) {
            self.ended = true;
        }
        fn tls_started(&mut self) {
            self.steps.push(Step::Send(b"secured\n".to_vec()));
        }
        fn answer(&mut self, id: AskId, answer: String) {
            assert_eq!(self.waits_for.take(), Some(id));
            self.steps.push(Step::Send(answer.into_bytes()));
        }
        fn event(&mut self, event: &'static str) {
            self.steps.push(Step::Send(event.as_bytes().to_vec()));
        }
        fn deadline(&self) -> Option<Moment> {
            Some(self.last.after(SILENCE))
        }
        fn next(&mut self, now: Moment) -> Step<String> {
            if let Some(step) = self.steps.pop() {
                return step;
            }
            if self.waits_for.is_some() {
                return Step::Wait;
            }
            match self.lines.line() {
                Line::Complete(line) if line == b"ask" => {
                    self.waits_for = Some(AskId(7));
                    Step::Ask(AskId(7), "why".to_owned())
                }
                Line::Complete(line) if line == b"tls" => {
                    self.lines.clear();
                    self.steps.push(Step::StartTls);
                    Step::Send(b"go\n".to_vec())
                }
                Line::Complete(line) if line == b"quit" => Step::Close(Close::Quit),
                Line::Complete(mut line) => {
                    self.last = now;
                    line.push(b'\n');
                    Step::Send(line)
                }
                Line::TooLong => Step::Close(Close::Hangup("long line")),
                Line::Partial if self.ended => Step::Close(Close::Lost),
                Line::Partial if now >= self.last.after(SILENCE) => Step::Close(Close::Timeout),
                Line::Partial => Step::Wait,
            }
        }
    }

    struct Outside {
        later: bool,
    }

    impl Handler<Echo> for Outside {
        async fn ask(&mut self, id: AskId, question: String, answers: &Answers<Echo>) -> Option<String> {
            let answer = format!("{question}?\n");
            if !self.later {
                return Some(answer);
            }
            answers.send((id, answer)).await.expect("the driver runs");
            None
        }
        async fn give(&mut self, _chunk: Vec<u8>) {}
        fn tls_started(&mut self, stream: &Stream) {
            assert!(stream.tls().is_some());
        }
    }

    fn echo() -> Echo {
        Echo { lines: LineBuffer::new(100), steps: Vec::new(), waits_for: None, last: Moment(0), ended: false }
    }

    async fn run(later: bool, input: &[u8]) -> (String, Close) {
        let (mut near, far) = UnixStream::pair().expect("a pair");
        near.write_all(input).await.expect("room");
        near.shutdown().await.expect("open");
        let (_events, mut heard) = mpsc::channel(1);
        let driver = Driver::new(echo(), Stream::Unix(far), Vec::new());
        let mut outside = Outside { later };
        let ended = driver.run(&mut outside, None, &mut heard).await;
        let mut said = String::new();
        near.read_to_string(&mut said).await.expect("text");
        (said, ended.reason)
    }

    #[tokio::test]
    async fn answers_come_in_order_whether_at_once_or_later() {
        for later in [false, true] {
            let (said, reason) = run(later, b"one\nask\ntwo\nquit\nthree\n").await;
            assert_eq!(said, "one\nwhy?\ntwo\n");
            assert_eq!(reason, Close::Quit);
        }
    }

    #[tokio::test]
    async fn silence_ends_at_the_deadline() {
        let (_near, far) = UnixStream::pair().expect("a pair");
        let (_events, mut heard) = mpsc::channel(1);
        let driver = Driver::new(echo(), Stream::Unix(far), Vec::new());
        let ended = driver.run(&mut Outside { later: false }, None, &mut heard).await;
        assert_eq!(ended.reason, Close::Timeout);
    }

    /// Sends one large piece, then waits; what it hears it keeps.
    #[derive(Default)]
    struct Talker {
        said: bool,
        heard: Vec<u8>,
        ended: bool,
        patience: Option<Moment>,
    }

    impl Machine for Talker {
        type Question = ();
        type Answer = ();
        type Event = ();

        fn receive(&mut self, bytes: &[u8]) -> usize {
            self.heard.extend_from_slice(bytes);
            bytes.len()
        }
        fn end_of_input(&mut self) {
            self.ended = true;
        }
        fn tls_started(&mut self) {}
        fn answer(&mut self, _id: AskId, (): ()) {}
        fn event(&mut self, (): ()) {}
        fn deadline(&self) -> Option<Moment> {
            self.patience
        }
        fn next(&mut self, now: Moment) -> Step<()> {
            if !self.said {
                self.said = true;
                return Step::Send(vec![b'x'; 16 << 20]);
            }
            match self.patience {
                _ if self.ended => Step::Close(Close::Lost),
                Some(patience) if now >= patience => Step::Close(Close::Timeout),
                _ => Step::Wait,
            }
        }
    }

    impl Handler<Talker> for Outside {
        async fn ask(&mut self, _id: AskId, (): (), _answers: &Answers<Talker>) -> Option<()> {
            None
        }
        async fn give(&mut self, _chunk: Vec<u8>) {}
        fn tls_started(&mut self, _stream: &Stream) {}
    }

    #[tokio::test]
    async fn a_client_hears_the_last_words_of_a_server_that_reads_no_more() {
        // A refusal in the middle of the content, then the end of the connection, over TCP as it is in the world.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let near = tokio::net::TcpStream::connect(listener.local_addr().expect("bound")).await.expect("listening");
        let (mut far, _) = listener.accept().await.expect("connected");
        let server = async move {
            let mut some = [0; 100];
            far.read_exact(&mut some).await.expect("content");
            far.write_all(b"552 too much\r\n").await.expect("open");
            // With unread input the end is a reset.
            drop(far);
        };
        let (_events, mut heard) = mpsc::channel(1);
        let driver = Driver::new(Talker::default(), Stream::Tcp(near), Vec::new());
        let mut outside = Outside { later: false };
        let (ended, ()) = tokio::join!(driver.run_client(&mut outside, None, &mut heard), server);
        assert_eq!(ended.machine.heard, b"552 too much\r\n");
        assert_eq!(ended.reason, Close::Lost);
    }

    #[tokio::test]
    async fn a_client_waits_for_a_server_that_reads_nothing_until_its_own_deadline() {
        let (near, _far) = UnixStream::pair().expect("a pair");
        let (_events, mut heard) = mpsc::channel(1);
        let talker = Talker { patience: Some(Moment(50)), ..Talker::default() };
        let driver = Driver::new(talker, Stream::Unix(near), Vec::new());
        let ended = driver.run_client(&mut Outside { later: false }, None, &mut heard).await;
        assert_eq!(ended.reason, Close::Timeout);
    }

    #[tokio::test]
    async fn what_came_before_tls_is_never_read_after_it() {
        // T01: injected commands behind STARTTLS are thrown away.
        let pair = crate::tls::self_signed("localhost").expect("made");
        let server = ServerTls::from_pem(pair.certificate.as_bytes(), pair.key.as_bytes()).expect("a pair");
        let client = crate::tls::ClientTls::unauthenticated().expect("made");
        let (mut near, far) = UnixStream::pair().expect("a pair");
        near.write_all(b"tls\ninjected\n").await.expect("room");
        let (_events, mut heard) = mpsc::channel(1);
        let mut outside = Outside { later: false };
        let served = Driver::new(echo(), Stream::Unix(far), Vec::new()).run(&mut outside, Some(&server), &mut heard);
        let asked = async {
            let mut go = [0; 3];
            near.read_exact(&mut go).await.expect("the server is ready");
            let mut tls = client.connect(Stream::Unix(near), "localhost").await.expect("a handshake");
            tls.write_all(b"quit\n").await.expect("open");
            tls.flush().await.expect("open");
            let mut said = Vec::new();
            let _ = tls.read_to_end(&mut said).await;
            String::from_utf8(said).expect("text")
        };
        let (ended, said) = tokio::join!(served, asked);
        assert!(!said.contains("injected"), "{said}");
        assert_eq!(ended.reason, Close::Quit);
    }
}
