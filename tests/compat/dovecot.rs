//! A real Dovecot on the mail of one of our systems.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};

use test_support::clients::{Imap, Security, greets};
use test_support::{Patience, System, free_port, wait_for};

/// A running Dovecot; it ends when it is dropped.
pub struct Dovecot {
    process: Child,
    pub address: SocketAddr,
}

impl Dovecot {
    /// Starts it with the accounts of a system, and with the system's own Maildirs or those of another user of the same home.
    pub fn beside(system: &System) -> Result<Self, String> {
        Self::beside_with(system, "")
    }

    /// The same with more lines of dovecot.conf.
    pub fn beside_with(system: &System, more: &str) -> Result<Self, String> {
        let port = free_port(Ipv4Addr::LOCALHOST).map_err(|error| error.to_string())?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let root = system.root().join("dovecot");
        let users = system.etc().join("users");
        let text = configuration(&root.display().to_string(), &users.display().to_string(), address.port());
        let text = format!("{text}{more}\n");
        fs::create_dir_all(root.join("run")).map_err(|error| error.to_string())?;
        let file = root.join("dovecot.conf");
        fs::write(&file, text).map_err(|error| error.to_string())?;
        let mut command = Command::new(test_support::harness::program("dovecot").ok_or("dovecot is not installed")?);
        let process = command
            .arg("-F")
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let dovecot = Self { process: process.map_err(|error| error.to_string())?, address };
        let log = root.join("log");
        wait_for("Dovecot's greeting", Patience::default(), || greets(address).then_some(()))
            .map_err(|error| format!("{error}\n{}", fs::read_to_string(log).unwrap_or_default()))?;
        Ok(dovecot)
    }

    /// Where its SASL server listens, for a Postfix.
    pub fn auth(system: &System) -> String {
        system.root().join("dovecot/auth-client").display().to_string()
    }

    /// A session.
    pub fn login(&self, user: &str) -> Result<Imap, String> {
        login(self.address, user)
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        test_support::system::signal(self.process.id(), rustix::process::Signal::TERM);
        let _ = self.process.wait();
    }
}

/// A session on either server.
pub fn login(address: SocketAddr, user: &str) -> Result<Imap, String> {
    let session = Imap::connect(address, Security::Clear).and_then(|mut imap| {
        imap.login(user, "secret")?;
        Ok(imap)
    });
    session.map_err(|error| format!("{user} at {address}: {error}"))
}

fn configuration(root: &str, users: &str, port: u16) -> String {
    format!(
        "base_dir = {root}/run\nstate_dir = {root}/run\nlog_path = {root}/log\nprotocols = imap lmtp\nlisten = 127.0.0.1\nssl = no\n\
         disable_plaintext_auth = no\nfirst_valid_uid = 1\nmail_location = maildir:~/Maildir\nnamespace inbox {{\n inbox = yes\n}}\n\
         passdb {{\n driver = passwd-file\n args = {users}\n}}\nuserdb {{\n driver = passwd-file\n args = {users}\n}}\n\
         service imap-login {{\n inet_listener imap {{\n port = {port}\n }}\n inet_listener imaps {{\n port = 0\n }}\n}}\n\
         auth_mechanisms = plain login cram-md5\nauth_username_format = %Ln\nservice lmtp {{\n unix_listener {root}/lmtp {{\n mode = 0666\n }}\n}}\n\
         service auth {{\n unix_listener {root}/auth-client {{\n mode = 0666\n }}\n}}\n"
    )
}
