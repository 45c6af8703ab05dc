//! The deliverer: a process that is the recipient, reads jobs from one socket and writes mailboxes.
//!
//! A few threads, begun when there is work for them, work side by side; each takes all jobs that wait for one mailbox, so that they share its
//! directory sync. A program gets a thread of its own, since it may take its time.
//! It ends when the coordinator closes the socket, after what it has begun.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use mail_ipc::frame::{self, Frame, FrameDecoder};

use crate::forward;
use crate::job::{Answer, Job, JobContent, Report, Target};
use crate::mailboxes;
use crate::room::Room;

/// Threads of one deliverer at most: enough to share journal commits between mailboxes.
const THREADS: usize = 8;
/// Jobs of one mailbox that share a directory sync.
const TOGETHER: usize = 48;
/// Jobs that wait at most before the socket is read on; with the coordinator's inline contents this bounds memory.
const WAITING_MAX: usize = 256;
const READ: usize = 128 * 1024;

/// The content of a job, in memory or in a file that several processes share.
#[derive(Debug)]
pub enum Body {
    /// Octets.
    Memory(Vec<u8>),
    /// A file, read by position: its offset is shared with others.
    File(File, u64),
}

impl Body {
    /// Calls `each` with the content in pieces, leaving out the ranges.
    ///
    /// # Errors
    /// What reading or `each` says.
    pub fn pieces<E: From<io::Error>>(
        &self,
        omit: &[(u64, u64)],
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let length = match self {
            Self::Memory(octets) => octets.len() as u64,
            Self::File(_, length) => *length,
        };
        let mut at = 0;
        let mut buffer = Vec::new();
        for &(start, end) in omit.iter().chain(std::iter::once(&(length, length))) {
            while at < start.min(length) {
                let piece = self.piece(at, start.min(length), &mut buffer)?;
                at += piece.len() as u64;
                each(piece)?;
            }
            at = at.max(end);
        }
        Ok(())
    }

    fn piece<'a>(&'a self, from: u64, to: u64, buffer: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
        let position = |octet: u64| usize::try_from(octet).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge));
        match self {
            Self::Memory(octets) => Ok(&octets[position(from)?..position(to)?]),
            Self::File(file, _) => {
                buffer.resize(READ.min(position(to - from)?), 0);
                let read = file.read_at(buffer, from)?;
                if read == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(&buffer[..read])
            }
        }
    }
}

/// A job with its number and content.
#[derive(Debug)]
pub struct Task {
    /// The number that the report repeats.
    pub number: u64,
    /// The job.
    pub job: Job,
    /// The content.
    pub body: Body,
}

#[derive(Default)]
struct Waiting {
    by_target: HashMap<Target, VecDeque<Task>>,
    /// Targets with waiting tasks that no thread works on.
    ready: VecDeque<Target>,
    count: usize,
    /// Threads that wait for work.
    idle: usize,
    ended: bool,
}

struct Pool {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    socket: UnixStream,
    sending: Mutex<()>,
    /// The one mailbox that it is confined to.
    room: Option<Room>,
}

/// Threads that were begun.
#[derive(Default)]
struct Threads {
    workers: Vec<JoinHandle<()>>,
    programs: Vec<JoinHandle<()>>,
}

/// Runs until the coordinator closes the socket. The caller has become the recipient already, and entered its room.
///
/// # Errors
/// The socket broke or said nonsense.
pub fn run(socket: UnixStream, room: Option<Room>) -> io::Result<()> {
    let pool = Arc::new(Pool {
        waiting: Mutex::default(),
        changed: Condvar::new(),
        socket: socket.try_clone()?,
        sending: Mutex::new(()),
        room,
    });
    let mut threads = Threads::default();
    let result = pool.read(&socket, &mut threads);
    pool.lock().ended = true;
    pool.changed.notify_all();
    for thread in threads.workers.into_iter().chain(threads.programs) {
        // A panic of one thread is its own end only; its jobs are reported by nobody and tried again.
        let _ = thread.join();
    }
    result
}

impl Pool {
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(self: &Arc<Self>, socket: &UnixStream, threads: &mut Threads) -> io::Result<()> {
        let mut incoming = Incoming::new(socket);
        while let Some(task) = incoming.task()? {
            if matches!(task.job.target, Target::Command(_)) {
                threads.programs.retain(|program| !program.is_finished());
                let pool = Arc::clone(self);
                let target = task.job.target.clone();
                threads.programs.push(std::thread::spawn(move || pool.deliver(&target, vec![task])));
                continue;
            }
            let mut waiting = self.lock();
            while waiting.count >= WAITING_MAX {
                waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            waiting.add(task);
            if waiting.ready.len() > waiting.idle && threads.workers.len() < THREADS {
                let pool = Arc::clone(self);
                threads.workers.push(std::thread::spawn(move || pool.work()));
            }
            self.changed.notify_all();
        }
        Ok(())
    }

    fn work(&self) {
        loop {
            let mut waiting = self.lock();
            let (target, tasks) = loop {
                match waiting.take() {
                    Some(tasks) => break tasks,
                    None if waiting.ended => return,
                    None => {
                        waiting.idle += 1;
                        waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                        waiting.idle -= 1;
                    }
                }
            };
            drop(waiting);
            if self.room.as_ref().is_some_and(|room| !room.is_current()) {
                // The coordinator learns that nothing of this was done, and has it done by a deliverer of the mailbox that is there now.
                let _ = self.socket.shutdown(std::net::Shutdown::Both);
                return;
            }
            self.deliver(&target, tasks);
            self.lock().done(&target);
            self.changed.notify_all();
        }
    }

    /// Delivers to one mailbox what no forward file sends elsewhere.
    fn deliver(&self, target: &Target, tasks: Vec<Task>) {
        let (mut here, mut warnings) = (Vec::new(), Vec::new());
        for task in tasks {
            let wishes = forward::look(&task.job.forward_files, rustix::process::geteuid().as_raw());
            match wishes.report {
                Some(report) => self.report([(task.number, Answer { report, warning: wishes.warning })]),
                None if task.job.verify => {
                    let report = task.job.target.verified();
                    self.report([(task.number, Answer { report, warning: wishes.warning })]);
                }
                None => {
                    here.push(task);
                    warnings.push(wishes.warning);
                }
            }
        }
        if here.is_empty() {
            return;
        }
        mail_posix::points::reached("local.deliverer");
        let reports = match self.room.as_ref().and_then(Room::refusal) {
            Some(refusal) => here.iter().map(|_| refusal.clone()).collect(),
            None => mailboxes::deliver(target, &here),
        };
        mail_posix::points::reached("mailbox-synced");
        let answers = reports.into_iter().zip(warnings).map(|(report, warning)| Answer { report, warning });
        self.report(here.iter().map(|task| task.number).zip(answers));
    }

    fn report(&self, answers: impl IntoIterator<Item = (u64, Answer)>) {
        let mut bytes = Vec::new();
        for (number, answer) in answers {
            if frame::encode(&Frame::new(number, answer), 0, &mut bytes).is_err() {
                let report = Report::deferred(3, 5, "forward file is too large");
                // This one is short.
                let _ = frame::encode(&Frame::new(number, Answer { report, warning: None }), 0, &mut bytes);
            }
        }
        let _one_at_a_time = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        // The coordinator is gone: it will find out what was delivered when it tries again.
        let _ = (&self.socket).write_all(&bytes);
    }
}

impl Waiting {
    fn add(&mut self, task: Task) {
        self.count += 1;
        let target = task.job.target.clone();
        match self.by_target.get_mut(&target) {
            Some(queue) => queue.push_back(task),
            None => {
                self.by_target.insert(target.clone(), VecDeque::from([task]));
                self.ready.push_back(target);
            }
        }
    }

    /// The tasks of one mailbox that nobody works on. Its queue stays, empty or not, until [`Waiting::done`].
    fn take(&mut self) -> Option<(Target, Vec<Task>)> {
        let target = self.ready.pop_front()?;
        let queue = self.by_target.get_mut(&target)?;
        let tasks: Vec<Task> = queue.drain(..queue.len().min(TOGETHER)).collect();
        self.count -= tasks.len();
        Some((target, tasks))
    }

    fn done(&mut self, target: &Target) {
        if self.by_target.get(target).is_some_and(VecDeque::is_empty) {
            self.by_target.remove(target);
        } else {
            self.ready.push_back(target.clone());
        }
    }
}

/// The reading side of the socket: frames, contents and descriptors.
struct Incoming<'a> {
    socket: &'a UnixStream,
    decoder: FrameDecoder,
    descriptors: VecDeque<OwnedFd>,
    buffer: Vec<u8>,
}

impl<'a> Incoming<'a> {
    fn new(socket: &'a UnixStream) -> Self {
        Self { socket, decoder: FrameDecoder::default(), descriptors: VecDeque::new(), buffer: vec![0; READ] }
    }

    /// The next task; none when the coordinator closed the socket between two of them.
    fn task(&mut self) -> io::Result<Option<Task>> {
        let raw = loop {
            match self.decoder.frame().map_err(invalid)? {
                Some(raw) => break raw,
                None if self.fill()? => {}
                None => return Ok(None),
            }
        };
        let frame: Frame<Job> = raw.read(&[]).map_err(invalid)?;
        let body = match frame.body.content {
            JobContent::Follows(length) => Body::Memory(self.content(length)?),
            JobContent::Descriptor { length } => {
                let descriptor =
                    self.descriptors.pop_front().ok_or_else(|| invalid("a job came without its descriptor"))?;
                Body::File(File::from(descriptor), length)
            }
        };
        Ok(Some(Task { number: frame.id, job: frame.body, body }))
    }

    fn content(&mut self, length: u64) -> io::Result<Vec<u8>> {
        let length = usize::try_from(length).map_err(invalid)?;
        let mut content = Vec::with_capacity(length.min(READ));
        while content.len() < length {
            let piece = self.decoder.content(length - content.len());
            if piece.is_empty() && !self.fill()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            content.extend_from_slice(&piece);
        }
        Ok(content)
    }

    fn fill(&mut self) -> io::Result<bool> {
        let received = mail_posix::fdpass::receive(self.socket, &mut self.buffer, frame::DESCRIPTORS_MAX)?;
        self.decoder.push(&self.buffer[..received.bytes]);
        self.descriptors.extend(received.descriptors);
        Ok(received.bytes > 0)
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use mail_types::{Octets, QueueId};
    use std::os::fd::AsFd as _;

    /// A task with this content for somebody who delivers it by hand.
    pub fn task(content: &[u8]) -> Task {
        let length = content.len() as u64;
        let target = Target::Maildir { path: "/nowhere".into(), size_limit: 0 };
        let job = Job { omit: Vec::new(), ..job(target, 1, JobContent::Follows(length)) };
        Task { number: 1, job, body: Body::Memory(content.to_vec()) }
    }

    fn job(target: Target, recipient: u32, content: JobContent) -> Job {
        Job {
            target,
            id: QueueId::new(1_700_000_000, 1, recipient).expect("in range"),
            recipient,
            host: "mail.info.net".into(),
            repeated: false,
            verify: false,
            forward_files: Vec::new(),
            prefix: "Return-Path: <>\r\n".into(),
            from_line: "From MAILER-DAEMON  Sun Nov 22 14:50:20 2026".into(),
            omit: vec![(0, 4)],
            content,
        }
    }

    fn maildir(dir: &std::path::Path) -> Target {
        Target::Maildir { path: Octets::from(dir.join("Maildir").to_str().expect("utf-8")), size_limit: 100_000 }
    }

    /// Gives jobs to a deliverer and takes its reports, by number.
    fn deliver(jobs: Vec<(Job, Vec<u8>)>) -> HashMap<u64, Report> {
        let (near, far) = UnixStream::pair().expect("a pair");
        let thread = std::thread::spawn(move || run(far, None));
        let count = jobs.len();
        for (number, (job, content)) in (1..).zip(jobs) {
            let mut bytes = Vec::new();
            let passed = matches!(job.content, JobContent::Descriptor { .. });
            frame::encode(&Frame::new(number, &job), usize::from(passed), &mut bytes).expect("encodes");
            if passed {
                let file = mail_posix::memfd::sealed(&content).expect("memory");
                mail_posix::fdpass::send(&near, &bytes, &[file.as_fd()]).expect("sent");
            } else {
                bytes.extend_from_slice(&content);
                (&near).write_all(&bytes).expect("sent");
            }
        }
        near.shutdown(std::net::Shutdown::Write).expect("open");
        let mut decoder = FrameDecoder::default();
        let mut reports = HashMap::new();
        while reports.len() < count {
            let mut buffer = [0; 4096];
            let read = io::Read::read(&mut &near, &mut buffer).expect("open");
            assert!(read > 0, "a report is missing");
            decoder.push(&buffer[..read]);
            while let Some(raw) = decoder.frame().expect("sound") {
                let frame: Frame<Answer> = raw.read(&[]).expect("a report");
                reports.insert(frame.id, frame.body.report);
            }
        }
        thread.join().expect("no panic").expect("no error");
        reports
    }

    #[test]
    fn jobs_for_many_mailboxes_are_all_reported_and_lie_there() {
        let dirs: Vec<_> = (0..5).map(|_| tempfile::tempdir().expect("tempdir")).collect();
        let content = b"abcdSubject: x\r\n\r\nbody\r\n".to_vec();
        let length = content.len() as u64;
        let jobs = (0..200u32).map(|number| {
            let kind = if number % 2 == 0 { JobContent::Follows(length) } else { JobContent::Descriptor { length } };
            (job(maildir(dirs[number as usize % 5].path()), number, kind), content.clone())
        });
        let reports = deliver(jobs.collect());
        assert!(reports.values().all(|report| *report == Report::Delivered { text: "delivered to maildir".into() }));
        for dir in &dirs {
            let files: Vec<_> = std::fs::read_dir(dir.path().join("Maildir/new")).expect("made").collect();
            assert_eq!(files.len(), 40);
            let text = std::fs::read_to_string(files[0].as_ref().expect("entry").path()).expect("read");
            assert_eq!(text, "Return-Path: <>\nSubject: x\n\nbody\n");
        }
    }

    #[test]
    fn one_bad_job_harms_no_other() {
        let dir = tempfile::tempdir().expect("tempdir");
        std::fs::write(dir.path().join(".forward"), "elsewhere@example.org\n").expect("write");
        let good = job(maildir(dir.path()), 1, JobContent::Follows(6));
        let large = job(maildir(dir.path()), 2, JobContent::Follows(200_000));
        let forwarded = Job {
            forward_files: vec![Octets::from(dir.path().join(".forward").to_str().expect("utf-8"))],
            ..good.clone()
        };
        let file = dir.path().join("file");
        std::fs::write(&file, "").expect("write");
        let asked = Job { verify: true, ..job(maildir(&dir.path().join("asked")), 4, JobContent::Follows(6)) };
        let nowhere = Target::Maildir { path: Octets::from(file.to_str().expect("utf-8")), size_limit: 0 };
        let jobs = vec![
            (good, b"abcdxy".to_vec()),
            (large, vec![b'x'; 200_000]),
            (forwarded, b"abcdxy".to_vec()),
            (job(nowhere, 3, JobContent::Follows(6)), b"abcdxy".to_vec()),
            (asked, b"abcdxy".to_vec()),
        ];
        let reports = deliver(jobs);
        assert!(matches!(reports[&1], Report::Delivered { .. }));
        assert!(matches!(reports[&2], Report::Bounced { .. }));
        assert!(matches!(&reports[&3], Report::Forward { listed, .. } if listed.len() == 1));
        assert!(matches!(reports[&4], Report::Deferred { .. }));
        assert_eq!(reports[&5], Report::Delivered { text: "delivers to maildir".into() });
        assert!(!dir.path().join("asked").exists(), "who only asks makes nothing");
        assert_eq!(std::fs::read_dir(dir.path().join("Maildir/tmp")).expect("made").count(), 0);
    }
}
