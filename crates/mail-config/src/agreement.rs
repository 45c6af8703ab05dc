//! Whether main.cf delivers to the place that dovecot.conf reads.

use crate::config::Config;
use crate::dovecot::{Format, Location};
use crate::report::{Level, Report};

/// Warns where local(8) stores mail that no login would show.
pub(crate) fn report(config: &Config, reports: &mut Vec<Report>) {
    let (main, dovecot) = (&config.main, &config.dovecot);
    let logs_in = dovecot.raw().present && (dovecot.serves("imap") || dovecot.serves("pop3"));
    let delivers = main.local_transport.split(':').next() == Some("local") && !main.mydestination.is_empty();
    if !logs_in || !delivers {
        return;
    }
    let (place, is_maildir, source) = delivery(config);
    let reads = match &dovecot.location {
        Location::At { format: Format::Maildir, path, inbox, .. } => {
            inbox.as_ref().unwrap_or(path).trim_end_matches('/').to_owned()
        }
        Location::Detect => "~/Maildir".to_owned(),
        // That it is not built has its own report.
        Location::Unsupported(_) => return,
    };
    if !is_maildir || spelt(&place) != spelt(&reads) {
        let format = if is_maildir { "a Maildir" } else { "an mbox" };
        let at = match &dovecot.location {
            Location::At { source, .. } => source.to_string(),
            _ => "dovecot.conf".to_owned(),
        };
        let message = format!("mail is delivered to {place} ({format}), {at} reads maildir:{reads}");
        let hint =
            "logins do not show it; write `home_mailbox = Maildir/' and `mail_location = maildir:~/Maildir', say";
        reports.push(Report::new(Level::Warning, source, message, hint).of("mail_location"));
    }
}

/// The place, whether it is a Maildir, and the line that says so.
fn delivery(config: &Config) -> (String, bool, mail_types::SourceLine) {
    let main = &config.main;
    let (base, written) = if main.home_mailbox.is_empty() {
        (format!("{}/%u", main.mail_spool_directory.trim_end_matches('/')), &main.mail_spool_directory)
    } else {
        (format!("~/{}", main.home_mailbox.trim_end_matches('/')), &main.home_mailbox)
    };
    (base, written.ends_with('/'), written.source.clone())
}

/// `%n`, `%{user}`, `%{home}` and `$HOME` in the spelling of the others: users of the machine have no domain.
fn spelt(path: &str) -> String {
    let path = path.replace("%{user}", "%u").replace("%n", "%u").replace("%{username}", "%u");
    let path = ["%{home}", "%h", "$HOME"].iter().fold(path, |path, home| path.replace(home, "~"));
    path.trim_end_matches('/').to_owned()
}
