//! The TLS policy of a next hop: `smtp_tls_policy_maps`, then `smtp_tls_security_level`; for LMTP their `lmtp_` sisters.

use mail_config::Main;
use mail_config::main_cf::kinds::ClientTls as Level;
use mail_config::main_cf::lists::TableRef;
use mail_daemon::lookups::Lookups;
use mail_ipc::delivery::TransportKind;
use mail_net::tls::{Check, Digest, NamePattern, Roots};
use mail_route::{NextHop, Stop};
use mail_tables::Scope;

use crate::generation::{Authorities, Generation, View};

/// How TLS is used towards a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// Not.
    Off,
    /// STARTTLS where it is offered; in clear where it fails.
    May,
    /// STARTTLS or nothing.
    Required,
    /// TLS from the first octet (`smtp_tls_wrappermode`).
    Wrapped,
}

/// The policy of a next hop.
#[derive(Debug, Clone)]
pub struct Policy {
    /// How TLS is used.
    pub tls: Tls,
    demand: Demand,
}

/// What is asked of a certificate, before the host is known.
#[derive(Debug, Clone)]
enum Demand {
    /// Nothing; the log says whether these vouch for it.
    Nothing(Roots),
    Fingerprints {
        digest: Digest,
        prints: Vec<Vec<u8>>,
    },
    Names {
        roots: Roots,
        words: Vec<String>,
        domain: String,
    },
}

impl Demand {
    fn nothing() -> Self {
        Self::Nothing(Roots::default())
    }
}

impl Policy {
    /// The check for a host.
    #[must_use]
    pub fn check(&self, host: &str) -> Check {
        match &self.demand {
            Demand::Nothing(roots) => Check::Any(roots.clone()),
            Demand::Fingerprints { digest, prints } => Check::Fingerprints { digest: *digest, prints: prints.clone() },
            Demand::Names { roots, words, domain } => {
                let names = words.iter().map(|word| pattern(word, host, domain)).collect();
                Check::Names { roots: roots.clone(), names }
            }
        }
    }

    /// Whether the certificate is checked.
    #[must_use]
    pub fn verifies(&self) -> bool {
        !matches!(self.demand, Demand::Nothing(_))
    }

    /// The same host without TLS, after an opportunistic handshake that failed.
    #[must_use]
    pub fn in_clear() -> Self {
        Self { tls: Tls::Off, demand: Demand::nothing() }
    }
}

/// A word of `match`: a strategy, a name, or a domain with its dot.
fn pattern(word: &str, host: &str, domain: &str) -> NamePattern {
    match word {
        "hostname" => NamePattern::Host(host.to_owned()),
        "nexthop" => NamePattern::Host(domain.to_owned()),
        "dot-nexthop" => NamePattern::Below(domain.to_owned()),
        other => match other.strip_prefix('.') {
            Some(below) => NamePattern::Below(below.to_owned()),
            None => NamePattern::Host(other.to_owned()),
        },
    }
}

/// The policy of a next hop.
///
/// # Errors
/// It asks for more than is built, or a table cannot say: the reason of a deferral (fail closed).
pub async fn policy(
    generation: &Generation,
    lookups: &Lookups,
    main: &Main,
    kind: TransportKind,
    text: &str,
    hop: &NextHop,
) -> Result<Policy, String> {
    let words = Words::of(main, kind);
    let entry = match generation.decide(lookups, |view| look_up(words.maps, view, text, hop)).await? {
        Some(value) => Entry::read(&value)?,
        None => Entry { level: words.level, ..Entry::default() },
    };
    let tls = match (entry.level, words.wrapped) {
        (Level::Unset | Level::None | Level::May, true) => {
            let name = words.name;
            return Err(format!("{name}_tls_wrappermode needs {name}_tls_security_level = encrypt or more"));
        }
        (Level::Unset | Level::None, false) => Tls::Off,
        (Level::May, false) => Tls::May,
        (_, true) => Tls::Wrapped,
        (_, false) => Tls::Required,
    };
    Ok(Policy { tls, demand: demand(generation, &words, entry, hop)? })
}

/// What main.cf says about TLS: the parameters of smtp(8), or of lmtp(8).
struct Words<'a> {
    name: &'static str,
    level: Level,
    wrapped: bool,
    maps: &'a [TableRef],
    authorities: Authorities,
    verify: &'a [String],
    secure: &'a [String],
    prints: &'a [String],
    digest: &'a str,
    /// Whether handshakes are logged, so that it matters who is trusted.
    logged: bool,
}

impl<'a> Words<'a> {
    fn of(main: &'a Main, kind: TransportKind) -> Self {
        macro_rules! words {
            ($name:literal, $level:ident $use_tls:ident $enforce:ident $wrapped:ident $maps:ident $file:ident $path:ident
             $verify:ident $secure:ident $prints:ident $digest:ident $logged:ident) => {
                Self {
                    name: $name,
                    level: match main.$level.value {
                        Level::Unset if *main.$enforce => Level::Encrypt,
                        Level::Unset if *main.$use_tls => Level::May,
                        other => other,
                    },
                    wrapped: *main.$wrapped,
                    maps: &main.$maps,
                    authorities: (main.$file.value.clone(), main.$path.value.clone(), *main.tls_append_default_CA),
                    verify: &main.$verify,
                    secure: &main.$secure,
                    prints: &main.$prints,
                    digest: &main.$digest,
                    logged: *main.$logged > 0,
                }
            };
        }
        match kind {
            TransportKind::Lmtp => {
                words!("lmtp", lmtp_tls_security_level lmtp_use_tls lmtp_enforce_tls lmtp_tls_wrappermode
                lmtp_tls_policy_maps lmtp_tls_CAfile lmtp_tls_CApath lmtp_tls_verify_cert_match lmtp_tls_secure_cert_match
                lmtp_tls_fingerprint_cert_match lmtp_tls_fingerprint_digest lmtp_tls_loglevel)
            }
            _ => words!("smtp", smtp_tls_security_level smtp_use_tls smtp_enforce_tls smtp_tls_wrappermode
                smtp_tls_policy_maps smtp_tls_CAfile smtp_tls_CApath smtp_tls_verify_cert_match smtp_tls_secure_cert_match
                smtp_tls_fingerprint_cert_match smtp_tls_fingerprint_digest smtp_tls_loglevel),
        }
    }
}

fn demand(generation: &Generation, words: &Words<'_>, entry: Entry, hop: &NextHop) -> Result<Demand, String> {
    let or = |words: &[String]| if entry.matches.is_empty() { words.to_vec() } else { entry.matches.clone() };
    let names = |wanted: &[String]| {
        let roots = match &entry.authorities {
            Some(file) => Roots::from_pem(&std::fs::read(file).map_err(|error| format!("{file}: {error}"))?),
            None => generation.roots(&words.authorities),
        };
        Ok(Demand::Names { roots, words: split(&or(wanted)), domain: domain(hop).to_owned() })
    };
    match entry.level {
        Level::Unset | Level::None => Ok(Demand::nothing()),
        Level::May | Level::Encrypt if words.logged => Ok(Demand::Nothing(generation.roots(&words.authorities))),
        Level::May | Level::Encrypt => Ok(Demand::nothing()),
        Level::Verify => names(words.verify),
        Level::Secure => names(words.secure),
        Level::Fingerprint => {
            let name = words.digest;
            let digest = Digest::named(name).ok_or_else(|| format!("unknown digest `{name}'"))?;
            let prints = fingerprints(&or(words.prints))?;
            Ok(Demand::Fingerprints { digest, prints })
        }
        Level::Dane | Level::DaneOnly => {
            Err("the TLS level asks for DANE, which this version does not have".to_owned())
        }
    }
}

/// Words of a match list; `:` separates too.
fn split(words: &[String]) -> Vec<String> {
    words.iter().flat_map(|word| word.split(':')).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Fingerprints as pairs of hexadecimal digits with colons between them; `|` separates several in a policy table.
fn fingerprints(words: &[String]) -> Result<Vec<Vec<u8>>, String> {
    let read = |text: &str| {
        let octets = text.split(':').map(|pair| u8::from_str_radix(pair, 16));
        octets.collect::<Result<Vec<u8>, _>>().map_err(|_| format!("`{text}' is no fingerprint"))
    };
    words.iter().flat_map(|word| word.split('|')).filter(|text| !text.is_empty()).map(read).collect()
}

/// The name that a next hop gives to certificates: without brackets and port.
fn domain(hop: &NextHop) -> &str {
    match hop {
        NextHop::Domain { name, .. } | NextHop::Host { name, .. } => name,
        NextHop::Unix(_) => "localhost",
    }
}

/// The entry of a next hop: as it is written, then for a bare domain its parents with their dots.
fn look_up(maps: &[TableRef], view: &View, text: &str, hop: &NextHop) -> Result<Option<String>, Stop> {
    let mut keys = vec![(text, Scope::Full)];
    if matches!(hop, NextHop::Domain { port: None, .. }) {
        keys.extend(
            text.char_indices().filter(|&(at, c)| c == '.' && at > 0).map(|(at, _)| (&text[at..], Scope::Partial)),
        );
    }
    for (key, scope) in keys {
        if let Some(found) = view.ask(maps, key, scope)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The right side of a policy table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    level: Level,
    matches: Vec<String>,
    authorities: Option<String>,
}

impl Default for Entry {
    fn default() -> Self {
        Self { level: Level::Unset, matches: Vec::new(), authorities: None }
    }
}

impl Entry {
    fn read(value: &str) -> Result<Self, String> {
        let mut words = value.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
        let level = match words.next() {
            Some("none") => Level::None,
            Some("may") => Level::May,
            Some("encrypt") => Level::Encrypt,
            Some("fingerprint") => Level::Fingerprint,
            Some("verify") => Level::Verify,
            Some("secure") => Level::Secure,
            Some("dane" | "dane-only") => Level::DaneOnly,
            other => return Err(format!("`{}' is no TLS security level", other.unwrap_or_default())),
        };
        let mut entry = Self { level, ..Self::default() };
        for word in words {
            match word.split_once('=') {
                Some(("match", names)) => entry.matches.push(names.to_owned()),
                Some(("tafile", file)) => entry.authorities = Some(file.to_owned()),
                // Ours are stricter than any of these grades.
                Some(("ciphers", "export" | "low" | "medium" | "high" | "null")) => {}
                // rustls has 1.2 and 1.3: a list with 1.2 in it excludes neither.
                Some(("protocols", list)) if allows_12(list) => {}
                _ => return Err(format!("`{word}' in a TLS policy is not built")),
            }
        }
        Ok(entry)
    }
}

/// Whether a list of protocols leaves TLS 1.2 (it is the older of ours).
fn allows_12(list: &str) -> bool {
    let words: Vec<&str> = list.split(':').filter(|word| !word.is_empty()).collect();
    let known = ["SSLv2", "SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", ">=TLSv1", ">=TLSv1.1", ">=TLSv1.2"];
    let excludes = |word: &str| word.strip_prefix('!').is_some_and(|name| known[..4].contains(&name));
    words.iter().all(|word| known[4..].contains(word) || *word == "TLSv1.3" || excludes(word))
        && words.iter().any(|word| *word != "TLSv1.3")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_policy_tables_are_read_or_refused() {
        let entry = Entry::read("secure match=mx.example.org:.example.net, tafile=/etc/ca.pem protocols=!SSLv3:!TLSv1")
            .expect("a policy");
        assert_eq!(entry.level, Level::Secure);
        assert_eq!(split(&entry.matches), ["mx.example.org", ".example.net"]);
        assert_eq!(entry.authorities.as_deref(), Some("/etc/ca.pem"));
        assert_eq!(Entry::read("dane").expect("read").level, Level::DaneOnly);
        for wrong in
            ["", "sure", "encrypt exclude=aNULL", "encrypt protocols=TLSv1.3", "encrypt protocols=!TLSv1.2", "may x"]
        {
            assert!(Entry::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn words_of_match_lists_become_patterns() {
        let of = |word| pattern(word, "mx.host.example", "domain.example");
        assert_eq!(of("hostname"), NamePattern::Host("mx.host.example".to_owned()));
        assert_eq!(of("nexthop"), NamePattern::Host("domain.example".to_owned()));
        assert_eq!(of("dot-nexthop"), NamePattern::Below("domain.example".to_owned()));
        assert_eq!(of(".other.example"), NamePattern::Below("other.example".to_owned()));
        assert_eq!(of("other.example"), NamePattern::Host("other.example".to_owned()));
    }

    #[test]
    fn fingerprints_are_pairs_of_digits() {
        assert_eq!(fingerprints(&["01:Ff|02".to_owned()]), Ok(vec![vec![1, 255], vec![2]]));
        assert!(fingerprints(&["xyz".to_owned()]).is_err());
    }
}
