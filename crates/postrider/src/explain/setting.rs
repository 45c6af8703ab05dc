//! What a case is evaluated in: a configuration with its tables, and whoever knows users and names.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use admission::facts::{Fact as Fetch, Fetched, Sources, View};
use decision::Lookup;
use mail_config::{Config, Listener, Main, Report};
use mail_dns::Resolver;
use mail_policy::{DnsFact, VerifiedFact};
use mail_route::{Stop, World};
use mail_tables::{Disk, Files, Snapshot, Stamp, TableSet};
use mail_types::SourceLine;

use super::explanation::Fact;
use super::users::{Existing, Users};
use super::verification::Verification;

/// How often one decision may ask for one more fact, as in smtpd.
const FACTS_MAX: usize = 2000;

/// A configuration with its tables.
#[derive(Clone)]
pub struct Setting {
    /// main.cf, master.cf, dovecot.conf.
    pub config: Arc<Config>,
    /// The tables.
    pub tables: Arc<Snapshot>,
    /// What is wrong with the tables.
    pub reports: Vec<String>,
}

impl Setting {
    /// Reads the tables of a configuration; `overlay` are files with another content than they have, for "what if".
    #[must_use]
    pub fn new(config: Arc<Config>, overlay: &BTreeMap<PathBuf, Vec<u8>>) -> Self {
        let (tables, reports) = TableSet::open(&config, Box::new(Overlaid(overlay.clone())));
        let reports = reports.iter().map(Report::line).collect();
        Self { tables: Arc::new(tables.snapshot().recording()), config, reports }
    }

    /// Says of each lookup that found nothing where its table is named: in `list` if that names it, else wherever main.cf does.
    pub fn name(&self, main: &Main, list: &str, source: &SourceLine, lookups: &mut [Lookup]) {
        for lookup in lookups.iter_mut().filter(|lookup| lookup.source.is_none()) {
            let of_list = main.expanded(list).is_some_and(|value| value.contains(&lookup.table));
            let named = if of_list { None } else { named_at(main, &lookup.table) };
            lookup.source = Some(named.unwrap_or_else(|| source.clone()));
        }
    }

    /// The listener that a case names: by its name in master.cf or its port; without one, that of port 25, else the first.
    ///
    /// # Errors
    /// A sentence that lists those there are.
    pub fn listener(&self, named: Option<&str>) -> Result<&Listener, String> {
        let listeners = self.config.listeners();
        let on = |port: u16| listeners.iter().find(|listener| listener.addresses.iter().any(|a| a.port() == port));
        let found = match named {
            Some(named) => {
                let by_name = listeners.iter().find(|listener| listener.service.name == named);
                by_name.or_else(|| on(self.config.port(named)?))
            }
            None => on(25).or_else(|| listeners.first()),
        };
        found.ok_or_else(|| {
            let names: Vec<&str> = listeners.iter().map(|listener| listener.service.name.as_str()).collect();
            match named {
                Some(named) => {
                    format!("no listener `{}'; master.cf has {}", super::text::shown(named), names.join(", "))
                }
                None => "master.cf has no smtpd that listens".to_owned(),
            }
        })
    }
}

/// The line that names a table.
fn named_at(main: &Main, table: &str) -> Option<SourceLine> {
    let raw = main.raw();
    let names = |value: &str| {
        value.contains(table) || value.contains('$') && raw.expand(value).is_ok_and(|value| value.contains(table))
    };
    raw.entries.values().find(|entry| names(&entry.value)).map(|entry| entry.source.clone())
}

/// The file system with some files changed.
struct Overlaid(BTreeMap<PathBuf, Vec<u8>>);

impl Files for Overlaid {
    fn stamp(&self, path: &Path) -> io::Result<Stamp> {
        match self.0.get(path) {
            Some(octets) => Ok(Stamp { size: octets.len() as u64, modified: std::time::SystemTime::UNIX_EPOCH }),
            None => Disk.stamp(path),
        }
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.get(path).map_or_else(|| Disk.read(path), |octets| Ok(octets.clone()))
    }
}

/// Whoever knows what stands in no file: users and names. What was found out is kept, so that a case evaluated again asks nothing twice.
pub struct Outside {
    /// Users.
    pub users: Arc<Users>,
    /// Users and DNS as smtpd has them.
    pub sources: Sources<Existing>,
    /// Whether DNS may be asked.
    pub ask_dns: bool,
    /// What the running queue-manager knows of addresses.
    pub verification: Arc<Verification>,
    /// What is supposed of an address of which nobody knows anything yet.
    pub unverified: VerifiedFact,
}

impl Outside {
    /// The outside of a configuration. Without `ask_dns` every name is supposed to exist, and the explanation says so.
    #[must_use]
    pub fn new(config: &Config, ask_dns: bool) -> Self {
        let users = Arc::new(Users::new(config));
        let dns: Option<Resolver> = if ask_dns { admission::facts::resolver(&config.main) } else { None };
        let verification = Arc::new(Verification::new(config));
        let sources = Sources { users: Existing::new(Arc::clone(&users)), dns };
        Self { sources, users, ask_dns, verification, unverified: VerifiedFact::Deliverable }
    }

    /// The same, where addresses of which nobody knows anything turn out otherwise.
    #[must_use]
    pub fn with_unverified(&self, unverified: VerifiedFact) -> Self {
        let sources = Sources { users: self.sources.users.clone(), dns: self.sources.dns.clone() };
        let (users, verification) = (Arc::clone(&self.users), Arc::clone(&self.verification));
        Self { sources, users, ask_dns: self.ask_dns, verification, unverified }
    }

    /// The same with users that there are not.
    #[must_use]
    pub fn supposing(&self, config: &Config, names: &[&str]) -> Self {
        let users = Arc::new(Users::supposing(config, names));
        let sources = Sources { users: Existing::new(Arc::clone(&users)), dns: self.sources.dns.clone() };
        let (verification, unverified) = (Arc::clone(&self.verification), self.unverified.clone());
        Self { users, sources, ask_dns: self.ask_dns, verification, unverified }
    }

    /// Fetches what a restriction asked for, and says what came back.
    pub async fn fetch(&self, view: &View<'_>, question: mail_policy::Question) -> (Fetch, Vec<Fact>) {
        if let mail_policy::Question::Verified(address) = &question {
            let (answer, from) = self.verification.ask(address, &self.unverified);
            let fact = Fact { question: format!("deliverability of {address}"), answer: verified_words(&answer), from };
            return (Fetch::Other(question, mail_policy::Fact::Verified(answer)), vec![fact]);
        }
        let described = describe(&question);
        let supposed = described.as_ref().filter(|_| !self.ask_dns || !is_dns(&question));
        if let (Some(asked), Some(answer)) = (supposed, mail_policy::relay::harmless(&question)) {
            let fact = Fact { question: asked.clone(), answer: words(&answer), from: "supposed".to_owned() };
            return (Fetch::Other(question, answer), vec![fact]);
        }
        let fetched = self.sources.fetch(view, question).await;
        let mut facts = self.users.take_facts();
        if let (Some(question), Fetch::Other(_, answer)) = (described, &fetched) {
            facts.push(Fact { question, answer: words(answer), from: "dns".to_owned() });
        }
        (fetched, facts)
    }
}

/// Whether DNS is asked; policy services never are.
fn is_dns(question: &mail_policy::Question) -> bool {
    use mail_policy::Question;
    matches!(question, Question::MailDomain(_) | Question::Host(_) | Question::List(_) | Question::Hosts(..))
}

/// A question in words; none for what users and tables answer.
fn describe(question: &mail_policy::Question) -> Option<String> {
    use mail_policy::{HostKind, Question};
    Some(match question {
        Question::MailDomain(name) => format!("mail domain {name}"),
        Question::Host(name) => format!("host {name}"),
        Question::List(name) => format!("DNS list entry {name}"),
        Question::Hosts(HostKind::Address, name) => format!("addresses of {name}"),
        Question::Hosts(HostKind::MailServer, name) => format!("mail servers of {name}"),
        Question::Hosts(HostKind::NameServer, name) => format!("name servers of {name}"),
        Question::Policy(request) => format!("policy service {}", request.service.endpoint),
        Question::Pause { seconds, .. } => format!("pause of {seconds} s"),
        Question::Address(_) | Question::Table(_) | Question::Verified(_) => return None,
    })
}

fn words(fact: &mail_policy::Fact) -> String {
    use mail_policy::{Fact, HostsFact, ListFact, PolicyFact};
    match fact {
        Fact::Dns(fact) => dns_words(*fact).to_owned(),
        Fact::List(ListFact::Listed { codes, reason }) => format!("listed {codes:?} {reason}"),
        Fact::List(ListFact::NotListed) => "not listed".to_owned(),
        Fact::Hosts(HostsFact::Hosts(hosts)) => {
            hosts.iter().map(|host| host.name.as_str()).collect::<Vec<_>>().join(", ")
        }
        Fact::Hosts(HostsFact::Itself(host)) => host.name.clone(),
        Fact::Hosts(HostsFact::Nothing) => "none".to_owned(),
        Fact::List(ListFact::Temporary) | Fact::Hosts(HostsFact::Temporary) => "no answer for now".to_owned(),
        Fact::Policy(PolicyFact::Action(action)) => action.clone(),
        Fact::Verified(fact) => verified_words(fact),
        Fact::Policy(PolicyFact::Unavailable(why)) => why.clone(),
        Fact::Paused => "over".to_owned(),
    }
}

fn verified_words(fact: &VerifiedFact) -> String {
    match fact {
        VerifiedFact::Deliverable => "deliverable".to_owned(),
        VerifiedFact::Undeliverable(why) => format!("undeliverable: {why}"),
        VerifiedFact::Deferred(why) => format!("not yet known to be good: {why}"),
        VerifiedFact::Unavailable(why) => why.clone(),
    }
}

fn dns_words(fact: DnsFact) -> &'static str {
    match fact {
        DnsFact::Found => "there is such a name",
        DnsFact::NullMx => "accepts no mail (null MX)",
        DnsFact::Nothing => "does not exist",
        DnsFact::Temporary => "no answer for now",
    }
}

/// What routing works on, and what it learns on the way.
pub struct Route<'a> {
    /// The configuration and its tables.
    pub setting: &'a Setting,
    /// main.cf as the asking daemon has it.
    pub main: &'a Main,
    /// Users and names.
    pub outside: &'a Outside,
}

impl Route<'_> {
    /// Asks a pure function again and again until it has all facts; with its answer comes every lookup that it made.
    ///
    /// # Errors
    /// Why it cannot be said now.
    pub async fn decide<T>(
        &self,
        fetched: &mut Fetched,
        run: impl Fn(&World<'_>, &mut Vec<Lookup>) -> Result<T, Stop>,
    ) -> Result<(T, Vec<Lookup>), String> {
        for _ in 0..FACTS_MAX {
            let question = {
                let view =
                    View { config: &self.setting.config, main: self.main, tables: &self.setting.tables, fetched };
                let mut noted = Vec::new();
                // What a run looked up that missed a fact, it looks up again.
                drop(self.setting.tables.take_asked());
                match run(&view.world(), &mut noted) {
                    Ok(decided) => {
                        let mut lookups = mail_policy::lookups::every(self.setting.tables.take_asked(), noted);
                        self.setting.name(self.main, "", &SourceLine::built_in(), &mut lookups);
                        return Ok((decided, lookups));
                    }
                    Err(Stop::Temporary(why)) => return Err(why),
                    Err(Stop::Missing(question)) => question,
                }
            };
            fetched.add(self.outside.sources.fetch_route(question).await);
        }
        Err("too many lookups".to_owned())
    }
}
