//! A real Postfix as relay host: STARTTLS with a certificate that is checked, and AUTH with each of our mechanisms, judged by Dovecot.

use std::fs;

use test_support::dns::Dns;
use test_support::{Builder, Patience, System, wait_for};

use crate::dovecot::Dovecot;
use crate::postfix::{Postfix, free_port};

const MECHANISMS: [&str; 3] = ["plain", "login", "cram-md5"];

pub fn takes_our_mail() -> Result<(), String> {
    let certificate = mail_net::tls::self_signed("relay.example").map_err(|error| error.to_string())?;
    let dns = Dns::start().map_err(|error| error.to_string())?;
    let port = free_port()?;
    dns.address_of("relay.example", port.ip());
    let main_cf = format!(
        "postrider_dns_servers = {}\nsmtp_tls_security_level = verify\nsmtp_tls_CAfile = {{root}}/etc/ca.pem\nsmtp_sasl_auth_enable = yes\n\
         smtp_sasl_password_maps = texthash:{{root}}/etc/passwords\nsmtp_sasl_security_options = noanonymous\n\
         transport_maps = texthash:{{root}}/etc/transport",
        dns.address()
    );
    let hop = format!("[relay.example]:{}", port.port());
    let transports = MECHANISMS.map(|name| format!("{name} unix - - n - - smtp -o smtp_sasl_mechanism_filter={name}"));
    let routes = MECHANISMS.map(|name| format!("{name}.example {name}:{hop}\n"));
    let system = Builder::new("ours.example")
        .main_cf(&main_cf)
        .master_cf(&format!(
            "{}\nwrong unix - - n - - smtp -o smtp_sasl_password_maps=inline:{{{hop}=john:wrong}}",
            transports.join("\n")
        ))
        .file("ca.pem", &certificate.certificate)
        .file("passwords", &format!("{hop} john:secret\n"))
        .file("transport", &format!("{}wrong.example wrong:{hop}\n", routes.concat()))
        .start()?;
    let _dovecot = Dovecot::beside(&system)?;
    let (chain, key) = (system.etc().join("relay.pem"), system.etc().join("relay.key"));
    fs::write(&chain, &certificate.certificate)
        .and_then(|()| fs::write(&key, &certificate.key))
        .map_err(|error| error.to_string())?;
    let lines = format!(
        "myhostname = relay.example\nmydestination =\nmynetworks = 192.0.2.1\ncompatibility_level = 3.6\ndefault_transport = discard\n\
         smtpd_tls_security_level = encrypt\nsmtpd_tls_auth_only = yes\nsmtpd_tls_cert_file = {}\nsmtpd_tls_key_file = {}\n\
         smtpd_sasl_auth_enable = yes\nsmtpd_sasl_type = dovecot\nsmtpd_sasl_path = {}\nsmtpd_relay_restrictions = permit_sasl_authenticated, reject",
        chain.display(),
        key.display(),
        Dovecot::auth(&system)
    );
    let postfix = Postfix::start_at(port, &lines)?;
    story(&system, &postfix).map_err(|error| format!("{error}\n{}\n{}", system.logs(), postfix.log()))
}

fn story(system: &System, postfix: &Postfix) -> Result<(), String> {
    for name in MECHANISMS.into_iter().chain(["wrong"]) {
        system.run(
            &["sendmail", "-f", "mary@ours.example", &format!("x@{name}.example")],
            "Subject: relayed\n\nhello\n",
        )?;
    }
    for name in MECHANISMS {
        logged(&format!("to=<x@{name}.example>"), "status=sent (250 2.0.0 Ok: queued as", || {
            system.log("remote-delivery")
        })?;
        let method = format!("sasl_method={}, sasl_username=john", name.to_uppercase());
        logged("client=localhost", &method, || postfix.log())?;
    }
    logged(
        "to=<x@wrong.example>",
        "status=deferred (SASL authentication failed; server relay.example[127.0.0.1] said: 535 5.7.8",
        || system.log("remote-delivery"),
    )
}

/// Waits for a line with both.
fn logged(one: &str, other: &str, log: impl Fn() -> String) -> Result<(), String> {
    wait_for(&format!("a line with {one} and {other}"), Patience::default(), || {
        log().lines().any(|line| line.contains(one) && line.contains(other)).then_some(())
    })
}
