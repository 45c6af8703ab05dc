//! What DNS says decides as with Postfix: unknown domains, DNS lists, the hosts of a name, backup mail servers. Both run in one machine of their own,
//! with one name server.

use test_support::Machine;

/// What both are asked about.
const ZONE: &str = "\
mx good.example 10 mx.good.example
a mx.good.example 198.51.100.7
ns good.example ns.good.example
a ns.good.example 203.0.113.53
a alone.example 198.51.100.8
mx null.example 0 .
fail broken.example
a host.good.example 192.0.2.1
mx backup.example 10 mx.good.example
mx backup.example 20 mail.info.net
a mail.info.net 127.0.0.1
a 1.2.0.192.bl.example 127.0.0.4
txt 1.2.0.192.bl.example listed for $helo_name
a 7.100.51.198.bl.example 127.0.0.20
fail 9.2.0.192.bl.example
a 1.2.0.192.wl.example 127.0.0.1
fail 9.2.0.192.wl.example
a good.example.dbl.example 127.0.1.2
a host.good.example.dbl.example 127.0.1.3
txt host.good.example.dbl.example bad host
a 1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.bl.example 127.0.0.2
";

const MAIN_CF: &str = "compatibility_level = 3.6\nmyhostname = mail.info.net\nmydomain = info.net\nmydestination = info.net\nmynetworks = 10.0.0.0/8\n\
    inet_interfaces = loopback-only\nalias_maps =\nlocal_recipient_maps =\nlocal_transport = discard\ndefault_transport = discard\n\
    smtpd_authorized_xclient_hosts = 0.0.0.0/0, [::]/0\nsmtpd_error_sleep_time = 0\nsmtpd_hard_error_limit = 1000\nsmtpd_peername_lookup = no\n\
    smtpd_tls_security_level = none\nrelay_domains = relay.example\n\
    smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination\n";

/// Each service's overrides, on ports from 2600 (theirs) and 2700 (ours).
const SERVICES: [&[&str]; 16] = [
    &["smtpd_sender_restrictions = reject_unknown_sender_domain"],
    &["smtpd_sender_restrictions = reject_unknown_sender_domain", "unknown_address_reject_code = 550"],
    &["smtpd_sender_restrictions = reject_unknown_sender_domain", "unknown_address_tempfail_action = defer"],
    &["smtpd_recipient_restrictions = reject_unknown_recipient_domain", "mynetworks = 0.0.0.0/0, [::]/0"],
    &["smtpd_helo_restrictions = reject_unknown_helo_hostname", "unknown_hostname_reject_code = 550"],
    &["smtpd_client_restrictions = reject_rbl_client none.example, reject_rbl_client bl.example"],
    &["smtpd_client_restrictions = reject_rbl_client bl.example=127.0.0.[2..11]", "maps_rbl_reject_code = 550"],
    &[
        "smtpd_client_restrictions = reject_rbl_client bl.example",
        "rbl_reply_maps = inline:{ {bl.example = $$rbl_code 5.1.1 $$rbl_class [$$rbl_what] at $$rbl_domain: $$rbl_reason $$client_name} }",
    ],
    &["smtpd_recipient_restrictions = permit_dnswl_client wl.example, reject"],
    &["smtpd_relay_restrictions = permit_dnswl_client wl.example, reject_unauth_destination"],
    &[
        "smtpd_recipient_restrictions = reject_rhsbl_client dbl.example, reject_rhsbl_helo dbl.example, reject_rhsbl_sender dbl.example",
    ],
    &[
        "smtpd_sender_restrictions = check_sender_mx_access inline:{ {198.51.100.7 = REJECT mx} {alone.example = 550 its own} }",
    ],
    &["smtpd_sender_restrictions = check_sender_ns_access inline:{ {ns.good.example = REJECT ns} }"],
    &["smtpd_sender_restrictions = check_sender_mx_access inline:{ {good.example = OK} }, reject"],
    &[
        "smtpd_helo_restrictions = check_helo_a_access inline:{ {192.0.2 = REJECT a} }, check_helo_mx_access inline:{ {alone.example = 450 later} }",
    ],
    &[
        "smtpd_relay_restrictions = permit_mx_backup, reject_unauth_destination",
        "permit_mx_backup_networks = 198.51.100.0/24",
    ],
];

const CLIENTS: [(&str, &str); 5] = [
    ("host.good.example", "192.0.2.1"),
    ("[UNAVAILABLE]", "192.0.2.9"),
    ("other.example", "198.51.100.7"),
    ("friend.example", "10.1.1.1"),
    ("[UNAVAILABLE]", "IPV6:2001:db8::1"),
];

/// What each client says. Not every sender with every recipient: a failing name costs time.
const DIALOGUES: [(&str, &str, &[&str]); 7] = [
    ("host.good.example", "a@good.example", &["john@info.net", "x@good.example"]),
    ("alone.example", "a@sub.good.example", &["x@backup.example", "x@gone.example"]),
    ("gone.example", "a@gone.example", &["john@info.net", "x@y.gone.example"]),
    ("[192.0.2.1]", "a@alone.example", &["x@null.example", "x@relay.example"]),
    ("good.example", "a@null.example", &["john@info.net"]),
    ("broken.example", "a@broken.example", &["john@info.net", "x@broken.example"]),
    ("host.good.example", "", &["john@info.net"]),
];

/// Reads `PORT` and lines, and prints each reply on a line.
const CLIENT: &str = r#"
import socket, sys
out = []
for block in sys.stdin.read().split("\n\n"):
    lines = block.strip("\n").split("\n")
    if not lines[0]:
        continue
    connection = socket.create_connection(("127.0.0.1", int(lines[0])), 60)
    stream = connection.makefile("rwb", 0)
    def reply():
        text = b""
        while True:
            line = stream.readline()
            if not line:
                return text + b"closed"
            if text.startswith(b"250-") or line.startswith(b"250-"):
                text = b"250-"
            else:
                text += line.rstrip()
            if line[3:4] != b"-":
                return text
    reply()
    for line in lines[1:]:
        stream.write(line.encode() + b"\r\n")
        print(line, "=>", reply().decode(errors="replace"))
    stream.close()
    connection.close()
"#;

pub fn decide_as_with_postfix() -> Result<(), String> {
    let machine = Machine::new("mail.info.net")?;
    machine.install()?;
    let _names = machine.name_server(ZONE)?;
    machine.shell("rm -rf /var/spool/postfix /var/lib/postfix && mkdir -p /etc/ours /var/spool/postfix /var/lib/postfix && chown postfix /var/lib/postfix")?;
    let services = |first: usize, limit: &str| -> String {
        let line = |(at, overrides): (usize, &&[&str])| {
            let options: String = overrides.iter().map(|text| format!("  -o {{ {text} }}\n")).collect();
            format!("127.0.0.1:{} inet n - n - {limit} smtpd\n{options}", first + at)
        };
        SERVICES.iter().enumerate().map(line).collect()
    };
    let inside = "cleanup unix n - n - 0 cleanup\nqmgr unix n - n 300 1 qmgr\nrewrite unix - - n - - trivial-rewrite\n\
        anvil unix - - n - 1 anvil\ndiscard unix - - n - - discard\nproxymap unix - - n - - proxymap\npostlog unix-dgram n - n - 1 postlogd\n";
    machine.write("/etc/postfix/main.cf", &format!("{MAIN_CF}maillog_file = /var/log/postfix.log\n"))?;
    machine.write("/etc/postfix/master.cf", &format!("{}{inside}", services(2600, "5")))?;
    machine.write("/etc/ours/main.cf", MAIN_CF)?;
    machine.write("/etc/ours/master.cf", &services(2700, "-"))?;
    machine.write("/etc/ours/dovecot.conf", "protocols =\n")?;
    machine.write("/run/client.py", CLIENT)?;
    machine.shell("/usr/sbin/postfix start")?;
    machine.start_up("-c /etc/ours --dovecot /etc/ours/dovecot.conf")?;
    let logs = || machine.read("/run/up.out /var/spool/postrider/log/* /var/log/postfix.log");
    for port in [2600, 2700] {
        machine.wait_for_port(port).map_err(|error| format!("{error}\n{}", logs()))?;
    }
    let (theirs, ours) = (talk(&machine, 2600)?, talk(&machine, 2700)?);
    let differences: Vec<String> = theirs
        .iter()
        .zip(&ours)
        .filter(|((_, their), (_, our))| their != our)
        .map(|((what, their), (_, our))| format!("{what}\n  Postfix: {their}\n  ours:    {our}"))
        .collect();
    if theirs.len() != ours.len() || !differences.is_empty() {
        let shown = differences.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
        return Err(format!("{} of {} replies differ\n{shown}\n", differences.len(), theirs.len()));
    }
    Ok(())
}

/// Every dialogue of every client with every service: what was said to whom, and the reply.
fn talk(machine: &Machine, first: usize) -> Result<Vec<(String, String)>, String> {
    let mut all = Vec::new();
    for (at, overrides) in SERVICES.iter().enumerate() {
        let mut input = String::new();
        // Only lists of clients look at more than one client.
        let clients =
            if overrides[0].contains("_client") || overrides[0].contains("permit") { CLIENTS.len() } else { 1 };
        for (name, address) in CLIENTS.into_iter().take(clients) {
            input.push_str(&format!("{}\n", first + at));
            for (helo, sender, recipients) in DIALOGUES {
                input.push_str(&format!(
                    "RSET\nXCLIENT NAME={name} ADDR={address}\nEHLO {helo}\nMAIL FROM:<{sender}>\n"
                ));
                recipients.iter().for_each(|recipient| input.push_str(&format!("RCPT TO:<{recipient}>\n")));
            }
            input.push('\n');
        }
        let output = machine.shell_with("python3 /run/client.py", &input)?;
        let replies = output.lines().filter_map(|line| line.split_once(" => "));
        all.extend(replies.map(|(line, reply)| (format!("{overrides:?}: {line}"), reply.to_owned())));
    }
    Ok(all)
}
