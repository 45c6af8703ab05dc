//! A conversation with one of our daemons, as a command has it: blocking, one request at a time.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use mail_ipc::frame::{DESCRIPTORS_MAX, encode};
use mail_ipc::hello::{Hello, Role, Versions};
use mail_ipc::sockets::Socket;
use mail_ipc::{Frame, FrameDecoder, FrameError};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How long a daemon may take for an answer: longer than a commit on a slow disk, and than smtpd's own wait for the queue (60 s).
const PATIENCE: Duration = Duration::from_secs(90);

/// Why a conversation failed.
#[derive(Debug)]
pub enum TalkError {
    /// Nobody listens: the daemon is down. Nothing was said.
    Down(io::Error),
    /// The connection failed on the way; what was asked may have been done.
    Broken(io::Error),
    /// The daemon speaks another version.
    Versions(Versions),
    /// The daemon said something that cannot be understood.
    Frame(FrameError),
}

impl fmt::Display for TalkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down(error) | Self::Broken(error) => error.fmt(f),
            Self::Versions(theirs) => {
                write!(
                    f,
                    "the daemon speaks versions {} to {} of the protocol, this command others",
                    theirs.from, theirs.to
                )
            }
            Self::Frame(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TalkError {}

/// An open conversation after both said hello.
#[derive(Debug)]
pub struct Conversation {
    stream: UnixStream,
    decoder: FrameDecoder,
    descriptors: VecDeque<OwnedFd>,
    hello: Hello,
    last: u64,
}

impl Conversation {
    /// Connects to a socket below the state directory and says hello.
    ///
    /// # Errors
    /// [`TalkError::Down`] when nobody listens.
    pub fn open(state: &Path, socket: Socket) -> Result<Self, TalkError> {
        Self::open_path(&state.join(socket.directory).join(socket.name))
    }

    /// Connects to a socket by its path and says hello.
    ///
    /// # Errors
    /// [`TalkError::Down`] when nobody listens.
    pub fn open_path(path: &Path) -> Result<Self, TalkError> {
        Self::greet(mail_posix::sockets::connect(path).map_err(TalkError::Down)?)
    }

    fn greet(stream: UnixStream) -> Result<Self, TalkError> {
        stream.set_read_timeout(Some(PATIENCE)).map_err(TalkError::Down)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(TalkError::Down)?;
        let ours = Hello::new(Role::Command, format!("command[{}]", std::process::id()));
        let mut conversation = Self {
            stream,
            decoder: FrameDecoder::default(),
            descriptors: VecDeque::new(),
            hello: ours.clone(),
            last: 0,
        };
        conversation.send(0, &ours)?;
        conversation.hello = conversation.receive::<Hello>()?.0.body;
        let theirs = conversation.hello.versions;
        if Versions::OURS.common(theirs).is_none() {
            return Err(TalkError::Versions(theirs));
        }
        Ok(conversation)
    }

    /// What the daemon said of itself.
    #[must_use]
    pub fn peer(&self) -> &Hello {
        &self.hello
    }

    /// Asks, and waits for the answer and the descriptors that come with it.
    ///
    /// # Errors
    /// [`TalkError::Broken`] when the daemon ended before it answered.
    pub fn ask<T: DeserializeOwned>(&mut self, request: &impl Serialize) -> Result<(T, Vec<OwnedFd>), TalkError> {
        self.say(request)?;
        self.answer()
    }

    /// Sends a request; its answer comes later through [`Conversation::answer`].
    ///
    /// # Errors
    /// [`TalkError::Broken`] when the daemon is gone.
    pub fn say(&mut self, request: &impl Serialize) -> Result<(), TalkError> {
        self.last += 1;
        self.send(self.last, request)
    }

    /// Sends content that belongs to the last request.
    ///
    /// # Errors
    /// [`TalkError::Broken`] when the daemon is gone.
    pub fn content(&mut self, octets: &[u8]) -> Result<(), TalkError> {
        self.stream.write_all(octets).map_err(TalkError::Broken)
    }

    /// The answer to the last request.
    ///
    /// # Errors
    /// [`TalkError::Broken`] when the daemon ended before it answered.
    pub fn answer<T: DeserializeOwned>(&mut self) -> Result<(T, Vec<OwnedFd>), TalkError> {
        loop {
            let (frame, descriptors) = self.receive()?;
            // Answers to requests that were given up are skipped.
            if frame.id == self.last {
                return Ok((frame.body, descriptors));
            }
        }
    }

    fn send(&mut self, id: u64, body: &impl Serialize) -> Result<(), TalkError> {
        let mut wire = Vec::new();
        encode(&Frame::new(id, body), 0, &mut wire).map_err(TalkError::Frame)?;
        self.stream.write_all(&wire).map_err(TalkError::Broken)
    }

    fn receive<T: DeserializeOwned>(&mut self) -> Result<(Frame<T>, Vec<OwnedFd>), TalkError> {
        loop {
            if let Some(raw) = self.decoder.frame().map_err(TalkError::Frame)? {
                let frame = raw.read(&[]).map_err(TalkError::Frame)?;
                let count = raw.descriptors.min(self.descriptors.len());
                return Ok((frame, self.descriptors.drain(..count).collect()));
            }
            let mut buffer = [0; 16 * 1024];
            let received = mail_posix::fdpass::receive(&self.stream, &mut buffer, DESCRIPTORS_MAX);
            let received = received.map_err(TalkError::Broken)?;
            if received.bytes == 0 {
                return Err(TalkError::Broken(io::ErrorKind::UnexpectedEof.into()));
            }
            self.descriptors.extend(received.descriptors);
            self.decoder.push(&buffer[..received.bytes]);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Plays a daemon on the other end of a pair: says hello, and answers each request with the next answer.
    pub(crate) fn daemon(answers: Vec<String>) -> (Conversation, std::thread::JoinHandle<Vec<String>>) {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let thread = std::thread::spawn(move || serve(&theirs, answers));
        (Conversation::greet(ours).expect("both say hello"), thread)
    }

    fn serve(mut stream: &UnixStream, answers: Vec<String>) -> Vec<String> {
        let mut decoder = FrameDecoder::default();
        let mut asked = Vec::new();
        let mut answers = answers.into_iter();
        let mut greeted = false;
        let mut buffer = [0; 4096];
        loop {
            while let Some(raw) = decoder.frame().expect("frames") {
                let mut wire = Vec::new();
                if greeted {
                    asked.push(String::from_utf8(raw.json.clone()).expect("text"));
                    let Some(answer) = answers.next() else { return asked };
                    let body: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
                    encode(&Frame::new(raw.id(), body), 0, &mut wire).expect("short");
                } else {
                    encode(&Frame::new(0, Hello::new(Role::QueueManager, "q")), 0, &mut wire).expect("short");
                    greeted = true;
                }
                stream.write_all(&wire).expect("the command reads");
            }
            match io::Read::read(&mut stream, &mut buffer) {
                Ok(0) | Err(_) => return asked,
                Ok(count) => decoder.push(&buffer[..count]),
            }
        }
    }

    #[test]
    fn each_request_gets_its_answer() {
        let (mut conversation, thread) = daemon(vec!["\"one\"".into(), "\"two\"".into()]);
        assert_eq!(conversation.peer().role, Role::QueueManager);
        assert_eq!(conversation.ask::<String>(&"a").expect("answers").0, "one");
        assert_eq!(conversation.ask::<String>(&"b").expect("answers").0, "two");
        assert!(matches!(conversation.ask::<String>(&"c"), Err(TalkError::Broken(_))));
        assert_eq!(thread.join().expect("served").len(), 3);
    }

    #[test]
    fn a_missing_socket_means_that_the_daemon_is_down() {
        let state = tempfile::tempdir().expect("a directory");
        assert!(matches!(Conversation::open(state.path(), mail_ipc::sockets::CONTROL), Err(TalkError::Down(_))));
    }
}
