//! Logins against sources that the test made.

use mail_ipc::Frame;
use mail_ipc::hello::Hello;
use mail_net::ipc::Conversation;

use super::*;
use crate::front::for_tests;

const CONF: &str = "auth_failure_delay = 0\nauth_mechanisms = plain login cram-md5\nlogin_trusted_networks = 192.0.2.99/32\nmail_location = maildir:~/Maildir\n\
    passdb {\n  driver = passwd-file\n  args = DIR/users\n}\nuserdb {\n  driver = passwd-file\n  args = DIR/users\n}\n";
const USERS: &str = "john:{PLAIN}secret:5000:5001::/srv/john::\nroot:{PLAIN}secret:0:0::/root::\n";

/// A conversation with a front that serves it.
async fn connect(role: Role) -> (tempfile::TempDir, Conversation) {
    let (directory, front) = for_tests(CONF);
    std::fs::write(directory.path().join("users"), USERS).unwrap();
    let (near, far) = UnixStream::pair().unwrap();
    tokio::spawn(serve(front, Arc::new(Guests::of(&[], false)), far));
    (directory, ipc::accept(near, &Hello::new(role, "test")).await.unwrap())
}

async fn ask(conversation: &mut Conversation, id: u64, request: Request) -> Response {
    conversation.writer.send(&Frame::new(id, request), &[], &[]).await.unwrap();
    let frame = conversation.reader.frame().await.unwrap().unwrap().read::<Response>().unwrap();
    assert_eq!(frame.id, id);
    frame.body
}

fn begin(service: &str, mechanism: &str, initial: Option<&str>, secured: bool) -> Request {
    Request::Begin {
        service: service.into(),
        mechanism: mechanism.into(),
        initial: initial.map(Octets::from),
        peer: "192.0.2.5".parse().unwrap(),
        local: "192.0.2.1".parse().unwrap(),
        secured,
        tls: secured,
        session: "SESS".into(),
        local_name: None,
    }
}

fn failed(response: &Response) -> Option<Failure> {
    match response {
        Response::Failed { failure, .. } => Some(*failure),
        _ => None,
    }
}

#[tokio::test]
async fn a_login_gives_a_token_that_a_monitor_redeems_once() {
    let (_directory, mut talk) = connect(Role::Monitor).await;
    let response = ask(&mut talk, 1, begin("imap", "PLAIN", Some("\0John\0secret"), true)).await;
    let Response::Authenticated { user, token: Some(token), master: None } = response else { panic!("{response:?}") };
    assert_eq!(user, "john");
    let Response::Login { login } = ask(&mut talk, 2, Request::Redeem { token: token.clone() }).await else {
        panic!("the token is good")
    };
    assert_eq!((login.uid, login.mail.as_deref()), (Some(5000), Some("maildir:/srv/john/Maildir")));
    assert_eq!(ask(&mut talk, 3, Request::Redeem { token }).await, Response::Unknown);
}

#[tokio::test]
async fn a_front_cannot_redeem() {
    let (_directory, mut talk) = connect(Role::ImapFront).await;
    let response = ask(&mut talk, 1, begin("imap", "PLAIN", Some("\0john\0secret"), true)).await;
    let Response::Authenticated { token: Some(token), .. } = response else { panic!("{response:?}") };
    assert_eq!(ask(&mut talk, 2, Request::Redeem { token }).await, Response::Unknown);
}

#[tokio::test]
async fn smtp_needs_no_token_and_no_mailbox() {
    let (_directory, mut talk) = connect(Role::Smtpd).await;
    let response = ask(&mut talk, 1, begin("smtp", "PLAIN", Some("\0root\0secret"), false)).await;
    assert_eq!(response, Response::Authenticated { user: "root".into(), token: None, master: None });
    // The same user may not read mail: uid 0 is below first_valid_uid.
    let response = ask(&mut talk, 2, begin("imap", "PLAIN", Some("\0root\0secret"), true)).await;
    assert_eq!(failed(&response), Some(Failure::Temporary));
}

const MASTERS: &str = "auth_failure_delay = 0\nauth_mechanisms = plain login\nauth_master_user_separator = *\nmail_location = maildir:~/Maildir\n\
    passdb {\n  driver = passwd-file\n  args = DIR/masters\n  master = yes\n  pass = yes\n}\n\
    passdb {\n  driver = passwd-file\n  args = DIR/users\n}\nuserdb {\n  driver = passwd-file\n  args = DIR/users\n}\n";

/// A front with one master user.
fn with_a_master(conf: &str) -> (tempfile::TempDir, Arc<Front>) {
    let (directory, front) = for_tests(conf);
    std::fs::write(directory.path().join("users"), USERS).unwrap();
    std::fs::write(directory.path().join("masters"), "admin:{PLAIN}master\n").unwrap();
    (directory, front)
}

#[tokio::test]
async fn a_master_user_gets_the_other_user_s_mailbox() {
    let (_directory, front) = with_a_master(MASTERS);
    let (near, far) = UnixStream::pair().unwrap();
    tokio::spawn(serve(front, Arc::new(Guests::of(&[], false)), far));
    let mut talk = ipc::accept(near, &Hello::new(Role::Monitor, "test")).await.unwrap();
    for (id, message) in [(1, "\0john*admin\0master"), (3, "John\0admin\0master")] {
        let response = ask(&mut talk, id, begin("imap", "PLAIN", Some(message), true)).await;
        let Response::Authenticated { user, token: Some(token), master } = response else { panic!("{response:?}") };
        assert_eq!((user.as_str(), master.as_deref()), ("john", Some("admin")));
        let Response::Login { login } = ask(&mut talk, id + 1, Request::Redeem { token }).await else {
            panic!("the token is good")
        };
        assert_eq!((login.user.as_str(), login.uid, login.master.as_deref()), ("john", Some(5000), Some("admin")));
        assert_eq!(login.mail.as_deref(), Some("maildir:/srv/john/Maildir"));
    }
    // Whom no mailbox may belong to, a master user does not get at either.
    let response = ask(&mut talk, 5, begin("imap", "PLAIN", Some("\0root*admin\0master"), true)).await;
    assert_eq!(failed(&response), Some(Failure::Temporary));
    let response = ask(&mut talk, 6, begin("smtp", "PLAIN", Some("\0john*admin\0master"), true)).await;
    let expected = Response::Authenticated { user: "john".into(), token: None, master: Some("admin".into()) };
    assert_eq!(response, expected);
}

#[tokio::test]
async fn a_master_user_s_failures_name_the_master_and_make_the_next_login_wait() {
    let (_directory, front) = with_a_master(MASTERS);
    let client = |place| Client {
        service: "imap".into(),
        mechanism: "PLAIN".into(),
        peer: IpAddr::from([192, 0, 2, place]),
        local: IpAddr::from([192, 0, 2, 1]),
        local_name: None,
        session: String::new(),
    };
    let cases = [("john*admin", "wrong", "admin"), ("nobody*admin", "master", "nobody"), ("*admin", "master", "admin")];
    for (place, (user, password, shown)) in (50..).zip(cases) {
        let credentials = Credentials { authzid: String::new(), user: user.into(), password: password.into() };
        let response = login(&front, client(place), credentials).await;
        assert_eq!(response, Response::Failed { failure: Failure::Credentials, user: Some(shown.into()) });
        let wait = front.throttle.lock().unwrap().wait(IpAddr::from([192, 0, 2, place]), Instant::now());
        assert_eq!(wait.as_secs(), 2, "{user}");
    }
}

#[tokio::test]
async fn what_is_remembered_of_a_master_user_serves_the_same_login_user_only() {
    // The userdb of the system makes such a plan worth remembering.
    let (directory, front) =
        with_a_master(&format!("auth_cache_size = 1 M\n{MASTERS}userdb {{\n  driver = passwd\n}}\n"));
    let client = Client {
        service: "imap".into(),
        mechanism: "PLAIN".into(),
        peer: IpAddr::from([192, 0, 2, 5]),
        local: IpAddr::from([192, 0, 2, 1]),
        local_name: None,
        session: String::new(),
    };
    let users =
        "john::5000:5001::/srv/john::\nmary::5000:5001::/srv/mary::\nadmin:{PLAIN}master:5000:5001::/srv/admin::\n";
    std::fs::write(directory.path().join("users"), users).unwrap();
    let place = async |authzid: &str, user: &str| {
        let rules = front.rules(&Connection::of("imap"));
        let credentials = Credentials { authzid: authzid.into(), user: user.into(), password: "master".into() };
        let outcome = evaluate(&front, &rules, &client, &credentials).await;
        outcome
            .result
            .map(|login| (login.mail.unwrap_or_default(), login.master))
            .map_err(|failure| format!("{failure:?}"))
    };
    let at = |user: &str, master: Option<&str>| Ok((format!("maildir:/srv/{user}/Maildir"), master.map(str::to_owned)));
    for _ in 0..2 {
        assert_eq!(place("", "john*admin").await, at("john", Some("admin")));
        assert_eq!(place("", "mary*admin").await, at("mary", Some("admin")));
        assert_eq!(place("john", "admin").await, at("john", Some("admin")));
        assert_eq!(place("mary", "admin").await, at("mary", Some("admin")));
        assert_eq!(place("", "admin").await, at("admin", None));
    }
}

#[tokio::test]
async fn login_takes_its_two_steps() {
    let (_directory, mut talk) = connect(Role::Smtpd).await;
    let first = ask(&mut talk, 7, begin("smtp", "LOGIN", None, true)).await;
    assert_eq!(first, Response::Challenge { challenge: "Username:".into() });
    let second = ask(&mut talk, 7, Request::Continue { response: "john".into() }).await;
    assert_eq!(second, Response::Challenge { challenge: "Password:".into() });
    let third = ask(&mut talk, 7, Request::Continue { response: "secret".into() }).await;
    assert_eq!(third, Response::Authenticated { user: "john".into(), token: None, master: None });
    let late = ask(&mut talk, 7, Request::Continue { response: "secret".into() }).await;
    assert_eq!(failed(&late), Some(Failure::Protocol));
}

#[tokio::test]
async fn wrong_password_and_unknown_user_fail_alike() {
    let (_directory, mut talk) = connect(Role::Smtpd).await;
    for (id, place, message) in [(1, 6, "\0john\0wrong"), (2, 7, "\0nobody\0wrong")] {
        let mut request = begin("smtp", "PLAIN", Some(message), true);
        if let Request::Begin { peer, .. } = &mut request {
            *peer = IpAddr::from([192, 0, 2, place]);
        }
        let response = ask(&mut talk, id, request).await;
        assert_eq!(failed(&response), Some(Failure::Credentials));
    }
}

#[tokio::test]
async fn every_failure_makes_the_next_login_wait() {
    let (directory, front) = for_tests(CONF);
    let client = |place| Client {
        service: "smtp".into(),
        mechanism: "PLAIN".into(),
        peer: IpAddr::from([192, 0, 2, place]),
        local: IpAddr::from([192, 0, 2, 1]),
        local_name: None,
        session: String::new(),
    };
    let credentials =
        |password: &str| Credentials { authzid: String::new(), user: "john".into(), password: password.into() };
    let wait = |place: u8| front.throttle.lock().unwrap().wait(IpAddr::from([192, 0, 2, place]), Instant::now());
    // No file: nobody knows.
    let response = login(&front, client(8), credentials("secret")).await;
    assert_eq!((failed(&response), wait(8).as_secs()), (Some(Failure::Temporary), 2));
    std::fs::write(directory.path().join("users"), USERS).unwrap();
    let response = login(&front, client(9), credentials("wrong")).await;
    assert_eq!((failed(&response), wait(9).as_secs()), (Some(Failure::Credentials), 2));
    login(&front, client(10), credentials("secret")).await;
    assert_eq!(wait(10).as_secs(), 0);
    // A webmail server of login_trusted_networks.
    login(&front, client(99), credentials("wrong")).await;
    assert_eq!(wait(99).as_secs(), 0);
}

#[tokio::test]
async fn what_is_not_offered_is_refused() {
    let (_directory, mut talk) = connect(Role::ImapFront).await;
    let Response::Mechanisms { names, plaintext } = ask(&mut talk, 1, Request::Mechanisms).await else { panic!() };
    assert_eq!((names.as_slice(), plaintext.len()), (["PLAIN".to_owned(), "LOGIN".to_owned()].as_slice(), 2));
    let response = ask(&mut talk, 2, begin("imap", "CRAM-MD5", None, true)).await;
    assert_eq!(failed(&response), Some(Failure::Mechanism));
    let response = ask(&mut talk, 3, begin("imap", "PLAIN", Some("\0john\0secret"), false)).await;
    assert_eq!(failed(&response), Some(Failure::Mechanism));
    let response = ask(&mut talk, 4, begin("imap", "PLAIN", Some("garbage"), true)).await;
    assert_eq!(failed(&response), Some(Failure::Protocol));
}

#[tokio::test]
async fn a_right_login_is_remembered_until_a_reload_would_forget_it() {
    let conf = "auth_failure_delay = 0\nauth_cache_size = 1 M\nauth_cache_negative_ttl = 0\nmail_location = maildir:~/Maildir\n\
        passdb {\n  driver = static\n  args = password=secret\n}\nuserdb {\n  driver = passwd-file\n  args = DIR/users\n}\nuserdb {\n  driver = passwd\n}\n";
    let (directory, front) = for_tests(conf);
    let client = |service: &str, place| Client {
        service: service.into(),
        mechanism: "PLAIN".into(),
        peer: IpAddr::from([192, 0, 2, place]),
        local: IpAddr::from([192, 0, 2, 1]),
        local_name: None,
        session: String::new(),
    };
    let users = directory.path().join("users");
    std::fs::write(&users, "john::5000:5001::/srv/john::\n").unwrap();
    let credentials =
        |password: &str| Credentials { authzid: String::new(), user: "john".into(), password: password.into() };
    let place = async |service: &str, place: u8, password: &str| {
        let rules = front.rules(&Connection::of(service));
        let outcome = evaluate(&front, &rules, &client(service, place), &credentials(password)).await;
        outcome.result.map(|login| login.mail.unwrap_or_default()).map_err(|failure| format!("{failure:?}"))
    };
    assert_eq!(place("imap", 5, "secret").await.as_deref(), Ok("maildir:/srv/john/Maildir"));
    std::fs::remove_file(&users).unwrap();
    front.sources.forget_files();
    assert_eq!(place("imap", 5, "secret").await.as_deref(), Ok("maildir:/srv/john/Maildir"));
    // Another password, another address and another service are other logins.
    for (service, from, password) in [("imap", 5, "wrong"), ("imap", 6, "secret"), ("pop3", 5, "secret")] {
        assert!(place(service, from, password).await.is_err(), "{service} {from} {password}");
    }
    // What nobody knew is asked again.
    std::fs::write(&users, "john::5000:5001::/srv/john::\n").unwrap();
    front.sources.forget_files();
    assert!(place("pop3", 5, "secret").await.is_ok());
}

#[tokio::test]
async fn protocols_addresses_and_names_have_rules_of_their_own() {
    let own = "\nprotocol pop3 {\n passdb {\n  driver = passwd-file\n  args = DIR/popusers\n }\n}\n\
        remote 192.0.2.0/24 {\n disable_plaintext_auth = no\n mail_location = maildir:~/near\n}\n\
        local_name far.example {\n mail_location = maildir:~/far\n}\n";
    let (directory, front) = for_tests(&format!("{CONF}{own}"));
    std::fs::write(directory.path().join("users"), USERS).unwrap();
    std::fs::write(directory.path().join("popusers"), "mary:{PLAIN}pop\n").unwrap();
    let (near, far) = UnixStream::pair().unwrap();
    tokio::spawn(serve(front, Arc::new(Guests::of(&[], false)), far));
    let mut talk = ipc::accept(near, &Hello::new(Role::Monitor, "test")).await.unwrap();
    let mut id = 0;
    let mut place = async |service: &str, from: [u8; 4], name: Option<&str>, initial: &str, safe: bool| {
        let mut request = begin(service, "PLAIN", Some(initial), safe);
        if let Request::Begin { peer, local_name, .. } = &mut request {
            (*peer, *local_name) = (from.into(), name.map(str::to_owned));
        }
        id += 2;
        match ask(&mut talk, id, request).await {
            Response::Authenticated { token: Some(token), .. } => {
                let Response::Login { login } = ask(&mut talk, id + 1, Request::Redeem { token }).await else {
                    panic!("the token is good")
                };
                login.mail
            }
            Response::Failed { failure, .. } => Some(format!("{failure:?}")),
            other => panic!("{other:?}"),
        }
    };
    let john = "\0john\0secret";
    let far_away = [198, 51, 100, 1];
    assert_eq!(place("imap", [192, 0, 2, 5], None, john, false).await.as_deref(), Some("maildir:/srv/john/near"));
    assert_eq!(place("imap", far_away, None, john, false).await.as_deref(), Some("Mechanism"));
    assert_eq!(place("imap", far_away, None, john, true).await.as_deref(), Some("maildir:/srv/john/Maildir"));
    let named = place("imap", far_away, Some("FAR.example"), john, true).await;
    assert_eq!(named.as_deref(), Some("maildir:/srv/john/far"));
    // The passdb of one protocol is none of another's.
    assert_eq!(place("imap", far_away, None, "\0mary\0pop", true).await.as_deref(), Some("Credentials"));
    assert_eq!(place("pop3", [198, 51, 100, 2], None, "\0mary\0pop", true).await.as_deref(), Some("Temporary"));
}

#[tokio::test]
async fn a_given_up_exchange_is_forgotten() {
    let (_directory, mut talk) = connect(Role::Smtpd).await;
    ask(&mut talk, 1, begin("smtp", "LOGIN", None, true)).await;
    talk.writer.send(&Frame::new(1, Request::Cancel), &[], &[]).await.unwrap();
    let response = ask(&mut talk, 1, Request::Continue { response: "john".into() }).await;
    assert_eq!(failed(&response), Some(Failure::Protocol));
}

#[tokio::test]
async fn a_stranger_is_not_served() {
    let (_directory, front) = for_tests(CONF);
    let (near, far) = UnixStream::pair().unwrap();
    let guests = Guests::nobody();
    let served = tokio::spawn(serve(front, Arc::new(guests), far));
    let mut talk = ipc::accept(near, &Hello::new(Role::Monitor, "test")).await.unwrap();
    served.await.unwrap();
    assert!(!matches!(talk.reader.frame().await, Ok(Some(_))));
}
