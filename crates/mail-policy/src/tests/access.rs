//! Access tables: keys, actions on clients and on messages.

use super::*;

#[test]
fn access_tables_decide() {
    let main = "recipient_delimiter = +\nsmtpd_client_restrictions = hash:/c\nsmtpd_sender_restrictions = check_sender_access hash:/s\n\
                smtpd_recipient_restrictions = check_recipient_access hash:/r\nsmtpd_restriction_classes = strict\nstrict = reject_non_fqdn_sender, reject";
    for (table, key, value, expected) in [
        ("hash:/c", "192.0.2.1", "REJECT", "554 5.7.1 <unknown[192.0.2.1]>: Client host rejected: Access denied"),
        ("hash:/c", "192.0.2", "REJECT go away", "554 5.7.1 <unknown[192.0.2.1]>: Client host rejected: go away"),
        ("hash:/c", "192", "OK", "ok"),
        ("hash:/s", "a@example.org", "550 5.1.8 no", "550 5.1.8 <a@example.org>: Sender address rejected: no"),
        ("hash:/s", "example.org", "421 4.7.1 later", "421 4.7.1 <a@example.org>: Sender address rejected: later"),
        ("hash:/s", "org", "HOLD", "ok"),
        ("hash:/s", "a@", "DEFER", "450 4.7.1 <a@example.org>: Sender address rejected: Access denied"),
        ("hash:/s", "a@", "DEFER_IF_PERMIT wait", "450 4.7.1 <a@example.org>: Sender address rejected: wait"),
        (
            "hash:/s",
            "a@",
            "reject_non_fqdn_sender, reject",
            "554 5.7.1 <a@example.org>: Sender address rejected: Access denied",
        ),
        ("hash:/s", "a@", "strict", "554 5.7.1 <a@example.org>: Sender address rejected: Access denied"),
        ("hash:/s", "a@", "permit", "ok"),
        ("hash:/s", "a@", "FILTER smtp:[127.0.0.1]:10024", "451 4.3.5 Server configuration error"),
        ("hash:/s", "a@", "no_such_action", "451 4.3.5 Server configuration error"),
        ("hash:/s", "a@", "550 5.1.1 no", "550 5.1.7 <a@example.org>: Sender address rejected: no"),
        ("hash:/r", "info.net", "550 5.1.7 no", "550 5.1.3 <john@info.net>: Recipient address rejected: no"),
        ("hash:/c", "192", "550 5.1.1 no", "550 5.0.0 <unknown[192.0.2.1]>: Client host rejected: no"),
        ("hash:/r", "john@info.net", "DUNNO", "ok"),
        ("hash:/r", "info.net", "reject", "554 5.7.1 <john@info.net>: Recipient address rejected: Access denied"),
        ("hash:/r", "john@", "123", "ok"),
    ] {
        let line = format!("{key} {value}\n");
        let text = |path: &str| if table == path { line.clone() } else { String::new() };
        let (c, s, r) = (text("hash:/c"), text("hash:/s"), text("hash:/r"));
        let facts = tables(&[("/c", &c), ("/s", &s), ("/r", &r)]);
        assert_eq!(rcpt(main, &STRANGER, &facts), expected, "{table} {key} {value}");
    }
    let facts = tables(&[("/c", ""), ("/s", "<> REJECT"), ("/r", "")]);
    assert!(rcpt(main, &Case { from: "", ..STRANGER }, &facts).starts_with("554 5.7.1 <>: Sender"));
}

#[test]
fn a_yes_is_told_in_the_words_of_whoever_says_it() {
    let facts = tables(&[("/yes", "192.0.2.1 ok by name\n"), ("/held", "192.0.2.1 HOLD\n")]);
    let said = |main: &str| {
        let (_, decisions) = run(main, &STRANGER, Stage::Recipient, &facts);
        decisions.into_iter().filter_map(|one| one.permission).map(|one| one.text).collect::<Vec<_>>()
    };
    let table = "smtpd_client_restrictions = check_client_access hash:/yes\nsmtpd_relay_restrictions = reject_unauth_destination";
    assert_eq!(said(table), ["action=ok for Client host=unknown[192.0.2.1] from hash:/yes"]);
    let overruled = table.replace("= check", "= defer_if_permit, check");
    assert_eq!(said(&overruled), Vec::<String>::new());
    let twice = "smtpd_client_restrictions = check_client_access hash:/held, check_client_access hash:/held";
    let (_, decisions) = run(twice, &STRANGER, Stage::Recipient, &facts);
    let holds = decisions.iter().filter(|one| matches!(one.effect, Effect::Act(Action::Hold(_)))).count();
    assert_eq!(holds, 1);
}

#[test]
fn a_network_as_key_is_honoured_where_it_is_meant() {
    // The user's page, row 7.
    let facts = tables(&[("/c", "192.168.2.0/24 OK\n192.168.2.10 REJECT\n198.51.100.0/24 REJECT")]);
    let case = |client| Case { client, ..STRANGER };
    let main = "smtpd_client_restrictions = hash:/c";
    assert_eq!(rcpt(main, &case("192.168.2.9"), &facts), "ok");
    assert!(rcpt(main, &case("192.168.2.10"), &facts).starts_with("554 5.7.1 <unknown[192.168.2.10]>: Client host"));
    assert!(rcpt(main, &case("198.51.100.7"), &facts).starts_with("554 5.7.1"));
    // Elsewhere such a key refuses, but lets nobody in.
    let main = "smtpd_relay_restrictions = check_client_access hash:/c, reject_unauth_destination";
    let relay = |client| Case { client, to: "x@y.org", ..STRANGER };
    assert_eq!(rcpt(main, &relay("192.168.2.9"), &facts), "554 5.7.1 <x@y.org>: Relay access denied");
    assert!(rcpt(main, &relay("198.51.100.7"), &facts).contains("Client host rejected"));
}

#[test]
fn tables_act_on_the_message() {
    let main = "smtpd_sender_restrictions = check_sender_access hash:/s\nsmtpd_recipient_restrictions = reject";
    let actions = |value: &str| {
        let facts = tables(&[("/s", &format!("a@example.org {value}\n"))]);
        let (verdict, decisions) = run(main, &STRANGER, Stage::Recipient, &facts);
        (matches!(verdict, Ok(Verdict::Accept { .. })), Actions::of(&decisions))
    };
    let john = || Some("john@info.net".parse().expect("an address"));
    assert_eq!(actions("HOLD look"), (false, Actions { hold: true, ..Actions::default() }));
    assert_eq!(actions("REDIRECT john@info.net"), (false, Actions { redirect: john(), ..Actions::default() }));
    assert_eq!(
        actions("BCC john@info.net"),
        (false, Actions { bcc: john().into_iter().collect(), ..Actions::default() })
    );
    // Nothing brings a second field, or the end of the header.
    assert_eq!(
        Actions::prepended(&["X-A: b\r\n\r\nc".to_owned(), "X-B:\tc".to_owned()]),
        b"X-A: b    c\r\nX-B:\tc\r\n"
    );
    let field = || Actions { prepend: vec!["X-Seen: yes".to_owned()], ..Actions::default() };
    assert_eq!(actions("PREPEND X-Seen: yes"), (false, field()));
    assert_eq!(actions("PREPEND no field"), (false, Actions::default()));
    assert_eq!(actions("REDIRECT nobody"), (false, Actions::default()));
    // Nothing more is judged of what is thrown away.
    assert_eq!(actions("DISCARD"), (true, Actions { discard: true, ..Actions::default() }));
    // Before MAIL there is no message.
    let early = "smtpd_client_restrictions = check_client_access static:hold";
    let facts = Made { tables: Snapshot::default().with_tables(&[static_hold()]), ..Made::default() };
    let name = ClientName::default();
    let input = Input::new([192, 0, 2, 1].into(), &name);
    let plan = Plan::new(main_of(&format!("{early}\nsmtpd_delay_reject = no")));
    let Outcome::Decided(_, decisions) = evaluate(&plan, Stage::Client, &input, &facts) else { panic!("missing") };
    assert!(matches!(decisions[0].effect, Effect::Ignored(_)), "{decisions:?}");
    let (_, decisions) = run(early, &STRANGER, Stage::Recipient, &facts);
    let text = "<unknown[192.0.2.1]>: Client host triggers HOLD action".to_owned();
    assert_eq!(decisions[0].effect, Effect::Act(Action::Hold(text)));
}
