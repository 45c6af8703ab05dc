//! `postrider up` with daemons that do what the test wants: this binary, copied under their names.
//!
//! A fake daemon says READY and waits for SIGTERM; what it finds in the file `behaviour/INSTANCE` beside it changes that.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::chown;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use mail_posix::signals::{Caught, SignalFd};
use test_support::binaries;

const DAEMONS: [&str; 7] = ["authd", "queue-manager", "local-delivery", "remote-delivery", "smtpd", "pop3d", "imapd"];
/// Whom the system runs as where the test is root.
const NOBODY: u32 = 65534;
/// No step of a test may take longer.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let us = PathBuf::from(std::env::args_os().next().unwrap_or_default());
    let name = us.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if DAEMONS.contains(&name) {
        return daemon(&us);
    }
    let programs = Programs::where_nobody_finds_them();
    become_nobody();
    let trials = vec![
        Trial::test("daemons_start_in_stages_and_stop_in_the_opposite_order", starts_and_stops),
        Trial::test("a_daemon_that_dies_is_started_again_at_once", restarts),
        Trial::test("a_configuration_mistake_is_reported_and_not_tried_again", gives_up),
        Trial::test("nothing_is_left_when_up_is_killed", dies_together),
        Trial::test("a_reload_follows_the_files", reloads),
        Trial::test("a_second_up_is_refused", is_alone),
    ];
    // One at a time: while one test forks, a program that another one has just copied cannot be started (ETXTBSY).
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(programs);
    conclusion.exit_code()
}

/// This binary and postrider in a directory that the user nobody may enter, whoever owns the one they were built in.
struct Programs(#[expect(dead_code, reason = "it goes when this is dropped")] tempfile::TempDir);

static PLACES: OnceLock<[PathBuf; 2]> = OnceLock::new();

impl Programs {
    fn where_nobody_finds_them() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let us = std::env::current_exe().expect("we are somewhere");
        let built = [us.as_path(), Path::new(env!("CARGO_BIN_EXE_postrider"))];
        let places = built.map(|built| binaries::place(built, directory.path()).expect("placed"));
        PLACES.set(places).expect("once");
        if rustix::process::geteuid().is_root() {
            // Its new owner removes it.
            chown(directory.path(), Some(NOBODY), Some(NOBODY)).expect("root may");
        }
        Self(directory)
    }
}

/// As root the system would want its role users; this test is not about them.
fn become_nobody() {
    if rustix::process::geteuid().is_root() {
        let nobody = mail_posix::Identity::ids(NOBODY, NOBODY);
        mail_posix::become_user(&nobody, mail_posix::Confinement::RUNS_COMMANDS).expect("root may become anyone");
    }
}

/// The life of a fake daemon.
fn daemon(us: &Path) -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let instance = arguments.iter().skip_while(|word| *word != "--name").nth(1).cloned().unwrap_or_default();
    let home = us.parent().expect("a directory");
    let journal = |word: &str| {
        let open = fs::OpenOptions::new().append(true).create(true).open(home.join("journal"));
        // One write: the daemons share the file.
        open.expect("opens").write_all(format!("{word} {instance}\n").as_bytes()).expect("writes");
    };
    let signals = SignalFd::open().expect("signals");
    journal("start");
    let behaviour = home.join("behaviour").join(&instance);
    match fs::read_to_string(&behaviour).as_deref().map(str::trim) {
        Ok("exit 78") => {
            eprintln!("main.cf:3:1: nonsense");
            return ExitCode::from(78);
        }
        Ok("die once") => {
            fs::remove_file(&behaviour).expect("removed");
            std::process::abort();
        }
        _ => {}
    }
    let address = std::env::var("NOTIFY_SOCKET").expect("a socket");
    let address = SocketAddr::from_abstract_name(address.trim_start_matches('@')).expect("a name");
    UnixDatagram::unbound().and_then(|socket| socket.send_to_addr(b"READY=1\n", &address)).expect("says ready");
    loop {
        let mut watched = [rustix::event::PollFd::new(&signals, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut watched, None).expect("waits");
        match signals.next().expect("reads") {
            Some(Caught::Stop) => {
                journal("stop");
                return ExitCode::SUCCESS;
            }
            Some(Caught::Reload) => journal("reload"),
            _ => {}
        }
    }
}

/// An `up` in a directory of its own.
struct Up {
    directory: tempfile::TempDir,
    child: Child,
    lines: Receiver<String>,
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn link(from: &Path, to: &Path) {
    if fs::hard_link(from, to).is_err() {
        fs::copy(from, to).expect("copied");
    }
}

impl Up {
    fn prepare() -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        for name in ["etc", "behaviour"] {
            fs::create_dir(path.join(name)).expect("made");
        }
        let [us, postrider] = PLACES.get().expect("placed");
        DAEMONS.iter().for_each(|name| link(us, &path.join(name)));
        link(postrider, &path.join("postrider"));
        fs::write(path.join("etc/main.cf"), format!("queue_directory = {}/spool\n", path.display())).expect("written");
        fs::write(path.join("etc/master.cf"), "").expect("written");
        fs::write(path.join("etc/dovecot.conf"), "protocols = imap\n").expect("written");
        directory
    }

    fn start(directory: tempfile::TempDir, extra: &[&str]) -> Self {
        let mut child = Self::command(directory.path(), extra).stdout(Stdio::piped()).spawn().expect("starts");
        let lines = lines(child.stdout.take().expect("a pipe"));
        Self { directory, child, lines }
    }

    fn command(directory: &Path, extra: &[&str]) -> Command {
        let mut command = Command::new(directory.join("postrider"));
        command.arg("up").arg("-c").arg(directory.join("etc")).args(extra).env_remove("NOTIFY_SOCKET");
        command
    }

    /// Waits for a line of the report that contains the text.
    fn wait_for(&self, text: &str) -> Result<String, Failed> {
        let mut seen = Vec::new();
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.map_err(|error| format!("no line with {text:?}: {error}; saw {seen:#?}"))?;
            if line.contains(text) {
                return Ok(line);
            }
            seen.push(line);
        }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("signalled");
    }

    fn stop(&mut self) -> i32 {
        self.signal(rustix::process::Signal::TERM);
        self.child.wait().expect("ends").code().unwrap_or(-1)
    }

    fn journal(&self) -> Vec<String> {
        let text = fs::read_to_string(self.directory.path().join("journal")).expect("a journal");
        text.lines().map(str::to_owned).collect()
    }

    fn behave(directory: &tempfile::TempDir, instance: &str, how: &str) {
        fs::write(directory.path().join("behaviour").join(instance), how).expect("written");
    }
}

fn lines(output: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn check(condition: bool, text: impl FnOnce() -> String) -> Result<(), Failed> {
    if condition { Ok(()) } else { Err(text().into()) }
}

/// Where in the journal each of these stands.
fn place(journal: &[String], entry: &str) -> usize {
    journal.iter().position(|line| line == entry).unwrap_or_else(|| panic!("no {entry} in {journal:?}"))
}

fn starts_and_stops() -> Result<(), Failed> {
    let mut up = Up::start(Up::prepare(), &["--workers", "local-delivery=2"]);
    up.wait_for("postrider: ready")?;
    let code = up.stop();
    let journal = up.journal();
    check(code == 0, || format!("exit code {code}"))?;
    check(!journal.iter().any(|line| line.contains("pop3d")), || "pop3d is not in protocols".into())?;
    let order = [
        ("start queue-manager", "start local-delivery@2"),
        ("start authd", "start remote-delivery"),
        ("start local-delivery", "start smtpd"),
        ("start remote-delivery", "start imapd"),
        ("stop imapd", "stop local-delivery"),
        ("stop smtpd", "stop remote-delivery"),
        ("stop local-delivery@2", "stop queue-manager"),
    ];
    for (earlier, later) in order {
        check(place(&journal, earlier) < place(&journal, later), || format!("{earlier}, {later}: {journal:?}"))?;
    }
    check(up.directory.path().join("spool/postrider/log/local-delivery@2.log").exists(), || "no log".into())
}

fn restarts() -> Result<(), Failed> {
    let directory = Up::prepare();
    Up::behave(&directory, "smtpd", "die once");
    let mut up = Up::start(directory, &[]);
    up.wait_for("smtpd: pid")?;
    up.wait_for("postrider: ready")?;
    check(up.stop() == 0, || "stopped".into())?;
    let starts = up.journal().iter().filter(|line| *line == "start smtpd").count();
    check(starts == 2, || format!("{starts} starts"))
}

fn gives_up() -> Result<(), Failed> {
    let directory = Up::prepare();
    Up::behave(&directory, "imapd", "exit 78");
    let mut up = Up::start(directory, &[]);
    up.wait_for("imapd: pid")?;
    // Its last words are shown, then the others go on.
    up.wait_for("main.cf:3:1: nonsense")?;
    up.wait_for("postrider: ready")?;
    up.stop();
    let starts = up.journal().iter().filter(|line| *line == "start imapd").count();
    check(starts == 1, || format!("{starts} starts"))
}

fn dies_together() -> Result<(), Failed> {
    let mut up = Up::start(Up::prepare(), &[]);
    let line = up.wait_for("queue-manager")?;
    up.wait_for("postrider: ready")?;
    let pid: i32 = line.rsplit(' ').next().and_then(|pid| pid.parse().ok()).ok_or_else(|| format!("no pid: {line}"))?;
    let pid = rustix::process::Pid::from_raw(pid).ok_or("no pid")?;
    let daemon = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
    up.child.kill()?;
    up.child.wait()?;
    let mut watched = [rustix::event::PollFd::new(&daemon, rustix::event::PollFlags::IN)];
    let patience = rustix::event::Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
    let ended = rustix::event::poll(&mut watched, Some(&patience))?;
    check(ended == 1, || "queue-manager outlives up".into())
}

fn reloads() -> Result<(), Failed> {
    let mut up = Up::start(Up::prepare(), &[]);
    up.wait_for("postrider: ready")?;
    fs::write(up.directory.path().join("etc/dovecot.conf"), "protocols = pop3\n")?;
    up.signal(rustix::process::Signal::HUP);
    up.wait_for("generation 2")?;
    up.wait_for("imapd: no longer configured")?;
    up.wait_for("pop3d: ready")?;
    fs::write(up.directory.path().join("etc/main.cf"), "message_size_limit = many\n")?;
    up.signal(rustix::process::Signal::HUP);
    up.stop();
    let journal = up.journal();
    check(place(&journal, "reload queue-manager") < place(&journal, "stop queue-manager"), || format!("{journal:?}"))?;
    check(journal.iter().any(|line| line == "start pop3d"), || format!("{journal:?}"))
}

fn is_alone() -> Result<(), Failed> {
    let up = Up::start(Up::prepare(), &[]);
    up.wait_for("postrider: ready")?;
    let mut second = Up::command(up.directory.path(), &[]).stderr(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    let mut text = String::new();
    second.stderr.take().ok_or("a pipe")?.read_to_string(&mut text)?;
    let code = second.wait()?.code();
    check(code == Some(69) && text.contains("already running"), || format!("{code:?} {text}"))
}
