//! What asks others: DNS lists, policy services, the hosts of a name, probes.

use super::*;

/// The fact that a name is listed, with this answer.
fn listed(name: &str, code: [u8; 4], reason: &str) -> (Question, Fact) {
    let fact = ListFact::Listed { codes: vec![code.into()], reason: reason.to_owned() };
    (Question::List(name.to_owned()), Fact::List(fact))
}

#[test]
fn what_a_dns_list_holds_is_refused_or_let_in() {
    let facts = Made {
        others: vec![
            listed("1.2.0.192.bl.example", [127, 0, 0, 4], "see https://bl.example/$helo_name"),
            listed("example.org.dbl.example", [127, 0, 1, 2], ""),
            listed("1.2.0.192.wl.example", [127, 0, 0, 1], ""),
            (Question::List("1.2.0.192.down.example".to_owned()), Fact::List(ListFact::Temporary)),
            (Question::List("1.2.0.192.none.example".to_owned()), Fact::List(ListFact::NotListed)),
        ],
        ..Made::default()
    };
    let blocked = "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using bl.example; see https://bl.example/$helo_name";
    for (rules, expected) in [
        ("reject_rbl_client none.example, reject_rbl_client bl.example", blocked),
        ("reject_rbl_client bl.example=127.0.0.[2..11]", blocked),
        ("reject_rbl_client bl.example=127.0.0.[1;9..11]", "ok"),
        ("reject_rbl_client bl.example=127.0.0", "451 4.3.5 Server configuration error"),
        ("reject_rbl_client down.example", "ok"),
        ("permit_dnswl_client wl.example, reject", "ok"),
        (
            "permit_dnswl_client down.example, reject",
            "450 4.7.1 <192.0.2.1>: Client host rejected: Service unavailable",
        ),
        (
            "reject_rhsbl_sender dbl.example",
            "554 5.7.1 Service unavailable; Sender address [a@example.org] blocked using dbl.example",
        ),
        ("warn_if_reject reject_rbl_client bl.example", "ok"),
    ] {
        assert_eq!(rcpt(&format!("smtpd_recipient_restrictions = {rules}"), &STRANGER, &facts), expected, "{rules}");
    }
    // A white list lets nobody relay.
    let main = "smtpd_relay_restrictions = permit_dnswl_client wl.example, reject_unauth_destination";
    assert!(rcpt(main, &Case { to: "x@y.org", ..STRANGER }, &facts).starts_with("554 5.7.1 <x@y.org>: Relay"));
    let own = "smtpd_client_restrictions = reject_rbl_client bl.example\nmaps_rbl_reject_code = 521\n\
               rbl_reply_maps = inline:{ {bl.example = $$rbl_code 5.1.1 no $$client_name at $$rbl_domain} }";
    let tables = Snapshot::default().with_tables(&main_of(own).rbl_reply_maps);
    let facts = Made { tables, ..facts };
    assert_eq!(rcpt(own, &STRANGER, &facts), "521 5.0.0 no unknown at bl.example");
}

#[test]
fn a_policy_service_says_what_a_table_could_say() {
    let main = "smtpd_recipient_restrictions = check_policy_service inet:127.0.0.1:10023, reject_unlisted_recipient";
    let with = |answer: PolicyFact| Made { policy: Some(answer), ..Made::default() };
    let action = |text: &str| with(PolicyFact::Action(text.to_owned()));
    for (answer, expected) in [
        ("DUNNO", "ok"),
        ("defer_if_permit Greylisted", "450 4.7.1 <john@info.net>: Recipient address rejected: Greylisted"),
        ("reject", "554 5.7.1 <john@info.net>: Recipient address rejected: Access denied"),
        ("PREPEND X-Policy: seen", "ok"),
        ("reject_non_fqdn_sender, reject", "554 5.7.1 <john@info.net>: Recipient address rejected: Access denied"),
        ("nonsense", "451 4.3.5 Server configuration error"),
    ] {
        assert_eq!(rcpt(main, &STRANGER, &action(answer)), expected, "{answer}");
    }
    let gone = with(PolicyFact::Unavailable("refused".to_owned()));
    assert_eq!(
        rcpt(main, &STRANGER, &gone),
        "451 4.3.5 <john@info.net>: Recipient address rejected: Server configuration problem"
    );
    let own = "smtpd_recipient_restrictions = check_policy_service { inet:127.0.0.1:10023, timeout = 5s, default_action = DUNNO }";
    assert_eq!(rcpt(own, &STRANGER, &gone), "ok");
    let (missing, _) = run(own, &STRANGER, Stage::Recipient, &Made::default());
    let Err(Question::Policy(request)) = missing else { panic!("{missing:?}") };
    assert_eq!((request.service.endpoint.as_str(), request.service.timeout.as_secs()), ("inet:127.0.0.1:10023", 5));
    let value =
        |name: &str| request.attributes.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
    for (name, expected) in [
        ("request", "smtpd_access_policy"),
        ("protocol_state", "RCPT"),
        ("client_address", "192.0.2.1"),
        ("client_name", "unknown"),
        ("helo_name", "mx.example.org"),
        ("sender", "a@example.org"),
        ("recipient", "john@info.net"),
        ("recipient_count", "0"),
        ("policy_context", ""),
    ] {
        assert_eq!(value(name), Some(expected), "{name}");
    }
}

#[test]
fn the_hosts_of_a_name_are_asked_in_a_table() {
    let host = |name: &str, address: [u8; 4]| Host {
        name: name.to_owned(),
        preference: 10,
        addresses: Some(vec![address.into()]),
    };
    let question = |kind| Question::Hosts(kind, "example.org".to_owned());
    let facts = |table: &str| Made {
        others: vec![
            (
                question(HostKind::MailServer),
                Fact::Hosts(HostsFact::Hosts(vec![host("mx.bad.example", [198, 51, 100, 7])])),
            ),
            (question(HostKind::NameServer), Fact::Hosts(HostsFact::Nothing)),
        ],
        ..tables(&[("/t", table)])
    };
    let mx = "smtpd_sender_restrictions = check_sender_mx_access hash:/t";
    assert!(rcpt(mx, &STRANGER, &facts("bad.example REJECT no")).ends_with("Sender address rejected: no"));
    assert!(rcpt(mx, &STRANGER, &facts("198.51.100 REJECT no")).ends_with("Sender address rejected: no"));
    assert_eq!(rcpt(mx, &STRANGER, &facts("198.51.101 REJECT no")), "ok");
    assert_eq!(rcpt(mx, &STRANGER, &facts("bad.example DUNNO")), "ok");
    // Whoever owns a domain says which its mail servers are: that opens no door.
    assert_eq!(rcpt(mx, &STRANGER, &facts("bad.example OK")), "451 4.3.5 Server configuration error");
    assert_eq!(rcpt(mx, &STRANGER, &facts("bad.example permit")), "451 4.3.5 Server configuration error");
    let ns = "smtpd_sender_restrictions = check_sender_ns_access hash:/t";
    assert_eq!(rcpt(ns, &STRANGER, &facts("bad.example REJECT")), "ok");
    let literal = Case { from: "a@[198.51.100.7]", ..STRANGER };
    assert!(rcpt(mx, &literal, &facts("198.51.100.7 REJECT no")).ends_with("Sender address rejected: no"));
    // HELO may be a bare number, which is an address too.
    let helo = "smtpd_helo_restrictions = check_helo_a_access hash:/t";
    for name in ["198.51.100.7", "[198.51.100.7]"] {
        let case = Case { helo: Some(name), ..STRANGER };
        assert!(rcpt(helo, &case, &facts("198.51.100.7 REJECT no")).ends_with("Helo command rejected: no"), "{name}");
    }
}

#[test]
fn addresses_whose_mail_would_be_returned_are_refused() {
    let address = || "a@example.org".parse().expect("an address");
    let facts = |fact: VerifiedFact| Made {
        others: vec![(Question::Verified(address()), Fact::Verified(fact))],
        ..Made::default()
    };
    let main = "smtpd_sender_restrictions = reject_unverified_sender";
    let undeliverable = || facts(VerifiedFact::Undeliverable("host x said: 550 no".to_owned()));
    let deferred = || facts(VerifiedFact::Deferred("Address verification in progress".to_owned()));
    assert_eq!(rcpt(main, &STRANGER, &facts(VerifiedFact::Deliverable)), "ok");
    assert_eq!(
        rcpt(main, &STRANGER, &undeliverable()),
        "450 4.1.7 <a@example.org>: Sender address rejected: undeliverable address: host x said: 550 no"
    );
    assert_eq!(
        rcpt(main, &STRANGER, &deferred()),
        "450 4.1.7 <a@example.org>: Sender address rejected: unverified address: Address verification in progress"
    );
    let own = format!(
        "{main}\nunverified_sender_reject_code = 550\nunverified_sender_reject_reason = unknown sender\nunverified_sender_defer_code = 250"
    );
    assert_eq!(
        rcpt(&own, &STRANGER, &undeliverable()),
        "550 5.1.7 <a@example.org>: Sender address rejected: undeliverable address: unknown sender"
    );
    assert_eq!(rcpt(&own, &STRANGER, &deferred()), "ok");
    let long = facts(VerifiedFact::Undeliverable("x".repeat(300)));
    assert!(rcpt(main, &STRANGER, &long).ends_with(&format!(": {}", "x".repeat(250))), "no more of a long reason");
    let gone = facts(VerifiedFact::Unavailable("no answer".to_owned()));
    assert!(rcpt(main, &STRANGER, &gone).ends_with("address verification problem"));
}

#[test]
fn a_mail_server_of_others_relays_for_them() {
    let backup = |fact: HostsFact| Made {
        others: vec![(Question::Hosts(HostKind::MailServer, "y.org".to_owned()), Fact::Hosts(fact))],
        ..Made::default()
    };
    let host = |name: &str, preference, address: [u8; 4]| Host {
        name: name.to_owned(),
        preference,
        addresses: Some(vec![address.into()]),
    };
    let main = "smtpd_relay_restrictions = permit_mx_backup, reject_unauth_destination";
    let case = Case { to: "x@y.org", ..STRANGER };
    let with_us =
        || HostsFact::Hosts(vec![host("mx.y.org", 10, [198, 51, 100, 7]), host("backup", 20, [127, 0, 0, 1])]);
    assert_eq!(rcpt(main, &case, &backup(with_us())), "ok");
    // A host with several addresses is ours if one of them is.
    let two = vec![[198, 51, 100, 8].into(), [127, 0, 0, 1].into()];
    let shared = Host { addresses: Some(two), ..host("backup", 20, [0; 4]) };
    let shared = HostsFact::Hosts(vec![host("mx.y.org", 10, [198, 51, 100, 7]), shared]);
    assert_eq!(rcpt(main, &case, &backup(shared)), "ok");
    let without_us = HostsFact::Hosts(vec![host("mx.y.org", 10, [198, 51, 100, 7])]);
    assert!(rcpt(main, &case, &backup(without_us)).starts_with("554"));
    assert!(rcpt(main, &case, &backup(HostsFact::Temporary)).starts_with("450 4.4.4"));
    let networks = |nets: &str| format!("{main}\npermit_mx_backup_networks = {nets}");
    assert_eq!(rcpt(&networks("198.51.100.0/24"), &case, &backup(with_us())), "ok");
    assert!(rcpt(&networks("203.0.113.0/24"), &case, &backup(with_us())).starts_with("554"));
}

#[test]
fn an_open_relay_behind_a_service_is_found() {
    let own = Domain::new("info.net").expect("a domain");
    let main = "smtpd_relay_restrictions = check_policy_service inet:127.0.0.1:1, reject_rbl_client bl.example, permit, reject";
    assert!(!relay::open_relay(&Plan::new(main_of(main)), &own, &Made::default()).is_empty());
}
