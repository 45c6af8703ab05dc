//! What the functions may look at, and how they ask for more.

use std::collections::HashMap;

use decision::Lookup;
use mail_config::main_cf::lists::TableRef;
use mail_config::{Config, Main};
use mail_tables::address::{Delimiters, Key, Search, map_keys, search};
use mail_tables::{Query, Remote, RemoteAnswer, Snapshot};
use mail_types::{Address, Domain};

use crate::class::local;

/// A question that another process must answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Question {
    /// A key of a table such as `unix:passwd.byname`.
    Table(Query),
    /// A user of Dovecot's userdb, as LMTP would look the recipient up.
    Mailbox {
        /// The recipient without extension.
        user: String,
    },
}

/// Why a function ends without an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// Ask this first, then call again.
    Missing(Question),
    /// A table cannot say now; the text is for the log.
    Temporary(String),
}

/// What the caller has asked other processes so far.
pub trait Facts: Remote {
    /// Whether Dovecot's userdb knows a user; nothing if that was not asked yet.
    fn mailbox(&self, user: &str) -> Option<RemoteAnswer>;

    /// The same facts as tables see them.
    fn remote(&self) -> &dyn Remote;
}

/// Nothing has been asked.
impl Facts for () {
    fn mailbox(&self, _: &str) -> Option<RemoteAnswer> {
        None
    }

    fn remote(&self) -> &dyn Remote {
        self
    }
}

/// Facts in a map, remembered for a transaction.
#[derive(Debug, Clone, Default)]
pub struct Answers(pub HashMap<Question, RemoteAnswer>);

impl Remote for Answers {
    fn answer(&self, query: &Query) -> Option<RemoteAnswer> {
        self.0.get(&Question::Table(query.clone())).cloned()
    }
}

impl Facts for Answers {
    fn mailbox(&self, user: &str) -> Option<RemoteAnswer> {
        self.0.get(&Question::Mailbox { user: user.to_owned() }).cloned()
    }

    fn remote(&self) -> &dyn Remote {
        self
    }
}

/// Everything a function may look at.
#[derive(Clone, Copy)]
pub struct World<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// main.cf as this service sees it: `config.main`, or that of a listener.
    pub main: &'a Main,
    /// The tables.
    pub tables: &'a Snapshot,
    /// The answers of other processes.
    pub facts: &'a dyn Facts,
}

impl World<'_> {
    /// Asks tables for keys in order and writes the lookups down.
    pub(crate) fn search(
        &self,
        tables: &[TableRef],
        keys: &[Key],
        lookups: &mut Vec<Lookup>,
    ) -> Result<Option<Hit>, Stop> {
        if tables.is_empty() {
            return Ok(None);
        }
        match search(tables, keys, self.tables, self.facts.remote()) {
            Search::Found { found, extension } => {
                lookups.push(Lookup {
                    table: found.table.clone(),
                    key: found.key.clone(),
                    value: Some(found.value.clone()),
                    source: Some(found.source.clone()),
                });
                Ok(Some(Hit {
                    value: found.value,
                    source: found.source,
                    table: found.table,
                    key: found.key,
                    extension,
                }))
            }
            Search::NotFound => {
                let names = tables.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                let keys = keys.iter().map(|key| key.text.as_str()).collect::<Vec<_>>().join(", ");
                lookups.push(Lookup { table: names, key: keys, value: None, source: None });
                Ok(None)
            }
            Search::Temporary(why) => Err(Stop::Temporary(why)),
            Search::Missing(query) => Err(Stop::Missing(Question::Table(query))),
        }
    }

    /// Asks tables for an address with the keys of canonical(5): the local part alone too, where the domain is `myorigin` or ours.
    pub(crate) fn ask(
        &self,
        address: &Address,
        tables: &[TableRef],
        lookups: &mut Vec<Lookup>,
    ) -> Result<Option<Hit>, Stop> {
        if tables.is_empty() {
            return Ok(None);
        }
        let keys = map_keys(address, Delimiters::of(self.main), self.is_here(address.domain())?);
        self.search(tables, &keys, lookups)
    }

    /// Whether a domain is `myorigin` or one of ours.
    fn is_here(&self, domain: &Domain) -> Result<bool, Stop> {
        if domain.as_str().eq_ignore_ascii_case(&self.main.myorigin) {
            return Ok(true);
        }
        Ok(local(self, domain, &mut Vec::new())?.is_some())
    }

    /// Whether a word of `parent_domain_matches_subdomains` holds for a list.
    pub(crate) fn parents_match(&self, list: &str) -> bool {
        self.main.parent_domain_matches_subdomains.iter().any(|word| word == list)
    }
}

/// What a search found.
pub(crate) struct Hit {
    pub value: String,
    pub source: mail_types::SourceLine,
    pub table: String,
    pub key: String,
    pub extension: Option<String>,
}
