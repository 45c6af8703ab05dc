//! From what people and programs write to complete addresses (`append_at_myorigin`, `append_dot_mydomain`, `user%domain`,
//! `site!user`), as trivial-rewrite(8) does.

use decision::Lookup;
use mail_config::Main;
use mail_types::{Address, AddressError, Domain, SourceLine};

/// Completes an address whose parts are known; `local` is without quotes.
///
/// Without a domain, `site!user` becomes `user@site` and `user%domain` becomes `user@domain` where main.cf allows it, and
/// everything else gets `myorigin`. A domain without dot gets `mydomain` where main.cf says so.
///
/// # Errors
/// [`AddressError`] if no address comes out, or if there is no domain and none may be added.
pub fn complete(local: &str, domain: Option<&str>, main: &Main) -> Result<Address, AddressError> {
    complete_noting(local, domain, main, &mut Vec::new())
}

/// The same, and writes down which parameter changed what.
///
/// # Errors
/// As [`complete`].
pub fn complete_noting(
    local: &str,
    domain: Option<&str>,
    main: &Main,
    lookups: &mut Vec<Lookup>,
) -> Result<Address, AddressError> {
    let (user, site) = match domain {
        Some(domain) => (local, domain),
        None => match split_routing(local, main) {
            Some((user, site, rule)) => {
                note(lookups, rule.0, local, &format!("{user}@{site}"), rule.1);
                (user, site)
            }
            None => {
                let origin = origin(main);
                note(lookups, "append_at_myorigin", local, &format!("{local}@{origin}"), &main.myorigin.source);
                (local, origin)
            }
        },
    };
    if site.is_empty() {
        return Err(AddressError::BadDomain);
    }
    let whole = complete_domain(site, main);
    if whole.len() > site.len() {
        note(lookups, "append_dot_mydomain", site, &whole, &main.append_dot_mydomain.source);
    }
    Address::new(user, Domain::new(&whole)?)
}

/// The same for the external form of an address: `john`, `john@info.net`, `"a b"@x`, `site!user`.
///
/// # Errors
/// As [`complete`], and for quotes that do not close.
pub fn complete_text(text: &str, main: &Main) -> Result<Address, AddressError> {
    complete_text_noting(text, main, &mut Vec::new())
}

/// The same, and writes down which parameter changed what.
///
/// # Errors
/// As [`complete_text`].
pub fn complete_text_noting(text: &str, main: &Main, lookups: &mut Vec<Lookup>) -> Result<Address, AddressError> {
    let (local, domain) = split_external(text.trim())?;
    complete_noting(&local, domain, main, lookups)
}

/// Writes a rewriting down: the rule stands where a table's name would.
pub(crate) fn note(lookups: &mut Vec<Lookup>, rule: &str, from: &str, to: &str, source: &SourceLine) {
    let (table, key) = (rule.to_owned(), from.to_owned());
    lookups.push(Lookup { table, key, value: Some(to.to_owned()), source: Some(source.clone()) });
}

/// Where the addresses of a header get what they lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin<'a> {
    /// Mail of a client of ours: `myorigin` and `mydomain`.
    Ours,
    /// Mail of others: `remote_header_rewrite_domain`, for both.
    Others(&'a str),
}

/// Completes an address as a header field holds it, without comments and blanks; what is broken stays as it is. Quotes stay quotes, and what
/// stands in them is no routing (RFC 5322 section 3.4.1).
pub(crate) fn complete_header(text: &str, origin: Origin<'_>, main: &Main, lookups: &mut Vec<Lookup>) -> String {
    let own = |on: bool, ours: &'_ str| match origin {
        _ if !on => String::new(),
        Origin::Ours => ours.to_owned(),
        Origin::Others(domain) => domain.to_owned(),
    };
    if matches!(text, "" | "\"\"" | "@") {
        return text.to_owned();
    }
    let text = without_route(text);
    let mut whole = match last_at(text) {
        Some(_) => text.to_owned(),
        None => with_domain(text, &own(*main.append_at_myorigin, &main.myorigin), main, lookups),
    };
    let mydomain = own(*main.append_dot_mydomain, &main.mydomain);
    let bare = |domain: &str| !domain.is_empty() && !domain.contains(['.', '[']);
    if !mydomain.is_empty() && last_at(&whole).is_some_and(|at| bare(&whole[at + 1..])) {
        let longer = format!("{whole}.{mydomain}");
        note(lookups, "append_dot_mydomain", &whole, &longer, &main.append_dot_mydomain.source);
        whole = longer;
    }
    if whole.strip_suffix('.').is_some_and(|rest| !rest.ends_with(['.', '@'])) {
        whole.pop();
    }
    whole
}

/// `@a,@b:user@c` without its route.
fn without_route(text: &str) -> &str {
    match text.split_once(':') {
        Some((_, rest)) if text.starts_with('@') && !rest.is_empty() => rest,
        _ => text,
    }
}

/// An address of a header that has no domain, with one.
fn with_domain(text: &str, origin: &str, main: &Main, lookups: &mut Vec<Lookup>) -> String {
    let bang = operators(text).find(|(_, c)| *c == '!').filter(|_| *main.swap_bangpath);
    let percent = operators(text).filter(|(_, c)| *c == '%').last().filter(|_| *main.allow_percent_hack);
    let (rule, source, whole) = match (bang, percent) {
        (Some((at, _)), _) => {
            ("swap_bangpath", &main.swap_bangpath.source, format!("{}@{}", &text[at + 1..], &text[..at]))
        }
        (None, Some((at, _))) => {
            ("allow_percent_hack", &main.allow_percent_hack.source, format!("{}@{}", &text[..at], &text[at + 1..]))
        }
        _ if origin.is_empty() => return text.to_owned(),
        _ => ("append_at_myorigin", &main.myorigin.source, format!("{text}@{origin}")),
    };
    note(lookups, rule, text, &whole, source);
    whole
}

fn last_at(text: &str) -> Option<usize> {
    operators(text).filter(|(_, c)| *c == '@').last().map(|(at, _)| at)
}

/// The characters outside quotes.
fn operators(text: &str) -> impl Iterator<Item = (usize, char)> {
    let (mut quoted, mut escaped) = (false, false);
    text.char_indices().filter(move |(_, c)| {
        let plain = !quoted && !escaped;
        match (std::mem::take(&mut escaped), c) {
            (false, '\\') => escaped = true,
            (false, '"') => quoted = !quoted,
            _ => {}
        }
        plain
    })
}

/// The domain that an address without one gets; empty if it gets none.
fn origin(main: &Main) -> &str {
    if *main.append_at_myorigin { main.myorigin.as_str() } else { "" }
}

/// The user and site of `site!user` and `user%domain`, with the parameter that says so.
pub(crate) fn split_routing<'a>(
    local: &'a str,
    main: &'a Main,
) -> Option<(&'a str, &'a str, (&'static str, &'a SourceLine))> {
    if *main.swap_bangpath
        && let Some((site, user)) = local.split_once('!')
        && !site.is_empty()
        && !user.is_empty()
    {
        return Some((user, site, ("swap_bangpath", &main.swap_bangpath.source)));
    }
    let percent = local.rsplit_once('%').filter(|(user, domain)| !user.is_empty() && !domain.is_empty());
    let (user, site) = percent.filter(|_| *main.allow_percent_hack)?;
    Some((user, site, ("allow_percent_hack", &main.allow_percent_hack.source)))
}

fn complete_domain(domain: &str, main: &Main) -> String {
    // A dot at the end says that the name is complete; it is not part of it.
    let domain = match domain.strip_suffix('.') {
        Some(rest) if !rest.is_empty() && !rest.ends_with('.') => return rest.to_owned(),
        _ => domain,
    };
    if domain.contains('.') || domain.starts_with('[') || !*main.append_dot_mydomain {
        return domain.to_owned();
    }
    format!("{domain}.{}", main.mydomain.as_str())
}

/// Local part without quotes, and domain if there is one.
fn split_external(text: &str) -> Result<(String, Option<&str>), AddressError> {
    let Some(rest) = text.strip_prefix('"') else {
        return Ok(match text.rsplit_once('@') {
            Some((local, domain)) => (local.to_owned(), Some(domain)),
            None => (text.to_owned(), None),
        });
    };
    let mut local = String::new();
    let mut chars = rest.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => local.push(chars.next().ok_or(AddressError::Syntax)?.1),
            '"' => {
                return match &rest[at + 1..] {
                    "" => Ok((local, None)),
                    after => Ok((local, Some(after.strip_prefix('@').ok_or(AddressError::Syntax)?))),
                };
            }
            c => local.push(c),
        }
    }
    Err(AddressError::Syntax)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::main_cf;

    fn completed(main: &str, text: &str) -> Option<String> {
        let config = main_cf(&format!("myhostname = server.info.net\nmyorigin = $mydomain\n{main}"));
        complete_text(text, &config.main).ok().map(|address| address.to_string())
    }

    // The user's page, row 3: mail for `john` becomes `john@info.net`.
    #[test]
    fn a_name_alone_gets_the_origin() {
        let cases = [
            ("john", Some("john@info.net")),
            ("john@x.org.", Some("john@x.org")),
            ("john@server", Some("john@server.info.net")),
            ("john@[192.0.2.1]", Some("john@[192.0.2.1]")),
            ("site!john", Some("john@site.info.net")),
            ("a!b!john", Some("b!john@a.info.net")),
            ("john%x.org", Some("john@x.org")),
            ("john%y.org@x.org", Some("john%y.org@x.org")),
            ("\"a b\"", Some("\"a b\"@info.net")),
            ("\"a\\\"@b\"", Some("\"a\\\"@b\"@info.net")),
            ("\"a b\"@x.org", Some("\"a b\"@x.org")),
            ("a@b@x.org", Some("\"a@b\"@x.org")),
            ("", None),
            ("john@", None),
            ("\"a", None),
            ("@x.org", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(completed("compatibility_level = 0\n", text).as_deref(), wanted, "{text}");
        }
    }

    #[test]
    fn each_completion_can_be_switched_off() {
        assert_eq!(completed("append_at_myorigin = no\n", "john"), None);
        assert_eq!(completed("compatibility_level = 3.6\n", "john@server").as_deref(), Some("john@server"));
        assert_eq!(completed("swap_bangpath = no\n", "site!john").as_deref(), Some("site!john@info.net"));
        assert_eq!(completed("allow_percent_hack = no\n", "a%b").as_deref(), Some("a%b@info.net"));
    }

    #[test]
    fn an_address_of_a_header_keeps_its_quotes() {
        let config = main_cf("myhostname = server.info.net\nmyorigin = $mydomain\ncompatibility_level = 0\n");
        let of = |text: &str, origin| complete_header(text, origin, &config.main, &mut Vec::new());
        let cases = [
            ("john", "john@info.net", "john@x.invalid"),
            ("\"site!john\"", "\"site!john\"@info.net", "\"site!john\"@x.invalid"),
            ("site!john", "john@site.info.net", "john@site.x.invalid"),
            ("a%b", "a@b.info.net", "a@b.x.invalid"),
            ("@a,@b:c@d.org", "c@d.org", "c@d.org"),
            ("a@b", "a@b.info.net", "a@b.x.invalid"),
            ("a@[192.0.2.1]", "a@[192.0.2.1]", "a@[192.0.2.1]"),
            ("a@b.org.", "a@b.org", "a@b.org"),
            ("a@", "a@", "a@"),
            ("\"\"", "\"\"", "\"\""),
            ("\"a@b\"", "\"a@b\"@info.net", "\"a@b\"@x.invalid"),
        ];
        for (text, ours, others) in cases {
            assert_eq!(of(text, Origin::Ours), ours, "{text}");
            assert_eq!(of(text, Origin::Others("x.invalid")), others, "{text}");
        }
    }

    #[test]
    fn each_completion_is_written_down() {
        let config = main_cf("myhostname = server.info.net\nmyorigin = $mydomain\ncompatibility_level = 0\n");
        let mut lookups = Vec::new();
        complete_noting("a%server", None, &config.main, &mut lookups).expect("an address");
        let noted: Vec<_> = lookups.iter().map(|l| (l.table.as_str(), l.key.as_str(), l.value.as_deref())).collect();
        let wanted = [
            ("allow_percent_hack", "a%server", Some("a@server")),
            ("append_dot_mydomain", "server", Some("server.info.net")),
        ];
        assert_eq!(noted, wanted);
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_completion(text in "[a!%@.\\[\\]\"\\\\ é]{0,20}") {
            let config = main_cf("");
            let _ = complete_text(&text, &config.main);
            let once = complete_header(&text, Origin::Ours, &config.main, &mut Vec::new());
            let _ = complete_header(&once, Origin::Others("x.org"), &config.main, &mut Vec::new());
        }
    }
}
