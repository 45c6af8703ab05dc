//! authd: who may log in, and where a user's mail lies.
//!
//! One front without rights serves `auth.sock` (SASL for smtpd, pop3d and imapd; login tokens for their monitors) and `lookup.sock` (users of
//! the machine and of Dovecot's userdb, and the tables that servers answer ([`tables`]), for whoever decides about mail). What the plan of dovecot.conf means is in the crate `accounts`; here are
//! the facts it asks for ([`sources`]), the brake on guessing ([`throttle`]), the tokens ([`tokens`]), the memory of logins ([`remembered`]) and the conversations.
//!
//! What needs rights is done by the monitor's helpers ([`helpers`]): PAM and shadow in a process per question, and opening passwd-files that
//! only root may read. The front may be restarted at any moment: it keeps nothing that matters, and its clients connect again.
//!
//! Deliberately not here: SQL and LDAP as sources of logins, OAuth2; any mailbox, any network port.

mod cache;
mod conversation;
mod files;
mod front;
mod helper;
mod helpers;
mod login;
mod lookup;
mod questions;
mod remembered;
mod sources;
mod tables;
mod throttle;
mod tokens;

use mail_daemon::{Daemon, Plan, Supervision};
use mail_ipc::hello::Role;
use mail_ipc::sockets;

/// The daemon, for `main`.
#[must_use]
pub fn daemon() -> Daemon {
    Daemon {
        name: "authd",
        role: Role::Authd,
        user: "postrider-auth",
        plan: |_| Plan { unix: vec![sockets::AUTH, sockets::LOOKUP], ..Plan::default() },
        tls: |_| Vec::new(),
        supervision: Supervision::Service(|| Box::new(helpers::Helpers::default())),
        serve: |context| Box::pin(front::serve(context)),
    }
}
