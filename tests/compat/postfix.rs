//! A real Postfix, for one dialogue after the other.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use test_support::clients::greets;
use test_support::{Patience, wait_for};

/// A running Postfix; it ends when it is dropped.
pub struct Postfix {
    directory: tempfile::TempDir,
    pub address: SocketAddr,
}

/// A port that nobody has now.
pub fn free_port() -> Result<SocketAddr, String> {
    let port = test_support::free_port(Ipv4Addr::LOCALHOST).map_err(|error| error.to_string())?;
    Ok((Ipv4Addr::LOCALHOST, port).into())
}

impl Postfix {
    /// Starts it with these lines of main.cf on one port.
    pub fn start(main_cf: &str) -> Result<Self, String> {
        Self::start_at(free_port()?, main_cf)
    }

    /// Starts it on an address.
    pub fn start_at(address: SocketAddr, main_cf: &str) -> Result<Self, String> {
        Self::start_with(address, main_cf, "")
    }

    /// Starts it on an address, with further services.
    pub fn start_with(address: SocketAddr, main_cf: &str, services: &str) -> Result<Self, String> {
        Self::start_with_files(address, main_cf, services, &[])
    }

    /// Starts it with more services and with files beside main.cf; `{etc}` stands for their directory.
    pub fn start_with_files(
        address: SocketAddr,
        main_cf: &str,
        services: &str,
        files: &[(String, String)],
    ) -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let postfix = Self { directory, address };
        postfix.configure(main_cf, services, files).map_err(|error| error.to_string())?;
        let status = postfix.command("start").status().map_err(|error| error.to_string())?;
        if !status.success() {
            return Err(format!("postfix start: {status}\n{}", postfix.log()));
        }
        wait_for("Postfix's greeting", Patience::default(), || greets(address).then_some(()))
            .map_err(|error| format!("{error}\n{}", postfix.log()))?;
        Ok(postfix)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.root().join("log")).unwrap_or_default()
    }

    fn root(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    /// The directory of its configuration.
    pub fn etc(&self) -> PathBuf {
        self.root().join("etc")
    }

    /// The directory of its queue.
    pub fn spool(&self) -> PathBuf {
        self.root().join("spool")
    }

    fn configure(&self, main_cf: &str, more: &str, files: &[(String, String)]) -> std::io::Result<()> {
        let root = self.root();
        let fill = |text: &str| text.replace("{etc}", &root.join("etc").display().to_string());
        fs::set_permissions(&root, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        for name in ["etc", "spool", "data"] {
            fs::create_dir(root.join(name))?;
        }
        let owner = mail_posix::users::by_name("postfix")?.map(|user| (user.uid, user.gid));
        std::os::unix::fs::chown(root.join("data"), owner.map(|owner| owner.0), owner.map(|owner| owner.1))?;
        let shown = root.display();
        let own = format!(
            "queue_directory = {shown}/spool\ndata_directory = {shown}/data\nmaillog_file = {shown}/log\nmaillog_file_prefixes = {shown}\n\
             alias_database =\n"
        );
        fs::write(root.join("etc/main.cf"), format!("{}\n{own}", fill(main_cf)))?;
        for (name, text) in files {
            fs::write(root.join("etc").join(name), fill(text))?;
        }
        let services = [
            "cleanup unix n - n - 0 cleanup",
            "qmgr unix n - n 300 1 qmgr",
            "rewrite unix - - n - - trivial-rewrite",
            "bounce unix - - n - 0 bounce",
            "defer unix - - n - 0 bounce",
            "trace unix - - n - 0 bounce",
            "proxymap unix - - n - - proxymap",
            "anvil unix - - n - 1 anvil",
            "tlsmgr unix - - n 1000? 1 tlsmgr",
            "discard unix - - n - - discard",
            "lmtp unix - - n - - lmtp",
            "smtp unix - - n - - smtp",
            "relay unix - - n - - smtp",
            "local unix - n n - - local",
            "virtual unix - n n - - virtual",
            "error unix - - n - - error",
            "retry unix - - n - - error",
            "postlog unix-dgram n - n - 1 postlogd",
        ];
        let master = format!("{} inet n - n - - smtpd\n{}\n{more}\n", self.address, services.join("\n"));
        fs::write(root.join("etc/master.cf"), master)
    }

    fn command(&self, what: &str) -> Command {
        let mut command = Command::new(test_support::harness::program("postfix").unwrap_or_else(|| "postfix".into()));
        command.arg("-c").arg(self.root().join("etc")).arg(what);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        let _ = self.command("stop").status();
    }
}
