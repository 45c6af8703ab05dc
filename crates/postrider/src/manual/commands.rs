//! The pages of the commands.

mod mail;

use super::{Page, list};
use crate::commands::COMMANDS;

const DIRECTORY: (&str, &str) = (
    "-c DIR",
    "The directory of main.cf and master.cf. Without it MAIL_CONFIG, /etc/postrider, /etc/postfix, in this order.",
);
const DOVECOT: (&str, &str) =
    ("--dovecot FILE", "dovecot.conf. Without it the one beside main.cf, else /etc/dovecot/dovecot.conf.");

/// A page of section 1 with its options and exit codes.
fn page(
    name: &'static str,
    summary: &'static str,
    synopsis: &'static [&'static str],
    text: &'static [&'static str],
    options: &[(&str, &str)],
    exits: &[(&str, &str)],
) -> Page {
    let lists = [("options", list(options)), ("exit status", list(exits))];
    Page {
        name,
        section: 1,
        summary,
        synopsis,
        text,
        lists: lists.into_iter().filter(|(_, entries)| !entries.is_empty()).collect(),
        see_also: &["postrider(1)", "postrider-main.cf(5)"],
    }
}

/// Every page of a command.
pub(super) fn pages() -> Vec<Page> {
    let mut pages = vec![postrider()];
    pages.extend(system());
    pages.extend(explanations());
    pages.extend(mail::submission());
    pages.extend(mail::queue());
    pages.extend(configuration());
    pages
}

fn postrider() -> Page {
    let commands = COMMANDS.iter().filter(|command| !command.summary.is_empty());
    let entries =
        commands.map(|command| (command.name.to_owned(), format!("{}.", sentence(command.summary)))).collect();
    Page {
        lists: vec![("commands", entries)],
        ..page(
            "postrider",
            "the commands of the mail system",
            &["postrider COMMAND [ARGUMENT ...]", "COMMAND [ARGUMENT ...]"],
            &[
                "One binary for all commands: the first argument names the command, or the name of the link by which it is called. The commands of Postfix and Dovecot keep their names, options, outputs and exit codes.",
                "Every command finds the running system from the configuration directory alone.",
            ],
            &[],
            &[],
        )
    }
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// explain, test.
fn explanations() -> Vec<Page> {
    vec![explain(), test()]
}

fn explain() -> Page {
    page(
        "postrider-explain",
        "say what would become of a message, rule by rule, and what would change that",
        &[
            "postrider explain --client IP --helo NAME --from ADDRESS --to ADDRESS ... [--header FIELD ...] [--name NAME] [--auth USER] [--tls] [--size N]",
            "                  [--port PORT | --service NAME] [--no-dns] [--json] [--why-not [OUTCOME]] [-c DIR] [--dovecot FILE]",
            "postrider explain --client IP --helo NAME --command 'VRFY ADDRESS' | 'ETRN DOMAIN' [the same]",
            "postrider explain --local [--user NAME] [--from ADDRESS] --to ADDRESS ... [--header FIELD ...] [--size N] [the same]",
        ],
        &[
            "Says what the mail system would do with a message, from the connection to the mailbox file or the next server, and why: each command of the session with the reply that smtpd would send, each restriction with its verdict, each table with each key that was asked and the value or that there is none, each rewriting of envelope and header, automatic copies, class, transport, next hop and mail exchangers, aliases, forward files and mailboxes, every step with the file and line that says so, and the lines that the log would show.",
            "The files are read as they are now, not the generation that runs. The functions are those of the daemons. Nothing is changed, nothing is sent, no message is needed, and no root where the files can be read. A login is supposed to succeed; policy services are not asked and no probe is sent, since that leaves traces. What the running queue-manager remembers of an address (reject_unverified_sender, reject_unverified_recipient) is asked for if it talks to the caller (root and the mail owner); where nothing is known yet the answer says what follows from each outcome of the probe.",
            "Users are looked up by the running authd if it talks to the caller (root does), else in the passwd database and in the files of dovecot.conf; the answer says by whom. Names are looked up in DNS by the configured name servers.",
            "QUEUEID stands where the queue id will stand. The output holds no control characters, whatever the arguments and the tables hold.",
        ],
        &[
            ("--client IP", "The client's address."),
            ("--helo NAME", "What it says in EHLO."),
            ("--from ADDRESS", "MAIL FROM, with or without angle brackets; empty or <> for the null sender."),
            ("--to ADDRESS", "RCPT TO; may be given several times, and each recipient has its own chain."),
            (
                "--header FIELD",
                "A field of the header, NAME: VALUE; may be given several times. Shows what its addresses become (canonical, masquerading, myorigin), the fields as they are stored, and as the next server sees them (generic).",
            ),
            (
                "--local",
                "A user of this machine hands the message in with sendmail; there is no client and no session.",
            ),
            ("--user NAME", "Which user; without it whoever asks."),
            (
                "--command TEXT",
                "The client says VRFY ADDRESS or ETRN DOMAIN in the place of sending. Nothing is flushed.",
            ),
            ("--name NAME", "The client's verified name, instead of asking DNS; unknown for none."),
            ("--auth USER", "The client logs in as this user."),
            ("--tls", "The client uses STARTTLS."),
            ("--size N", "The size that MAIL declares, in octets."),
            (
                "--port PORT, --service NAME",
                "The listener, by its port or its name in master.cf. Without it the one on port 25, else the first.",
            ),
            ("--no-dns", "DNS is not asked; names are supposed to exist, and the answer says so."),
            (
                "--why-not [OUTCOME]",
                "Names the smallest changes that would lead to accept, reject, defer, hold or discard; without OUTCOME to the opposite of what happens. Each is made (not in the files) and evaluated, alone, then with up to two others; none that would make the server an open relay is proposed.",
            ),
            ("--json", "One JSON object on one line; docs/explain.md describes it."),
            DIRECTORY,
            DOVECOT,
        ],
        &[
            ("0", "There is an answer, whatever it is."),
            ("64", "The command line is wrong."),
            ("78", "The configuration is wrong."),
        ],
    )
}

fn test() -> Page {
    page(
        "postrider-test",
        "run a file of cases with what must become of them",
        &["postrider test [-c DIR] [--dovecot FILE] [--quiet] [--json] FILE ..."],
        &[
            "Evaluates each case of the files as postrider explain does, and compares what comes out with what the case expects. The parameter postrider_reload_tests names files that every reload runs first; if one case fails, the reload is refused and nothing changes.",
            "A file has one thing per line: a word, blanks, its value. Indentation does not matter; a line that begins with # is a comment. What stands before the first case holds for all.",
            "client, name, helo, from, to, header, auth, tls (yes or no), size, command, local USER, and service or port say what postrider explain takes as options; to and header may stand several times, and those of a case take the place of those before the first case. dns yes, before the first case, allows questions to name servers; without it they are not asked, since a test that the network can break is none.",
            "case NAME begins a case. Each of its lines expect WHAT is checked.",
        ],
        &[
            ("expect accept, reject, defer, hold, discard", "The outcome."),
            ("expect reply TEXT", "A line of the reply that decides begins with TEXT."),
            ("expect says TEXT", "A line of that reply holds TEXT."),
            (
                "expect at COMMAND",
                "The command that is answered so, such as RCPT; end of data for a message that is taken.",
            ),
            ("expect rule NAME", "The restriction, list or parameter that decides."),
            ("expect source FILE:LINE", "The line that decides ends in this."),
            ("expect recipient ADDRESS OUTCOME", "One of several recipients is answered so: accept, reject, defer."),
            ("expect sender ADDRESS", "The envelope sender as it is queued."),
            ("expect copy ADDRESS", "A copy goes there, or with REDIRECT the mail itself."),
            ("expect header FIELD", "A field of the header as it is stored."),
            ("expect recipients A, B ...", "The addresses where the mail ends, all of them."),
            ("expect mailbox PATH", "Some of the mail is written into this Maildir or mbox."),
            ("expect command TEXT", "Some of it is read by a program whose command line holds TEXT."),
            ("expect transport NAME", "Some of it goes by this transport of master.cf."),
            ("expect nexthop NAME", "Some of it goes to this next hop or host."),
            ("expect bounce TEXT", "Some of it is returned, for a reason that holds TEXT."),
            ("--quiet", "Only what fails is shown."),
            ("--json", "One JSON object on one line."),
            DIRECTORY,
            DOVECOT,
        ],
        &[
            ("0", "Every case came out as expected."),
            ("1", "Some did not."),
            ("64", "The command line is wrong."),
            ("65", "A file of cases cannot be read; each mistake is shown with file and line."),
            ("78", "The configuration is wrong."),
        ],
    )
}

/// up, check, reload, publish, adopt, leave, postfix, doctor.
fn system() -> Vec<Page> {
    vec![
        page(
            "postrider-up",
            "start all daemons and keep them alive",
            &["postrider up [-c DIR] [--dovecot FILE] [--log-dir DIR] [--workers local-delivery=N,remote-delivery=N]"],
            &[
                "Checks and publishes the configuration, prints what of it has no effect, starts every daemon in order, and says `postrider: ready' when all of them are. It stays in the foreground: for containers, trials and tests. Under systemd postrider.target does the same.",
                "A daemon that dies is started again at once, after further deaths with a pause that grows from 100 milliseconds to 5 seconds. One that ends with 78 (wrong configuration) stays down until a reload. imapd and pop3d run only where dovecot.conf lists their protocol.",
                "SIGHUP checks and publishes the files again and has every daemon take them; SIGTERM and SIGINT stop the daemons in order, a second one at once. When up itself is killed, the daemons end with it.",
                "Each daemon's log is INSTANCE.log in the log directory; what a daemon says on its standard error goes there too.",
            ],
            &[
                DIRECTORY,
                DOVECOT,
                ("--log-dir DIR", "Where the logs go; log/ in the state directory without it."),
                ("--workers NAME=N", "How many instances of local-delivery and remote-delivery run."),
            ],
            &[
                ("0", "A signal asked to stop."),
                ("64", "The command line is wrong."),
                ("69", "The state directory cannot be used, or another up runs there."),
                ("78", "The configuration is wrong, or every daemon found it so."),
            ],
        ),
        page(
            "postrider-check",
            "say what of the configuration is supported",
            &["postrider check [-c DIR] [--dovecot FILE] [--json] [--serves PROTOCOL]"],
            &[
                "Prints one line per parameter of the files: supported, partly, no effect and why, or not built. Mistakes are shown with file, line, column and what to write instead.",
                "What is dangerous is named with its line, what it means, and the mend: a listener that would relay for strangers, networks that are too wide, tables, password files and keys that others may write or read, files that are missing, directories of the state that are open.",
                "Nothing is changed, and nothing needs to run.",
            ],
            &[
                DIRECTORY,
                DOVECOT,
                (
                    "--json",
                    "A list of objects: file, line, parameter, status (supported, partly, no effect, later, unknown, wrong, danger), effect, mend.",
                ),
                ("--serves PROTOCOL", "Prints nothing; 0 if dovecot.conf asks for imap or pop3, else 1."),
            ],
            &[("0", "The mail system can start with these files."), ("78", "It cannot.")],
        ),
        page(
            "postrider-reload",
            "have changed files taken",
            &["postrider reload [-c DIR]", "postfix [-c DIR] reload"],
            &[
                "Checks the files, and runs the cases of postrider_reload_tests. If anything is wrong, nothing changes. Else they are published as a new generation, and the command waits until every daemon runs on it; it names those that do not.",
            ],
            &[DIRECTORY],
            &[
                ("0", "Every daemon has the new generation."),
                ("1", "The mail system is down, or a daemon lags."),
                ("78", "The files are wrong."),
            ],
        ),
        page(
            "postrider-publish",
            "check and publish the configuration",
            &["postrider publish [-c DIR] [--dovecot FILE]"],
            &[
                "Writes the checked files as the generation that daemons read at their next start or reload. The units call it before they start a daemon. The number stays where nothing has changed.",
            ],
            &[DIRECTORY, DOVECOT],
            &[("0", "Published."), ("78", "The files are wrong; the generation before stays.")],
        ),
        page(
            "postrider-adopt",
            "take over from Postfix and Dovecot",
            &["postrider adopt [-c DIR] [--dovecot FILE] [--root DIR] [--json] [--yes]"],
            &[
                "Looks at the machine and prints what is there: the files, tables without their text, Maildirs, the ports of mail with the programs that listen on them, missing users, the messages of Postfix's queue by state. Then how much of the files is carried out, what will differ, and the commands to type. Without --yes nothing is changed. Files that would not start are surveyed as far as they can be read; what is wrong with them comes last.",
                "With --yes users and groups of the daemons that are missing are made (root asks; with --root they are not), /etc/postrider becomes a link to the directory of main.cf, and Postfix's queue is taken over: envelope, content, time of arrival, hold, DSN parameters, the reasons of deferred mail. Postfix and Postrider must be stopped. Files of Postfix's configuration are never edited. The log names each message's old and new id.",
                "What only Postfix can carry out (content filters, VERP), what is incomplete, damaged or not understood is left in its queue and named. Files that were taken lie in adopted/files of the state directory.",
                "The command may be killed at any moment and run again.",
            ],
            &[
                ("-c DIR", "The directory of Postfix's main.cf; /etc/postfix without it."),
                DOVECOT,
                ("--root DIR", "A directory that stands for /, for a trial."),
                ("--json", "The survey and the account as JSON."),
                ("--yes", "Do it."),
            ],
            &[
                ("0", "Done; with --yes, nothing was left behind."),
                ("75", "Postfix or Postrider runs, or messages were left behind."),
                ("69", "The users of the daemons cannot be made."),
                ("78", "The files would not start, /etc/postrider is something else, or a user is missing."),
            ],
        ),
        page(
            "postrider-leave",
            "hand the queue back to Postfix",
            &["postrider leave [-c DIR] [--dovecot FILE] [--json] [--yes]"],
            &[
                "Without --yes it says how many messages wait and which tables would be built. With --yes every queued message becomes a file of the installed Postfix's queue: held mail stays held, deferred mail waits as long and for the same reason, recipients that are done are not delivered again, DSN parameters and time of arrival stay. Tables whose text is newer than what Postfix reads are built with its own postmap and postalias. Postfix and Postrider must be stopped.",
                "At the end both queues are counted again, and an account is printed. A message that Postfix cannot be given (damaged content, a member of a list that Postfix would expand once more) is left and named.",
                "The command may be killed at any moment and run again.",
            ],
            &[DIRECTORY, DOVECOT, ("--json", "The account as JSON."), ("--yes", "Do it.")],
            &[
                ("0", "Nothing is left."),
                ("69", "No Postfix is installed."),
                ("70", "A message is unaccounted for."),
                ("75", "Postfix or Postrider runs, or messages are left."),
            ],
        ),
        page(
            "postfix",
            "the mail system as a whole",
            &["postfix [-c DIR] start|stop|reload|status|check|flush|abort"],
            &[
                "start runs postrider up in the background (or postrider.target, where systemd runs the machine and the units are installed) and waits until the mail system is ready. stop stops it in order, abort at once. reload has changed files taken. status says what runs. check is postrider check. flush attempts all mail that waits.",
            ],
            &[DIRECTORY],
            &[
                ("0", "Done."),
                ("1", "The mail system is not in the state that the command needs."),
                ("78", "The files are wrong."),
            ],
        ),
        page(
            "postrider-doctor",
            "ask a server whether it is an open relay",
            &["postrider doctor --relay HOST[:PORT] [--to ADDRESS]"],
            &[
                "Asks the server to take mail for somebody else in every known way: foreign, null and local senders, HELO localhost, %-hack, bang path, quoted @, source route, address literals. Each attempt stops before DATA; no mail is sent. Each answer is shown, then a verdict.",
                "Ask from outside: a client of mynetworks is permitted to relay, and the answers then say nothing.",
            ],
            &[
                ("--relay HOST[:PORT]", "The server; port 25 without one."),
                ("--to ADDRESS", "The foreign recipient; relay-test@example.com without it."),
            ],
            &[
                ("0", "Every attempt was refused."),
                ("1", "The server relays, or takes an address that it may take apart and relay."),
                ("69", "The server cannot be reached."),
                ("75", "The answers do not tell."),
            ],
        ),
    ]
}

/// postconf, postmap, postalias, doveconf.
fn configuration() -> Vec<Page> {
    vec![
        page(
            "postconf",
            "show and edit main.cf and master.cf",
            &[
                "postconf [-dfhHjnx] [-c DIR] [-C CLASS,...] [-o NAME=VALUE] [PARAMETER ...]",
                "postconf [-e] [-c DIR] PARAMETER=VALUE ...",
                "postconf -# | -X [-c DIR] PARAMETER ...",
                "postconf -M | -F | -P [-fhHjx] [-c DIR] [SERVICE[/TYPE[/PART]] ...]",
                "postconf -M | -F | -P [-e | -# | -X] [-c DIR] SERVICE/TYPE[/PART][=VALUE] ...",
                "postconf -m | -l | -a | -A | -T MODE",
            ],
            &[
                "Shows what main.cf says, completed with defaults, or what master.cf says; or edits them. Values are shown as they are written: whether they are right says `postrider check'. Names that nothing uses are warned about.",
                "An edit of main.cf changes every definition of the parameter, keeps comments, owner and mode, and puts the new file in place at once. An entry of master.cf that is edited is written anew. The daemons take it at the next reload.",
            ],
            &[
                DIRECTORY,
                ("-d", "Defaults instead of what is written."),
                ("-n", "Only what is written."),
                ("-h, -H", "Only values, only names."),
                ("-x", "With $name replaced."),
                ("-f", "Long lines folded."),
                ("-j", "As a list of JSON objects."),
                (
                    "-C",
                    "Only parameters of these classes: builtin, service (of a transport), user (that the files invent), all.",
                ),
                ("-o", "As if main.cf said so."),
                ("-e", "Sets the parameters; a new one comes to the end of the file. The option may be left out."),
                ("-#", "Makes comments of the parameters' or services' lines."),
                ("-X", "Removes the parameters' or services' lines."),
                ("-M", "Services of master.cf; `*' is any name or type."),
                ("-F", "Single fields of services: private, unprivileged, chroot, wakeup, process_limit, command."),
                ("-P", "Single parameters of services, those of -o."),
                ("-m, -l, -a, -A", "The types of tables, of locks, of SASL in the server and in the client."),
                ("-T", "The TLS library (compile-version, run-version) or its kinds of keys (public-key-algorithms)."),
            ],
            &[
                ("0", "Shown or edited."),
                ("1", "Wrong options, or a file cannot be read or written; nothing was changed."),
                ("69", "Something that is not built was asked for: -b or -t."),
            ],
        ),
        page(
            "postmap",
            "check a table, or look a key up in it",
            &[
                "postmap [-c DIR] [TYPE:]FILE ...",
                "postmap [-c DIR] -q KEY [TYPE:]FILE ...",
                "postmap [-c DIR] -s [TYPE:]FILE ...",
                "postmap [-c DIR] -d KEY [TYPE:]FILE ...",
                "postmap [-c DIR] -i [-r] [TYPE:]FILE ... < ENTRIES",
            ],
            &[
                "Without -d, -i, -q and -s it checks the source and tells the daemons to read it now; without that they notice a change after two seconds. No .db file is written: the source is the table, also for hash: and btree:.",
                "A table without a type is of default_database_type.",
            ],
            &[
                DIRECTORY,
                (
                    "-q KEY",
                    "Prints the first value that a table has for the key. With `-' each line of standard input is a key.",
                ),
                ("-s", "Lists keys and values."),
                (
                    "-d KEY",
                    "Takes the key's entries out of the source of a hash: or btree: table, and has the daemons read it. With `-' each line of standard input is a key. Postfix's changes only its .db.",
                ),
                (
                    "-i",
                    "Puts the entries of standard input at the end of the source; one whose key is there already is left out, with a warning.",
                ),
                ("-r", "With -i: such an entry takes the old one's place."),
            ],
            &[
                ("0", "Done, or found."),
                ("1", "Not found, or a file cannot be read."),
                ("75", "A daemon keeps the old table."),
            ],
        ),
        page(
            "postalias",
            "check an alias file, or look a name up in it",
            &[
                "postalias [-c DIR] [TYPE:]FILE ...",
                "postalias [-c DIR] -q NAME [TYPE:]FILE ...",
                "postalias [-c DIR] -d NAME [TYPE:]FILE ...",
                "postalias [-c DIR] -i [-r] [TYPE:]FILE ... < ENTRIES",
            ],
            &["As postmap(1), for sources in the form `name: member, member'."],
            &[
                DIRECTORY,
                ("-q NAME", "Prints the members of a name."),
                ("-s", "Lists names and members."),
                ("-d, -i, -r", "As those of postmap(1)."),
            ],
            &[("0", "Done, or found."), ("1", "Not found, or a file cannot be read.")],
        ),
        page(
            "doveconf",
            "show what dovecot.conf says",
            &["doveconf [-adhnNPsSx] [-c FILE] [-f FILTER=VALUE] [-m MODULE] [SETTING ...]"],
            &[
                "Prints the settings and blocks of dovecot.conf with includes resolved, sorted as Dovecot 2.3 sorts them. A setting is named by its path, such as service/imap-login or plugin/quota. Passwords and keys are not shown. `dovecot -n' is the same. Of Dovecot's other commands none is there.",
            ],
            &[
                ("-n", "Only what differs from the defaults."),
                ("-a", "Everything, the defaults of Dovecot 2.3.19 included; so it is without -n."),
                ("-d", "Only the defaults."),
                ("-N", "Everything that is written, defaults too."),
                (
                    "-f",
                    "As a connection sees it: protocol=imap, remote=ADDRESS, local=ADDRESS, lname=NAME; several of them together. What stands in the filters that hold is shown with the rest.",
                ),
                (
                    "-m MODULE",
                    "Only what a part of Dovecot reads: imap, imap-login, pop3, pop3-login, lmtp, auth, mail and so on.",
                ),
                ("-h", "Only the values of the settings that are named."),
                ("-S", "A line PATH=VALUE for each setting."),
                ("-P", "Secrets too."),
                ("-x", "With the contents of files that values name."),
                ("-c FILE", "dovecot.conf."),
            ],
            &[("0", "Shown."), ("89", "The file or the command line is wrong; Dovecot's programs end so.")],
        ),
    ]
}
