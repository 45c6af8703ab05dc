//! One SMTP session: carries out the questions of its machine.

mod auth;
mod early;
mod header_maker;
mod judge;
mod message;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use admission::clients::Named;
use admission::judging::{Command, Deferrals};
use mail_net::tls::Peer;
use mail_net::{Answers, Handler, Stream, TlsInfo};
use mail_policy::{ClientName, Stage};
use mail_smtp::server::{Answer, MailCommand, Note, Question, RcptCommand, Server};
use mail_smtp::{Mailbox, Path};
use mail_tables::Snapshot;
use mail_types::{Address, Domain, EnhancedStatus, QueueId, Reply, ReplyCode, Sender};
use session::AskId;

use crate::certificates::needs_certificate;
use crate::clients::{Held, Rate};
use crate::facts::{Fetched, View};
use crate::intake::{Door, RouteView, add_copies, complete, now};
use crate::log::{About, SessionLog};
use crate::ports::{Port, Shared};
use crate::sasl::Exchange;
use crate::transaction::{Accepted, Transaction};

/// What was found out about the client in this session.
struct Greeting {
    helo: Option<String>,
    extended: bool,
    tls: Option<TlsInfo>,
    user: Option<String>,
    method: Option<String>,
    pipelining: bool,
}

/// The outside of one session's machine.
pub struct Session {
    door: Arc<Door>,
    shared: Arc<Shared>,
    port: Arc<Port>,
    tables: Arc<Snapshot>,
    client: SocketAddr,
    local: SocketAddr,
    name: ClientName,
    greeting: Greeting,
    fetched: Fetched,
    transaction: Option<Transaction>,
    exchange: Option<Exchange>,
    /// The command is VRFY, which is judged as RCPT is.
    verifying: bool,
    /// The last handshake was one too many: the session ends with its next command.
    too_many_handshakes: bool,
    /// What earlier commands left to be refused later.
    deferrals: Deferrals,
    /// No limit per client holds for this one.
    unlimited: bool,
    /// How many transactions the session has begun, and the name of the one that is open.
    transactions: u64,
    instance: String,
    held: Held,
    log: SessionLog,
}

fn reply(code: u16, (class, subject, detail): (u8, u16, u16), text: impl Into<String>) -> Reply {
    Reply::new(ReplyCode::of(code), EnhancedStatus::of(class, subject, detail), text)
}

impl Session {
    /// A session with a client.
    #[must_use]
    pub fn new(
        door: Arc<Door>,
        shared: Arc<Shared>,
        port: Arc<Port>,
        client: SocketAddr,
        local: SocketAddr,
        tls: Option<TlsInfo>,
    ) -> Self {
        let address = client.ip().to_canonical();
        let log = SessionLog::new(door.log.clone(), Arc::clone(&port), client);
        Self {
            held: door.clients.connect(address),
            tables: shared.tables.snapshot(),
            name: ClientName::default(),
            greeting: Greeting { helo: None, extended: false, tls, user: None, method: None, pipelining: false },
            fetched: Fetched::default(),
            transaction: None,
            exchange: None,
            verifying: false,
            too_many_handshakes: false,
            deferrals: Deferrals::default(),
            unlimited: false,
            transactions: 0,
            instance: String::new(),
            client: SocketAddr::new(address, client.port()),
            local,
            log,
            door,
            shared,
            port,
        }
    }

    /// The log of this session.
    #[must_use]
    pub fn log(&self) -> &SessionLog {
        &self.log
    }

    /// Gives up what is open when the session has ended.
    pub async fn end(&mut self) {
        self.reset().await;
        if let Some(exchange) = self.exchange.take() {
            self.door.sasl.cancel(&exchange).await;
        }
    }

    /// The client as lists may name it.
    fn named(&self) -> Named<'_> {
        Named { name: self.name.shown(), address: self.client.ip() }
    }

    /// What restrictions and routing may know.
    fn view(&self) -> View<'_> {
        View { config: &self.shared.config, main: &self.port.main, tables: &self.tables, fetched: &self.fetched }
    }

    /// Finds out whether the limits per client hold for this one. While a table cannot say they do.
    async fn find_limits(&mut self) {
        let asked = self.door.sources.is_unlimited(&self.port.main, &self.tables, self.named());
        self.unlimited = Box::pin(asked).await.unwrap_or_else(|why| {
            self.log.unanswered(&why);
            false
        });
    }

    /// What a client hears that showed no certificate as `smtpd_tls_req_ccert` wants it.
    fn certificate_refusal(&self) -> Option<Reply> {
        let tls = self.greeting.tls.as_ref().filter(|_| needs_certificate(&self.port.main))?;
        let why = match &tls.peer {
            None => "No client certificate presented",
            Some(Peer { trust: Err(_), .. }) => "Client certificate not trusted",
            Some(Peer { trust: Ok(()), .. }) => return None,
        };
        Some(reply(421, (4, 7, 1), format!("{} Error: {why}", *self.port.main.myhostname)))
    }

    /// Writes what the log says of a handshake.
    fn log_tls(&self) {
        let (main, peer) = (&self.port.main, self.log.peer());
        let Some(tls) = &self.greeting.tls else { return };
        let needed = Some(("smtpd_tls_req_ccert", &main.smtpd_tls_req_ccert.source));
        if let (true, Some(Peer { trust: Err(why), .. })) = (needs_certificate(main), &tls.peer) {
            self.log.text(&format!("certificate verification failed for {peer}: {why}"), needed);
        }
        if *main.smtpd_tls_loglevel > 0 {
            let text = format!("{} TLS connection established from {peer}: {tls}", tls.trust);
            self.log.text(&text, Some(("smtpd_tls_loglevel", &main.smtpd_tls_loglevel.source)));
        }
        if let Some(refusal) = self.certificate_refusal() {
            let why = refusal.text.rsplit("Error: ").next().unwrap_or_default();
            self.log.text(&format!("NOQUEUE: abort: TLS from {peer}: {why}"), needed);
        }
    }

    async fn carry_out(&mut self, question: Question) -> Option<Answer> {
        if let Some(refusal) =
            self.certificate_refusal().filter(|_| !matches!(question, Question::Connect | Question::Note(_)))
        {
            return Some(Answer::Hangup(refusal));
        }
        if std::mem::take(&mut self.too_many_handshakes) && !matches!(question, Question::Note(_)) {
            let (host, address) = (self.port.main.myhostname.as_str(), self.client.ip());
            let text = format!("{host} Error: too many new TLS sessions from {address}");
            return Some(Answer::Hangup(reply(421, (4, 7, 0), text)));
        }
        self.answer(question).await.map(Answer::ending)
    }

    /// Each command on the heap while it runs: an idle session keeps no room for the largest, and none takes more than it needs.
    async fn answer(&mut self, question: Question) -> Option<Answer> {
        Some(match question {
            Question::Connect => Box::pin(self.connect()).await,
            Question::Helo { name, extended } => Box::pin(self.helo(name, extended)).await,
            Question::Mail(mail) => Box::pin(self.mail(mail)).await,
            Question::Rcpt(command) => Box::pin(self.rcpt(command)).await,
            Question::Vrfy(mailbox) => Box::pin(self.vrfy(&mailbox)).await,
            Question::Data => Box::pin(self.data()).await,
            Question::EndOfData { octets } => Box::pin(self.end_of_data(octets)).await,
            Question::Etrn(domain) => Box::pin(self.etrn(&domain)).await,
            Question::Xclient(command) => Box::pin(self.xclient(command)).await,
            Question::Filter(line) => self.filter(line).await,
            Question::Discard | Question::Reset => {
                Box::pin(self.reset()).await;
                Answer::Accept
            }
            Question::AuthStart { mechanism, initial } => Box::pin(self.auth_start(mechanism, initial)).await,
            Question::AuthResponse(response) => Box::pin(self.auth_response(response)).await,
            Question::AuthCancel => {
                if let Some(exchange) = self.exchange.take() {
                    Box::pin(self.door.sasl.cancel(&exchange)).await;
                }
                Answer::Accept
            }
            Question::Note(note) => {
                self.note(&note);
                return None;
            }
        })
    }

    async fn connect(&mut self) -> Answer {
        self.find_name().await;
        self.find_limits().await;
        self.log.connected();
        // TLS from the first octet is there already.
        self.log_tls();
        self.too_many_handshakes = self.counts_handshake();
        if let Some(refusal) = self.certificate_refusal().or_else(|| self.too_busy()) {
            return Answer::Hangup(refusal);
        }
        self.judge_client().await
    }

    /// The client restrictions, and what every command hears where they refuse.
    async fn judge_client(&mut self) -> Answer {
        let then = reply(503, (5, 7, 0), format!("Error: access denied for {}", self.log.peer()));
        self.judge(Stage::Client).await.map_or_else(|refusal| Answer::Shut(refusal, then), |()| Answer::Accept)
    }

    async fn find_name(&mut self) {
        let address = self.client.ip();
        if !*self.port.main.smtpd_peername_lookup {
            self.name = ClientName::default();
        } else if address.is_loopback() {
            self.name = ClientName {
                verified: Some("localhost".into()),
                reverse: Some("localhost".into()),
                ..ClientName::default()
            };
        } else {
            self.name = Box::pin(self.door.sources.client_name(address)).await;
        }
        if let Some(name) = &self.name.verified {
            self.log.name.clone_from(name);
        }
    }

    /// The limits that anvil(8) keeps for Postfix.
    fn too_busy(&self) -> Option<Reply> {
        let main = &self.port.main;
        let (count, address) = (*main.smtpd_client_connection_count_limit, self.client.ip());
        let host = main.myhostname.as_str();
        if count > 0 && self.held.open > count && !self.unlimited {
            let (open, peer, service) = (self.held.open, self.log.peer(), &self.port.name);
            let text = format!("Connection concurrency limit exceeded: {open} from {peer} for service {service}");
            let source = &main.smtpd_client_connection_count_limit.source;
            self.log.warning(&text, Some(("smtpd_client_connection_count_limit", source)));
            return Some(reply(421, (4, 7, 0), format!("{host} Error: too many connections from {address}")));
        }
        let limit = *main.smtpd_client_connection_rate_limit;
        let over = self.is_over(limit, Rate::Connections);
        over.then(|| reply(421, (4, 7, 0), format!("{host} Error: too many connections from {address}")))
    }

    /// Counts a TLS handshake that resumes no session, and says whether there were too many (`smtpd_client_new_tls_session_rate_limit`).
    fn counts_handshake(&self) -> bool {
        let limit = *self.port.main.smtpd_client_new_tls_session_rate_limit;
        let is_new = self.greeting.tls.as_ref().is_some_and(|tls| !tls.resumed);
        is_new && self.is_over(limit, Rate::TlsSessions)
    }

    /// Counts an event where a limit is set, and says whether it goes over it.
    fn is_over(&self, limit: u64, rate: Rate) -> bool {
        let main = &self.port.main;
        if limit == 0 || self.unlimited {
            return false;
        }
        let (unit, address) = (*main.anvil_rate_time_unit, self.client.ip());
        let count = self.door.clients.count(address, rate, unit, Instant::now());
        if count > limit {
            let (what, service) = (rate.words(), &self.port.name);
            let text = format!("{what} rate limit exceeded: {count} from {} for service {service}", self.log.peer());
            self.log.warning(&text, Some(rate.rule(main)));
        }
        count > limit
    }

    fn about<'a>(&'a self, from: Option<&'a str>, to: Option<&'a str>) -> About<'a> {
        About {
            id: self.transaction.as_ref().and_then(|transaction| transaction.id),
            from,
            to,
            command: self.verifying.then_some("VRFY"),
            proto: if self.greeting.extended { "ESMTP" } else { "SMTP" },
            helo: self.greeting.helo.as_deref(),
        }
    }

    async fn helo(&mut self, name: String, extended: bool) -> Answer {
        self.reset().await;
        self.greeting.helo = Some(name);
        let before = std::mem::replace(&mut self.greeting.extended, extended);
        self.deferrals.keep(Stage::Helo, None);
        match self.judge(Stage::Helo).await {
            Ok(()) => Answer::Accept,
            Err(refusal) => {
                // A name that was refused was never said.
                self.greeting.helo = None;
                self.greeting.extended = before;
                Answer::Refuse(refusal)
            }
        }
    }

    async fn mail(&mut self, mail: MailCommand) -> Answer {
        // Tables that changed since the last message count from here on.
        self.tables = self.shared.tables.snapshot();
        self.fetched = Fetched::default();
        let main = Arc::clone(&self.port.main);
        if self.is_over(*main.smtpd_client_message_rate_limit, Rate::Messages) {
            let text = format!("Error: too much mail from {}", self.client.ip());
            return Answer::Refuse(reply(450, (4, 7, 1), text));
        }
        let sender = match &mail.from {
            Path::Null => Sender::Null,
            Path::Mailbox(mailbox) => match complete(mailbox, &main) {
                Ok(address) if self.is_sendable(&address) => Sender::Address(address),
                _ => return Answer::Refuse(reply(501, (5, 1, 7), "Bad sender address syntax")),
            },
        };
        self.transactions += 1;
        self.instance = format!("{}.{}", self.log.session, self.transactions);
        // Restrictions may leave what they want done with the message.
        self.fetched.sender = Some(sender.clone());
        self.transaction = Some(Transaction::new(mail, sender, now()));
        let refused = match self.judge(Stage::Sender).await {
            Err(refusal) => Some(refusal),
            Ok(()) if !self.has_space() => Some(reply(452, (4, 3, 1), "Insufficient system storage")),
            Ok(()) => None,
        };
        match refused {
            Some(refusal) => {
                self.transaction = None;
                Answer::Refuse(refusal)
            }
            None if !*main.smtpd_delay_open_until_valid_rcpt => match self.queue_id().await {
                Ok(id) => {
                    self.transaction.iter_mut().for_each(|transaction| transaction.id = Some(id));
                    Answer::Accept
                }
                Err(refusal) => {
                    self.transaction = None;
                    Answer::Refuse(refusal)
                }
            },
            None => Answer::Accept,
        }
    }

    /// Whether the queue's disk has room for a message: `queue_minfree`, and one and a half times `message_size_limit`.
    fn has_space(&self) -> bool {
        let main = &self.port.main;
        let limit = *main.message_size_limit;
        let wanted = (*main.queue_minfree).max(limit.saturating_add(limit / 2));
        // Where the disk cannot be asked, queue-manager finds out.
        mail_posix::files::free_bytes_at(&self.door.state).map_or(true, |free| free >= wanted)
    }

    async fn rcpt(&mut self, command: RcptCommand) -> Answer {
        self.accept_recipient(command).await.map_or_else(Answer::Refuse, |()| Answer::Accept)
    }

    async fn accept_recipient(&mut self, command: RcptCommand) -> Result<(), Reply> {
        let main = Arc::clone(&self.port.main);
        if self.is_over(*main.smtpd_client_recipient_rate_limit, Rate::Recipients) {
            return Err(reply(450, (4, 7, 1), format!("Error: too many recipients from {}", self.client.ip())));
        }
        let text = command.to.to_string();
        let address =
            self.recipient(&command.to).ok_or_else(|| reply(501, (5, 1, 3), "Bad recipient address syntax"))?;
        self.judge_command(Command { recipient: Some((&address, &text)), ..Command::at(Stage::Recipient) }).await?;
        let (to, copies) = self.expand(&address, &text).await?;
        let id = self.queue_id().await?;
        let accepted = Accepted { text, to, notify: command.notify, orcpt: command.orcpt };
        if let Some(transaction) = &mut self.transaction {
            transaction.id = Some(id);
            transaction.recipients.push(accepted);
            add_copies(transaction, copies);
        }
        Ok(())
    }

    /// Whether mail could be sent to an address; one that cannot be judged now is judged later.
    fn is_sendable(&self, address: &Address) -> bool {
        mail_route::is_sendable(&self.view().world(), address).unwrap_or(true)
    }

    /// The complete address of a recipient. S12: the bare postmaster is this machine's, even where `myorigin` is somebody else's domain.
    fn recipient(&self, mailbox: &Mailbox) -> Option<Address> {
        let main = &self.port.main;
        let address = complete(mailbox, main).ok().filter(|address| self.is_sendable(address))?;
        if mailbox.domain.is_some() || !mailbox.local.eq_ignore_ascii_case("postmaster") {
            return Some(address);
        }
        match mail_route::class(&self.view().world(), address.domain(), &mut Vec::new()) {
            Ok(found) if found.class == mail_route::Class::Default => {
                Address::new(address.local(), Domain::new(&main.myhostname).ok()?).ok()
            }
            _ => Some(address),
        }
    }

    /// Those who get the mail of a recipient, and who gets a copy of it.
    async fn expand(&mut self, address: &Address, text: &str) -> Result<(Vec<Address>, Vec<mail_route::Copy>), Reply> {
        let mut view = RouteView {
            shared: &self.shared,
            main: &self.port.main,
            tables: &self.tables,
            fetched: &mut self.fetched,
            ident: &self.port.ident,
        };
        self.door.recipient(&mut view, address, text).await
    }

    /// The id of the transaction; minted with the first recipient, or with MAIL (`smtpd_delay_open_until_valid_rcpt`), which is when the log first
    /// names the client with it.
    async fn queue_id(&mut self) -> Result<QueueId, Reply> {
        if let Some(id) = self.transaction.as_ref().and_then(|transaction| transaction.id) {
            return Ok(id);
        }
        let id = self.door.queue.mint().await?;
        let permit = self.transaction.as_ref().and_then(|transaction| transaction.permit.as_ref());
        let permit = permit.map(|(rule, source)| (rule.as_str(), source));
        self.log.client(id, permit, self.greeting.method.as_deref(), self.greeting.user.as_deref());
        Ok(id)
    }

    async fn vrfy(&mut self, mailbox: &Mailbox) -> Answer {
        let Some(address) = self.recipient(mailbox) else {
            return Answer::Refuse(reply(501, (5, 1, 3), "Bad recipient address syntax"));
        };
        let text = mailbox.to_string();
        self.verifying = true;
        let command = Command { recipient: Some((&address, &text)), ..Command::at(Stage::Recipient) };
        let judged = self.judge_command(command).await;
        self.verifying = false;
        judged.map_or_else(Answer::Refuse, |()| Answer::Accept)
    }

    async fn reset(&mut self) {
        self.fetched.sender = None;
        if let Some(mut content) = self.transaction.take().and_then(|transaction| transaction.content) {
            content.discard(&self.door.queue).await;
        }
    }

    fn note(&mut self, note: &Note) {
        self.greeting.pipelining |= matches!(note, Note::Pipelining { .. });
        let from = self.transaction.as_ref().map(|transaction| transaction.sender.to_string());
        self.log.note(note, self.about(from.as_deref(), None));
    }
}

impl Handler<Server> for Session {
    async fn ask(&mut self, _id: AskId, question: Question, _answers: &Answers<Server>) -> Option<Answer> {
        self.carry_out(question).await
    }

    async fn give(&mut self, chunk: Vec<u8>) {
        Box::pin(self.take(chunk)).await;
    }

    fn tls_started(&mut self, stream: &Stream) {
        // RFC 3207 section 4.2: what was said before does not count.
        self.greeting = Greeting {
            helo: None,
            extended: false,
            tls: stream.tls(),
            user: None,
            method: None,
            pipelining: self.greeting.pipelining,
        };
        self.transaction = None;
        self.log_tls();
        self.too_many_handshakes = self.counts_handshake();
    }
}
