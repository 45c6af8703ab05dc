//! One recipient of a lease, from the grant to its outcome.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use decision::{Ident, Lookup};
use mail_config::Config;
use mail_daemon::Log;
use mail_daemon::worker::{Content, Reports};
use mail_ipc::delivery::{Fate, Lease, LeaseRecipient, Outcome, TransportKind};
use mail_ipc::lookup::PasswdUser;
use mail_route::{Answers, Question, Stop, World};
use mail_tables::address::{Delimiters, Key, Search, search};
use mail_tables::{RemoteAnswer, Snapshot, TableKind};
use mail_types::{Address, EnhancedStatus, UnixTime};

use crate::content::reference;
use crate::deliverers::{Deliverers, Lost};
use crate::expand;
use crate::headers::{Scan, Trace};
use crate::job::{Job, Program, Report, Target};
use crate::route::{self, Place};
use crate::template::{self, Person};
use crate::users::{Found, Users};
use crate::virtual_mailbox::{self, Virtual};

/// Questions to other processes that one decision may need.
const QUESTIONS_MAX: usize = 100;
/// What every attempt uses.
pub struct Tools {
    /// Asks authd.
    pub users: Users,
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
    pub config: Config,
    /// The tables.
    pub tables: Arc<Snapshot>,
    /// Who writes the log lines.
    pub ident: Ident,
    /// When the lease was granted to us.
    pub granted: UnixTime,
    /// Its content counts until everything about it is done.
    pub _counted: Octets,
}

/// Octets of content in memory, counted as long as they are.
pub struct Octets {
    all: Arc<AtomicU64>,
    own: u64,
    reports: Option<Reports>,
}

impl Octets {
    /// Counts a content; at its end the worker that `reports` belongs to looks whether it takes more.
    #[must_use]
    pub fn of(content: &Content, all: &Arc<AtomicU64>, reports: Option<Reports>) -> Self {
        let own = match content {
            Content::Memory(octets) => octets.len() as u64,
            Content::File { .. } => 0,
        };
        all.fetch_add(own, Ordering::Relaxed);
        Self { all: Arc::clone(all), own, reports }
    }
}

impl Drop for Octets {
    fn drop(&mut self) {
        self.all.fetch_sub(self.own, Ordering::Relaxed);
        self.reports.iter().for_each(Reports::room_changed);
    }
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
    pub(crate) fn deferred(subject: u16, detail: u16, text: impl Into<String>) -> Self {
        let status = EnhancedStatus::of(4, subject, detail);
        Self { fate: Fate::Deferred { dead: false }, status, text: text.into(), login: None }
    }

    pub(crate) fn bounced(subject: u16, detail: u16, text: impl Into<String>) -> Self {
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

impl Tools {
    /// Attempts one recipient.
    pub async fn attempt(&self, work: &Work, recipient: &LeaseRecipient) -> End {
        let scan = match &work.scan {
            Ok(scan) => scan,
            Err(error) => return End::deferred(3, 0, format!("queue file read error: {error}")),
        };
        match work.lease.destination.kind {
            TransportKind::Local => self.local(work, recipient, scan).await,
            TransportKind::Virtual => self.virtual_mailbox(work, recipient, scan).await,
            TransportKind::Mailbox => self.mailbox(work, recipient, scan).await,
            _ => End::deferred(3, 5, "this transport is not one of local-delivery's"),
        }
    }

    async fn local(&self, work: &Work, recipient: &LeaseRecipient, scan: &Scan) -> End {
        if scan.is_loop(&recipient.address) {
            return End::bounced(4, 6, format!("mail forwarding loop for {}", recipient.address));
        }
        let alias = match self.decide(work, |world, lookups| expand::alias(world, &recipient.address, lookups)).await {
            Ok((alias, lookups)) => {
                if let Some(alias) = &alias {
                    self.log_alias(work, recipient, alias, &lookups);
                }
                alias
            }
            Err(text) => return End::deferred(3, 0, text),
        };
        // Its name stands in the chain once for its alias and once for its forward file, as far as they were expanded.
        let seen = recipient.chain.iter().filter(|address| **address == recipient.address).count();
        match alias {
            Some(alias) if seen == 0 => self.listed(work, recipient, &alias, None, scan).await,
            Some(alias) if seen == 1 && recipient.part.is_some() => {
                self.part(work, recipient, &alias, None, scan).await
            }
            alias => self.user(work, recipient, scan, seen > usize::from(alias.is_some())).await,
        }
    }

    /// Asks a pure function again and again until it has all facts; the error is for a deferral.
    pub(crate) async fn decide<T>(
        &self,
        work: &Work,
        run: impl Fn(&World<'_>, &mut Vec<Lookup>) -> Result<T, Stop>,
    ) -> Result<(T, Vec<Lookup>), String> {
        let mut answers = Answers::default();
        for _ in 0..QUESTIONS_MAX {
            let question = {
                let world =
                    World { config: &work.config, main: &work.config.main, tables: &work.tables, facts: &answers };
                let mut lookups = Vec::new();
                match run(&world, &mut lookups) {
                    Ok(decided) => return Ok((decided, lookups)),
                    Err(Stop::Temporary(why)) => return Err(format!("table lookup problem: {why}")),
                    Err(Stop::Missing(question)) => question,
                }
            };
            let answer = self.ask(&question).await;
            answers.0.insert(question, answer);
        }
        Err("too many lookups".to_owned())
    }

    async fn ask(&self, question: &Question) -> RemoteAnswer {
        match question {
            Question::Table(query) if query.table.kind == TableKind::UnixPasswd => {
                match self.users.passwd(&query.key).await {
                    Found::User(user) => RemoteAnswer::Found(user.name),
                    Found::Nobody => RemoteAnswer::NotFound,
                    Found::Later(text) => RemoteAnswer::Temporary(text),
                }
            }
            Question::Table(query) => self.users.table(query).await,
            Question::Mailbox { user } => RemoteAnswer::Temporary(format!("{user}: not asked by local-delivery")),
        }
    }

    pub(crate) async fn default_privileges(&self, work: &Work) -> Result<PasswdUser, End> {
        let name = work.config.main.default_privs.as_str();
        match self.users.passwd(name).await {
            Found::User(user) => Ok(user),
            Found::Nobody => Err(End::deferred(3, 5, format!("unknown user in default_privs: {name}"))),
            Found::Later(text) => Err(End::deferred(3, 0, format!("user lookup error: {text}"))),
        }
    }

    async fn virtual_mailbox(&self, work: &Work, recipient: &LeaseRecipient, scan: &Scan) -> End {
        let address = &recipient.address;
        if scan.is_loop(address) {
            return End::bounced(4, 6, format!("mail forwarding loop for {address}"));
        }
        let place = match self.decide(work, |world, _| virtual_mailbox::find(world, address)).await {
            Ok((Virtual::Place(place), _)) => place,
            Ok((Virtual::Unknown, _)) => return End::bounced(1, 1, format!("unknown user: \"{address}\"")),
            Ok((Virtual::Wrong(text), _)) => {
                return End::deferred(3, 5, format!("mail system configuration error: {text}"));
            }
            Err(text) => return End::deferred(3, 0, text),
        };
        let report = self.carry_out(work, recipient, &place, trace(work, recipient, "file"), scan).await;
        end(report, Some(place.login), |text| text)
    }

    /// The user of the machine whom an address names; `forwarded` says that the forward file has been expanded.
    async fn user(&self, work: &Work, recipient: &LeaseRecipient, scan: &Scan, forwarded: bool) -> End {
        let names = route::user_names(&recipient.address, &work.config.main);
        let name = names.last().cloned().unwrap_or_default();
        for candidate in &names {
            match self.users.passwd(candidate).await {
                Found::User(user) => {
                    let extension = recipient.address.local().get(candidate.len() + 1..);
                    let address = &recipient.address;
                    let person = Person { address, name: &user.name, extension, user: Some(&user) };
                    return self.to_user(work, recipient, person, scan, forwarded).await;
                }
                Found::Nobody => {}
                Found::Later(text) => return End::deferred(3, 0, format!("user lookup error: {text}")),
            }
        }
        let extension = recipient.address.local().get(name.len() + 1..);
        let person = Person { address: &recipient.address, name: &name, extension, user: None };
        self.nobody(work, recipient, person, scan).await
    }

    async fn to_user(
        &self,
        work: &Work,
        recipient: &LeaseRecipient,
        person: Person<'_>,
        scan: &Scan,
        forwarded: bool,
    ) -> End {
        let main = &work.config.main;
        let rights = match self.rights_of(work, person).await {
            Ok(rights) => rights,
            Err(end) => return end,
        };
        let handed = match self.in_place_of_mailbox(work, recipient, person).await {
            Ok(handed) => handed,
            Err(end) => return end,
        };
        let mut place = match self.user_place(work, recipient, person, &rights, handed.is_some()).await {
            Ok(place) => place,
            Err(end) => return end,
        };
        if !forwarded || recipient.part.is_some() {
            match template::forward_files(person, main) {
                Ok(files) => place.forward_files = files,
                Err(text) => return End::deferred(3, 5, format!("mail system configuration error: {text}")),
            }
        }
        if recipient.part.is_some() {
            // Only its list counts; without one there is nothing to do any more.
            place.target = Target::Nothing;
        }
        if let (Some(routed), Target::Elsewhere, true) = (&handed, &place.target, place.forward_files.is_empty()) {
            return self.hand_on(routed);
        }
        let kind = if matches!(place.target, Target::Command(_)) { "command" } else { "file" };
        let report = self.carry_out(work, recipient, &place, trace(work, recipient, kind), scan).await;
        match report {
            Report::Forward { path, listed } => self.forwarded(work, recipient, person, (&path, &listed), scan).await,
            Report::Delivered { .. } if place.target == Target::Elsewhere => {
                handed.map_or_else(|| End::bounced(1, 1, "unknown user"), |routed| self.hand_on(&routed))
            }
            report => end(report, Some(place.login), |text| text),
        }
    }

    /// Where a user's mail would go that no forward file sends elsewhere; `handed` says that another transport takes it.
    async fn user_place(
        &self,
        work: &Work,
        recipient: &LeaseRecipient,
        person: Person<'_>,
        rights: &PasswdUser,
        handed: bool,
    ) -> Result<Place, End> {
        let main = &work.config.main;
        let Some(user) = person.user else { return Err(End::bounced(1, 1, "unknown user")) };
        if handed {
            let (owner, login) = (route::owner(rights), user.name.clone());
            return Ok(Place { owner, target: Target::Elsewhere, forward_files: Vec::new(), login });
        }
        if *main.require_home_directory && user.home.as_bytes().is_empty() {
            return Err(End::deferred(2, 0, format!("cannot access home directory of user {}", user.name)));
        }
        Ok(match self.mailbox_program(work, recipient, person).await? {
            Some(program) => route::program_place(program, route::owner(rights), user),
            None => route::local_place(user, rights, main),
        })
    }

    /// As whom a user's mail is delivered: what belongs to root is written with `default_privs`.
    pub(crate) async fn rights_of(&self, work: &Work, person: Person<'_>) -> Result<PasswdUser, End> {
        match person.user {
            Some(user) if user.uid != 0 => Ok(user.clone()),
            _ => self.default_privileges(work).await,
        }
    }

    /// The program that `mailbox_command_maps` or `mailbox_command` puts in the place of the mailbox.
    async fn mailbox_program(
        &self,
        work: &Work,
        recipient: &LeaseRecipient,
        person: Person<'_>,
    ) -> Result<Option<Program>, End> {
        let main = &work.config.main;
        let key = [Key::full(person.name)];
        let find = |world: &World<'_>, _: &mut Vec<Lookup>| match search(
            &main.mailbox_command_maps,
            &key,
            world.tables,
            world.facts.remote(),
        ) {
            Search::Found { found, .. } => Ok(Some(found.value)),
            Search::NotFound => Ok(None),
            Search::Temporary(why) => Err(Stop::Temporary(why)),
            Search::Missing(query) => Err(Stop::Missing(Question::Table(query))),
        };
        let (own, _) = self.decide(work, find).await.map_err(|text| End::deferred(3, 0, text))?;
        let command = own.unwrap_or_else(|| main.mailbox_command.value.clone());
        let command = command.trim();
        if command.is_empty() {
            return Ok(None);
        }
        program(work, recipient, person, command).map(Some)
    }

    /// The mailbox of a user of Dovecot's userdb.
    async fn mailbox(&self, work: &Work, recipient: &LeaseRecipient, scan: &Scan) -> End {
        let user = mail_user_name(&recipient.address, &work.config.dovecot.settings.recipient_delimiter);
        let address = &recipient.address;
        let user = match self.users.mail(&user).await {
            Found::User(user) => user,
            Found::Nobody => return End::bounced(1, 1, format!("550 5.1.1 <{address}> User doesn't exist: {address}")),
            Found::Later(text) => return End::deferred(3, 0, format!("451 4.3.0 <{address}> {text}")),
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
        let accepted = work.lease.purpose.is_verification();
        let reply = || if accepted { "250 2.1.5 OK".to_owned() } else { format!("250 2.0.0 <{address}> Saved") };
        end(report, Some(place.login), |_| reply())
    }

    pub(crate) async fn carry_out(
        &self,
        work: &Work,
        recipient: &LeaseRecipient,
        place: &Place,
        prefix: String,
        scan: &Scan,
    ) -> Report {
        let lease = &work.lease;
        let mut target = place.target.clone();
        if !self.deliverers.have_rights() {
            // Without rights everything is the caller's, whose mailbox it may be.
            target = target.of_any_owner();
        }
        let verify = lease.purpose.is_verification() || target == Target::Elsewhere;
        if verify && place.forward_files.is_empty() {
            return target.verified();
        }
        let mut job = Job {
            target,
            id: lease.id,
            recipient: recipient.number,
            host: work.config.main.myhostname.value.clone(),
            repeated: lease.unreported || lease.attempt > 1,
            verify,
            forward_files: place.forward_files.clone(),
            prefix,
            from_line: route::from_line(&lease.sender, work.granted, &self.zone),
            omit: scan.return_path.clone(),
            content: reference(&work.content),
        };
        for _ in 0..2 {
            match self.deliverers.deliver(place.owner, &job, &work.content).await {
                Ok(said) => {
                    if let Some(warning) = &said.warning {
                        self.log.warning(&work.ident, warning);
                    }
                    return said.report;
                }
                Err(Lost::Busy | Lost::Stuck) => {
                    return Report::deferred(2, 0, "the delivery process of this user does not answer");
                }
                // What a program did nobody knows; it is not run again at once.
                Err(Lost::Ended) if matches!(job.target, Target::Command(_)) => break,
                // It may have delivered before it ended: the next one looks.
                Err(Lost::Ended) => job.repeated = true,
            }
        }
        Report::deferred(3, 0, "the delivery process ended unexpectedly")
    }
}

/// The recipient as it was given to us, before aliases.
#[must_use]
pub fn original(recipient: &LeaseRecipient) -> String {
    let first = || recipient.chain.first().unwrap_or(&recipient.address).to_string();
    recipient.original.clone().unwrap_or_else(first)
}

/// A program that gets the mail of somebody.
///
/// # Errors
/// A parameter cannot be expanded.
pub fn program(work: &Work, recipient: &LeaseRecipient, person: Person<'_>, command: &str) -> Result<Program, End> {
    let main = &work.config.main;
    let wrong = |text: String| End::deferred(3, 5, format!("mail system configuration error: {text}"));
    Ok(Program {
        command: command.to_owned(),
        shell: main.local_command_shell.value.clone(),
        directory: template::directory(person, main).map_err(wrong)?,
        environment: template::environment(person, &work.lease, recipient, &original(recipient), main),
        export: main.export_environment.value.clone(),
        time_limit: u64::try_from(main.command_time_limit.as_millis()).unwrap_or(u64::MAX),
    })
}

/// The header fields of a delivery by local(8) or virtual(8); `kind` is the word of `prepend_delivered_header`.
pub fn trace(work: &Work, recipient: &LeaseRecipient, kind: &str) -> String {
    let wanted = |kind: &str| work.config.main.prepend_delivered_header.iter().any(|word| word == kind);
    let delivered = wanted(kind);
    let chain = if wanted("forward") { &recipient.chain[..] } else { &[] };
    let original = original(recipient);
    Trace {
        sender: &work.lease.sender,
        original: Some(&original),
        delivered: delivered.then_some(&recipient.address),
        chain,
        angles: false,
    }
    .to_text()
}

/// The name under which Dovecot's LMTP server looks a recipient up: the address without its detail.
fn mail_user_name(address: &Address, delimiters: &str) -> String {
    let (user, _) = Delimiters::only(delimiters).split(address.local());
    format!("{user}@{}", address.domain())
}

/// What a deliverer's report means for the recipient.
pub fn end(report: Report, login: Option<String>, delivered: impl FnOnce(String) -> String) -> End {
    match report {
        Report::Delivered { text } => {
            End { fate: Fate::Delivered, status: EnhancedStatus::of(2, 0, 0), text: delivered(text), login }
        }
        Report::Deferred { status, text } => End { fate: Fate::Deferred { dead: false }, status, text, login: None },
        Report::Bounced { status, text } => End { fate: Fate::Bounced, status, text, login: None },
        Report::Forward { .. } => End::deferred(3, 0, "a forward file was not asked for"),
    }
}
