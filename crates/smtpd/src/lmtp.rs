//! LMTP for users of Dovecot's userdb: what comes in on the listeners of dovecot.conf is stored by local-delivery before it is answered, one reply per
//! recipient, and never queued (RFC 2033).

mod deposit;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use decision::{Event, Record, Stage};
use mail_message::header::Received;
use mail_net::listen::ACCEPT_PAUSE;
use mail_net::{Answers, Driver, Handler, Stream};
use mail_smtp::Path;
use mail_smtp::server::{Answer, MailCommand, Note, Question, RcptCommand, Server};
use mail_types::{Address, Client, EnhancedStatus, Octets, Reply, ReplyCode, Sender};
use session::{AskId, Close};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

use crate::content::{Content, Prepare, Preparing};
use crate::facts::{Database, Known, Users as _};
use crate::intake::{Door, HeaderPlan, complete, now};
use crate::ports::{Port, Seat, Shared};
use crate::serve::{Busy, is_among_the_last};
use crate::transaction::{Accepted, Transaction};

/// A listener of dovecot.conf.
pub enum Listener {
    /// `inet_listener`.
    Inet(TcpListener),
    /// `unix_listener`.
    Unix(UnixListener),
}

impl Listener {
    /// The next connection; none where it would take one of the last descriptors.
    async fn accept(&self) -> std::io::Result<Option<(Stream, Option<SocketAddr>)>> {
        Ok(match self {
            Self::Inet(listener) => {
                let (stream, peer) = listener.accept().await?;
                let _ = stream.set_nodelay(true);
                (!is_among_the_last(&stream)).then_some((Stream::Tcp(stream), Some(peer)))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                (!is_among_the_last(&stream)).then_some((Stream::Unix(stream), None))
            }
        })
    }
}

/// Takes connections of one listener until the daemon stops.
pub async fn accept(door: Arc<Door>, listener: Listener, mut closed: watch::Receiver<bool>, busy: Busy) {
    loop {
        let accepted = tokio::select! {
            _ = closed.wait_for(|closed| *closed) => return,
            accepted = listener.accept() => accepted,
        };
        let Ok(accepted) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let shared = door.shared();
        let port = Arc::clone(&shared.lmtp);
        // Without a seat the connection closes at once; the client's queue tries again.
        let (Some((stream, peer)), Some(seat)) = (accepted, port.seat()) else { continue };
        let (door, busy) = (Arc::clone(&door), busy.clone());
        tokio::spawn(async move {
            converse(door, shared, port, stream, peer, seat).await;
            drop(busy);
        });
    }
}

async fn converse(
    door: Arc<Door>,
    shared: Arc<Shared>,
    port: Arc<Port>,
    stream: Stream,
    peer: Option<SocketAddr>,
    seat: Seat,
) {
    let (number, mut events) = door.enter();
    let machine = Server::new(Arc::clone(&port.settings), false);
    let peer = peer.map(|peer| peer.ip().to_canonical());
    let mut session = Session { door: Arc::clone(&door), shared, port, peer, helo: None, transaction: None };
    session.log(&format!("Connect from {}", session.peer_name()));
    let ended = Driver::new(machine, stream, Vec::new()).run(&mut session, None, &mut events).await;
    session.reset().await;
    let why = match ended.reason {
        Close::Quit => "Logged out",
        Close::Timeout => "Disconnected for inactivity",
        Close::Hangup(why) => why,
        Close::Lost | Close::HandOver => "Connection closed",
    };
    session.log(&format!("Disconnect from {}: {why}", session.peer_name()));
    door.leave(number);
    drop(seat);
}

/// The outside of one session's machine.
struct Session {
    door: Arc<Door>,
    shared: Arc<Shared>,
    port: Arc<Port>,
    /// None for a Unix socket.
    peer: Option<IpAddr>,
    helo: Option<String>,
    transaction: Option<Transaction>,
}

fn reply(code: u16, (class, subject, detail): (u8, u16, u16), text: impl Into<String>) -> Reply {
    Reply::new(ReplyCode::of(code), EnhancedStatus::of(class, subject, detail), text)
}

impl Session {
    fn peer_name(&self) -> String {
        self.peer.map_or_else(|| "local".to_owned(), |address| address.to_string())
    }

    /// A line as Dovecot's lmtp writes it.
    fn log(&self, text: &str) {
        let line = format!("lmtp({}): {text}", std::process::id());
        self.door.log.record(&Record::new(&self.port.ident, Stage::Connect, Event::Text(&line)));
    }

    async fn carry_out(&mut self, question: Question) -> Option<Answer> {
        Some(match question {
            Question::Connect => Answer::Accept,
            Question::Helo { name, .. } => {
                self.reset().await;
                self.helo = Some(name);
                Answer::Accept
            }
            Question::Mail(mail) => self.mail(mail),
            Question::Rcpt(command) => self.rcpt(command).await.map_or_else(Answer::Refuse, |()| Answer::Accept),
            // Whom we know is told to those who send mail, one recipient at a time.
            Question::Vrfy(_) => Answer::Accept,
            Question::Data => self.data().await.map_or_else(Answer::Refuse, |()| Answer::Accept),
            Question::EndOfData { .. } => self.end_of_data().await,
            Question::Discard | Question::Reset | Question::AuthCancel => {
                self.reset().await;
                Answer::Accept
            }
            Question::AuthStart { .. } | Question::AuthResponse(_) => {
                Answer::Refuse(reply(503, (5, 5, 1), "Error: authentication not enabled"))
            }
            Question::Etrn(_) | Question::Xclient(_) | Question::Filter(_) => {
                Answer::Refuse(reply(502, (5, 5, 1), "Error: command not implemented"))
            }
            Question::Note(note) => {
                self.note(&note);
                return None;
            }
        })
    }

    fn note(&self, note: &Note) {
        match note {
            Note::BadAddress { command, text } => {
                self.log(&format!("Illegal address syntax in {command} command: {text}"))
            }
            Note::LongLine => self.log("request longer than the line length limit"),
            _ => {}
        }
    }

    fn mail(&mut self, mail: MailCommand) -> Answer {
        let sender = match &mail.from {
            Path::Null => Sender::Null,
            Path::Mailbox(mailbox) => match complete(mailbox, &self.port.main) {
                Ok(address) => Sender::Address(address),
                Err(_) => return Answer::Refuse(reply(501, (5, 1, 7), "Bad sender address syntax")),
            },
        };
        self.transaction = Some(Transaction::new(mail, sender, now()));
        Answer::Accept
    }

    /// A recipient is a user of Dovecot's userdb, looked up without its detail.
    async fn rcpt(&mut self, command: RcptCommand) -> Result<(), Reply> {
        let bad = |_| reply(501, (5, 1, 3), "Bad recipient address syntax");
        let address = complete(&command.to, &self.port.main).map_err(bad)?;
        let user = self.user_name(&address);
        match self.door.sources.users.exists(Database::Mail, &user).await {
            Known::Yes => {}
            Known::No => return Err(reply(550, (5, 1, 1), format!("<{address}> User doesn't exist: {user}"))),
            Known::Later(why) => {
                self.log(&format!("userdb lookup of {user}: {why}"));
                return Err(reply(451, (4, 3, 0), format!("<{address}> Temporary internal error")));
            }
        }
        let accepted = Accepted { text: command.to.to_string(), to: vec![address], notify: None, orcpt: command.orcpt };
        if let Some(transaction) = &mut self.transaction {
            transaction.recipients.push(accepted);
        }
        Ok(())
    }

    fn user_name(&self, address: &Address) -> String {
        let delimiters = self.shared.config.dovecot.lmtp.recipient_delimiter.as_str();
        let local = address.local();
        let end = local.find(|c| delimiters.contains(c)).filter(|&at| at > 0).unwrap_or(local.len());
        format!("{}@{}", &local[..end], address.domain())
    }

    async fn data(&mut self) -> Result<(), Reply> {
        let id = self.door.queue.mint().await?;
        let share = self.door.share().await?;
        let Some(transaction) = &mut self.transaction else {
            return Err(reply(503, (5, 5, 1), "Error: need RCPT command"));
        };
        transaction.id = Some(id);
        transaction.content = Some(Content::new(id, share));
        Ok(())
    }

    async fn take(&mut self, chunk: Vec<u8>) {
        let Some(mut transaction) = self.transaction.take() else { return };
        if let Some(mut content) = transaction.content.take() {
            let prepare = Stamp { session: self, transaction: &transaction };
            content.push(chunk, &prepare, &self.door.queue).await;
            transaction.content = Some(content);
        }
        self.transaction = Some(transaction);
    }

    /// The header as it is stored: with our trace field, otherwise as it came.
    fn header(&self, transaction: &Transaction, octets: &[u8]) -> Result<mail_intake::Prepared, Reply> {
        let received = Received::Network {
            helo: self.helo.as_deref().unwrap_or("unknown"),
            name: if self.peer.is_some() { "unknown" } else { "localhost" },
            address: self.peer.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)),
            tls: None,
            login: None,
            protocol: "LMTP",
            recipient: transaction.only_recipient(),
        };
        let main = &self.port.main;
        let (adds, rewrites) = (*main.always_add_missing_headers, &mail_intake::Rewrites::default());
        let plan = HeaderPlan { main, adds, rewrites, full_name: None };
        plan.prepare(transaction.id, transaction.arrival, &transaction.sender, received, octets)
    }

    async fn end_of_data(&mut self) -> Answer {
        let Some(mut transaction) = self.transaction.take() else { return Answer::Refuse(crate::queue::unavailable()) };
        let Some(mut content) = transaction.content.take() else { return Answer::Refuse(crate::queue::unavailable()) };
        let prepare = Stamp { session: self, transaction: &transaction };
        let finished = content.finish(&prepare, &self.door.queue).await;
        let complete = match finished {
            Ok(complete) => complete,
            Err(refusal) => return Answer::Refuse(refusal),
        };
        let message_id = content.message_id.take();
        let replies = deposit::store(&self.door, &transaction, &complete, message_id, self.client()).await;
        if complete.file.is_some()
            && let Some(id) = transaction.id
        {
            self.door.queue.abandon(id).await;
        }
        Answer::Recipients(replies)
    }

    fn client(&self) -> Client {
        Client {
            name: "unknown".to_owned(),
            address: self.peer,
            helo: self.helo.as_ref().map(|name| Octets::new(name.clone().into_bytes())),
            protocol: "LMTP".to_owned(),
            ..Client::default()
        }
    }

    async fn reset(&mut self) {
        if let Some(mut content) = self.transaction.take().and_then(|transaction| transaction.content) {
            content.discard(&self.door.queue).await;
        }
    }
}

/// Puts our trace field on top of a message.
struct Stamp<'a> {
    session: &'a Session,
    transaction: &'a Transaction,
}

impl Prepare for Stamp<'_> {
    fn prepare<'a>(&'a self, content: &'a [u8]) -> Preparing<'a> {
        Box::pin(std::future::ready(self.session.header(self.transaction, content)))
    }
}

impl Handler<Server> for Session {
    async fn ask(&mut self, _id: AskId, question: Question, _answers: &Answers<Server>) -> Option<Answer> {
        Box::pin(self.carry_out(question)).await
    }

    async fn give(&mut self, chunk: Vec<u8>) {
        Box::pin(self.take(chunk)).await;
    }

    fn tls_started(&mut self, _stream: &Stream) {}
}
