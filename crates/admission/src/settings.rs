//! From main.cf, as one listener sees it, to the settings of the protocol machine.

use std::sync::Arc;

use mail_config::main_cf::kinds::{BareNewline as Bare, ServerTls as Level};
use mail_config::{Config, Main};
use mail_smtp::content::StrayCr;
use mail_smtp::server::{AuthSettings, BareNewline, Dialect, Settings, Tls};

/// The mechanisms that are offered until authd has said which it has.
pub const MECHANISMS: [&str; 2] = ["PLAIN", "LOGIN"];

/// main.cf as the line of pickup(8) in master.cf has it, for mail of this machine.
#[must_use]
pub fn pickup_main(config: &Config) -> Arc<Main> {
    let pickup =
        config.master.services.iter().find(|service| service.name == "pickup" && !service.overrides.is_empty());
    pickup.map_or_else(|| Arc::clone(&config.main), |service| Arc::new(config.for_service(service)))
}

/// The settings of a listener. `mechanisms` are those of authd, all of which send the password in clear.
#[must_use]
pub fn machine_settings(main: &Main, mechanisms: &[String]) -> Settings {
    let count = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    let limit = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let forbidden = main.smtpd_forbidden_commands.iter().filter(|word| !word.contains(':'));
    Settings {
        dialect: Dialect::Smtp,
        hostname: main.myhostname.value.clone(),
        banner: main.smtpd_banner.value.clone(),
        size_limit: *main.message_size_limit,
        recipient_limit: count(*main.smtpd_recipient_limit),
        overshoot_limit: count(*main.smtpd_recipient_overshoot_limit),
        line_limit: count(*main.line_length_limit),
        timeout: *main.smtpd_timeout,
        // Content takes its share of the memory for all sessions, so nobody may hold one for ever by trickling.
        per_request_deadline: *main.smtpd_per_request_deadline || !main.smtpd_per_request_deadline.is_written(),
        min_data_rate: limit(*main.smtpd_min_data_rate),
        error_sleep: *main.smtpd_error_sleep_time,
        soft_error_limit: limit(*main.smtpd_soft_error_limit),
        hard_error_limit: limit(*main.smtpd_hard_error_limit),
        junk_command_limit: limit(*main.smtpd_junk_command_limit),
        helo_required: *main.smtpd_helo_required,
        disable_vrfy: *main.disable_vrfy_command,
        strict_envelopes: *main.strict_rfc821_envelopes,
        smtputf8: *main.smtputf8_enable,
        bare_newline: match main.smtpd_forbid_bare_newline.value {
            // S07: under every value only CRLF.CRLF ends a message.
            Bare::No | Bare::Note | Bare::Normalize => BareNewline::Normalize,
            Bare::Reject => {
                BareNewline::Reject(u16::try_from(*main.smtpd_forbid_bare_newline_reject_code).unwrap_or(550))
            }
        },
        stray_cr: if *main.cleanup_replace_stray_cr_lf { StrayCr::Blank } else { StrayCr::Keep },
        forbid_unauth_pipelining: *main.smtpd_forbid_unauth_pipelining,
        tls: tls_level(main),
        tls_ready: true,
        auth: auth_settings(main, mechanisms),
        discard_ehlo_keywords: main.smtpd_discard_ehlo_keywords.iter().map(|word| word.to_ascii_uppercase()).collect(),
        etrn: true,
        xclient: false,
        filter_commands: !main.smtpd_command_filter.is_empty(),
        forbidden_commands: forbidden.map(|word| word.to_ascii_uppercase()).collect(),
        forbid_non_letters: main.smtpd_forbidden_commands.iter().any(|word| word.contains("[^A-Z]")),
    }
}

/// The settings of LMTP: neither TLS nor AUTH, and no DSN, since nothing is queued that could be reported later.
#[must_use]
pub fn lmtp_settings(main: &Main, hostname: String, greeting: &str) -> Settings {
    Settings {
        dialect: Dialect::Lmtp,
        banner: format!("{hostname} {greeting}"),
        hostname,
        tls: Tls::Off,
        auth: None,
        discard_ehlo_keywords: vec!["DSN".to_owned()],
        filter_commands: false,
        ..machine_settings(main, &[])
    }
}

/// TLS as a listener offers it.
#[must_use]
pub fn tls_level(main: &Main) -> Tls {
    match main.smtpd_tls_security_level.value {
        // With TLS from the first octet there is nothing to start.
        _ if *main.smtpd_tls_wrappermode => Tls::Off,
        Level::None => Tls::Off,
        Level::May => Tls::May,
        Level::Encrypt => Tls::Encrypt,
        Level::Unset if *main.smtpd_enforce_tls => Tls::Encrypt,
        Level::Unset if *main.smtpd_use_tls => Tls::May,
        Level::Unset => Tls::Off,
    }
}

/// Whether the first word of a filter that holds for a mechanism lets it be offered. Tables but `static:` are not asked: nothing is offered that comes to one.
fn is_offered(filter: &[String], mechanism: &str) -> bool {
    let holds = |word: &str| word.contains(':') || word.eq_ignore_ascii_case(mechanism);
    let first = filter.iter().find(|word| holds(word.trim_start_matches('!')));
    first.is_some_and(|word| !word.starts_with('!') && (!word.contains(':') || word.starts_with("static:")))
}

/// AUTH as it is offered. `noplaintext` takes all our mechanisms out: in clear sessions, or in all.
fn auth_settings(main: &Main, mechanisms: &[String]) -> Option<AuthSettings> {
    let noplaintext = |options: &[String]| options.iter().any(|word| word.eq_ignore_ascii_case("noplaintext"));
    if !*main.smtpd_sasl_auth_enable || noplaintext(&main.smtpd_sasl_tls_security_options) {
        return None;
    }
    let offered = |name: &String| is_offered(&main.smtpd_sasl_mechanism_filter, name);
    let mechanisms: Vec<String> = mechanisms.iter().filter(|name| offered(name)).cloned().collect();
    if mechanisms.is_empty() {
        return None;
    }
    Some(AuthSettings {
        mechanisms,
        tls_only: *main.smtpd_tls_auth_only || noplaintext(&main.smtpd_sasl_security_options),
        response_limit: usize::try_from(*main.smtpd_sasl_response_limit).unwrap_or(12_288),
        broken_clients: *main.broken_sasl_auth_clients,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_config::{Config, Machine};

    fn settings(main_cf: &str) -> Settings {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("main.cf"), main_cf).expect("written");
        let dovecot = dir.path().join("dovecot.conf");
        let loaded = Config::load_on(dir.path(), Some(&dovecot), Machine::named("server.info.net"));
        let config = loaded.unwrap_or_else(|errors| panic!("{errors}")).config;
        machine_settings(&config.main, &MECHANISMS.map(str::to_owned))
    }

    #[test]
    fn passwords_wait_for_tls_unless_the_file_says_otherwise() {
        let auth = |lines: &str| settings(&format!("smtpd_sasl_auth_enable = yes\n{lines}")).auth;
        assert!(settings("").auth.is_none());
        assert!(auth("").expect("offered").tls_only);
        assert!(!auth("smtpd_tls_auth_only = no").expect("offered").tls_only);
        assert!(auth("smtpd_tls_auth_only = no\nsmtpd_sasl_security_options = noanonymous, noplaintext\nsmtpd_sasl_tls_security_options = noanonymous").expect("offered").tls_only);
        assert!(auth("smtpd_sasl_security_options = noplaintext").is_none());
        let offered = |filter: &str| {
            auth(&format!("smtpd_sasl_mechanism_filter = {filter}")).map(|auth| auth.mechanisms).unwrap_or_default()
        };
        assert_eq!(offered("!login, static:rest"), ["PLAIN"]);
        assert_eq!(offered("plain"), ["PLAIN"]);
        assert_eq!(offered("login, hash:/others, static:rest"), ["LOGIN"]);
        assert!(offered("!static:rest").is_empty() && offered("gssapi").is_empty());
    }

    #[test]
    fn tls_is_what_the_file_says() {
        assert_eq!(settings("").tls, Tls::Off);
        assert_eq!(settings("smtpd_use_tls = yes").tls, Tls::May);
        assert_eq!(settings("smtpd_tls_security_level = encrypt").tls, Tls::Encrypt);
        assert_eq!(settings("smtpd_tls_security_level = encrypt\nsmtpd_tls_wrappermode = yes").tls, Tls::Off);
    }

    #[test]
    fn content_has_a_least_rate_unless_the_file_says_otherwise() {
        assert!(settings("").per_request_deadline);
        assert!(!settings("smtpd_per_request_deadline = no").per_request_deadline);
    }

    #[test]
    fn every_value_of_the_bare_newline_ends_content_at_the_full_sequence_only() {
        // S07
        assert_eq!(settings("").bare_newline, BareNewline::Normalize);
        assert_eq!(settings("smtpd_forbid_bare_newline = reject").bare_newline, BareNewline::Reject(550));
    }
}
