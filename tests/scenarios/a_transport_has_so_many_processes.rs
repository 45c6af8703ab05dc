//! maxproc of a transport's line in master.cf: so many deliveries at once for each worker, so that a second worker doubles them.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use test_support::clients::{Security, Smtp};
use test_support::remote::slow;
use test_support::{Builder, Patience, System, wait_for};

/// maxproc.
const PROCESSES: usize = 2;
/// Next hops, each with one message.
const HOPS: usize = 12;

pub fn for_each_worker() -> Result<(), String> {
    for (workers, most) in [(1, PROCESSES), (2, 2 * PROCESSES)] {
        let hosts = Hosts::start().map_err(|error| error.to_string())?;
        let routes =
            format!("relay_domains = regexp:{{root}}/etc/ours\nrelay_transport = few:[127.0.0.1]:{}\n", hosts.port);
        // Each domain is a destination of its own.
        let routes: String = (1..=HOPS).fold(routes + "transport_maps = inline:{", |routes, n| {
            routes + &format!(" d{n}.example=few:[127.0.1.{n}]:{}", hosts.port)
        }) + " }\n";
        let system = Builder::new("a.example")
            .main_cf(&routes)
            .file("ours", "/^d[0-9]+\\.example$/ yes\n")
            .master_cf(&format!("few unix - - n - {PROCESSES} smtp"))
            .workers(&format!("remote-delivery={workers}"))
            .start()?;
        let told = send(&system).map_err(|error| error.to_string()).and_then(|()| hosts.held_up(most));
        told.map_err(|error| format!("{workers} workers: {error}\n{}", system.logs()))?;
    }
    Ok(())
}

fn send(system: &System) -> io::Result<()> {
    let mut smtp = Smtp::connect(system.ports.at(system.ports.smtp), Security::Clear)?;
    for n in 1..=HOPS {
        smtp.send("x@a.example", &[&format!("user@d{n}.example")], "Subject: slow\r\n\r\nslow")?;
    }
    Ok(())
}

/// Hosts that answer to a message when they are allowed to.
struct Hosts {
    port: u16,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    /// Messages that wait for their answer, the most that ever did, and all that came.
    waiting: usize,
    most: usize,
    came: usize,
    /// How many may be answered in all.
    allowed: usize,
}

impl Hosts {
    fn start() -> io::Result<Self> {
        let state: Arc<(Mutex<State>, Condvar)> = Arc::default();
        let shared = Arc::clone(&state);
        Ok(Self { port: slow::hosts(move || wait_for_leave(&shared))?, state })
    }

    fn state<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All messages come, and never more than so many of them wait for an answer; but that many do.
    fn held_up(&self, most: usize) -> Result<(), String> {
        for answered in 0..HOPS {
            let under_way = most.min(HOPS - answered);
            wait_for(&format!("{under_way} deliveries at once after {answered}"), Patience::default(), || {
                self.state(|state| (state.waiting == under_way).then_some(()))
            })?;
            self.state(|state| state.allowed += 1);
            self.state.1.notify_all();
            wait_for("the end of one", Patience::default(), || {
                self.state(|state| (state.came - state.waiting > answered).then_some(()))
            })?;
        }
        let seen = self.state(|state| state.most);
        if seen == most { Ok(()) } else { Err(format!("{seen} deliveries at once, not {most}")) }
    }
}

/// One answer for each leave.
fn wait_for_leave((state, changed): &(Mutex<State>, Condvar)) {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    state.came += 1;
    state.waiting += 1;
    state.most = state.most.max(state.waiting);
    while state.came - state.waiting >= state.allowed {
        state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    state.waiting -= 1;
    changed.notify_all();
}
