//! What restrictions and routing may know: tables in memory, and what was fetched for one transaction.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mail_config::{Config, Main};
use mail_dns::{DnsError, Lookup as _, Resolver};
use mail_policy::{AddressFact, Classified, DnsFact, DomainClass, Existence, Facts, Missing, Question};
use mail_route::{Answers, Class, Stop, World};
use mail_tables::{Query, Remote, RemoteAnswer, Snapshot, TableKind};
use mail_types::{Address, Domain};

/// How long a name server may take for one question.
const DNS_PATIENCE: Duration = Duration::from_secs(10);

/// So many octets of answers a transaction remembers.
const ANSWERS_MAX: usize = 8 << 20;

/// What was fetched for one transaction, so that the same question is asked once.
#[derive(Default)]
pub struct Fetched {
    answers: Answers,
    dns: HashMap<Question, DnsFact>,
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
        let judged = resolved.and_then(|resolved| mail_route::recipient(&world, &resolved, &mut Vec::new()));
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
            let existence = mail_route::recipient(&world, &resolved, &mut Vec::new())?;
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

    fn dns(&self, question: &Question) -> Result<DnsFact, Missing> {
        self.fetched.dns.get(question).copied().ok_or_else(|| Missing(question.clone()))
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
            Question::MailDomain(_) | Question::Host(_) => {
                let fact = self.ask_dns(&question).await;
                Fact::Dns(question, fact)
            }
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

    async fn ask_dns(&self, question: &Question) -> DnsFact {
        let Some(dns) = &self.dns else { return DnsFact::Temporary };
        let asked = async {
            match question {
                Question::MailDomain(domain) => mail_domain(dns, domain).await,
                Question::Host(name) => host(dns, name).await,
                _ => DnsFact::Temporary,
            }
        };
        tokio::time::timeout(DNS_PATIENCE, asked).await.unwrap_or(DnsFact::Temporary)
    }

    /// The client's name: its reverse name, and whether that leads back to it.
    pub async fn client_name(&self, client: IpAddr) -> mail_policy::ClientName {
        let Some(dns) = &self.dns else { return mail_policy::ClientName { temporary: true, ..Default::default() } };
        let asked = async {
            let names = match dns.names(client).await {
                Ok(names) => names,
                Err(error) => return mail_policy::ClientName { temporary: is_temporary(&error), ..Default::default() },
            };
            let Some(name) = names.into_iter().next().map(|name| name.trim_end_matches('.').to_owned()) else {
                return mail_policy::ClientName::default();
            };
            let (verified, temporary) = match dns.addresses(&name).await {
                Ok(addresses) => (addresses.contains(&client).then(|| name.clone()), false),
                Err(error) => (None, is_temporary(&error)),
            };
            mail_policy::ClientName { verified, reverse: Some(name), temporary }
        };
        let late = mail_policy::ClientName { temporary: true, ..Default::default() };
        tokio::time::timeout(DNS_PATIENCE, asked).await.unwrap_or(late)
    }
}

/// A fact that was fetched.
pub enum Fact {
    /// Nothing had to be fetched any more.
    Known,
    /// For routing.
    Route(mail_route::Question, RemoteAnswer),
    /// For `reject_unknown_*`.
    Dns(Question, DnsFact),
}

impl Fetched {
    /// Remembers a fact.
    pub fn add(&mut self, fact: Fact) {
        match fact {
            Fact::Known => {}
            Fact::Route(question, answer) => {
                if let RemoteAnswer::Found(value) = &answer {
                    self.octets += value.len();
                }
                // Whatever is asked again costs time only.
                if self.octets > ANSWERS_MAX {
                    (self.answers, self.octets) = Default::default();
                }
                self.answers.0.insert(question, answer);
            }
            Fact::Dns(question, fact) => {
                self.dns.insert(question, fact);
            }
        }
    }
}

fn is_temporary(error: &DnsError) -> bool {
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
