//! The pages of the daemons.

use super::{Page, list};

/// What all daemons take.
const OPTIONS: &[(&str, &str)] = &[
    (
        "-c DIR",
        "The directory of main.cf and master.cf. Without it MAIL_CONFIG, /etc/postrider, /etc/postfix, in this order.",
    ),
    ("--dovecot FILE", "dovecot.conf. Without it the one beside main.cf, else /etc/dovecot/dovecot.conf."),
    ("--name INSTANCE", "The name of this instance for log, control socket and leases, such as local-delivery@2."),
    ("--log-dir DIR", "Where the daemon's own log INSTANCE.log goes; log/ in the state directory without it."),
];

const EXITS: &[(&str, &str)] = &[
    ("0", "It was asked to stop, and what was under way is finished."),
    ("71", "The system refuses something, such as a port that is taken. Starting again may help."),
    ("78", "The configuration is wrong; the message names file and line. Starting again does not help."),
];

const SIGNALS: &[(&str, &str)] = &[
    ("SIGHUP", "Takes the newest published generation of the configuration."),
    ("SIGTERM", "Stops accepting, finishes what is under way, ends."),
];

fn page(name: &'static str, summary: &'static str, text: &'static [&'static str]) -> Page {
    Page {
        name,
        section: 8,
        summary,
        synopsis: match name {
            "authd" => &["authd [-c DIR] [--dovecot FILE] [--name INSTANCE] [--log-dir DIR]"],
            "queue-manager" => &["queue-manager [-c DIR] [--name INSTANCE] [--log-dir DIR]"],
            "local-delivery" => &["local-delivery [-c DIR] [--dovecot FILE] [--name INSTANCE] [--log-dir DIR]"],
            "remote-delivery" => &["remote-delivery [-c DIR] [--name INSTANCE] [--log-dir DIR]"],
            "smtpd" => &["smtpd [-c DIR] [--dovecot FILE] [--name INSTANCE] [--log-dir DIR]"],
            "pop3d" => &["pop3d [-c DIR] [--dovecot FILE] [--name INSTANCE] [--log-dir DIR]"],
            _ => &["imapd [-c DIR] [--dovecot FILE] [--name INSTANCE] [--log-dir DIR]"],
        },
        text,
        lists: vec![("options", list(OPTIONS)), ("signals", list(SIGNALS)), ("exit status", list(EXITS))],
        see_also: &["postrider(1)", "postrider-up(1)", "postrider-main.cf(5)", "postrider-dovecot.conf(5)"],
    }
}

/// All seven.
pub(super) fn pages() -> Vec<Page> {
    vec![
        page(
            "smtpd",
            "the door through which mail comes in",
            &[
                "smtpd speaks SMTP on the ports of the inet lines of master.cf, takes what sendmail(1) hands in on public/submit.sock, and picks up what postdrop(8) left in maildrop/. All of it passes the same checks, the same completion of headers and the same rewriting.",
                "It relays for clients of mynetworks, for users who have logged in, and to the domains that are ours. It answers 250 to a message only after queue-manager(8) has it on disk.",
                "It runs as the user postrider-smtpd. The key of its certificate is read by a monitor and handed on.",
            ],
        ),
        page(
            "queue-manager",
            "the owner of the queue",
            &[
                "queue-manager keeps every accepted message on disk until each recipient has come to an end: delivered, relayed, bounced, deleted. It hands recipients to delivery workers, repeats what failed for now after minimal_backoff_time to maximal_backoff_time, and returns to the sender what failed for ever or for too long.",
                "A message is accepted only after it is on disk. The process may be killed at any moment: what was accepted is delivered after the next start.",
                "mailq(1), postqueue(1), postsuper(1) and postcat(1) ask it over public/control.sock.",
                "It runs as the user postrider.",
            ],
        ),
        page(
            "local-delivery",
            "delivery to the users of this machine and of dovecot.conf",
            &[
                "local-delivery takes recipients from queue-manager(8), expands aliases, and writes messages into Maildirs and mbox files, each as the user to whom the mailbox belongs.",
                "Several instances may run: systemctl start local-delivery@2, or postrider up --workers local-delivery=2.",
                "The coordinator runs as the user postrider-local.",
            ],
        ),
        page(
            "remote-delivery",
            "delivery to other servers",
            &[
                "remote-delivery takes recipients from queue-manager(8), looks up the mail exchangers of their domain (or takes relayhost, or the next hop of transport_maps), and hands messages on by SMTP or LMTP, encrypted where the other side can.",
                "Several instances may run: systemctl start remote-delivery@2, or postrider up --workers remote-delivery=2.",
                "It runs as the user postrider-remote.",
            ],
        ),
        page(
            "authd",
            "logins and user lookups",
            &[
                "authd checks passwords for smtpd(8), pop3d(8) and imapd(8) against the passdb blocks of dovecot.conf, and answers where a user's mail is from its userdb blocks. Nobody else reads password files.",
                "Failed logins are slowed and logged.",
                "It runs as the user postrider-auth; what needs root (PAM, shadow) is done by helpers.",
            ],
        ),
        page(
            "pop3d",
            "mail by POP3",
            &[
                "pop3d serves the POP3 ports of dovecot.conf. Before the login a process without rights talks to the client; after it a process of the mailbox's owner, one per user, that can reach that mailbox only.",
            ],
        ),
        page(
            "imapd",
            "mail by IMAP",
            &[
                "imapd serves the IMAP ports of dovecot.conf. Before the login a process without rights talks to the client; after it a process of the mailbox's owner, one per user, that can reach that mailbox only.",
            ],
        ),
    ]
}
