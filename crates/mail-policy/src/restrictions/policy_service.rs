//! `check_policy_service`: asks a server of another program (SMTPD_POLICY_README).

use std::time::Duration;

use decision::Lookup;
use mail_config::main_cf::kinds::{Context, Kind, Span};
use mail_config::words::{split_words, unbraced};
use mail_types::SourceLine;

use super::Applied;
use crate::access::Yes;
use crate::access::{Carried, carry_out};
use crate::evaluate::Run;
use crate::facts::{Missing, PolicyFact, PolicyRequest, PolicyService, Question, policy};
use crate::plan::Stage;
use crate::replies::fail;
use crate::verdict::Effect;

/// What `check_policy_service` names: the service, and what its words in braces say otherwise than main.cf.
struct Named {
    service: PolicyService,
    default_action: String,
    context: String,
}

pub(super) fn check(run: &mut Run<'_>, argument: &str) -> Result<Applied, Missing> {
    let named = match read(run, argument) {
        Ok(named) => named,
        Err(why) => return Ok(fail(format!("check_policy_service {argument}: {why}")).into()),
    };
    let endpoint = named.service.endpoint.clone();
    let request = PolicyRequest { service: named.service, attributes: attributes(run, named.context) };
    let (action, found) = match policy(run.facts, Question::Policy(Box::new(request)))? {
        PolicyFact::Action(action) => (action.clone(), Some(action)),
        PolicyFact::Unavailable(_) => (named.default_action, None),
    };
    let key = run.command.command().to_owned();
    run.lookups.push(Lookup { table: endpoint.clone(), key, value: found, source: None });
    let subject = run.subject();
    Ok(match carry_out(run, &action, &subject) {
        Carried::Yes => {
            run.grant(&action, &subject, &endpoint);
            Effect::Permit.into()
        }
        Carried::Effect(effect) => effect.into(),
        Carried::Rules(rules) => Applied::Rules { rules, source: SourceLine::built_in(), yes: Yes::Counts, subject },
    })
}

/// `inet:host:port`, `unix:path`, or one of them in braces with `name = value` behind it.
fn read(run: &Run<'_>, argument: &str) -> Result<Named, String> {
    let main = &run.plan.main;
    let inside = unbraced(argument).unwrap_or(argument);
    // Blanks around `=` separate nothing.
    let words = split_words(inside).map_err(|error| error.to_string())?.join(" ");
    let words = words.replace(" = ", "=").replace("= ", "=").replace(" =", "=");
    let mut words = split_words(&words).map_err(|error| error.to_string())?.into_iter();
    let endpoint = words.next().filter(|word| word.contains(':')).ok_or("write inet:HOST:PORT or unix:PATH")?;
    let mut named = Named {
        service: PolicyService {
            endpoint,
            timeout: *main.smtpd_policy_service_timeout,
            try_limit: *main.smtpd_policy_service_try_limit,
            retry_delay: *main.smtpd_policy_service_retry_delay,
            request_limit: *main.smtpd_policy_service_request_limit,
            max_idle: *main.smtpd_policy_service_max_idle,
            max_ttl: *main.smtpd_policy_service_max_ttl,
        },
        default_action: main.smtpd_policy_service_default_action.value.clone(),
        context: main.smtpd_policy_service_policy_context.value.clone(),
    };
    for word in words {
        let word = unbraced(&word).unwrap_or(&word).to_owned();
        let (name, value) = word.split_once('=').ok_or_else(|| format!("`{word}' is no name=value"))?;
        set(&mut named, name.trim(), value.trim())?;
    }
    Ok(named)
}

fn set(named: &mut Named, name: &str, value: &str) -> Result<(), String> {
    let value = unbraced(value).unwrap_or(value);
    let number = || value.parse::<u64>().map_err(|_| format!("{name}={value}: no number"));
    match name {
        "timeout" => named.service.timeout = span(value)?,
        "try_limit" => named.service.try_limit = number()?.max(1),
        "retry_delay" => named.service.retry_delay = span(value)?,
        "request_limit" => named.service.request_limit = number()?,
        "max_idle" => named.service.max_idle = span(value)?,
        "max_ttl" => named.service.max_ttl = span(value)?,
        "default_action" => named.default_action = value.to_owned(),
        "policy_context" => named.context = value.to_owned(),
        _ => return Err(format!("unknown `{name}'")),
    }
    Ok(())
}

fn span(value: &str) -> Result<Duration, String> {
    let mut context =
        Context { default: "1s", written: true, run_without: &[], default_table: "hash", warnings: Vec::new() };
    Span::parse(value, &mut context).map_err(|mistake| mistake.what)
}

/// Everything that SMTPD_POLICY_README names, in its order. Line feeds cannot stand in a value.
fn attributes(run: &Run<'_>, context: String) -> Vec<(&'static str, String)> {
    let input = run.input;
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    let encryption = input.encryption;
    // What nobody vouches for is only a claim.
    let vouched = input.certificate.filter(|certificate| certificate.trusted);
    let [fingerprint, key_fingerprint] =
        input.certificate.map(|certificate| certificate.fingerprints).unwrap_or_default();
    let recipients = if matches!(run.command, Stage::Data | Stage::EndOfData) { input.recipients } else { 0 };
    let port = |port: u16| if port == 0 { String::new() } else { port.to_string() };
    let mut all = vec![
        ("request", "smtpd_access_policy".to_owned()),
        ("protocol_state", input.command.unwrap_or(run.command.command()).to_owned()),
        ("protocol_name", input.protocol.to_owned()),
        ("client_address", input.client.to_string()),
        ("client_name", input.name.shown().to_owned()),
        ("client_port", port(input.client_port)),
        ("reverse_client_name", input.name.shown_reverse().to_owned()),
        ("server_address", input.server.map(|server| server.ip().to_string()).unwrap_or_default()),
        ("server_port", input.server.map(|server| server.port().to_string()).unwrap_or_default()),
        ("helo_name", text(input.helo)),
        ("sender", input.sender.map(|_| input.sender_name()).unwrap_or_default()),
        ("recipient", input.recipient.map(|_| input.recipient_name()).unwrap_or_default()),
        ("recipient_count", recipients.to_string()),
        ("queue_id", text(input.queue_id)),
        ("instance", input.instance.to_owned()),
        ("size", input.size.to_string()),
        ("etrn_domain", text(input.etrn)),
        ("stress", String::new()),
        ("sasl_method", text(input.method)),
        ("sasl_username", text(input.user)),
        ("sasl_sender", String::new()),
        ("ccert_subject", vouched.map(|certificate| xtext(certificate.subject)).unwrap_or_default()),
        ("ccert_issuer", vouched.map(|certificate| xtext(certificate.issuer)).unwrap_or_default()),
        ("ccert_fingerprint", fingerprint.to_owned()),
        ("ccert_pubkey_fingerprint", key_fingerprint.to_owned()),
        ("encryption_protocol", text(encryption.map(|tls| tls.protocol))),
        ("encryption_cipher", text(encryption.map(|tls| tls.cipher))),
        ("encryption_keysize", encryption.map_or(0, |tls| tls.bits).to_string()),
        ("policy_context", context),
    ];
    for (_, value) in &mut all {
        if value.contains(['\n', '\r', '\0']) {
            *value = value.replace(['\n', '\r', '\0'], "?");
        }
    }
    all
}

/// A name as policy services read it: `+` and what is not printable as `+` and two digits (RFC 3461 section 4).
fn xtext(text: &str) -> String {
    let plain = |octet: u8| octet.is_ascii_graphic() && octet != b'+' && octet != b'=';
    text.bytes()
        .map(|octet| if plain(octet) { char::from(octet).to_string() } else { format!("+{octet:02X}") })
        .collect()
}
