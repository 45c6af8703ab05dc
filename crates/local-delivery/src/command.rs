//! `|command`: a program of the recipient's that reads the message, as local(8) and pipe(8) run one.

use std::ffi::OsStr;
use std::io::{self, PipeReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus};
use std::time::{Duration, Instant};

use mail_posix::command::{kill_all, on_a_leash};
use mail_store::ToLf;
use mail_types::{EnhancedStatus, Octets};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags};

use crate::deliverer::Task;
use crate::job::{Program, Report};

/// `_PATH_DEFPATH`: where programs without a path are looked for.
const PATH: &str = "/usr/bin:/bin";
/// Octets of output that a report shows.
const OUTPUT_MAX: usize = 4096;
/// What a command line may hold that is run without a shell.
const PLAIN: &str = "1234567890!@%-_=+:,./abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ \t";

/// Runs a program with a task's message as its input: `From ` line, header fields, content, with LF line ends.
#[must_use]
pub fn run(program: &Program, task: &Task) -> Report {
    let deadline = Instant::now() + Duration::from_millis(program.time_limit);
    let mut running = match Running::start(program, deadline) {
        Ok(running) => running,
        Err(report) => return report,
    };
    let fed = running.feed(task);
    let ended = running.end();
    let output = printable(&running.output);
    match (ended, fed) {
        (Err(error), _) => Report::deferred(3, 0, format!("Command failed: {error}: \"{}\"", program.command)),
        (Ok(None), _) => {
            let text = format!("Command time limit exceeded: \"{}\"{}", program.command, shown(&output));
            Report::bounced(3, 0, text)
        }
        (Ok(Some(status)), Err(error)) if status.success() => {
            Report::deferred(3, 0, format!("Command failed: {error}: \"{}\"", program.command))
        }
        (Ok(Some(status)), _) => judge(status, &program.command, &output),
    }
}

/// What the end of a program says about the mail.
fn judge(status: ExitStatus, command: &str, output: &str) -> Report {
    let Some(code) = status.code() else {
        let signal = status.signal().unwrap_or(0);
        return Report::deferred(3, 0, format!("Command died with signal {signal}: \"{command}\"{}", shown(output)));
    };
    if code == 0 {
        return Report::Delivered { text: format!("delivered to command: {command}") };
    }
    // A program that knows RFC 3463 says itself what is the matter.
    if let Some((status, text)) = stated(output) {
        return match status.severity() {
            mail_types::Severity::Permanent => Report::Bounced { status, text },
            _ => Report::Deferred { status, text },
        };
    }
    match sysexit(code) {
        Some((permanent, subject, detail, meaning)) => {
            let text = format!("{meaning}{}", shown(output));
            if permanent { Report::bounced(subject, detail, text) } else { Report::deferred(subject, detail, text) }
        }
        None => Report::bounced(3, 0, format!("Command died with status {code}: \"{command}\"{}", shown(output))),
    }
}

/// sysexits(3): whether it is permanent, subject and detail of the enhanced status, and the words.
fn sysexit(code: i32) -> Option<(bool, u16, u16, &'static str)> {
    Some(match code {
        64 => (true, 3, 0, "command line usage error"),
        65 => (true, 6, 0, "data format error"),
        66 => (true, 3, 0, "cannot open input"),
        67 => (true, 1, 1, "user unknown"),
        68 => (true, 1, 2, "host name unknown"),
        69 => (true, 3, 0, "service unavailable"),
        70 => (true, 3, 0, "internal software error"),
        71 => (false, 3, 0, "system resource problem"),
        72 => (true, 3, 0, "critical OS file missing"),
        73 => (true, 2, 0, "can't create user output file"),
        74 => (true, 3, 0, "input/output error"),
        75 => (false, 3, 0, "temporary failure"),
        76 => (true, 5, 0, "remote error in protocol"),
        77 => (true, 7, 0, "permission denied"),
        78 => (true, 3, 5, "local configuration error"),
        _ => return None,
    })
}

/// The enhanced status at the beginning of the output, of class 4 or 5, and what follows it.
fn stated(output: &str) -> Option<(EnhancedStatus, String)> {
    let (first, rest) = output.split_once(' ').unwrap_or((output, ""));
    let status: EnhancedStatus = first.parse().ok()?;
    (status.severity() != mail_types::Severity::Success).then(|| (status, rest.trim().to_owned()))
}

/// The output as log and bounce may show it.
fn printable(output: &[u8]) -> String {
    let safe = |byte: &u8| match byte {
        b'\t' | b'\n' => ' ',
        0x20..=0x7e => char::from(*byte),
        _ => '_',
    };
    output.iter().map(safe).collect::<String>().trim_end().to_owned()
}

fn shown(output: &str) -> String {
    if output.is_empty() { String::new() } else { format!(". Command output: {output}") }
}

/// The argument vectors to try: the words of the line itself where no shell is needed, then the shell.
fn vectors(program: &Program) -> Vec<Vec<&str>> {
    let command = program.command.as_str();
    let own: Vec<&str> = program.shell.split_ascii_whitespace().collect();
    if !own.is_empty() {
        return vec![[own, vec![command]].concat()];
    }
    let shell = vec!["/bin/sh", "-c", command];
    let plain: Vec<&str> = command.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
    let needs_shell = plain.is_empty() || command.chars().any(|c| !PLAIN.contains(c));
    if needs_shell { vec![shell] } else { vec![plain, shell] }
}

struct Running {
    child: Child,
    end: OwnedFd,
    input: Option<ChildStdin>,
    reader: Option<PipeReader>,
    output: Vec<u8>,
    deadline: Instant,
    ended: bool,
}

impl Running {
    fn start(program: &Program, deadline: Instant) -> Result<Self, Report> {
        let later = |error: io::Error| Report::deferred(3, 0, format!("Delivery failed: {error}"));
        if let Some(directory) = program.directory.as_ref().map(path_of) {
            // Looked at before, because a failed start would not say which of the two is missing.
            let unusable = |error| format!("cannot change directory to {}: {error}", directory.display());
            std::fs::metadata(directory.join(".")).map_err(|error| Report::deferred(3, 5, unusable(error)))?;
        }
        let mut vectors = vectors(program).into_iter().peekable();
        loop {
            let Some(words) = vectors.next() else { return Err(later(io::ErrorKind::NotFound.into())) };
            let (reader, writer) = io::pipe().map_err(later)?;
            let mut command = Self::command(program, &words);
            command.stdin(std::process::Stdio::piped()).stdout(writer.try_clone().map_err(later)?).stderr(writer);
            let started = on_a_leash(&mut command).spawn();
            drop(command);
            match started {
                Ok(child) => return Self::watch(child, reader, deadline).map_err(later),
                // The name of a shell's own command.
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound
                        && !words[0].contains('/')
                        && vectors.peek().is_some() => {}
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
                        || error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) =>
                {
                    return Err(Report::bounced(
                        3,
                        0,
                        format!("Command not executed: {error}: \"{}\"", program.command),
                    ));
                }
                Err(error) => return Err(later(error)),
            }
        }
    }

    fn command(program: &Program, words: &[&str]) -> Command {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env_clear().current_dir("/");
        for name in &program.export {
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.into())),
                None => (name.as_str(), std::env::var_os(name)),
            };
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        let values = program.environment.iter();
        command.envs(values.map(|(name, value)| (name, OsStr::from_bytes(value.as_bytes()))));
        command.env("PATH", PATH);
        if let Some(directory) = &program.directory {
            command.current_dir(path_of(directory));
        }
        command
    }

    fn watch(mut child: Child, reader: PipeReader, deadline: Instant) -> io::Result<Self> {
        let pid = Pid::from_child(&child);
        let watched = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from);
        let input = child.stdin.take();
        let ready = watched.and_then(|end| {
            input.as_ref().map_or(Ok(()), |input| rustix::io::ioctl_fionbio(input, true))?;
            rustix::io::ioctl_fionbio(&reader, true)?;
            Ok(end)
        });
        match ready {
            Ok(end) => Ok(Self { child, end, input, reader: Some(reader), output: Vec::new(), deadline, ended: false }),
            Err(error) => {
                kill_all(child.id());
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Gives the message to the program. One that stops reading is no failure: it may have seen enough.
    fn feed(&mut self, task: &Task) -> io::Result<()> {
        let head = format!("{}\n{}", task.job.from_line, task.job.prefix);
        let (mut lines, mut converted) = (ToLf::default(), Vec::new());
        lines.push(head.as_bytes(), &mut converted);
        let result = self.write(&converted).and_then(|()| {
            task.body.pieces(&task.job.omit, |piece| {
                converted.clear();
                lines.push(piece, &mut converted);
                self.write(&converted)
            })?;
            converted.clear();
            lines.finish(&mut converted);
            self.write(&converted)
        });
        self.input = None;
        match result {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }

    /// Writes all, or says `BrokenPipe` when the program reads no more, has ended, or has had its time.
    fn write(&mut self, mut octets: &[u8]) -> io::Result<()> {
        while !octets.is_empty() {
            let Some(input) = &mut self.input else { return Err(io::ErrorKind::BrokenPipe.into()) };
            match input.write(octets) {
                Ok(count) => octets = &octets[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait()?;
                    if self.ended || self.is_late() {
                        return Err(io::ErrorKind::BrokenPipe.into());
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn is_late(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Waits until the program reads, writes or ends, or its time is over.
    fn wait(&mut self) -> io::Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut entries = vec![PollFd::new(&self.end, PollFlags::IN)];
        entries.extend(self.reader.as_ref().map(|reader| PollFd::new(reader, PollFlags::IN)));
        entries.extend(self.input.as_ref().map(|input| PollFd::new(input, PollFlags::OUT)));
        match poll(&mut entries, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.ended = !entries[0].revents().is_empty();
        drop(entries);
        self.take_output();
        Ok(())
    }

    /// Reads what there is; beyond the limit it is dropped, so that no program waits for us.
    fn take_output(&mut self) {
        let mut buffer = [0; 4096];
        while let Some(reader) = &mut self.reader {
            match reader.read(&mut buffer) {
                Ok(0) => self.reader = None,
                Ok(count) => {
                    let room = OUTPUT_MAX - self.output.len();
                    self.output.extend_from_slice(&buffer[..count.min(room)]);
                    // One that writes without end is looked at again later.
                    if count == buffer.len() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    /// Waits for the end; none when the time was over and everything was killed.
    fn end(&mut self) -> io::Result<Option<ExitStatus>> {
        while !self.ended && !self.is_late() {
            self.wait()?;
        }
        if !self.ended {
            kill_all(self.child.id());
        }
        let status = self.child.wait()?;
        self.take_output();
        Ok(self.ended.then_some(status))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Whatever went wrong, no program is left behind unwatched.
        if matches!(self.child.try_wait(), Ok(None)) {
            kill_all(self.child.id());
            let _ = self.child.wait();
        }
    }
}

fn path_of(path: &Octets) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(path.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliverer::tests::task;

    fn program(command: &str) -> Program {
        Program {
            command: command.to_owned(),
            shell: String::new(),
            directory: None,
            environment: vec![("SENDER".to_owned(), "a@b".into())],
            export: vec!["X=1".to_owned()],
            time_limit: 20_000,
        }
    }

    fn ran(command: &str) -> Report {
        run(&program(command), &task(b"Subject: x\r\n\r\nFrom here\r\n"))
    }

    fn delivered(command: &str) -> bool {
        ran(command) == Report::Delivered { text: format!("delivered to command: {command}") }
    }

    #[test]
    fn a_program_reads_the_message_and_little_else() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("out").display().to_string();
        assert!(delivered(&format!("cat > {path}; env >> {path}; pwd >> {path}")));
        let text = std::fs::read_to_string(path).expect("written");
        let message = "From MAILER-DAEMON  Sun Nov 22 14:50:20 2026\nReturn-Path: <>\nSubject: x\n\nFrom here\n";
        let environment = text.strip_prefix(message).unwrap_or_else(|| panic!("{text}"));
        for line in ["PATH=/usr/bin:/bin", "SENDER=a@b", "X=1", "/"] {
            assert!(environment.lines().any(|found| found == line), "{line}: {environment}");
        }
        assert!(!environment.contains("CARGO") && !environment.contains("HOME="), "{environment}");
    }

    #[test]
    fn no_shell_runs_what_needs_none() {
        let line = program("/bin/echo a b");
        assert_eq!(vectors(&line)[0], ["/bin/echo", "a", "b"]);
        assert_eq!(vectors(&program("echo a;b")), [["/bin/sh", "-c", "echo a;b"]]);
        let own = Program { shell: "/bin/smrsh -c".into(), ..line };
        assert_eq!(vectors(&own), [["/bin/smrsh", "-c", "/bin/echo a b"]]);
        assert!(delivered("exit 0"), "a command of the shell itself");
    }

    // The words of local(8) for what became of a command.
    #[test]
    fn the_end_of_a_program_decides_about_the_mail() {
        let bounced = |subject, detail, text: &str| Report::bounced(subject, detail, text);
        let deferred = |subject, detail, text: &str| Report::deferred(subject, detail, text);
        assert_eq!(ran("exit 75"), deferred(3, 0, "temporary failure"));
        assert_eq!(ran("exit 67"), bounced(1, 1, "user unknown"));
        assert_eq!(
            ran("echo no such thing; exit 65"),
            bounced(6, 0, "data format error. Command output: no such thing")
        );
        assert_eq!(ran("exit 3"), bounced(3, 0, "Command died with status 3: \"exit 3\""));
        assert_eq!(ran("echo 4.2.2 full; exit 3"), deferred(2, 2, "full"));
        assert_eq!(ran("kill -9 $$"), deferred(3, 0, "Command died with signal 9: \"kill -9 $$\""));
        assert_eq!(
            ran("printf '\\033[2J\\n\\303'; exit 69"),
            bounced(3, 0, "service unavailable. Command output: _[2J _")
        );
        assert!(matches!(ran("/nonexistent/program"), Report::Bounced { .. }));
        let gone = Program { directory: Some("/nonexistent".into()), ..program("/bin/true") };
        assert!(matches!(run(&gone, &task(b"x")), Report::Deferred { .. }));
    }

    #[test]
    fn a_program_has_so_much_time_and_takes_its_children_with_it() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("pid").display().to_string();
        // Where the machine gives the shell no time to write, it gets more.
        let tries = [300, 3000, 30_000].into_iter().map(|time_limit| {
            let late = Program { time_limit, ..program(&format!("sleep 600 & echo $! > {path}; wait")) };
            let Report::Bounced { text, .. } = run(&late, &task(b"x")) else { panic!("too late") };
            assert!(text.starts_with("Command time limit exceeded: "), "{text}");
            std::fs::read_to_string(&path).unwrap_or_default()
        });
        let pid = tries.into_iter().find(|pid| pid.ends_with('\n')).expect("written");
        let alive = || {
            let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
            !state.is_empty() && !state.contains(") Z ")
        };
        // The kill is sent; the kernel carries it out when it comes to it.
        while alive() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_program_that_neither_reads_nor_stops_talking_stops_nobody() {
        let large = vec![b'x'; 1_000_000];
        assert_eq!(
            run(&program("exit 0"), &task(&large)),
            Report::Delivered { text: "delivered to command: exit 0".into() }
        );
        let talks = "head -c 3000000 /dev/zero | tr '\\0' y; exit 69";
        let Report::Bounced { text, .. } = ran(talks) else { panic!("service unavailable") };
        assert!(text.len() < 2 * OUTPUT_MAX, "{}", text.len());
        // A child in the background that keeps the output open is not waited for.
        assert!(delivered("sleep 600 & exit 0"));
    }
}
