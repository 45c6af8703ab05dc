//! The server at the other end: takes every message, remembers each copy, and answers the final dot when it is allowed to.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::load::number;

/// One copy that was acknowledged.
#[derive(Debug, Clone, Copy)]
pub struct Copy {
    /// The number of the message.
    pub number: u32,
    /// When the `250` was written.
    pub answered: Instant,
}

#[derive(Default)]
struct State {
    copies: Vec<Copy>,
    /// Messages that were read to their dot.
    read: usize,
    /// So many of them may be answered.
    allowed: usize,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// A remote server on loopback. Its threads end with the process.
pub struct Sink {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink {
    /// A server that answers at once.
    pub fn start() -> io::Result<Self> {
        let sink = Self::slow()?;
        sink.allow(usize::MAX);
        Ok(sink)
    }

    /// A server that answers no final dot before [`Sink::allow`].
    pub fn slow() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let taken = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&taken);
                // A client that was killed breaks its connection.
                std::thread::spawn(move || drop(serve(&shared, &stream)));
            }
        });
        Ok(Self { address, shared })
    }

    /// Lets so many messages in all be answered.
    pub fn allow(&self, count: usize) {
        self.shared.lock().allowed = count;
        self.shared.changed.notify_all();
    }

    /// How many messages were read to their dot.
    pub fn read(&self) -> usize {
        self.shared.lock().read
    }

    /// The copies that were acknowledged.
    pub fn copies(&self) -> Vec<Copy> {
        self.shared.lock().copies.clone()
    }

    /// How often a message was acknowledged.
    pub fn has(&self, number: u32) -> bool {
        self.shared.lock().copies.iter().any(|copy| copy.number == number)
    }
}

fn serve(shared: &Shared, stream: &TcpStream) -> io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?);
    let say = |text: &str| (&*stream).write_all(text.as_bytes());
    say("220 sink.example ESMTP\r\n")?;
    let mut line = String::new();
    loop {
        line.clear();
        if lines.read_line(&mut line)? == 0 {
            return Ok(());
        }
        match line.get(..4).unwrap_or_default().to_ascii_uppercase().as_str() {
            "DATA" => {
                say("354 go on\r\n")?;
                let text = content(&mut lines)?;
                let Some(number) = number(&text) else { return say("554 without a number\r\n") };
                wait_for_turn(shared);
                // The copy counts from before the answer: a client that dies now has been told, or nearly.
                shared.lock().copies.push(Copy { number, answered: Instant::now() });
                say("250 2.0.0 taken\r\n")?;
            }
            "QUIT" => return say("221 bye\r\n"),
            _ => say("250 2.0.0 ok\r\n")?,
        }
    }
}

/// Waits until the message's turn to be answered has come.
fn wait_for_turn(shared: &Shared) {
    let mut state = shared.lock();
    state.read += 1;
    let place = state.read;
    while state.allowed < place {
        state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

fn content(lines: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut text = String::new();
    loop {
        let begin = text.len();
        if lines.read_line(&mut text)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if &text[begin..] == ".\r\n" {
            text.truncate(begin);
            return Ok(text);
        }
    }
}
