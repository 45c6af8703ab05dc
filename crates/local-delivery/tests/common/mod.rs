//! The real daemon between a queue-manager and an authd that the test plays.
#![allow(dead_code, reason = "each test target uses its part")]

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use mail_ipc::Frame;
use mail_ipc::delivery::{
    Content, Destination, FromWorker, Lease, LeaseRecipient, Outcome, OutcomeKey, ToWorker, TransportKind,
};
use mail_ipc::hello::{Hello, Role};
use mail_ipc::lookup::{MailUser, PasswdUser, Request, Response};
use mail_ipc::sockets::{DELIVERY, LOOKUP, Socket};
use mail_net::ipc::{self, Conversation};
use mail_types::{Body, Client, DsnOptions, Octets, Purpose, QueueId, Sender, UnixTime};
use test_support::binaries::place;
use tokio::net::UnixListener;

pub const NOBODY: u32 = 65534;

pub struct System {
    pub dir: tempfile::TempDir,
    pub daemon: Child,
    pub delivery: UnixListener,
    pub lookup: Option<UnixListener>,
}

impl Drop for System {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// Whether the tests have to become somebody without rights first; a test about privileges keeps them.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root() && std::env::var_os(PRIVILEGED).is_none()
}

/// Set where the test is about privileges.
pub const PRIVILEGED: &str = "LOCAL_DELIVERY_TEST_PRIVILEGED";

/// Starts the daemon on these lines of main.cf.
pub async fn start(main: &str) -> System {
    start_with(main, "").await
}

/// The same with these lines of aliases; `DIR` stands for the temporary directory.
pub async fn start_with(main: &str, aliases: &str) -> System {
    start_in(tempfile::tempdir().expect("tempdir"), main, aliases, &[]).await
}

/// The same with tables below `etc` that only their owner may read.
pub async fn start_closed(main: &str, tables: &[(&str, &str)]) -> System {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("tempdir");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("set");
    for (name, text) in tables {
        let path = dir.path().join("etc").join(name);
        let parent = path.parent().expect("below etc");
        std::fs::create_dir_all(parent).expect("made");
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("set");
        if !parent.ends_with("etc") {
            std::fs::set_permissions(parent, std::fs::Permissions::from_mode(0o700)).expect("set");
        }
    }
    start_in(dir, main, "", &[]).await
}

/// The same in a directory, with variables that make the daemon try what it may do; what it says of that is in the file `stderr`.
pub async fn start_trying(dir: tempfile::TempDir, main: &str, variables: &[(&str, &str)]) -> System {
    start_in(dir, main, "", variables).await
}

async fn start_in(dir: tempfile::TempDir, main: &str, aliases: &str, variables: &[(&str, &str)]) -> System {
    let home = dir.path().display();
    std::fs::create_dir_all(dir.path().join("etc")).expect("made");
    std::fs::write(dir.path().join("etc/aliases"), aliases.replace("DIR", &home.to_string())).expect("written");
    let main = format!(
        "myhostname = mail.info.net\nmyorigin = info.net\nmydestination = info.net\nqueue_directory = {home}/spool\n\
         alias_maps = hash:{home}/etc/aliases\n{}",
        main.replace("DIR", &home.to_string())
    );
    std::fs::write(dir.path().join("etc/main.cf"), main).expect("written");
    for name in ["spool", "home", "spool/postrider"] {
        std::fs::create_dir(dir.path().join(name)).expect("made");
    }
    if is_root() {
        for name in ["", "spool", "home", "spool/postrider"] {
            std::os::unix::fs::chown(dir.path().join(name), Some(NOBODY), Some(NOBODY)).expect("chown");
        }
    }
    let daemon = spawn_with(dir.path(), variables);
    let state = dir.path().join("spool/postrider");
    let bind = |socket: Socket| {
        let listener = ipc::bind(&state.join(socket.directory), socket.name, 0o666).expect("bound");
        UnixListener::from_std(listener).expect("a listener")
    };
    wait_for(&state.join("private")).await;
    let (delivery, lookup) = (bind(DELIVERY), Some(bind(LOOKUP)));
    System { dir, daemon, delivery, lookup }
}

pub fn spawn(dir: &Path) -> Child {
    spawn_with(dir, &[])
}

fn spawn_with(dir: &Path, variables: &[(&str, &str)]) -> Child {
    let mut command = Command::new(place(Path::new(env!("CARGO_BIN_EXE_local-delivery")), dir).expect("placed"));
    command.arg("-c").arg(dir.join("etc")).current_dir("/");
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    if !variables.is_empty() {
        command.stderr(std::fs::File::create(dir.join("stderr")).expect("made"));
    }
    command.envs(variables.iter().copied()).spawn().expect("the daemon runs")
}

/// How many times something is looked for, every ten milliseconds: two minutes.
const LOOKS: usize = 12_000;

/// Waits until a path is there.
pub async fn wait_for(path: &Path) {
    for _ in 0..LOOKS {
        if path.exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} never came", path.display());
}

/// Answers user lookups: `john` and `anna` are users of the machine, `mail@info.net` of the userdb, `later` is unknown for the moment.
pub async fn play_authd(listener: UnixListener, home: PathBuf) {
    loop {
        let (stream, _) = listener.accept().await.expect("accepts");
        tokio::spawn(answer(stream, home.clone()));
    }
}

pub async fn answer(stream: tokio::net::UnixStream, home: PathBuf) {
    let mut conversation = ipc::accept(stream, &Hello::new(Role::Authd, "authd")).await.expect("greets");
    while let Ok(Some(received)) = conversation.reader.frame().await {
        let frame = received.read::<Request>().expect("a request");
        let directory = |name: &str| Octets::from(home.join(name).to_str().expect("utf-8"));
        let answer = match frame.body {
            Request::Passwd { name } if name == "john" || name == "anna" => {
                let id = if name == "john" { 1000 } else { 1001 };
                let user = PasswdUser { uid: id, gid: id, home: directory(&name), shell: Octets::default(), name };
                Response::Passwd { user }
            }
            Request::Passwd { name } if name == "later" => Response::Temporary { text: "LDAP is down".into() },
            Request::Mail { user, .. } if user == "mail@info.net" => Response::Mail {
                user: MailUser {
                    uid: None,
                    gid: None,
                    home: Some(directory("mail")),
                    mail: Some("maildir:~/Maildir".into()),
                    user,
                },
            },
            _ => Response::NotFound,
        };
        conversation.writer.send(&Frame::new(frame.id, answer), &[], &[]).await.expect("answers");
    }
}

impl System {
    pub fn authd(&mut self) {
        let lookup = self.lookup.take().expect("once");
        tokio::spawn(play_authd(lookup, self.dir.path().join("home")));
    }

    /// Waits for the daemon, and for its offer to take mail.
    pub async fn worker(&self) -> (Conversation, Vec<mail_ipc::delivery::Held>) {
        let (stream, _) = self.delivery.accept().await.expect("accepts");
        let mut conversation =
            ipc::accept(stream, &Hello::new(Role::QueueManager, "queue-manager")).await.expect("greets");
        let FromWorker::Resume { leases, .. } = next(&mut conversation).await else { panic!("resume comes first") };
        let FromWorker::Ready { slots, .. } = next_ready(&mut conversation).await else { unreachable!() };
        assert!(slots > 0);
        (conversation, leases)
    }

    /// Waits until the log, which is written by a thread of its own, holds a text.
    pub async fn logged(&self, text: &str) {
        let path = self.dir.path().join("spool/postrider/log/local-delivery.log");
        for _ in 0..LOOKS {
            if std::fs::read_to_string(&path).is_ok_and(|log| log.contains(text)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{text:?} is not in the log:\n{}", std::fs::read_to_string(path).unwrap_or_default());
    }

    pub fn files(&self, user: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path().join("home").join(user).join("Maildir/new"));
        entries
            .into_iter()
            .flatten()
            .map(|entry| std::fs::read_to_string(entry.expect("entry").path()).expect("read"))
            .collect()
    }
}

pub async fn next(conversation: &mut Conversation) -> FromWorker {
    let waiting = tokio::time::timeout(Duration::from_secs(120), conversation.reader.frame());
    waiting.await.expect("in time").expect("sound").expect("open").read::<FromWorker>().expect("a message").body
}

pub async fn next_ready(conversation: &mut Conversation) -> FromWorker {
    loop {
        let message = next(conversation).await;
        if matches!(message, FromWorker::Ready { .. }) {
            return message;
        }
    }
}

/// Collects so many outcomes by recipient's number.
pub async fn outcomes(conversation: &mut Conversation, count: usize) -> BTreeMap<u32, Outcome> {
    let mut all = BTreeMap::new();
    while all.len() < count {
        if let FromWorker::Outcomes { outcomes } = next(conversation).await {
            all.extend(outcomes.into_iter().map(|outcome| (outcome.recipient, outcome)));
        }
    }
    all
}

pub fn lease(kind: TransportKind, recipients: &[&str], content: Content) -> Lease {
    let recipient = |(number, address): (u32, &&str)| LeaseRecipient {
        number,
        address: address.parse().expect("good"),
        original: None,
        orcpt: None,
        notify: None,
        chain: Vec::new(),
        rule: None,
        part: None,
    };
    Lease {
        lease: 1,
        id: QueueId::new(1_700_000_000, 42, 7).expect("in range"),
        attempt: 1,
        unreported: false,
        destination: Destination { transport: "local".into(), kind, nexthop: "unix:private/dovecot-lmtp".into() },
        sender: Sender::Address("sender@example.org".parse().expect("good")),
        arrival: UnixTime(1_700_000_000_000),
        active: UnixTime(1_700_000_000_500),
        size: 10,
        body: Body::SevenBit,
        smtputf8: false,
        dsn: DsnOptions::default(),
        message_id: None,
        client: Client::default(),
        purpose: Purpose::Deliver,
        recipients: (1..).zip(recipients).map(recipient).collect(),
        content,
    }
}

pub const MESSAGE: &[u8] =
    b"Delivered-To: looped@info.net\r\nReturn-Path: <forged@x.org>\r\nSubject: Test\r\n\r\nTest message\r\n";

pub async fn grant(conversation: &Conversation, lease: Lease) {
    let grants = ToWorker::Grants { leases: vec![lease] };
    conversation.writer.send(&Frame::new(0, grants), &[], &[MESSAGE]).await.expect("sent");
}

pub fn key(outcome: &Outcome) -> OutcomeKey {
    OutcomeKey { id: outcome.id, recipient: outcome.recipient, attempt: outcome.attempt }
}

impl System {
    /// As [`System::worker`], but the outcomes that come before the offer are left for the caller.
    pub async fn worker_with_outcomes(&self) -> (Conversation, Vec<mail_ipc::delivery::Held>) {
        let (stream, _) = self.delivery.accept().await.expect("accepts");
        let mut conversation =
            ipc::accept(stream, &Hello::new(Role::QueueManager, "queue-manager")).await.expect("greets");
        let FromWorker::Resume { leases, .. } = next(&mut conversation).await else { panic!("resume comes first") };
        (conversation, leases)
    }
}
