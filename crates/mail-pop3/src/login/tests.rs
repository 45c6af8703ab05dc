//! Transcripts of the machine before the login.

use super::*;
use proptest::prelude::*;
use session::transcript::Player;

fn options() -> Options {
    let mechanisms = ["PLAIN", "LOGIN"].map(|name| Mechanism { name: name.into(), plaintext: true });
    Options {
        greeting: "Dovecot ready.".into(),
        mechanisms: mechanisms.into(),
        starttls: true,
        tls: false,
        local: true,
        cleartext: false,
        tls_required: false,
    }
}

/// Knows john with the password ` two words`, by PLAIN, and LOGIN's first challenge.
fn authority(question: Question) -> Option<Answer> {
    let good = b"\0john\0 two words";
    match question {
        Question::Begin { mechanism, initial: None } if mechanism == "LOGIN" => {
            Some(Answer::Challenge(b"Username:".to_vec()))
        }
        Question::Begin { initial: None, .. } => Some(Answer::Challenge(Vec::new())),
        Question::Begin { initial: Some(response), .. } | Question::Continue(response) if response == good => {
            Some(Answer::Authenticated)
        }
        Question::Begin { initial: Some(response), .. } if response == b"\0later\0x" => {
            Some(Answer::Failed(Failure::Temporary))
        }
        Question::Begin { .. } | Question::Continue(_) => Some(Answer::Failed(Failure::Credentials)),
        Question::Cancel => None,
    }
}

fn play(options: Options, transcript: &str) -> LoginMachine {
    let mut player = Player::new(LoginMachine::new(options), authority);
    player.play(transcript);
    player.machine
}

#[test]
fn a_password_is_everything_after_the_first_space() {
    // P08c
    let machine = play(
        options(),
        "S: +OK Dovecot ready.
             C: uSeR john
             S: +OK
             c: PASS  two words\\r\\nSTAT\\r\\nLIST\\r\\n
             X:",
    );
    assert_eq!(machine.unread(), b"STAT\r\nLIST\r\n");
}

#[test]
fn capabilities_are_what_would_work_now() {
    // P07c
    let remote = Options { local: false, ..options() };
    play(
        remote,
        "S: +OK Dovecot ready.
             C: CAPA
             S: +OK
             S: CAPA
             S: TOP
             S: UIDL
             S: RESP-CODES
             S: PIPELINING
             S: AUTH-RESP-CODE
             S: STLS
             S: .
             C: USER john
             S: -ERR [AUTH] Plaintext authentication disallowed on non-secure (SSL/TLS) connections.
             C: PASS x
             S: -ERR [AUTH] Plaintext authentication disallowed on non-secure (SSL/TLS) connections.
             C: AUTH PLAIN
             S: -ERR [AUTH] Plaintext authentication disabled.
             C: AUTH
             S: +OK
             S: .
             c: STLS\\r\\nQUIT\\r\\nUSER evil\\r\\n
             S: +OK Begin TLS negotiation now.
             T:
             C: CAPA
             S: +OK
             S: CAPA
             S: TOP
             S: UIDL
             S: RESP-CODES
             S: PIPELINING
             S: AUTH-RESP-CODE
             S: USER
             S: SASL PLAIN LOGIN
             S: .
             C: STLS
             S: -ERR TLS is already active.
             C: PASS x
             S: -ERR No username given.",
    );
}

#[test]
fn nobody_from_elsewhere_logs_in_before_tls_where_it_is_required() {
    let required = Options { tls_required: true, local: false, cleartext: true, ..options() };
    play(
        required.clone(),
        "S: +OK Dovecot ready.
             C: USER john
             S: -ERR [AUTH] Plaintext authentication disallowed on non-secure (SSL/TLS) connections.
             C: AUTH PLAIN AGpvaG4AIHR3byB3b3Jkcw==
             S: -ERR [AUTH] Authentication not allowed until SSL/TLS is enabled.",
    );
    play(
        Options { local: true, ..required },
        "S: +OK Dovecot ready.
             C: AUTH PLAIN AGpvaG4AIHR3byB3b3Jkcw==
             X:",
    );
}

#[test]
fn auth_takes_an_initial_response_or_asks_for_one() {
    // P10c
    play(
        options(),
        "S: +OK Dovecot ready.
             C: AUTH
             S: +OK
             S: PLAIN
             S: LOGIN
             S: .
             C: AUTH CRAM-MD5
             S: -ERR [AUTH] Unsupported authentication mechanism.
             C: AUTH PLAIN x y
             S: -ERR [AUTH] Invalid base64 data in initial response
             C: AUTH plain =
             S: -ERR [AUTH] Authentication failed.
             C: AUTH LOGIN
             S: + VXNlcm5hbWU6
             C: *
             S: -ERR Authentication aborted by client.
             C: AUTH PLAIN
             S: + 
             C: !
             S: -ERR [AUTH] Invalid base64 data in continued response
             C: AUTH PLAIN
             S: + 
             C: AGpvaG4AIHR3byB3b3Jkcw==
             X:",
    );
}

#[test]
fn a_failure_leaves_the_state_and_a_temporary_one_says_so() {
    play(
        options(),
        "S: +OK Dovecot ready.
             C: APOP john c4c9334bac560ecc979e58001b3e22fb
             S: -ERR APOP not enabled.
             C: USER later
             S: +OK
             C: PASS x
             S: -ERR [SYS/TEMP] Temporary authentication failure.
             C: USER john
             S: +OK
             C: PASS wrong
             S: -ERR [AUTH] Authentication failed.
             C: PASS again
             S: -ERR No username given.
             C: QUIT
             S: +OK Logging out
             X:",
    );
}

#[test]
fn guessing_and_babbling_end_the_connection() {
    let mut player = Player::new(LoginMachine::new(options()), authority);
    player.play("S: +OK Dovecot ready.");
    for _ in 0..FAILURES {
        player.play("C: AUTH PLAIN =\nS: -ERR [AUTH] Authentication failed.");
    }
    player.play("X:");
    play(
        options(),
        "S: +OK Dovecot ready.
             C: GET / HTTP/1.1
             S: -ERR Unknown command.
             C: NO\0OP
             S: -ERR Unknown command.
             C:
             S: -ERR Unknown command.
             S: -ERR Too many invalid bad commands.
             X:",
    );
}

#[test]
fn a_line_too_long_is_swallowed_and_ends_the_connection() {
    let mut player = Player::new(LoginMachine::new(options()), authority);
    player.play("S: +OK Dovecot ready.");
    for _ in 0..100 {
        player.send(&[b'x'; 8192]);
    }
    player.play("C:\nS: -ERR Input line too long.\nX:");
}

#[test]
fn silence_ends_after_ten_minutes() {
    // P09c
    let mut player = Player::new(LoginMachine::new(options()), authority);
    player.play("S: +OK Dovecot ready.");
    player.now = Moment(599_999);
    player.run();
    player.play("");
    player.now = Moment(600_000);
    player.run();
    player.play("S: -ERR Disconnected for inactivity.\nX:");
}

#[test]
fn a_half_closed_connection_still_gets_its_replies() {
    let mut player = Player::new(LoginMachine::new(options()), authority);
    player.machine.receive(b"USER john\r\nQUIT\r\n");
    player.machine.end_of_input();
    player.run();
    player.play("S: +OK Dovecot ready.\nS: +OK\nS: +OK Logging out\nX:");
}

proptest! {
    #[test]
    fn no_input_makes_the_machine_panic_or_keep_much(chunks: Vec<Vec<u8>>) {
        let mut player = Player::new(LoginMachine::new(options()), authority);
        for chunk in &chunks {
            player.send(chunk);
        }
        prop_assert!(player.machine.unread().len() <= 64 * 1024);
    }
}
