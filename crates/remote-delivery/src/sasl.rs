//! Which user and password a server gets (`smtp_sasl_password_maps`), and which mechanisms may carry them.

use mail_config::Main;
use mail_route::Stop;
use mail_smtp::client::{Credentials, Mechanism};
use mail_tables::Scope;
use mail_tables::address::{Delimiters, map_keys};
use mail_types::Sender;

use crate::generation::View;

/// The login for a host of a next hop; none where no table has one. `verified` says that the certificate was checked.
///
/// # Errors
/// A table cannot say now, or the parameters ask for what is not built: the reason of a deferral.
pub fn credentials(
    main: &Main,
    view: &View,
    sender: &Sender,
    host: &str,
    nexthop: &str,
    verified: bool,
) -> Result<Option<Credentials>, Stop> {
    if !*main.smtp_sasl_auth_enable {
        return Ok(None);
    }
    let Some(found) = find(main, view, sender, host, nexthop)? else { return Ok(None) };
    let (user, password) = found.split_once(':').unwrap_or((&found, ""));
    if user.is_empty() {
        return Err(Stop::Temporary("an entry of smtp_sasl_password_maps names no user".to_owned()));
    }
    let in_tls = match verified {
        true => &main.smtp_sasl_tls_verified_security_options,
        false => &main.smtp_sasl_tls_security_options,
    };
    let filter = &main.smtp_sasl_mechanism_filter;
    let allowed = |options: &[String]| allowed(options, filter).map_err(Stop::Temporary);
    Ok(Some(Credentials {
        user: user.to_owned(),
        password: password.to_owned(),
        in_clear: allowed(&main.smtp_sasl_security_options)?,
        in_tls: allowed(in_tls)?,
        soft_bounce: *main.smtp_sasl_auth_soft_bounce,
    }))
}

/// Whether connections may carry mail of several senders: not where the sender decides who logs in.
#[must_use]
pub fn may_share(main: &Main) -> bool {
    !(*main.smtp_sasl_auth_enable && *main.smtp_sender_dependent_authentication)
}

/// By sender, then by the host's name, then by the next hop as it is written, as Postfix asks.
fn find(main: &Main, view: &View, sender: &Sender, host: &str, nexthop: &str) -> Result<Option<String>, Stop> {
    let mut keys = Vec::new();
    if let Some(address) = sender.address().filter(|_| *main.smtp_sender_dependent_authentication) {
        keys.extend(map_keys(address, Delimiters::of(main), false).into_iter().map(|key| (key.text, key.scope)));
    }
    keys.push((host.to_owned(), Scope::Full));
    keys.push((nexthop.to_owned(), Scope::Full));
    for (key, scope) in keys {
        if let Some(found) = view.ask(&main.smtp_sasl_password_maps, &key, scope)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The mechanisms that neither the security options nor the filter exclude.
fn allowed(options: &[String], filter: &[String]) -> Result<Vec<Mechanism>, String> {
    let mut left = Mechanism::ALL.to_vec();
    for option in options {
        match option.as_str() {
            "noanonymous" => {}
            "noplaintext" => left.retain(|mechanism| *mechanism == Mechanism::CramMd5),
            // None of ours withstands a listener with a dictionary, an active attacker, or proves the server.
            "noactive" | "nodictionary" | "mutual_auth" | "forward_secrecy" => left.clear(),
            other => return Err(format!("unknown SASL security option `{other}'")),
        }
    }
    if filter.is_empty() {
        return Ok(left);
    }
    if let Some(table) = filter.iter().find(|word| word.contains([':', '/']) && !word.starts_with("static:")) {
        return Err(format!("smtp_sasl_mechanism_filter: the table `{table}' is not built"));
    }
    left.retain(|mechanism| passes(filter, mechanism.name()));
    Ok(left)
}

/// The first word that matches decides; without any the mechanism is not used.
fn passes(filter: &[String], name: &str) -> bool {
    for word in filter {
        let (negated, plain) = word.strip_prefix('!').map_or((false, word.as_str()), |rest| (true, rest));
        if plain.starts_with("static:") || plain.eq_ignore_ascii_case(name) {
            return !negated;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn options_and_filter_leave_what_neither_excludes() {
        use Mechanism::{CramMd5, Login, Plain};
        for (options, filter, left) in [
            ("noanonymous", "", vec![CramMd5, Plain, Login]),
            ("noplaintext noanonymous", "", vec![CramMd5]),
            ("noanonymous", "gssapi", vec![]),
            ("noanonymous", "plain login", vec![Plain, Login]),
            ("noanonymous", "!cram-md5 static:all", vec![Plain, Login]),
            ("noanonymous", "!PLAIN", vec![]),
            ("mutual_auth", "", vec![]),
        ] {
            assert_eq!(allowed(&words(options), &words(filter)), Ok(left), "{options} {filter:?}");
        }
        assert!(allowed(&words("nosuch"), &[]).is_err());
        assert!(allowed(&[], &words("hash:/etc/filter")).is_err());
    }
}
