//! What all sessions of the daemon share, and the way that every message takes from here to the queue.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use decision::{Event, Ident, Record, Stage};
use mail_daemon::Log;
use mail_intake::{Intake as HeaderIntake, Rewrites, Role};
use mail_ipc::control;
use mail_ipc::hello::Hello;
use mail_message::header::Received;
use mail_net::ipc::Caller;
use mail_route::{Origin, Stop, World};
use mail_smtp::server::Event as SessionEvent;
use mail_types::{Address, Client, EnhancedStatus, Notify, QueueId, Reply, ReplyCode, Sender, UnixTime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::clients::Clients;
use crate::content::Prepare;
use crate::facts::{Fetched, Sources, View, resolver};
use crate::policy_services::PolicyServices;
use crate::ports::Shared;
use crate::queue::Queue;
use crate::sasl::Sasl;
use crate::transaction::{Accepted, Facts, Transaction, envelope};
use crate::users::Users;

/// The memory that the content of all messages under way may take, in KiB; beyond it sessions wait, and so stop reading.
const BUDGET: usize = 128 * 1024;
/// What one message may take of it in KiB: a chunk of the machine, and what waits for the end of the header or the file.
const SHARE: u32 = 128;
/// How often routing may ask for one more fact.
const FACTS_MAX: usize = 2000;

/// The shared part of the daemon.
pub struct Door {
    /// The log.
    pub log: Log,
    /// The state directory.
    pub state: PathBuf,
    /// Our greeting for other daemons.
    pub hello: Hello,
    current: RwLock<Arc<Shared>>,
    /// The way to queue-manager.
    pub queue: Queue,
    /// The way to authd's logins.
    pub sasl: Sasl,
    /// Users and DNS.
    pub sources: Sources<Users>,
    /// Counts per client.
    pub clients: Clients,
    /// The connections to policy services.
    pub policy: PolicyServices,
    /// Where ETRN is passed on to.
    pub operators: Caller<control::Request, control::Response>,
    budget: Arc<Semaphore>,
    sessions: Mutex<Sessions>,
}

/// The sessions that are open, to tell them that the daemon stops.
#[derive(Default)]
struct Sessions {
    next: u64,
    open: HashMap<u64, mpsc::Sender<SessionEvent>>,
    draining: bool,
}

impl Door {
    /// The shared part for a state directory.
    #[must_use]
    pub fn new(log: Log, state: PathBuf, hello: &Hello, shared: Shared) -> Self {
        let sources = Sources { users: Users::new(state.clone(), hello.clone()), dns: resolver(&shared.config.main) };
        Self {
            log,
            queue: Queue::new(state.clone(), hello.clone()),
            sasl: Sasl::new(state.clone(), hello.clone()),
            sources,
            clients: Clients::default(),
            policy: PolicyServices::default(),
            operators: Caller::new(state.clone(), mail_ipc::sockets::CONTROL, hello.clone()),
            budget: Arc::new(Semaphore::new(BUDGET)),
            sessions: Mutex::default(),
            current: RwLock::new(Arc::new(shared)),
            hello: hello.clone(),
            state,
        }
    }

    /// The generation in force.
    #[must_use]
    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another generation in force, for sessions that begin from now on.
    pub fn replace(&self, shared: Shared) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(shared);
        self.sources.users.forget();
    }

    /// Waits for a share of the memory for content.
    ///
    /// # Errors
    /// A 451, if the daemon ends.
    pub async fn share(&self) -> Result<OwnedSemaphorePermit, Reply> {
        Arc::clone(&self.budget).acquire_many_owned(SHARE).await.map_err(|_| crate::queue::unavailable())
    }

    /// Enters a session; its number, and what it will hear.
    #[must_use]
    pub fn enter(&self) -> (u64, mpsc::Receiver<SessionEvent>) {
        let (sender, receiver) = mpsc::channel(1);
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.next += 1;
        let number = sessions.next;
        if sessions.draining {
            let _ = sender.try_send(SessionEvent::Drain);
        }
        sessions.open.insert(number, sender);
        (number, receiver)
    }

    /// Takes a session out.
    pub fn leave(&self, number: u64) {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).open.remove(&number);
    }

    /// Tells every session, now and later, that the daemon stops.
    pub fn drain(&self) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.draining = true;
        for sender in sessions.open.values() {
            // The channel has room for the one event there is.
            let _ = sender.try_send(SessionEvent::Drain);
        }
    }

    /// Asks routing, and fetches what it wants to know, until it has an answer.
    ///
    /// # Errors
    /// A 451 if a table or another process cannot say; `what` names the address for the client.
    pub async fn route<T>(
        &self,
        view: &mut RouteView<'_>,
        what: &str,
        ask: impl Fn(&World<'_>) -> Result<T, Stop>,
    ) -> Result<T, Reply> {
        let failure = || {
            let text = format!("<{what}>: Temporary lookup failure");
            Reply::new(ReplyCode::of(451), EnhancedStatus::of(4, 3, 0), text)
        };
        for _ in 0..FACTS_MAX {
            let answer = ask(&view.view().world());
            match answer {
                Ok(answer) => return Ok(answer),
                Err(Stop::Missing(question)) => {
                    let fact = Box::pin(self.sources.fetch_route(question)).await;
                    view.fetched.add(fact);
                }
                Err(Stop::Temporary(why)) => {
                    self.log.warning(view.ident, &why);
                    return Err(failure());
                }
            }
        }
        Err(failure())
    }

    /// What the addresses of a header become, and its sender, as tables say.
    ///
    /// # Errors
    /// As [`Door::route`].
    pub async fn rewrites(
        &self,
        view: &mut RouteView<'_>,
        origin: Option<Origin<'_>>,
        content: &[u8],
    ) -> Result<Rewrites, Reply> {
        let mut rewrites = Rewrites::default();
        let Some(origin) = origin else { return Ok(rewrites) };
        for (role, text) in mail_intake::addresses(content) {
            let whose = if role == Role::Sender { mail_route::Role::Sender } else { mail_route::Role::Recipient };
            let ask = |world: &World<'_>| mail_route::rewrite_header(world, origin, whose, &text, &mut Vec::new());
            if let Some(next) = self.route(view, &text, ask).await? {
                rewrites.insert((role, text), next);
            }
        }
        Ok(rewrites)
    }

    /// Those who get the mail of a recipient, and who gets a copy of it.
    ///
    /// # Errors
    /// As [`Door::route`].
    pub async fn recipient(
        &self,
        view: &mut RouteView<'_>,
        address: &Address,
        text: &str,
    ) -> Result<(Vec<Address>, Vec<mail_route::Copy>), Reply> {
        let ask = |world: &World<'_>| {
            let to = mail_route::rewrite_recipient(world, address, &mut Vec::new())?;
            Ok((to, mail_route::recipient_copies(world, address, &mut Vec::new())?))
        };
        self.route(view, text, ask).await
    }

    /// The sender after canonical maps and masquerading, and the copies of every message of it.
    ///
    /// # Errors
    /// As [`Door::route`].
    pub async fn sender(
        &self,
        view: &mut RouteView<'_>,
        sender: &Sender,
    ) -> Result<(Sender, Vec<mail_route::Copy>), Reply> {
        let ask = |world: &World<'_>| {
            let sender = mail_route::rewrite_sender(world, sender, &mut Vec::new())?;
            let copies = mail_route::sender_copies(world, &sender, &mut Vec::new())?;
            Ok((sender, copies))
        };
        self.route(view, &sender.to_string(), ask).await
    }

    /// Hands a complete message to the queue, and writes its Message-ID into the log.
    ///
    /// # Errors
    /// What the client hears; nothing is left behind then.
    pub async fn commit(
        &self,
        transaction: &mut Transaction,
        sender: Sender,
        client: Client,
        prepare: &dyn Prepare,
        cleanup: &Ident,
    ) -> Result<QueueId, Reply> {
        let (Some(id), Some(mut content)) = (transaction.id, transaction.content.take()) else {
            return Err(crate::queue::unavailable());
        };
        if transaction.actions.discard {
            // access(5): it looks delivered to the client. The log has said which rule wants it.
            content.discard(&self.queue).await;
            return Ok(id);
        }
        let mut complete = content.finish(prepare, &self.queue).await?;
        // Whoever writes the file closes it before queue-manager takes it.
        drop(complete.file.take());
        mail_posix::points::reached("smtpd.message");
        let message_id = content.message_id.take();
        let event = Event::MessageId { message_id: message_id.as_deref().unwrap_or("<>") };
        self.log.record(&Record::new(cleanup, Stage::Data, event).about(id));
        let facts = Facts { size: complete.length, message_id, utf8: content.utf8, eight_bit: content.eight_bit };
        let originals = *self.shared().config.main.enable_original_recipient;
        let envelope = envelope(transaction, sender, facts, client, originals);
        // A file stays queue-manager's whatever it answers: it removes what no record names.
        self.queue.submit(id, envelope, &complete.stored, transaction.actions.hold).await?;
        mail_posix::points::reached("intake-accepted");
        Ok(id)
    }
}

/// What routing works on: a view whose facts grow.
pub struct RouteView<'a> {
    /// The generation.
    pub shared: &'a Shared,
    /// main.cf as the listener sees it.
    pub main: &'a mail_config::Main,
    /// The tables.
    pub tables: &'a Arc<mail_tables::Snapshot>,
    /// What was fetched.
    pub fetched: &'a mut Fetched,
    /// Who warns.
    pub ident: &'a Ident,
}

impl RouteView<'_> {
    /// The view at this moment.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        View { config: &self.shared.config, main: self.main, tables: self.tables, fetched: self.fetched }
    }
}

/// The time of now as records hold it.
#[must_use]
pub fn now() -> UnixTime {
    UnixTime::from_system(SystemTime::now())
}

/// How the header of a message is made, apart from what each message has of its own.
pub struct HeaderPlan<'a> {
    /// main.cf.
    pub main: &'a mail_config::Main,
    /// Whether missing fields are added.
    pub adds: bool,
    /// What its addresses become.
    pub rewrites: &'a Rewrites,
    /// The full name for a missing From.
    pub full_name: Option<&'a str>,
}

impl HeaderPlan<'_> {
    /// Makes the header that is stored.
    ///
    /// # Errors
    /// What the client hears.
    pub fn prepare(
        &self,
        id: Option<QueueId>,
        when: UnixTime,
        sender: &Sender,
        received: Received<'_>,
        content: &[u8],
    ) -> Result<mail_intake::Prepared, Reply> {
        let main = self.main;
        // Content is taken only for a transaction that has an id.
        let id = id.unwrap_or_else(|| QueueId::new(0, 0, 0).expect("zeros are in range"));
        let intake = HeaderIntake {
            hostname: &main.myhostname,
            software: &main.mail_name,
            id,
            when,
            received: Some(received),
            rewrites: self.rewrites,
            adds: self.adds,
            sender,
            full_name: self.full_name,
            hopcount_limit: usize::try_from(*main.hopcount_limit).unwrap_or(usize::MAX),
            header_size_limit: usize::try_from(*main.header_size_limit).unwrap_or(usize::MAX),
            drop_headers: &main.message_drop_headers,
            undisclosed: &main.undisclosed_recipients_header,
        };
        intake.header(content).map_err(crate::content::refusal)
    }
}

/// Adds automatic copies to a transaction. Nobody hears of their fate.
pub fn add_copies(transaction: &mut Transaction, copies: Vec<mail_route::Copy>) {
    transaction.copies.extend(copies.into_iter().map(|copy| Accepted {
        text: copy.text,
        to: copy.to,
        notify: Some(Notify::NEVER),
        orcpt: None,
    }));
}

/// A complete address of what a client wrote.
///
/// # Errors
/// The text is no address even with `myorigin`.
pub fn complete(mailbox: &mail_smtp::Mailbox, main: &mail_config::Main) -> Result<Address, mail_types::AddressError> {
    mail_route::complete(&mailbox.local, mailbox.domain.as_ref().map(mail_types::Domain::as_str), main)
}
