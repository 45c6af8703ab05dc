//! What comes before the mail: TLS and the login.

use super::*;
use crate::client::{Credentials, Mechanism, Starttls};

#[test]
fn tls_is_used_or_demanded() {
    // T01: what stands behind the 220 in clear is not believed.
    let may = Settings { starttls: Starttls::May, ..settings() };
    let must = Settings { starttls: Starttls::Required, ..settings() };
    let offered = "C: 220 mx\nS: EHLO client.example\nC: 250-mx\nC: 250 STARTTLS\nS: STARTTLS\n";
    let plain = "C: 220 mx\nS: EHLO client.example\nC: 250 mx\n";
    for settings in [&may, &must] {
        let text = format!(
            "{offered}c: 220 go\\r\\n250-evil\\r\\n\nT:\nS: EHLO client.example\nC: 250-mx\nC: 250 STARTTLS\nS: QUIT\nX:"
        );
        play(settings.clone(), &mut Outside::default(), &text);
    }
    let mut outside = Outside::default();
    play(may.clone(), &mut outside, &format!("{offered}C: 454 not now\nS: QUIT\nX:"));
    play(may, &mut outside, &format!("{plain}S: QUIT\nX:"));
    assert!(outside.reports.is_empty());
    play(must.clone(), &mut outside, &format!("{offered}C: 454 not now\nS: QUIT\nX:"));
    play(must, &mut outside, &format!("{plain}S: QUIT\nX:"));
    assert_eq!(
        outside.reports,
        [
            "temporary TLS is required, but host mx[192.0.2.1] refused to start TLS: 454 not now",
            "temporary TLS is required, but was not offered by host mx[192.0.2.1]",
        ]
    );
}

#[test]
fn logins_come_before_mail() {
    let credentials = Credentials {
        user: "user".to_owned(),
        password: "secret".to_owned(),
        in_clear: Mechanism::ALL.to_vec(),
        in_tls: Mechanism::ALL.to_vec(),
        soft_bounce: true,
    };
    let wanted = Settings { credentials: Some(credentials.clone()), ..settings() };
    let hello = "C: 220 mx\nS: EHLO client.example\nC: 250-mx\n";
    let plain = "S: AUTH PLAIN AHVzZXIAc2VjcmV0\n";
    let mut outside = Outside::default();
    play(wanted.clone(), &mut outside, &format!("{hello}C: 250 AUTH LOGIN PLAIN\n{plain}C: 235 ok\nS: QUIT\nX:"));
    let login = "C: 250 AUTH LOGIN\nS: AUTH LOGIN\nC: 334 VXNlcm5hbWU6\nS: dXNlcg==\nC: 334 UGFzc3dvcmQ6\nS: c2VjcmV0\nC: 235 ok\nS: QUIT\nX:";
    play(wanted.clone(), &mut outside, &format!("{hello}{login}"));
    assert!(outside.reports.is_empty());
    play(wanted.clone(), &mut outside, &format!("{hello}C: 250 AUTH PLAIN\n{plain}C: 535 5.7.8 no\nS: QUIT\nX:"));
    play(wanted.clone(), &mut outside, &format!("{hello}C: 250 AUTH DIGEST-MD5\nS: QUIT\nX:"));
    // A server without AUTH is no reason to go on as a stranger.
    play(wanted.clone(), &mut outside, &format!("{hello}C: 250 DSN\nS: QUIT\nX:"));
    play(wanted, &mut outside, &format!("{hello}C: 250 AUTH CRAM-MD5\nS: AUTH CRAM-MD5\nC: 334 what?\nS: QUIT\nX:"));
    let guarded =
        Settings { credentials: Some(Credentials { in_clear: Vec::new(), ..credentials.clone() }), ..settings() };
    play(guarded, &mut outside, &format!("{hello}C: 250 AUTH PLAIN\nS: QUIT\nX:"));
    let hard = Settings { credentials: Some(Credentials { soft_bounce: false, ..credentials }), ..settings() };
    play(hard, &mut outside, &format!("{hello}C: 250 AUTH PLAIN\n{plain}C: 535 5.7.8 no\nS: QUIT\nX:"));
    let unusable = "SASL authentication failed; server mx[192.0.2.1] offered no usable AUTH mechanism:";
    assert_eq!(
        outside.reports,
        [
            "temporary SASL authentication failed; server mx[192.0.2.1] said: 535 5.7.8 no".to_owned(),
            format!("temporary {unusable} 'DIGEST-MD5'"),
            format!("temporary {unusable} ''"),
            "temporary SASL authentication failed; server mx[192.0.2.1] said: 334 what?".to_owned(),
            format!("temporary {unusable} 'PLAIN'"),
            "permanent SASL authentication failed; server mx[192.0.2.1] said: 535 5.7.8 no".to_owned(),
        ]
    );
}
