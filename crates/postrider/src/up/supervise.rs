//! The loop that keeps the daemons alive.

use std::io;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use mail_posix::Ended;
use mail_posix::signals::{Caught, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use super::daemon::{Daemon, Launch, Life};
use super::plan::{Planned, Stage};
use super::restarts::Next;
use crate::exit::CONFIGURATION;

/// How long a stage may take to become ready before the next begins all the same: a daemon waits for those that it needs.
const STAGE: Duration = Duration::from_secs(10);
/// How long the daemons of a stage may take to end before they are killed; a daemon gives its sessions 25 seconds.
const ENDING: Duration = Duration::from_secs(30);

/// What the loop tells the world.
pub trait Witness {
    /// Something happened to a daemon.
    fn news(&mut self, text: &str);
    /// The set of processes has changed.
    fn processes(&mut self, daemons: &[Daemon]);
    /// Every daemon has been ready or has given up.
    fn started(&mut self, daemons: &[Daemon]);
    /// A person asks for a reload: the new plan, or none if the configuration is wrong and everything stays.
    fn reload(&mut self) -> Option<Vec<Planned>>;
}

/// The daemons and what is to become of them.
pub struct Supervisor<W> {
    launch: Launch,
    daemons: Vec<Daemon>,
    signals: SignalFd,
    witness: W,
    /// The latest stage that may start, and until when its daemons are waited for.
    stage: Stage,
    stage_ends: Instant,
    announced: bool,
    ending: Option<Ending>,
}

/// The stop: stage by stage, the doors first.
struct Ending {
    stage: Stage,
    deadline: Instant,
}

impl<W: Witness> Supervisor<W> {
    /// Prepares; nothing is started before [`Supervisor::run`]. Signals are blocked and listened to from here on.
    ///
    /// # Errors
    /// The system has no descriptors left.
    pub fn new(launch: Launch, plan: Vec<Planned>, witness: W) -> io::Result<Self> {
        let signals = SignalFd::open()?;
        let daemons = plan.into_iter().map(|planned| Daemon::new(planned, &launch)).collect::<io::Result<_>>()?;
        let stage_ends = Instant::now() + STAGE;
        Ok(Self { launch, daemons, signals, witness, stage: Stage::Core, stage_ends, announced: false, ending: None })
    }

    /// Runs until a signal asks to stop (0), or until no daemon is left that could run (78).
    ///
    /// # Errors
    /// The loop itself cannot go on; the daemons end with this process.
    pub fn run(mut self) -> io::Result<u8> {
        loop {
            let now = Instant::now();
            self.open_stages(now);
            self.start_due(now);
            self.end_stages(now)?;
            if self.daemons.iter().all(|daemon| matches!(daemon.life, Life::Over)) {
                return Ok(if self.ending.is_some() { 0 } else { CONFIGURATION });
            }
            self.wait(now)?;
            while let Some(signal) = self.signals.next()? {
                match signal {
                    Caught::Stop | Caught::Interrupt => self.stop(),
                    Caught::Reload => self.reload(),
                    Caught::Child | Caught::User => {}
                }
            }
            self.hear_ready()?;
            self.bury()?;
        }
    }

    /// Sleeps until a signal, a notification, or the next moment at which something is due.
    fn wait(&self, now: Instant) -> io::Result<()> {
        let starts = self.daemons.iter().filter_map(|daemon| match daemon.life {
            Life::Due(at) if daemon.planned.stage <= self.stage => Some(at),
            _ => None,
        });
        let stage = (!self.announced).then_some(self.stage_ends);
        let ending = self.ending.as_ref().map(|ending| ending.deadline);
        let timeout = starts.chain(stage).chain(ending).min().map(|at| at.saturating_duration_since(now));
        // Rounded up by a millisecond: waking too early would turn into a busy loop.
        let timeout = timeout.map(|span| span + Duration::from_millis(1));
        let timeout = timeout
            .map(|span| Timespec { tv_sec: span.as_secs().cast_signed(), tv_nsec: i64::from(span.subsec_nanos()) });
        let mut watched: Vec<PollFd<'_>> =
            self.daemons.iter().map(|daemon| PollFd::from_borrowed_fd(daemon.socket.as_fd(), PollFlags::IN)).collect();
        watched.push(PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN));
        match poll(&mut watched, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn open_stages(&mut self, now: Instant) {
        if self.announced || self.ending.is_some() {
            return;
        }
        let settled = |stage| {
            self.daemons
                .iter()
                .filter(|daemon| daemon.planned.stage <= stage)
                .all(|daemon| daemon.was_ready || matches!(daemon.life, Life::Over))
        };
        while settled(self.stage) || now >= self.stage_ends {
            match Stage::ALL.into_iter().find(|stage| *stage > self.stage) {
                Some(next) => (self.stage, self.stage_ends) = (next, now + STAGE),
                None => {
                    self.announced = true;
                    self.witness.started(&self.daemons);
                    return;
                }
            }
        }
    }

    fn start_due(&mut self, now: Instant) {
        if self.ending.is_some() {
            return;
        }
        let mut changed = false;
        for daemon in &mut self.daemons {
            if !matches!(daemon.life, Life::Due(at) if at <= now) || daemon.planned.stage > self.stage {
                continue;
            }
            changed = true;
            if let Err(error) = daemon.start(&self.launch) {
                self.witness.news(&format!("{}: cannot be started: {error}", daemon.planned.instance));
                let pause = daemon.restarts.death(Ended::Code(1), Duration::ZERO);
                daemon.life = after(pause, now);
            }
        }
        if changed {
            self.witness.processes(&self.daemons);
        }
    }

    fn hear_ready(&mut self) -> io::Result<()> {
        for daemon in &mut self.daemons {
            if !daemon.socket.take()? {
                continue;
            }
            if let Life::Running { ready, child, .. } = &mut daemon.life
                && !*ready
            {
                *ready = true;
                if self.announced {
                    self.witness.news(&format!("{}: ready, pid {}", daemon.planned.instance, child.pid()));
                }
                daemon.was_ready = true;
            }
        }
        Ok(())
    }

    /// Looks for daemons that have ended.
    fn bury(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let mut changed = false;
        for daemon in &mut self.daemons {
            let Life::Running { child, since, log, .. } = &daemon.life else { continue };
            let Some(ended) = child.try_wait()? else { continue };
            changed = true;
            let (pid, lived, log) = (child.pid(), now.saturating_duration_since(*since), *log);
            if self.ending.is_some() || daemon.retired {
                daemon.life = Life::Over;
                continue;
            }
            let next = daemon.restarts.death(ended, lived);
            let what = match next {
                Next::GiveUp => "configuration mistake, not started again".to_owned(),
                Next::Restart(pause) if pause.is_zero() => "started again".to_owned(),
                Next::Restart(pause) => format!("started again in {} ms", pause.as_millis()),
            };
            let mut news = format!("{}: pid {pid}: {ended}; {what}", daemon.planned.instance);
            for line in daemon.last_words(log).lines() {
                news.push_str("\n    ");
                news.push_str(line);
            }
            daemon.life = after(next, now);
            self.witness.news(&news);
        }
        if changed {
            self.witness.processes(&self.daemons);
        }
        Ok(())
    }

    fn reload(&mut self) {
        if self.ending.is_some() {
            return;
        }
        let Some(plan) = self.witness.reload() else { return };
        for daemon in &mut self.daemons {
            daemon.retired = !plan.contains(&daemon.planned);
            if daemon.retired {
                let _ = daemon.signal(Signal::TERM);
                self.witness.news(&format!("{}: no longer configured, stops", daemon.planned.instance));
            } else if let Life::Over = daemon.life {
                // It had given up; the files are new.
                daemon.restarts.forgive();
                daemon.life = Life::Due(Instant::now());
            } else {
                let _ = daemon.signal(Signal::HUP);
            }
        }
        for planned in plan {
            if self.daemons.iter().all(|daemon| daemon.planned != planned) {
                match Daemon::new(planned, &self.launch) {
                    Ok(daemon) => self.daemons.push(daemon),
                    Err(error) => self.witness.news(&format!("no room for another daemon: {error}")),
                }
            }
        }
    }

    /// The first request stops in order, a second one at once.
    fn stop(&mut self) {
        match &mut self.ending {
            Some(ending) => ending.deadline = Instant::now(),
            None => {
                self.witness.news("stopping");
                for daemon in &mut self.daemons {
                    if let Life::Due(_) = daemon.life {
                        daemon.life = Life::Over;
                    }
                }
                self.ending = Some(Ending { stage: Stage::Doors, deadline: Instant::now() + ENDING });
                self.signal_stage(Stage::Doors, Signal::TERM);
            }
        }
    }

    /// Goes on to the next stage of the stop when one has ended; kills what is late.
    fn end_stages(&mut self, now: Instant) -> io::Result<()> {
        loop {
            let Some(ending) = &self.ending else { return Ok(()) };
            let stage = ending.stage;
            let alive = self.daemons.iter().any(|daemon| daemon.planned.stage == stage && daemon.pid().is_some());
            if alive && now >= ending.deadline {
                self.witness.news("killing what has not stopped in time");
                self.signal_stage(stage, Signal::KILL);
                self.ending = Some(Ending { stage, deadline: now + ENDING });
            }
            if alive {
                return Ok(());
            }
            let Some(next) = Stage::ALL.into_iter().rev().find(|earlier| *earlier < stage) else { return Ok(()) };
            self.signal_stage(next, Signal::TERM);
            self.ending = Some(Ending { stage: next, deadline: now + ENDING });
        }
    }

    fn signal_stage(&mut self, stage: Stage, signal: Signal) {
        for daemon in self.daemons.iter().filter(|daemon| daemon.planned.stage == stage) {
            // It may just have ended; then there is nothing to signal.
            let _ = daemon.signal(signal);
        }
    }
}

fn after(next: Next, now: Instant) -> Life {
    match next {
        Next::Restart(pause) => Life::Due(now + pause),
        Next::GiveUp => Life::Over,
    }
}
