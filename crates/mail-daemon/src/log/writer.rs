//! The writer thread: from lines to the forms that the outlets want.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use decision::Level;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::outlet::{Outlet, Target};
use super::{LogPlan, Message, System};

/// LOG_MAIL of syslog(3).
const FACILITY: u8 = 2 << 3;
/// Lines are gathered so long before they are written.
const GATHERED: usize = 256;
/// Lines of a busy daemon wait so long for each other: together they cost one turn of this thread and one write.
const SOON: Duration = Duration::from_millis(10);
/// After so many turns in close succession a daemon is busy. The lines of one conversation are written at once.
const BUSY: u32 = 32;
/// How often an outlet that is full or closed is tried again.
const PAUSE: Duration = Duration::from_millis(250);

/// One line on its way.
pub(super) struct Line {
    pub(super) time: Timestamp,
    pub(super) level: Level,
    pub(super) ident: String,
    /// The text, in the grammar of syslog.
    pub(super) text: String,
    /// Where the service's name ends in the text, for a line in Dovecot's grammar.
    pub(super) service: Option<usize>,
    /// The record, where a sink wants it: a JSON object.
    pub(super) json: Option<String>,
}

/// How an outlet wants its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// RFC 3339 time, host, ident: every line of the daemon.
    Own,
    /// The records.
    Json,
    /// As postlogd(8) writes `maillog_file`; not the lines in Dovecot's grammar.
    Maillog,
    /// As Dovecot writes `log_path`; only the lines in its grammar.
    Dovecot,
    /// As syslog(3) sends them; for each grammar if its program logs there.
    Syslog { postfix: bool, dovecot: bool },
    /// As journald reads a stream (sd-daemon(3)).
    Journal { postfix: bool, dovecot: bool },
}

impl Form {
    /// The line in this form; none if it does not go there.
    fn line(self, line: &Line, clock: &Clock, host: &str) -> Option<String> {
        let Line { ident, text, .. } = line;
        let wanted = |postfix: bool, dovecot: bool| if line.service.is_some() { dovecot } else { postfix };
        let tag = || tag(line);
        match self {
            Self::Own => {
                let fraction = line.time.subsec_nanosecond() / 1000;
                Some(format!("{}.{fraction:06}{} {host} {}: {text}", clock.rfc3339, clock.offset, tag()))
            }
            Self::Json => line.json.clone(),
            Self::Maillog => wanted(true, false).then(|| format!("{} {host} {}: {text}", clock.postlog, tag())),
            Self::Dovecot => line.service.map(|at| {
                // Dovecot's own files name the level of every line.
                let word = if line.level == Level::Info { "Info: " } else { "" };
                let (service, rest) = text.split_at(at.min(text.len()));
                format!("{} {service}{word}{rest}", clock.postlog)
            }),
            Self::Syslog { postfix, dovecot } => wanted(postfix, dovecot)
                .then(|| format!("<{}>{} {}: {text}", FACILITY | severity(line.level), clock.syslog, tag())),
            Self::Journal { postfix, dovecot } => {
                let _ = ident;
                wanted(postfix, dovecot).then(|| format!("<{}>{}: {text}", severity(line.level), tag()))
            }
        }
    }
}

/// `postfix/smtpd[123]`; `dovecot` alone, as its log process writes it.
fn tag(line: &Line) -> String {
    if line.service.is_some() { line.ident.clone() } else { format!("{}[{}]", line.ident, std::process::id()) }
}

fn severity(level: Level) -> u8 {
    match level {
        Level::Info => 6,
        Level::Warning => 4,
        Level::Error => 3,
        Level::Fatal => 2,
    }
}

/// The time of a line in the forms of the outlets; made anew once a second.
#[derive(Default)]
struct Clock {
    second: Option<i64>,
    rfc3339: String,
    offset: String,
    /// `Nov 02 10:00:00`, as postlogd and Dovecot write it.
    postlog: String,
    /// `Nov  2 10:00:00`, as syslog(3) writes it.
    syslog: String,
}

impl Clock {
    fn set(&mut self, time: Timestamp, zone: &TimeZone) {
        if self.second == Some(time.as_second()) {
            return;
        }
        let local = time.to_zoned(zone.clone());
        self.second = Some(time.as_second());
        self.rfc3339 = local.strftime("%Y-%m-%dT%H:%M:%S").to_string();
        self.offset = local.strftime("%:z").to_string();
        self.postlog = local.strftime("%b %d %H:%M:%S").to_string();
        self.syslog = local.strftime("%b %e %H:%M:%S").to_string();
    }
}

pub(super) struct Writer {
    outlets: Vec<(Form, Outlet)>,
    host: String,
    zone: TimeZone,
    clock: Clock,
    /// How many more lines may wait.
    room: Arc<AtomicUsize>,
    dropped: Arc<AtomicU64>,
    reopen: Arc<AtomicBool>,
}

impl Writer {
    pub(super) fn new(
        plan: &LogPlan,
        room: Arc<AtomicUsize>,
        dropped: Arc<AtomicU64>,
        reopen: Arc<AtomicBool>,
    ) -> Self {
        let mut outlets = Vec::new();
        let mut add = |form, target| {
            let given = plan.given.iter().find(|(path, _)| Target::of(path) == target).map(|(_, file)| file);
            outlets.push((form, given.is_some(), Outlet::new(target, given)));
        };
        let files = [
            (Form::Own, &plan.own),
            (Form::Json, &plan.json),
            (Form::Maillog, &plan.maillog),
            (Form::Dovecot, &plan.dovecot),
        ];
        for (form, path) in files {
            if let Some(path) = path {
                add(form, Target::of(path));
            }
        }
        let (postfix, dovecot) = (plan.maillog.is_none(), plan.dovecot.is_none());
        match &plan.system {
            Some(System::Syslog(path)) => add(Form::Syslog { postfix, dovecot }, Target::Syslog(path.clone())),
            Some(System::Journal) => add(Form::Journal { postfix, dovecot }, Target::Stderr),
            None => {}
        }
        let mut writer = Self {
            outlets: Vec::with_capacity(outlets.len()),
            host: plan.host.clone(),
            zone: TimeZone::system(),
            clock: Clock::default(),
            room,
            dropped,
            reopen,
        };
        let mut problems = Vec::new();
        for (form, is_open, mut outlet) in outlets {
            if !is_open {
                problems.extend(outlet.open().err());
            }
            writer.outlets.push((form, outlet));
        }
        problems.iter().for_each(|problem| writer.warn(problem));
        writer
    }

    /// Writes until the last handle is gone.
    pub(super) fn run(mut self, waiting: &Receiver<Message>) {
        let (mut turns, mut last) = (0_u32, Instant::now());
        loop {
            let busy = self.outlets.iter().any(|(_, outlet)| outlet.is_busy());
            let first = if busy { waiting.recv_timeout(PAUSE) } else { waiting.recv().map_err(RecvTimeoutError::from) };
            match first {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.push(),
            }
            let mut all = false;
            for _ in 0..GATHERED {
                match waiting.try_recv() {
                    Ok(message) => self.take(message),
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => {
                        all = true;
                        break;
                    }
                }
            }
            self.push();
            turns = if last.elapsed() < 2 * SOON { turns.saturating_add(1) } else { 0 };
            last = Instant::now();
            if all && turns > BUSY {
                std::thread::sleep(SOON);
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Line(line) => {
                self.room.fetch_add(1, Ordering::Relaxed);
                self.add(&line);
            }
            Message::Wake => {}
            Message::Flush(done) => {
                self.push();
                let _ = done.send(());
            }
        }
    }

    fn add(&mut self, line: &Line) {
        self.clock.set(line.time, &self.zone);
        for (form, outlet) in &mut self.outlets {
            if let Some(text) = form.line(line, &self.clock, &self.host) {
                outlet.add(&text);
            }
        }
    }

    /// Writes what can be written, and says what could not.
    fn push(&mut self) {
        if self.reopen.swap(false, Ordering::Relaxed) {
            self.open_again();
        }
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            self.warn(&gap(dropped));
        }
        for (_, outlet) in &mut self.outlets {
            outlet.push();
        }
        for at in 0..self.outlets.len() {
            if let Some(lost) = self.outlets[at].1.take_lost() {
                self.warn_at(at, &gap(lost));
                self.outlets[at].1.push();
            }
        }
    }

    fn open_again(&mut self) {
        let mut problems = Vec::new();
        for (_, outlet) in &mut self.outlets {
            outlet.push();
            problems.extend(outlet.open().err());
        }
        for problem in problems {
            self.warn(&format!("{problem}; what was open stays in use"));
        }
    }

    /// A line about the log itself, to every outlet.
    fn warn(&mut self, text: &str) {
        (0..self.outlets.len()).for_each(|at| self.warn_at(at, text));
    }

    fn warn_at(&mut self, at: usize, text: &str) {
        let line = warning(text);
        self.clock.set(line.time, &self.zone);
        let (form, outlet) = &mut self.outlets[at];
        // A log of one grammar alone gets the line in that grammar.
        let dovecot =
            matches!(form, Form::Dovecot | Form::Syslog { postfix: false, .. } | Form::Journal { postfix: false, .. });
        let line = if dovecot {
            Line { ident: "dovecot".to_owned(), text: format!("log: Warning: {text}"), service: Some(5), ..line }
        } else {
            line
        };
        if let Some(text) = form.line(&line, &self.clock, &self.host) {
            outlet.add(&text);
        }
    }
}

fn gap(lines: u64) -> String {
    format!("{lines} log lines dropped: the log is too slow or full")
}

fn warning(text: &str) -> Line {
    let record = decision::Ident::postfix("postrider", "log");
    let record = decision::Record::new(&record, decision::Stage::Daemon, decision::Event::Warning(text));
    let (time, text) = (Timestamp::now(), record.to_string());
    let json = Some(record.json(time, "log", &text));
    Line { time, level: Level::Warning, ident: record.ident.as_str().to_owned(), text, service: None, json }
}
