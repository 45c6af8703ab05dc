//! From a lease to a connection: reuse, hosts in their order, another host where one fails.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use decision::Ident;
use mail_config::Main;
use mail_dns::Mx;
use mail_dns::route::{self, NoRoute};
use mail_ipc::delivery::{Fate, LeaseRecipient, TransportKind};
use mail_net::Stream;
use mail_net::tls::ClientTls;
use mail_route::NextHop;
use mail_smtp::client::{Cause, Settings, Stage, Starttls};
use mail_types::{EnhancedStatus, Severity};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;

use crate::Shared;
use crate::generation::{Generation, View};
use crate::generic;
use crate::job::{self, End, Job, Peer};
use crate::policy;
use crate::sasl;
use crate::session::{self, Handed, Returned, SessionEnd};
use crate::tls::{self, Policy, Tls};

/// Where to connect.
#[derive(Debug, Clone)]
enum Target {
    Tcp {
        name: String,
        address: SocketAddr,
        best: bool,
    },
    /// Where it is, and how the log names it: as the next hop has it.
    Unix(std::path::PathBuf, String),
}

impl Target {
    fn peer(&self) -> Peer {
        match self {
            Self::Tcp { name, address, .. } => Peer::of(name, Some(*address)),
            Self::Unix(_, label) => Peer::of(label, None),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Tcp { name, .. } => name.clone(),
            Self::Unix(..) => "localhost".to_owned(),
        }
    }
}

/// Why nothing was sent, and whether the destination looks dead.
struct Failed {
    status: EnhancedStatus,
    text: String,
    relay: String,
    dead: bool,
}

impl Failed {
    fn temporary(subject: u16, detail: u16, text: String) -> Self {
        Self { status: EnhancedStatus::of(4, subject, detail), text, relay: "none".to_owned(), dead: true }
    }
}

impl From<NoRoute> for Failed {
    fn from(none: NoRoute) -> Self {
        Self { status: none.status, text: none.text, relay: "none".to_owned(), dead: true }
    }
}

/// Carries one lease out; every recipient is reported or abandoned when this ends.
pub async fn deliver(shared: &Arc<Shared>, job: Job) {
    let generation = shared.now();
    let main = generation.main_of(&job.lease.destination.transport);
    let ident = job::ident(&main.syslog_name, job.lease.destination.kind);
    let mut job = job;
    if let Err(why) = generic::apply(&shared.lookups, &generation, &main, &mut job).await {
        shared.log.warning(&ident, &format!("{}: generic maps: {why}", job.lease.id));
        let failed = Failed { dead: false, ..Failed::temporary(3, 0, "address rewriting failed".to_owned()) };
        return job.end_all(&shared.log, &ident, |recipient| end(&failed, recipient));
    }
    let mut job = Some(job);
    // A server that takes few recipients at once gets the message several times.
    while let Some(open) = job.take() {
        let open = if sasl::may_share(&main) { reuse(shared, &ident, open).await } else { Some(open) };
        let Some(open) = open else { return };
        let left = match prepare(shared, &generation, &main, &open).await {
            Ok((targets, policy)) => {
                let attempt = Attempt { shared, generation: &generation, main: &main, ident: &ident, policy };
                attempt.targets(open, &targets).await
            }
            Err(failed) => Left::Failed(open, failed),
        };
        match left {
            Left::Nothing => {}
            Left::More(more) => job = Some(more),
            Left::Failed(mut open, failed) => open.end_all(&shared.log, &ident, |recipient| end(&failed, recipient)),
        }
    }
}

/// What a conversation, or all of them, left to do.
enum Left {
    /// Every recipient is settled.
    Nothing,
    /// Recipients that were not tried, because the server takes so many at once.
    More(Job),
    /// Recipients that were tried in vain, and what they end with where nobody else is tried.
    Failed(Job, Failed),
}

/// Tries a connection that is open already. None when the message is settled; else it goes on with a new connection.
async fn reuse(shared: &Arc<Shared>, ident: &Ident, job: Job) -> Option<Job> {
    let destination = job.lease.destination.clone();
    let (back, returned) = oneshot::channel();
    if let Some(handed) = shared.pool.hand(&destination, Handed { job, back }) {
        return Some(handed.job);
    }
    let Returned { mut job, end, peer } = returned.await.ok()?;
    if let SessionEnd::Outcomes(outcomes) = end {
        // What is refused for now is tried on a fresh connection.
        job.settle(&shared.log, ident, outcomes, &peer, true);
    }
    (!job.open.is_empty()).then_some(job)
}

fn end(failed: &Failed, recipient: &LeaseRecipient) -> End {
    let permanent = failed.status.severity() == Severity::Permanent;
    let text = if failed.text == "Host unknown" {
        format!("550 5.1.2 <{}>... Host unknown", recipient.address)
    } else {
        failed.text.clone()
    };
    End {
        fate: if permanent { Fate::Bounced } else { Fate::Deferred { dead: failed.dead } },
        status: failed.status,
        text,
        relay: failed.relay.clone(),
        diagnostic: None,
        remote: None,
    }
}

/// The targets and the TLS policy of a destination.
async fn prepare(
    shared: &Shared,
    generation: &Arc<Generation>,
    main: &Arc<Main>,
    job: &Job,
) -> Result<(Vec<Target>, Policy), Failed> {
    let destination = &job.lease.destination;
    let lmtp = destination.kind == TransportKind::Lmtp;
    let unusable = || Failed::temporary(3, 5, format!("`{}' is no next hop of this transport", destination.nexthop));
    let hop = NextHop::parse(&destination.nexthop).ok_or_else(unusable)?;
    let policy = tls::policy(generation, &shared.lookups, main, destination.kind, &destination.nexthop, &hop)
        .await
        .map_err(|text| Failed::temporary(7, 5, text))?;
    let (name, named_port, by_mx) = match hop {
        NextHop::Unix(path) if lmtp => {
            let label = format!("{}[{path}]", *main.myhostname);
            let path = Path::new(main.queue_directory.as_str()).join(path);
            return Ok((
                vec![Target::Unix(path, label)],
                if policy.tls == Tls::May { Policy::in_clear() } else { policy },
            ));
        }
        NextHop::Unix(_) => return Err(unusable()),
        NextHop::Host { name, port } => (name, port, false),
        // LMTP knows no MX.
        NextHop::Domain { name, port } => (name, port, !lmtp),
    };
    let default_port = if lmtp { &main.lmtp_tcp_port } else { &main.smtp_tcp_port };
    let port = policy::port(&generation.config, named_port.as_deref().unwrap_or(default_port.as_str()))
        .map_err(|text| Failed::temporary(3, 5, text))?;
    let rules = Rules { generation: Arc::clone(generation), main: Arc::clone(main), port };
    let resolver = Arc::clone(&shared.dns.borrow());
    let hosts = match name.parse::<IpAddr>() {
        Ok(address) if !by_mx => vec![route::Host { name, address, best: true }],
        _ if by_mx => route::for_domain(resolver.as_ref(), &name, &rules).await?,
        _ => route::for_host(resolver.as_ref(), &name, &rules).await?,
    };
    let target = |host: route::Host| Target::Tcp {
        address: SocketAddr::new(host.address, port),
        name: host.name,
        best: host.best,
    };
    Ok((hosts.into_iter().map(target).collect(), policy))
}

/// What main.cf says about hosts.
struct Rules {
    generation: Arc<Generation>,
    main: Arc<Main>,
    port: u16,
}

impl route::Rules for Rules {
    /// A name alone proves nothing (another port, a proxy); the address and port of a listener of ours do.
    fn is_self(&self, _name: &str, address: Option<IpAddr>) -> bool {
        address.is_some_and(|address| policy::is_ours(&self.generation.config, address, self.port))
    }

    fn usable(&self, address: IpAddr) -> bool {
        let versions = *self.main.inet_protocols;
        if address.is_ipv4() { versions.v4 } else { versions.v6 }
    }

    fn shuffle(&self, exchangers: &mut Vec<Mx>) {
        if *self.main.smtp_randomize_addresses {
            shuffle(exchangers);
        }
    }

    fn limit(&self) -> usize {
        usize::try_from(*self.main.smtp_mx_address_limit).unwrap_or(usize::MAX)
    }
}

/// Equal hosts share the load: any order will do, as long as it differs from time to time.
fn shuffle<T>(items: &mut [T]) {
    use std::hash::{BuildHasher as _, RandomState};
    for at in (1..items.len()).rev() {
        let random = RandomState::new().hash_one(at);
        let other = usize::try_from(random % (at as u64 + 1)).unwrap_or(0);
        items.swap(at, other);
    }
}

/// One attempt at a destination.
struct Attempt<'a> {
    shared: &'a Arc<Shared>,
    generation: &'a Generation,
    /// main.cf as the transport sees it.
    main: &'a Arc<Main>,
    ident: &'a Ident,
    policy: Policy,
}

impl Attempt<'_> {
    /// Tries the targets in their order until no recipient is left that was tried in vain.
    async fn targets(&self, mut job: Job, targets: &[Target]) -> Left {
        let session_limit = usize::try_from(*self.main.smtp_mx_session_limit).unwrap_or(usize::MAX).max(1);
        let (mut sessions, mut last) = (0, Failed::temporary(4, 1, "no mail server could be reached".to_owned()));
        for (number, target) in targets.iter().enumerate() {
            if !job.may_begin() {
                return Left::Nothing;
            }
            let stream = match open(self.main, target, job.lease.destination.kind).await {
                Ok(stream) => stream,
                Err(text) => {
                    last = Failed::temporary(4, 1, text);
                    continue;
                }
            };
            sessions += 1;
            let another = number + 1 < targets.len() && sessions < session_limit;
            (job, last) = match self.converse(job, target, stream, another).await {
                Left::Failed(open, failed) => (open, failed),
                other => return other,
            };
            if last.status.severity() == Severity::Permanent || !another {
                break;
            }
        }
        Left::Failed(job, last)
    }

    /// One host: a conversation, and after failed opportunistic TLS a second one in clear.
    async fn converse(&self, job: Job, target: &Target, stream: Stream, another: bool) -> Left {
        let Some((job, end)) = self.session(job, target, stream, &self.policy).await else { return Left::Nothing };
        if !(self.policy.tls == Tls::May && is_about_tls(&end)) {
            return self.judge(job, end, target, another);
        }
        match open(self.main, target, job.lease.destination.kind).await {
            Ok(stream) => {
                let clear = Policy::in_clear();
                let Some((job, end)) = self.session(job, target, stream, &clear).await else { return Left::Nothing };
                self.judge(job, end, target, another)
            }
            Err(text) => Left::Failed(job, Failed::temporary(4, 1, text)),
        }
    }

    /// Hands the message to a new connection and waits until it comes back.
    async fn session(&self, job: Job, target: &Target, stream: Stream, policy: &Policy) -> Option<(Job, SessionEnd)> {
        let settings = match self.settings(&job, target, policy).await {
            Ok(settings) => settings,
            Err(text) => return Some((job, SessionEnd::NotBegun(text))),
        };
        let client = match policy.tls {
            Tls::Off => None,
            _ => ClientTls::checked(policy.check(&target.name())).ok().map(|client| (client, target.name())),
        };
        let stream = match (&client, policy.tls) {
            (Some((client, name)), Tls::Wrapped) => {
                let limit = settings.timeouts.starttls;
                match tokio::time::timeout(limit, client.connect(stream, name)).await {
                    Ok(Ok(stream)) => stream,
                    _ => return Some((job, SessionEnd::TlsFailed(client.refusal()))),
                }
            }
            _ => stream,
        };
        let (back, returned) = oneshot::channel();
        let first = Handed { job, back };
        tokio::spawn(session::run(
            Arc::clone(self.shared),
            Arc::clone(self.main),
            stream,
            Arc::new(settings),
            client,
            target.peer(),
            first,
        ));
        let Returned { job, end, .. } = returned.await.ok()?;
        Some((job, end))
    }

    /// How the client machine talks to a target.
    async fn settings(&self, job: &Job, target: &Target, policy: &Policy) -> Result<Settings, String> {
        let destination = &job.lease.destination;
        let starttls = match policy.tls {
            Tls::Off | Tls::Wrapped => Starttls::Off,
            Tls::May => Starttls::May,
            Tls::Required => Starttls::Required,
        };
        let mut settings = policy::settings(self.main, destination.kind, starttls);
        if destination.kind == TransportKind::Smtp {
            let (sender, hop, name) = (&job.lease.sender, &destination.nexthop, target.name());
            let verified = policy.verifies();
            let find = |view: &View| sasl::credentials(self.main, view, sender, &name, hop, verified);
            settings.credentials = self.generation.decide(&self.shared.lookups, find).await?;
        }
        // On another port than that of SMTP a host of the same name may well be another server.
        let own_port = policy::port(&self.generation.config, &self.main.smtp_tcp_port);
        if matches!(target, Target::Tcp { address, .. } if own_port == Ok(address.port())) {
            settings.own_name = Some(self.main.myhostname.to_string());
        }
        Ok(settings)
    }

    fn judge(&self, mut job: Job, end: SessionEnd, target: &Target, another: bool) -> Left {
        let peer = target.peer();
        let temporary = |subject, detail, text| Failed {
            relay: peer.relay.clone(),
            dead: false,
            ..Failed::temporary(subject, detail, text)
        };
        let failed = match end {
            SessionEnd::Outcomes(outcomes) => {
                let Some(left) = job.settle(&self.shared.log, self.ident, outcomes, &peer, another) else {
                    return if job.open.is_empty() { Left::Nothing } else { Left::More(job) };
                };
                Failed { status: left.status, text: left.text, relay: left.relay, dead: false }
            }
            SessionEnd::Failed(failure) if matches!(failure.cause, Cause::OwnName(_)) => looping(target, &job),
            SessionEnd::Failed(failure) => Failed {
                status: failure.cause.status().with_severity(failure.severity),
                text: failure.cause.describe(&peer.label),
                relay: peer.relay,
                dead: true,
            },
            SessionEnd::TlsFailed(why) => {
                temporary(7, 5, why.unwrap_or_else(|| "Cannot start TLS: handshake failure".to_owned()))
            }
            SessionEnd::NotBegun(why) => temporary(7, 0, why),
            SessionEnd::Gone => temporary(4, 2, format!("lost connection with {}", peer.label)),
        };
        Left::Failed(job, failed)
    }
}

/// Whether a session ended before anything was sent, for a reason that may be gone without TLS.
fn is_about_tls(end: &SessionEnd) -> bool {
    match end {
        SessionEnd::TlsFailed(_) => true,
        SessionEnd::Failed(failure) => matches!(
            failure.cause,
            Cause::Lost(Stage::Starttls)
                | Cause::TimedOut(Stage::Starttls)
                | Cause::Garbage { stage: Stage::Starttls, .. }
        ),
        _ => false,
    }
}

/// The host greets with our own name: the best one sends the mail back to us, a worse one may be another machine's mistake.
fn looping(target: &Target, job: &Job) -> Failed {
    let (relay, name) = (target.peer().relay, &job.lease.destination.nexthop);
    let best = matches!(target, Target::Tcp { best: true, .. });
    let (class, text) = match best {
        true => (5, format!("mail for {name} loops back to myself")),
        false => (4, format!("host {} replied to EHLO with my own hostname", target.peer().label)),
    };
    Failed { status: EnhancedStatus::of(class, 4, 6), text, relay, dead: false }
}

async fn open(main: &Main, target: &Target, kind: TransportKind) -> Result<Stream, String> {
    let limit = if kind == TransportKind::Lmtp { *main.lmtp_connect_timeout } else { *main.smtp_connect_timeout };
    let limit = if limit.is_zero() { Duration::from_secs(30) } else { limit };
    let connecting = async {
        match target {
            Target::Tcp { address, .. } => {
                let tcp = TcpStream::connect(address).await?;
                tcp.set_nodelay(true)?;
                Ok(Stream::Tcp(tcp))
            }
            Target::Unix(path, _) => UnixStream::connect(path).await.map(Stream::Unix),
        }
    };
    let shown = match target {
        Target::Tcp { address, .. } => format!("{}:{}", target.peer().label, address.port()),
        Target::Unix(..) => target.peer().label,
    };
    match tokio::time::timeout(limit, connecting).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("connect to {shown}: {}", plain(&error))),
        Err(_) => Err(format!("connect to {shown}: Connection timed out")),
    }
}

/// The system's words without Rust's number behind them.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.as_str(), |(words, _)| words).to_owned()
}
