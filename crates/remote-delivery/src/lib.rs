//! SMTP and LMTP client: mail for other servers.
//!
//! It takes leases from queue-manager, finds the hosts of the next hop (MX, `[host]:port`, a Unix socket), speaks SMTP or LMTP to them, reuses
//! connections for further messages, and reports each recipient's outcome as soon as it is known. Several instances run side by side.
//! The protocol is `mail-smtp`'s client machine, the order of hosts `mail-dns`'s; the conversation with queue-manager is `mail_daemon::worker`.
//!
//! It deliberately does not retry by itself: what is deferred goes back to the queue. What a TLS policy or a login asks for and cannot be had defers the
//! mail; it is never sent with less. DANE is not built. Passwords of relay hosts are read by the monitor, as keys are.

mod connect;
mod generation;
mod generic;
mod job;
mod policy;
mod pool;
mod sasl;
mod session;
mod tls;

use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use decision::Ident;
use mail_daemon::lookups::Lookups;
use mail_daemon::worker::{self, Carrier, Content, Reports};
use mail_daemon::{Context, Daemon, Log, Plan, Running, Supervision};
use mail_dns::{Lookup, Resolver};
use mail_ipc::delivery::{Destination, Lease, Outcome, TransportKind};
use mail_ipc::hello::Role;
use tokio::sync::watch;

use crate::generation::Generation;
use crate::job::Job;
use crate::pool::Pool;

/// Leases under way at once.
const SLOTS: usize = 500;

/// The daemon, for `main`.
#[must_use]
pub fn daemon() -> Daemon {
    Daemon {
        name: "remote-delivery",
        role: Role::RemoteDelivery,
        user: "postrider-remote",
        plan: |_| Plan::default(),
        tls: generation::secrets,
        supervision: Supervision::Monitor,
        serve: |context| -> Pin<Box<dyn Future<Output = ()> + Send>> { Box::pin(serve(context)) },
    }
}

/// What all deliveries share.
struct Shared {
    log: Log,
    /// Name servers of the current generation.
    dns: watch::Receiver<Arc<dyn Lookup>>,
    pool: Pool,
    generation: RwLock<Arc<Generation>>,
    /// Asks tables that must be waited for.
    lookups: Lookups,
}

impl Shared {
    fn now(&self) -> Arc<Generation> {
        Arc::clone(&self.generation.read().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Remote(Arc<Shared>);

impl Carrier for Remote {
    fn kinds(&self) -> Vec<TransportKind> {
        vec![TransportKind::Smtp, TransportKind::Lmtp]
    }

    fn slots(&self) -> usize {
        SLOTS
    }

    fn open(&self) -> Vec<Destination> {
        self.0.pool.destinations()
    }

    fn carry(&self, lease: Lease, content: Content, reports: Reports) {
        let words = self.0.now();
        let forwarded = words.config.main.prepend_delivered_header.iter().any(|word| word == "forward");
        let content = Arc::new(content);
        for part in job::by_chain(lease) {
            let shared = Arc::clone(&self.0);
            let job = Job::new(part, Arc::clone(&content), reports.clone(), forwarded);
            tokio::spawn(async move { connect::deliver(&shared, job).await });
        }
    }

    fn recorded(&self, _outcome: Outcome) {}
}

async fn serve(context: Context) {
    let ident = Ident::postfix(&context.now().config.main.syslog_name, "smtp");
    let dns = match resolver(&context.now()) {
        Ok(dns) => dns,
        Err(error) => {
            context.log.warning(&ident, &format!("name servers: {error}; mail that needs DNS is deferred"));
            Arc::new(NoServers)
        }
    };
    let (sender, receiver) = watch::channel(dns);
    let (generation, reports) = Generation::new(&context.now());
    reports.iter().for_each(|report| context.log.warning(&ident, &report.line()));
    let shared = Arc::new(Shared {
        log: context.log.clone(),
        dns: receiver,
        pool: Pool::default(),
        generation: RwLock::new(Arc::new(generation)),
        lookups: Lookups::new(context.state().to_owned(), context.hello()),
    });
    tokio::spawn(follow(Arc::clone(&shared), context.running.clone(), sender, ident.clone()));
    context.ready();
    worker::work(&context, &ident, Arc::new(Remote(shared))).await;
}

/// Takes each new generation with its name servers, and tables whose sources have changed.
async fn follow(
    shared: Arc<Shared>,
    mut running: watch::Receiver<Arc<Running>>,
    dns: watch::Sender<Arc<dyn Lookup>>,
    ident: Ident,
) {
    loop {
        let reports = tokio::select! {
            changed = running.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = Arc::clone(&running.borrow_and_update());
                match resolver(&now) {
                    Ok(resolver) => drop(dns.send_replace(resolver)),
                    Err(error) => shared.log.warning(&ident, &format!("name servers stay as they were: {error}")),
                }
                let (generation, reports) = Generation::new(&now);
                *shared.generation.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(generation);
                reports
            }
            () = tokio::time::sleep(Duration::from_secs(1)) => shared.now().check(),
        };
        reports.iter().for_each(|report| shared.log.warning(&ident, &report.line()));
    }
}

fn resolver(running: &Running) -> std::io::Result<Arc<dyn Lookup>> {
    let servers = policy::dns_servers(&running.config.main)?;
    let resolver = if servers.is_empty() { Resolver::system()? } else { Resolver::with_servers(&servers)? };
    Ok(Arc::new(resolver))
}

/// Stands in while no name server is known: every answer is temporary.
struct NoServers;

impl NoServers {
    fn answer<'a, T: Send + 'a>() -> mail_dns::Answer<'a, T> {
        Box::pin(std::future::ready(Err(mail_dns::DnsError::Temporary("no name server is known".to_owned()))))
    }
}

impl Lookup for NoServers {
    fn mx<'a>(&'a self, _domain: &'a str) -> mail_dns::Answer<'a, Vec<mail_dns::Mx>> {
        Self::answer()
    }
    fn addresses<'a>(&'a self, _host: &'a str) -> mail_dns::Answer<'a, Vec<std::net::IpAddr>> {
        Self::answer()
    }
    fn names<'a>(&'a self, _address: std::net::IpAddr) -> mail_dns::Answer<'a, Vec<String>> {
        Self::answer()
    }
}
