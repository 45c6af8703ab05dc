//! What becomes of the entries that a search finds: values, and searches for the entries that they name.

use crate::settings::Settings;

use super::message::{Attribute, Scope};
use super::{filter, url};

/// What an attribute of a result is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Where an entry has one of these, only these count.
    Terminal,
    /// Not of entries that name others.
    Leaf,
    Plain,
    /// Its values name entries.
    Special,
}

/// The attributes that a table asks for.
#[derive(Debug)]
pub(super) struct Attributes(Vec<(String, Use)>);

/// What is left to do for an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Work {
    /// A value of the answer.
    Value(String),
    /// A search whose entries stand here.
    Search { base: String, scope: Scope, filter: Vec<u8>, attributes: Vec<String>, depth: u64 },
}

impl Attributes {
    pub(super) fn new(settings: &Settings) -> Self {
        let plain = match settings.written("result_attribute") {
            true => settings.words("result_attribute"),
            false => vec!["maildrop".to_owned()],
        };
        let of = |names: Vec<String>, used: Use| names.into_iter().map(move |name| (name, used));
        let terminal = of(settings.words("terminal_result_attribute"), Use::Terminal);
        let leaf = of(settings.words("leaf_result_attribute"), Use::Leaf);
        let special = of(settings.words("special_result_attribute"), Use::Special);
        Self(terminal.chain(leaf).chain(of(plain, Use::Plain)).chain(special).collect())
    }

    /// The names, for a search.
    pub(super) fn all(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| name.clone()).collect()
    }

    fn used(&self, name: &str) -> Option<Use> {
        self.0.iter().find(|(wanted, _)| is_or_refines(name, wanted)).map(|(_, used)| *used)
    }

    /// What an entry gives, in its order.
    ///
    /// # Errors
    /// It names others too deep down, or by what is no URL.
    pub(super) fn work(&self, entry: Vec<Attribute>, depth: u64, limit: u64) -> Result<Vec<Work>, String> {
        let has = |used| entry.iter().any(|(name, values)| !values.is_empty() && self.used(name) == Some(used));
        let (terminal, names_others) = (has(Use::Terminal), has(Use::Special));
        let mut work = Vec::new();
        for (name, values) in entry {
            let counts = match self.used(&name) {
                None => false,
                Some(Use::Terminal) => true,
                Some(Use::Leaf) => !terminal && !names_others,
                Some(Use::Plain | Use::Special) => !terminal,
            };
            if !counts {
                continue;
            }
            if self.used(&name) != Some(Use::Special) {
                work.extend(values.into_iter().map(Work::Value));
                continue;
            }
            if depth >= limit && !values.is_empty() {
                return Err(format!("`{name}' leads deeper than {limit} entries (recursion_limit)"));
            }
            for value in values {
                work.extend(self.named(&value, depth + 1)?);
            }
        }
        Ok(work)
    }

    /// The search for what a value names: an entry, or the entries of an URL. None if nothing of them is of interest.
    fn named(&self, value: &str, depth: u64) -> Result<Option<Work>, String> {
        if !url::is_url(value) {
            let filter = filter::encode("(objectClass=*)")?;
            let base = value.to_owned();
            return Ok(Some(Work::Search { base, scope: Scope::Base, filter, attributes: self.all(), depth }));
        }
        let search = url::search(value)?;
        let attributes = if search.attributes.is_empty() { self.all() } else { self.in_common(&search.attributes) };
        let (base, scope, filter) = (search.base, search.scope, filter::encode(&search.filter)?);
        Ok((!attributes.is_empty()).then_some(Work::Search { base, scope, filter, attributes, depth }))
    }

    /// What an URL asks for and the table too; of two that differ in options the narrower one.
    fn in_common(&self, others: &[String]) -> Vec<String> {
        let pairs = others.iter().flat_map(|other| self.0.iter().map(move |(own, _)| (other, own)));
        pairs
            .filter_map(|(other, own)| match () {
                () if is_or_refines(own, other) => Some(own.clone()),
                () if is_or_refines(other, own) => Some(other.clone()),
                () => None,
            })
            .collect()
    }
}

/// Whether an attribute is another one, or that with options (`mail;lang-en`).
fn is_or_refines(name: &str, wanted: &str) -> bool {
    let same = name.get(..wanted.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(wanted));
    same && (name.len() == wanted.len() || name[wanted.len()..].starts_with(';'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(text: &str) -> Attributes {
        Attributes::new(&Settings::of_text(text))
    }

    fn entry(parts: &[(&str, &[&str])]) -> Vec<Attribute> {
        let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        parts.iter().map(|(name, values)| ((*name).to_owned(), owned(values))).collect()
    }

    fn shown(work: &[Work]) -> Vec<String> {
        let one = |work: &Work| match work {
            Work::Value(value) => value.clone(),
            Work::Search { base, attributes, depth, .. } => format!("{base}?{}@{depth}", attributes.join(",")),
        };
        work.iter().map(one).collect()
    }

    #[test]
    fn terminal_and_leaf_attributes_count_as_ldap_table_says() {
        let asked = attributes(
            "result_attribute = addr\nspecial_result_attribute = member\nterminal_result_attribute = drop\nleaf_result_attribute = mail\n",
        );
        let of = |parts: &[(&str, &[&str])]| asked.work(entry(parts), 1, 9).map(|work| shown(&work));
        let all = "drop,mail,addr,member";
        assert_eq!(
            of(&[("mail", &["m"]), ("ADDR;x", &["a", "b"]), ("cn", &["c"])]),
            Ok(vec!["m".into(), "a".into(), "b".into()])
        );
        let group: &[(&str, &[&str])] = &[("mail", &["m"]), ("member", &["cn=x"]), ("addr", &["a"])];
        assert_eq!(of(group), Ok(vec![format!("cn=x?{all}@2"), "a".into()]));
        assert_eq!(of(&[group, &[("drop", &["d"])]].concat()), Ok(vec!["d".into()]));
        assert_eq!(of(&[("member", &[])]), Ok(vec![]));
        assert!(asked.work(entry(group), 9, 9).is_err_and(|why| why.contains("recursion_limit")));
    }

    #[test]
    fn an_url_asks_for_what_both_want() {
        let asked = attributes("result_attribute = mail, cn;lang-en\nspecial_result_attribute = url\n");
        let of = |url: &str| asked.work(entry(&[("url", &[url])]), 1, 9).map(|work| shown(&work));
        assert_eq!(of("ldap:///dc=x?MAIL,cn,sn?sub?(cn=a)"), Ok(vec!["dc=x?mail,cn;lang-en@2".into()]));
        assert_eq!(of("ldap:///dc=x?sn"), Ok(vec![]));
        assert_eq!(of("ldap:///dc=x"), Ok(vec!["dc=x?mail,cn;lang-en,url@2".into()]));
        assert!(of("ldap:///dc=x???(((").is_err());
    }

    #[test]
    fn an_empty_result_attribute_is_none() {
        assert_eq!(attributes("").all(), ["maildrop"]);
        assert!(attributes("result_attribute =\n").all().is_empty());
    }
}
