//! Tests: master users, who log in as somebody else. What is expected is what Dovecot 2.3.19 does.

use super::*;
use crate::fake::{Fake, field, passdb, passdb_file, template};
use crate::plan::{FileArguments, Skip};

const USERS: &str = "john:{PLAIN}own\nmary:{PLAIN}mine\nadmin:{PLAIN}private\nnologin:{PLAIN}x::::::nologin\nnear:{PLAIN}x::::::allow_nets=192.0.2.0/24\n\
    far:{PLAIN}x::::::allow_nets=198.51.100.1\nalias:{PLAIN}x::::::user=mary userdb_mail=maildir:~/A\nbare:\n";
const MASTERS: &str = "admin:{PLAIN}master\nfar:{PLAIN}far::::::allow_nets=198.51.100.1\noff:{PLAIN}off::::::nologin\njohn:{PLAIN}boss\n\
    other:{PLAIN}o::::::user=renamed userdb_x=%{login_user}\n";

fn master(path: &str) -> Passdb {
    passdb_file(path)
}

/// The master passdb asks the ordinary ones (`pass = yes`).
fn passing() -> Passdb {
    Passdb { flow: Flow { success: After::Continue, ..Flow::default() }, ..master("/m") }
}

fn plan_of(masters: Vec<Passdb>, passdbs: Vec<Passdb>) -> Plan {
    let mut plan = Plan { passdbs, masters, ..Plan::default() };
    plan.names.master_separator = Some('*');
    plan
}

fn plan() -> Plan {
    plan_of(vec![master("/m")], vec![passdb_file("/p")])
}

fn attempt_of(password: &str) -> Attempt {
    Attempt {
        service: "imap".into(),
        mechanism: "PLAIN".into(),
        authzid: String::new(),
        user: String::new(),
        password: password.into(),
        peer: "192.0.2.5".parse().unwrap(),
        local: "192.0.2.1".parse().unwrap(),
        local_name: None,
        session: "S".into(),
    }
}

fn judge_as(plan: &Plan, authzid: &str, user: &str, password: &str) -> Judged {
    let mut sources = Fake::with_file("/p", USERS);
    sources.files.insert("/m".into(), MASTERS.into());
    sources.files.insert("/deny".into(), "john\n".into());
    let attempt = Attempt { authzid: authzid.into(), user: user.into(), ..attempt_of(password) };
    super::login(plan, &sources, &attempt)
}

fn judge(plan: &Plan, user: &str, password: &str) -> Judged {
    judge_as(plan, "", user, password)
}

/// As whom somebody is let in, and by which master user.
fn let_in(judged: &Judged) -> Option<(&str, Option<&str>)> {
    match &judged.verdict {
        Verdict::Granted(granted) => Some((granted.user.as_str(), granted.master.as_deref())),
        _ => None,
    }
}

fn refused(plan: &Plan, user: &str, password: &str) -> bool {
    judge(plan, user, password).verdict == Verdict::Denied
}

#[test]
fn the_password_of_the_master_user_is_the_only_one_that_counts() {
    let plan = plan();
    assert_eq!(let_in(&judge(&plan, "John*Admin", "master")), Some(("john", Some("admin"))));
    assert_eq!(let_in(&judge(&plan, "mary*john", "boss")), Some(("mary", Some("john"))));
    for (user, password) in [
        ("john*admin", "wrong"),
        ("john*admin", "own"),
        ("john*admin", "private"),
        ("john*admin", ""),
        ("john*mary", "mine"),
        ("john*nobody", "master"),
        ("mary*john", "own"),
        ("*admin", "master"),
        ("john*", "own"),
        ("*", "x"),
        ("john*admin*admin", "master"),
    ] {
        assert!(refused(&plan, user, password), "{user} {password}");
    }
}

#[test]
fn a_master_user_is_an_ordinary_user_only_where_an_ordinary_passdb_says_so() {
    let plan = plan();
    assert!(refused(&plan, "admin", "master") && refused(&plan, "john", "boss"));
    assert_eq!(let_in(&judge(&plan, "admin", "private")), Some(("admin", None)));
    assert_eq!(let_in(&judge(&plan, "admin*admin", "private")), Some(("admin", None)));
    assert!(refused(&plan, "admin*admin", "master"));
}

#[test]
fn plain_s_authorization_identity_names_the_login_user() {
    let mut plan = plan();
    assert_eq!(let_in(&judge_as(&plan, "john", "admin", "master")), Some(("john", Some("admin"))));
    assert_eq!(let_in(&judge_as(&plan, "mary", "john*admin", "master")), Some(("mary", Some("admin"))));
    assert_eq!(let_in(&judge_as(&plan, "mary", "john", "own")), None);
    assert_eq!(let_in(&judge_as(&plan, "john*admin", "admin", "master")), None);
    // It needs no separator, and is nobody where there are no master users.
    plan.names.master_separator = None;
    assert_eq!(let_in(&judge_as(&plan, "john", "admin", "master")), Some(("john", Some("admin"))));
    assert!(refused(&plan, "john*admin", "master"));
    plan.masters.clear();
    let judged = judge_as(&plan, "john", "admin", "private");
    assert_eq!(judged.verdict, Verdict::Denied);
    assert!(judged.notes[0].text.ends_with("login user: Master user login attempted without master passdbs"));
}

#[test]
fn limits_of_the_master_user_hold() {
    let plan = plan();
    assert!(refused(&plan, "john*far", "far") && refused(&plan, "john*off", "off"));
    let judged = judge(&plan, "john*far", "far");
    let expected =
        "passwd-file(far,192.0.2.5,master,<S>): allow_nets check failed: IP 192.0.2.5 not in allowed networks";
    assert_eq!((judged.notes[0].text.as_str(), judged.user.as_str()), (expected, "far"));
}

#[test]
fn without_pass_the_login_user_is_asked_of_no_passdb() {
    for user in ["nobody", "nologin", "far", "alias", "bare"] {
        let judged = judge(&plan(), &format!("{user}*admin"), "master");
        assert_eq!(let_in(&judged), Some((user, Some("admin"))));
    }
}

#[test]
fn with_pass_the_login_user_must_be_known_and_permitted() {
    let plan = plan_of(vec![passing()], vec![passdb_file("/p")]);
    for (user, expected) in [("john", "john"), ("near", "near"), ("bare", "bare"), ("alias", "mary")] {
        let judged = judge(&plan, &format!("{user}*admin"), "master");
        assert_eq!(let_in(&judged), Some((expected, Some("admin"))), "{user}");
    }
    for user in ["nobody", "nologin", "far"] {
        assert!(refused(&plan, &format!("{user}*admin"), "master"), "{user}");
    }
    assert!(refused(&plan, "john*admin", "own") && refused(&plan, "john*admin", "wrong"));
    let judged = judge(&plan, "nobody*admin", "master");
    let lines: Vec<&str> = judged.notes.iter().map(|note| note.text.as_str()).collect();
    assert_eq!(
        lines,
        [
            "passwd-file(admin,192.0.2.5,master,<S>): Master user logging in as nobody",
            "passwd-file(nobody,192.0.2.5,<S>): unknown user"
        ]
    );
    assert_eq!(judged.user, "nobody");
}

#[test]
fn with_pass_an_ordinary_passdb_that_cannot_be_asked_lets_nobody_in() {
    let with = |ordinary: Vec<Passdb>| plan_of(vec![passing()], ordinary);
    let verdict = |plan: &Plan| judge(plan, "john*admin", "master").verdict;
    assert_eq!(verdict(&with(vec![passdb_file("/absent")])), Verdict::Unavailable);
    assert_eq!(verdict(&with(vec![passdb(PassDriver::Unusable("sql".into()))])), Verdict::Unavailable);
    assert_eq!(verdict(&with(Vec::new())), Verdict::Denied);
    // PAM is asked with the master's password, which is not the user's.
    assert_eq!(verdict(&with(vec![passdb(PassDriver::Pam(template("dovecot")))])), Verdict::Denied);
    let skipped = Passdb { flow: Flow { skip: Skip::Authenticated, ..Flow::default() }, ..passdb_file("/p") };
    assert_eq!(verdict(&with(vec![skipped])), Verdict::Denied);
}

#[test]
fn a_deny_passdb_is_asked_about_the_login_user_with_pass_only() {
    let deny = || Passdb { deny: true, ..passdb_file("/deny") };
    let with = |master| plan_of(vec![master], vec![deny(), passdb_file("/p")]);
    assert!(refused(&with(passing()), "john*admin", "master"));
    assert!(let_in(&judge(&with(passing()), "mary*admin", "master")).is_some());
    assert!(let_in(&judge(&with(master("/m")), "john*admin", "master")).is_some());
    // Of a master passdb it names those who are no master users. Dovecot does not start with one.
    let masters = plan_of(vec![deny(), master("/m")], vec![passdb_file("/p")]);
    assert!(refused(&masters, "mary*john", "boss") && let_in(&judge(&masters, "mary*admin", "master")).is_some());
}

#[test]
fn result_rules_of_a_master_passdb_are_those_of_any_other() {
    let with = |flow| plan_of(vec![Passdb { flow, ..master("/m") }], vec![passdb_file("/p")]);
    let success = |success| with(Flow { success, ..Flow::default() });
    for rule in [After::Return, After::ReturnFail] {
        assert!(refused(&success(rule), "john*admin", "master"), "{rule:?}");
    }
    assert!(let_in(&judge(&success(After::ContinueOk), "nobody*admin", "master")).is_some());
    assert!(refused(&success(After::ContinueFail), "nobody*admin", "master"));
    // A wrong password that a rule makes good is still no way to be somebody else.
    for rule in [After::ReturnOk, After::ContinueOk] {
        let judged = judge(&with(Flow { failure: rule, ..Flow::default() }), "john*admin", "wrong");
        assert_eq!(let_in(&judged), Some(("admin", None)), "{rule:?}");
    }
}

#[test]
fn one_master_passdb_after_another_is_asked_and_never_an_ordinary_one() {
    let absent = || master("/absent");
    let two = plan_of(vec![absent(), master("/m")], vec![passdb_file("/p")]);
    assert!(let_in(&judge(&two, "john*admin", "master")).is_some());
    assert_eq!(judge(&two, "john*admin", "wrong").verdict, Verdict::Unavailable);
    let all = plan_of(vec![passdb(PassDriver::Static(vec![field("password=all")]))], vec![passdb_file("/p")]);
    assert_eq!(let_in(&judge(&all, "john*anybody", "all")), Some(("john", Some("anybody"))));
    assert!(refused(&all, "john*mary", "mine") && refused(&all, "john", "all"));
    let mut filtered = master("/m");
    filtered.username_filter = vec!["adm*".into()];
    let filtered = plan_of(vec![filtered], vec![passdb_file("/p")]);
    assert!(let_in(&judge(&filtered, "mary*admin", "master")).is_some());
    assert!(refused(&filtered, "mary*john", "boss"));
}

#[test]
fn fields_of_the_master_passdb_stay_and_know_whom_it_is_about() {
    let judged = judge(&plan(), "john*other", "o");
    let Verdict::Granted(granted) = judged.verdict else { panic!("other may") };
    assert_eq!((granted.user.as_str(), granted.master.as_deref()), ("john", Some("renamed")));
    let driver = PassDriver::PasswdFile(FileArguments {
        path: template("/m-%{login_user}"),
        scheme: "CRYPT".into(),
        username_format: template("%u"),
    });
    let own = Passdb { override_fields: vec![field("userdb_who=%{login_user},%u")], ..passdb(driver) };
    let mut plan = plan_of(vec![own], Vec::new());
    plan.names.allowed = String::new();
    let mut sources = Fake::with_file("/m-john", MASTERS);
    sources.files.insert("/m-../m".into(), MASTERS.into());
    let attempt = |user: &str| Attempt { user: user.into(), ..attempt_of("master") };
    let judged = super::login(&plan, &sources, &attempt("john*admin"));
    let Verdict::Granted(granted) = judged.verdict else { panic!("admin may") };
    assert_eq!(granted.prefetched, [("who".to_owned(), "john,admin".to_owned())]);
    // Whom somebody asks for never leads out of a directory.
    assert_eq!(super::login(&plan, &sources, &attempt("../m*admin")).verdict, Verdict::Denied);
}

#[test]
fn an_attempt_s_fingerprint_knows_whom_it_is_for() {
    let secret = [7; 32];
    let print = |authzid: &str, user: &str| {
        Attempt { authzid: authzid.into(), user: user.into(), ..attempt_of("master") }.fingerprint(&secret)
    };
    let all = [
        print("", "admin"),
        print("john", "admin"),
        print("mary", "admin"),
        print("", "john*admin"),
        print("", "mary*admin"),
    ];
    for (at, one) in all.iter().enumerate() {
        assert!(!all[at + 1..].contains(one), "{at}");
    }
    assert_eq!(print("john", "admin"), all[1]);
}
