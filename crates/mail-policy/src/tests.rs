//! Whole plans over made-up facts.

mod access;
mod certificates;
mod outside;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use mail_config::{Config, Machine, Main};
use mail_tables::{Remote, Snapshot, TableKind, TableRef};
use mail_types::{Address, Domain, Sender};

use crate::{
    Action, Actions, AddressFact, Certificate, Classified, ClientName, Decision, DnsFact, DomainClass, Effect,
    Existence, Fact, Facts, Host, HostKind, HostsFact, Input, ListFact, Missing, Outcome, Plan, PolicyFact, Question,
    Stage, Verdict, VerifiedFact, evaluate, relay,
};

/// Tables by name, users by address, DNS by name; what is not there is not known.
#[derive(Default)]
struct Made {
    tables: Snapshot,
    dns: HashMap<&'static str, DnsFact>,
    others: Vec<(Question, Fact)>,
    /// What every policy service answers.
    policy: Option<PolicyFact>,
    broken: bool,
}

impl Facts for Made {
    fn tables(&self) -> &Snapshot {
        &self.tables
    }

    fn remote(&self) -> &dyn Remote {
        &()
    }

    fn class(&self, domain: &Domain) -> Result<Classified, Missing> {
        if self.broken {
            return Ok(Classified::Unavailable("broken".to_owned()));
        }
        Ok(Classified::Class(match domain.key().as_str() {
            "info.net" => DomainClass::Local,
            "alias.net" => DomainClass::VirtualAlias,
            "box.net" => DomainClass::VirtualMailbox,
            "relay.net" => DomainClass::Relay,
            _ => DomainClass::Foreign,
        }))
    }

    fn address(&self, address: &Address) -> Result<AddressFact, Missing> {
        let Classified::Class(class) = self.class(address.domain())? else { panic!("broken") };
        let existence = match address.local() {
            "john" | "postmaster" => Existence::Listed,
            "ask" => return Err(Missing(Question::Address(address.clone()))),
            "down" => Existence::Unavailable("authd".to_owned()),
            _ => Existence::Unknown,
        };
        Ok(AddressFact { class, existence })
    }

    fn fetched(&self, question: &Question) -> Option<Fact> {
        match question {
            Question::Host(name) | Question::MailDomain(name) => {
                self.dns.get(name.as_str()).map(|fact| Fact::Dns(*fact))
            }
            Question::Policy(_) => self.policy.clone().map(Fact::Policy),
            _ => self.others.iter().find(|(known, _)| known == question).map(|(_, fact)| fact.clone()),
        }
    }

    fn is_own_address(&self, address: IpAddr) -> bool {
        address.is_loopback()
    }
}

fn main_of(text: &str) -> Arc<Main> {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("main.cf"), text).expect("written");
    let dovecot = dir.path().join("dovecot.conf");
    let loaded = Config::load_on(dir.path(), Some(&dovecot), Machine::named("server.info.net"));
    loaded.unwrap_or_else(|errors| panic!("{errors}")).config.main
}

/// One case: a client, what it said, and what comes of it.
struct Case<'a> {
    client: &'a str,
    helo: Option<&'a str>,
    from: &'a str,
    to: &'a str,
    user: Option<&'a str>,
    tls: bool,
    certificate: Option<Certificate<'a>>,
    pipelining: bool,
}

const STRANGER: Case<'static> = Case {
    client: "192.0.2.1",
    helo: Some("mx.example.org"),
    from: "a@example.org",
    to: "john@info.net",
    user: None,
    tls: false,
    certificate: None,
    pipelining: false,
};

fn run(main_cf: &str, case: &Case<'_>, stage: Stage, facts: &Made) -> (Result<Verdict, Question>, Vec<Decision>) {
    let name = ClientName::default();
    let sender = Sender::try_from(case.from.to_owned()).expect("a sender");
    let recipient: Address = case.to.parse().expect("an address");
    let input = Input {
        helo: case.helo,
        sender: Some(&sender),
        recipient: Some(&recipient),
        user: case.user,
        tls: case.tls,
        certificate: case.certificate,
        pipelining: case.pipelining,
        ..Input::new(case.client.parse().expect("an address"), &name)
    };
    match evaluate(&Plan::new(main_of(main_cf)), stage, &input, facts) {
        Outcome::Decided(verdict, decisions) => (Ok(verdict), decisions),
        Outcome::Missing(question) => (Err(question), Vec::new()),
    }
}

/// The reply at RCPT, or `ok`, `hold`.
fn rcpt(main_cf: &str, case: &Case<'_>, facts: &Made) -> String {
    match run(main_cf, case, Stage::Recipient, facts).0 {
        Ok(Verdict::Refuse(reply)) => reply.to_string(),
        Ok(Verdict::Accept { .. }) => "ok".to_owned(),
        Err(question) => format!("missing {question:?}"),
    }
}

/// Facts with `hash:` tables of these paths and lines.
fn tables(rows: &[(&str, &str)]) -> Made {
    let name = |path: &str| TableRef { kind: TableKind::Hash, name: path.to_owned(), proxy: false };
    let named: Vec<_> = rows.iter().map(|(path, text)| (name(path), *text)).collect();
    let texts: Vec<_> = named.iter().map(|(table, text)| (table, *text)).collect();
    Made { tables: Snapshot::of_texts(&texts, &[]), ..Made::default() }
}

#[test]
fn strangers_reach_our_users_and_nobody_else() {
    let facts = Made::default();
    for (to, expected) in [
        ("john@info.net", "ok"),
        (
            "nobody@info.net",
            "550 5.1.1 <nobody@info.net>: Recipient address rejected: User unknown in local recipient table",
        ),
        (
            "nobody@alias.net",
            "550 5.1.1 <nobody@alias.net>: Recipient address rejected: User unknown in virtual alias table",
        ),
        (
            "nobody@box.net",
            "550 5.1.1 <nobody@box.net>: Recipient address rejected: User unknown in virtual mailbox table",
        ),
        (
            "nobody@relay.net",
            "550 5.1.1 <nobody@relay.net>: Recipient address rejected: User unknown in relay recipient table",
        ),
        ("x@y.org", "554 5.7.1 <x@y.org>: Relay access denied"),
        ("\"x@y.org\"@info.net", "554 5.7.1 <\"x@y.org\"@info.net>: Relay access denied"),
        ("x%y.org@info.net", "554 5.7.1 <x%y.org@info.net>: Relay access denied"),
        ("y.org!x@info.net", "554 5.7.1 <y.org!x@info.net>: Relay access denied"),
        ("down@info.net", "451 4.3.0 <down@info.net>: Temporary lookup failure"),
        ("x@[198.51.100.1]", "554 5.7.1 <x@[198.51.100.1]>: Relay access denied"),
    ] {
        assert_eq!(rcpt("", &Case { to, ..STRANGER }, &facts), expected);
    }
    assert!(rcpt("", &Case { to: "ask@info.net", ..STRANGER }, &facts).starts_with("missing Address"));
}

#[test]
fn friends_and_logins_may_relay() {
    let facts = Made::default();
    let main = "mynetworks = !192.0.2.9, 192.0.2.0/24, [2001:db8::]/32";
    assert_eq!(rcpt(main, &Case { to: "x@y.org", ..STRANGER }, &facts), "ok");
    assert_eq!(rcpt(main, &Case { to: "x@y.org", client: "2001:db8::9", ..STRANGER }, &facts), "ok");
    assert!(rcpt(main, &Case { to: "x@y.org", client: "192.0.2.9", ..STRANGER }, &facts).starts_with("554"));
    let sasl = "smtpd_sasl_auth_enable = yes";
    assert_eq!(rcpt(sasl, &Case { to: "x@y.org", user: Some("john"), ..STRANGER }, &facts), "ok");
    // Friends, too, hear of unknown users.
    assert!(rcpt(main, &Case { to: "nobody@info.net", ..STRANGER }, &facts).starts_with("550 5.1.1"));
    assert_eq!(rcpt("smtpd_reject_unlisted_recipient = no", &Case { to: "nobody@info.net", ..STRANGER }, &facts), "ok");
}

#[test]
fn without_a_required_rule_ours_holds() {
    let main =
        "smtpd_relay_restrictions =\nsmtpd_recipient_restrictions = permit_mynetworks, check_sender_access hash:/s";
    let facts = tables(&[("/s", "example.org OK")]);
    assert_eq!(rcpt(main, &Case { to: "x@y.org", ..STRANGER }, &facts), "554 5.7.1 <x@y.org>: Relay access denied");
}

#[test]
fn a_table_that_cannot_answer_is_never_a_yes() {
    let broken = Made { broken: true, ..Made::default() };
    assert_eq!(rcpt("", &Case { to: "x@y.org", ..STRANGER }, &broken), "451 4.3.0 <x@y.org>: Temporary lookup failure");
    let main = "smtpd_recipient_restrictions = check_client_access hash:/gone, permit";
    assert_eq!(
        rcpt(main, &STRANGER, &Made::default()),
        "451 4.3.5 <unknown[192.0.2.1]>: Client host rejected: Server configuration error"
    );
    let main = "mynetworks = hash:/gone";
    assert!(rcpt(main, &Case { to: "x@y.org", ..STRANGER }, &Made::default()).starts_with("451 4.3.0"));
}

#[test]
fn what_is_not_built_refuses_for_now() {
    for rule in ["no_such_rule", "warn_if_reject no_such_rule", "check_policy_service nonsense", "sleep long"] {
        let main = format!("smtpd_recipient_restrictions = {rule}, permit");
        let reply = rcpt(&main, &STRANGER, &Made::default());
        assert_eq!(reply, "451 4.3.5 Server configuration error", "{rule}");
    }
}

#[test]
fn the_order_of_lists_is_postfix_s() {
    let main = "smtpd_client_restrictions = reject\nsmtpd_helo_restrictions = defer";
    let case = Case { to: "x@y.org", ..STRANGER };
    assert_eq!(
        rcpt(main, &case, &Made::default()),
        "554 5.7.1 <unknown[192.0.2.1]>: Client host rejected: Access denied"
    );
    let main = "smtpd_client_restrictions = permit\nsmtpd_helo_restrictions = defer";
    assert_eq!(
        rcpt(main, &case, &Made::default()),
        "450 4.3.2 <mx.example.org>: Helo command rejected: Try again later"
    );
    // Delayed: the client hears of it at RCPT only; not delayed: at its stage only.
    let (verdict, _) = run(main, &case, Stage::Helo, &Made::default());
    assert_eq!(verdict, Ok(Verdict::Accept { deferral: None }));
    let early = format!("{main}\nsmtpd_delay_reject = no");
    assert!(matches!(run(&early, &case, Stage::Helo, &Made::default()).0, Ok(Verdict::Refuse(_))));
    assert!(rcpt(&early, &case, &Made::default()).starts_with("554 5.7.1 <x@y.org>"));
    // HELO that never came judges nothing.
    assert!(rcpt(main, &Case { helo: None, ..case }, &Made::default()).starts_with("554 5.7.1 <x@y.org>"));
}

#[test]
fn names_and_domains_are_judged() {
    let facts = Made {
        dns: [
            ("gone.example", DnsFact::Nothing),
            ("slow.example", DnsFact::Temporary),
            ("null.example", DnsFact::NullMx),
            ("example.org", DnsFact::Found),
            ("mx.example.org", DnsFact::Found),
        ]
        .into(),
        ..Made::default()
    };
    for (rule, case, expected) in [
        (
            "reject_invalid_helo_hostname",
            Case { helo: Some("a..b"), ..STRANGER },
            "501 5.5.2 <a..b>: Helo command rejected: Invalid name",
        ),
        (
            "reject_non_fqdn_helo_hostname",
            Case { helo: Some("localhost"), ..STRANGER },
            "504 5.5.2 <localhost>: Helo command rejected: need fully-qualified hostname",
        ),
        ("reject_non_fqdn_helo_hostname", Case { helo: Some("[192.0.2.1]"), ..STRANGER }, "ok"),
        (
            "reject_unknown_helo_hostname",
            Case { helo: Some("Gone.example"), ..STRANGER },
            "450 4.7.1 <Gone.example>: Helo command rejected: Host not found",
        ),
        (
            "reject_unknown_helo_hostname",
            Case { helo: Some("slow.example"), ..STRANGER },
            "450 4.7.1 <slow.example>: Helo command rejected: Host not found",
        ),
        ("reject_unknown_helo_hostname", STRANGER, "ok"),
        (
            "reject_non_fqdn_sender",
            Case { from: "a@b", ..STRANGER },
            "504 5.5.2 <a@b>: Sender address rejected: need fully-qualified address",
        ),
        ("reject_non_fqdn_sender", Case { from: "", ..STRANGER }, "ok"),
        (
            "reject_unknown_sender_domain",
            Case { from: "a@gone.example", ..STRANGER },
            "450 4.1.8 <a@gone.example>: Sender address rejected: Domain not found",
        ),
        (
            "reject_unknown_sender_domain",
            Case { from: "a@null.example", ..STRANGER },
            "550 5.7.27 <a@null.example>: Sender address rejected: Domain null.example does not accept mail (nullMX)",
        ),
        (
            "reject_unknown_sender_domain",
            Case { from: "a@slow.example", ..STRANGER },
            "450 4.1.8 <a@slow.example>: Sender address rejected: Domain not found",
        ),
        ("reject_unknown_sender_domain", Case { from: "a@info.net", ..STRANGER }, "ok"),
        (
            "reject_unknown_client_hostname",
            STRANGER,
            "450 4.7.25 Client host rejected: cannot find your hostname, [192.0.2.1]",
        ),
        (
            "reject_unauth_pipelining",
            Case { pipelining: true, ..STRANGER },
            "503 5.5.0 <john@info.net>: Recipient address rejected: Improper use of SMTP command pipelining",
        ),
        ("reject_plaintext_session", STRANGER, "450 4.7.1 Session encryption is required"),
        (
            "reject_unlisted_sender",
            Case { from: "nobody@info.net", ..STRANGER },
            "550 5.1.0 <nobody@info.net>: Sender address rejected: User unknown in local recipient table",
        ),
    ] {
        assert_eq!(rcpt(&format!("smtpd_recipient_restrictions = {rule}"), &case, &facts), expected, "{rule}");
    }
    let missing = rcpt(
        "smtpd_sender_restrictions = reject_unknown_sender_domain",
        &Case { from: "a@ask.example", ..STRANGER },
        &facts,
    );
    assert_eq!(missing, "missing MailDomain(\"ask.example\")");
}

#[test]
fn a_temporary_failure_defers_what_would_be_accepted() {
    let facts = Made { dns: [("slow.example", DnsFact::Temporary)].into(), ..Made::default() };
    let main = "smtpd_sender_restrictions = reject_unknown_sender_domain";
    let case = Case { from: "a@slow.example", to: "x@y.org", ..STRANGER };
    // A permanent refusal that would come anyhow stays.
    assert_eq!(rcpt(main, &case, &facts), "554 5.7.1 <x@y.org>: Relay access denied");
    assert!(rcpt(main, &Case { to: "john@info.net", ..case }, &facts).starts_with("450 4.1.8"));
}

#[test]
fn a_warning_in_front_of_a_rule_only_warns() {
    let main = "smtpd_recipient_restrictions = warn_if_reject reject, permit";
    let (verdict, decisions) = run(main, &STRANGER, Stage::Recipient, &Made::default());
    assert!(matches!(verdict, Ok(Verdict::Accept { .. })));
    assert!(decisions.iter().any(|d| d.rule == "warn_if_reject reject" && matches!(d.effect, Effect::Warn(_))));
}

#[test]
fn owners_of_sender_addresses_are_held_to_them() {
    let main = "smtpd_sasl_auth_enable = yes\nsmtpd_sender_login_maps = hash:/l\nsmtpd_sender_restrictions = reject_sender_login_mismatch";
    let facts = tables(&[("/l", "a@example.org john, mike")]);
    assert_eq!(rcpt(main, &Case { user: Some("john"), ..STRANGER }, &facts), "ok");
    assert_eq!(
        rcpt(main, &Case { user: Some("eve"), ..STRANGER }, &facts),
        "553 5.7.1 <a@example.org>: Sender address rejected: not owned by user eve"
    );
    assert_eq!(rcpt(main, &STRANGER, &facts), "553 5.7.1 <a@example.org>: Sender address rejected: not logged in");
    assert_eq!(rcpt(main, &Case { from: "b@example.org", ..STRANGER }, &facts), "ok");
}

#[test]
fn a_login_may_use_an_address_that_nobody_owns_only_where_the_rule_says_known() {
    let main = |rule: &str| {
        format!("smtpd_sasl_auth_enable = yes\nsmtpd_sender_login_maps = hash:/l\nsmtpd_sender_restrictions = {rule}")
    };
    let facts = tables(&[("/l", "a@example.org john")]);
    let eve = |from| Case { user: Some("eve"), from, ..STRANGER };
    let known = main("reject_known_sender_login_mismatch");
    assert_eq!(rcpt(&known, &eve("free@example.org"), &facts), "ok");
    assert!(rcpt(&known, &eve("a@example.org"), &facts).ends_with("not owned by user eve"));
    assert!(rcpt(&known, &STRANGER, &facts).ends_with("not logged in"));
    let all = main("reject_authenticated_sender_login_mismatch");
    assert!(rcpt(&all, &eve("free@example.org"), &facts).ends_with("not owned by user eve"));
    assert_eq!(rcpt(&all, &STRANGER, &facts), "ok");
}

#[test]
fn a_bounce_has_one_recipient() {
    let plan = Plan::new(main_of(
        "smtpd_data_restrictions = reject_multi_recipient_bounce\n\
        smtpd_recipient_restrictions = reject_multi_recipient_bounce, permit_mynetworks, reject_unauth_destination",
    ));
    let name = ClientName::default();
    let recipient: Address = "john@info.net".parse().expect("an address");
    let judged = |sender: &Sender, stage, recipients| {
        let input = Input {
            sender: Some(sender),
            recipient: (stage == Stage::Recipient).then_some(&recipient),
            recipients,
            ..Input::new("192.0.2.1".parse().expect("an address"), &name)
        };
        match evaluate(&plan, stage, &input, &Made::default()) {
            Outcome::Decided(Verdict::Refuse(reply), _) => reply.to_string(),
            Outcome::Decided(..) => "ok".to_owned(),
            Outcome::Missing(question) => format!("missing {question:?}"),
        }
    };
    let somebody = Sender::Address("a@example.org".parse().expect("an address"));
    assert_eq!(
        judged(&Sender::Null, Stage::Data, 2),
        "550 5.5.3 <DATA>: Data command rejected: Multi-recipient bounce"
    );
    assert_eq!(judged(&Sender::Null, Stage::Data, 1), "ok");
    assert_eq!(judged(&somebody, Stage::Data, 2), "ok");
    // The recipient that is judged is the second.
    assert!(judged(&Sender::Null, Stage::Recipient, 1).ends_with("Multi-recipient bounce"));
    assert_eq!(judged(&Sender::Null, Stage::Recipient, 0), "ok");
}

#[test]
fn what_stands_in_the_tables_of_restrictions_is_built_and_nothing_else() {
    let rule = |name: &str| mail_config::main_cf::lists::Rule { name: name.to_owned(), ..rule_of("reject") };
    for name in [
        "reject_unauth_destination",
        "check_policy_service",
        "check_sender_access",
        "check_helo_access",
        "check_sender_mx_access",
        "check_ccert_access",
        "reject_rbl_client",
        "reject_rhsbl_sender",
    ] {
        assert!(crate::restrictions::is_built(&rule(name)), "{name}");
    }
    for name in ["reject_everybody", "check_access", "check_sender_access_", ""] {
        assert!(!crate::restrictions::is_built(&rule(name)), "{name}");
    }
}

/// The first rule of a list of one.
fn rule_of(text: &str) -> mail_config::main_cf::lists::Rule {
    main_of(&format!("smtpd_data_restrictions = {text}")).smtpd_data_restrictions.value[0].clone()
}

#[test]
fn the_decision_behind_a_refusal_is_the_one_that_made_its_reply() {
    // Two rules would refuse; the first is only remembered until the second does.
    let main = "smtpd_recipient_restrictions = defer_if_permit, permit_mynetworks, reject_unauth_destination";
    let (verdict, decisions) = run(main, &STRANGER, Stage::Recipient, &Made::default());
    let verdict = verdict.expect("decided");
    assert_eq!(Decision::behind(&verdict, &decisions).map(|one| one.rule.as_str()), Some("defer_if_permit"));
    let (verdict, decisions) = run(main, &Case { to: "x@y.org", ..STRANGER }, Stage::Recipient, &Made::default());
    let verdict = verdict.expect("decided");
    assert_eq!(Decision::behind(&verdict, &decisions).map(|one| one.rule.as_str()), Some("reject_unauth_destination"));
    let other = Verdict::Refuse(crate::replies::refusal(550, (5, 0), "no rule said this".to_owned()));
    assert!(Decision::behind(&other, &decisions).is_none());
}

#[test]
fn every_decision_names_its_rule_and_line() {
    let main = "# a comment\nsmtpd_relay_restrictions = permit_mynetworks,\n  reject_unauth_destination\n";
    let (_, decisions) = run(main, &Case { to: "x@y.org", ..STRANGER }, Stage::Recipient, &Made::default());
    let last = decisions.last().expect("decided");
    assert_eq!(
        (last.rule.as_str(), last.list, last.source.line),
        ("reject_unauth_destination", "smtpd_relay_restrictions", 2)
    );
    assert_eq!(last.input, "x@y.org");
}

#[test]
fn restrictions_that_name_each_other_end() {
    let main = "smtpd_restriction_classes = a, b\na = b\nb = a\nsmtpd_recipient_restrictions = a";
    assert!(rcpt(main, &STRANGER, &Made::default()).starts_with("451 4.3.5"));
}

#[test]
fn an_open_relay_is_found_and_a_closed_one_is_not() {
    // DESIGN promise 4.
    let own = Domain::new("info.net").expect("a domain");
    assert_eq!(relay::attempts(&own).len(), 16);
    let found = |main: &str| relay::open_relay(&Plan::new(main_of(main)), &own, &Made::default());
    for closed in [
        "",
        "smtpd_relay_restrictions = reject_unauth_destination",
        "smtpd_relay_restrictions =\nsmtpd_recipient_restrictions =",
        "mynetworks = 10.0.0.0/8",
    ] {
        assert_eq!(found(closed), [], "{closed}");
    }
    let open = found("smtpd_relay_restrictions = permit_mynetworks, permit, reject");
    assert!(open.iter().any(|one| one.attempt.form == "null sender"));
    let reason = open[0].reason.as_ref().expect("a reason");
    assert_eq!((reason.rule.as_str(), reason.source.line), ("permit", 1));
    assert!(!found("mynetworks = 0.0.0.0/0").is_empty());
}

fn static_hold() -> TableRef {
    TableRef { kind: TableKind::Static, name: "hold".to_owned(), proxy: false }
}

#[test]
fn a_warning_covers_what_its_rule_leads_to_and_no_mistake_of_ours() {
    let main = "smtpd_restriction_classes = strict\nstrict = reject_non_fqdn_sender, reject\n\
                smtpd_recipient_restrictions = warn_if_reject strict, warn_if_reject defer_if_permit, permit";
    let (verdict, decisions) = run(main, &STRANGER, Stage::Recipient, &Made::default());
    assert!(matches!(verdict, Ok(Verdict::Accept { .. })), "{verdict:?}");
    assert_eq!(decisions.iter().filter(|decision| matches!(decision.effect, Effect::Warn(_))).count(), 2);
    // `reject` only warned, so what stands behind it in the class would have been judged, too.
    let main = "smtpd_recipient_restrictions = warn_if_reject check_sender_access hash:/gone, permit";
    assert!(rcpt(main, &STRANGER, &Made::default()).starts_with("451 4.3.5"));
}

#[test]
fn early_deferrals_wait_for_what_comes_later() {
    let main = "smtpd_client_restrictions = check_client_access static:hold, defer_if_permit\nsmtpd_delay_reject = no";
    let facts = Made { tables: Snapshot::default().with_tables(&[static_hold()]), ..Made::default() };
    let (verdict, _) = run(main, &STRANGER, Stage::Client, &facts);
    let Ok(Verdict::Accept { deferral: Some(deferral) }) = verdict else { panic!("{verdict:?}") };
    assert!(deferral.to_string().starts_with("450 4.7.0 "));
    let both = "smtpd_recipient_restrictions = defer_if_reject, defer_if_permit, check_sender_access hash:/gone";
    assert!(rcpt(both, &STRANGER, &Made::default()).starts_with("450 4.7.0 "));
}

#[test]
fn the_postmaster_is_reached_whatever_the_lists_say() {
    // S12
    let name = ClientName::default();
    let (sender, recipient) = (Sender::Null, "postmaster@info.net".parse().expect("an address"));
    let input = |text| Input {
        sender: Some(&sender),
        recipient: Some(&recipient),
        recipient_text: Some(text),
        ..Input::new([192, 0, 2, 1].into(), &name)
    };
    let plan = Plan::new(main_of("smtpd_recipient_restrictions = reject"));
    let judged = |text| evaluate(&plan, Stage::Recipient, &input(text), &Made::default());
    assert!(matches!(judged("Postmaster"), Outcome::Decided(Verdict::Accept { .. }, _)));
    assert!(matches!(judged("postmaster@info.net"), Outcome::Decided(Verdict::Refuse(_), _)));
}
