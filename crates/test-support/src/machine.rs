//! A machine of its own inside this one: network, mounts, processes and host name in namespaces, with the files of the real system below.
//!
//! What is written to /etc, /var, /home and /run stays inside. So the user's page can be followed word by word, with its ports, its users and its
//! /etc/resolv.conf, without touching the machine that runs the test. Needs root; tests name [`crate::harness::Need::NetworkNamespace`].

use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::binaries;
use crate::feed::{feed, succeeded};
use crate::wait::{Patience, wait_for};

/// The users of our roles, as systemd-sysusers would make them.
const ROLES: &[&str] =
    &["postrider", "postrider-smtpd", "postrider-local", "postrider-remote", "postrider-login", "postrider-auth"];

/// Where `postrider up` prints.
const UP: &str = "/run/up.out";

const SETUP: &str = r#"
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
for d in etc var; do
    mkdir -p "$1/$d/up" "$1/$d/work"
    mount -t overlay overlay -o "lowerdir=/$d,upperdir=$1/$d/up,workdir=$1/$d/work" "/$d"
done
mount -t tmpfs -o mode=755 tmpfs /home
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock
hostname "$2"
ip link set lo up
echo ready
exec cat >/dev/null
"#;

/// A machine. Its processes end when it is dropped.
pub struct Machine {
    outer: Child,
    pid: u32,
    name: String,
    _mount_point: tempfile::TempDir,
}

impl Machine {
    /// Makes a machine with a host name; its network is the loopback interface alone.
    ///
    /// # Errors
    /// A program is missing, or a right.
    pub fn new(name: &str) -> Result<Self, String> {
        Self::boot(name).map_err(|error| format!("machine {name}: {error}"))
    }

    fn boot(name: &str) -> io::Result<Self> {
        let mount_point = tempfile::Builder::new().prefix("postrider-machine-").tempdir()?;
        let mut outer = Command::new("unshare")
            .args([
                "--net",
                "--mount",
                "--uts",
                "--pid",
                "--fork",
                "--kill-child=KILL",
                "--mount-proc",
                "sh",
                "-c",
                SETUP,
                "sh",
            ])
            .arg(mount_point.path())
            .arg(name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = outer.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        if line.trim() != "ready" {
            let _ = outer.kill();
            let _ = outer.wait();
            return Err(io::Error::other("it did not come up"));
        }
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", outer.id()))?;
        let pid = children.split_whitespace().next().and_then(|pid| pid.parse().ok());
        let pid = pid.ok_or_else(|| io::Error::other("its first process is gone"))?;
        Ok(Self { outer, pid, name: name.to_owned(), _mount_point: mount_point })
    }

    /// A program to be run inside.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid.to_string(), "-n", "-m", "-u", "-p", "--", program]);
        command.env_remove("MAIL_CONFIG").env_remove("NOTIFY_SOCKET").current_dir("/");
        command
    }

    /// Runs a line of shell inside, with standard input.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn try_shell(&self, line: &str, input: &str) -> Result<Output, String> {
        let wrong = |error: io::Error| format!("{}: {line}: {error}", self.name);
        let mut command = self.command("sh");
        command.arg("-c").arg(line);
        feed(command, input.as_bytes()).map_err(wrong)
    }

    /// Runs a line of shell that must succeed; gives what it printed, errors last.
    ///
    /// # Errors
    /// Its exit status and what it printed.
    pub fn shell(&self, line: &str) -> Result<String, String> {
        self.shell_with(line, "")
    }

    /// As [`Machine::shell`], with standard input.
    ///
    /// # Errors
    /// As [`Machine::shell`].
    pub fn shell_with(&self, line: &str, input: &str) -> Result<String, String> {
        succeeded(&format!("{}: {line}", self.name), &self.try_shell(line, input)?)
    }

    /// Writes a file inside.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &str, text: &str) -> Result<(), String> {
        self.shell_with(&format!("mkdir -p \"$(dirname '{path}')\" && cat > '{path}'"), text).map(drop)
    }

    /// The text of a file inside; empty if there is none.
    #[must_use]
    pub fn read(&self, path: &str) -> String {
        self.try_shell(&format!("cat {path}"), "")
            .map_or(String::new(), |o| String::from_utf8_lossy(&o.stdout).into_owned())
    }

    /// Makes a user with a home directory and a password.
    ///
    /// # Errors
    /// The databases cannot be written.
    pub fn add_user(&self, name: &str, uid: u32, password: &str) -> Result<(), String> {
        self.shell(&format!(
            "echo '{name}:x:{uid}:' >> /etc/group && echo '{name}:x:{uid}:{uid}:{name}:/home/{name}:/bin/sh' >> /etc/passwd && \
             echo '{name}:*:19000:0:99999:7:::' >> /etc/shadow && mkdir -m 700 /home/{name} && chown {uid}:{uid} /home/{name} && \
             echo '{name}:{password}' | chpasswd -c SHA512"
        ))
        .map(drop)
    }

    /// Gives the loopback interface another address.
    ///
    /// # Errors
    /// The address is not accepted.
    pub fn add_address(&self, address: &str) -> Result<(), String> {
        self.shell(&format!("ip address add {address} dev lo")).map(drop)
    }

    /// Lays a cable to another machine.
    ///
    /// # Errors
    /// The interfaces cannot be made.
    pub fn connect(&self, own: Ipv4Addr, other: &Self, theirs: Ipv4Addr) -> Result<(), String> {
        let (here, there) = (format!("to{}", other.pid), format!("to{}", self.pid));
        let made = Command::new("ip")
            .args([
                "link",
                "add",
                &here,
                "netns",
                &self.pid.to_string(),
                "type",
                "veth",
                "peer",
                "name",
                &there,
                "netns",
            ])
            .arg(other.pid.to_string())
            .status();
        if !made.is_ok_and(|status| status.success()) {
            return Err("the cable cannot be laid".to_owned());
        }
        self.shell(&format!("ip address add {own}/24 dev {here} && ip link set {here} up"))?;
        other.shell(&format!("ip address add {theirs}/24 dev {there} && ip link set {there} up")).map(drop)
    }

    /// Installs our programs, the users of our roles, and the links under which people call the commands.
    ///
    /// # Errors
    /// The programs cannot be built or copied.
    pub fn install(&self) -> Result<(), String> {
        let built = binaries::paths()?;
        for (number, role) in ROLES.iter().enumerate() {
            let uid = 900 + number;
            let line = format!("{role}:x:{uid}:900:{role}:/var/spool/postrider:/usr/sbin/nologin");
            self.shell(&format!("echo '{line}' >> /etc/passwd"))?;
        }
        self.shell(
            "echo 'postrider:x:900:' >> /etc/group; getent group postdrop || echo 'postdrop:x:910:' >> /etc/group",
        )?;
        self.shell("mkdir -p /run/postrider && mount -t tmpfs -o mode=755,suid,exec tmpfs /run/postrider")?;
        for name in binaries::PROGRAMS {
            let built: &PathBuf = built.get(*name).ok_or_else(|| format!("{name} was not built"))?;
            self.copy_in(built, &format!("/run/postrider/{name}"))?;
        }
        self.shell("chgrp postdrop /run/postrider/postdrop && chmod 2755 /run/postrider/postdrop")?;
        for command in [
            "sendmail",
            "mailq",
            "newaliases",
            "postalias",
            "postcat",
            "postconf",
            "postfix",
            "postmap",
            "postqueue",
            "postsuper",
        ] {
            self.shell(&format!("ln -s postrider /run/postrider/{command}"))?;
        }
        // mail(1) calls /usr/sbin/sendmail: inside, that is ours.
        self.shell("touch /run/postrider/none; [ ! -e /usr/sbin/sendmail ] || mount --bind /run/postrider/postrider /usr/sbin/sendmail").map(drop)
    }

    fn copy_in(&self, from: &Path, to: &str) -> Result<(), String> {
        let file = fs::File::open(from).map_err(|error| format!("{}: {error}", from.display()))?;
        let status = self.command("sh").arg("-c").arg(format!("cat > {to} && chmod 755 {to}")).stdin(file).status();
        if status.is_ok_and(|status| status.success()) { Ok(()) } else { Err(format!("{to} cannot be written")) }
    }

    /// Starts a program inside that runs until the machine ends; its output goes to a file inside.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn background(&self, line: &str, log: &str) -> Result<(), String> {
        self.shell(&format!("PATH=/run/postrider:$PATH setsid sh -c '{line}' >{log} 2>&1 </dev/null &")).map(drop)
    }

    /// Starts `postrider up` inside with a configuration directory and further options; returns when it says that all daemons are ready. Its output
    /// goes to /run/up.out.
    ///
    /// # Errors
    /// It does not come up; with what it printed.
    pub fn start_up(&self, options: &str) -> Result<(), String> {
        self.background(&format!("postrider up {options}"), UP)?;
        self.wait_until(&format!("grep -q '^postrider: ready' {UP}"))
            .map(drop)
            .map_err(|error| format!("{error}\n{}", self.read(UP)))
    }

    /// Waits until a port answers inside.
    ///
    /// # Errors
    /// Nobody came.
    pub fn wait_for_port(&self, port: u16) -> Result<(), String> {
        let probe = format!("bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}'");
        wait_for(&format!("port {port} of {}", self.name), Patience::default(), || {
            self.try_shell(&probe, "").ok().filter(|output| output.status.success())
        })
        .map(drop)
    }

    /// Waits until a shell line succeeds inside.
    ///
    /// # Errors
    /// What it printed last.
    pub fn wait_until(&self, line: &str) -> Result<String, String> {
        let mut last = String::new();
        wait_for(line, Patience::default(), || match self.shell(line) {
            Ok(text) => Some(text),
            Err(error) => {
                last = error;
                None
            }
        })
        .map_err(|error| format!("{error}\n{last}"))
    }

    /// Starts a name server on 127.0.0.1:53 inside, and names it in /etc/resolv.conf. The zone is given in lines, see [`crate::dns::serve_lines`].
    ///
    /// # Errors
    /// It cannot be started.
    pub fn name_server(&self, zone: &str) -> Result<NameServer, String> {
        self.write("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:5 attempts:3\n")?;
        // This very program, also when another has been built in its place meanwhile.
        self.copy_in(Path::new("/proc/self/exe"), "/run/name-server")?;
        let mut command = self.command("/run/name-server");
        command.arg(crate::dns::SERVE).arg("127.0.0.1:53").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let stdout = child.stdout.take().ok_or("no output")?;
        let mut server = NameServer { child, answers: BufReader::new(stdout) };
        server.tell(zone)?;
        Ok(server)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The first process reads its standard input to the end; killing `unshare` kills it, and with it everything inside.
        let _ = self.outer.kill();
        let _ = self.outer.wait();
    }
}

/// A name server inside a machine.
pub struct NameServer {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl NameServer {
    /// Changes the zone; returns when the change is in force.
    ///
    /// # Errors
    /// A line is wrong, or the server ended.
    pub fn tell(&mut self, lines: &str) -> Result<(), String> {
        let stdin = self.child.stdin.as_mut().ok_or("the name server has ended")?;
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            writeln!(stdin, "{line}").map_err(|error| error.to_string())?;
            let mut answer = String::new();
            self.answers.read_line(&mut answer).map_err(|error| error.to_string())?;
            if answer.trim() != "ok" {
                return Err(format!("{line}: {answer}"));
            }
        }
        Ok(())
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
