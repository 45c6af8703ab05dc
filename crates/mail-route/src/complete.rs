//! From what people and programs write to complete addresses (`append_at_myorigin`, `append_dot_mydomain`, `user%domain`,
//! `site!user`), as trivial-rewrite(8) does.

use mail_config::Main;
use mail_types::{Address, AddressError, Domain};

/// Completes an address whose parts are known; `local` is without quotes.
///
/// Without a domain, `site!user` becomes `user@site` and `user%domain` becomes `user@domain` where main.cf allows it, and
/// everything else gets `myorigin`. A domain without dot gets `mydomain` where main.cf says so.
///
/// # Errors
/// [`AddressError`] if no address comes out, or if there is no domain and none may be added.
pub fn complete(local: &str, domain: Option<&str>, main: &Main) -> Result<Address, AddressError> {
    let (local, domain) = match domain {
        Some(domain) => (local, domain),
        None => split_routing(local, main).unwrap_or_else(|| (local, origin(main))),
    };
    if domain.is_empty() {
        return Err(AddressError::BadDomain);
    }
    Address::new(local, Domain::new(&complete_domain(domain, main))?)
}

/// The same for the external form of an address: `john`, `john@info.net`, `"a b"@x`, `site!user`.
///
/// # Errors
/// As [`complete`], and for quotes that do not close.
pub fn complete_text(text: &str, main: &Main) -> Result<Address, AddressError> {
    let (local, domain) = split_external(text.trim())?;
    complete(&local, domain, main)
}

/// The domain that an address without one gets; empty if it gets none.
fn origin(main: &Main) -> &str {
    if *main.append_at_myorigin { main.myorigin.as_str() } else { "" }
}

/// `site!user` and `user%domain`.
pub(crate) fn split_routing<'a>(local: &'a str, main: &Main) -> Option<(&'a str, &'a str)> {
    if *main.swap_bangpath
        && let Some((site, user)) = local.split_once('!')
        && !site.is_empty()
        && !user.is_empty()
    {
        return Some((user, site));
    }
    let percent = local.rsplit_once('%').filter(|(user, domain)| !user.is_empty() && !domain.is_empty());
    percent.filter(|_| *main.allow_percent_hack)
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

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_completion(text in "[a!%@.\\[\\]\"\\\\ é]{0,20}") {
            let config = main_cf("");
            let _ = complete_text(&text, &config.main);
        }
    }
}
