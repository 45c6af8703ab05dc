//! A whole mail system in a temporary directory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::feed::feed;
use crate::wait::{Patience, wait_for};
use crate::{binaries, clients, free_port};

/// The uid and gid that a system runs as when the caller is root: nobody.
const UNPRIVILEGED: u32 = 65534;

/// The ports of a system, all on its own loopback address.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// The address.
    pub address: Ipv4Addr,
    /// SMTP (25 elsewhere).
    pub smtp: u16,
    /// Submission with STARTTLS (587).
    pub submission: u16,
    /// Submission with TLS from the first byte (465).
    pub submissions: u16,
    /// IMAP (143).
    pub imap: u16,
    /// IMAP with TLS (993).
    pub imaps: u16,
    /// POP3 (110).
    pub pop3: u16,
    /// POP3 with TLS (995).
    pub pop3s: u16,
}

impl Ports {
    /// Finds free ports.
    fn find(address: Ipv4Addr) -> io::Result<Self> {
        let port = || free_port(address);
        Ok(Self {
            address,
            smtp: port()?,
            submission: port()?,
            submissions: port()?,
            imap: port()?,
            imaps: port()?,
            pop3: port()?,
            pop3s: port()?,
        })
    }

    /// A port on the system's address.
    #[must_use]
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddrV4::new(self.address, port).into()
    }
}

/// Describes a system before it starts. What is added to a file stands behind the default lines, so that it wins.
#[derive(Debug, Clone)]
pub struct Builder {
    domain: String,
    address: Ipv4Addr,
    users: Vec<(String, String)>,
    main_cf: String,
    master_cf: String,
    dovecot: String,
    files: Vec<(String, String)>,
    workers: Option<String>,
    profile: Option<String>,
    path: Option<PathBuf>,
    environment: Vec<(String, String)>,
}

impl Builder {
    /// A system for a domain, with the accounts `john` and `mary` (password `secret`).
    #[must_use]
    pub fn new(domain: &str) -> Self {
        let users = ["john", "mary"].map(|name| (name.to_owned(), "secret".to_owned()));
        Self {
            domain: domain.to_owned(),
            address: Ipv4Addr::LOCALHOST,
            users: users.to_vec(),
            main_cf: String::new(),
            master_cf: String::new(),
            dovecot: String::new(),
            files: Vec::new(),
            workers: None,
            profile: None,
            path: None,
            environment: Vec::new(),
        }
    }

    /// Adds lines to main.cf. `{root}` stands for the system's directory.
    #[must_use]
    pub fn main_cf(mut self, lines: &str) -> Self {
        self.main_cf.push_str(lines);
        self.main_cf.push('\n');
        self
    }

    /// Adds lines to master.cf.
    #[must_use]
    pub fn master_cf(mut self, lines: &str) -> Self {
        self.master_cf.push_str(lines);
        self.master_cf.push('\n');
        self
    }

    /// Adds lines to dovecot.conf.
    #[must_use]
    pub fn dovecot(mut self, lines: &str) -> Self {
        self.dovecot.push_str(lines);
        self.dovecot.push('\n');
        self
    }

    /// Adds a file to the configuration directory.
    #[must_use]
    pub fn file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    /// Adds an account.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.users.push((name.to_owned(), password.to_owned()));
        self
    }

    /// The loopback address; 127.0.0.1 without this.
    #[must_use]
    pub fn address(mut self, address: Ipv4Addr) -> Self {
        self.address = address;
        self
    }

    /// More delivery workers, as `--workers` takes them.
    #[must_use]
    pub fn workers(mut self, workers: &str) -> Self {
        self.workers = Some(workers.to_owned());
        self
    }

    /// The profile of the binaries; the caller's own without this.
    #[must_use]
    pub fn profile(mut self, profile: &str) -> Self {
        self.profile = Some(profile.to_owned());
        self
    }

    /// The directory, which must not exist; a temporary one without this.
    #[must_use]
    pub fn path(mut self, path: &Path) -> Self {
        self.path = Some(path.to_owned());
        self
    }

    /// Adds a variable to the environment of every program of the system.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Writes the files; nothing runs yet.
    ///
    /// # Errors
    /// The binaries cannot be built, or the directory cannot be written.
    pub fn prepare(self) -> Result<System, String> {
        let built = match &self.profile {
            Some(profile) => binaries::build(profile)?,
            None => binaries::paths()?,
        };
        let system = self.lay_out().map_err(|error| format!("the system cannot be laid out: {error}"))?;
        binaries::install(&built, &system.root().join("bin")).map_err(|error| error.to_string())?;
        Ok(system)
    }

    /// Writes the files and starts everything; returns when all ports answer.
    ///
    /// # Errors
    /// What went wrong, with the logs.
    pub fn start(self) -> Result<System, String> {
        let mut system = self.prepare()?;
        system.start()?;
        Ok(system)
    }

    fn lay_out(self) -> io::Result<System> {
        let temporary = match &self.path {
            Some(path) => {
                fs::create_dir(path)?;
                None
            }
            None => Some(tempfile::Builder::new().prefix("postrider-").tempdir()?),
        };
        let root = temporary.as_ref().map_or_else(|| self.path.clone().unwrap_or_default(), |t| t.path().to_owned());
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755))?;
        let ports = Ports::find(self.address)?;
        for directory in ["etc", "home", "log", "queue", "queue/private"] {
            fs::create_dir(root.join(directory))?;
        }
        let certificate = mail_net::tls::self_signed(&format!("mail.{}", self.domain))?;
        fs::write(root.join("etc/certificate.pem"), &certificate.certificate)?;
        fs::write(root.join("etc/key.pem"), &certificate.key)?;
        fs::set_permissions(root.join("etc/key.pem"), fs::Permissions::from_mode(0o600))?;
        self.write_configuration(&root, &ports)?;
        let (domain, workers, environment) = (self.domain, self.workers, self.environment);
        let system = System { root, domain, ports, workers, environment, up: None, temporary };
        system.give_to_user(&system.root)?;
        Ok(system)
    }

    fn write_configuration(&self, root: &Path, ports: &Ports) -> io::Result<()> {
        let (etc, shown) = (root.join("etc"), root.display().to_string());
        let fill = |text: &str| text.replace("{root}", &shown);
        fs::write(etc.join("main.cf"), fill(&(main_cf(&self.domain, ports) + &self.main_cf)))?;
        fs::write(etc.join("master.cf"), fill(&(master_cf(ports) + &self.master_cf)))?;
        fs::write(etc.join("dovecot.conf"), fill(&(dovecot_conf(ports) + &self.dovecot)))?;
        fs::write(etc.join("aliases"), "postmaster: john\nroot: john\n")?;
        let (uid, gid) = user_and_group();
        let mut passwd = String::new();
        for (name, password) in &self.users {
            let home = root.join("home").join(name);
            fs::create_dir(&home)?;
            passwd.push_str(&format!("{name}:{{PLAIN}}{password}:{uid}:{gid}::{}::\n", home.display()));
        }
        fs::write(etc.join("users"), passwd)?;
        for (name, text) in &self.files {
            fs::write(etc.join(name), fill(text))?;
        }
        Ok(())
    }
}

/// Whom a system runs as: uid and gid.
#[must_use]
pub fn user_and_group() -> (u32, u32) {
    let uid = rustix::process::geteuid();
    if uid.is_root() { (UNPRIVILEGED, UNPRIVILEGED) } else { (uid.as_raw(), rustix::process::getegid().as_raw()) }
}

fn main_cf(domain: &str, ports: &Ports) -> String {
    format!(
        "# One domain on one loopback address, beside whatever else runs here.\n\
         compatibility_level = 3.6\n\
         mydomain = {domain}\n\
         myhostname = mail.{domain}\n\
         myorigin = $mydomain\n\
         mydestination = $myhostname, localhost.$mydomain, localhost, $mydomain\n\
         inet_interfaces = {address}\n\
         inet_protocols = ipv4\n\
         mynetworks = 127.0.0.0/8\n\
         queue_directory = {{root}}/queue\n\
         alias_maps = hash:{{root}}/etc/aliases\n\
         alias_database = hash:{{root}}/etc/aliases\n\
         # Mail for the domain goes to the users that dovecot.conf knows.\n\
         local_transport = lmtp:unix:private/dovecot-lmtp\n\
         smtpd_tls_security_level = may\n\
         smtpd_tls_cert_file = {{root}}/etc/certificate.pem\n\
         smtpd_tls_key_file = {{root}}/etc/key.pem\n\
         smtpd_sasl_type = dovecot\n\
         smtpd_sasl_path = private/auth\n",
        address = ports.address,
    )
}

fn master_cf(ports: &Ports) -> String {
    let Ports { address, smtp, submission, submissions, .. } = ports;
    format!(
        "# service type private unpriv chroot wakeup maxproc command\n\
         {address}:{smtp} inet n - n - - smtpd\n\
         {address}:{submission} inet n - n - - smtpd\n  \
           -o syslog_name=postfix/submission\n  \
           -o smtpd_tls_security_level=encrypt\n  \
           -o smtpd_sasl_auth_enable=yes\n  \
           -o smtpd_relay_restrictions=permit_sasl_authenticated,reject\n\
         {address}:{submissions} inet n - n - - smtpd\n  \
           -o syslog_name=postfix/submissions\n  \
           -o smtpd_tls_wrappermode=yes\n  \
           -o smtpd_sasl_auth_enable=yes\n  \
           -o smtpd_relay_restrictions=permit_sasl_authenticated,reject\n\
         smtp unix - - n - - smtp\n\
         relay unix - - n - - smtp\n\
         lmtp unix - - n - - lmtp\n\
         local unix - n n - - local\n\
         virtual unix - n n - - virtual\n\
         error unix - - n - - error\n\
         retry unix - - n - - error\n\
         discard unix - - n - - discard\n",
    )
}

fn dovecot_conf(ports: &Ports) -> String {
    let Ports { address, imap, imaps, pop3, pop3s, .. } = ports;
    format!(
        "protocols = imap pop3 lmtp\n\
         listen = {address}\n\
         ssl = yes\n\
         ssl_cert = <{{root}}/etc/certificate.pem\n\
         ssl_key = <{{root}}/etc/key.pem\n\
         mail_location = maildir:~/Maildir\n\
         first_valid_uid = 1\n\
         auth_username_format = %Ln\n\
         passdb {{\n  driver = passwd-file\n  args = {{root}}/etc/users\n}}\n\
         userdb {{\n  driver = passwd-file\n  args = {{root}}/etc/users\n}}\n\
         namespace inbox {{\n  inbox = yes\n  mailbox Drafts {{\n    special_use = \\Drafts\n  }}\n  \
           mailbox Sent {{\n    special_use = \\Sent\n  }}\n  mailbox Trash {{\n    special_use = \\Trash\n  }}\n}}\n\
         service imap-login {{\n  inet_listener imap {{\n    port = {imap}\n  }}\n  \
           inet_listener imaps {{\n    port = {imaps}\n    ssl = yes\n  }}\n}}\n\
         service pop3-login {{\n  inet_listener pop3 {{\n    port = {pop3}\n  }}\n  \
           inet_listener pop3s {{\n    port = {pop3s}\n    ssl = yes\n  }}\n}}\n\
         service lmtp {{\n  unix_listener {{root}}/queue/private/dovecot-lmtp {{\n    mode = 0600\n  }}\n}}\n",
    )
}

/// A mail system: laid out, and running after [`System::start`]. It ends when it is dropped.
#[derive(Debug)]
pub struct System {
    root: PathBuf,
    /// Its domain.
    pub domain: String,
    /// Its ports.
    pub ports: Ports,
    workers: Option<String>,
    environment: Vec<(String, String)>,
    up: Option<Child>,
    /// Kept for its end, which removes the directory.
    temporary: Option<tempfile::TempDir>,
}

impl System {
    /// Its directory, with `etc`, `home`, `log`, `queue` and `bin`.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The configuration directory.
    #[must_use]
    pub fn etc(&self) -> PathBuf {
        self.root.join("etc")
    }

    /// The state directory.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.root.join("queue/postrider")
    }

    /// The Maildir of an account.
    #[must_use]
    pub fn maildir(&self, user: &str) -> PathBuf {
        self.root.join("home").join(user).join("Maildir")
    }

    /// Keeps the directory when the system ends.
    pub fn keep(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            let _ = temporary.keep();
        }
    }

    /// As root: gives a file or directory and what lies below to the user that the system runs as.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn give_to_user(&self, path: &Path) -> io::Result<()> {
        let (uid, gid) = user_and_group();
        if !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        chown(path, Some(uid), Some(gid))?;
        if path.is_dir() && path.file_name().is_none_or(|name| name != "bin") {
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                if !entry.file_type()?.is_symlink() {
                    self.give_to_user(&entry.path())?;
                }
            }
        }
        Ok(())
    }

    /// A command of the system, such as `postrider` or `smtpd`, with the rights of the system.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.root.join("bin").join(program));
        command.env("MAIL_CONFIG", self.etc()).current_dir(&self.root).env_remove("NOTIFY_SOCKET");
        command.envs(self.environment.iter().cloned());
        if rustix::process::geteuid().is_root() {
            command.uid(UNPRIVILEGED).gid(UNPRIVILEGED);
        }
        command
    }

    /// Runs `postrider NAME ARGUMENTS` with standard input and gives its output.
    ///
    /// # Errors
    /// It cannot be started or fed.
    pub fn tool(&self, arguments: &[&str], input: &[u8]) -> io::Result<Output> {
        let mut command = self.command("postrider");
        command.args(arguments);
        feed(command, input)
    }

    /// Runs a tool that must succeed, and gives what it printed.
    ///
    /// # Errors
    /// Its exit status and what it said.
    pub fn run(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let output = self.tool(arguments, input.as_bytes()).map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(said);
        }
        Err(format!(
            "postrider {}: {}: {said}{}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ))
    }

    /// Starts everything with `postrider up`; returns when it says that all are ready, and all ports answer.
    ///
    /// # Errors
    /// What went wrong, with the logs.
    pub fn start(&mut self) -> Result<(), String> {
        let console = File::create(self.root.join("log/up.out")).map_err(|error| error.to_string())?;
        let mut command = self.command("postrider");
        command.arg("up").arg("-c").arg(self.etc()).arg("--log-dir").arg(self.root.join("log"));
        if let Some(workers) = &self.workers {
            command.args(["--workers", workers]);
        }
        command.stdin(Stdio::null()).stdout(console.try_clone().map_err(|e| e.to_string())?).stderr(console);
        self.up = Some(command.spawn().map_err(|error| format!("postrider up cannot be started: {error}"))?);
        self.wait_until_it_answers()
    }

    fn wait_until_it_answers(&mut self) -> Result<(), String> {
        let ports = self.ports;
        let doors = [ports.smtp, ports.submission, ports.imap, ports.imaps, ports.pop3, ports.pop3s];
        let console = self.root.join("log/up.out");
        let mut gone = None;
        let up = &mut self.up;
        let answered = wait_for("the ports of the system", Patience::default(), || {
            gone = up.as_mut().and_then(|child| child.try_wait().ok().flatten());
            // A monitor opens its ports before the process that serves them is ready.
            let ready = || fs::read_to_string(&console).is_ok_and(|said| said.contains("\npostrider: ready\n"));
            let open = || doors.iter().all(|&port| clients::greets(ports.at(port)));
            (gone.is_some() || (ready() && open())).then_some(())
        });
        match (answered, gone) {
            (Ok(()), None) => Ok(()),
            (_, Some(status)) => Err(format!("postrider up ended: {status}\n{}", self.logs())),
            (Err(error), None) => Err(format!("{error}\n{}", self.logs())),
        }
    }

    /// The process id of `postrider up`.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.up.as_ref().map(Child::id)
    }

    /// The process ids of a daemon's processes: monitor, front and the rest.
    #[must_use]
    pub fn pids_of(&self, program: &str) -> Vec<u32> {
        let binary = self.root.join("bin").join(program);
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        // Not `exe`: a process without rights is closed even to its own user.
        let name = |pid: &u32| fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        pids.filter(|pid| name(pid).split(|&octet| octet == 0).next() == Some(binary.as_os_str().as_encoded_bytes()))
            .collect()
    }

    /// The process of a daemon that serves: the one whose parent, the monitor, is of the same program. Of a daemon with further children, any of them.
    #[must_use]
    pub fn front_of(&self, program: &str) -> Option<u32> {
        let pids = self.pids_of(program);
        pids.iter().copied().find(|pid| parent(*pid).is_some_and(|parent| pids.contains(&parent)))
    }

    /// The main process of a daemon, its monitor: the child of `postrider up`.
    #[must_use]
    pub fn main_of(&self, program: &str) -> Option<u32> {
        let up = self.pid()?;
        self.pids_of(program).into_iter().find(|pid| parent(*pid) == Some(up))
    }

    /// Stops it in order and waits.
    ///
    /// # Errors
    /// It did not end within two minutes.
    pub fn stop(&mut self) -> Result<(), String> {
        let Some(mut up) = self.up.take() else { return Ok(()) };
        signal(up.id(), rustix::process::Signal::TERM);
        let ended = wait_for("the end of postrider up", Patience::default(), || up.try_wait().ok().flatten());
        if ended.is_err() {
            let _ = up.kill();
            let _ = up.wait();
        }
        ended.map(drop)
    }

    /// Waits until it ends by itself, as after a signal to the whole terminal.
    pub fn wait(&mut self) {
        if let Some(up) = self.up.as_mut() {
            let _ = up.wait();
        }
    }

    /// All logs, each under its name; for the message of a failed test.
    #[must_use]
    pub fn logs(&self) -> String {
        let mut text = String::new();
        let Ok(entries) = fs::read_dir(self.root.join("log")) else { return text };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let mut log = String::new();
            let read = File::open(&path).and_then(|mut file| file.read_to_string(&mut log));
            if read.is_ok() && !log.is_empty() {
                text.push_str(&format!("--- {}\n{log}", path.file_name().unwrap_or_default().display()));
            }
        }
        text
    }

    /// One daemon's log.
    #[must_use]
    pub fn log(&self, daemon: &str) -> String {
        fs::read_to_string(self.root.join(format!("log/{daemon}.log"))).unwrap_or_default()
    }

    /// Waits for a line of a daemon's log that has all these words: it is written after the answer that a test sees.
    ///
    /// # Errors
    /// The words, and the logs.
    pub fn wait_for_line(&self, daemon: &str, words: &[&str]) -> Result<String, String> {
        let found = wait_for(&format!("a line of {daemon} with {words:?}"), Patience::default(), || {
            let log = self.log(daemon);
            log.lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned)
        });
        found.map_err(|error| format!("{error}\n{}", self.logs()))
    }

    /// The messages in `new` and `cur` of an account's INBOX.
    #[must_use]
    pub fn messages(&self, user: &str) -> Vec<String> {
        let directories = ["new", "cur"].map(|name| self.maildir(user).join(name));
        let entries = directories.into_iter().filter_map(|directory| fs::read_dir(directory).ok()).flatten().flatten();
        let mut found = BTreeMap::new();
        for entry in entries {
            // What a session moves from one to the other meanwhile is seen in both, or not read in the first.
            let name = entry.file_name().to_string_lossy().split(':').next().unwrap_or_default().to_owned();
            if let Ok(octets) = fs::read(entry.path()) {
                found.insert(name, String::from_utf8_lossy(&octets).into_owned());
            }
        }
        found.into_values().collect()
    }

    /// Waits until what `mailq` prints is as it should be. queue-manager records an outcome after the mail has arrived and the deliverer has
    /// logged it; until then the message is active.
    ///
    /// # Errors
    /// What it prints instead, with the logs.
    pub fn wait_for_queue(&self, what: &str, right: impl Fn(&str) -> bool) -> Result<String, String> {
        let mut last = Ok(String::new());
        let found = wait_for(what, Patience::default(), || {
            last = self.run(&["mailq"], "");
            last.clone().ok().filter(|queue| right(queue))
        });
        found.map_err(|error| format!("{error}; the queue is\n{}\n{}", last.unwrap_or_else(|e| e), self.logs()))
    }

    /// Waits until nothing is queued.
    ///
    /// # Errors
    /// What is, with the logs.
    pub fn wait_for_empty_queue(&self) -> Result<(), String> {
        self.wait_for_queue("an empty queue", |queue| queue.contains("Mail queue is empty")).map(drop)
    }

    /// Waits until so many messages lie in an account's INBOX.
    ///
    /// # Errors
    /// What there was instead, with the logs.
    pub fn wait_for_messages(&self, user: &str, count: usize) -> Result<Vec<String>, String> {
        let found = wait_for(&format!("{count} messages for {user}"), Patience::default(), || {
            let messages = self.messages(user);
            (messages.len() >= count).then_some(messages)
        });
        found.map_err(|error| format!("{error} (there are {})\n{}", self.messages(user).len(), self.logs()))
    }
}

impl Drop for System {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

/// The parent of a process.
fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

/// Sends a signal to a process of ours.
pub fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended already.
        let _ = rustix::process::kill_process(pid, signal);
    }
}
