//! The log of a daemon: records in, lines out, on a writer thread. A slow or full log never stops mail: what does not fit is counted and shown as a gap.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use decision::{Event, Ident, Level, Record, Stage};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// So many lines wait for the writer before lines are dropped.
const WAITING: usize = 16 * 1024;
/// LOG_MAIL of syslog(3).
const FACILITY: u8 = 2 << 3;

/// Where a daemon's lines go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogPlan {
    /// The daemon's own file, with RFC 3339 times.
    pub own: Option<PathBuf>,
    /// `maillog_file`, with syslog's times; `/dev/stdout` is the standard output.
    pub maillog: Option<PathBuf>,
    /// The socket of syslog.
    pub syslog: Option<PathBuf>,
    /// The host's name in syslog's form.
    pub host: String,
}

enum Message {
    Line { time: Timestamp, level: Level, ident: String, text: String },
    Reopen,
    Flush(SyncSender<()>),
}

/// A handle on the log; clones share the writer.
#[derive(Debug, Clone)]
pub struct Log {
    lines: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Message")
    }
}

impl Log {
    /// Starts the writer thread. A sink that cannot be opened is tried again with each reopening.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn start(plan: LogPlan) -> io::Result<Self> {
        let (lines, waiting) = sync_channel(WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer =
            Writer { sinks: Sinks::open(&plan), plan, zone: TimeZone::system(), dropped: Arc::clone(&dropped) };
        std::thread::Builder::new().name("log".to_owned()).spawn(move || writer.run(&waiting))?;
        Ok(Self { lines, dropped })
    }

    /// A log that goes nowhere, for tests of code that needs one.
    #[must_use]
    pub fn nowhere() -> Self {
        let (lines, _) = sync_channel(1);
        Self { lines, dropped: Arc::new(AtomicU64::new(0)) }
    }

    /// Writes a record down. Never waits.
    pub fn record(&self, record: &Record<'_>) {
        let line = Message::Line {
            time: Timestamp::now(),
            level: record.level,
            ident: record.ident.as_str().to_owned(),
            text: record.to_string(),
        };
        if self.lines.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes a line about the daemon itself.
    pub fn text(&self, ident: &Ident, text: &str) {
        self.record(&Record::new(ident, Stage::Daemon, Event::Text(text)));
    }

    /// Writes a warning about the daemon itself.
    pub fn warning(&self, ident: &Ident, text: &str) {
        self.record(&Record::new(ident, Stage::Daemon, Event::Warning(text)));
    }

    /// Opens the files again, after a rotation.
    pub fn reopen(&self) {
        let _ = self.lines.try_send(Message::Reopen);
    }

    /// Waits until everything recorded so far is written; for the end of a process.
    pub fn flush(&self) {
        let (done, written) = sync_channel(1);
        if self.lines.send(Message::Flush(done)).is_ok() {
            let _ = written.recv_timeout(std::time::Duration::from_secs(2));
        }
    }
}

struct Sinks {
    own: Option<File>,
    maillog: Option<File>,
    syslog: Option<UnixDatagram>,
}

impl Sinks {
    fn open(plan: &LogPlan) -> Self {
        let append = |path: &PathBuf| OpenOptions::new().create(true).append(true).mode(0o640).open(path).ok();
        let syslog = plan.syslog.as_ref().and_then(|path| {
            let socket = UnixDatagram::unbound().ok()?;
            socket.connect(path).ok()?;
            socket.set_nonblocking(true).ok()?;
            Some(socket)
        });
        Self { own: plan.own.as_ref().and_then(append), maillog: plan.maillog.as_ref().and_then(append), syslog }
    }
}

struct Writer {
    plan: LogPlan,
    sinks: Sinks,
    zone: TimeZone,
    dropped: Arc<AtomicU64>,
}

/// A batch of lines in the forms of the sinks.
#[derive(Default)]
struct Batch {
    own: String,
    maillog: String,
}

impl Writer {
    fn run(mut self, waiting: &Receiver<Message>) {
        let mut batch = Batch::default();
        while let Ok(message) = waiting.recv() {
            self.take(message, &mut batch);
            while batch.own.len() < 64 * 1024 {
                match waiting.try_recv() {
                    Ok(message) => self.take(message, &mut batch),
                    Err(_) => break,
                }
            }
            self.write(&mut batch);
        }
    }

    fn take(&mut self, message: Message, batch: &mut Batch) {
        match message {
            Message::Line { time, level, ident, text } => self.format(time, level, &ident, &text, batch),
            Message::Reopen => {
                self.write(batch);
                self.sinks = Sinks::open(&self.plan);
            }
            Message::Flush(done) => {
                self.write(batch);
                let _ = done.send(());
            }
        }
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let text = format!("warning: {dropped} log lines dropped: the log is too slow");
            self.format(Timestamp::now(), Level::Warning, "postrider/log", &text, batch);
        }
    }

    fn format(&self, time: Timestamp, level: Level, ident: &str, text: &str, batch: &mut Batch) {
        let (pid, local) = (std::process::id(), time.to_zoned(self.zone.clone()));
        if self.sinks.own.is_some() {
            let _ = writeln!(batch.own, "{} {ident}[{pid}]: {text}", local.strftime("%Y-%m-%dT%H:%M:%S%.6f%:z"));
        }
        if self.sinks.maillog.is_some() {
            let _ = writeln!(
                batch.maillog,
                "{} {} {ident}[{pid}]: {text}",
                local.strftime("%b %e %H:%M:%S"),
                self.plan.host
            );
        }
        if let Some(syslog) = &self.sinks.syslog {
            let severity = match level {
                Level::Info => 6,
                Level::Warning => 4,
                Level::Error => 3,
                Level::Fatal => 2,
            };
            let line = format!("<{}>{} {ident}[{pid}]: {text}", FACILITY | severity, local.strftime("%b %e %H:%M:%S"));
            let _ = syslog.send(line.as_bytes());
        }
    }

    fn write(&mut self, batch: &mut Batch) {
        for (sink, text) in [(&mut self.sinks.own, &mut batch.own), (&mut self.sinks.maillog, &mut batch.maillog)] {
            if let Some(file) = sink {
                // A full disk loses log lines, never mail.
                let _ = file.write_all(text.as_bytes());
            }
            text.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_carries_time_ident_and_process() {
        let directory = tempfile::tempdir().expect("a directory");
        let (own, maillog) = (directory.path().join("smtpd.log"), directory.path().join("maillog"));
        let plan =
            LogPlan { own: Some(own.clone()), maillog: Some(maillog.clone()), syslog: None, host: "mail".into() };
        let log = Log::start(plan).expect("a thread");
        log.warning(&Ident::postfix("postfix", "smtpd"), "beware\nof this");
        log.flush();
        let pid = std::process::id();
        let own = std::fs::read_to_string(own).expect("written");
        assert!(own.ends_with(&format!(" postfix/smtpd[{pid}]: warning: beware?of this\n")), "{own}");
        let maillog = std::fs::read_to_string(maillog).expect("written");
        assert!(maillog.ends_with(&format!(" mail postfix/smtpd[{pid}]: warning: beware?of this\n")), "{maillog}");
    }

    #[test]
    fn a_log_that_blocks_never_stops_its_writer() {
        // R8: nobody reads the channel; recording goes on and counts what is lost.
        let (lines, _unread) = sync_channel(2);
        let log = Log { lines, dropped: Arc::new(AtomicU64::new(0)) };
        for _ in 0..10 {
            log.text(&Ident::dovecot(), "line");
        }
        assert_eq!(log.dropped.load(Ordering::Relaxed), 8);
    }
}
