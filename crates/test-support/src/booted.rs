//! A machine of its own whose first process is a real systemd: namespaces for network, mounts, names and processes, and a cgroup of its own, over
//! an overlay of this machine's files. Nothing that is written inside stays.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::feed::{feed, succeeded};
use crate::harness::program;
use crate::wait::{Patience, wait_for};

const SYSTEMD: &str = "/lib/systemd/systemd";

/// Arguments: the cgroup, a directory for everything, what is bound to /opt/postrider.
const BOOT: &str = r#"
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
r="$1/root"
mkdir "$1/up" "$1/work" "$r"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/up,workdir=$1/work" "$r"
mount -t proc proc "$r/proc"
mount -t sysfs -o ro sysfs "$r/sys"
mount -t cgroup2 cgroup2 "$r/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$r/dev"
for d in null zero full random urandom tty; do touch "$r/dev/$d"; mount --bind "/dev/$d" "$r/dev/$d"; done
mkdir "$r/dev/pts" "$r/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$r/dev/pts"
mount -t tmpfs tmpfs "$r/dev/shm"
ln -s pts/ptmx "$r/dev/ptmx"
ln -s /proc/self/fd "$r/dev/fd"
for d in run home; do mount -t tmpfs -o mode=755 tmpfs "$r/$d"; done
mount -t tmpfs tmpfs "$r/tmp"
mkdir -p "$r/opt/postrider"
mount --bind "$2" "$r/opt/postrider"
hostname server.info.net
ip link set lo up
echo '[Unit]' > "$r/etc/systemd/system/booted.target"
: > "$r/etc/machine-id"
rm -f "$r/etc/resolv.conf"
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$r" /lib/systemd/systemd --system --unit=booted.target
"#;

/// Why no systemd can be started here; none if it can.
pub(crate) fn missing() -> Option<String> {
    if !Path::new(SYSTEMD).exists() || program("nsenter").is_none() {
        return Some("systemd or nsenter is not installed".to_owned());
    }
    let made = cgroups().ok_or_else(|| io::Error::other("none is mounted")).and_then(Cgroup::new);
    made.err().map(|error| format!("no cgroup of version 2 can be made: {error}"))
}

/// Where cgroups of version 2 are mounted.
fn cgroups() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mut words = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    words.find(|words| words.get(2) == Some(&"cgroup2")).and_then(|words| words.get(1).map(PathBuf::from))
}

/// A cgroup, removed with all below it when dropped.
#[derive(Debug)]
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(above: PathBuf) -> io::Result<Self> {
        let name = tempfile::Builder::new().prefix("postrider-").tempfile()?;
        let path = above.join(name.path().file_name().unwrap_or_default());
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    fn remove(path: &Path) {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                Self::remove(&entry.path());
            }
        }
        let _ = fs::remove_dir(path);
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The kernel needs a moment to take leave of the processes.
        let _ = wait_for("the end of the cgroup", Patience(Duration::from_secs(30)), || {
            Self::remove(&self.0);
            (!self.0.exists()).then_some(())
        });
    }
}

/// The machine. Its processes end when it is dropped.
#[derive(Debug)]
pub struct Booted {
    outer: Child,
    pid: u32,
    _cgroup: Cgroup,
    _top: tempfile::TempDir,
}

impl Booted {
    /// Boots; `/opt/postrider` inside is `installed`.
    ///
    /// # Errors
    /// systemd does not come up.
    pub fn new(installed: &Path) -> Result<Self, String> {
        Self::boot(installed).map_err(|error| format!("systemd cannot be started: {error}"))
    }

    fn boot(installed: &Path) -> io::Result<Self> {
        let cgroup = Cgroup::new(cgroups().ok_or_else(|| io::Error::other("no cgroups"))?)?;
        let top = tempfile::Builder::new().prefix("postrider-booted-").tempdir()?;
        let unshare = "echo $$ > \"$1/cgroup.procs\"; shift; exec unshare --net --mount --uts --ipc --pid --cgroup --fork --kill-child=KILL sh -c \"$@\"";
        let outer = Command::new("sh")
            .args(["-c", unshare, "sh"])
            .arg(&cgroup.0)
            .args([BOOT, "sh"])
            .arg(top.path())
            .arg(installed)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut booted = Self { outer, pid: 0, _cgroup: cgroup, _top: top };
        booted.pid = booted.first_process()?;
        booted.wait_until("systemctl is-active booted.target").map_err(io::Error::other)?;
        Ok(booted)
    }

    fn first_process(&mut self) -> io::Result<u32> {
        let children = format!("/proc/{0}/task/{0}/children", self.outer.id());
        let is_systemd =
            |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "systemd");
        let found = wait_for("systemd", Patience::default(), || {
            let pids = fs::read_to_string(&children).ok()?;
            pids.split_whitespace().next()?.parse().ok().filter(is_systemd)
        });
        found.map_err(io::Error::other)
    }

    /// Runs a line of shell inside, with standard input.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn try_shell(&self, line: &str, input: &str) -> Result<Output, String> {
        let wrong = |error: io::Error| format!("{line}: {error}");
        let mut command = Command::new("nsenter");
        command.args([
            "-t",
            &self.pid.to_string(),
            "-m",
            "-u",
            "-i",
            "-n",
            "-p",
            "-C",
            "-r",
            "-w",
            "--",
            "sh",
            "-c",
            line,
        ]);
        command
            .env_remove("MAIL_CONFIG")
            .env_remove("NOTIFY_SOCKET")
            .env("PATH", "/opt/postrider/sbin:/usr/sbin:/usr/bin:/sbin:/bin");
        feed(command, input.as_bytes()).map_err(wrong)
    }

    /// Runs a line of shell that must succeed; gives what it printed, errors last.
    ///
    /// # Errors
    /// Its exit status and what it printed.
    pub fn shell(&self, line: &str) -> Result<String, String> {
        self.shell_with(line, "")
    }

    /// As [`Booted::shell`], with standard input.
    ///
    /// # Errors
    /// As [`Booted::shell`].
    pub fn shell_with(&self, line: &str, input: &str) -> Result<String, String> {
        succeeded(line, &self.try_shell(line, input)?)
    }

    /// Waits until a shell line succeeds inside; gives what it printed.
    ///
    /// # Errors
    /// What it printed last.
    pub fn wait_until(&self, line: &str) -> Result<String, String> {
        let mut last = String::new();
        let found = wait_for(line, Patience::default(), || match self.shell(line) {
            Ok(text) => Some(text),
            Err(error) => {
                last = error;
                None
            }
        });
        found.map_err(|error| format!("{error}\n{last}"))
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        // Killing `unshare` kills systemd, and with it everything inside.
        let _ = self.outer.kill();
        let _ = self.outer.wait();
    }
}
