//! Errors, silence, ends and haste.

use super::*;

#[test]
fn errors_slow_the_client_and_end_the_session() {
    let mut settings = settings();
    settings.error_sleep = Duration::from_secs(1);
    settings.soft_error_limit = 2;
    settings.hard_error_limit = 4;
    let mut player = player_of(settings);
    player.play("C: FOO\nS: 500 5.5.2 ...\nC: FOO\nS: 500 5.5.2 ...\nC: FOO");
    assert_eq!(player.machine.deadline(), Some(Moment(1000)));
    player.now = Moment(1000);
    player.run();
    player.play("S: 500 5.5.2 ...\nC: FOO");
    player.now = Moment(2000);
    player.run();
    player.play("S: 500 5.5.2 ...\nS: 421 4.7.0 server.info.net Error: too many errors\nX:");
}

#[test]
fn junk_commands_become_errors_and_a_message_forgives_them() {
    let mut settings = settings();
    settings.junk_command_limit = 2;
    settings.hard_error_limit = 2;
    let mut player = open_data(settings);
    player.play("C: .\nS: 250 2.0.0 Ok: queued as 0");
    for _ in 0..3 {
        player.play("C: NOOP\nS: 250 2.0.0 Ok");
    }
    player.play("C: NOOP\nS: 250 2.0.0 Ok\nS: 421 4.7.0 server.info.net Error: too many errors\nX:");
}

#[test]
fn an_accepted_message_forgives_the_errors_before_it() {
    let mut settings = settings();
    settings.hard_error_limit = 3;
    let mut player = player_of(settings);
    let errors = "C: FOO\nS: 500 5.5.2 ...\nC: FOO\nS: 500 5.5.2 ...\n";
    player.play(errors);
    player.play(
        "C: HELO x\nS: 250 server.info.net\nC: MAIL FROM:<>\nS: 250 2.1.0 Ok\nC: RCPT TO:<a@info.net>\nS: 250 2.1.5 Ok\n\
         C: DATA\nS: 354 End data with <CR><LF>.<CR><LF>\nC: .\nS: 250 2.0.0 Ok: queued as 0",
    );
    player.play(errors);
    player.play("C: FOO\nS: 500 5.5.2 ...\nS: 421 4.7.0 server.info.net Error: too many errors\nX:");
}

// S11
#[test]
fn silence_ends_the_session() {
    let mut player = player_of(settings());
    player.send(b"NO");
    assert_eq!(player.machine.deadline(), Some(Moment(300_000)));
    player.now = Moment(300_000);
    player.run();
    player.play("S: 421 4.4.2 server.info.net Error: timeout exceeded\nX:");
}

// S11
#[test]
fn slow_content_may_be_held_to_a_rate() {
    let mut settings = settings();
    settings.per_request_deadline = true;
    let mut player = open_data(settings);
    for second in 1..=299 {
        player.now = Moment(second * 1000);
        player.send(b"x");
    }
    assert_eq!(player.machine.deadline(), Some(Moment(300_000)));
    player.send(&[b'x'; 1000]);
    assert_eq!(player.machine.deadline(), Some(Moment(302_000)));
}

#[test]
fn a_lost_connection_leaves_nothing() {
    let mut player = open_data(settings());
    player.send(b"Subject: x\r\n");
    player.machine.end_of_input();
    assert_eq!(player.machine.next(Moment(0)), Step::Close(Close::Lost));
    assert!(player.given.is_empty());
    assert_eq!(player.machine.summary().content_octets, Some(12));
    assert_eq!(player.machine.summary().last, "DATA");
}

// S01
#[test]
fn a_refused_greeting_leaves_only_quit() {
    let refuse = |question| match question {
        Question::Connect => Some(Answer::Refuse(reply(554, (5, 7, 1), "no access"))),
        _ => Some(Answer::Accept),
    };
    Player::new(Server::new(Arc::new(settings()), false), refuse).play(
        "S: 554 5.7.1 no access
        C: EHLO x
        S: 503 5.7.0 Error: access denied
        C: QUIT
        S: 221 2.0.0 Bye
        X:",
    );
}

#[test]
fn drain_waits_for_the_open_transaction() {
    let mut player = open_data(settings());
    player.machine.event(crate::server::Event::Drain);
    player.play("C: x\nC: .\nS: 250 2.0.0 Ok: queued as 3\nS: 421 4.3.2 server.info.net Service shutting down\nX:");
}

#[test]
fn early_commands_are_noted_and_refused_where_asked() {
    let mut notes = Vec::new();
    let mut player = Player::new(Server::new(Arc::new(settings()), false), |question| {
        if let Question::Note(note) = &question {
            notes.push(note.clone());
        }
        policy(question)
    });
    player.play("S: 220 ...\nc: HELO x\\r\\nMAIL FROM:<>\\r\\n\nS: 250 server.info.net\nS: 250 2.1.0 Ok");
    drop(player);
    assert_eq!(notes, [Note::Pipelining { after: "HELO", text: "MAIL FROM:<>??".to_owned() }]);

    let mut settings = settings();
    settings.forbid_unauth_pipelining = true;
    player_of(settings)
        .play("c: HELO x\\r\\nMAIL FROM:<>\\r\\n\nS: 554 5.5.0 Error: SMTP protocol synchronization\nX:");
}
