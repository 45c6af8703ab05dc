//! The daemon's life: listeners, reload, tables, stop.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use decision::Ident;
use mail_daemon::{Context, Running};
use mail_net::listen::ACCEPT_PAUSE;
use mail_net::{Driver, Stream};
use mail_smtp::server::{Server, Summary};
use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use crate::intake::Door;
use crate::lmtp::Listener;
use crate::log::SessionLog;
use crate::ports::{Port, Seat, Shared};
use crate::session::Session;
use crate::settings::MECHANISMS;
use crate::{lmtp, maildrop, submit};

/// So many descriptors are left to sessions for their work (files of long content, name servers, other daemons); clients that would take them hear 421.
const KEPT_DESCRIPTORS: u64 = 20;

/// Kept by everything that must finish before the daemon ends.
pub type Busy = mpsc::Sender<()>;

/// Serves until the daemon is asked to stop and every session has ended.
pub async fn serve(mut context: Context) {
    let running = context.now();
    let log = context.log.clone();
    let mut warn = |ident: &Ident, text: &str| log.warning(ident, text);
    let shared = Shared::new(&running, &MECHANISMS.map(str::to_owned), None, &mut warn);
    if let Err(text) = crate::relay::refuse_open_relay(&shared) {
        log.warning(&shared.pickup, &text);
        log.flush();
        eprintln!("smtpd: {text}");
        std::process::exit(i32::from(mail_daemon::EX_CONFIG));
    }
    let door = Arc::new(Door::new(log.clone(), context.state().to_owned(), &context.hello(), shared));
    let (busy, mut idle) = mpsc::channel::<()>(1);
    let (closing, closed) = watch::channel(false);
    let names = running
        .config
        .listeners()
        .iter()
        .flat_map(|listener| listener.addresses.iter().map(|_| listener.service.name.clone()));
    let names: Vec<_> = names.collect();
    let mut lmtp: Vec<_> =
        context.tcp.split_off(names.len().min(context.tcp.len())).into_iter().map(Listener::Inet).collect();
    lmtp.extend(context.files.drain(..).map(Listener::Unix));
    for (listener, name) in context.tcp.drain(..).zip(names) {
        tokio::spawn(accept(Arc::clone(&door), listener, name, closed.clone(), busy.clone()));
    }
    for listener in lmtp {
        tokio::spawn(lmtp::accept(Arc::clone(&door), listener, closed.clone(), busy.clone()));
    }
    let hello = context.hello();
    for listener in context.unix.drain(..) {
        tokio::spawn(submit::accept(Arc::clone(&door), listener, hello.clone(), closed.clone(), busy.clone()));
    }
    tokio::spawn(maildrop::watch(Arc::clone(&door), closed.clone(), busy.clone()));
    tokio::spawn(watch_tables(Arc::clone(&door), context.tables.subscribe()));
    tokio::spawn(reload(Arc::clone(&door), context.running.clone()));
    drop(busy);
    context.ready();
    context.stop.requested().await;
    // Nobody listens once this is dropped, so the receivers see the end in both ways.
    let _ = closing.send(true);
    door.drain();
    let _ = idle.recv().await;
}

/// Takes connections of one listener.
async fn accept(door: Arc<Door>, listener: TcpListener, name: String, mut closed: watch::Receiver<bool>, busy: Busy) {
    loop {
        let accepted = tokio::select! {
            _ = closed.wait_for(|closed| *closed) => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, client) = match accepted {
            Ok(accepted) => accepted,
            Err(_) => {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let shared = door.shared();
        let Some(port) = shared.ports.get(&name).cloned() else { continue };
        match port.seat().filter(|_| !is_among_the_last(&stream)) {
            Some(seat) => {
                tokio::spawn(converse(Arc::clone(&door), shared, port, stream, client, (seat, busy.clone())));
            }
            None => refuse(stream, &port),
        }
    }
}

/// Whether the descriptor of a connection is one of those that the sessions need for their work. The system always gives the lowest free number.
#[must_use]
pub fn is_among_the_last(stream: &impl AsRawFd) -> bool {
    let number = u64::try_from(stream.as_raw_fd()).unwrap_or(u64::MAX);
    getrlimit(Resource::Nofile).current.is_some_and(|limit| number.saturating_add(KEPT_DESCRIPTORS) >= limit)
}

/// Tells a client that no seat is left. Never waits: the socket's own buffer takes the line.
fn refuse(stream: TcpStream, port: &Port) {
    if port.wrapper {
        return;
    }
    let line = format!("421 4.3.2 {} Error: all server ports are busy\r\n", port.main.myhostname.as_str());
    if let Ok(mut stream) = stream.into_std() {
        // A client that went away needs no answer.
        let _ = stream.write(line.as_bytes());
    }
}

/// One session from the first octet to the log line at its end; what it is counted by goes after that.
async fn converse(
    door: Arc<Door>,
    shared: Arc<Shared>,
    port: Arc<Port>,
    stream: TcpStream,
    client: SocketAddr,
    counted: (Seat, Busy),
) {
    let Ok(local) = stream.local_addr() else { return };
    let _ = stream.set_nodelay(true);
    let mut stream = Stream::Tcp(stream);
    if port.wrapper {
        let Some(tls) = &port.tls else { return };
        // On the heap while it runs: a session keeps no room for a handshake.
        let handshake = Box::pin(tokio::time::timeout(*port.main.smtpd_starttls_timeout, tls.accept(stream))).await;
        stream = match handshake {
            Ok(Ok(stream)) => stream,
            _ => {
                let log = SessionLog::new(door.log.clone(), port, client);
                log.connected();
                let nothing = Summary { commands: Vec::new(), last: "CONNECT", content_octets: None };
                log.ended(&::session::Close::Hangup("TLS handshake failed"), &nothing);
                return;
            }
        };
    }
    let (number, mut events) = door.enter();
    let tls = stream.tls();
    let mut session = Session::new(Arc::clone(&door), shared, Arc::clone(&port), client, local, tls.clone());
    let machine = Server::new(session.settings().await, tls.is_some());
    let driver = Driver::new(machine, stream, Vec::new());
    let ended = driver.run(&mut session, port.tls.as_ref(), &mut events).await;
    session.end().await;
    session.log().ended(&ended.reason, &ended.machine.summary());
    door.leave(number);
    drop(counted);
}

/// Looks at the sources of tables once a second, and at once where somebody says that one has changed.
async fn watch_tables(door: Arc<Door>, mut changed: tokio::sync::broadcast::Receiver<std::path::PathBuf>) {
    loop {
        let path = tokio::select! {
            path = changed.recv() => path.ok(),
            () = tokio::time::sleep(Duration::from_secs(1)) => None,
        };
        let shared = door.shared();
        let tables = Arc::clone(&shared.tables);
        let look = move || match path {
            Some(path) => tables.reload(path.to_str()),
            None => tables.check(SystemTime::now()),
        };
        if let Ok(reports) = tokio::task::spawn_blocking(look).await {
            reports.iter().for_each(|report| door.log.warning(&shared.pickup, &report.line()));
        }
    }
}

/// Takes each new generation, and the mechanisms of authd once it answers.
async fn reload(door: Arc<Door>, mut running: watch::Receiver<Arc<Running>>) {
    let reachable = running.borrow().config.policy_ports();
    let mut mechanisms = MECHANISMS.map(str::to_owned).to_vec();
    let mut asked = false;
    loop {
        tokio::select! {
            changed = running.changed() => if changed.is_err() { return },
            names = door.sasl.mechanisms(), if !asked => match names {
                Some(names) => {
                    asked = true;
                    if names == mechanisms {
                        continue;
                    }
                    mechanisms = names;
                }
                None => {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            },
        }
        let now = Arc::clone(&running.borrow_and_update());
        let mut warn = |ident: &Ident, text: &str| door.log.warning(ident, text);
        let shared = Shared::new(&now, &mechanisms, Some(&door.shared()), &mut warn);
        match crate::relay::refuse_open_relay(&shared) {
            Ok(()) => {
                // The sandbox was closed when the daemon started, and nothing opens it again.
                for port in now.config.policy_ports().iter().filter(|port| !reachable.contains(port)) {
                    let text = format!("the policy service on TCP port {port} is reached after a restart of smtpd");
                    door.log.warning(&shared.pickup, &text);
                }
                door.replace(shared);
            }
            Err(text) => door.log.warning(&shared.pickup, &format!("the configuration stays as it was: {text}")),
        }
    }
}
