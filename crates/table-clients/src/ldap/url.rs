//! LDAP URLs: where a server is (`server_host`), and searches that stand in a directory (RFC 4516).

use crate::connection::Endpoint;

use super::message::Scope;

/// Where OpenLDAP's server listens for this machine.
const LOCAL: &str = "/run/slapd/ldapi";

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) endpoint: Endpoint,
    /// TLS from the first octet on.
    pub(super) tls: bool,
}

/// A search that stands in a directory, on whatever server holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Search {
    pub(super) base: String,
    /// None for all that are of interest.
    pub(super) attributes: Vec<String>,
    pub(super) scope: Scope,
    pub(super) filter: String,
}

/// Whether a value is an URL and no distinguished name.
pub(super) fn is_url(text: &str) -> bool {
    split(text).is_some()
}

fn split(text: &str) -> Option<(String, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    matches!(scheme.as_str(), "ldap" | "ldaps" | "ldapi").then_some((scheme, rest))
}

/// Reads a word of `server_host`: an URL, or a host with or without a port.
///
/// # Errors
/// It names no server.
pub(super) fn server(word: &str, usual_port: u16) -> Result<Server, String> {
    let wrong = || format!("`{word}' names no server");
    let Some((scheme, rest)) = split(word) else {
        let endpoint = Endpoint::parse(word, Some(usual_port)).filter(|endpoint| matches!(endpoint, Endpoint::Tcp(..)));
        return Ok(Server { endpoint: endpoint.ok_or_else(wrong)?, tls: false });
    };
    let place = rest.split('/').next().unwrap_or_default();
    let tls = scheme == "ldaps";
    let endpoint = match scheme.as_str() {
        "ldapi" if place.is_empty() => Some(Endpoint::Unix(LOCAL.into())),
        "ldapi" => Some(Endpoint::Unix(decoded(place).ok_or_else(wrong)?.into())),
        _ => {
            Endpoint::parse(place, Some(if tls { 636 } else { 389 })).filter(|found| matches!(found, Endpoint::Tcp(..)))
        }
    };
    Ok(Server { endpoint: endpoint.ok_or_else(wrong)?, tls })
}

/// Reads `ldap://server/base?attributes?scope?filter?extensions`. The server is not asked: the search is put where the URL was found.
///
/// # Errors
/// It is malformed, or asks for what is not built.
pub(super) fn search(url: &str) -> Result<Search, String> {
    let wrong = || format!("the directory holds a malformed URL: {url:.200}");
    let (_, rest) = split(url).ok_or_else(wrong)?;
    let parts = rest.split_once('/').map_or("", |(_, parts)| parts);
    let mut parts = parts.split('?');
    let mut next = || decoded(parts.next().unwrap_or_default()).ok_or_else(wrong);
    let (base, attributes, scope, filter, extensions) = (next()?, next()?, next()?, next()?, next()?);
    if extensions.split(',').any(|extension| extension.starts_with('!')) {
        return Err(format!("the directory holds an URL with an extension that must not be passed over: {url:.200}"));
    }
    Ok(Search {
        base,
        attributes: attributes.split(',').filter(|name| !name.is_empty() && *name != "*").map(str::to_owned).collect(),
        scope: if scope.is_empty() { Scope::Base } else { Scope::parse(&scope).ok_or_else(wrong)? },
        filter: if filter.is_empty() { "(objectClass=*)".to_owned() } else { filter },
    })
}

/// Reads `%2F`.
fn decoded(text: &str) -> Option<String> {
    String::from_utf8(crate::tcp::decoded(text.as_bytes())?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_as_ldap_table_says() {
        let tcp = |host: &str, port, tls| Ok(Server { endpoint: Endpoint::Tcp(host.to_owned(), port), tls });
        let unix = |path: &str| Ok(Server { endpoint: Endpoint::Unix(path.into()), tls: false });
        assert_eq!(server("ldap.example.com", 389), tcp("ldap.example.com", 389, false));
        assert_eq!(server("ldap.example.com:1444", 389), tcp("ldap.example.com", 1444, false));
        assert_eq!(server("ldap://ldap.example.com", 1), tcp("ldap.example.com", 389, false));
        assert_eq!(server("LDAPS://ldap.example.com/", 1), tcp("ldap.example.com", 636, true));
        assert_eq!(server("ldap://[::1]:1444", 1), tcp("::1", 1444, false));
        assert_eq!(server("ldap://", 1), tcp("localhost", 389, false));
        assert_eq!(server("ldapi://%2Fsome%2Fpath", 1), unix("/some/path"));
        assert_eq!(server("ldapi://", 1), unix(LOCAL));
        for wrong in ["ldap://host:x", "unix:/run/x", "ldapi://%zz", "host:nosuchport"] {
            assert!(server(wrong, 389).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_search_has_what_its_url_says() {
        let found = search("ldap:///ou=a%20b,dc=x?mail,cn?sub?(cn=%2a)").expect("an URL");
        let wanted = Search {
            base: "ou=a b,dc=x".to_owned(),
            attributes: vec!["mail".to_owned(), "cn".to_owned()],
            scope: Scope::Sub,
            filter: "(cn=*)".to_owned(),
        };
        assert_eq!(found, wanted);
        let bare = search("ldap://host").expect("an URL");
        assert_eq!((bare.base.as_str(), bare.scope, bare.filter.as_str()), ("", Scope::Base, "(objectClass=*)"));
        assert!(search("ldap:///x????!bindname=y").is_err() && search("ldap:///x??deep").is_err());
        assert!(is_url("LDAP:///x") && !is_url("cn=ldap://x") && !is_url("http://x"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in "(ldap|ldapi|://|/|\\?|%|2F|a|,|!|é|:|\\[|\\]){0,12}") {
            let _ = (server(&text, 389), search(&text));
        }
    }
}
