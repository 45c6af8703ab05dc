//! The orders in which tables are asked for an address: canonical(5), virtual(5), access(5), transport(5), aliases(5).

use mail_types::Address;

use crate::lists::parent_domains;
use crate::set::Snapshot;
use crate::table::{Answer, Found, Query, Remote, Scope};
use mail_config::main_cf::lists::TableRef;

/// What separates user and extension, and who is never split.
#[derive(Debug, Clone, Copy)]
pub struct Delimiters<'a> {
    /// `recipient_delimiter`: each character separates.
    pub characters: &'a str,
    /// `owner_request_special`: `owner-list` and `list-request` are whole names.
    pub owner_request_special: bool,
    /// `double_bounce_sender`, a whole name too.
    pub double_bounce_sender: &'a str,
}

impl<'a> Delimiters<'a> {
    /// As main.cf says.
    #[must_use]
    pub fn of(main: &'a mail_config::Main) -> Self {
        Self {
            characters: main.recipient_delimiter.as_str(),
            owner_request_special: *main.owner_request_special,
            double_bounce_sender: main.double_bounce_sender.as_str(),
        }
    }

    /// These characters, and no name is special but those that every mail system has.
    #[must_use]
    pub const fn only(characters: &'a str) -> Self {
        Self { characters, owner_request_special: false, double_bounce_sender: "double-bounce" }
    }

    /// User and extension of a local part. One that begins with a delimiter is not split.
    #[must_use]
    pub fn split(self, local: &'a str) -> (&'a str, Option<&'a str>) {
        let lower = local.to_ascii_lowercase();
        let special = self.owner_request_special
            && self.characters.contains('-')
            && (lower.starts_with("owner-") || lower.ends_with("-request"));
        let whole = matches!(lower.as_str(), "mailer-daemon" | "postmaster")
            || local.eq_ignore_ascii_case(self.double_bounce_sender);
        if special || whole {
            return (local, None);
        }
        match local.split_once(|c| self.characters.contains(c)) {
            Some((user, extension)) if !user.is_empty() => (user, Some(extension)),
            _ => (local, None),
        }
    }
}

/// One key to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The key.
    pub text: String,
    /// Whether it is the whole of what is looked up.
    pub scope: Scope,
    /// The part of the local part that it leaves out, delimiter included; a rewriting may add it again.
    pub extension: Option<String>,
}

impl Key {
    /// The whole of what is looked up.
    #[must_use]
    pub fn full(text: impl Into<String>) -> Self {
        Self { text: text.into(), scope: Scope::Full, extension: None }
    }

    /// A part of it.
    #[must_use]
    pub fn partial(text: impl Into<String>) -> Self {
        Self { text: text.into(), scope: Scope::Partial, extension: None }
    }
}

/// What a search gave, with the part that the key left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Search {
    /// A value.
    Found {
        /// The value and where it stands.
        found: Found,
        /// The extension that the key left out, delimiter included.
        extension: Option<String>,
    },
    /// No key is known.
    NotFound,
    /// A table cannot say now.
    Temporary(String),
    /// Another process must be asked first.
    Missing(Query),
}

/// Asks the tables for each key in order; the first answer other than "not found" decides.
#[must_use]
pub fn search(tables: &[TableRef], keys: &[Key], snapshot: &Snapshot, remote: &dyn Remote) -> Search {
    for key in keys {
        match snapshot.search(tables, &key.text, key.scope, remote) {
            Answer::NotFound => {}
            Answer::Found(found) => return Search::Found { found, extension: key.extension.clone() },
            Answer::Temporary(why) => return Search::Temporary(why),
            Answer::Missing(query) => return Search::Missing(query),
        }
    }
    Search::NotFound
}

/// Keys of canonical(5), virtual(5) and of recipient maps: `user+ext@domain`, `user@domain`, then for domains of this
/// machine (`is_local`) `user+ext` and `user`, at last `@domain`.
#[must_use]
pub fn map_keys(address: &Address, delimiters: Delimiters<'_>, is_local: bool) -> Vec<Key> {
    let mut keys = whole(address, delimiters);
    let (user, extension) = delimiters.split(address.local());
    if is_local {
        keys.extend(local_forms(address.local()).map(Key::partial));
        if extension.is_some() {
            let extension = Some(address.local()[user.len()..].to_owned());
            keys.extend(local_forms(user).map(|text| Key { extension: extension.clone(), ..Key::partial(text) }));
        }
    }
    keys.push(Key::partial(format!("@{}", address.domain())));
    keys
}

/// Keys of access(5) for a mail address: `user+ext@domain`, `user@domain`, the domain, its parents, `user+ext@`, `user@`.
/// `parents` says whether parents stand without leading dot (`smtpd_access_maps` in `parent_domain_matches_subdomains`).
#[must_use]
pub fn access_keys(address: &Address, delimiters: Delimiters<'_>, parents: bool) -> Vec<Key> {
    let mut keys = whole(address, delimiters);
    keys.extend(domain_keys(address.domain().as_str(), parents, Scope::Partial));
    keys.push(Key::partial(format!("{}@", address.local())));
    if let (user, Some(_)) = delimiters.split(address.local()) {
        keys.push(Key::partial(format!("{user}@")));
    }
    keys
}

/// Keys of transport(5): `user+ext@domain`, `user@domain`, the domain, its parents, `*`. `parents` as in [`access_keys`],
/// for `transport_maps`.
#[must_use]
pub fn transport_keys(address: &Address, delimiters: Delimiters<'_>, parents: bool) -> Vec<Key> {
    let mut keys = whole(address, delimiters);
    keys.extend(domain_keys(address.domain().as_str(), parents, Scope::Partial));
    keys.push(Key::full("*"));
    keys
}

/// Keys of aliases(5): `user+ext`, `user`.
#[must_use]
pub fn alias_keys(local: &str, delimiters: Delimiters<'_>) -> Vec<Key> {
    let mut keys = vec![Key::full(local)];
    if let (user, Some(_)) = delimiters.split(local) {
        keys.push(Key { extension: Some(local[user.len()..].to_owned()), ..Key::full(user) });
    }
    keys
}

/// A domain and its parents: `a.example.org`, then `.example.org` and `.org`, or the same without dot where `parents` says so.
#[must_use]
pub fn domain_keys(domain: &str, parents: bool, scope: Scope) -> Vec<Key> {
    let mut keys = vec![Key { scope, ..Key::full(domain) }];
    keys.extend(parent_domains(domain).map(|parent| {
        let text = if parents { parent.to_owned() } else { format!(".{parent}") };
        Key::partial(text)
    }));
    keys
}

/// A local part as an address would show it, with quotes where it needs them, and without. `"a@b"` is never asked for as the address a@b.
fn local_forms(local: &str) -> impl Iterator<Item = String> {
    let shown =
        mail_types::Domain::new("x").and_then(|domain| Address::new(local, domain)).map(|whole| whole.to_string());
    let shown = shown.ok().and_then(|whole| whole.strip_suffix("@x").map(str::to_owned));
    let quoted = shown.filter(|shown| shown != local);
    quoted.into_iter().chain((!local.contains('@')).then(|| local.to_owned()))
}

/// `user+ext@domain`, `user@domain`; the form with quotes first where the local part needs them.
fn whole(address: &Address, delimiters: Delimiters<'_>) -> Vec<Key> {
    let mut keys = vec![Key::full(address.to_string())];
    let plain = format!("{}@{}", address.local(), address.domain());
    if plain != keys[0].text {
        keys.push(Key::full(plain));
    }
    if let (user, Some(_)) = delimiters.split(address.local()) {
        let text = match Address::new(user, address.domain().clone()) {
            Ok(bare) => bare.to_string(),
            Err(_) => format!("{user}@{}", address.domain()),
        };
        keys.push(Key { extension: Some(address.local()[user.len()..].to_owned()), ..Key::partial(text) });
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plus() -> Delimiters<'static> {
        Delimiters { owner_request_special: true, ..Delimiters::only("+-") }
    }

    fn texts(keys: &[Key]) -> Vec<&str> {
        keys.iter().map(|key| key.text.as_str()).collect()
    }

    #[test]
    fn extensions_are_split_at_the_first_delimiter() {
        let cases = [
            ("john+a-b", ("john", Some("a-b"))),
            ("john", ("john", None)),
            ("+john", ("+john", None)),
            ("+john+x", ("+john+x", None)),
            ("john+", ("john", Some(""))),
            ("owner-list", ("owner-list", None)),
            ("list-request", ("list-request", None)),
            ("MAILER-DAEMON", ("MAILER-DAEMON", None)),
            ("Double-Bounce", ("Double-Bounce", None)),
        ];
        for (local, wanted) in cases {
            assert_eq!(plus().split(local), wanted, "{local}");
        }
        assert_eq!(Delimiters::only("").split("a+b"), ("a+b", None));
    }

    #[test]
    fn each_map_has_its_order() {
        let address: Address = "john+x@mail.example.org".parse().expect("address");
        assert_eq!(
            texts(&map_keys(&address, plus(), false)),
            ["john+x@mail.example.org", "john@mail.example.org", "@mail.example.org"]
        );
        let local = map_keys(&address, plus(), true);
        assert_eq!(
            texts(&local),
            ["john+x@mail.example.org", "john@mail.example.org", "john+x", "john", "@mail.example.org"]
        );
        assert_eq!(local[3].extension.as_deref(), Some("+x"));
        let access = [
            "john+x@mail.example.org",
            "john@mail.example.org",
            "mail.example.org",
            "example.org",
            "org",
            "john+x@",
            "john@",
        ];
        assert_eq!(texts(&access_keys(&address, plus(), true)), access);
        let transport =
            ["john+x@mail.example.org", "john@mail.example.org", "mail.example.org", ".example.org", ".org", "*"];
        assert_eq!(texts(&transport_keys(&address, plus(), false)), transport);
        assert_eq!(texts(&alias_keys("john+x", plus())), ["john+x", "john"]);
    }

    #[test]
    fn a_quoted_address_is_looked_up_in_both_forms() {
        let address: Address = "\"a b\"@x.org".parse().expect("address");
        assert_eq!(texts(&map_keys(&address, plus(), false)), ["\"a b\"@x.org", "a b@x.org", "@x.org"]);
        let routed: Address = "\"a@b\"@x.org".parse().expect("address");
        let keys = map_keys(&routed, plus(), true);
        assert!(!texts(&keys).contains(&"a@b") && texts(&keys).contains(&"\"a@b\""));
        let local = map_keys(&address, plus(), true);
        assert_eq!(texts(&local), ["\"a b\"@x.org", "a b@x.org", "\"a b\"", "a b", "@x.org"]);
    }

    proptest::proptest! {
        #[test]
        fn no_local_part_breaks_the_split(local in "[a+é-]{0,12}") {
            let (user, extension) = plus().split(&local);
            let again = match extension { Some(e) => user.len() + 1 + e.len(), None => user.len() };
            proptest::prop_assert_eq!(again, local.len());
        }
    }
}
