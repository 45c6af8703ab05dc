//! The log of a daemon: records in, lines out, on a writer thread. A slow, full or broken log never stops mail: what does not fit is counted and
//! shown as a gap.

mod outlet;
mod writer;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

use decision::{Event, Ident, Record, Stage};
use jiff::Timestamp;

use writer::{Line, Writer};

/// So many lines wait for the writer before lines are dropped.
const WAITING: usize = 16 * 1024;
/// How long the end of a process waits for its last lines.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Where a daemon's lines go.
#[derive(Debug, Clone, Default)]
pub struct LogPlan {
    /// The daemon's own file: every line, with RFC 3339 times.
    pub own: Option<PathBuf>,
    /// The daemon's own file of decision records, one JSON object per line.
    pub json: Option<PathBuf>,
    /// `maillog_file`, as postlogd(8) writes it; `/dev/stdout` is the standard output.
    pub maillog: Option<PathBuf>,
    /// Dovecot's `log_path`, for the lines in its grammar.
    pub dovecot: Option<PathBuf>,
    /// The system's log, for what the two above do not take.
    pub system: Option<System>,
    /// The name of this machine in the lines: its first label.
    pub host: String,
    /// The daemon's instance, as the records name it.
    pub instance: String,
    /// Files opened with rights that the writer will not have.
    pub(crate) given: Vec<(PathBuf, Arc<File>)>,
}

/// How the system's log is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum System {
    /// By the socket of syslog(3), which journald serves too.
    Syslog(PathBuf),
    /// By the standard error, which is a stream of journald's, with the priority before each line.
    Journal,
}

impl System {
    /// Whether the standard error of this process is a stream of journald's (`JOURNAL_STREAM` of systemd.exec(5)).
    #[must_use]
    pub fn stderr_is_journal() -> bool {
        let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
        let stream =
            stream.split_once(':').and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)));
        let standard = std::io::stderr().as_fd().try_clone_to_owned().map(File::from).and_then(|file| file.metadata());
        standard.is_ok_and(|metadata| stream == Some((metadata.dev(), metadata.ino())))
    }
}

impl LogPlan {
    /// Opens, with the rights of the caller, the logs that the administrator names; the daemon's own lie in a directory of its own. A file that
    /// is missing is made for the group `group`, so that every daemon can open it again after a rotation.
    pub(crate) fn open_with_rights(&mut self, group: u32) {
        for path in self.maillog.iter().chain(&self.dovecot) {
            let missing = !path.exists();
            // What cannot be opened is told by the writer.
            let Ok(file) = outlet::open(path) else { continue };
            let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
            if missing && is_file {
                let _ = std::os::unix::fs::fchown(&file, None, Some(group));
                let _ = rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(0o660));
            }
            if is_file {
                self.given.push((path.clone(), Arc::new(file)));
            }
        }
    }

    /// The descriptors of what [`LogPlan::open_with_rights`] opened.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.given.iter().map(|(_, file)| file.as_fd())
    }
}

enum Message {
    Line(Line),
    /// Something else is to be done.
    Wake,
    Flush(SyncSender<()>),
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Message")
    }
}

/// A handle on the log; clones share the writer.
#[derive(Debug, Clone)]
pub struct Log {
    lines: Sender<Message>,
    /// So many more lines may wait for the writer.
    room: Arc<AtomicUsize>,
    dropped: Arc<AtomicU64>,
    reopen: Arc<AtomicBool>,
    /// The instance in the records; none where nobody wants records.
    records: Option<Arc<str>>,
}

impl Log {
    /// Starts the writer thread. A sink that cannot be opened is tried again while something waits for it.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn start(plan: LogPlan) -> io::Result<Self> {
        let (lines, waiting) = channel();
        let room = Arc::new(AtomicUsize::new(WAITING));
        let (dropped, reopen) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let records = plan.json.is_some().then(|| Arc::from(plan.instance.as_str()));
        let writer = Writer::new(&plan, Arc::clone(&room), Arc::clone(&dropped), Arc::clone(&reopen));
        // The writer has its own handles on what was opened.
        drop(plan);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || writer.run(&waiting))?;
        Ok(Self { lines, room, dropped, reopen, records })
    }

    /// A log that goes nowhere, for tests of code that needs one.
    #[must_use]
    pub fn nowhere() -> Self {
        Self {
            lines: channel().0,
            room: Arc::new(AtomicUsize::new(WAITING)),
            dropped: Arc::default(),
            reopen: Arc::default(),
            records: None,
        }
    }

    /// Writes a record down. Never waits.
    pub fn record(&self, record: &Record<'_>) {
        let (time, text) = (Timestamp::now(), record.to_string());
        let line = Line {
            time,
            level: record.level,
            ident: record.ident.as_str().to_owned(),
            service: record.service_length(&text),
            json: self.records.as_deref().map(|instance| record.json(time, instance, &text)),
            text,
        };
        let place = self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| room.checked_sub(1));
        if place.is_err() || self.lines.send(Message::Line(line)).is_err() {
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
        self.reopen.store(true, Ordering::Relaxed);
        let _ = self.lines.send(Message::Wake);
    }

    /// Waits until everything recorded so far is written, or two seconds; for the end of a process.
    pub fn flush(&self) {
        let (done, written) = sync_channel(1);
        let _ = self.lines.send(Message::Flush(done));
        let _ = written.recv_timeout(LAST_LINES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    use std::path::Path;
    use std::time::Instant;

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap_or_default()
    }

    fn fifo(path: &Path) {
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a FIFO");
    }

    #[test]
    fn a_line_carries_time_host_ident_and_process() {
        let directory = tempfile::tempdir().expect("a directory");
        let (own, maillog) = (directory.path().join("smtpd.log"), directory.path().join("maillog"));
        let (own_path, maillog_path) = (Some(own.clone()), Some(maillog.clone()));
        let plan = LogPlan { own: own_path, maillog: maillog_path, host: "mail".into(), ..LogPlan::default() };
        let log = Log::start(plan).expect("a thread");
        log.warning(&Ident::postfix("postfix", "smtpd"), "beware\nof this");
        log.flush();
        let end = format!(" mail postfix/smtpd[{}]: warning: beware?of this\n", std::process::id());
        let (own, maillog) = (read(&own), read(&maillog));
        assert!(own.ends_with(&end), "{own}");
        // 2026-11-02T10:00:00.000000+00:00 and Nov 02 10:00:00
        assert_eq!((own.len() - end.len(), &own[10..11]), (32, "T"), "{own}");
        assert!(maillog.ends_with(&end) && maillog.len() - end.len() == 15, "{maillog}");
    }

    #[test]
    fn each_grammar_goes_to_its_own_log() {
        let directory = tempfile::tempdir().expect("a directory");
        let (maillog, dovecot) = (directory.path().join("maillog"), directory.path().join("dovecot.log"));
        let (maillog_path, dovecot_path) = (Some(maillog.clone()), Some(dovecot.clone()));
        let plan = LogPlan { maillog: maillog_path, dovecot: dovecot_path, host: "mail".into(), ..LogPlan::default() };
        let log = Log::start(plan).expect("a thread");
        log.text(&Ident::postfix("postfix", "smtpd"), "connect from localhost");
        log.text(&Ident::dovecot(), "auth: ready");
        log.warning(&Ident::dovecot(), "imap-login: TLS is off");
        log.flush();
        assert!(read(&maillog).ends_with("]: connect from localhost\n"));
        let texts: Vec<String> = read(&dovecot).lines().map(|line| line[16..].to_owned()).collect();
        assert_eq!(texts, ["auth: Info: ready", "imap-login: Warning: TLS is off"]);
    }

    // R8
    #[test]
    fn a_log_that_blocks_never_stops_its_writer() {
        // Nobody reads the channel; recording goes on and counts what is lost.
        let (lines, _unread) = channel();
        let room = Arc::new(AtomicUsize::new(2));
        let log = Log { lines, room, dropped: Arc::default(), reopen: Arc::default(), records: None };
        for _ in 0..10 {
            log.text(&Ident::dovecot(), "line");
        }
        assert_eq!(log.dropped.load(Ordering::Relaxed), 8);
    }

    // R8
    #[test]
    fn a_fifo_that_nobody_reads_costs_its_own_lines_only_and_the_gap_is_told() {
        let directory = tempfile::tempdir().expect("a directory");
        let (own, full) = (directory.path().join("own.log"), directory.path().join("fifo"));
        fifo(&full);
        // A reader that reads nothing: the FIFO is full after 64 KiB, the buffer behind it after another MiB.
        let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).expect("flags");
        let mut reader = File::options().read(true).custom_flags(flags).open(&full).expect("a reader");
        let plan = LogPlan { own: Some(own.clone()), maillog: Some(full), host: "mail".into(), ..LogPlan::default() };
        let log = Log::start(plan).expect("a thread");
        let (ident, text) = (Ident::postfix("postfix", "smtpd"), "x".repeat(1000));
        for _ in 0..2000 {
            log.text(&ident, &text);
            while log.dropped.load(Ordering::Relaxed) > 0 {
                std::thread::yield_now();
            }
        }
        log.flush();
        let deadline = Instant::now() + Duration::from_secs(120);
        // A flush waits for two seconds, which a machine that does much else may need for something else.
        while read(&own).lines().count() < 2000 && Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert_eq!(read(&own).lines().count(), 2000, "the other log has every line");
        let (mut got, mut piece) = (Vec::new(), vec![0; 65536]);
        while !String::from_utf8_lossy(&got).contains(" log lines dropped: ") && Instant::now() < deadline {
            match reader.read(&mut piece) {
                Ok(count) => got.extend_from_slice(&piece[..count]),
                Err(_) => std::thread::yield_now(),
            }
        }
        let got = String::from_utf8_lossy(&got);
        let lines = got.lines().filter(|line| line.ends_with(&text)).count();
        let gap = got
            .lines()
            .find_map(|line| line.split_once("warning: ")?.1.split_once(" log lines dropped")?.0.parse().ok());
        assert_eq!(gap.map(|lost: usize| lost + lines), Some(2000), "what is missing is counted");
    }

    // R8
    #[test]
    fn a_fifo_without_a_reader_does_not_hold_up_the_start() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("fifo");
        fifo(&path);
        let log = Log::start(LogPlan { maillog: Some(path), ..LogPlan::default() }).expect("a thread");
        log.text(&Ident::postfix("postfix", "smtpd"), "line");
        log.flush();
    }

    #[test]
    fn syslog_gets_priority_and_ident_and_is_found_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log");
        let listen = || {
            let socket = std::os::unix::net::UnixDatagram::bind(&path).expect("bound");
            socket.set_read_timeout(Some(Duration::from_secs(120))).expect("a timeout");
            socket
        };
        let hear = |socket: &std::os::unix::net::UnixDatagram| {
            let mut octets = [0; 1024];
            let count = socket.recv(&mut octets).expect("a line");
            String::from_utf8_lossy(&octets[..count]).into_owned()
        };
        let before = listen();
        let system = Some(System::Syslog(path.clone()));
        let log = Log::start(LogPlan { system, ..LogPlan::default() }).expect("a thread");
        log.warning(&Ident::postfix("postfix", "smtpd"), "beware");
        let line = hear(&before);
        // LOG_MAIL is 2 << 3, LOG_WARNING 4, LOG_INFO 6.
        let tag = format!("postfix/smtpd[{}]: warning: beware", std::process::id());
        assert!(line.starts_with("<20>") && line[19..] == format!(" {tag}"), "{line}");
        log.text(&Ident::dovecot(), "auth: ready");
        let line = hear(&before);
        assert!(line.starts_with("<22>") && line.ends_with(" dovecot: auth: ready"), "{line}");
        drop(before);
        std::fs::remove_file(&path).expect("removed");
        log.text(&Ident::dovecot(), "auth: while syslog was away");
        log.flush();
        assert!(hear(&listen()).ends_with("auth: while syslog was away"));
    }

    #[test]
    fn a_rotated_file_is_opened_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, old) = (directory.path().join("log"), directory.path().join("log.1"));
        let log = Log::start(LogPlan { own: Some(path.clone()), ..LogPlan::default() }).expect("a thread");
        let ident = Ident::postfix("postfix", "smtpd");
        log.text(&ident, "first");
        log.flush();
        std::fs::rename(&path, &old).expect("renamed");
        log.reopen();
        log.flush();
        log.text(&ident, "second");
        log.flush();
        assert!(read(&old).ends_with("first\n") && read(&path).ends_with("second\n"));
    }
}
