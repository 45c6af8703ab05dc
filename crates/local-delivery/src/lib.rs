//! local-delivery: the last step of a message on this machine.
//!
//! The coordinator takes leases from queue-manager, looks users up at authd, expands aliases and forward files (as new recipients of the same
//! message, reported to queue-manager), and gives jobs to deliverers: processes that are the recipient, read forward files, write Maildirs and
//! mboxes, and run programs. A deliverer reports after the sync or the program's end; `mail_daemon::worker` repeats every outcome until
//! queue-manager has recorded it, and then the coordinator announces the delivery to imapd. What came by LMTP it
//! takes from smtpd, stores at once and answers: such mail is never queued.
//!
//! Not here: which addresses are ours and what an alias means (`mail-route`), what a recipient stands for (`local-plan`), the formats of mailboxes (`mail-store`), retries and bounces
//! (queue-manager), Sieve.

mod attempt;
mod command;
mod content;
mod coordinator;
mod deliverer;
mod deliverers;
mod elsewhere;
mod headers;
mod lists;
mod mailboxes;
mod monitor;
mod room;
mod users;

use local_plan::{elsewhere as elsewhere_plan, expand, forward, job, route, template, virtual_mailbox};
use mail_daemon::{Daemon, Plan, Supervision};
use mail_ipc::hello::Role;

/// The daemon.
#[must_use]
pub fn daemon() -> Daemon {
    Daemon {
        name: "local-delivery",
        role: Role::LocalDelivery,
        user: "postrider-local",
        plan: |_| Plan { unix: vec![mail_ipc::sockets::DEPOSIT], ..Plan::default() },
        tls: |_| Vec::new(),
        supervision: Supervision::Service(|| Box::new(monitor::Deliverers::default())),
        serve: |context| Box::pin(coordinator::serve(context)),
    }
}
