//! The command line of sendmail(1) and its aliases `mailq` and `newaliases`, without acting on it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use mail_types::{DsnOptions, Notify, Octets, Purpose, QueueId, Ret};

use super::addresses::addresses;
use crate::arguments::{Given, Grammar, Parsed};
use crate::exit::{Failure, TEMPORARY, UNAVAILABLE, USAGE};

const GRAMMAR: Grammar = Grammar {
    letters: "A:B:C:F:GIL:N:O:R:UV:X:b:ce:f:h:imno:p:q::r:tvx",
    long: &[("json", 'J')], // only as `mailq --json`
};

/// What deferred mail to attempt now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flush {
    /// All of it (`-q`).
    All,
    /// One message (`-qI`).
    Message(QueueId),
    /// What goes to one site (`-qR`).
    Site(String),
}

/// A message to be read from standard input and handed in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Submission {
    /// The envelope sender (`-f`, `-r`): empty for `<>`, none for the caller.
    pub sender: Option<String>,
    /// The full name (`-F`).
    pub full_name: Option<Octets>,
    /// The recipients of the command line.
    pub recipients: Vec<String>,
    /// Whether the header's recipients are added (`-t`).
    pub extract: bool,
    /// Whether a line with only `.` is content (`-i`, `-oi`).
    pub ignore_dots: bool,
    /// ENVID and RET (`-V`, `-R`).
    pub dsn: DsnOptions,
    /// NOTIFY (`-N`).
    pub notify: Option<Notify>,
    /// What is done with it: `-bv` only asks, `-v` wants a report beside the delivery.
    pub purpose: Purpose,
}

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Read a message and hand it in (`-bm`).
    Submit(Box<Submission>),
    /// Speak SMTP on standard input and output (`-bs`).
    Smtp,
    /// List the queue (`-bp`, `mailq`), as JSON where `--json` is given.
    List {
        /// As one JSON object per message.
        json: bool,
    },
    /// Take the aliases anew (`-bi`, `-I`, `newaliases`), with the database of `-oA`.
    Aliases(Option<String>),
    /// Start the mail system (`-bd`, `-bl`).
    Start,
    /// Attempt deferred mail.
    Flush(Flush),
    /// Nothing is asked for that has a counterpart here (`-bh`, `-bH`, `-q30m`).
    Nothing,
}

/// The command line after checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The configuration directory or main.cf (`-C`).
    pub configuration: Option<OsString>,
    /// What to do.
    pub mode: Mode,
    /// What was asked for and is left out; shown before anything else.
    pub warnings: Vec<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Submit,
    Verify,
    Smtp,
    List,
    Aliases,
    Start,
    Flush,
    Nothing,
}

/// Reads the arguments that followed the command's name (`sendmail`, `mailq`, `newaliases`).
///
/// # Errors
/// A [`Failure`] with the exit code that Postfix's sendmail has for it (75 for nearly all), 64 for control characters.
pub fn parse(name: &str, arguments: &[OsString]) -> Result<Options, Failure> {
    let parsed = GRAMMAR.parse(arguments).map_err(|error| fatal(format!("{error}; usage: sendmail [options]")))?;
    let mut reader = Reader::new(name);
    for given in &parsed.options {
        reader.take(given)?;
    }
    reader.finish(&parsed)
}

fn fatal(text: impl Into<String>) -> Failure {
    Failure::new(TEMPORARY, text)
}

/// Arguments end up in headers, logs and records: a control character in one is an attack or an accident.
fn checked(what: &str, argument: &OsStr) -> Result<(), Failure> {
    match argument.as_bytes().iter().find(|b| b.is_ascii_control()) {
        Some(b) => Err(Failure::new(USAGE, format!("control character 0x{b:02x} in {what}"))),
        None => Ok(()),
    }
}

struct Reader {
    kind: Kind,
    json: bool,
    aliases: Option<String>,
    flush: Flush,
    extracts: bool,
    /// How often `-v` stands there.
    verbose: u32,
    submission: Submission,
    warnings: Vec<String>,
}

impl Reader {
    fn new(name: &str) -> Self {
        let kind = match name {
            "mailq" => Kind::List,
            "newaliases" => Kind::Aliases,
            _ => Kind::Submit,
        };
        Self {
            kind,
            json: false,
            aliases: None,
            flush: Flush::All,
            extracts: false,
            verbose: 0,
            submission: Submission::default(),
            warnings: Vec::new(),
        }
    }

    fn take(&mut self, given: &Given) -> Result<(), Failure> {
        if let Some(argument) = &given.argument {
            checked(&format!("the argument of -{}", given.option), argument)?;
        }
        let text = given.text();
        match given.option {
            'b' => self.mode(&text)?,
            'I' => self.kind = Kind::Aliases,
            'J' => self.json = true,
            'q' => self.queue_run(&text)?,
            'o' => self.old_option(&text),
            't' => self.extracts = true,
            'i' => self.submission.ignore_dots = true,
            'f' | 'r' => self.sender(&text),
            'F' => {
                self.submission.full_name = given
                    .argument
                    .as_deref()
                    .map(|name| Octets::new(name.as_bytes()))
                    .filter(|n| *n != Octets::default());
            }
            'B' if !["7BIT", "8BITMIME"].iter().any(|known| known.eq_ignore_ascii_case(&text)) => {
                return Err(fatal("-B option needs 8BITMIME or 7BIT"));
            }
            'N' => self.notify(&text),
            'R' => self.ret(&text),
            'V' => self.envelope_id(text),
            'X' if text.starts_with('V') => {
                return Err(Failure::new(UNAVAILABLE, "-XV: variable envelope return paths are not supported"));
            }
            'v' => self.verbose += 1,
            // The rest is accepted for old callers and means nothing, as in sendmail(1).
            _ => {}
        }
        Ok(())
    }

    fn mode(&mut self, text: &str) -> Result<(), Failure> {
        self.kind = match text.chars().next() {
            Some('m') => Kind::Submit,
            Some('p') => Kind::List,
            Some('i') => Kind::Aliases,
            Some('s') => Kind::Smtp,
            Some('d' | 'l') => Kind::Start,
            Some('h' | 'H') => Kind::Nothing,
            Some('v') => Kind::Verify,
            _ => return Err(fatal(format!("unsupported: -b{text}"))),
        };
        Ok(())
    }

    fn queue_run(&mut self, text: &str) -> Result<(), Failure> {
        let rest = text.get(1..).unwrap_or_default();
        match text.chars().next() {
            None => (self.kind, self.flush) = (Kind::Flush, Flush::All),
            // An interval between runs: queue_run_delay says it here.
            Some(c) if c.is_ascii_digit() => {
                if self.kind != Kind::Start {
                    self.kind = Kind::Nothing;
                }
            }
            Some('I') => {
                let id = rest.parse().map_err(|_| fatal(format!("invalid queue ID \"{rest}\"")))?;
                (self.kind, self.flush) = (Kind::Flush, Flush::Message(id));
            }
            Some('R') if !rest.is_empty() => (self.kind, self.flush) = (Kind::Flush, Flush::Site(rest.to_owned())),
            Some(_) => return Err(fatal(format!("-q{text} is not implemented"))),
        }
        Ok(())
    }

    fn old_option(&mut self, text: &str) {
        match text.chars().next() {
            Some('A') => self.aliases = Some(text[1..].to_owned()).filter(|rest| !rest.is_empty()),
            Some('i') => self.submission.ignore_dots = true,
            _ => {}
        }
    }

    fn sender(&mut self, text: &str) {
        let mut found = addresses(text).into_iter();
        self.submission.sender = match (found.next(), found.next()) {
            (None, _) => Some(String::new()),
            (Some(address), None) => Some(address),
            (Some(first), Some(_)) => {
                self.warnings.push(format!("-f option specified malformed sender: {text}"));
                Some(first)
            }
        };
    }

    fn notify(&mut self, text: &str) {
        let mut notify = Notify::NEVER;
        let mut never = false;
        let mut good = !text.is_empty();
        for word in text.split(',').map(|word| word.trim().to_ascii_lowercase()) {
            match word.as_str() {
                "never" => never = true,
                "success" => notify.success = true,
                "failure" => notify.failure = true,
                "delay" => notify.delay = true,
                _ => good = false,
            }
        }
        // RFC 3461 section 4.1: NEVER stands alone.
        if good && never == notify.is_never() {
            self.submission.notify = Some(notify);
        } else {
            self.warnings.push("bad -N option value -- ignored".to_owned());
        }
    }

    fn ret(&mut self, text: &str) {
        match text.to_ascii_lowercase().as_str() {
            "full" => self.submission.dsn.ret = Some(Ret::Full),
            "hdrs" => self.submission.dsn.ret = Some(Ret::Headers),
            _ => self.warnings.push("bad -R option value -- ignored".to_owned()),
        }
    }

    fn envelope_id(&mut self, text: String) {
        if !text.is_empty() && text.len() <= 100 && text.bytes().all(|b| (0x20..0x7f).contains(&b)) {
            self.submission.dsn.envid = Some(text);
        } else {
            self.warnings.push("bad -V option value -- ignored".to_owned());
        }
    }

    fn finish(mut self, parsed: &Parsed) -> Result<Options, Failure> {
        for operand in &parsed.operands {
            checked("a recipient address", operand)?;
        }
        if self.extracts && self.kind == Kind::Verify {
            return Err(fatal("-t option cannot be used with -bv"));
        }
        if self.extracts && self.kind != Kind::Submit {
            return Err(fatal("-t can be used only in delivery mode"));
        }
        let without_recipients = match self.kind {
            Kind::List => Some("display queue mode"),
            Kind::Flush => Some("flush queue mode"),
            Kind::Aliases => Some("alias initialization mode"),
            Kind::Smtp => Some("stand-alone SMTP server mode"),
            Kind::Start => Some("daemon mode"),
            Kind::Submit | Kind::Verify | Kind::Nothing => None,
        };
        self.submission.purpose = match self.kind {
            Kind::Verify => Purpose::Verify,
            // More than one was a wish for debugging output, which the logs hold.
            _ if self.verbose == 1 => Purpose::Trace,
            _ => Purpose::Deliver,
        };
        if let Some(mode) = without_recipients.filter(|_| !parsed.operands.is_empty()) {
            return Err(fatal(format!("{mode} requires no recipient")));
        }
        self.submission.extract = self.extracts;
        self.submission.recipients =
            parsed.operands.iter().flat_map(|operand| addresses(&operand.to_string_lossy())).collect();
        let mode = match self.kind {
            Kind::Submit | Kind::Verify => Mode::Submit(Box::new(self.submission)),
            Kind::Smtp => Mode::Smtp,
            Kind::List => Mode::List { json: self.json },
            Kind::Aliases => Mode::Aliases(self.aliases),
            Kind::Start => Mode::Start,
            Kind::Flush => Mode::Flush(self.flush),
            Kind::Nothing => Mode::Nothing,
        };
        Ok(Options { configuration: parsed.last('C').map(OsStr::to_owned), mode, warnings: self.warnings })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, words: &[&str]) -> Result<Options, Failure> {
        parse(name, &words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    fn submission(words: &[&str]) -> Submission {
        match read("sendmail", words).expect("good").mode {
            Mode::Submit(submission) => *submission,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_mail_programs_type_is_understood() {
        let given = submission(&["-oi", "-oem", "-Am", "-f", "John <john@info.net>", "-F", "John", "--", "a@b, c@d"]);
        assert!(given.ignore_dots && !given.extract);
        assert_eq!(given.sender.as_deref(), Some("john@info.net"));
        assert_eq!(given.full_name, Some(Octets::from("John")));
        assert_eq!(given.recipients, ["a@b", "c@d"]);
        assert!(submission(&["-t", "-i"]).extract);
        assert_eq!(submission(&["-f", "", "x"]).sender.as_deref(), Some(""));
        assert_eq!(submission(&["-f<>", "x"]).sender.as_deref(), Some(""));
        assert_eq!(submission(&["x"]).sender, None);
    }

    #[test]
    fn one_v_asks_for_a_report_and_bv_for_nothing_else() {
        assert_eq!(submission(&["-v", "x"]).purpose, Purpose::Trace);
        assert_eq!(submission(&["-v", "-v", "x"]).purpose, Purpose::Deliver);
        assert_eq!(submission(&["-bv", "x"]).purpose, Purpose::Verify);
        assert_eq!(submission(&["-bv", "-v", "x"]).purpose, Purpose::Verify);
        assert_eq!(submission(&["-bm", "x"]).purpose, Purpose::Deliver);
    }

    #[test]
    fn notifications_are_taken_or_ignored_with_a_warning() {
        let given = submission(&["-N", "success,delay", "-V", "ENV1", "-R", "hdrs", "x"]);
        assert_eq!(given.notify, Some(Notify { success: true, failure: false, delay: true }));
        assert_eq!(given.dsn, DsnOptions { ret: Some(Ret::Headers), envid: Some("ENV1".into()) });
        assert_eq!(submission(&["-N", "never", "x"]).notify, Some(Notify::NEVER));
        for words in [["-N", "never,success"], ["-N", "bogus"], ["-R", "all"], ["-V", "\u{e9}"]] {
            let options = read("sendmail", &[words[0], words[1], "x"]).expect("good");
            assert_eq!(options.warnings.len(), 1, "{words:?}");
        }
    }

    #[test]
    fn modes_are_those_of_sendmail() {
        let id = "4jXXG63dXnz1SRl2";
        let cases: &[(&str, &[&str], Mode)] = &[
            ("sendmail", &["-bp"], Mode::List { json: false }),
            ("mailq", &[], Mode::List { json: false }),
            ("mailq", &["--json"], Mode::List { json: true }),
            ("newaliases", &[], Mode::Aliases(None)),
            ("sendmail", &["-bi", "-oA/etc/aliases"], Mode::Aliases(Some("/etc/aliases".into()))),
            ("sendmail", &["-I"], Mode::Aliases(None)),
            ("sendmail", &["-bs"], Mode::Smtp),
            ("sendmail", &["-q"], Mode::Flush(Flush::All)),
            ("sendmail", &["-qI4jXXG63dXnz1SRl2"], Mode::Flush(Flush::Message(id.parse().expect("an id")))),
            ("sendmail", &["-qRinfo.net"], Mode::Flush(Flush::Site("info.net".into()))),
            ("sendmail", &["-q15m"], Mode::Nothing),
            ("sendmail", &["-bd", "-q15m"], Mode::Start),
            ("sendmail", &["-bH"], Mode::Nothing),
        ];
        for (name, words, mode) in cases {
            assert_eq!(read(name, words).expect("good").mode, *mode, "{words:?}");
        }
    }

    #[test]
    fn wrong_command_lines_end_with_the_exit_code_of_postfix() {
        let cases: &[(&[&str], u8)] = &[
            (&["-bz"], 75),
            (&["-f"], 75),
            (&["-B", "9BIT", "x"], 75),
            (&["-t", "-bs"], 75),
            (&["-bp", "x"], 75),
            (&["-q", "x"], 75),
            (&["-qSsite"], 75),
            (&["-qX"], 75),
            (&["-d"], 75),
            (&["-bv", "-t"], 75),
            (&["-XV", "x"], 69),
            (&["-f", "a\nb", "x"], 64),
            (&["-F", "a\rBcc: b", "x"], 64),
            (&["a@b\nRCPT TO:<c@d>"], 64),
        ];
        for (words, code) in cases {
            assert_eq!(read("sendmail", words).expect_err("wrong").code, *code, "{words:?}");
        }
    }
}
