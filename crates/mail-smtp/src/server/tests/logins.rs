//! AUTH and STARTTLS.

use super::*;

// A01c, A02c
#[test]
fn authentication_is_an_exchange() {
    player(with_auth(Tls::Off, false)).play(
        "S: 220 server.info.net ESMTP Postfix
        C: EHLO x
        S: 250-server.info.net
        S: 250-PIPELINING
        S: 250-SIZE 20000
        S: 250-VRFY
        S: 250-AUTH PLAIN LOGIN
        S: 250-ENHANCEDSTATUSCODES
        S: 250-8BITMIME
        S: 250-DSN
        S: 250 SMTPUTF8
        C: AUTH
        S: 501 5.5.4 Syntax: AUTH mechanism
        C: AUTH FOO
        S: 504 5.5.4 Error: authentication mechanism not supported
        C: AUTH PLAIN ###
        S: 501 5.5.2 Error: malformed authentication data
        C: AUTH PLAIN =
        S: 535 5.7.8 Error: authentication failed:
        C: AUTH PLAIN
        S: 334 
        C: *
        S: 501 5.7.0 Authentication aborted
        C: auth login dXNlcg==
        S: 334 UGFzc3dvcmQ6
        C: !!!
        S: 501 5.5.2 Error: malformed authentication data
        C: MAIL FROM:<>
        S: 250 2.1.0 Ok
        C: AUTH PLAIN AHVzZXIAc2VjcmV0
        S: 503 5.5.1 Error: MAIL transaction in progress
        C: RSET
        S: 250 2.0.0 Ok
        C: AUTH PLAIN AHVzZXIAc2VjcmV0
        S: 235 2.7.0 Authentication successful
        C: AUTH PLAIN AHVzZXIAc2VjcmV0
        S: 503 5.5.1 Error: already authenticated",
    );
    play("C: AUTH PLAIN\nS: 503 5.5.1 Error: authentication not enabled");
}

// A02c
#[test]
fn long_responses_are_taken_up_to_the_limit() {
    let mut player = player(with_auth(Tls::Off, false));
    player.play(HELLO);
    let long = "A".repeat(12_288);
    player.play(&format!("C: AUTH PLAIN {long}\nS: 535 5.7.8 Error: authentication failed:"));
    player.play(&format!("C: AUTH PLAIN\nS: 334 \nC: {long}\nS: 535 5.7.8 Error: authentication failed:"));
    player.play(&format!("C: AUTH PLAIN\nS: 334 \nC: {long}AAAA\nS: 500 5.5.6 SASL response limit exceeded"));
    player.play(&format!("C: NOOP {long}\nS: 500 5.5.2 Error: line too long"));
}

// T01, S03
#[test]
fn tls_begins_with_a_clean_slate() {
    let mut player = player(with_auth(Tls::Encrypt, true));
    player.play(
        "S: 220 server.info.net ESMTP Postfix
        C: MAIL FROM:<>
        S: 530 5.7.0 Must issue a STARTTLS command first
        C: AUTH PLAIN AHVzZXIAc2VjcmV0
        S: 530 5.7.0 Must issue a STARTTLS command first
        C: HELO x
        S: 250 server.info.net
        C: STARTTLS now
        S: 501 5.5.4 Syntax: STARTTLS
        c: STARTTLS\\r\\nMAIL FROM:<evil@x.org>\\r\\n
        S: 220 2.0.0 Ready to start TLS
        T:
        C: RCPT TO:<a@info.net>
        S: 503 5.5.1 Error: need MAIL command
        C: STARTTLS
        S: 554 5.5.1 Error: TLS already active
        C: EHLO x
        S: 250-server.info.net
        S: 250-PIPELINING
        S: 250-SIZE 20000
        S: 250-VRFY
        S: 250-AUTH PLAIN LOGIN
        S: 250-ENHANCEDSTATUSCODES
        S: 250-8BITMIME
        S: 250-DSN
        S: 250 SMTPUTF8",
    );
    player_of(with_auth(Tls::May, true)).play(
        "C: AUTH PLAIN AHVzZXIAc2VjcmV0
        S: 504 5.5.4 Encryption required for requested authentication mechanism",
    );
    play("C: STARTTLS\nS: 502 5.5.1 Error: command not implemented");
    player_of(Settings { tls_ready: false, ..with_auth(Tls::Encrypt, true) }).play(
        "C: STARTTLS
        S: 454 4.7.0 TLS not available due to local problem
        C: MAIL FROM:<>
        S: 530 5.7.0 Must issue a STARTTLS command first",
    );
}
