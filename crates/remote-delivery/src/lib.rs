//! SMTP and LMTP client: mail for other servers.
//!
//! It takes leases from queue-manager, finds the hosts of the next hop (MX, `[host]:port`, a Unix socket), speaks SMTP or LMTP to them, reuses
//! connections for further messages, and reports each recipient's outcome as soon as it is known. Several instances run side by side.
//! The protocol is `mail-smtp`'s client machine, the order of hosts `mail-dns`'s; the conversation with queue-manager is `mail_daemon::worker`.
//!
//! It deliberately does not retry by itself: what is deferred goes back to the queue. TLS levels above `encrypt` are deferred, never sent with less.

mod connect;
mod job;
mod policy;
mod pool;
mod session;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use decision::Ident;
use mail_config::Main;
use mail_daemon::worker::{self, Carrier, Content, Reports};
use mail_daemon::{Context, Daemon, Log, Plan, Running, Supervision};
use mail_dns::{Lookup, Resolver};
use mail_ipc::delivery::{Destination, Lease, Outcome, TransportKind};
use mail_ipc::hello::Role;
use tokio::sync::watch;

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
        tls: |_| Vec::new(),
        supervision: Supervision::Alone,
        serve: |context| -> Pin<Box<dyn Future<Output = ()> + Send>> { Box::pin(serve(context)) },
    }
}

/// What all deliveries share.
struct Shared {
    running: watch::Receiver<Arc<Running>>,
    log: Log,
    /// Name servers of the current generation.
    dns: watch::Receiver<Arc<dyn Lookup>>,
    pool: Pool,
    mains: Mutex<Mains>,
}

/// main.cf as the transports of one generation see it, with the `-o` of their lines in master.cf.
#[derive(Default)]
struct Mains {
    generation: Option<Arc<Running>>,
    by_transport: HashMap<String, Arc<Main>>,
}

impl Shared {
    fn now(&self) -> Arc<Running> {
        Arc::clone(&self.running.borrow())
    }

    fn main_of(&self, running: &Arc<Running>, transport: &str) -> Arc<Main> {
        let mut mains = self.mains.lock().unwrap_or_else(PoisonError::into_inner);
        if !mains.generation.as_ref().is_some_and(|known| Arc::ptr_eq(known, running)) {
            *mains = Mains { generation: Some(Arc::clone(running)), by_transport: HashMap::new() };
        }
        let read = || match running.config.master.transport(transport) {
            Some(found) if !found.service.overrides.is_empty() => Arc::new(running.config.for_service(found.service)),
            _ => Arc::clone(&running.config.main),
        };
        Arc::clone(mains.by_transport.entry(transport.to_owned()).or_insert_with(read))
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
        let shared = Arc::clone(&self.0);
        tokio::spawn(async move { connect::deliver(&shared, Job::new(lease, content, reports)).await });
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
    let shared = Arc::new(Shared {
        running: context.running.clone(),
        log: context.log.clone(),
        dns: receiver,
        pool: Pool::default(),
        mains: Mutex::default(),
    });
    tokio::spawn(follow_servers(context.running.clone(), sender, context.log.clone(), ident.clone()));
    context.ready();
    worker::work(&context, &ident, Arc::new(Remote(shared))).await;
}

/// Takes other name servers when the configuration names others, or resolv.conf may have changed.
async fn follow_servers(
    mut running: watch::Receiver<Arc<Running>>,
    dns: watch::Sender<Arc<dyn Lookup>>,
    log: Log,
    ident: Ident,
) {
    while running.changed().await.is_ok() {
        let now = Arc::clone(&running.borrow_and_update());
        match resolver(&now) {
            Ok(resolver) => drop(dns.send_replace(resolver)),
            Err(error) => log.warning(&ident, &format!("name servers stay as they were: {error}")),
        }
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
