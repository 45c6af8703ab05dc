//! The real daemon, killed while messages come in.

mod common;

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{envelope, id, submission, within};
use mail_ipc::hello::{Hello, Role};
use mail_ipc::sockets::{CONTROL, QUEUE};
use mail_ipc::{Frame, control, intake};
use mail_net::ipc::{self, Conversation};
use test_support::binaries::place;

/// As root the daemon would ask for its role user; it runs as nobody then.
const NOBODY: u32 = 65_534;

struct System {
    dir: tempfile::TempDir,
    daemon: Option<Child>,
}

impl System {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("directory");
        let spool = dir.path().join("spool");
        std::fs::create_dir(&spool).expect("spool");
        let text = format!(
            "compatibility_level = 3.6\nmyhostname = mail.test\nmydestination = local.test\nqueue_directory = {}\nalias_maps =\nalias_database =\n",
            spool.display()
        );
        std::fs::write(dir.path().join("main.cf"), text).expect("main.cf");
        std::fs::write(dir.path().join("dovecot.conf"), "protocols =\n").expect("dovecot.conf");
        std::fs::write(dir.path().join("master.cf"), "smtp unix - - n - - smtp\nlocal unix - n n - - local\n")
            .expect("master.cf");
        if rustix::process::geteuid().is_root() {
            for path in [dir.path(), &spool] {
                std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).expect("chown");
            }
        }
        Self { dir, daemon: None }
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("spool/postrider")
    }

    fn command(&self) -> Command {
        let mut command =
            Command::new(place(Path::new(env!("CARGO_BIN_EXE_queue-manager")), self.dir.path()).expect("placed"));
        command.arg("-c").arg(self.dir.path()).stdin(Stdio::null()).stdout(Stdio::null());
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    async fn start(&mut self) {
        self.daemon = Some(self.command().spawn().expect("started"));
        let state = self.state();
        within(async { while connect(&state, CONTROL, Role::Command).await.is_none() {} }).await;
    }

    /// Kills the daemon, both of its processes.
    fn kill(&mut self) {
        let mut daemon = self.daemon.take().expect("running");
        let front = rustix::process::Pid::from_raw(front(daemon.id()).expect("a front")).expect("positive");
        let front = rustix::process::pidfd_open(front, rustix::process::PidfdFlags::empty()).expect("alive");
        daemon.kill().expect("killed");
        daemon.wait().expect("ended");
        // The kernel ends it after its monitor.
        let mut ended = [rustix::event::PollFd::new(&front, rustix::event::PollFlags::IN)];
        let limit = rustix::event::Timespec { tv_sec: 120, tv_nsec: 0 };
        assert_eq!(rustix::event::poll(&mut ended, Some(&limit)).expect("polled"), 1, "the front lives on");
    }
}

impl Drop for System {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            drop(daemon.kill());
            drop(daemon.wait());
        }
    }
}

/// The child of a monitor.
fn front(monitor: u32) -> Option<i32> {
    let children = std::fs::read_to_string(format!("/proc/{monitor}/task/{monitor}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

async fn connect(state: &Path, socket: mail_ipc::sockets::Socket, role: Role) -> Option<Conversation> {
    let connected = ipc::connect(state, socket, &Hello::new(role, "test")).await.ok();
    if connected.is_none() {
        tokio::task::yield_now().await;
    }
    connected
}

/// Submits messages until the connection breaks.
async fn submit(state: PathBuf, next: Arc<AtomicU32>, accepted: Arc<Mutex<BTreeSet<u32>>>) {
    let Some(mut line) = connect(&state, QUEUE, Role::Smtpd).await else { return };
    loop {
        let serial = next.fetch_add(1, Ordering::Relaxed);
        let content = format!("Subject: {serial}\r\n\r\n{}\r\n", "x".repeat(serial as usize % 5000));
        let request = submission(serial, envelope("a@example.org", &["john@local.test"]), content.as_bytes());
        if line.writer.send(&Frame::new(1, request), &[], &[content.as_bytes()]).await.is_err() {
            return;
        }
        let Ok(Some(received)) = line.reader.frame().await else { return };
        match received.read::<intake::Response>().expect("understood").body {
            intake::Response::Accepted { id: same } if same == id(serial) => {
                accepted.lock().expect("lock").insert(serial);
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn listed(state: &Path) -> BTreeSet<u32> {
    let mut line = within(async {
        loop {
            if let Some(line) = connect(state, CONTROL, Role::Command).await {
                return line;
            }
        }
    })
    .await;
    let mut found = BTreeSet::new();
    let mut after = None;
    loop {
        let request = control::Request::List { after, limit: 200 };
        line.writer.send(&Frame::new(1, request), &[], &[]).await.expect("sent");
        let received = line.reader.frame().await.expect("sound").expect("an answer");
        let control::Response::Page { messages, more } = received.read().expect("understood").body else {
            panic!("no page")
        };
        found.extend(messages.iter().map(|message| message.id.serial()));
        after = messages.last().map(|message| message.id);
        if !more {
            return found;
        }
    }
}

// R1, R6
#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_every_kill() {
    let mut system = System::new();
    let next = Arc::new(AtomicU32::new(1));
    let accepted = Arc::new(Mutex::new(BTreeSet::new()));
    for round in 1..=6 {
        system.start().await;
        let before = accepted.lock().expect("lock").len();
        let doors: Vec<_> =
            (0..20).map(|_| tokio::spawn(submit(system.state(), next.clone(), accepted.clone()))).collect();
        // Each round dies at another moment: after so many acknowledgements.
        within(async {
            while accepted.lock().expect("lock").len() < before + 40 * round {
                tokio::task::yield_now().await
            }
        })
        .await;
        system.kill();
        for door in doors {
            tokio::time::timeout(Duration::from_secs(120), door).await.expect("ended").expect("no panic");
        }
        system.start().await;
        let found = listed(&system.state()).await;
        let lost: Vec<u32> = accepted.lock().expect("lock").difference(&found).copied().collect();
        assert!(lost.is_empty(), "round {round}: acknowledged and lost: {lost:?}");
        system.kill();
    }
}

#[test]
fn a_queue_that_cannot_be_opened_is_an_exit_code_and_a_reason() {
    let system = System::new();
    std::fs::create_dir_all(system.state().join("segments")).expect("segments");
    let segments = std::fs::File::open(system.state().join("segments")).expect("open");
    if rustix::process::geteuid().is_root() {
        for path in [system.state(), system.state().join("segments")] {
            std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).expect("chown");
        }
    }
    // Another process has the queue.
    rustix::fs::flock(&segments, rustix::fs::FlockOperation::LockExclusive).expect("locked");
    let ended = system.command().stderr(Stdio::piped()).output().expect("run");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(71), "{said}");
    assert!(said.contains("queue-manager: the queue is open in another process"), "{said}");
}
