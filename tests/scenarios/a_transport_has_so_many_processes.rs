//! maxproc of a transport's line in master.cf: so many deliveries at once for each worker, so that a second worker doubles them.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use test_support::clients::{Security, Smtp};
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
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let port = listener.local_addr()?.port();
        let state: Arc<(Mutex<State>, Condvar)> = Arc::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                // How a connection ends does not matter.
                thread::spawn(move || drop(serve(&stream, &state)));
            }
        });
        Ok(Self { port, state })
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

fn serve(mut stream: &TcpStream, state: &(Mutex<State>, Condvar)) -> io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    stream.write_all(b"220 slow.example ESMTP\r\n")?;
    while let Some(line) = lines.next().transpose()? {
        let reply: &[u8] = match line.get(..4).unwrap_or_default() {
            "DATA" => {
                stream.write_all(b"354 go on\r\n")?;
                while lines.next().transpose()?.is_some_and(|line| line != ".") {}
                wait_for_leave(state);
                b"250 taken\r\n"
            }
            "QUIT" => return stream.write_all(b"221 bye\r\n"),
            _ => b"250 ok\r\n",
        };
        stream.write_all(reply)?;
    }
    Ok(())
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
