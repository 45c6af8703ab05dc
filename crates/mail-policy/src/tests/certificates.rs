//! Client certificates.

use super::*;

/// A session with TLS and a certificate.
fn showing(fingerprint: &str, trusted: bool) -> Case<'_> {
    let certificate = Certificate { subject: "a+b c", issuer: "CA", fingerprints: [fingerprint, "0K"], trusted };
    Case { to: "x@gmail.com", tls: true, certificate: Some(certificate), ..STRANGER }
}

/// Facts with the tables that are written in main.cf itself.
fn written_in(main_cf: &str) -> Made {
    let tables: Vec<TableRef> = main_of(main_cf).tables().into_iter().map(|(table, _)| table).collect();
    Made { tables: Snapshot::default().with_tables(&tables), ..Made::default() }
}

#[test]
fn certificates_let_in_by_fingerprint_or_by_who_vouches() {
    let rules = |list: &str| {
        format!(
            "smtpd_tls_ask_ccert = yes\nrelay_clientcerts = inline:{{AA:01=x}}, inline:{{BB:02=x}}\n\
             smtpd_relay_restrictions = {list}, reject_unauth_destination"
        )
    };
    let none = written_in(&rules("permit_tls_clientcerts"));
    let denied = "554 5.7.1 <x@gmail.com>: Relay access denied";
    let key = Certificate { subject: "", issuer: "", fingerprints: ["CC:03", "BB:02"], trusted: false };
    let by_key = Case { certificate: Some(key), ..showing("", false) };
    let plain = Case { to: "x@gmail.com", tls: true, ..STRANGER };
    for (case, listed, all) in [
        (showing("aa:01", false), "ok", "ok"),
        (by_key, "ok", "ok"),
        (showing("CC:03", true), denied, "ok"),
        (showing("CC:03", false), denied, denied),
        (plain, denied, denied),
    ] {
        assert_eq!(rcpt(&rules("permit_tls_clientcerts"), &case, &none), listed);
        assert_eq!(rcpt(&rules("permit_tls_all_clientcerts"), &case, &none), all);
    }
    let broken = rules("permit_tls_clientcerts").replace("relay_clientcerts = ", "relay_clientcerts = hash:/gone, ");
    assert!(rcpt(&broken, &showing("AA:01", true), &none).starts_with("451 4.3.0"));
    let unasked = rules("permit_tls_clientcerts").replace("ask_ccert = yes", "ask_ccert = no");
    let (_, decisions) = run(&unasked, &Case { to: "x@gmail.com", tls: true, ..STRANGER }, Stage::Recipient, &none);
    assert!(decisions.iter().any(|decision| matches!(&decision.effect, Effect::Ignored(_))));
}

#[test]
fn a_certificate_is_looked_up_in_a_table_by_its_fingerprints() {
    let table = "check_ccert_access inline:{{AA:01 = REJECT go}, {0K = OK}}";
    let main = format!("smtpd_relay_restrictions = {table}, reject_unauth_destination");
    let refused = "554 5.7.1 <a+b c>: Client certificate rejected: go";
    let facts = written_in(&main);
    assert_eq!(rcpt(&main, &showing("AA:01", false), &facts), refused);
    assert_eq!(rcpt(&main, &showing("BB:02", false), &facts), "ok");
}

#[test]
fn policy_services_hear_names_only_where_somebody_vouches() {
    let own = "smtpd_relay_restrictions = check_policy_service inet:127.0.0.1:10023, reject";
    for (trusted, expected) in [(true, ["a+2Bb+20c", "CA", "AA:01", "0K"]), (false, ["", "", "AA:01", "0K"])] {
        let (missing, _) = run(own, &showing("AA:01", trusted), Stage::Recipient, &Made::default());
        let Err(Question::Policy(request)) = missing else { panic!("{missing:?}") };
        let told = request.attributes.iter().filter(|(name, _)| name.starts_with("ccert_"));
        assert_eq!(told.map(|(_, value)| value.as_str()).collect::<Vec<_>>(), expected);
    }
}
