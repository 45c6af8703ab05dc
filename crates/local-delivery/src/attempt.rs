//! One recipient of a lease, from the grant to its outcome.

use std::sync::Arc;

use mail_config::Main;
use mail_daemon::Log;
use mail_ipc::delivery::{Fate, Lease, LeaseRecipient, Outcome, TransportKind};
use mail_ipc::lookup::{PasswdUser, Request, Response};
use mail_net::ipc::Caller;
use mail_types::{Address, EnhancedStatus, UnixTime};

use crate::content::Content;
use crate::deliverers::{Deliverers, Lost};
use crate::headers::{Scan, Trace};
use crate::job::{Job, Report};
use crate::route::{self, Place};

/// What every attempt uses.
pub struct Tools {
    /// Asks authd.
    pub users: Caller<Request, Response>,
    /// Writes mailboxes.
    pub deliverers: Deliverers,
    /// The log.
    pub log: Log,
    /// The machine's time zone, for mboxes.
    pub zone: jiff::tz::TimeZone,
}

/// A lease with its content and the configuration it is carried out under.
pub struct Work {
    /// The lease.
    pub lease: Lease,
    /// Its content.
    pub content: Content,
    /// What of the content's header matters; an error where it cannot be read.
    pub scan: std::io::Result<Scan>,
    /// The configuration.
    pub main: Arc<Main>,
    /// dovecot.conf's `recipient_delimiter`.
    pub mail_delimiters: String,
    /// When the lease was granted to us.
    pub granted: UnixTime,
}

/// What became of a recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The fate.
    pub fate: Fate,
    /// The enhanced status.
    pub status: EnhancedStatus,
    /// Why, in words.
    pub text: String,
    /// Whose mailbox it lies in now.
    pub login: Option<String>,
}

impl End {
    fn deferred(subject: u16, detail: u16, text: impl Into<String>) -> Self {
        let status = EnhancedStatus::of(4, subject, detail);
        Self { fate: Fate::Deferred { dead: false }, status, text: text.into(), login: None }
    }

    fn bounced(subject: u16, detail: u16, text: impl Into<String>) -> Self {
        Self { fate: Fate::Bounced, status: EnhancedStatus::of(5, subject, detail), text: text.into(), login: None }
    }

    /// The outcome for queue-manager.
    #[must_use]
    pub fn outcome(self, lease: &Lease, recipient: u32, relay: String) -> Outcome {
        Outcome {
            lease: lease.lease,
            id: lease.id,
            attempt: lease.attempt,
            recipient,
            fate: self.fate,
            status: self.status,
            text: self.text,
            relay,
            diagnostic: None,
            remote: None,
        }
    }
}

/// A user, or why there is none now.
enum Found {
    User(PasswdUser),
    Nobody,
    Later(String),
}

impl Tools {
    /// Attempts one recipient.
    pub async fn attempt(&self, work: &Work, recipient: &LeaseRecipient) -> End {
        let scan = match &work.scan {
            Ok(scan) => scan,
            Err(error) => return End::deferred(3, 0, format!("queue file read error: {error}")),
        };
        match work.lease.destination.kind {
            TransportKind::Local => self.local(work, recipient, scan).await,
            TransportKind::Mailbox => self.mailbox(work, recipient, scan).await,
            _ => End::deferred(3, 5, "this transport is not one of local-delivery's"),
        }
    }

    async fn local(&self, work: &Work, recipient: &LeaseRecipient, scan: &Scan) -> End {
        if scan.is_loop(&recipient.address) {
            return End::bounced(4, 6, format!("mail forwarding loop for {}", recipient.address));
        }
        self.user(work, recipient, scan).await
    }

    /// The mailbox of a user of the machine.
    async fn user(&self, work: &Work, recipient: &LeaseRecipient, scan: &Scan) -> End {
        let names = route::user_names(&recipient.address, &work.main);
        let name = names.last().cloned().unwrap_or_default();
        for candidate in &names {
            match self.passwd(candidate).await {
                Found::User(user) => {
                    let extension = (names.len() > 1 && *candidate == name).then(|| &names[0][name.len() + 1..]);
                    return self.to_user(work, recipient, scan, &user, extension).await;
                }
                Found::Nobody => {}
                Found::Later(text) => return End::deferred(3, 0, text),
            }
        }
        End::bounced(1, 1, format!("unknown user: \"{name}\""))
    }

    async fn to_user(
        &self,
        work: &Work,
        recipient: &LeaseRecipient,
        scan: &Scan,
        user: &PasswdUser,
        extension: Option<&str>,
    ) -> End {
        let privileged;
        let mut rights = user;
        if user.uid == 0 {
            // local(8): what belongs to root is written with `default_privs`.
            privileged = match self.passwd(&work.main.default_privs).await {
                Found::User(user) => user,
                Found::Nobody => {
                    return End::deferred(3, 5, format!("unknown user in default_privs: {}", *work.main.default_privs));
                }
                Found::Later(text) => return End::deferred(3, 0, text),
            };
            rights = &privileged;
        }
        if *work.main.require_home_directory && user.home.as_bytes().is_empty() {
            return End::deferred(2, 0, format!("cannot access home directory of user {}", user.name));
        }
        let place = route::local_place(user, rights, extension, &work.main);
        let original = original(recipient);
        let delivered =
            work.main.prepend_delivered_header.iter().any(|word| word == "file").then_some(&recipient.address);
        let trace = Trace {
            sender: &work.lease.sender,
            original: Some(&original),
            delivered,
            chain: &recipient.chain,
            angles: false,
        };
        let report = self.carry_out(work, recipient, &place, trace.to_text(), scan).await;
        end(report, place.login, |text| text)
    }

    /// The mailbox of a user of Dovecot's userdb.
    async fn mailbox(&self, work: &Work, recipient: &LeaseRecipient, scan: &Scan) -> End {
        let user = mail_user_name(&recipient.address, &work.mail_delimiters);
        let answer = self.users.call(&Request::Mail { user, service: "lmtp".to_owned() }, &[]).await;
        let address = &recipient.address;
        let user = match answer.map(|reply| reply.message) {
            Ok(Response::Mail { user }) => user,
            Ok(Response::NotFound) => {
                return End::bounced(1, 1, format!("550 5.1.1 <{address}> User doesn't exist: {address}"));
            }
            Ok(Response::Temporary { text }) => return End::deferred(3, 0, format!("451 4.3.0 <{address}> {text}")),
            Ok(_) => return End::deferred(3, 0, format!("451 4.3.0 <{address}> Temporary internal error")),
            Err(error) => return End::deferred(3, 0, format!("451 4.3.0 <{address}> user lookup: {error}")),
        };
        let place = match route::mail_place(&user, self.deliverers.have_rights()) {
            Ok(place) => place,
            Err(text) => return End::deferred(3, 5, format!("451 4.3.5 <{address}> {text}")),
        };
        let trace = Trace {
            sender: &work.lease.sender,
            original: None,
            delivered: Some(address),
            chain: &recipient.chain,
            angles: true,
        };
        let report = self.carry_out(work, recipient, &place, trace.to_text(), scan).await;
        end(report, place.login, |_| format!("250 2.0.0 <{address}> Saved"))
    }

    async fn carry_out(
        &self,
        work: &Work,
        recipient: &LeaseRecipient,
        place: &Place,
        prefix: String,
        scan: &Scan,
    ) -> Report {
        let lease = &work.lease;
        let mut job = Job {
            target: place.target.clone(),
            id: lease.id,
            recipient: recipient.number,
            host: work.main.myhostname.value.clone(),
            repeated: lease.unreported || lease.attempt > 1,
            forward_files: place.forward_files.clone(),
            prefix,
            from_line: route::from_line(&lease.sender, work.granted, &self.zone),
            omit: scan.return_path.clone(),
            content: work.content.reference(),
        };
        for _ in 0..2 {
            match self.deliverers.deliver(place.owner, &job, &work.content).await {
                Ok(report) => return report,
                // It may have delivered before it ended: the next one looks.
                Err(Lost) => job.repeated = true,
            }
        }
        Report::deferred(3, 0, "the delivery process ended unexpectedly")
    }

    async fn passwd(&self, name: &str) -> Found {
        match self.users.call(&Request::Passwd { name: name.to_owned() }, &[]).await.map(|reply| reply.message) {
            Ok(Response::Passwd { user }) => Found::User(user),
            Ok(Response::NotFound) => Found::Nobody,
            Ok(Response::Temporary { text }) => Found::Later(format!("user lookup error: {text}")),
            Ok(_) => Found::Later("user lookup error: authd speaks another version".to_owned()),
            Err(error) => Found::Later(format!("user lookup error: {error}")),
        }
    }
}

/// The recipient as it was given to us, before aliases.
#[must_use]
pub fn original(recipient: &LeaseRecipient) -> String {
    let first = || recipient.chain.first().unwrap_or(&recipient.address).to_string();
    recipient.original.clone().unwrap_or_else(first)
}

/// The name under which Dovecot's LMTP server looks a recipient up: the address without its detail.
fn mail_user_name(address: &Address, delimiters: &str) -> String {
    let local = address.local();
    let user = route::split_extension(local, delimiters, false).map_or(local, |(user, _)| user);
    format!("{user}@{}", address.domain())
}

fn end(report: Report, login: String, delivered: impl FnOnce(String) -> String) -> End {
    match report {
        Report::Delivered { text } => End {
            fate: Fate::Delivered,
            status: EnhancedStatus::of(2, 0, 0),
            text: delivered(text),
            login: Some(login),
        },
        Report::Deferred { status, text } => End { fate: Fate::Deferred { dead: false }, status, text, login: None },
        Report::Bounced { status, text } => End { fate: Fate::Bounced, status, text, login: None },
    }
}
