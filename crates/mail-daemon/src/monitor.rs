//! The monitor: a small process that keeps the rights, and parses nothing from the network.
//!
//! It has one thread. It forked the front, which serves without rights; it reads TLS keys at start and at reload and passes them on; it carries
//! out a daemon's [`Service`]: forking session processes, deliverers, helpers. When the front ends, everything ends, and the supervisor starts the daemon again.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mail_ipc::frame::{self, Frame, FrameDecoder, Raw};
use mail_posix::fdpass;
use mail_posix::fork::{Child, Ended, close_all_but, fork_child, reap_any};
use mail_posix::signals::{Caught, SignalFd, unblock_all};
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use serde::{Deserialize, Serialize};

use crate::context::{Running, Setup};
use crate::log::LogPlan;
use crate::tables;

/// How long children may take to end after a stop.
const DRAIN: Duration = Duration::from_secs(30);
/// SIGTERM and SIGKILL.
const TERM: i32 = 15;
const KILL: i32 = 9;

/// What a daemon's monitor does beside watching the front. Frames come from the front, which may have been taken over: nothing in them is trusted
/// beyond what authd confirms.
pub trait Service {
    /// A frame from the front, with its descriptors.
    fn frame(&mut self, desk: &mut Desk, raw: Raw, descriptors: Vec<OwnedFd>);
    /// A descriptor of [`Desk::watch`] has input or room, or was closed.
    fn ready(&mut self, desk: &mut Desk, token: u64);
    /// A child that the service forked has ended.
    fn child_ended(&mut self, desk: &mut Desk, pid: u32, ended: Ended);
    /// A new configuration is in force; it stands in the desk.
    fn reloaded(&mut self, desk: &mut Desk);
    /// The daemon stops: children are asked to end.
    fn stop(&mut self, desk: &mut Desk);
    /// Whether children are still under way after [`Service::stop`].
    fn busy(&self) -> bool;
}

/// What a [`Service`] works with.
pub struct Desk {
    /// The front's end of the service's own conversation.
    pub front: Channel,
    /// What the service waits for beside it.
    pub watch: Watch,
    /// The configuration in force; its `tls` is always empty here, because the monitor keeps no keys.
    pub running: Arc<Running>,
    /// How children open their logs.
    pub log: LogPlan,
    /// The state directory, the instance and the identity of the role.
    pub setup: Arc<Setup>,
}

impl Desk {
    /// Forks a child that keeps only the descriptors in `keep` (and 0 to 2), has signals unblocked, and dies with the monitor. `run` becomes the
    /// user it needs before it does anything else.
    ///
    /// # Errors
    /// The system has no room for another process.
    pub fn fork(&self, keep: &[BorrowedFd<'_>], run: impl FnOnce() -> u8) -> io::Result<Child> {
        let monitor = std::process::id();
        fork_child(|| {
            let ready = close_all_but(keep)
                .and_then(|()| unblock_all())
                .and_then(|()| mail_posix::fork::die_with_parent(monitor));
            if ready.is_err() { crate::EX_OSERR } else { run() }
        })
    }
}

/// What a monitor waits for: a set of descriptors in the kernel, so that a turn costs what happened, not what is watched.
#[derive(Debug)]
pub struct Watch(OwnedFd);

impl Watch {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    /// Watches a descriptor for input; what comes is told under the token, which is below [`TOKENS_END`].
    ///
    /// # Errors
    /// No memory, or a descriptor that cannot be watched.
    pub fn add(&self, descriptor: impl AsFd, token: u64) -> io::Result<()> {
        Ok(epoll::add(&self.0, descriptor, epoll::EventData::new_u64(token), epoll::EventFlags::IN)?)
    }

    /// Says whether a watched descriptor is to be told of for room as well as for input.
    ///
    /// # Errors
    /// It is not watched.
    pub fn for_room(&self, descriptor: impl AsFd, token: u64, room: bool) -> io::Result<()> {
        let out = if room { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
        Ok(epoll::modify(&self.0, descriptor, epoll::EventData::new_u64(token), epoll::EventFlags::IN | out)?)
    }

    /// Watches a descriptor no more. To be called before it is closed: a child just forked may still hold a copy.
    pub fn remove(&self, descriptor: impl AsFd) {
        let _ = epoll::delete(&self.0, descriptor);
    }

    /// The tokens of what is ready.
    fn wait(&self, timeout: Option<&Timespec>) -> io::Result<Vec<u64>> {
        let mut ready: Vec<epoll::Event> = Vec::with_capacity(READY_AT_ONCE);
        match epoll::wait(&self.0, rustix::buffer::spare_capacity(&mut ready), timeout) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let token = |event: &epoll::Event| {
            let data = event.data;
            data.u64()
        };
        Ok(ready.iter().map(token).collect())
    }
}

/// So many descriptors are attended to in one turn.
const READY_AT_ONCE: usize = 64;
/// Tokens of the services are below this one; those from here on are the monitor's own.
pub const TOKENS_END: u64 = SIGNALS;
const SIGNALS: u64 = u64::MAX - 2;
const CONTROL: u64 = u64::MAX - 1;
const FRONT: u64 = u64::MAX;

/// One end of a conversation between a monitor and its children, without greetings, for code that has no event loop.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
    decoder: FrameDecoder,
    descriptors: VecDeque<OwnedFd>,
}

/// What [`Channel::receive`] took.
#[derive(Debug)]
pub struct Frames {
    /// Complete frames with their descriptors.
    pub frames: Vec<(Raw, Vec<OwnedFd>)>,
    /// The other side closed.
    pub closed: bool,
}

impl Channel {
    /// Takes a connected socket.
    ///
    /// # Errors
    /// The socket cannot be made non-blocking.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, decoder: FrameDecoder::default(), descriptors: VecDeque::new() })
    }

    /// Both ends of a new conversation: one as a channel, one as a socket for the other process.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn pair() -> io::Result<(Self, UnixStream)> {
        let (near, far) = mail_posix::sockets::pair()?;
        far.set_nonblocking(true)?;
        Ok((Self::new(near)?, far))
    }

    /// Takes what has come, without waiting.
    ///
    /// # Errors
    /// A broken connection or a frame beyond the limits: the conversation ends.
    pub fn receive(&mut self) -> io::Result<Frames> {
        let mut closed = false;
        let mut buffer = [0; 16 * 1024];
        loop {
            match fdpass::receive(&self.stream, &mut buffer, frame::DESCRIPTORS_MAX) {
                Ok(received) if received.bytes == 0 => closed = true,
                Ok(received) => {
                    self.decoder.push(&buffer[..received.bytes]);
                    self.descriptors.extend(received.descriptors);
                    // A full buffer has more behind it; if a short one has, the socket is still readable.
                    if received.bytes == buffer.len() {
                        continue;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The other side ended before it had read everything.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => closed = true,
                Err(error) => return Err(error),
            }
            break;
        }
        let mut frames = Vec::new();
        while let Some(raw) = self.decoder.frame().map_err(io::Error::other)? {
            if self.descriptors.len() < raw.descriptors {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame came without its descriptors"));
            }
            let passed = self.descriptors.drain(..raw.descriptors).collect();
            frames.push((raw, passed));
        }
        Ok(Frames { frames, closed })
    }

    /// Sends a frame with descriptors, waiting for room up to 10 seconds.
    ///
    /// # Errors
    /// A broken connection, or a reader that takes nothing.
    pub fn send<T: Serialize>(&self, message: &Frame<T>, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut bytes = Vec::new();
        frame::encode(message, descriptors.len(), &mut bytes).map_err(io::Error::other)?;
        let (mut rest, mut descriptors) = (&bytes[..], descriptors);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !rest.is_empty() {
            match fdpass::send(&self.stream, rest, descriptors) {
                Ok(count) => {
                    rest = &rest[count..];
                    descriptors = &[];
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                    let mut entries = [PollFd::new(&self.stream, PollFlags::OUT)];
                    poll(&mut entries, Some(&Timespec { tv_sec: 1, tv_nsec: 0 }))?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// From the monitor to its front, on the conversation that `mail-daemon` keeps for itself.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToFront {
    /// Take the newest generation; each TLS pair follows as two descriptors of sealed memory, certificate and key, behind those of `Keys`.
    Take,
    /// TLS pairs that have no room in the frame of `Take`, which follows.
    Keys,
    /// Tables that not everybody may read, one descriptor each; after the `last` of these frames they replace those that were passed before.
    Tables { paths: Vec<PathBuf>, last: bool },
    /// The new generation cannot be taken; go on as before.
    Stay { text: String },
}

/// From the front to its monitor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToMonitor {
    /// An operator asked for a reload on the control socket.
    Reload,
    /// A table that was passed has been replaced, or somebody says that one is finished.
    Tables,
}

/// The monitor's own state.
pub(crate) struct Monitor {
    pub(crate) front: Child,
    pub(crate) control: Channel,
    pub(crate) desk: Desk,
    pub(crate) service: Option<Box<dyn Service>>,
    pub(crate) signals: SignalFd,
    /// Whether the front may still speak on `control` and on the desk's conversation.
    pub(crate) control_open: bool,
    pub(crate) front_open: bool,
}

/// What woke the monitor.
#[derive(Default)]
struct Woken {
    signals: bool,
    control: bool,
    front: bool,
    tokens: Vec<u64>,
}

impl Monitor {
    /// Watches until the front has ended; gives the exit code of the daemon.
    pub(crate) fn run(mut self) -> u8 {
        if let Err(error) = self.begin() {
            return self.give_up(&error);
        }
        loop {
            let woken = match self.wait(None) {
                Ok(woken) => woken,
                Err(error) => return self.give_up(&error),
            };
            if let Err(error) = self.attend(&woken) {
                return self.give_up(&error);
            }
            let signalled = if woken.signals { self.take_signals() } else { Ok(None) };
            match signalled {
                Ok(Some(code)) => return code,
                Ok(None) => {}
                Err(error) => return self.give_up(&error),
            }
        }
    }

    fn give_up(&self, error: &io::Error) -> u8 {
        eprintln!("{}: monitor: {error}", self.desk.setup.instance);
        let _ = self.front.signal(KILL);
        crate::EX_OSERR
    }

    /// Begins to watch what every monitor watches.
    fn begin(&self) -> io::Result<()> {
        let watch = &self.desk.watch;
        watch.add(&self.signals, SIGNALS)?;
        watch.add(&self.control, CONTROL)?;
        if self.front_open { watch.add(&self.desk.front, FRONT) } else { Ok(()) }
    }

    fn wait(&self, timeout: Option<Duration>) -> io::Result<Woken> {
        let timeout =
            timeout.map(|span| Timespec { tv_sec: span.as_secs().cast_signed(), tv_nsec: span.subsec_nanos().into() });
        let mut woken = Woken::default();
        for token in self.desk.watch.wait(timeout.as_ref())? {
            match token {
                SIGNALS => woken.signals = true,
                CONTROL => woken.control = true,
                FRONT => woken.front = true,
                token => woken.tokens.push(token),
            }
        }
        Ok(woken)
    }

    fn attend(&mut self, woken: &Woken) -> io::Result<()> {
        if woken.control && self.control_open {
            let taken = self.control.receive()?;
            self.control_open = !taken.closed;
            if taken.closed {
                // A closed conversation stays readable for ever; the front's end shows as a signal.
                self.desk.watch.remove(&self.control);
            }
            for (raw, _) in taken.frames {
                match raw.read::<ToMonitor>(&[]).map(|frame| frame.body) {
                    Ok(ToMonitor::Reload) => self.reload(),
                    Ok(ToMonitor::Tables) => self.pass_tables(&self.desk.running)?,
                    Err(_) => {}
                }
            }
        }
        let Some(service) = self.service.as_mut() else { return Ok(()) };
        if woken.front && self.front_open {
            let taken = self.desk.front.receive()?;
            self.front_open = !taken.closed;
            if taken.closed {
                self.desk.watch.remove(&self.desk.front);
            }
            for (raw, descriptors) in taken.frames {
                service.frame(&mut self.desk, raw, descriptors);
            }
        }
        for &token in &woken.tokens {
            service.ready(&mut self.desk, token);
        }
        Ok(())
    }

    /// Handles signals; gives the exit code when the daemon has ended.
    fn take_signals(&mut self) -> io::Result<Option<u8>> {
        while let Some(caught) = self.signals.next()? {
            match caught {
                Caught::Stop | Caught::Interrupt => return Ok(Some(self.stop())),
                Caught::Reload => self.reload(),
                Caught::Child => {
                    if let Some(code) = self.reap()? {
                        return Ok(Some(code));
                    }
                }
                Caught::User => {}
            }
        }
        Ok(None)
    }

    /// Reaps; gives the exit code when the front has ended.
    fn reap(&mut self) -> io::Result<Option<u8>> {
        while let Some((pid, ended)) = reap_any()? {
            if pid == self.front.pid() {
                return Ok(Some(match ended {
                    Ended::Code(code) => code,
                    Ended::Signal(_) => crate::EX_OSERR,
                }));
            }
            if let Some(service) = self.service.as_mut() {
                service.child_ended(&mut self.desk, pid, ended);
            }
        }
        Ok(None)
    }

    /// Orderly stop: the front drains, then the children, then nothing is left.
    fn stop(&mut self) -> u8 {
        let deadline = Instant::now() + DRAIN;
        let _ = self.front.signal(TERM);
        if let Some(service) = self.service.as_mut() {
            service.stop(&mut self.desk);
        }
        let mut code = None;
        let mut front_gone = false;
        while Instant::now() < deadline {
            if let Ok(Some(ended)) = self.reap() {
                code = Some(ended);
            }
            let busy = self.service.as_ref().is_some_and(|service| service.busy());
            if let Some(code) = code.filter(|_| !busy) {
                return code;
            }
            let left = deadline.saturating_duration_since(Instant::now()).min(Duration::from_secs(1));
            let Ok(woken) = self.wait(Some(left)) else { break };
            front_gone |= code.is_some();
            let woken = Woken { control: woken.control && !front_gone, front: woken.front && !front_gone, ..woken };
            // A front that has just ended breaks its conversations before its end can be reaped.
            front_gone |= self.attend(&woken).is_err();
            if front_gone {
                self.desk.watch.remove(&self.control);
                self.desk.watch.remove(&self.desk.front);
            }
            while let Ok(Some(_)) = self.signals.next() {}
        }
        let _ = self.front.signal(KILL);
        code.unwrap_or(crate::EX_OSERR)
    }

    fn reload(&mut self) {
        crate::notify::reloading();
        match self.desk.setup.load() {
            Ok(running) => {
                let sent = self.pass(&running);
                self.desk.running = Arc::new(running.without_keys());
                if sent.is_ok()
                    && let Some(service) = self.service.as_mut()
                {
                    service.reloaded(&mut self.desk);
                }
            }
            Err(error) => {
                let text = error.to_string();
                let _ = self.control.send(&Frame::new(0, ToFront::Stay { text }), &[]);
            }
        }
    }

    /// Passes the generation's keys to the front; it reads the rest itself.
    pub(crate) fn pass(&self, running: &Running) -> io::Result<()> {
        self.pass_tables(running)?;
        let mut files = Vec::new();
        for pem in &running.tls {
            files.push(mail_posix::memfd::sealed(&pem.certificate)?);
            files.push(mail_posix::memfd::sealed(&pem.key)?);
        }
        let descriptors: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
        let mut rest = descriptors.as_slice();
        while let Some((page, more)) =
            rest.split_at_checked(frame::DESCRIPTORS_MAX).filter(|(_, more)| !more.is_empty())
        {
            self.control.send(&Frame::new(running.generation, ToFront::Keys), page)?;
            rest = more;
        }
        self.control.send(&Frame::new(running.generation, ToFront::Take), rest)
    }

    /// Passes the tables that the front may not open itself, by descriptors for reading.
    fn pass_tables(&self, running: &Running) -> io::Result<()> {
        let opened = tables::open(&running.config, self.desk.setup.daemon);
        let mut pages = opened.chunks(frame::DESCRIPTORS_MAX).peekable();
        if pages.peek().is_none() {
            return self.control.send(&Frame::new(0, ToFront::Tables { paths: Vec::new(), last: true }), &[]);
        }
        while let Some(page) = pages.next() {
            let paths = page.iter().map(|(path, _)| path.clone()).collect();
            let descriptors: Vec<BorrowedFd<'_>> = page.iter().map(|(_, file)| file.as_fd()).collect();
            let message = ToFront::Tables { paths, last: pages.peek().is_none() };
            self.control.send(&Frame::new(0, message), &descriptors)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Seek as _};

    #[test]
    fn a_channel_carries_frames_with_descriptors() {
        let (mut near, far) = Channel::pair().expect("a pair");
        let far = Channel::new(far).expect("a channel");
        let secret = mail_posix::memfd::sealed(b"secret").expect("memory");
        for number in 0..100 {
            far.send(&Frame::new(number, "hello".to_owned()), &[secret.as_fd()]).expect("room");
        }
        drop(far);
        let mut frames = Vec::new();
        loop {
            let taken = near.receive().expect("sound");
            frames.extend(taken.frames);
            if taken.closed {
                break;
            }
        }
        assert_eq!(frames.len(), 100);
        let (raw, mut descriptors) = frames.pop().expect("the last");
        assert_eq!(raw.read::<String>(&[]).expect("understood").id, 99);
        let mut file = std::fs::File::from(descriptors.pop().expect("one"));
        let mut text = String::new();
        file.rewind().and_then(|()| file.read_to_string(&mut text)).expect("text");
        assert_eq!(text, "secret");
    }
}
