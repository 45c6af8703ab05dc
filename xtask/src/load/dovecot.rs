//! Debian's Dovecot, with directories of its own.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use test_support::harness::program;
use test_support::{Patience, clients, wait_for};

use super::{Server, cpu, postfix};

/// Processes that serve many connections one after the other: Dovecot's own advice for busy servers.
pub const TUNED: &str = "service imap-login {\n service_count = 0\n process_min_avail = 2\n}\nservice pop3-login {\n service_count = 0\n \
    process_min_avail = 2\n}\nservice imap {\n service_count = 1000\n process_min_avail = 4\n}\nservice pop3 {\n service_count = 1000\n \
    process_min_avail = 4\n}\n";

/// A running Dovecot. It ends when it is dropped.
pub struct Dovecot {
    directory: tempfile::TempDir,
    process: Child,
    ports: [SocketAddr; 3],
}

impl Dovecot {
    /// Starts it with these users and lines; none where it is not installed or we are not root.
    pub fn start(users: &[String], lines: &str) -> Result<Option<Self>, String> {
        let Some(dovecot) = program("dovecot").filter(|_| postfix::are_root()) else { return Ok(None) };
        let (directory, ports) = lay_out(users, lines).map_err(|error| format!("Dovecot: {error}"))?;
        let mut command = Command::new(dovecot);
        command.arg("-F").arg("-c").arg(directory.path().join("dovecot.conf"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().map_err(|error| format!("Dovecot: {error}"))?;
        let dovecot = Self { directory, process, ports };
        wait_for("Dovecot", Patience::default(), || clients::greets(ports[0]).then_some(())).map_err(|error| {
            format!("{error}\n{}", fs::read_to_string(dovecot.root().join("log")).unwrap_or_default())
        })?;
        Ok(Some(dovecot))
    }

    fn root(&self) -> &Path {
        self.directory.path()
    }

    /// The Maildir of a user.
    pub fn maildir(&self, user: &str) -> PathBuf {
        self.root().join("home").join(user).join("Maildir")
    }

    /// IMAP with TLS from the first byte.
    pub const fn imaps(&self) -> SocketAddr {
        self.ports[1]
    }

    /// POP3.
    pub const fn pop3(&self) -> SocketAddr {
        self.ports[2]
    }
}

fn lay_out(users: &[String], lines: &str) -> std::io::Result<(tempfile::TempDir, [SocketAddr; 3])> {
    let directory = tempfile::Builder::new().prefix("dovecot-").tempdir()?;
    let root = directory.path();
    fs::set_permissions(root, fs::Permissions::from_mode(0o755))?;
    let held: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let ports = [held[0].local_addr()?, held[1].local_addr()?, held[2].local_addr()?];
    let certificate = mail_net::tls::self_signed("theirs.example")?;
    fs::write(root.join("certificate.pem"), &certificate.certificate)?;
    fs::write(root.join("key.pem"), &certificate.key)?;
    fs::create_dir(root.join("home"))?;
    let mut passwd = String::new();
    for user in users {
        let home = root.join("home").join(user);
        fs::create_dir(&home)?;
        chown(&home, Some(65534), Some(65534))?;
        passwd.push_str(&format!("{user}:{{PLAIN}}secret:65534:65534::{}::\n", home.display()));
    }
    fs::write(root.join("users"), passwd)?;
    fs::write(root.join("dovecot.conf"), configuration(&root.display().to_string(), &ports, lines))?;
    Ok((directory, ports))
}

fn configuration(root: &str, [imap, imaps, pop3]: &[SocketAddr; 3], lines: &str) -> String {
    let (imap, imaps, pop3) = (imap.port(), imaps.port(), pop3.port());
    format!(
        "base_dir = {root}/run\nstate_dir = {root}/run\nlog_path = {root}/log\nprotocols = imap pop3\nlisten = 127.0.0.1\nssl = yes\n\
         ssl_cert = <{root}/certificate.pem\nssl_key = <{root}/key.pem\ndisable_plaintext_auth = no\nfirst_valid_uid = 1\n\
         mail_max_userip_connections = 100\nmail_location = maildir:~/Maildir\nnamespace inbox {{\n inbox = yes\n}}\n\
         passdb {{\n driver = passwd-file\n args = {root}/users\n}}\nuserdb {{\n driver = passwd-file\n args = {root}/users\n}}\n\
         service imap-login {{\n inet_listener imap {{\n port = {imap}\n }}\n inet_listener imaps {{\n port = {imaps}\n ssl = yes\n }}\n}}\n\
         service pop3-login {{\n inet_listener pop3 {{\n port = {pop3}\n }}\n inet_listener pop3s {{\n port = 0\n }}\n}}\n{lines}"
    )
}

impl Server for Dovecot {
    fn address(&self) -> SocketAddr {
        self.ports[0]
    }

    fn cpu(&self) -> f64 {
        cpu::of_tree(self.process.id())
    }

    fn memory(&self) -> f64 {
        cpu::memory_of_tree(self.process.id())
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        test_support::system::signal(self.process.id(), rustix::process::Signal::TERM);
        let _ = self.process.wait();
    }
}
