//! Debian's Postfix, with directories of its own.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::process::{Command, Stdio};

use test_support::harness::program;
use test_support::{Patience, clients, wait_for};

use super::smtp::{Mta, Removed};
use super::{Server, cpu};

/// A running Postfix. It ends when it is dropped.
pub struct Postfix {
    directory: tempfile::TempDir,
    address: SocketAddr,
    removed: Removed,
}

impl Postfix {
    /// Starts Postfix with these lines in main.cf; none where it is not installed or we are not root.
    pub fn start(lines: &str) -> Result<Option<Self>, String> {
        if program("postfix").is_none() || !are_root() {
            return Ok(None);
        }
        let postfix = Self::lay_out(lines).map_err(|error| format!("Postfix: {error}"))?;
        postfix.control("start")?;
        wait_for("Postfix", Patience::default(), || clients::greets(postfix.address).then_some(()))?;
        Ok(Some(postfix))
    }

    fn lay_out(lines: &str) -> std::io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("postfix-").tempdir()?;
        let root = directory.path();
        fs::set_permissions(root, fs::Permissions::from_mode(0o755))?;
        for name in ["etc", "queue", "data", "mail"] {
            fs::create_dir(root.join(name))?;
        }
        let owner = account("postfix")?;
        chown(root.join("data"), Some(owner), None)?;
        chown(root.join("mail"), Some(65534), Some(65534))?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let shown = root.display();
        let main_cf = format!(
            "compatibility_level = 3.6\nmyhostname = theirs.example\nmydestination =\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\n\
             mynetworks = 127.0.0.0/8\nqueue_directory = {shown}/queue\ndata_directory = {shown}/data\nvirtual_mailbox_base = {shown}/mail\n\
             maillog_file_prefixes = {shown}\nmaillog_file = {shown}/maillog\nsmtpd_peername_lookup = no\n{lines}"
        );
        fs::write(root.join("etc/main.cf"), main_cf)?;
        let master = fs::read_to_string("/usr/share/postfix/master.cf.dist")
            .or_else(|_| fs::read_to_string("/etc/postfix/master.cf"))?;
        let port = format!("{address} inet n - n - - smtpd");
        let services =
            master.lines().map(|line| if line.starts_with("smtp      inet") { port.clone() } else { unchrooted(line) });
        let mut services = services.collect::<Vec<_>>().join("\n");
        if !services.contains("\npostlog") {
            services.push_str("\npostlog unix-dgram n - n - 1 postlogd");
        }
        fs::write(root.join("etc/master.cf"), services + "\n")?;
        let removed = Removed::in_log(root.join("maillog"));
        Ok(Self { directory, address, removed })
    }

    /// The pid of master(8).
    fn master(&self) -> Option<u32> {
        fs::read_to_string(self.directory.path().join("queue/pid/master.pid")).ok()?.trim().parse().ok()
    }

    fn control(&self, word: &str) -> Result<(), String> {
        let configuration = self.directory.path().join("etc");
        let status = Command::new("postfix").arg("-c").arg(configuration).arg(word).status();
        let status = status.map_err(|error| format!("postfix {word}: {error}"))?;
        if status.success() { Ok(()) } else { Err(format!("postfix {word}: {status}")) }
    }
}

/// Whether this process has the rights that the reference servers need.
pub fn are_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Debian runs most services in a chroot that its package fills; ours is empty.
fn unchrooted(line: &str) -> String {
    let fields: Vec<&str> = line.split_whitespace().collect();
    match fields[..] {
        [name, kind, private, unpriv, "y", ..] if !line.starts_with([' ', '#']) => {
            format!("{name} {kind} {private} {unpriv} n {}", fields[5..].join(" "))
        }
        _ => line.to_owned(),
    }
}

fn account(name: &str) -> std::io::Result<u32> {
    let passwd = fs::read_to_string("/etc/passwd")?;
    let uid = passwd.lines().find_map(|line| line.strip_prefix(&format!("{name}:"))?.split(':').nth(1)?.parse().ok());
    uid.ok_or_else(|| std::io::Error::other(format!("no user {name}")))
}

impl Server for Postfix {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn cpu(&self) -> f64 {
        self.master().map_or(0.0, cpu::of_tree)
    }

    fn memory(&self) -> f64 {
        self.master().map_or(0.0, cpu::memory_of_tree)
    }
}

impl Mta for Postfix {
    fn removed(&mut self) -> usize {
        self.removed.count()
    }

    fn tool(&self, name: &str, arguments: &[&str]) -> Result<(), String> {
        let mut command = Command::new(program(name).ok_or_else(|| format!("{name} is not installed"))?);
        command.arg("-c").arg(self.directory.path().join("etc")).args(arguments).stdout(Stdio::null());
        let status = command.status().map_err(|error| format!("{name}: {error}"))?;
        if status.success() { Ok(()) } else { Err(format!("{name}: {status}")) }
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        let _ = self.control("stop");
    }
}
