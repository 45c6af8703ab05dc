//! The real daemon, between clients and a small queue-manager of the test's own.

mod queue;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use mail_ipc::control::{DaemonRequest, DaemonResponse};
use mail_ipc::frame::Frame;
use mail_ipc::hello::{Hello, Role};
use mail_ipc::sockets;
use mail_ipc::submit;
use mail_net::ipc;
use mail_types::Body;
use test_support::binaries::place;

use queue::{Mood, Queue, Taken, queue};

/// Nothing here takes longer on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// nobody: as root, the tests' daemons run as a user without rights.
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    mail_posix::Identity::current().uid == 0
}

fn give(path: &Path) {
    if is_root() {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).expect("root may");
    }
}

/// A running smtpd with its queue, in a directory of its own.
struct Door {
    directory: tempfile::TempDir,
    daemon: Child,
    address: SocketAddr,
    queue: Queue,
}

const MAIN_CF: &str = "compatibility_level = 3.6\nmyhostname = server.info.net\nmydomain = info.net\nmyorigin = $mydomain\n\
    mydestination = $myhostname, localhost, $mydomain\nmynetworks = 192.0.2.1/32\ninet_protocols = ipv4\nalias_maps =\n\
    local_recipient_maps = inline:{john=1}\nvirtual_alias_maps = inline:{ {sales@info.net = john, x@y.org} }\n";

fn free_port() -> u16 {
    test_support::free_port(Ipv4Addr::LOCALHOST).expect("a free port")
}

/// Writes the configuration; the directory and the listener's address.
fn configure(lines: &str, host: &str) -> (tempfile::TempDir, SocketAddr) {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path();
    fs::set_permissions(root, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let text = format!("{MAIN_CF}{lines}\nqueue_directory = {}\n", root.join("spool").display());
    fs::write(root.join("main.cf"), text).expect("written");
    fs::write(root.join("dovecot.conf"), "protocols =\n").expect("written");
    let master = format!(
        "{host}:{} inet n - n - - smtpd\nlocal unix - n n - - local\nsmtp unix - - n - - smtp\n",
        address.port()
    );
    fs::write(root.join("master.cf"), master).expect("written");
    for name in ["spool", "spool/postrider", "spool/postrider/private"] {
        fs::create_dir(root.join(name)).expect("made");
        give(&root.join(name));
    }
    (directory, address)
}

fn start(root: &Path) -> Child {
    let mut command = Command::new(place(Path::new(env!("CARGO_BIN_EXE_smtpd")), root).expect("placed"));
    command.arg("-c").arg(root).stderr(Stdio::piped());
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.spawn().expect("started")
}

impl Door {
    fn open(lines: &str, moods: Vec<Mood>) -> Self {
        let (directory, address) = configure(lines, "127.0.0.1");
        let queue = queue(&directory.path().join("spool/postrider"), moods);
        let daemon = start(directory.path());
        let door = Self { directory, daemon, address, queue };
        door.until("a greeting", || TcpStream::connect(door.address).ok());
        // The ports are opened before the sockets.
        let submit = door.state().join(sockets::SUBMIT.directory).join(sockets::SUBMIT.name);
        door.until("the local socket", || submit.exists().then_some(()));
        door
    }

    fn until<T>(&self, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = condition() {
                return found;
            }
            assert!(Instant::now() < deadline, "no {what}; the log:\n{}", self.log());
            std::thread::yield_now();
        }
    }

    fn log(&self) -> String {
        let path = self.directory.path().join("spool/postrider/log/smtpd.log");
        fs::read_to_string(path).unwrap_or_default()
    }

    /// Waits for a line of the log that holds a text.
    fn logged(&self, text: &str) -> String {
        self.until(text, || self.log().lines().find(|line| line.contains(text)).map(str::to_owned))
    }

    fn client(&self) -> Client {
        Client::connect(self.address)
    }

    fn taken(&self) -> Taken {
        self.queue.taken.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("nothing came; the log:\n{}", self.log()))
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("spool/postrider")
    }

    fn stop(&mut self) -> ExitStatus {
        terminate(&self.daemon);
        self.daemon.wait().expect("ended")
    }
}

fn terminate(daemon: &Child) {
    let pid = rustix::process::Pid::from_child(daemon);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// An SMTP client that says lines and hears replies.
struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut client = Self { stream: BufReader::new(stream) };
        client.hear("220 ");
        client
    }

    fn say(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).expect("sent");
    }

    /// Hears a whole reply, the last line of which begins so.
    fn hear(&mut self, expected: &str) -> String {
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).expect("a line");
            if line.as_bytes().get(3) != Some(&b'-') {
                assert!(line.starts_with(expected), "expected {expected:?}, heard {line:?}");
                return line;
            }
        }
    }

    fn command(&mut self, line: &str, expected: &str) -> String {
        self.say(&format!("{line}\r\n"));
        self.hear(expected)
    }

    /// Everything up to the reply to the final dot.
    fn send(&mut self, to: &[&str], content: &str, expected: &str) -> String {
        self.command("MAIL FROM:<a@b.org>", "250 2.1.0 Ok");
        for to in to {
            self.command(&format!("RCPT TO:<{to}>"), "250 2.1.5 Ok");
        }
        self.command("DATA", "354 ");
        self.command(&format!("{content}\r\n."), expected)
    }
}

// S07, S08, S15, S16
#[test]
fn a_message_goes_to_the_queue_as_it_came() {
    let door = Door::open("", vec![]);
    let mut client = door.client();
    client.command("EHLO client.example", "250 SMTPUTF8");
    let reply = client.send(
        &["john@info.net"],
        "Subject: x\r\nReturn-Path: <y>\r\n\r\n..dot\r\nbare\nline",
        "250 2.0.0 Ok: queued as ",
    );
    client.command("QUIT", "221 2.0.0 Bye");
    let taken = door.taken();
    assert!(reply.trim_end().ends_with(&taken.id.to_string()));
    assert_eq!(taken.recipients(), [("john@info.net".to_owned(), None)]);
    assert_eq!((taken.envelope.body, taken.in_file, taken.hold), (Body::SevenBit, false, false));
    assert_eq!(taken.envelope.client.helo.as_ref().map(|helo| helo.as_bytes()), Some(&b"client.example"[..]));
    let text = taken.text();
    assert!(
        text.starts_with(
            "Received: from client.example (localhost [127.0.0.1])\r\n\tby server.info.net (Postfix) with ESMTP id "
        ),
        "{text}"
    );
    // One grammar, dots undone once, for one recipient, no Return-Path.
    assert!(text.contains("\r\n\tfor <john@info.net>; ") && !text.contains("Return-Path"), "{text}");
    assert!(text.ends_with("\r\n\r\n.dot\r\nbare\r\nline\r\n"), "{text}");
    let id = taken.id;
    door.logged(&format!("postfix/smtpd[{}]: connect from localhost[127.0.0.1]", pid_in(&door.logged("connect from"))));
    door.logged(&format!("]: {id}: client=localhost[127.0.0.1]"));
    door.logged(&format!("postfix/cleanup[{}]: {id}: message-id=<", pid_in(&door.logged("connect from"))));
    door.logged("disconnect from localhost[127.0.0.1] ehlo=1 mail=1 rcpt=1 data=1 quit=1 commands=5");
}

fn pid_in(line: &str) -> &str {
    line.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("", |(pid, _)| pid)
}

// S12
#[test]
fn strangers_reach_our_users_and_nobody_else() {
    let door = Door::open("", vec![]);
    let mut client = door.client();
    client.command("EHLO x", "250 ");
    client.command("MAIL FROM:<a@b.org>", "250 ");
    client.command("RCPT TO:<x@y.org>", "554 5.7.1 <x@y.org>: Relay access denied");
    client.command(
        "RCPT TO:<nobody@info.net>",
        "550 5.1.1 <nobody@info.net>: Recipient address rejected: User unknown in local recipient table",
    );
    client.command("RCPT TO:<Postmaster>", "250 ");
    client.command("RCPT TO:<sales@info.net>", "250 ");
    client.command("DATA", "354 ");
    client.command("\r\nhello\r\n.", "250 ");
    let taken = door.taken();
    let sales = Some("sales@info.net");
    let expected = [
        ("Postmaster@info.net".to_owned(), Some("Postmaster")),
        ("john@info.net".to_owned(), sales),
        ("x@y.org".to_owned(), sales),
    ];
    assert_eq!(taken.recipients(), expected);
    let line = door.logged("NOQUEUE: reject: RCPT from localhost[127.0.0.1]: 554 5.7.1");
    assert!(
        line.ends_with("<x@y.org>: Relay access denied; from=<a@b.org> to=<x@y.org> proto=ESMTP helo=<x>"),
        "{line}"
    );
}

#[test]
fn a_broken_hand_over_is_repeated_with_the_same_id() {
    let door = Door::open("", vec![Mood::Break, Mood::Break]);
    let mut client = door.client();
    client.command("EHLO x", "250 ");
    client.send(&["john@info.net"], "Subject: once", "250 2.0.0 Ok: queued as ");
    let ids = [door.taken().id, door.taken().id, door.taken().id];
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[test]
fn what_the_queue_refuses_the_client_hears() {
    let door = Door::open("", vec![Mood::Refuse]);
    let mut client = door.client();
    client.command("EHLO x", "250 ");
    client.send(&["john@info.net"], "Subject: x", "452 4.3.1 no space");
    door.taken();
    client.send(&["john@info.net"], "Subject: x", "250 2.0.0 Ok: queued as ");
}

#[test]
fn long_content_goes_through_a_file() {
    let door = Door::open("", vec![]);
    let mut client = door.client();
    client.command("EHLO x", "250 ");
    let body = "0123456789abcdefghijklmnopqrstuvwxyz\r\n".repeat(20_000);
    client.send(&["john@info.net"], &format!("Subject: long\r\n\r\n{body}"), "250 ");
    let taken = door.taken();
    assert!(taken.in_file && taken.text().ends_with(&format!("\r\n\r\n{body}\r\n")));
    assert!(taken.text().starts_with("Received: "));
}

#[test]
fn limits_hold() {
    let door = Door::open(
        "smtpd_recipient_limit = 1\nmessage_size_limit = 5000\nsmtpd_client_connection_count_limit = 2\n\
         smtpd_client_event_limit_exceptions =\nhopcount_limit = 3",
        vec![],
    );
    let mut client = door.client();
    client.command("EHLO x", "250 ");
    client.command("MAIL FROM:<a@b.org> SIZE=5001", "552 5.3.4 ");
    client.command("MAIL FROM:<a@b.org>", "250 ");
    client.command("RCPT TO:<john@info.net>", "250 ");
    client.command("RCPT TO:<postmaster@info.net>", "452 4.5.3 ");
    client.command("RSET", "250 ");
    client.send(&["john@info.net"], &"x".repeat(5001), "552 5.3.4 ");
    client.send(&["john@info.net"], &"Received: x\r\n".repeat(4), "554 5.4.6 Error: too many hops");
    let _second = door.until("a second connection", || {
        let stream = TcpStream::connect(door.address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        line.starts_with("220 ").then_some(stream)
    });
    let mut third = BufReader::new(TcpStream::connect(door.address).expect("connected"));
    let mut line = String::new();
    third.read_line(&mut line).expect("a line");
    assert_eq!(line, "421 4.7.0 server.info.net Error: too many connections from 127.0.0.1\r\n");
    door.logged("Connection concurrency limit exceeded: 3 from localhost[127.0.0.1]");
}

#[test]
fn a_client_is_named_with_its_port_and_a_message_with_its_id_where_that_is_wanted() {
    let door = Door::open(
        "smtpd_client_port_logging = yes\nsmtpd_delay_open_until_valid_rcpt = no\nsmtpd_client_recipient_rate_limit = 2\n\
         smtpd_client_event_limit_exceptions =\nsmtpd_client_restrictions = check_client_access inline:{127.0.0.1=OK}\n\
         smtpd_log_access_permit_actions = static:all",
        vec![],
    );
    let mut client = door.client();
    let port = client.stream.get_ref().local_addr().expect("an address").port();
    client.command("EHLO x", "250 ");
    client.command("MAIL FROM:<a@b.org>", "250 ");
    client.command("RCPT TO:<x@y.org>", "554 5.7.1 <x@y.org>: Relay access denied");
    let named = format!("client=localhost[127.0.0.1]:{port}");
    let line = door.logged(&named);
    let id = line.split(": ").nth(1).expect("an id").to_owned();
    door.logged(&format!("{id}: reject: RCPT from localhost[127.0.0.1]:{port}: 554 5.7.1"));
    let table = "from inline:{127.0.0.1=OK}; from=<a@b.org> to=<x@y.org>";
    door.logged(&format!(
        "permit: RCPT from localhost[127.0.0.1]:{port}: action=OK for Client host=localhost[127.0.0.1]:{port} {table}"
    ));
    client.command("RCPT TO:<john@info.net>", "250 ");
    client.command("RCPT TO:<postmaster>", "450 4.7.1 Error: too many recipients from 127.0.0.1");
    door.logged(&format!(
        "warning: Recipient address rate limit exceeded: 3 from localhost[127.0.0.1]:{port} for service "
    ));
    client.command("DATA", "354 ");
    client.command("\r\nhello\r\n.", "250 ");
    assert_eq!(door.taken().id.to_string(), id);
}

#[test]
fn a_user_that_nobody_can_judge_is_asked_to_wait() {
    let door = Door::open("local_recipient_maps = unix:passwd.byname", vec![]);
    let mut client = door.client();
    client.command("EHLO x", "250 ");
    client.command("MAIL FROM:<>", "250 ");
    client.command("RCPT TO:<john@info.net>", "451 4.3.0 <john@info.net>: Temporary lookup failure");
}

#[test]
fn a_session_may_finish_its_message_when_the_daemon_stops() {
    let mut door = Door::open("", vec![]);
    let mut client = door.client();
    let mut idle = door.client();
    client.command("EHLO x", "250 ");
    client.command("MAIL FROM:<a@b.org>", "250 ");
    terminate(&door.daemon);
    idle.hear("421 4.3.2 server.info.net Service shutting down");
    client.command("RCPT TO:<john@info.net>", "250 ");
    client.command("DATA", "354 ");
    client.command("Subject: last\r\n.", "250 2.0.0 Ok: queued as ");
    client.hear("421 4.3.2 ");
    assert!(door.daemon.wait().expect("ended").success());
    door.taken();
}

/// Asks the daemon's own control socket.
fn control(state: &Path, request: DaemonRequest) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stream = ipc::connect_stream(&state.join(sockets::DAEMONS), "smtpd.sock").expect("connected");
        let mut talk = ipc::accept(stream, &Hello::new(Role::Command, "postrider")).await.expect("greeted");
        talk.writer.send(&Frame::new(1, request), &[], &[]).await.expect("sent");
        let received = talk.reader.frame().await.expect("sound").expect("an answer");
        let answer = received.read::<DaemonResponse>().expect("understood").body;
        assert!(matches!(answer, DaemonResponse::Running { .. }), "{answer:?}");
    });
}

#[test]
fn a_table_is_taken_when_postmap_says_so() {
    let table = tempfile::NamedTempFile::new().expect("a file");
    let path = table.path().display().to_string();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("ours");
    fs::write(&path, "b.org OK\n").expect("written");
    let door = Door::open(&format!("smtpd_sender_restrictions = check_sender_access hash:{path}"), vec![]);
    let rcpt = |expected: &str| {
        door.until(expected, || {
            let mut client = door.client();
            client.command("HELO x", "250 ");
            client.command("MAIL FROM:<a@b.org>", "250 ");
            client.say("RCPT TO:<john@info.net>\r\n");
            let mut line = String::new();
            client.stream.read_line(&mut line).expect("a line");
            line.starts_with(expected).then_some(())
        });
    };
    rcpt("250 ");
    fs::write(&path, "b.org REJECT go away\n").expect("written");
    control(&door.state(), DaemonRequest::TableChanged { path });
    rcpt("554 5.7.1 <a@b.org>: Sender address rejected: go away");
}

#[test]
fn an_open_relay_does_not_start() {
    // DESIGN promise 4.
    let (directory, address) = configure("smtpd_relay_restrictions = permit, reject", "0.0.0.0");
    let mut daemon = start(directory.path());
    let status = daemon.wait().expect("ended");
    let mut said = String::new();
    daemon.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
    assert_eq!(status.code(), Some(78), "{said}");
    assert!(said.contains("would be an open relay") && said.contains("main.cf:11"), "{said}");
    assert!(TcpStream::connect(address).is_err());
}

/// A conversation on `submit.sock`.
fn submit_with(state: &Path, request: submit::Request, content: &[u8]) -> submit::Response {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let hello = Hello::new(Role::Command, "sendmail");
        let mut talk = ipc::connect(state, sockets::SUBMIT, &hello).await.expect("connected");
        talk.writer.send(&Frame::new(1, request), &[], &[content]).await.expect("sent");
        let received = talk.reader.frame().await.expect("sound").expect("an answer");
        received.read::<submit::Response>().expect("understood").body
    })
}

fn submission(recipients: &[&str], length: usize) -> submit::Request {
    submit::Request::Submit {
        sender: Some("john".to_owned()),
        full_name: None,
        recipients: recipients.iter().map(|&text| text.to_owned()).collect(),
        more_recipients: false,
        dsn: mail_types::DsnOptions::default(),
        notify: None,
        purpose: mail_types::Purpose::Deliver,
        length: length as u64,
    }
}

#[test]
fn local_mail_comes_through_the_same_door() {
    let door = Door::open("", vec![]);
    let content = b"From john Sun Nov 22\nTo: root\n\n.\nTest message";
    let response = submit_with(&door.state(), submission(&["root", "sales"], content.len()), content);
    let taken = door.taken();
    assert_eq!(response, submit::Response::Accepted { id: taken.id });
    let uid = mail_posix::Identity::current().uid;
    let text = taken.text();
    assert!(
        text.starts_with(&format!("Received: by server.info.net (Postfix, from userid {uid})\r\n\tid {}; ", taken.id)),
        "{text}"
    );
    assert!(text.contains("\r\nTo: root@info.net\r\n") && text.contains("\r\nFrom: john@info.net\r\n"), "{text}");
    assert!(text.contains("\r\nMessage-Id: <") && text.ends_with("\r\n\r\n.\r\nTest message\r\n"), "{text}");
    assert_eq!(taken.envelope.sender.to_string(), "john@info.net");
    assert_eq!(taken.recipients()[0], ("root@info.net".to_owned(), Some("root")));
    assert_eq!((taken.envelope.client.uid, taken.recipients().len()), (Some(uid), 3));
    door.logged(&format!("postfix/pickup[{}]: {}: uid={uid} from=<john>", pid_in(&door.logged("pickup[")), taken.id));

    let refused = submit_with(&door.state(), submission(&["a@b@"], 1), b"x");
    assert!(matches!(refused, submit::Response::Refused { reply } if reply.code.get() == 501));
}

#[test]
fn no_line_end_comes_in_through_the_local_socket() {
    let door = Door::open("", vec![]);
    for at in 0..3 {
        let mut request = submission(&["root"], 3);
        if let submit::Request::Submit { sender, recipients, dsn, .. } = &mut request {
            match at {
                0 => *sender = Some("john\nX-Forged: yes".to_owned()),
                1 => recipients.push("root\r\nX: y".to_owned()),
                _ => dsn.envid = Some("a\nX-Forged: yes".to_owned()),
            }
        }
        let response = submit_with(&door.state(), request, b"hi\n");
        assert!(matches!(&response, submit::Response::Refused { reply } if reply.code.get() == 501), "{response:?}");
    }
}

#[test]
fn a_maildrop_file_is_picked_up_once() {
    let mut door = Door::open("", vec![]);
    let maildrop = door.state().join(mail_ipc::maildrop::DIRECTORY);
    let mut octets = Vec::new();
    mail_ipc::frame::encode(&Frame::new(1, submission(&["john"], 3)), 0, &mut octets).expect("short");
    octets.extend(b"hi\n");
    let file = maildrop.join("1A");
    fs::write(&file, octets).expect("written");
    give(&file);
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mail_ipc::maildrop::COMPLETE))
        .expect("ours");
    let taken = door.taken();
    assert!(taken.text().ends_with("\r\n\r\nhi\r\n"), "{}", taken.text());
    door.until("an empty maildrop", || (!file.exists()).then_some(()));
    fs::write(&file, b"garbage").expect("written");
    give(&file);
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mail_ipc::maildrop::COMPLETE))
        .expect("ours");
    door.logged("maildrop/1A: ");
    door.until("the garbage put aside", || maildrop.join("bad-1A").exists().then_some(()));
    assert!(door.stop().success());
}
