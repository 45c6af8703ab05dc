//! A running pop3d with an authd of the tests' own, and a client that speaks line by line.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mail_ipc::auth::{Failure, Login, Request, Response};
use mail_ipc::frame::Frame;
use mail_ipc::hello::{Hello, Role};
use mail_ipc::sockets::AUTH;
use mail_types::Octets;
use test_support::binaries::place;

/// Nothing here takes longer on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// nobody: as root, the tests' daemons run as a user without rights.
pub const NOBODY: u32 = 65534;

pub fn is_root() -> bool {
    mail_posix::Identity::current().uid == 0
}

/// Gives a path to the user that the daemon runs as.
pub fn give(path: &Path) {
    if is_root() {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).expect("root may");
    }
}

fn free_port() -> u16 {
    test_support::free_port(Ipv4Addr::LOCALHOST).expect("a free port")
}

/// A running pop3d with its authd, in a directory of its own.
pub struct Service {
    pub directory: tempfile::TempDir,
    /// What stands in dovecot.conf without the lines of one test.
    dovecot: String,
    pub daemon: Child,
    pub plain: SocketAddr,
    pub tls: SocketAddr,
    _authd: tokio::runtime::Runtime,
}

impl Service {
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// A service whose dovecot.conf holds some lines more.
    pub fn start_with(lines: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path();
        fs::set_permissions(root, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
        let (plain, tls) = (free_port(), free_port());
        fs::write(root.join("main.cf"), format!("queue_directory = {}\n", root.join("spool").display()))
            .expect("written");
        let listeners = format!(
            "inet_listener pop3 {{\n port = {plain}\n }}\n inet_listener pop3s {{\n port = {tls}\n ssl = yes\n }}"
        );
        let text = format!(
            "protocols = pop3\nlisten = 127.0.0.1\nauth_mechanisms = plain\nmail_max_userip_connections = 3\n\
             service pop3-login {{\n {listeners}\n}}\n"
        );
        fs::write(root.join("dovecot.conf"), format!("{text}{lines}")).expect("written");
        for name in ["spool", "spool/postrider", "spool/postrider/private", "mail"] {
            fs::create_dir(root.join(name)).expect("made");
            give(&root.join(name));
        }
        let authd = authd(&root.join("spool/postrider"), root.join("mail"));
        let daemon = start_daemon(root);
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self { plain: address(plain), tls: address(tls), dovecot: text, directory, daemon, _authd: authd }
    }

    /// Stops the daemon and starts it on other lines of dovecot.conf.
    pub fn restart_with(&mut self, lines: &str) {
        let root = self.directory.path();
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        fs::write(root.join("dovecot.conf"), format!("{}{lines}", self.dovecot)).expect("written");
        fs::remove_file(root.join("spool/postrider/generation/current")).expect("there");
        fs::remove_file(root.join("notify")).expect("there");
        self.daemon = start_daemon(root);
    }

    pub fn maildir(&self, user: &str) -> PathBuf {
        self.directory.path().join("mail").join(user).join("Maildir")
    }

    pub fn deliver(&self, user: &str, name: &str, content: &str) {
        let maildir = self.maildir(user);
        for part in ["", "cur", "new", "tmp"] {
            let path = maildir.join(part);
            fs::create_dir_all(&path).expect("made");
            give(&path);
        }
        give(maildir.parent().expect("below the home"));
        let file = maildir.join("new").join(name);
        fs::write(&file, content).expect("written");
        give(&file);
    }

    /// The children of the monitor: front and session processes.
    pub fn children(&self) -> BTreeSet<u32> {
        let pid = self.daemon.id();
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("it runs");
        text.split_ascii_whitespace().map(|pid| pid.parse().expect("a number")).collect()
    }

    pub fn files(&self, user: &str, part: &str) -> Vec<String> {
        let entries = fs::read_dir(self.maildir(user).join(part)).expect("a directory");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("spool/postrider/log/pop3d.log")).unwrap_or_default()
    }

    /// The log, once it holds a text.
    pub fn log_with(&self, text: &str) -> String {
        let begun = Instant::now();
        loop {
            let log = self.log();
            if log.contains(text) {
                return log;
            }
            assert!(begun.elapsed() < PATIENCE, "the log does not say {text:?}:\n{log}");
            std::thread::yield_now();
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// Starts the daemon and waits for its READY.
fn start_daemon(root: &Path) -> Child {
    let notify = root.join("notify");
    let socket = UnixDatagram::bind(&notify).expect("bound");
    give(&notify);
    socket.set_read_timeout(Some(PATIENCE)).expect("a time");
    let mut command = Command::new(place(Path::new(env!("CARGO_BIN_EXE_pop3d")), root).expect("placed"));
    command.arg("-c").arg(root).env("NOTIFY_SOCKET", &notify).stdin(Stdio::null());
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let daemon = command.spawn().expect("built");
    let mut word = [0; 64];
    let count = loop {
        match socket.recv(&mut word) {
            // A socket with a time limit is not waited for again by itself (signal(7)).
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            other => break other.expect("the daemon says that it is ready"),
        }
    };
    assert!(word[..count].starts_with(b"READY=1"));
    daemon
}

/// authd: everybody's password is the user's name; `odd` has a mail location of a type that is not built, `plain` has none.
fn authd(state: &Path, mail: PathBuf) -> tokio::runtime::Runtime {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let listener = mail_net::ipc::bind(&state.join(AUTH.directory), AUTH.name, 0o666).expect("bound");
    runtime.spawn(async move {
        let listener = tokio::net::UnixListener::from_std(listener).expect("in a runtime");
        loop {
            let (stream, _) = listener.accept().await.expect("a front or a monitor");
            tokio::spawn(answer(stream, mail.clone()));
        }
    });
    runtime
}

async fn answer(stream: tokio::net::UnixStream, mail: PathBuf) {
    let Ok(mut talk) = mail_net::ipc::accept(stream, &Hello::new(Role::Authd, "authd")).await else { return };
    while let Ok(Some(received)) = talk.reader.frame().await {
        let frame = received.read::<Request>().expect("understood");
        let response = match frame.body {
            Request::Mechanisms => {
                Response::Mechanisms { names: vec!["PLAIN".into()], plaintext: vec!["PLAIN".into()] }
            }
            Request::Begin { initial: Some(initial), .. } => judge(&initial),
            Request::Redeem { token } => Response::Login { login: login(&token, &mail) },
            _ => Response::NotUnderstood,
        };
        if talk.writer.send(&Frame::new(frame.id, response), &[], &[]).await.is_err() {
            return;
        }
    }
}

fn judge(initial: &Octets) -> Response {
    let parts: Vec<&[u8]> = initial.as_bytes().split(|byte| *byte == 0).collect();
    let user = String::from_utf8_lossy(parts[1]).into_owned();
    if parts[1] == parts[2] {
        Response::Authenticated { token: Some(user.clone()), user, master: None }
    } else {
        Response::Failed { failure: Failure::Credentials, user: Some(user) }
    }
}

fn login(user: &str, mail: &Path) -> Login {
    let home = mail.join(user).display().to_string();
    let kind = if user == "odd" { "mdbox" } else { "maildir" };
    Login {
        user: user.to_owned(),
        master: None,
        service: "pop3".to_owned(),
        uid: Some(NOBODY),
        gid: Some(NOBODY),
        mail: (user != "plain").then(|| format!("{kind}:{home}/Maildir")),
        home: Some(Octets::from(home.as_str())),
    }
}

/// A client that speaks line by line.
pub struct Client(pub BufReader<TcpStream>);

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("somebody listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time");
        let mut client = Self(BufReader::new(stream));
        assert!(client.line().starts_with("+OK "));
        client
    }

    pub fn login(service: &Service, user: &str) -> (Self, String) {
        let mut client = Self::connect(service.plain);
        client.say(&format!("USER {user}"));
        let reply = client.say(&format!("PASS {user}"));
        (client, reply)
    }

    /// Logs in; who finds the place still taken by a session that has said goodbye tries again.
    pub fn login_at_last(service: &Service, user: &str) -> Self {
        let begun = Instant::now();
        loop {
            let (client, reply) = Self::login(service, user);
            if reply == "+OK Logged in." {
                return client;
            }
            assert!(begun.elapsed() < PATIENCE, "{reply}");
        }
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("in time");
        line.trim_end_matches("\r\n").to_owned()
    }

    pub fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).expect("open");
    }

    pub fn say(&mut self, command: &str) -> String {
        self.send(&format!("{command}\r\n"));
        self.line()
    }

    /// Everything until the other side closes.
    pub fn rest(&mut self) -> String {
        let mut rest = String::new();
        match self.0.read_to_string(&mut rest) {
            Ok(_) => rest,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => rest,
            Err(error) => panic!("{error}"),
        }
    }
}
