//! The real processes: monitor, front and session processes of `pop3d`, with a small authd of the test's own.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mail_ipc::auth::{Failure, Login, Request, Response};
use mail_ipc::frame::Frame;
use mail_ipc::hello::{Hello, Role};
use mail_ipc::sockets::AUTH;
use mail_net::Stream;
use mail_net::tls::ClientTls;
use mail_types::Octets;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Nothing here takes longer on a slow machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// nobody: as root, the tests' daemons run as a user without rights.
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    mail_posix::Identity::current().uid == 0
}

/// Gives a path to the user that the daemon runs as.
fn give(path: &Path) {
    if is_root() {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).expect("root may");
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port()
}

/// A running pop3d with its authd, in a directory of its own.
struct Service {
    directory: tempfile::TempDir,
    /// What stands in dovecot.conf without the lines of one test.
    dovecot: String,
    daemon: Child,
    plain: SocketAddr,
    tls: SocketAddr,
    _authd: tokio::runtime::Runtime,
}

impl Service {
    fn start() -> Self {
        Self::start_with("")
    }

    /// A service whose dovecot.conf holds some lines more.
    fn start_with(lines: &str) -> Self {
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
    fn restart_with(&mut self, lines: &str) {
        let root = self.directory.path();
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        fs::write(root.join("dovecot.conf"), format!("{}{lines}", self.dovecot)).expect("written");
        fs::remove_file(root.join("spool/postrider/generation/current")).expect("there");
        fs::remove_file(root.join("notify")).expect("there");
        self.daemon = start_daemon(root);
    }

    fn maildir(&self, user: &str) -> PathBuf {
        self.directory.path().join("mail").join(user).join("Maildir")
    }

    fn deliver(&self, user: &str, name: &str, content: &str) {
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
    fn children(&self) -> BTreeSet<u32> {
        let pid = self.daemon.id();
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("it runs");
        text.split_ascii_whitespace().map(|pid| pid.parse().expect("a number")).collect()
    }

    fn files(&self, user: &str, part: &str) -> Vec<String> {
        let entries = fs::read_dir(self.maildir(user).join(part)).expect("a directory");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("spool/postrider/log/pop3d.log")).unwrap_or_default()
    }

    /// The log, once it holds a text.
    fn log_with(&self, text: &str) -> String {
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
    let mut command = Command::new(env!("CARGO_BIN_EXE_pop3d"));
    command.arg("-c").arg(root).env("NOTIFY_SOCKET", &notify).stdin(Stdio::null());
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let daemon = command.spawn().expect("built");
    let mut word = [0; 64];
    let count = socket.recv(&mut word).expect("the daemon says that it is ready");
    assert!(word[..count].starts_with(b"READY=1"));
    daemon
}

/// authd: everybody's password is the user's name; `odd` has a mail location of a type that is not built.
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
        Response::Authenticated { token: Some(user.clone()), user }
    } else {
        Response::Failed { failure: Failure::Credentials, user: Some(user) }
    }
}

fn login(user: &str, mail: &Path) -> Login {
    let home = mail.join(user).display().to_string();
    let kind = if user == "odd" { "mdbox" } else { "maildir" };
    Login {
        user: user.to_owned(),
        service: "pop3".to_owned(),
        uid: Some(NOBODY),
        gid: Some(NOBODY),
        mail: Some(format!("{kind}:{home}/Maildir")),
        home: Some(Octets::from(home.as_str())),
    }
}

/// A client that speaks line by line.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("somebody listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time");
        let mut client = Self(BufReader::new(stream));
        assert!(client.line().starts_with("+OK "));
        client
    }

    fn login(service: &Service, user: &str) -> (Self, String) {
        let mut client = Self::connect(service.plain);
        client.say(&format!("USER {user}"));
        let reply = client.say(&format!("PASS {user}"));
        (client, reply)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("in time");
        line.trim_end_matches("\r\n").to_owned()
    }

    fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).expect("open");
    }

    fn say(&mut self, command: &str) -> String {
        self.send(&format!("{command}\r\n"));
        self.line()
    }

    /// Everything until the other side closes.
    fn rest(&mut self) -> String {
        let mut rest = String::new();
        match self.0.read_to_string(&mut rest) {
            Ok(_) => rest,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => rest,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_session_reads_marks_and_deletes() {
    let service = Service::start();
    service.deliver("john", "1.a.host", "Subject: one\n\n.dot\n");
    service.deliver("john", "2.b.host", "Subject: two\n\nbody\n");
    let (mut client, reply) = Client::login(&service, "john");
    assert_eq!(reply, "+OK Logged in.");
    assert_eq!(client.say("STAT"), "+OK 2 44");
    client.send("RETR 1\r\nDELE 2\r\nQUIT\r\n");
    let expected = "+OK 22 octets\r\nSubject: one\r\n\r\n..dot\r\n.\r\n\
                    +OK Marked to be deleted.\r\n+OK Logging out, messages deleted.\r\n";
    assert_eq!(client.rest(), expected);
    let log = service.log_with("Disconnected: Logged out top=0/0, retr=1/38, del=1/2, size=44");
    assert!(log.contains("pop3-login: Login: user=<john>, method=PLAIN, rip=127.0.0.1, lip=127.0.0.1, mpid="), "{log}");
    assert_eq!(service.files("john", "cur"), ["1.a.host:2,S"]);
}

#[test]
fn a_lost_connection_deletes_nothing() {
    // P03c
    let service = Service::start();
    service.deliver("john", "1.a.host", "Subject: one\n\n");
    let (mut client, _) = Client::login(&service, "john");
    assert_eq!(client.say("DELE 1"), "+OK Marked to be deleted.");
    drop(client);
    service.log_with("Disconnected: Connection closed top=0/0, retr=0/0, del=0/1");
    assert_eq!(service.files("john", "cur").len() + service.files("john", "new").len(), 1);
}

#[test]
fn commands_sent_with_the_password_are_answered_after_it_and_a_half_closed_connection_too() {
    let service = Service::start();
    let mut client = Client::connect(service.plain);
    client.send("USER john\r\nPASS john\r\nSTAT\r\nNO\0OP\r\nQUIT\r\n");
    client.0.get_mut().shutdown(Shutdown::Write).expect("open");
    let expected = "+OK\r\n+OK Logged in.\r\n+OK 0 0\r\n-ERR Unknown command: NO?OP\r\n+OK Logging out.\r\n";
    assert_eq!(client.rest(), expected);
}

#[test]
fn the_end_of_one_owners_process_ends_that_owners_connections_only() {
    let service = Service::start();
    let before = service.children();
    let (mut john, _) = Client::login(&service, "john");
    let johns: Vec<u32> = service.children().difference(&before).copied().collect();
    let (mut mary, _) = Client::login(&service, "mary");
    assert_eq!(johns.len(), 1, "one session process");
    let killed = Command::new("kill").arg("-9").arg(johns[0].to_string()).status().expect("kill exists");
    assert!(killed.success());
    assert_eq!(john.rest(), "");
    assert_eq!(mary.say("NOOP"), "+OK");
    service.log_with(&format!("warning: pop3: session process {} ended with 1 sessions: killed by signal 9", johns[0]));
    let (mut again, reply) = Client::login(&service, "john");
    assert_eq!((reply.as_str(), again.say("STAT").as_str()), ("+OK Logged in.", "+OK 0 0"));
}

#[test]
fn one_process_serves_an_owner_and_the_limit_counts_sessions() {
    let service = Service::start();
    let before = service.children().len();
    let mut clients: Vec<Client> = (0..3)
        .map(|_| {
            let (client, reply) = Client::login(&service, "john");
            assert_eq!(reply, "+OK Logged in.");
            client
        })
        .collect();
    assert_eq!(service.children().len(), before + 1);
    let (mut fourth, reply) = Client::login(&service, "john");
    assert!(reply.starts_with("-ERR [IN-USE] "), "{reply}");
    assert_eq!(fourth.rest(), "");
    assert_eq!(clients[0].say("QUIT"), "+OK Logging out.");
    service.log_with("Disconnected: Logged out");
    let (_, reply) = Client::login(&service, "john");
    assert_eq!(reply, "+OK Logged in.");
}

#[test]
fn pop3_lock_session_lets_one_session_in() {
    // P02c
    let service = Service::start_with("pop3_lock_session = yes\n");
    let (mut first, _) = Client::login(&service, "john");
    let (_, reply) = Client::login(&service, "john");
    assert_eq!(reply, "-ERR [IN-USE] Mailbox is locked by another POP3 session.");
    assert_eq!(first.say("QUIT"), "+OK Logging out.");
    service.log_with("Disconnected: Logged out");
    let (_, reply) = Client::login(&service, "john");
    assert_eq!(reply, "+OK Logged in.");
}

#[test]
fn uidls_once_given_can_be_kept_in_the_uidlist() {
    let mut service = Service::start_with("pop3_save_uidl = yes\npop3_uidl_format = old-%u\npop3_reuse_xuidl = yes\n");
    service.deliver("john", "1.a.host", "Subject: one\n\n");
    service.deliver("john", "2.b.host", "X-UIDL: mine\n\n");
    let listing = "+OK\r\n1 old-1\r\n2 mine\r\n.\r\n+OK Logging out.\r\n";
    let (mut client, _) = Client::login(&service, "john");
    client.send("UIDL\r\nQUIT\r\n");
    assert_eq!(client.rest(), listing);
    let list = fs::read_to_string(service.maildir("john").join("dovecot-uidlist")).expect("there");
    assert!(list.contains("\n1 Pold-1 :1.a.host\n2 Pmine :2.b.host\n"), "{list}");
    service.restart_with("pop3_uidl_format = new-%u\n");
    let (mut client, _) = Client::login(&service, "john");
    client.send("UIDL\r\nQUIT\r\n");
    assert_eq!(client.rest(), listing);
}

#[test]
fn workarounds_for_old_clients_are_carried_out() {
    let service = Service::start_with("pop3_client_workarounds = outlook-no-nuls oe-ns-eoh\n");
    service.deliver("john", "1.a.host", "A: b\n");
    service.deliver("john", "2.b.host", "A: b\n\nx\0y\n");
    let (mut client, _) = Client::login(&service, "john");
    client.send("RETR 1\r\nTOP 1 0\r\nTOP 2 9\r\nQUIT\r\n");
    let mut said = Vec::new();
    client.0.read_to_end(&mut said).expect("in time");
    let expected = b"+OK 6 octets\r\nA: b\r\n\r\n.\r\n+OK\r\nA: b\r\n\r\n.\r\n+OK\r\nA: b\r\n\r\nx\x80y\r\n.\r\n+OK Logging out.\r\n";
    assert_eq!(said, expected);
}

#[test]
fn a_deleted_flag_hides_what_would_be_removed() {
    let service = Service::start_with("pop3_deleted_flag = $POP3Deleted\npop3_uidl_format = %f\n");
    service.deliver("john", "1.a.host", "Subject: one\n\n");
    service.deliver("john", "2.b.host", "Subject: two\n\n");
    let (mut client, _) = Client::login(&service, "john");
    assert_eq!(client.say("UIDL 1"), "+OK 1 1.a.host");
    client.send("DELE 1\r\nQUIT\r\n");
    assert!(client.rest().ends_with("+OK Logging out, messages deleted.\r\n"));
    assert_eq!(service.files("john", "cur"), ["1.a.host:2,a", "2.b.host:2,"]);
    let (mut client, _) = Client::login(&service, "john");
    assert_eq!(client.say("UIDL 1"), "+OK 1 2.b.host");
}

#[test]
fn a_mail_location_that_is_not_built_is_refused_and_never_empty() {
    let service = Service::start();
    let (mut client, reply) = Client::login(&service, "odd");
    assert!(reply.starts_with("-ERR [SYS/PERM] "), "{reply}");
    assert_eq!(client.rest(), "");
    let log = service.log_with("not supported: mail_location mdbox:");
    assert!(log.find("pop3-login: Login: user=<odd>") < log.find("mdbox"), "lines in their order: {log}");
}

#[test]
fn failed_logins_read_as_fail2ban_expects() {
    let service = Service::start();
    let mut client = Client::connect(service.plain);
    client.say("USER john");
    assert_eq!(client.say("PASS wrong"), "-ERR [AUTH] Authentication failed.");
    drop(client);
    let line = "pop3-login: Disconnected: Connection closed (auth failed, 1 attempts in 0 secs): \
                user=<john>, method=PLAIN, rip=127.0.0.1, lip=127.0.0.1, secured, session=<";
    service.log_with(line);
}

#[test]
fn tls_stays_in_the_front_and_what_came_before_it_is_forgotten() {
    // T01, T02
    let service = Service::start();
    service.deliver("john", "1.a.host", "Subject: one\n\n");
    let client = ClientTls::unauthenticated().expect("made");
    let talk = async |stream: tokio::net::TcpStream, text: &str| {
        let mut stream = client.connect(Stream::Tcp(stream), "localhost").await.expect("a handshake");
        stream.write_all(text.as_bytes()).await.expect("open");
        stream.flush().await.expect("open");
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said).await;
        String::from_utf8(said).expect("text")
    };
    let session = "USER john\r\nPASS john\r\nLIST 1\r\nQUIT\r\n";
    let expected = "+OK\r\n+OK Logged in.\r\n+OK 1 16\r\n+OK Logging out.\r\n";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let implicit = tokio::net::TcpStream::connect(service.tls).await.expect("somebody listens");
        assert_eq!(talk(implicit, session).await, format!("+OK Dovecot ready.\r\n{expected}"));
        let mut started = tokio::net::TcpStream::connect(service.plain).await.expect("somebody listens");
        started.write_all(b"USER evil\r\nSTLS\r\n").await.expect("open");
        let mut said = Vec::new();
        while !said.ends_with(b"now.\r\n") {
            assert_ne!(started.read_buf(&mut said).await.expect("in time"), 0);
        }
        assert_eq!(
            talk(started, &format!("PASS evil\r\n{session}")).await,
            format!("-ERR No username given.\r\n{expected}")
        );
    });
    service.log_with(", TLS, session=<");
}

#[test]
fn a_stop_says_goodbye_and_ends_well() {
    let mut service = Service::start();
    let (mut session, _) = Client::login(&service, "john");
    let mut waiting = Client::connect(service.plain);
    let pid = service.daemon.id().to_string();
    assert!(Command::new("kill").arg(pid).status().expect("kill exists").success());
    let goodbye = "-ERR [SYS/TEMP] Server shutting down.\r\n";
    assert_eq!((session.rest().as_str(), waiting.rest().as_str()), (goodbye, goodbye));
    assert!(service.daemon.wait().expect("ours").success());
    assert!(service.log().contains("Disconnected: Server shutting down. top=0/0"), "{}", service.log());
}

#[test]
fn without_its_front_the_daemon_ends_and_nothing_of_it_stays() {
    let mut service = Service::start();
    let front = service.children();
    let (mut session, _) = Client::login(&service, "john");
    let all = service.children();
    let pid = front.first().expect("the front").to_string();
    assert!(Command::new("kill").arg("-9").arg(pid).status().expect("kill exists").success());
    assert!(!service.daemon.wait().expect("ours").success());
    let _ = session.rest();
    let begun = Instant::now();
    // An orphan that nobody has reaped yet is gone as well.
    let lives = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    while all.iter().any(lives) {
        assert!(begun.elapsed() < PATIENCE, "processes stay");
        std::thread::yield_now();
    }
}

#[test]
fn hundreds_of_idle_connections_hold_nobody_up() {
    let service = Service::start();
    let idle: Vec<Client> = (0..400).map(|_| Client::connect(service.plain)).collect();
    let mut long = Client::connect(service.plain);
    for _ in 0..64 {
        long.send(&"x".repeat(16 * 1024));
    }
    assert_eq!(long.say(""), "-ERR Input line too long.");
    let (mut client, _) = Client::login(&service, "john");
    assert_eq!(client.say("STAT"), "+OK 0 0");
    drop(idle);
}
