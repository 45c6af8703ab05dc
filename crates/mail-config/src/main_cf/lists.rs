//! Parameters that are lists of patterns, tables or restrictions.

use std::fmt;
use std::path::PathBuf;

use ipnet::IpNet;

use super::kinds::{Context, Kind, Mistake};
use super::networks::parse_network;
use crate::words::{split_commas, split_words, unbraced};

/// The type of a lookup table, the word before the colon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TableKind {
    /// A source text with keys; the `.db` beside it is not needed.
    Hash,
    /// The same under the name of another format.
    Btree,
    /// The source text itself.
    Texthash,
    /// Keys and values written in main.cf.
    Inline,
    /// One value for every key.
    Static,
    /// Networks, first match wins.
    Cidr,
    /// POSIX regular expressions, first match wins.
    Regexp,
    /// Perl-compatible regular expressions, first match wins.
    Pcre,
    /// The results of several tables, joined with commas.
    Unionmap,
    /// The result of each table is the key of the next.
    Pipemap,
    /// One of several values, by chance.
    Randmap,
    /// Every lookup fails.
    Fail,
    /// The variables of the process's environment.
    Environ,
    /// A constant database, which postmap makes.
    Cdb,
    /// An LMDB file, which postmap makes.
    Lmdb,
    /// A server of the socketmap protocol; authd asks it.
    Socketmap,
    /// A server of Postfix's tcp_table(5) protocol; authd asks it.
    Tcp,
    /// An SQLite database; authd asks it.
    Sqlite,
    /// A PostgreSQL server; authd asks it.
    Pgsql,
    /// A MySQL or MariaDB server; authd asks it.
    Mysql,
    /// A directory; authd asks its servers.
    Ldap,
    /// A memcached server, with another table behind it; authd asks it.
    Memcache,
    /// `unix:passwd.byname`, answered by authd.
    UnixPasswd,
    /// The path alone of a file that holds more items of a match list.
    ListFile,
}

const TABLE_KINDS: [(&str, TableKind); 22] = [
    ("hash", TableKind::Hash),
    ("btree", TableKind::Btree),
    ("texthash", TableKind::Texthash),
    ("inline", TableKind::Inline),
    ("static", TableKind::Static),
    ("cidr", TableKind::Cidr),
    ("regexp", TableKind::Regexp),
    ("pcre", TableKind::Pcre),
    ("unionmap", TableKind::Unionmap),
    ("pipemap", TableKind::Pipemap),
    ("randmap", TableKind::Randmap),
    ("fail", TableKind::Fail),
    ("environ", TableKind::Environ),
    ("cdb", TableKind::Cdb),
    ("lmdb", TableKind::Lmdb),
    ("socketmap", TableKind::Socketmap),
    ("tcp", TableKind::Tcp),
    ("sqlite", TableKind::Sqlite),
    ("pgsql", TableKind::Pgsql),
    ("mysql", TableKind::Mysql),
    ("ldap", TableKind::Ldap),
    ("memcache", TableKind::Memcache),
];

impl TableKind {
    /// The types that main.cf may name, by their names.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TABLE_KINDS.iter().map(|(name, _)| *name).chain(["unix", "proxy"])
    }

    /// Whether an answer must be waited for: such a table is asked by authd, and is a missing fact to whoever decides.
    #[must_use]
    pub fn is_remote(self) -> bool {
        self == Self::UnixPasswd || self.has_client_file() || matches!(self, Self::Socketmap | Self::Tcp)
    }

    /// Whether a file says how the table is asked.
    #[must_use]
    pub fn has_client_file(self) -> bool {
        matches!(self, Self::Sqlite | Self::Pgsql | Self::Mysql | Self::Ldap | Self::Memcache)
    }
}

/// The table types that Postfix has and we do not build.
const UNBUILT_TABLES: [&str; 9] = ["dbm", "internal", "netinfo", "nis", "nisplus", "sdbm", "unix", "mongodb", "redis"];

/// A table that a parameter names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TableRef {
    /// The type.
    pub kind: TableKind,
    /// What follows the type: a path, or the content of `inline:`, `static:` and the like, without outer braces' blanks.
    pub name: String,
    /// Whether `proxy:` stands before it; it makes no difference here.
    pub proxy: bool,
}

impl fmt::Display for TableRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            TableKind::UnixPasswd => "unix",
            TableKind::ListFile => return f.write_str(&self.name),
            kind => TABLE_KINDS.iter().find(|(_, k)| *k == kind).map_or("", |(name, _)| *name),
        };
        write!(f, "{}{kind}:{}", if self.proxy { "proxy:" } else { "" }, self.name)
    }
}

impl TableRef {
    /// Reads `type:name`, `proxy:type:name` or a bare path (of the `default_database_type`).
    /// Nothing comes back for a type that is not built where the run without it is allowed or a default names it.
    ///
    /// # Errors
    /// [`Mistake`] for an unknown type and for one that is not built.
    pub fn parse(word: &str, context: &mut Context<'_>) -> Result<Option<Self>, Mistake> {
        let (proxy, plain) = word.strip_prefix("proxy:").map_or((false, word), |rest| (true, rest));
        let (kind, name) = match plain.split_once(':') {
            Some((kind, name)) if !kind.contains('/') => (kind, name),
            _ => (context.default_table, plain),
        };
        if name.is_empty() {
            return Err(Mistake::new(format!("`{word}' names no table"), format!("write `{kind}:/PATH'")).at(word));
        }
        match kind_of(kind, name) {
            Some(kind) => {
                let table = Self { kind, name: name.to_owned(), proxy };
                table.check_parts(word, context)?;
                Ok(Some(table))
            }
            None => unbuilt(word, kind, context).map(|()| None),
        }
    }
}

fn kind_of(kind: &str, name: &str) -> Option<TableKind> {
    let known = TABLE_KINDS.iter().find(|(known, _)| *known == kind).map(|(_, kind)| *kind);
    known.or((kind == "unix" && name == "passwd.byname").then_some(TableKind::UnixPasswd))
}

impl TableRef {
    /// The file that holds the table's keys and values; none where it stands in main.cf, or where somebody else is asked.
    #[must_use]
    pub fn file(&self) -> Option<PathBuf> {
        use TableKind::{Btree, Cdb, Cidr, Hash, ListFile, Lmdb, Pcre, Regexp, Texthash};
        match self.kind {
            Hash | Btree | Texthash | ListFile => Some(PathBuf::from(&self.name)),
            Cidr | Regexp | Pcre => unbraced(&self.name).is_none().then(|| PathBuf::from(&self.name)),
            Cdb => Some(PathBuf::from(format!("{}.cdb", self.name))),
            Lmdb => Some(PathBuf::from(format!("{}.lmdb", self.name))),
            _ => None,
        }
    }

    /// The Berkeley DB file that Postfix's postmap makes of a `hash:` or `btree:` text. It serves only where the text is gone.
    #[must_use]
    pub fn compiled_file(&self) -> Option<PathBuf> {
        let has_one = matches!(self.kind, TableKind::Hash | TableKind::Btree);
        has_one.then(|| PathBuf::from(format!("{}.db", self.name)))
    }

    /// The file that says how a server is asked for the table; it may hold passwords.
    #[must_use]
    pub fn client_file(&self) -> Option<PathBuf> {
        // Any other name is a prefix of parameters in main.cf.
        let named = self.kind.has_client_file() && self.name.starts_with(['/', '.']);
        named.then(|| PathBuf::from(&self.name))
    }

    /// The tables that a `unionmap:` or `pipemap:` is made of, in their order; none for other types.
    #[must_use]
    pub fn parts(&self) -> Vec<Self> {
        let plain = |word: &String| {
            let (kind, name) = word.split_once(':')?;
            Some(Self { kind: kind_of(kind, name)?, name: name.to_owned(), proxy: false })
        };
        self.words()
            .iter()
            .map(|word| word.strip_prefix("proxy:").unwrap_or(word).to_owned())
            .filter_map(|w| plain(&w))
            .collect()
    }

    /// This table and those that it is made of.
    #[must_use]
    pub fn with_parts(&self) -> Vec<Self> {
        let below = self.parts().into_iter().flat_map(|part| part.with_parts());
        std::iter::once(self.clone()).chain(below).collect()
    }

    /// The comma-separated words of `{...}`, for the types that combine tables.
    fn words(&self) -> Vec<String> {
        if !matches!(self.kind, TableKind::Unionmap | TableKind::Pipemap) {
            return Vec::new();
        }
        let inside = unbraced(&self.name).unwrap_or(&self.name);
        split_commas(inside).unwrap_or_default().iter().map(|word| word.trim().to_owned()).collect()
    }

    fn check_parts(&self, word: &str, context: &mut Context<'_>) -> Result<(), Mistake> {
        let combines = matches!(self.kind, TableKind::Unionmap | TableKind::Pipemap | TableKind::Randmap);
        if combines && unbraced(&self.name).is_none() {
            return Err(
                Mistake::new(format!("`{word}' has no braces"), "write `{ ONE, ANOTHER }' after the colon").at(word)
            );
        }
        for part in self.words() {
            if Self::parse(&part, context)?.is_none() {
                return Err(Mistake::new(format!("`{part}' cannot be part of a table"), "use another type").at(word));
            }
        }
        Ok(())
    }
}

/// What to do about a table whose type is not built.
fn unbuilt(word: &str, kind: &str, context: &mut Context<'_>) -> Result<(), Mistake> {
    if !context.written {
        return Ok(());
    }
    if !UNBUILT_TABLES.contains(&kind) {
        let known = TABLE_KINDS.iter().map(|(name, _)| *name).chain(UNBUILT_TABLES);
        let hint = crate::report::nearest(kind, known)
            .map_or(format!("the types are {}", TABLE_KINDS.map(|(name, _)| name).join(", ")), |near| {
                format!("did you mean `{near}'?")
            });
        return Err(Mistake::new(format!("unknown table type `{kind}'"), hint).at(word));
    }
    let what = format!("table type `{kind}' is not built");
    if context.run_without.iter().any(|w| w == kind) {
        context.warnings.push(Mistake::new(what, "postrider_run_without drops it").at(word));
        return Ok(());
    }
    Err(Mistake::new(what, format!("use another type, or write `postrider_run_without = {kind}' to run without it"))
        .at(word))
}

/// A list of tables that are asked in order.
pub struct Tables;

impl Kind for Tables {
    type Value = Vec<TableRef>;
    const NAME: &'static str = "tables";

    fn parse(text: &str, context: &mut Context<'_>) -> Result<Vec<TableRef>, Mistake> {
        let mut tables = Vec::new();
        for word in split_words(text)? {
            tables.extend(TableRef::parse(&word, context)?);
        }
        Ok(tables)
    }

    fn tables(value: &Vec<TableRef>) -> Vec<TableRef> {
        value.clone()
    }
}

/// Tables that hold passwords: only the daemon that needs them reads them, so they are not among the tables of a configuration.
pub struct SecretTables;

impl Kind for SecretTables {
    type Value = Vec<TableRef>;
    const NAME: &'static str = "tables";

    fn parse(text: &str, context: &mut Context<'_>) -> Result<Vec<TableRef>, Mistake> {
        Tables::parse(text, context)
    }
}

/// One item of a match list: what it matches, and whether a match means no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item<P> {
    /// `!` stands before it.
    pub negated: bool,
    /// As it was written, for decisions.
    pub text: String,
    /// What it matches.
    pub pattern: Pattern<P>,
}

/// What an item of a match list is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern<P> {
    /// The pattern itself.
    Literal(P),
    /// A table, in which a key that is found matches, whatever its value; or a file with more items.
    Table(TableRef),
}

/// A list of patterns; the first that matches decides.
pub type MatchList<P> = Vec<Item<P>>;

fn named_tables<P>(list: &MatchList<P>) -> Vec<TableRef> {
    let table = |item: &Item<P>| match &item.pattern {
        Pattern::Table(table) => Some(table.clone()),
        Pattern::Literal(_) => None,
    };
    list.iter().filter_map(table).collect()
}

fn match_list<P>(
    text: &str,
    context: &mut Context<'_>,
    literal: fn(&str, &mut Context<'_>) -> Result<P, Mistake>,
) -> Result<MatchList<P>, Mistake> {
    let mut items = Vec::new();
    for word in split_words(text)? {
        let bare = word.trim_start_matches('!');
        let negated = (word.len() - bare.len()) % 2 == 1;
        let is_table =
            bare.split_once(':').is_some_and(|(kind, _)| !kind.is_empty() && !kind.contains(['[', '.', '/']));
        let pattern = if bare.starts_with('/') {
            Pattern::Table(TableRef { kind: TableKind::ListFile, name: bare.to_owned(), proxy: false })
        } else if is_table {
            match TableRef::parse(bare, context)? {
                Some(table) => Pattern::Table(table),
                None => continue,
            }
        } else {
            Pattern::Literal(literal(bare, context).map_err(|m| m.at(bare))?)
        };
        items.push(Item { negated, text: word.clone(), pattern });
    }
    Ok(items)
}

/// A list of domains: names, `.parent` names, files and tables.
pub struct Domains;

impl Kind for Domains {
    type Value = MatchList<String>;
    const NAME: &'static str = "domains";

    fn parse(text: &str, context: &mut Context<'_>) -> Result<Self::Value, Mistake> {
        match_list(text, context, |word, _| Ok(word.to_ascii_lowercase()))
    }

    fn tables(value: &Self::Value) -> Vec<TableRef> {
        named_tables(value)
    }
}

/// A network, or a host name where a list of clients allows one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkPattern {
    /// A network or address.
    Net(IpNet),
    /// A host name or `.parent` of host names, in lower case.
    Name(String),
}

/// A list of networks: `192.0.2.0/24`, `[2001:db8::]/32`, files, tables, each with `!` before it to exclude.
pub struct Networks;

impl Kind for Networks {
    type Value = MatchList<NetworkPattern>;
    const NAME: &'static str = "networks";

    fn parse(text: &str, context: &mut Context<'_>) -> Result<Self::Value, Mistake> {
        match_list(text, context, network)
    }

    fn tables(value: &Self::Value) -> Vec<TableRef> {
        named_tables(value)
    }
}

fn network(word: &str, context: &mut Context<'_>) -> Result<NetworkPattern, Mistake> {
    // A name begins a label with a letter somewhere; whatever looks numeric must be a right address.
    let numeric =
        word.starts_with('[') || word.contains(['/', ':']) || !word.contains(|c: char| c.is_ascii_alphabetic());
    if !numeric {
        return Ok(NetworkPattern::Name(word.to_ascii_lowercase()));
    }
    let (net, meant) = parse_network(word)?;
    if let Some(meant) = meant {
        context
            .warnings
            .push(Mistake::new(format!("`{word}' is read as {meant}"), format!("write `{meant}'")).at(word));
    }
    Ok(NetworkPattern::Net(net))
}

/// One restriction of an `smtpd_*_restrictions` list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name in lower case, or the name of a restriction class; `check` for a table without a name before it.
    pub name: String,
    /// What follows the name: a table, a DNS list, a policy service, seconds.
    pub argument: Option<String>,
    /// The table, where the argument is one.
    pub table: Option<TableRef>,
    /// `warn_if_reject` stands before it.
    pub warn_if_reject: bool,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.warn_if_reject { "warn_if_reject " } else { "" })?;
        match (&self.argument, self.name.as_str()) {
            (Some(argument), BARE_TABLE) => f.write_str(argument),
            (Some(argument), name) => write!(f, "{name} {argument}"),
            (None, name) => f.write_str(name),
        }
    }
}

/// The name of a [`Rule`] that is a table alone and means the check of its list.
pub const BARE_TABLE: &str = "check";

/// A list of restrictions, in order.
pub struct Restrictions;

impl Kind for Restrictions {
    type Value = Vec<Rule>;
    const NAME: &'static str = "restrictions";

    fn parse(text: &str, context: &mut Context<'_>) -> Result<Vec<Rule>, Mistake> {
        let mut rules = Vec::new();
        let mut warn_if_reject = false;
        let mut words = split_words(text)?.into_iter();
        while let Some(word) = words.next() {
            let name = word.to_ascii_lowercase();
            if name == "warn_if_reject" {
                warn_if_reject = true;
                continue;
            }
            let rule = if takes_argument(&name) {
                let needed = || Mistake::new(format!("`{word}' needs an argument"), argument_hint(&name)).at(&word);
                with_argument(name.clone(), words.next().ok_or_else(needed)?, context)?
            } else if word.contains(':') || word.starts_with('/') {
                with_argument(BARE_TABLE.to_owned(), word, context)?
            } else {
                Some(Rule { name, argument: None, table: None, warn_if_reject: false })
            };
            rules.extend(rule.map(|rule| Rule { warn_if_reject, ..rule }));
            warn_if_reject = false;
        }
        Ok(rules)
    }

    fn tables(value: &Vec<Rule>) -> Vec<TableRef> {
        value.iter().filter_map(|rule| rule.table.clone()).collect()
    }
}

fn is_access_check(name: &str) -> bool {
    name == BARE_TABLE || name == "check_address_map" || (name.starts_with("check_") && name.ends_with("_access"))
}

fn takes_argument(name: &str) -> bool {
    const NAMES: [&str; 6] = [
        "check_policy_service",
        "reject_rbl_client",
        "permit_dnswl_client",
        "permit_rhswl_client",
        "reject_rbl",
        "sleep",
    ];
    (is_access_check(name) && name != BARE_TABLE) || NAMES.contains(&name) || name.starts_with("reject_rhsbl_")
}

fn argument_hint(name: &str) -> String {
    if is_access_check(name) { format!("write `{name} hash:/PATH'") } else { format!("write `{name} ARGUMENT'") }
}

fn with_argument(name: String, argument: String, context: &mut Context<'_>) -> Result<Option<Rule>, Mistake> {
    if !is_access_check(&name) {
        return Ok(Some(Rule { name, argument: Some(argument), table: None, warn_if_reject: false }));
    }
    let table = TableRef::parse(&argument, context)?;
    Ok(table.map(|table| Rule { name, argument: Some(argument), table: Some(table), warn_if_reject: false }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<K: Kind>(text: &str) -> Result<K::Value, Mistake> {
        let mut context =
            Context { default: "", written: true, run_without: &[], default_table: "hash", warnings: Vec::new() };
        K::parse(text, &mut context)
    }

    #[test]
    fn a_table_list_keeps_types_and_names() {
        let tables =
            read::<Tables>("hash:/etc/aliases, proxy:unix:passwd.byname inline:{ a=b, c = d }").expect("reads");
        let shown: Vec<_> = tables.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["hash:/etc/aliases", "proxy:unix:passwd.byname", "inline:{ a=b, c = d }"]);
        assert!(read::<Tables>("nis:x").expect_err("not built").what.contains("`nis' is not built"));
        assert!(read::<Tables>("unionmap:{hash:/a, nis:b}").expect_err("not built").what.contains("`nis'"));
        let union = &read::<Tables>("unionmap:{ hash:/a, pipemap:{cidr:/b, static:c} }").expect("reads")[0];
        let shown: Vec<_> = union.with_parts()[1..].iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["hash:/a", "pipemap:{cidr:/b, static:c}", "cidr:/b", "static:c"]);
        assert_eq!(read::<Tables>("hsah:/etc/x").expect_err("unknown").instead, "did you mean `hash'?");
    }

    #[test]
    fn networks_may_exclude_and_come_from_files() {
        let list = read::<Networks>("!192.168.0.1, 192.168.0.0/28 [::1]/128 /etc/nets hash:/etc/more").expect("reads");
        assert!(list[0].negated && !list[1].negated);
        assert_eq!(list[2].pattern, Pattern::Literal(NetworkPattern::Net("::1/128".parse().expect("net"))));
        assert!(matches!(&list[3].pattern, Pattern::Table(table) if table.to_string() == "/etc/nets"));
        assert!(matches!(&list[4].pattern, Pattern::Table(table) if table.kind == TableKind::Hash));
    }

    #[test]
    fn restrictions_keep_their_arguments() {
        let text = "hash:/etc/postfix/access, warn_if_reject reject_rbl_client zen.example.org check_sender_access hash:/x permit";
        let rules = read::<Restrictions>(text).expect("reads");
        let shown: Vec<_> = rules.iter().map(ToString::to_string).collect();
        let wanted = [
            "hash:/etc/postfix/access",
            "warn_if_reject reject_rbl_client zen.example.org",
            "check_sender_access hash:/x",
            "permit",
        ];
        assert_eq!(shown, wanted);
        assert_eq!(rules[0].name, BARE_TABLE);
        assert_eq!(read::<Restrictions>("check_client_access").expect_err("argument").fragment, "check_client_access");
    }
}
