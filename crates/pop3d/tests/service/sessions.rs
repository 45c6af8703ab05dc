//! Stories of sessions and processes.

use std::fs;
use std::io::Read as _;
use std::net::Shutdown;
use std::process::Command;
use std::time::Instant;

use mail_net::Stream;
use mail_net::tls::ClientTls;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::daemon::{Client, PATIENCE, Service};

#[test]
fn a_session_reads_marks_and_deletes() {
    let service = Service::start();
    service.deliver("john", "1.a.host", "Subject: one\n\n.dot\n");
    service.deliver("john", "2.b.host", "Subject: two\n\nbody\n");
    let (mut client, reply) = Client::login(&service, "john");
    assert_eq!(reply, "+OK Logged in.");
    assert_eq!(client.say("STAT"), "+OK 2 44");
    client.send("RETR 1\r\nDELE 2\r\nQUIT\r\n");
    let expected = "+OK 22 octets\r\nSubject: one\r\n\r\n..dot\r\n.\r\n\
                    +OK Marked to be deleted.\r\n+OK Logging out, messages deleted.\r\n";
    assert_eq!(client.rest(), expected);
    let log = service.log_with("Disconnected: Logged out top=0/0, retr=1/38, del=1/2, size=44");
    assert!(log.contains("pop3-login: Login: user=<john>, method=PLAIN, rip=127.0.0.1, lip=127.0.0.1, mpid="), "{log}");
    assert_eq!(service.files("john", "cur"), ["1.a.host:2,S"]);
}

#[test]
fn a_lost_connection_deletes_nothing() {
    // P03c
    let service = Service::start();
    service.deliver("john", "1.a.host", "Subject: one\n\n");
    let (mut client, _) = Client::login(&service, "john");
    assert_eq!(client.say("DELE 1"), "+OK Marked to be deleted.");
    drop(client);
    service.log_with("Disconnected: Connection closed top=0/0, retr=0/0, del=0/1");
    assert_eq!(service.files("john", "cur").len() + service.files("john", "new").len(), 1);
}

#[test]
fn commands_sent_with_the_password_are_answered_after_it_and_a_half_closed_connection_too() {
    let service = Service::start();
    let mut client = Client::connect(service.plain);
    client.send("USER john\r\nPASS john\r\nSTAT\r\nNO\0OP\r\nQUIT\r\n");
    client.0.get_mut().shutdown(Shutdown::Write).expect("open");
    let expected = "+OK\r\n+OK Logged in.\r\n+OK 0 0\r\n-ERR Unknown command: NO?OP\r\n+OK Logging out.\r\n";
    assert_eq!(client.rest(), expected);
}

#[test]
fn what_does_not_fit_into_the_hand_over_follows_it() {
    let service = Service::start();
    let mut client = Client::connect(service.plain);
    client.send(&format!("USER john\r\nPASS john\r\n{}QUIT\r\n", "NOOP\r\n".repeat(8000)));
    assert_eq!(client.rest(), format!("+OK\r\n+OK Logged in.\r\n{}+OK Logging out.\r\n", "+OK\r\n".repeat(8000)));
}

#[test]
fn the_end_of_one_owners_process_ends_that_owners_connections_only() {
    let service = Service::start();
    let before = service.children();
    let (mut john, _) = Client::login(&service, "john");
    let johns: Vec<u32> = service.children().difference(&before).copied().collect();
    let (mut mary, _) = Client::login(&service, "mary");
    assert_eq!(johns.len(), 1, "one session process");
    let killed = Command::new("kill").arg("-9").arg(johns[0].to_string()).status().expect("kill exists");
    assert!(killed.success());
    assert_eq!(john.rest(), "");
    assert_eq!(mary.say("NOOP"), "+OK");
    service.log_with(&format!("pop3: Warning: session process {} ended with 1 sessions: killed by signal 9", johns[0]));
    let (mut again, reply) = Client::login(&service, "john");
    assert_eq!((reply.as_str(), again.say("STAT").as_str()), ("+OK Logged in.", "+OK 0 0"));
}

#[test]
fn one_process_serves_an_owner_and_the_limit_counts_sessions() {
    let service = Service::start();
    let before = service.children().len();
    let mut clients: Vec<Client> = (0..3)
        .map(|_| {
            let (client, reply) = Client::login(&service, "john");
            assert_eq!(reply, "+OK Logged in.");
            client
        })
        .collect();
    assert_eq!(service.children().len(), before + 1);
    let (mut fourth, reply) = Client::login(&service, "john");
    assert!(reply.starts_with("-ERR [IN-USE] "), "{reply}");
    assert_eq!(fourth.rest(), "");
    assert_eq!(clients[0].say("QUIT"), "+OK Logging out.");
    // The line is written before the place is given back.
    service.log_with("Disconnected: Logged out");
    Client::login_at_last(&service, "john");
}

#[test]
fn pop3_lock_session_lets_one_session_in() {
    // P02c
    let service = Service::start_with("pop3_lock_session = yes\n");
    let (mut first, _) = Client::login(&service, "john");
    let (_, reply) = Client::login(&service, "john");
    assert_eq!(reply, "-ERR [IN-USE] Mailbox is locked by another POP3 session.");
    assert_eq!(first.say("QUIT"), "+OK Logging out.");
    // The line is written before the place is given back.
    service.log_with("Disconnected: Logged out");
    Client::login_at_last(&service, "john");
}

#[test]
fn uidls_once_given_can_be_kept_in_the_uidlist() {
    let mut service = Service::start_with("pop3_save_uidl = yes\npop3_uidl_format = old-%u\npop3_reuse_xuidl = yes\n");
    service.deliver("john", "1.a.host", "Subject: one\n\n");
    service.deliver("john", "2.b.host", "X-UIDL: mine\n\n");
    let listing = "+OK\r\n1 old-1\r\n2 mine\r\n.\r\n+OK Logging out.\r\n";
    let (mut client, _) = Client::login(&service, "john");
    client.send("UIDL\r\nQUIT\r\n");
    assert_eq!(client.rest(), listing);
    let list = fs::read_to_string(service.maildir("john").join("dovecot-uidlist")).expect("there");
    assert!(list.contains("\n1 Pold-1 :1.a.host\n2 Pmine :2.b.host\n"), "{list}");
    service.restart_with("pop3_uidl_format = new-%u\n");
    let (mut client, _) = Client::login(&service, "john");
    client.send("UIDL\r\nQUIT\r\n");
    assert_eq!(client.rest(), listing);
}

#[test]
fn workarounds_for_old_clients_are_carried_out() {
    let service = Service::start_with("pop3_client_workarounds = outlook-no-nuls oe-ns-eoh\n");
    service.deliver("john", "1.a.host", "A: b\n");
    service.deliver("john", "2.b.host", "A: b\n\nx\0y\n");
    let (mut client, _) = Client::login(&service, "john");
    client.send("RETR 1\r\nTOP 1 0\r\nTOP 2 9\r\nQUIT\r\n");
    let mut said = Vec::new();
    client.0.read_to_end(&mut said).expect("in time");
    let expected = b"+OK 6 octets\r\nA: b\r\n\r\n.\r\n+OK\r\nA: b\r\n\r\n.\r\n+OK\r\nA: b\r\n\r\nx\x80y\r\n.\r\n+OK Logging out.\r\n";
    assert_eq!(said, expected);
}

#[test]
fn a_deleted_flag_hides_what_would_be_removed() {
    let service = Service::start_with("pop3_deleted_flag = $POP3Deleted\npop3_uidl_format = %f\n");
    service.deliver("john", "1.a.host", "Subject: one\n\n");
    service.deliver("john", "2.b.host", "Subject: two\n\n");
    let (mut client, _) = Client::login(&service, "john");
    assert_eq!(client.say("UIDL 1"), "+OK 1 1.a.host");
    client.send("DELE 1\r\nQUIT\r\n");
    assert!(client.rest().ends_with("+OK Logging out, messages deleted.\r\n"));
    assert_eq!(service.files("john", "cur"), ["1.a.host:2,a", "2.b.host:2,"]);
    let (mut client, _) = Client::login(&service, "john");
    assert_eq!(client.say("UIDL 1"), "+OK 1 2.b.host");
}

#[test]
fn a_mail_location_that_is_not_built_is_refused_and_never_empty() {
    let service = Service::start();
    let (mut client, reply) = Client::login(&service, "odd");
    assert!(reply.starts_with("-ERR [SYS/PERM] "), "{reply}");
    assert_eq!(client.rest(), "");
    let log = service.log_with("not supported: mail_location mdbox:");
    assert!(log.find("pop3-login: Login: user=<odd>") < log.find("mdbox"), "lines in their order: {log}");
}

#[test]
fn without_a_mail_location_only_a_maildir_that_is_there_counts() {
    let service = Service::start();
    let (_, reply) = Client::login(&service, "plain");
    assert!(reply.starts_with("-ERR [SYS/PERM] "), "{reply}");
    service.log_with("no mail_location is set, and ");
    service.log_with("Disconnected: Mail cannot be served");
    let service = Service::start();
    service.deliver("plain", "1.a.host", "Subject: one\n\n");
    let (mut client, _) = Client::login(&service, "plain");
    assert_eq!(client.say("STAT"), "+OK 1 16");
}

#[test]
fn failed_logins_read_as_fail2ban_expects() {
    let service = Service::start();
    let mut client = Client::connect(service.plain);
    client.say("USER john");
    assert_eq!(client.say("PASS wrong"), "-ERR [AUTH] Authentication failed.");
    drop(client);
    let line = " secs): user=<john>, method=PLAIN, rip=127.0.0.1, lip=127.0.0.1, secured, session=<";
    let log = service.log_with(line);
    assert!(log.contains("pop3-login: Disconnected: Connection closed (auth failed, 1 attempts in "), "{log}");
}

#[test]
fn tls_stays_in_the_front_and_what_came_before_it_is_forgotten() {
    // T01, T02
    let service = Service::start();
    service.deliver("john", "1.a.host", "Subject: one\n\n");
    let client = ClientTls::unauthenticated().expect("made");
    let talk = async |stream: tokio::net::TcpStream, text: &str| {
        let mut stream = client.connect(Stream::Tcp(stream), "localhost").await.expect("a handshake");
        stream.write_all(text.as_bytes()).await.expect("open");
        stream.flush().await.expect("open");
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said).await;
        String::from_utf8(said).expect("text")
    };
    let session = "USER john\r\nPASS john\r\nLIST 1\r\nQUIT\r\n";
    let expected = "+OK\r\n+OK Logged in.\r\n+OK 1 16\r\n+OK Logging out.\r\n";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let implicit = tokio::net::TcpStream::connect(service.tls).await.expect("somebody listens");
        assert_eq!(talk(implicit, session).await, format!("+OK Dovecot ready.\r\n{expected}"));
        let mut started = tokio::net::TcpStream::connect(service.plain).await.expect("somebody listens");
        started.write_all(b"USER evil\r\nSTLS\r\n").await.expect("open");
        let mut said = Vec::new();
        while !said.ends_with(b"now.\r\n") {
            assert_ne!(started.read_buf(&mut said).await.expect("in time"), 0);
        }
        assert_eq!(
            talk(started, &format!("PASS evil\r\n{session}")).await,
            format!("-ERR No username given.\r\n{expected}")
        );
    });
    service.log_with(", TLS, session=<");
}

#[test]
fn a_stop_says_goodbye_and_ends_well() {
    let mut service = Service::start();
    let (mut session, _) = Client::login(&service, "john");
    let mut waiting = Client::connect(service.plain);
    let pid = service.daemon.id().to_string();
    assert!(Command::new("kill").arg(pid).status().expect("kill exists").success());
    let goodbye = "-ERR [SYS/TEMP] Server shutting down.\r\n";
    assert_eq!((session.rest().as_str(), waiting.rest().as_str()), (goodbye, goodbye));
    assert!(service.daemon.wait().expect("ours").success());
    assert!(service.log().contains("Disconnected: Server shutting down. top=0/0"), "{}", service.log());
}

#[test]
fn without_its_front_the_daemon_ends_and_nothing_of_it_stays() {
    let mut service = Service::start();
    let front = service.children();
    let (mut session, _) = Client::login(&service, "john");
    let all = service.children();
    let pid = front.first().expect("the front").to_string();
    assert!(Command::new("kill").arg("-9").arg(pid).status().expect("kill exists").success());
    assert!(!service.daemon.wait().expect("ours").success());
    let _ = session.rest();
    let begun = Instant::now();
    // An orphan that nobody has reaped yet is gone as well.
    let lives = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    while all.iter().any(lives) {
        assert!(begun.elapsed() < PATIENCE, "processes stay");
        std::thread::yield_now();
    }
}

#[test]
fn hundreds_of_idle_connections_hold_nobody_up() {
    let service = Service::start();
    let idle: Vec<Client> = (0..400).map(|_| Client::connect(service.plain)).collect();
    let mut long = Client::connect(service.plain);
    for _ in 0..64 {
        long.send(&"x".repeat(16 * 1024));
    }
    assert_eq!(long.say(""), "-ERR Input line too long.");
    let (mut client, _) = Client::login(&service, "john");
    assert_eq!(client.say("STAT"), "+OK 0 0");
    drop(idle);
}
