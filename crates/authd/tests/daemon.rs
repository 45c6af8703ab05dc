//! The real daemon: logins and lookups over its sockets, a restart, and (as root, in a mount namespace with users of its own) the parts
//! that need rights. What needs root is counted as ignored without it.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use mail_ipc::auth::{self, Failure};
use mail_ipc::hello::{Hello, Role};
use mail_ipc::{lookup, sockets};
use mail_net::ipc::Caller;
use test_support::binaries::place;
use tokio::runtime::Runtime;

type Outcome = Result<Completion, Failed>;

/// Whom the daemon runs as when the tests are root.
const NOBODY: u32 = 65534;
const PATIENCE: Duration = Duration::from_secs(120);

const DOVECOT: &str = "protocols = imap pop3\nmail_location = maildir:~/Maildir\nauth_failure_delay = 0\nauth_verbose = yes\n\
    passdb {\n  driver = passwd-file\n  args = ROOT/users\n}\nuserdb {\n  driver = passwd-file\n  args = ROOT/users\n}\n";
const WITH_SYSTEM: &str = "passdb {\n  driver = DRIVER\n}\nuserdb {\n  driver = passwd\n}\n";

fn main() -> ExitCode {
    let trials = vec![
        Trial::ignorable_test("a_user_logs_in_and_the_monitor_learns_who_it_is", logs_in),
        Trial::ignorable_test("a_restarted_authd_is_found_again", restarts),
        Trial::ignorable_test("a_changed_passwd_file_is_taken_without_a_signal", file_changes),
        Trial::ignorable_test("root_gives_up_its_rights_and_still_reads_a_private_file", || {
            with_root("pam", private_file)
        }),
        Trial::ignorable_test("system_users_log_in_through_pam", || with_root("pam", system_user)),
        Trial::ignorable_test("system_users_log_in_through_shadow", || with_root("shadow", system_user)),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A daemon in a temporary directory. It ends with this value.
struct Daemon {
    root: tempfile::TempDir,
    child: Child,
    runtime: Runtime,
}

impl Daemon {
    /// Lays out the files and starts; `namespace` runs it as root in a mount namespace with users of its own.
    fn start(dovecot: &str, namespace: bool) -> Result<Self, Failed> {
        let root = tempfile::Builder::new().prefix("authd-").tempdir()?;
        let path = root.path();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
        place(Path::new(env!("CARGO_BIN_EXE_authd")), path)?;
        let queue = path.join("queue");
        std::fs::create_dir(&queue)?;
        std::fs::write(path.join("main.cf"), format!("queue_directory = {}\n", queue.display()))?;
        std::fs::write(path.join("dovecot.conf"), dovecot.replace("ROOT", &path.display().to_string()))?;
        std::fs::write(path.join("users"), "john:{PLAIN}secret:65534:65534::/srv/john::\n")?;
        if is_root() && !namespace {
            chown(&queue, Some(NOBODY), Some(NOBODY))?;
        }
        if namespace {
            lay_out_users(path)?;
        }
        let child = launch(path, namespace)?;
        let daemon = Self { root, child, runtime: Runtime::new()? };
        daemon.wait_for_answer()?;
        Ok(daemon)
    }

    fn state(&self) -> PathBuf {
        self.root.path().join("queue/postrider")
    }

    fn wait_for_answer(&self) -> Result<(), Failed> {
        let begun = Instant::now();
        while self.ask(&auth::Request::Mechanisms).is_err() {
            if begun.elapsed() > PATIENCE {
                return Err("authd does not answer".into());
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    fn caller(&self) -> Caller<auth::Request, auth::Response> {
        Caller::new(self.state(), sockets::AUTH, Hello::new(Role::Monitor, "test"))
    }

    fn ask(&self, request: &auth::Request) -> Result<auth::Response, String> {
        let caller = self.caller();
        let reply = self.runtime.block_on(caller.call(request, &[]));
        reply.map(|reply| reply.message).map_err(|error| error.to_string())
    }

    fn login(&self, user: &str, password: &str) -> Result<auth::Response, String> {
        self.ask(&begin(user, password))
    }

    fn look_up(&self, request: &lookup::Request) -> Result<lookup::Response, String> {
        let caller = Caller::new(self.state(), sockets::LOOKUP, Hello::new(Role::LocalDelivery, "test"));
        let reply = self.runtime.block_on(caller.call(request, &[]));
        reply.map(|reply| reply.message).map_err(|error| error.to_string())
    }

    fn restart(&mut self) -> Result<(), Failed> {
        self.end();
        self.child = launch(self.root.path(), false)?;
        Ok(())
    }

    /// SIGKILL: the hardest end there is. The front follows its monitor.
    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until the log holds this text; it is written a moment after the answer.
    fn logged(&self, text: &str) -> Result<(), Failed> {
        let begun = Instant::now();
        loop {
            let log = std::fs::read_to_string(self.state().join("log/authd.log")).unwrap_or_default();
            if log.contains(text) {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                return Err(format!("{text} is not in {log}").into());
            }
            std::thread::yield_now();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}

fn launch(path: &Path, namespace: bool) -> std::io::Result<Child> {
    let daemon = path.join("authd");
    let mut command = if namespace {
        // The namespace holds the bind mounts of this one process; nothing of the machine's own users changes.
        let script = "for f in passwd group shadow; do mount --bind \"$1/$f\" /etc/$f || exit 1; done; \
                      exec \"$1/authd\" -c \"$1\" --dovecot \"$1/dovecot.conf\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(path);
        command
    } else {
        let mut command = Command::new(daemon);
        command.arg("-c").arg(path).arg("--dovecot").arg(path.join("dovecot.conf"));
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    };
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir(path).spawn()
}

/// Copies of the machine's databases with the users of the roles and one system user more (password `system`).
fn lay_out_users(path: &Path) -> Result<(), Failed> {
    let mut passwd = std::fs::read_to_string("/etc/passwd")?;
    let mut group = std::fs::read_to_string("/etc/group")?;
    let mut shadow = std::fs::read_to_string("/etc/shadow")?;
    let names =
        ["postrider", "postrider-smtpd", "postrider-login", "postrider-local", "postrider-auth", "postdrop", "sysuser"];
    for (id, name) in (64_321..).zip(names) {
        passwd.push_str(&format!("{name}:x:{id}:{id}::/home/{name}:/bin/sh\n"));
        group.push_str(&format!("{name}:x:{id}:\n"));
    }
    // Made with `openssl passwd -6 -salt abcdefgh system`.
    shadow.push_str(&format!("sysuser:{SYSTEM_HASH}:19000:0:99999:7:::\n"));
    for (name, text, mode) in [("passwd", passwd, 0o644), ("group", group, 0o644), ("shadow", shadow, 0o600)] {
        std::fs::write(path.join(name), text)?;
        std::fs::set_permissions(path.join(name), std::fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

const SYSTEM_HASH: &str =
    "$6$abcdefgh$KPTWp8udi5AKJr0ppiGUIdzL3Oq0OxRWeLO.MhutTJciUJeDzlIBlagzWcUAGDuRws.5oxEh4UGMBybi54fai.";

fn begin(user: &str, password: &str) -> auth::Request {
    auth::Request::Begin {
        service: "imap".into(),
        mechanism: "PLAIN".into(),
        initial: Some(format!("\0{user}\0{password}").as_str().into()),
        peer: [192, 0, 2, 5].into(),
        local: [192, 0, 2, 1].into(),
        secured: true,
        tls: true,
        session: "test".into(),
        local_name: None,
    }
}

fn must(condition: bool, text: impl std::fmt::Display) -> Result<(), Failed> {
    if condition { Ok(()) } else { Err(text.to_string().into()) }
}

fn token_of(response: &auth::Response) -> Result<String, Failed> {
    match response {
        auth::Response::Authenticated { token: Some(token), .. } => Ok(token.clone()),
        other => Err(format!("not a login with a token: {other:?}").into()),
    }
}

fn logs_in() -> Outcome {
    let daemon = Daemon::start(DOVECOT, false)?;
    let token = token_of(&daemon.login("John", "secret")?)?;
    let auth::Response::Login { login } = daemon.ask(&auth::Request::Redeem { token })? else {
        return Err("the token is unknown".into());
    };
    must(login.user == "john" && login.mail.as_deref() == Some("maildir:/srv/john/Maildir"), format!("{login:?}"))?;
    let wrong = daemon.login("john", "wrong")?;
    must(matches!(wrong, auth::Response::Failed { failure: Failure::Credentials, .. }), format!("{wrong:?}"))?;
    daemon.logged("auth: passwd-file(john,192.0.2.5,<test>): Password mismatch")?;
    let john = daemon.look_up(&lookup::Request::Mail { user: "john".into(), service: "lmtp".into() })?;
    must(matches!(john, lookup::Response::Mail { .. }), format!("{john:?}"))?;
    let root = daemon.look_up(&lookup::Request::Passwd { name: "root".into() })?;
    must(matches!(root, lookup::Response::Passwd { .. }), format!("{root:?}"))?;
    Ok(Completion::Completed)
}

fn restarts() -> Outcome {
    let mut daemon = Daemon::start(DOVECOT, false)?;
    let caller = daemon.caller();
    let call = |daemon: &Daemon| daemon.runtime.block_on(caller.call(&begin("john", "secret"), &[]));
    token_of(&call(&daemon).map_err(|error| error.to_string())?.message)?;
    daemon.restart()?;
    // The client's connection broke with the old process; its next calls find the new one.
    let begun = Instant::now();
    loop {
        match call(&daemon) {
            Ok(reply) => break token_of(&reply.message).map(|_| Completion::Completed),
            Err(error) if begun.elapsed() > PATIENCE => break Err(error.to_string().into()),
            // The old front may still have held the sockets when the new daemon wanted them: a supervisor tries again, and so do we.
            Err(_) if daemon.child.try_wait()?.is_some() => daemon.child = launch(daemon.root.path(), false)?,
            Err(_) => std::thread::yield_now(),
        }
    }
}

fn file_changes() -> Outcome {
    let daemon = Daemon::start(DOVECOT, false)?;
    token_of(&daemon.login("john", "secret")?)?;
    let (new, users) = (daemon.root.path().join("users.new"), daemon.root.path().join("users"));
    std::fs::write(&new, "mary:{PLAIN}secret:65534:65534::/srv/mary::\n")?;
    std::fs::rename(new, users)?;
    token_of(&daemon.login("mary", "secret")?)?;
    Ok(Completion::Completed)
}

/// Runs a story with a daemon that was started as root, where that can be done.
fn with_root(driver: &str, story: fn(&Daemon) -> Result<(), Failed>) -> Outcome {
    if !is_root() {
        return Ok(Completion::ignored_with("needs root"));
    }
    let usable = Command::new("unshare").args(["--mount", "true"]).status();
    if !usable.is_ok_and(|status| status.success()) {
        return Ok(Completion::ignored_with("no mount namespace can be made here"));
    }
    if driver == "pam" && mail_posix::pam::available().is_err() {
        return Ok(Completion::ignored_with("no libpam on this machine"));
    }
    let daemon = Daemon::start(&format!("{DOVECOT}{}", WITH_SYSTEM.replace("DRIVER", driver)), true)?;
    story(&daemon)?;
    Ok(Completion::Completed)
}

fn private_file(daemon: &Daemon) -> Result<(), Failed> {
    let users = daemon.root.path().join("users");
    std::fs::set_permissions(&users, std::fs::Permissions::from_mode(0o600))?;
    token_of(&daemon.login("john", "secret")?)?;
    // The front is the child of the monitor, and somebody without rights.
    let children = format!("/proc/{0}/task/{0}/children", daemon.child.id());
    let children = std::fs::read_to_string(children)?;
    let front = children.split_whitespace().next().ok_or("no front")?;
    let status = std::fs::read_to_string(format!("/proc/{front}/status"))?;
    for line in ["Uid:\t64325\t64325\t64325\t64325", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"] {
        must(status.contains(line), format!("{line} is not in {status}"))?;
    }
    Ok(())
}

fn system_user(daemon: &Daemon) -> Result<(), Failed> {
    let token = token_of(&daemon.login("sysuser", "system")?)?;
    let auth::Response::Login { login } = daemon.ask(&auth::Request::Redeem { token })? else {
        return Err("the token is unknown".into());
    };
    must(
        login.uid == Some(64_327) && login.mail.as_deref() == Some("maildir:/home/sysuser/Maildir"),
        format!("{login:?}"),
    )?;
    let wrong = daemon.login("sysuser", "wrong")?;
    must(matches!(wrong, auth::Response::Failed { failure: Failure::Credentials, .. }), format!("{wrong:?}"))
}
