//! The driver on sockets of this process.

use super::*;
use session::{Line, LineBuffer};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

/// Echoes lines; `ask` asks, `tls` starts TLS, `quit` ends, silence closes.
struct Echo {
    silence: Duration,
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
        Some(self.last.after(self.silence))
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
            Line::Partial if now >= self.last.after(self.silence) => Step::Close(Close::Timeout),
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
    let silence = Duration::from_secs(300);
    Echo { silence, lines: LineBuffer::new(100), steps: Vec::new(), waits_for: None, last: Moment(0), ended: false }
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
    let hasty = Echo { silence: Duration::from_millis(50), ..echo() };
    let driver = Driver::new(hasty, Stream::Unix(far), Vec::new());
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
