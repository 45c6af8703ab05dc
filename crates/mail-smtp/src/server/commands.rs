//! The table of commands: which states allow each, and what it counts as.

use super::{
    Dialect, Server, auth, bdat, data, etrn, helo, help, mail, noop, quit, rcpt, rset, starttls, vrfy, xclient,
};

/// One row: everything the machine needs before it looks at arguments.
pub(super) struct Command {
    /// The verb in upper case.
    pub verb: &'static str,
    /// Its place in the log's summary.
    pub counter: usize,
    /// Which dialects have it.
    pub dialect: Option<Dialect>,
    /// Whether it is allowed before TLS where TLS is needed (RFC 3207 section 4).
    pub before_tls: bool,
    /// Whether it counts against `smtpd_junk_command_limit`.
    pub junk: bool,
    /// Whether it must be the last of a pipelined group (RFC 2920 section 3.1).
    pub last: bool,
    /// Carries it out.
    pub run: fn(&mut Server, &str),
}

const fn command(verb: &'static str, counter: usize, run: fn(&mut Server, &str)) -> Command {
    Command { verb, counter, dialect: None, before_tls: false, junk: false, last: false, run }
}

/// Every command. The order of `counter` is the order of the log's summary.
pub(super) static COMMANDS: [Command; 16] = [
    Command { before_tls: true, last: true, dialect: Some(Dialect::Smtp), ..command("HELO", 0, helo::helo) },
    Command { before_tls: true, last: true, dialect: Some(Dialect::Smtp), ..command("EHLO", 1, helo::ehlo) },
    Command { before_tls: true, last: true, dialect: Some(Dialect::Lmtp), ..command("LHLO", 2, helo::ehlo) },
    Command { before_tls: true, last: true, ..command("STARTTLS", 3, starttls::starttls) },
    Command { last: true, ..command("AUTH", 4, auth::auth) },
    command("MAIL", 5, mail::mail),
    command("RCPT", 6, rcpt::rcpt),
    Command { last: true, ..command("DATA", 7, data::data) },
    command("BDAT", 8, bdat::bdat),
    Command { before_tls: true, junk: true, ..command("RSET", 9, rset::rset) },
    Command { before_tls: true, junk: true, last: true, ..command("NOOP", 10, noop::noop) },
    Command { junk: true, last: true, ..command("VRFY", 11, vrfy::vrfy) },
    Command { junk: true, last: true, ..command("ETRN", 12, etrn::etrn) },
    Command { before_tls: true, junk: true, last: true, ..command("HELP", 13, help::help) },
    Command { before_tls: true, last: true, ..command("QUIT", 14, quit::quit) },
    Command { last: true, dialect: Some(Dialect::Smtp), ..command("XCLIENT", 15, xclient::xclient) },
];

/// The names of the counters, in the order of the log; the last is for what is no command.
pub(super) const COUNTERS: [&str; 17] = [
    "helo", "ehlo", "lhlo", "starttls", "auth", "mail", "rcpt", "data", "bdat", "rset", "noop", "vrfy", "etrn", "help",
    "quit", "xclient", "unknown",
];

/// The row of a verb in any case (S04).
pub(super) fn find(verb: &str, dialect: Dialect) -> Option<&'static Command> {
    COMMANDS.iter().find(|c| c.verb.eq_ignore_ascii_case(verb) && c.dialect.is_none_or(|only| only == dialect))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_counts_under_its_own_name() {
        for command in &COMMANDS {
            assert_eq!(COUNTERS[command.counter], command.verb.to_ascii_lowercase());
        }
    }

    #[test]
    fn each_dialect_has_its_own_greeting() {
        // L01
        assert!(find("ehlo", Dialect::Lmtp).is_none() && find("HELO", Dialect::Lmtp).is_none());
        assert!(find("lhlo", Dialect::Smtp).is_none() && find("LhLo", Dialect::Lmtp).is_some());
    }
}
