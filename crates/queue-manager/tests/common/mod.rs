//! A queue-manager in this process, and peers that speak to it over socket pairs.
#![allow(dead_code, missing_docs)]

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;

use mail_daemon::Log;
use mail_daemon::state::Roles;
use mail_ipc::Frame;
use mail_ipc::delivery::{Destination, Fate, FromWorker, Lease, Outcome, OutcomeKey, ToWorker, TransportKind};
use mail_ipc::hello::{Hello, Role};
use mail_ipc::{control, intake};
use mail_net::ipc::{self, Conversation};
use mail_types::{
    Address, Body, Client, DsnOptions, EnhancedStatus, Envelope, Notify, Purpose, QueueId, Recipient, UnixTime,
};
use queue_manager::core::{Core, Event, Router};
use queue_manager::destination::Target;
use queue_manager::serve::{Hub, Kind, begin};
use queue_manager::settings::Settings;
use queue_store::{Options, Store};
use tokio::net::UnixStream;

/// local.test is delivered here, discard.test and error.test are what they say, everything else is SMTP.
pub struct Domains;

impl Router for Domains {
    fn route(&self, _: &mail_types::Sender, address: &Address) -> Target {
        let nexthop = address.domain().key();
        let to = |kind, transport: &str| {
            Target::Worker(Destination { transport: transport.to_owned(), kind, nexthop: nexthop.clone() })
        };
        match nexthop.as_str() {
            "local.test" => to(TransportKind::Local, "local"),
            "discard.test" => Target::Discard("not wanted".to_owned()),
            "error.test" => Target::Error(EnhancedStatus::of(5, 1, 1), "nobody here".to_owned()),
            _ => to(TransportKind::Smtp, "smtp"),
        }
    }
}

pub struct Manager {
    pub hub: Arc<Hub>,
    pub events: Sender<Event>,
    core: JoinHandle<bool>,
}

pub fn start(dir: &Path, settings: Settings) -> Manager {
    let (store, recovery) = Store::open(dir, Options::default()).expect("open");
    let store = Arc::new(store);
    let router: Arc<dyn Router> = Arc::new(Domains);
    let (core, events) = Core::new(store.clone(), &recovery, settings, router.clone(), Log::nowhere());
    let core = std::thread::spawn(move || core.run());
    let hub =
        Hub::new(store, events.clone(), router, Hello::new(Role::QueueManager, "queue-manager"), Roles::default());
    Manager { hub, events, core }
}

impl Manager {
    pub async fn connect(&self, kind: Kind, role: Role, instance: &str) -> Conversation {
        let (near, far) = UnixStream::pair().expect("a pair");
        begin(self.hub.clone(), far, kind);
        ipc::accept(near, &Hello::new(role, instance)).await.expect("greeted")
    }

    /// A worker that has announced itself.
    pub async fn worker(&self, instance: &str, kinds: &[TransportKind], slots: u32) -> Worker {
        let role = if kinds.contains(&TransportKind::Local) { Role::LocalDelivery } else { Role::RemoteDelivery };
        let worker = Worker { line: self.connect(Kind::Delivery, role, instance).await };
        worker.say(FromWorker::Resume { leases: Vec::new(), outcomes: Vec::new() }).await;
        worker.say(FromWorker::Ready { kinds: kinds.to_vec(), slots, open: Vec::new() }).await;
        worker
    }

    pub async fn ask(&self, request: control::Request) -> control::Response {
        let mut line = self.connect(Kind::Control, Role::Command, "postqueue").await;
        line.writer.send(&Frame::new(1, request), &[], &[]).await.expect("sent");
        line.reader.frame().await.expect("sound").expect("an answer").read().expect("understood").body
    }

    pub async fn listed(&self) -> Vec<control::Listed> {
        match self.ask(control::Request::List { after: None, limit: 100 }).await {
            control::Response::Page { messages, .. } => messages,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until the queue is empty.
    pub async fn empty(&self) {
        within(async {
            while !self.listed().await.is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    pub async fn stop(self) {
        self.hub.close();
        self.events.send(Event::Stop).expect("running");
        let core = self.core;
        assert!(tokio::task::spawn_blocking(move || core.join()).await.expect("joined").expect("no panic"));
        let mut hub = self.hub;
        let hub = within(async {
            loop {
                match Arc::try_unwrap(hub) {
                    Ok(hub) => return hub,
                    Err(shared) => hub = shared,
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
        let mut store = hub.store;
        let store = within(async {
            loop {
                match Arc::try_unwrap(store) {
                    Ok(store) => return store,
                    Err(shared) => store = shared,
                }
                tokio::task::yield_now().await;
            }
        })
        .await;
        tokio::task::spawn_blocking(move || store.close()).await.expect("joined").expect("closed");
    }
}

/// Nothing in these tests may take longer than this.
pub async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(120), work).await.expect("in time")
}

pub struct Worker {
    pub line: Conversation,
}

impl Worker {
    pub async fn say(&self, message: FromWorker) {
        self.line.writer.send(&Frame::new(0, message), &[], &[]).await.expect("sent");
    }

    /// The next grants with their contents.
    pub async fn grants(&mut self) -> Vec<(Lease, Vec<u8>)> {
        loop {
            match self.hear().await {
                (ToWorker::Grants { leases }, contents) => return leases.into_iter().zip(contents).collect(),
                (ToWorker::Recorded { .. }, _) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub async fn hear(&mut self) -> (ToWorker, Vec<Vec<u8>>) {
        within(async {
            let received = self.line.reader.frame().await.expect("sound").expect("a frame");
            let message: ToWorker = received.read().expect("understood").body;
            let mut contents = Vec::new();
            let mut files = received.descriptors.into_iter();
            if let ToWorker::Grants { leases } = &message {
                for lease in leases {
                    contents.push(match lease.content {
                        mail_ipc::delivery::Content::Follows(length) => {
                            self.line.reader.content(length as usize).await.expect("content")
                        }
                        mail_ipc::delivery::Content::Descriptor { length } => {
                            let file = std::fs::File::from(files.next().expect("a descriptor"));
                            let mut octets = vec![0; length as usize];
                            std::os::unix::fs::FileExt::read_exact_at(&file, &mut octets, 0).expect("read");
                            octets
                        }
                    });
                }
            }
            (message, contents)
        })
        .await
    }

    pub async fn report(&self, lease: &Lease, recipient: u32, fate: Fate) {
        self.say(FromWorker::Outcomes { outcomes: vec![outcome(lease, recipient, fate)] }).await;
    }

    /// Reports and waits until it is recorded.
    pub async fn settle(&mut self, lease: &Lease, recipient: u32, fate: Fate) {
        self.report(lease, recipient, fate).await;
        let key = OutcomeKey { id: lease.id, recipient, attempt: lease.attempt };
        loop {
            if let (ToWorker::Recorded { outcomes }, _) = self.hear().await
                && outcomes.contains(&key)
            {
                return;
            }
        }
    }
}

pub fn outcome(lease: &Lease, recipient: u32, fate: Fate) -> Outcome {
    let (status, text) = match fate {
        Fate::Bounced => (EnhancedStatus::of(5, 1, 1), "host mx.test said: 550 5.1.1 no such user"),
        Fate::Deferred { .. } => (EnhancedStatus::of(4, 4, 1), "connect to mx.test: Connection refused"),
        _ => (EnhancedStatus::of(2, 0, 0), "delivered"),
    };
    Outcome {
        lease: lease.lease,
        id: lease.id,
        attempt: lease.attempt,
        recipient,
        fate,
        status,
        text: text.to_owned(),
        relay: "mx.test[127.0.0.1]:25".to_owned(),
        diagnostic: None,
        remote: None,
    }
}

pub fn id(serial: u32) -> QueueId {
    QueueId::new(1_790_000_000, serial % 1_000_000, serial).expect("in range")
}

pub fn envelope(sender: &str, recipients: &[&str]) -> Envelope {
    Envelope {
        sender: sender.to_owned().try_into().expect("sender"),
        recipients: recipients.iter().map(|text| Recipient::new(text.parse().expect("address"))).collect(),
        arrival: UnixTime::from_system(std::time::SystemTime::now()),
        size: 0,
        body: Body::SevenBit,
        smtputf8: false,
        dsn: DsnOptions::default(),
        message_id: None,
        client: Client::default(),
        purpose: Purpose::Deliver,
    }
}

pub fn notify(mut envelope: Envelope, notify: Notify) -> Envelope {
    envelope.recipients.iter_mut().for_each(|recipient| recipient.notify = Some(notify));
    envelope
}

/// smtpd's side of the intake.
pub struct Door {
    pub line: Conversation,
}

impl Door {
    pub async fn open(manager: &Manager) -> Self {
        Self { line: manager.connect(Kind::Intake, Role::Smtpd, "smtpd").await }
    }

    pub async fn ask(&mut self, request: intake::Request, content: &[u8]) -> intake::Response {
        self.line.writer.send(&Frame::new(7, request), &[], &[content]).await.expect("sent");
        within(self.answer()).await
    }

    pub async fn answer(&mut self) -> intake::Response {
        self.line.reader.frame().await.expect("sound").expect("an answer").read().expect("understood").body
    }

    pub async fn submit(&mut self, serial: u32, envelope: Envelope, content: &[u8]) {
        let request = submission(serial, envelope, content);
        assert_eq!(self.ask(request, content).await, intake::Response::Accepted { id: id(serial) });
    }
}

pub fn submission(serial: u32, envelope: Envelope, content: &[u8]) -> intake::Request {
    intake::Request::Submit {
        id: id(serial),
        envelope: Box::new(envelope),
        more_recipients: false,
        content: intake::Content::Follows(content.len() as u64),
        hold: false,
    }
}
