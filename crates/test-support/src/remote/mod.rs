//! A mail server of other people, SMTP or LMTP, that misbehaves on command and counts what it really took.
//!
//! A [`Remote`] listens on an address of its own. Without rules it is a good server. [`Remote::on`] puts an [`Act`] at a step of the dialogue,
//! for ever or for a number of times; rules may come and go while it runs. [`Remote::taken`] are the messages whose final dot it heard and
//! did not refuse, whether or not the client was told: that is what a duplicate is counted against.

mod session;
pub mod slow;
mod wire;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use mail_net::tls::ServerTls;

use crate::free_port;

/// A step of the dialogue, named for what the server is about to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The connection.
    Greeting,
    /// EHLO or LHLO.
    Ehlo,
    /// HELO.
    Helo,
    /// STARTTLS.
    Starttls,
    /// The TLS handshake, after the 220 to STARTTLS.
    Handshake,
    /// AUTH, in clear or not.
    Auth,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA.
    Data,
    /// The first line of content.
    Content,
    /// The final dot; with LMTP once for each accepted recipient.
    Dot,
    /// RSET.
    Rset,
    /// QUIT.
    Quit,
}

/// What the server does at a step instead of the usual.
#[derive(Debug, Clone)]
pub enum Act {
    /// These octets are the answer; the dialogue goes on as their first digit says.
    Say(Vec<u8>),
    /// These octets, perhaps none, and then an orderly end of the connection.
    Close(Vec<u8>),
    /// These octets, perhaps none, and then a reset of the connection.
    Reset(Vec<u8>),
    /// No answer, while the connection stays open; inside the content nothing more is read.
    Silence,
    /// The usual answer, but not before [`Remote::heal`].
    Wait,
}

impl Act {
    /// A reply of one line.
    #[must_use]
    pub fn say(line: &str) -> Self {
        Self::Say(format!("{line}\r\n").into_bytes())
    }

    /// A reply of one line, then the end of the connection.
    #[must_use]
    pub fn say_and_close(line: &str) -> Self {
        Self::Close(format!("{line}\r\n").into_bytes())
    }

    /// The end of the connection.
    #[must_use]
    pub fn close() -> Self {
        Self::Close(Vec::new())
    }
}

/// A message that the server has.
#[derive(Debug, Clone, Default)]
pub struct Taken {
    /// The argument of MAIL.
    pub from: String,
    /// The arguments of the RCPTs that were accepted.
    pub to: Vec<String>,
    /// The content as it came, without the final dot, dots not undone.
    pub raw: Vec<u8>,
    /// Whether it came through TLS.
    pub tls: bool,
    /// Who was logged in.
    pub user: Option<String>,
    /// HELO, EHLO or LHLO.
    pub hello: String,
}

#[derive(Debug)]
struct Rule {
    at: At,
    about: String,
    act: Act,
    left: Option<usize>,
}

/// How a server is before it starts.
#[derive(Clone)]
pub struct Setup {
    name: String,
    lmtp: bool,
    keywords: Vec<String>,
    tls: Option<ServerTls>,
    login: Option<(String, String)>,
}

impl Setup {
    /// A good SMTP server with a name, without TLS and AUTH.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let keywords = ["PIPELINING", "SIZE 10240000", "8BITMIME", "ENHANCEDSTATUSCODES", "DSN", "SMTPUTF8"];
        Self {
            name: name.to_owned(),
            lmtp: false,
            keywords: keywords.map(str::to_owned).into(),
            tls: None,
            login: None,
        }
    }

    /// Speaks LMTP.
    #[must_use]
    pub fn lmtp(mut self) -> Self {
        self.lmtp = true;
        self
    }

    /// Offers these keywords alone.
    #[must_use]
    pub fn keywords(mut self, keywords: &[&str]) -> Self {
        self.keywords = keywords.iter().map(|&keyword| keyword.to_owned()).collect();
        self
    }

    /// Offers STARTTLS with a certificate and key in PEM.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn starttls(mut self, certificate: &str, key: &str) -> Result<Self, String> {
        let tls = ServerTls::from_pem(certificate.as_bytes(), key.as_bytes()).map_err(|error| error.to_string())?;
        self.keywords.push("STARTTLS".to_owned());
        self.tls = Some(tls);
        Ok(self)
    }

    /// Offers STARTTLS with a certificate for its name that it signed itself.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn self_signed(self) -> Result<Self, String> {
        let made = mail_net::tls::self_signed(&self.name).map_err(|error| error.to_string())?;
        self.starttls(&made.certificate, &made.key)
    }

    /// Offers these mechanisms of AUTH and wants a login before MAIL.
    #[must_use]
    pub fn login(mut self, mechanisms: &str, user: &str, password: &str) -> Self {
        self.keywords.push(format!("AUTH {mechanisms}"));
        self.login = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// Starts the server.
    ///
    /// # Errors
    /// The address is taken.
    pub fn start(self, address: SocketAddr) -> io::Result<Remote> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { setup: self, state: Mutex::default(), ending: AtomicBool::new(false) });
        let accepting = {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || accept(&listener, &shared))
        };
        Ok(Remote { address, shared, accepting: Some(accepting) })
    }
}

/// What the threads of one server share.
struct Shared {
    setup: Setup,
    state: Mutex<State>,
    ending: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    taken: Vec<Taken>,
    connections: usize,
    heard: VecDeque<String>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// The act of the first rule for a step and a line, which is then one time fewer.
    fn act(&self, at: At, line: &str) -> Option<Act> {
        let mut state = self.state();
        let fits = |rule: &&mut Rule| rule.at == at && rule.left != Some(0) && line.contains(&rule.about);
        let rule = state.rules.iter_mut().find(fits)?;
        rule.left = rule.left.map(|left| left - 1);
        Some(rule.act.clone())
    }
}

/// A running server. It ends when it is dropped.
pub struct Remote {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Remote {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on does this at a step.
    pub fn on(&self, at: At, act: Act) {
        self.rule(at, "", act, None);
    }

    /// Does this at a step the next so many times.
    pub fn times(&self, count: usize, at: At, act: Act) {
        self.rule(at, "", act, Some(count));
    }

    /// Does this at a step when the command has these words in it.
    pub fn about(&self, words: &str, at: At, act: Act) {
        self.rule(at, words, act, None);
    }

    /// Does this once at a step when the command has these words in it.
    pub fn once_about(&self, words: &str, at: At, act: Act) {
        self.rule(at, words, act, Some(1));
    }

    fn rule(&self, at: At, about: &str, act: Act, left: Option<usize>) {
        self.shared.state().rules.push(Rule { at, about: about.to_owned(), act, left });
    }

    /// Is a good server from now on.
    pub fn heal(&self) {
        self.shared.state().rules.clear();
    }

    /// The messages it has.
    #[must_use]
    pub fn taken(&self) -> Vec<Taken> {
        self.shared.state().taken.clone()
    }

    /// How many connections it accepted.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.state().connections
    }

    /// The last commands it heard, over all connections.
    #[must_use]
    pub fn heard(&self) -> Vec<String> {
        self.shared.state().heard.iter().cloned().collect()
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts; whether it worked does not matter.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.is_ending() {
            return;
        }
        let Ok(stream) = stream else { continue };
        shared.state().connections += 1;
        let shared = Arc::clone(shared);
        std::thread::spawn(move || session::serve(stream, &shared));
    }
}

/// An address on which a connection is neither accepted nor refused: its backlog is full. Ends when it is dropped.
pub struct Unreachable {
    _listener: rustix::fd::OwnedFd,
    _waiting: Vec<rustix::fd::OwnedFd>,
}

impl Unreachable {
    /// Makes an address unreachable.
    ///
    /// # Errors
    /// It is taken.
    pub fn at(address: SocketAddr) -> io::Result<Self> {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, listen, socket_with};
        let listener = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        bind(&listener, &address)?;
        listen(&listener, 0)?;
        let mut waiting = Vec::new();
        for _ in 0..4 {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
            match connect(&socket, &address) {
                Ok(()) | Err(rustix::io::Errno::INPROGRESS) => waiting.push(socket),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self { _listener: listener, _waiting: waiting })
    }
}

/// Loopback addresses that share one free port, for a network of servers that all listen on "the" port of SMTP.
#[derive(Debug)]
pub struct Network {
    port: u16,
    next: Mutex<u16>,
}

impl Network {
    /// Finds a port that is free now. The addresses are 127.31.x.y.
    ///
    /// # Errors
    /// No port is free.
    pub fn new() -> io::Result<Self> {
        Ok(Self { port: free_port(Ipv4Addr::new(127, 31, 0, 1))?, next: Mutex::new(0) })
    }

    /// The port, for `smtp_tcp_port`.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// An address that nobody else got; nobody listens there.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next += 1;
        let [high, low] = next.to_be_bytes();
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 31, 1 + high, low)), self.port)
    }
}
