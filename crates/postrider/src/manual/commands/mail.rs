//! The pages of the commands that hand mail in, and of those about the queue.

use super::{DIRECTORY, page};
use crate::manual::Page;

/// sendmail, mailq, newaliases, postdrop.
pub(super) fn submission() -> Vec<Page> {
    vec![
        page(
            "sendmail",
            "hand in a message",
            &["sendmail [OPTION ...] [RECIPIENT ...]", "mailq [--json]", "newaliases"],
            &[
                "Reads a message from standard input up to its end, or up to a line with only a dot, and hands it to smtpd(8) over public/submit.sock. Exit code 0 means that the message is on disk in the queue. When smtpd cannot take it now, postdrop(8) keeps it in maildrop/ until it can.",
                "Bcc and Resent-Bcc fields are removed. Arguments with control characters are refused.",
                "Options of Sendmail that have no meaning here are accepted and ignored, as Postfix does.",
            ],
            &[
                ("-t", "Adds the recipients of To, Cc and Bcc; of the Resent- fields, where there are any, instead."),
                ("-i, -oi", "A line with only a dot is part of the message."),
                ("-f SENDER, -r SENDER", "The envelope sender, to whom failures are reported; empty for nobody."),
                ("-F NAME", "The full name for the From field of a message that has none."),
                ("-N LIST", "When the sender wants to hear: failure, delay, success, or never."),
                ("-R full|hdrs", "How much of the message a failure report carries."),
                ("-V ID", "The envelope id in reports."),
                ("-B 7BIT|8BITMIME", "The type of the body; it is found out anyway."),
                ("-bp", "Lists the queue, as mailq does."),
                ("-bi, -I", "Has the aliases taken, as newaliases does; -oAFILE names the file."),
                (
                    "-bv",
                    "Reads no message and delivers nothing: the sender gets a report of what would become of each recipient. Aliases and forward files are followed to their ends, other servers are asked up to RCPT TO, and each is attempted once.",
                ),
                ("-v", "Beside the delivery, the sender gets a report of the first attempt for each recipient."),
                ("-bs", "Speaks SMTP on standard input and output; each message is handed in as the caller's."),
                ("-bd, -bl", "Starts the mail system, as postfix start does."),
                ("-q, -qIID, -qRSITE", "Attempts what waits: all of it, one message, what goes to one site."),
                ("-C DIR", "The directory of main.cf, or main.cf itself."),
            ],
            &[
                ("0", "Done; the message is on disk."),
                ("64", "A control character in an argument."),
                ("69", "The message was refused for ever, or what was asked for is not supported (-XV)."),
                ("75", "Not now, or the command line is wrong (as with Postfix)."),
                ("77", "authorized_submit_users does not permit the caller."),
            ],
        ),
        page(
            "mailq",
            "list the queue",
            &["mailq [--json]"],
            &[
                "As postqueue -p: queue id, size, arrival, sender, and the recipients that are not done with the reason why they wait. An asterisk after the id marks a message that is being attempted, an exclamation mark one that is on hold.",
            ],
            &[("--json", "One JSON object per message, as postqueue -j.")],
            &[
                ("0", "Listed."),
                ("69", "queue-manager is down."),
                ("77", "authorized_mailq_users does not permit the caller."),
            ],
        ),
        page(
            "newaliases",
            "have changed aliases taken at once",
            &["newaliases"],
            &[
                "Checks the files of alias_database and tells the daemons to read them now; without it they notice a change after two seconds. No .db file is written.",
            ],
            &[],
            &[("0", "Taken."), ("1", "A file cannot be read."), ("75", "A daemon keeps the old table.")],
        ),
        Page {
            section: 8,
            ..page(
                "postdrop",
                "keep a message until smtpd is back",
                &["postdrop [-c DIR] [-rv]"],
                &[
                    "sendmail(1) runs it when smtpd(8) cannot be reached. It writes one limited file into maildrop/ of the state directory and ends with 0 only after file and directory are on disk.",
                    "It is installed set-gid postdrop, the group that may write that directory. A directory other than the default one must be listed in alternate_config_directories of the default main.cf, unless root calls.",
                ],
                &[("-c DIR", "The directory of main.cf.")],
                &[
                    ("0", "The message is on disk."),
                    ("65", "The input is no submission."),
                    ("69", "The message is larger than message_size_limit."),
                    ("75", "Not now."),
                    ("77", "The caller may not."),
                ],
            )
        },
    ]
}

/// postqueue, postsuper, postcat.
pub(super) fn queue() -> Vec<Page> {
    vec![
        page(
            "postqueue",
            "list the queue, attempt what waits",
            &["postqueue [-c DIR] -p|-j|-f", "postqueue [-c DIR] -i ID", "postqueue [-c DIR] -s SITE"],
            &[
                "Asks queue-manager(8). The listing has the columns of Postfix's, and -j the members of Postfix's objects: queue_name, queue_id, arrival_time, message_size, forced_expire, sender, recipients with address and delay_reason. Members of our own are dsn and next_attempt of a recipient, and more_recipients where a message has more than are listed.",
            ],
            &[
                DIRECTORY,
                ("-p", "Lists the queue."),
                ("-j", "Lists the queue as one JSON object per line."),
                ("-f", "Attempts all mail that waits."),
                ("-i ID", "Attempts one message; an unknown id is no error."),
                ("-s SITE", "Attempts what goes to a domain."),
            ],
            &[
                ("0", "Done."),
                ("1", "The command line is wrong."),
                ("69", "The mail system is down."),
                ("77", "The caller may not."),
            ],
        ),
        page(
            "postsuper",
            "delete, expire, hold, release or requeue messages",
            &["postsuper [-c DIR] [-d ID] [-e ID] [-f ID] [-h ID] [-H ID] [-r ID] [QUEUE ...]"],
            &[
                "For root and the owner of the queue. An option may be given several times; ID may be `-' for ids from standard input, one per line, or ALL in capitals. With names of queues (incoming, active, deferred, hold, corrupt) only messages in these are meant.",
                "What is done is on disk before the count is printed. Structure checks (-p, -s, -S) are accepted and do nothing: queue-manager checks its files at every start.",
            ],
            &[
                DIRECTORY,
                ("-d ID", "Deletes without a report to the sender."),
                (
                    "-e ID",
                    "Expires: the message goes back to its sender at once, with the reason why it waited. One on hold stays.",
                ),
                ("-f ID", "As -e, messages on hold too."),
                ("-h ID", "Puts on hold."),
                ("-H ID", "Releases from hold."),
                ("-r ID", "Requeues: routing begins anew."),
            ],
            &[
                ("0", "Done."),
                ("1", "The caller may not, or the command line is wrong."),
                ("69", "The mail system is down."),
            ],
        ),
        page(
            "postcat",
            "show a message of the queue",
            &["postcat [-c DIR] [-beh] -q ID ..."],
            &[
                "Prints envelope and content of messages in the queue, in the form of Postfix's postcat. Messages are not files here, so -q is always needed.",
            ],
            &[
                DIRECTORY,
                ("-q", "The arguments are queue ids."),
                ("-e", "Only the envelope."),
                ("-h", "Only the header."),
                ("-b", "Only the body; -bh is the whole content."),
            ],
            &[
                ("0", "Shown."),
                ("1", "There is no such message, or the caller may not."),
                ("69", "The mail system is down."),
            ],
        ),
    ]
}
