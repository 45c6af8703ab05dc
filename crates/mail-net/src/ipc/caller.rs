//! The client side of a request-reply conversation.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};

use mail_ipc::frame::Frame;
use mail_ipc::hello::Hello;
use mail_ipc::sockets::Socket;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Mutex, oneshot};

use super::{Reader, Received, Writer, connect};

/// Why a call brought no answer. The request may or may not have been carried out.
#[derive(Debug)]
pub enum CallError {
    /// Nobody listens, or the connection broke before the answer.
    Connection(io::Error),
    /// The answer is of another version.
    NotUnderstood(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(error) => error.fmt(f),
            Self::NotUnderstood(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for CallError {}

/// An answer with the descriptors that came with it.
#[derive(Debug)]
pub struct Reply<T> {
    /// The message.
    pub message: T,
    /// Its descriptors.
    pub descriptors: Vec<OwnedFd>,
}

type Waiting = Arc<StdMutex<Option<HashMap<u64, oneshot::Sender<Received>>>>>;

/// One open connection; `waiting` is none once it broke.
struct Line {
    writer: Writer,
    waiting: Waiting,
}

/// A client for one socket, shared by all tasks of a process. It connects at the first call and again after a break; calls run side by side.
pub struct Caller<Request, Response> {
    state: PathBuf,
    socket: Socket,
    hello: Hello,
    next: AtomicU64,
    line: Mutex<Option<Line>>,
    types: PhantomData<fn(Request) -> Response>,
}

impl<Request, Response> fmt::Debug for Caller<Request, Response> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Caller({})", self.socket.name)
    }
}

impl<Request: Serialize, Response: DeserializeOwned> Caller<Request, Response> {
    /// A client for a socket below the state directory. Nothing is connected yet.
    #[must_use]
    pub fn new(state: PathBuf, socket: Socket, hello: Hello) -> Self {
        Self { state, socket, hello, next: AtomicU64::new(1), line: Mutex::new(None), types: PhantomData }
    }

    /// A number for an exchange of several requests, such as a login.
    pub fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Sends a request with the contents that follow it, and waits for its answer.
    ///
    /// # Errors
    /// [`CallError`]. The caller decides whether asking again is safe.
    pub async fn call(&self, request: &Request, contents: &[&[u8]]) -> Result<Reply<Response>, CallError> {
        self.call_numbered(self.number(), request, contents).await
    }

    /// As [`Caller::call`], with the number of an exchange that goes on.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call_numbered(
        &self,
        id: u64,
        request: &Request,
        contents: &[&[u8]],
    ) -> Result<Reply<Response>, CallError> {
        self.exchange(id, std::slice::from_ref(request), contents).await
    }

    /// Sends several requests in one go, the last of which is answered; no other call comes between them.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call_sequence(&self, requests: &[Request], contents: &[&[u8]]) -> Result<Reply<Response>, CallError> {
        self.exchange(self.number(), requests, contents).await
    }

    /// Sends a request that is not answered, such as `Cancel`.
    ///
    /// # Errors
    /// Nobody listens, or the connection broke.
    pub async fn notify(&self, id: u64, request: &Request) -> io::Result<()> {
        self.transmit(id, std::slice::from_ref(request), &[]).await.map(drop)
    }

    async fn exchange(&self, id: u64, requests: &[Request], contents: &[&[u8]]) -> Result<Reply<Response>, CallError> {
        let answer = self.transmit(id, requests, contents).await.map_err(CallError::Connection)?;
        let received = answer.await.map_err(|_| CallError::Connection(io::ErrorKind::ConnectionReset.into()))?;
        let frame = received.read::<Response>().map_err(|error| CallError::NotUnderstood(error.to_string()))?;
        Ok(Reply { message: frame.body, descriptors: received.descriptors })
    }

    /// Sends requests, the contents after the last of them; what is answered comes through the receiver.
    async fn transmit(
        &self,
        id: u64,
        requests: &[Request],
        contents: &[&[u8]],
    ) -> io::Result<oneshot::Receiver<Received>> {
        let mut slot = self.line.lock().await;
        // Taken out while it is written: a call that is given up half way leaves no torn frame behind, but a closed line.
        let line = self.open(slot.take()).await?;
        let answer = line.register(id);
        for (number, request) in requests.iter().enumerate() {
            let contents = if number + 1 == requests.len() { contents } else { &[] };
            line.writer.send(&Frame::new(id, request), &[], contents).await?;
        }
        *slot = Some(line);
        Ok(answer)
    }

    async fn open(&self, line: Option<Line>) -> io::Result<Line> {
        if let Some(line) = line.filter(|line| !line.is_broken()) {
            return Ok(line);
        }
        // On the heap: a call keeps no room for a connection that is there already.
        let conversation = Box::pin(connect(&self.state, self.socket, &self.hello)).await?;
        let waiting: Waiting = Arc::new(StdMutex::new(Some(HashMap::new())));
        tokio::spawn(hand_out(conversation.reader, Arc::clone(&waiting)));
        Ok(Line { writer: conversation.writer, waiting })
    }
}

impl Line {
    fn is_broken(&self) -> bool {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    fn register(&self, id: u64) -> oneshot::Receiver<Received> {
        let (sender, receiver) = oneshot::channel();
        if let Some(waiting) = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            // Callers that gave up, and requests that are not answered, leave closed senders behind.
            if waiting.len() > 1024 {
                waiting.retain(|_, sender| !sender.is_closed());
            }
            waiting.insert(id, sender);
        }
        receiver
    }
}

/// Brings each answer to its call; at the end all calls learn that the connection broke, because their senders are dropped.
async fn hand_out(mut reader: Reader, waiting: Waiting) {
    while let Ok(Some(received)) = reader.frame().await {
        let id = received.raw.id();
        let sender =
            waiting.lock().unwrap_or_else(PoisonError::into_inner).as_mut().and_then(|calls| calls.remove(&id));
        if let Some(sender) = sender {
            let _ = sender.send(received);
        }
    }
    waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::{accept, bind};
    use mail_ipc::hello::Role;
    use mail_ipc::lookup::{Request, Response};
    use mail_ipc::sockets::LOOKUP;
    use tokio::net::UnixListener;

    async fn answer_one_connection(listener: &UnixListener, calls: usize) {
        let (stream, _) = listener.accept().await.expect("a caller");
        let mut talk = accept(stream, &Hello::new(Role::Authd, "authd")).await.expect("greeted");
        let mut numbers = Vec::new();
        while numbers.len() < calls {
            let received = talk.reader.frame().await.expect("sound").expect("a call");
            numbers.push(received.read::<Request>().expect("understood").id);
        }
        for id in numbers.into_iter().rev() {
            let response = Response::Temporary { text: id.to_string() };
            talk.writer.send(&Frame::new(id, response), &[], &[]).await.expect("sent");
        }
    }

    #[tokio::test]
    async fn calls_find_their_answers_and_a_broken_line_is_opened_again() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(directory.path().join("private")).expect("made");
        let listener = bind(&directory.path().join("private"), LOOKUP.name, LOOKUP.mode).expect("bound");
        let listener = UnixListener::from_std(listener).expect("in a runtime");
        let caller: Caller<Request, Response> =
            Caller::new(directory.path().to_owned(), LOOKUP, Hello::new(Role::Smtpd, "smtpd"));
        let ask = |name: &str| Request::Passwd { name: name.to_owned() };
        for _ in 0..2 {
            let (one, two) = (ask("a"), ask("b"));
            let (first, second, ()) =
                tokio::join!(caller.call(&one, &[]), caller.call(&two, &[]), answer_one_connection(&listener, 2));
            let (first, second) = (first.expect("answered").message, second.expect("answered").message);
            assert_ne!(first, second);
            while !caller.line.lock().await.as_ref().expect("a line").is_broken() {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn a_call_learns_that_nobody_listens() {
        let directory = tempfile::tempdir().expect("a directory");
        let caller: Caller<Request, Response> =
            Caller::new(directory.path().to_owned(), LOOKUP, Hello::new(Role::Smtpd, "smtpd"));
        let error = caller.call(&Request::Passwd { name: "a".to_owned() }, &[]).await.expect_err("nobody");
        assert!(matches!(error, CallError::Connection(_)));
    }
}
