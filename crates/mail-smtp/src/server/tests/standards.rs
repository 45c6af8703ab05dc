//! What RFC 5321 and its extensions ask of every server, command by command.

use super::*;

// S02
#[test]
fn helo_has_one_line_and_ehlo_one_keyword_a_line() {
    play(
        "C: HELO x
        S: 250 server.info.net
        C: EHLO x
        S: 250-server.info.net
        S: 250-PIPELINING
        S: 250-SIZE 20000
        S: 250-VRFY
        S: 250-ENHANCEDSTATUSCODES
        S: 250-8BITMIME
        S: 250-DSN
        S: 250 SMTPUTF8
        C: EHLO
        S: 501 Syntax: EHLO hostname",
    );
}

// S04
#[test]
fn verbs_have_no_case_and_local_parts_keep_theirs() {
    let mut heard = Vec::new();
    let mut player = Player::new(Server::new(Arc::new(settings()), false), |question| {
        if let Question::Rcpt(command) = &question {
            heard.push(command.to.to_string());
        }
        policy(question)
    });
    player.play(
        "S: 220 ...
        C: hElO x
        S: 250 server.info.net
        C: mAiL fRoM:<a@b.org>
        S: 250 2.1.0 Ok
        C: rCpT tO:<JoHn@info.net>
        S: 250 2.1.5 Ok
        C: qUiT
        S: 221 2.0.0 Bye
        X:",
    );
    drop(player);
    assert_eq!(heard, ["JoHn@info.net"]);
}

// S09
#[test]
fn the_least_lengths_of_the_standard_are_accepted() {
    let local = "l".repeat(64);
    // Labels of 63 octets, 255 in all.
    let domain = [vec!["d".repeat(63); 3], vec!["d".repeat(63)]].concat().join(".");
    let mut player = player(settings());
    player.play(HELLO);
    player.play(&format!("C: MAIL FROM:<{local}@{domain}>\nS: 250 2.1.0 Ok"));
    for _ in 0..100 {
        player.play("C: RCPT TO:<john@info.net>\nS: 250 2.1.5 Ok");
    }
    player.play("C: DATA\nS: 354 End data with <CR><LF>.<CR><LF>");
    player.play(&format!("C: {}\nC: .\nS: 250 2.0.0 Ok: queued as 1000", "x".repeat(998)));
    let endless = "l".repeat(513);
    player.play(&format!("C: MAIL FROM:<{endless}@b.org>\nS: 501 5.1.7 Bad sender address syntax"));
    player.play(&format!("C: MAIL FROM:<{local}@{domain}d>\nS: 501 5.1.7 Bad sender address syntax"));
}

// S10
#[test]
fn recipients_over_the_limit_hear_452_and_the_others_stay() {
    let mut limited = settings();
    (limited.recipient_limit, limited.overshoot_limit, limited.hard_error_limit) = (2, 3, 2);
    let mut player = player(limited);
    player.play(HELLO);
    player.play("C: MAIL FROM:<>\nS: 250 2.1.0 Ok");
    for _ in 0..2 {
        player.play("C: RCPT TO:<a@info.net>\nS: 250 2.1.5 Ok");
    }
    for _ in 0..3 {
        player.play("C: RCPT TO:<b@info.net>\nS: 452 4.5.3 Error: too many recipients");
    }
    player.play("C: DATA\nS: 354 ...\nC: .\nS: 250 2.0.0 Ok: queued as 0");
}

// S18, S19, S17
#[test]
fn addresses_are_understood_in_every_form_of_the_standard() {
    let mut heard = Vec::new();
    let mut player = Player::new(Server::new(Arc::new(settings()), false), |question| {
        if let Question::Rcpt(command) = &question {
            heard.push(command.to.to_string());
        }
        policy(question)
    });
    player.play(&format!("{HELLO}C: MAIL FROM:<>\nS: 250 2.1.0 Ok"));
    for path in [
        "a@[192.0.2.1]",
        "a@[IPv6:2001:db8::1]",
        "\"john\"@info.net",
        "\"j\\ohn\"@info.net",
        "\"j o(h)n@<>,;:\"@info.net",
        "@one.example,@two.example:john@info.net",
    ] {
        player.play(&format!("C: RCPT TO:<{path}>\nS: 250 2.1.5 Ok"));
    }
    for path in ["a@[192.0.2.256]", "a@[IPv6:2001:db8::1::2]", "a@[192.0.2.1", "@one.example:", "\"john@info.net"] {
        player.play(&format!("C: RCPT TO:<{path}>\nS: 501 5.1.3 Bad recipient address syntax"));
    }
    drop(player);
    let plain = "john@info.net";
    assert_eq!(heard, ["a@[192.0.2.1]", "a@[IPv6:2001:db8::1]", plain, plain, "j o(h)n@<>,;:@info.net", plain]);
}

// Z01
#[test]
fn size_is_checked_when_declared_and_when_it_came() {
    let mut player = player(settings());
    player.play(HELLO);
    player.play(
        "C: MAIL FROM:<> SIZE=20001
        S: 552 5.3.4 Message size exceeds fixed limit
        C: MAIL FROM:<> SIZE=20000
        S: 250 2.1.0 Ok
        C: RCPT TO:<a@info.net>
        S: 250 2.1.5 Ok
        C: DATA
        S: 354 ...",
    );
    // 200 lines of 98 octets and their two for the line end are exactly the limit.
    let line = format!("{}\r\n", "x".repeat(98));
    player.send(line.repeat(200).as_bytes());
    player.play("C: .\nS: 250 2.0.0 Ok: queued as 20000");
    player.play("C: MAIL FROM:<>\nS: 250 2.1.0 Ok\nC: RCPT TO:<a@info.net>\nS: 250 2.1.5 Ok\nC: DATA\nS: 354 ...");
    player.send(format!("x{}", line.repeat(200)).as_bytes());
    player.play("C: .\nS: 552 5.3.4 Error: message file too big");

    let unlimited = Settings { size_limit: 0, ..settings() };
    self::player(unlimited).play(
        "S: 220 ...
        C: EHLO x
        S: 250-server.info.net
        S: 250-PIPELINING
        S: 250-SIZE
        S: 250-VRFY
        S: 250-ENHANCEDSTATUSCODES
        S: 250-8BITMIME
        S: 250-DSN
        S: 250 SMTPUTF8
        C: MAIL FROM:<> SIZE=99999999999
        S: 250 2.1.0 Ok",
    );
}

// D01c, D02c
#[test]
fn dsn_parameters_reach_the_outside_decoded() {
    let mut heard = Vec::new();
    let mut player = Player::new(Server::new(Arc::new(settings()), false), |question| {
        match &question {
            Question::Mail(mail) => heard.push(format!("{:?}", mail.dsn)),
            Question::Rcpt(rcpt) => heard.push(format!("{:?} {:?}", rcpt.notify, rcpt.orcpt)),
            _ => {}
        }
        policy(question)
    });
    player.play(&format!(
        "{HELLO}C: MAIL FROM:<a@b.org> RET=HDRS ENVID=QQ+2B314
        S: 250 2.1.0 Ok
        C: RCPT TO:<john@info.net> NOTIFY=NEVER ORCPT=rfc822;J+2Bx@info.net
        S: 250 2.1.5 Ok
        C: RCPT TO:<john@info.net> NOTIFY=FAILURE,delay
        S: 250 2.1.5 Ok"
    ));
    drop(player);
    assert!(heard[0].contains("Headers") && heard[0].contains("\"QQ+314\""), "{heard:?}");
    assert!(heard[1].contains("success: false, failure: false, delay: false"), "{heard:?}");
    assert!(heard[1].contains("rfc822;J+x@info.net"), "{heard:?}");
    assert!(heard[2].contains("success: false, failure: true, delay: true"), "{heard:?}");
}

// D05c
#[test]
fn enhanced_codes_stand_where_they_must_and_nowhere_else() {
    let mut player = player(with_auth(Tls::Off, false));
    player.play(
        "S: 220 server.info.net ESMTP Postfix
        C: HELO x
        S: 250 server.info.net
        C: AUTH PLAIN
        S: 334 
        C: AHVzZXIAc2VjcmV0
        S: 235 2.7.0 ...
        C: MAIL FROM:<>
        S: 250 2.1.0 ...
        C: RCPT TO:<later@info.net>
        S: 450 4.2.0 ...
        C: RCPT TO:<x@y.org>
        S: 554 5.7.1 ...
        C: RCPT TO:<john@info.net>
        S: 250 2.1.5 ...
        C: DATA
        S: 354 End ...
        C: .
        S: 250 2.0.0 ...
        C: FOO
        S: 500 5.5.2 ...
        C: HELP
        S: 214 2.0.0 ...
        C: VRFY john@info.net
        S: 252 2.0.0 ...
        C: QUIT
        S: 221 2.0.0 ...",
    );
}

// U01
#[test]
fn utf8_addresses_need_the_parameter_and_the_extension() {
    let without = Settings { smtputf8: false, ..settings() };
    player_of(without).play(
        "C: EHLO x
        S: 250-server.info.net
        S: 250-PIPELINING
        S: 250-SIZE 20000
        S: 250-VRFY
        S: 250-ENHANCEDSTATUSCODES
        S: 250-8BITMIME
        S: 250 DSN
        C: MAIL FROM:<> SMTPUTF8
        S: 555 5.5.4 Unsupported option: SMTPUTF8",
    );
    play(
        "C: VRFY jörg@info.net
        S: 553 5.6.7 Must declare SMTPUTF8 to send unicode address
        C: VRFY jörg@info.net SMTPUTF8
        S: 252 2.0.0 jörg@info.net
        C: MAIL FROM:<> SMTPUTF8=x
        S: 555 5.5.4 Unsupported option: SMTPUTF8=x",
    );
}
