//! What restrictions and routing may know: tables in memory, and what was fetched for one transaction.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mail_config::{Config, Main};
use mail_dns::{DnsError, Lookup as _, Resolver};
use mail_policy::{
    AddressFact, Classified, ClientName, DnsFact, DomainClass, Existence, Facts, HostsFact, ListFact, Missing,
    PolicyFact, Question, VerifiedFact,
};
use mail_route::{Answers, Class, Stop, World};
use mail_tables::{Answer, Query, Remote, RemoteAnswer, Scope, Snapshot, TableKind, TableRef};
use mail_types::{Address, Domain, Sender};

use crate::origin::Unsaid;
use crate::{hosts, lists};

/// How long a name server may take for one question.
const DNS_PATIENCE: Duration = Duration::from_secs(10);

/// The most questions to tables that one answer takes.
const LOOKUPS_MAX: usize = 20;

/// So many octets of answers a transaction remembers.
const ANSWERS_MAX: usize = 8 << 20;

/// What was fetched for one transaction, so that the same question is asked once.
#[derive(Default)]
pub struct Fetched {
    /// The sender of the transaction, on whom the way of its mail may depend; none outside one.
    pub sender: Option<Sender>,
    answers: Answers,
    others: HashMap<Question, mail_policy::Fact>,
    octets: usize,
}

/// What was found out about a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// There is such a user.
    Yes,
    /// There is none.
    No,
    /// Nobody knows just now; the text is for the log.
    Later(String),
}

/// Which database of users is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Database {
    /// `unix:passwd.byname`.
    Passwd,
    /// Dovecot's userdb.
    Mail,
}

/// Who knows users, and asks tables that must be waited for: authd for smtpd.
pub trait Users {
    /// Whether a user exists.
    fn exists(&self, database: Database, name: &str) -> impl Future<Output = Known> + Send;

    /// What a table of another process says. Only the transaction remembers it.
    fn table(&self, query: &Query) -> impl Future<Output = RemoteAnswer> + Send;
}

/// Where facts come from that are not in memory.
pub struct Sources<U> {
    /// Users.
    pub users: U,
    /// The name servers; none if none could be found.
    pub dns: Option<Resolver>,
}

/// The name servers of `postrider_dns_servers`, or of the system; none if neither can be used.
#[must_use]
pub fn resolver(main: &Main) -> Option<Resolver> {
    let named = main.postrider_dns_servers.iter().filter_map(|text| {
        let address = text.parse().ok();
        address.or_else(|| text.parse().ok().map(|ip| std::net::SocketAddr::new(ip, 53)))
    });
    let named: Vec<_> = named.collect();
    if named.is_empty() { Resolver::system().ok() } else { Resolver::with_servers(&named).ok() }
}

/// Configuration, tables and fetched facts at one moment.
pub struct View<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// main.cf as the listener sees it.
    pub main: &'a Main,
    /// The tables.
    pub tables: &'a Arc<Snapshot>,
    /// What was fetched.
    pub fetched: &'a Fetched,
}

impl<'a> View<'a> {
    /// The same as the functions of `mail-route` see it.
    #[must_use]
    pub fn world(&self) -> World<'a> {
        World { config: self.config, main: self.main, tables: self.tables, facts: &self.fetched.answers }
    }
}

impl View<'_> {
    /// What must be fetched before it is known whether an address exists.
    fn missing_for(&self, address: &Address) -> Option<mail_route::Question> {
        let world = self.world();
        let resolved = mail_route::resolve(&world, address, &mut Vec::new());
        let judged = resolved.and_then(|resolved| {
            mail_route::recipient(&world, &resolved, self.fetched.sender.as_ref(), &mut Vec::new())
        });
        match judged {
            Err(Stop::Missing(question)) => Some(question),
            _ => None,
        }
    }
}

impl Facts for View<'_> {
    fn tables(&self) -> &Snapshot {
        self.tables
    }

    fn remote(&self) -> &dyn Remote {
        &self.fetched.answers
    }

    fn class(&self, domain: &Domain) -> Result<Classified, Missing> {
        match mail_route::class(&self.world(), domain, &mut Vec::new()) {
            Ok(found) => Ok(Classified::Class(domain_class(found.class))),
            Err(Stop::Temporary(why)) => Ok(Classified::Unavailable(why)),
            Err(Stop::Missing(mail_route::Question::Table(query))) => Err(Missing(Question::Table(query))),
            Err(Stop::Missing(other)) => {
                Ok(Classified::Unavailable(format!("{other:?} is no question about a domain")))
            }
        }
    }

    fn address(&self, address: &Address) -> Result<AddressFact, Missing> {
        let world = self.world();
        let judged = mail_route::resolve(&world, address, &mut Vec::new()).and_then(|resolved| {
            let existence = mail_route::recipient(&world, &resolved, self.fetched.sender.as_ref(), &mut Vec::new())?;
            Ok((resolved.class.class, existence))
        });
        match judged {
            Ok((class, mail_route::Existence::Listed)) => {
                Ok(AddressFact { class: domain_class(class), existence: Existence::Listed })
            }
            Ok((class, mail_route::Existence::Unknown { .. })) => {
                Ok(AddressFact { class: domain_class(class), existence: Existence::Unknown })
            }
            Ok((class, mail_route::Existence::Undeliverable { text, permanent })) => {
                let existence = Existence::Undeliverable { text, permanent };
                Ok(AddressFact { class: domain_class(class), existence })
            }
            Err(Stop::Missing(_)) => Err(Missing(Question::Address(address.clone()))),
            // Any class of ours would do: the reply is the same temporary one.
            Err(Stop::Temporary(why)) => {
                Ok(AddressFact { class: DomainClass::Local, existence: Existence::Unavailable(why) })
            }
        }
    }

    fn fetched(&self, question: &Question) -> Option<mail_policy::Fact> {
        self.fetched.others.get(question).cloned()
    }

    fn is_own_address(&self, address: IpAddr) -> bool {
        address.is_loopback() || mail_route::is_own_address(self.config, self.main, address)
    }
}

fn domain_class(class: Class) -> DomainClass {
    match class {
        Class::Local => DomainClass::Local,
        Class::VirtualAlias => DomainClass::VirtualAlias,
        Class::VirtualMailbox => DomainClass::VirtualMailbox,
        Class::Relay => DomainClass::Relay,
        Class::Default => DomainClass::Foreign,
    }
}

impl<U: Users> Sources<U> {
    /// Fetches one fact; afterwards the question that needed it goes on.
    pub async fn fetch(&self, view: &View<'_>, question: Question) -> Fact {
        match question {
            Question::Address(address) => {
                let missing = view.missing_for(&address);
                match missing {
                    Some(question) => self.fetch_route(question).await,
                    None => Fact::Known,
                }
            }
            Question::Table(query) => self.fetch_route(mail_route::Question::Table(query)).await,
            other => {
                let fact = self.ask(&other).await;
                Fact::Other(other, fact)
            }
        }
    }

    /// Asks tables in order, and waits for those that servers answer.
    pub async fn look_up(&self, tables: &Snapshot, maps: &[TableRef], key: &str) -> Answer {
        let mut answers = HashMap::new();
        for _ in 0..LOOKUPS_MAX {
            match tables.search(maps, key, Scope::Full, &answers) {
                Answer::Missing(query) => {
                    let answer = self.table(&query).await;
                    answers.insert(query, answer);
                }
                said => return said,
            }
        }
        Answer::Temporary("too many lookups".to_owned())
    }

    /// Runs a function that names what must be asked first, until it has said what it says.
    ///
    /// # Errors
    /// Why it cannot say.
    pub async fn settle<T>(
        &self,
        mut ask: impl FnMut(&HashMap<Query, RemoteAnswer>) -> Result<T, Unsaid>,
    ) -> Result<T, String> {
        let mut answers = HashMap::new();
        for _ in 0..LOOKUPS_MAX {
            match ask(&answers) {
                Ok(said) => return Ok(said),
                Err(Unsaid::Temporary(why)) => return Err(why),
                Err(Unsaid::Missing(query)) => {
                    let answer = self.table(&query).await;
                    answers.insert(query, answer);
                }
            }
        }
        Err("too many lookups".to_owned())
    }

    /// What a table of another process says.
    async fn table(&self, query: &Query) -> RemoteAnswer {
        match self.fetch_route(mail_route::Question::Table(query.clone())).await {
            Fact::Route(_, answer) => answer,
            _ => RemoteAnswer::Temporary(format!("{}: nobody asked for it", query.table)),
        }
    }

    /// Fetches what routing asked for.
    pub async fn fetch_route(&self, question: mail_route::Question) -> Fact {
        let known = match &question {
            mail_route::Question::Table(query) if query.table.kind != TableKind::UnixPasswd => {
                let answer = self.users.table(query).await;
                return Fact::Route(question, answer);
            }
            mail_route::Question::Table(query) => self.users.exists(Database::Passwd, &query.key).await,
            mail_route::Question::Mailbox { user } => self.users.exists(Database::Mail, user).await,
        };
        let answer = match known {
            Known::Yes => RemoteAnswer::Found(String::new()),
            Known::No => RemoteAnswer::NotFound,
            Known::Later(why) => RemoteAnswer::Temporary(why),
        };
        Fact::Route(question, answer)
    }

    /// Asks DNS. Policy services and probes are asked by whoever holds the connections to them.
    async fn ask(&self, question: &Question) -> mail_policy::Fact {
        use mail_policy::Fact;
        let nobody = || "nobody is asked here".to_owned();
        match question {
            Question::MailDomain(domain) => {
                Fact::Dns(self.bounded(DnsFact::Temporary, |dns| mail_domain(dns, domain)).await)
            }
            Question::Host(name) => Fact::Dns(self.bounded(DnsFact::Temporary, |dns| host(dns, name)).await),
            Question::List(name) => Fact::List(self.bounded(ListFact::Temporary, |dns| lists::listed(dns, name)).await),
            Question::Hosts(kind, name) => {
                Fact::Hosts(self.bounded(HostsFact::Temporary, |dns| hosts::of(dns, *kind, name)).await)
            }
            Question::Policy(_) => Fact::Policy(PolicyFact::Unavailable(nobody())),
            Question::Verified(_) => Fact::Verified(VerifiedFact::Unavailable(nobody())),
            Question::Pause { .. } => Fact::Paused,
            Question::Address(_) | Question::Table(_) => Fact::Dns(DnsFact::Temporary),
        }
    }

    /// An answer of the name servers; `late` if there are none, or none that answers in time.
    async fn bounded<'a, T, F: Future<Output = T>>(&'a self, late: T, ask: impl FnOnce(&'a Resolver) -> F) -> T {
        match &self.dns {
            Some(dns) => tokio::time::timeout(DNS_PATIENCE, ask(dns)).await.unwrap_or(late),
            None => late,
        }
    }

    /// The client's name: its reverse name, and whether that leads back to it.
    pub async fn client_name(&self, client: IpAddr) -> ClientName {
        let unknown = |temporary| ClientName { temporary, reverse_temporary: temporary, ..ClientName::default() };
        let asked = |dns: &'_ Resolver| {
            let dns = dns.clone();
            async move {
                let names = match dns.names(client).await {
                    Ok(names) => names,
                    Err(error) => return unknown(is_temporary(&error)),
                };
                let Some(name) = names.into_iter().next().map(|name| name.trim_end_matches('.').to_owned()) else {
                    return unknown(false);
                };
                let (verified, temporary) = match dns.addresses(&name).await {
                    Ok(addresses) => (addresses.contains(&client).then(|| name.clone()), false),
                    Err(error) => (None, is_temporary(&error)),
                };
                ClientName { verified, reverse: Some(name), temporary, reverse_temporary: false }
            }
        };
        self.bounded(unknown(true), asked).await
    }
}

/// A fact that was fetched.
pub enum Fact {
    /// Nothing had to be fetched any more.
    Known,
    /// For routing.
    Route(mail_route::Question, RemoteAnswer),
    /// For restrictions.
    Other(Question, mail_policy::Fact),
}

impl Fetched {
    /// Remembers a fact.
    pub fn add(&mut self, fact: Fact) {
        match fact {
            Fact::Known => {}
            Fact::Route(question, answer) => {
                let length = if let RemoteAnswer::Found(value) = &answer { value.len() } else { 0 };
                // Whatever is asked again costs time only.
                if self.octets + length > ANSWERS_MAX {
                    (self.answers, self.octets) = Default::default();
                }
                self.octets += length;
                self.answers.0.insert(question, answer);
            }
            Fact::Other(question, fact) => {
                self.others.insert(question, fact);
            }
        }
    }

    /// Forgets what is good for one command alone, once that is judged.
    pub fn end_of_command(&mut self) {
        self.others.retain(|question, _| !question.is_for_one_command());
    }
}

pub(crate) fn is_temporary(error: &DnsError) -> bool {
    matches!(error, DnsError::Temporary(_))
}

/// MX, or else an address.
async fn mail_domain(dns: &Resolver, domain: &str) -> DnsFact {
    match dns.mx(domain).await {
        Ok(mx) if mx.iter().any(|mx| mx.exchange.is_empty()) => DnsFact::NullMx,
        Ok(mx) if !mx.is_empty() => DnsFact::Found,
        Err(error) if is_temporary(&error) => DnsFact::Temporary,
        _ => has_address(dns, domain).await,
    }
}

/// An address, or else MX.
async fn host(dns: &Resolver, name: &str) -> DnsFact {
    match has_address(dns, name).await {
        DnsFact::Nothing => match dns.mx(name).await {
            Ok(mx) if !mx.is_empty() => DnsFact::Found,
            Err(error) if is_temporary(&error) => DnsFact::Temporary,
            _ => DnsFact::Nothing,
        },
        other => other,
    }
}

async fn has_address(dns: &Resolver, name: &str) -> DnsFact {
    match dns.addresses(name).await {
        Ok(addresses) if !addresses.is_empty() => DnsFact::Found,
        Err(error) if is_temporary(&error) => DnsFact::Temporary,
        _ => DnsFact::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox(user: &str) -> mail_route::Question {
        mail_route::Question::Mailbox { user: user.to_owned() }
    }

    #[test]
    fn answers_are_remembered_as_far_as_memory_allows() {
        let mut fetched = Fetched::default();
        let value = || RemoteAnswer::Found("x".repeat(ANSWERS_MAX / 4));
        for user in ["a", "b", "c", "d"] {
            fetched.add(Fact::Route(mailbox(user), value()));
        }
        assert_eq!(fetched.answers.0.len(), 4);
        fetched.add(Fact::Route(mailbox("e"), RemoteAnswer::NotFound));
        assert_eq!(fetched.answers.0.get(&mailbox("e")), Some(&RemoteAnswer::NotFound));
        assert_eq!(fetched.answers.0.len(), 5);
        fetched.add(Fact::Route(mailbox("f"), RemoteAnswer::Found("y".to_owned())));
        assert_eq!((fetched.answers.0.len(), fetched.octets), (1, 1), "the newest is there");
    }

    #[test]
    fn what_is_good_for_one_command_is_forgotten_with_it() {
        let mut fetched = Fetched::default();
        let verified = Question::Verified("a@example.org".parse().expect("an address"));
        let host = Question::Host("mx.example.org".to_owned());
        fetched.add(Fact::Other(verified.clone(), mail_policy::Fact::Verified(VerifiedFact::Deliverable)));
        fetched.add(Fact::Other(host.clone(), mail_policy::Fact::Dns(DnsFact::Found)));
        assert_eq!(fetched.others.len(), 2);
        fetched.end_of_command();
        assert!(fetched.others.contains_key(&host) && !fetched.others.contains_key(&verified));
    }
}
