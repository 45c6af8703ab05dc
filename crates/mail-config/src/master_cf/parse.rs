//! From the text of master.cf to its services.

use std::sync::Arc;

use mail_types::SourceLine;

use super::{Master, Service, ServiceType};
use crate::lines::{LogicalLine, logical_lines};
use crate::main_cf::Entry;
use crate::report::{Excerpt, Level, Report, nearest};
use crate::words::{split_blanks, unbraced};

/// The services of a master.cf's text; what is wrong with it goes to `reports`.
pub fn parse(file: &Arc<str>, text: &str, reports: &mut Vec<Report>) -> Master {
    let mut services: Vec<Service> = Vec::new();
    for line in logical_lines(text) {
        match service(file, &line) {
            Ok(service) => {
                // As Postfix: the last line of a name and type counts.
                match services.iter_mut().find(|s| s.name == service.name && s.kind == service.kind) {
                    Some(earlier) => *earlier = service,
                    None => services.push(service),
                }
            }
            Err(mistake) => reports.push(mistake.report(file, &line)),
        }
    }
    Master { services }
}

/// What is wrong with a line: the word, what is the matter, what to write.
struct Mistake(String, String, String);

impl Mistake {
    fn report(self, file: &Arc<str>, line: &LogicalLine) -> Report {
        let Self(word, message, hint) = self;
        let at = line.text.find(&word).unwrap_or(0);
        let mut report = Report::new(Level::Error, SourceLine::new(Arc::clone(file), line.line), message, hint);
        if let Some(piece) = line.pieces.iter().rev().find(|piece| piece.at <= at) {
            report.source.line = piece.line;
            report.column = u32::try_from(at - piece.at + 1).unwrap_or(0);
            report.excerpt =
                Some(Box::new(Excerpt { text: piece.text.to_string(), start: at - piece.at, length: word.len() }));
        }
        report
    }
}

fn service(file: &Arc<str>, line: &LogicalLine) -> Result<Service, Mistake> {
    let unbalanced = |_| Mistake(line.text.clone(), "`}' is missing".into(), "close each `{'".into());
    let words = split_blanks(&line.text).map_err(unbalanced)?;
    let [name, kind, private, unpriv, chroot, wakeup, maxproc, command, rest @ ..] = words.as_slice() else {
        let hint = "a service has eight fields: name, type, private, unpriv, chroot, wakeup, maxproc, command";
        return Err(Mistake(line.text.clone(), format!("{} fields", words.len()), hint.into()));
    };
    let kind = match kind.as_str() {
        "inet" => ServiceType::Inet,
        "unix" => ServiceType::Unix,
        "unix-dgram" => ServiceType::UnixDgram,
        "fifo" => ServiceType::Fifo,
        "pass" => ServiceType::Pass,
        other => {
            let near = nearest(other, ["inet", "unix", "unix-dgram", "fifo", "pass"]);
            let hint =
                near.map_or("write inet, unix, fifo or pass".to_owned(), |near| format!("did you mean `{near}'?"));
            return Err(Mistake(other.into(), format!("unknown service type `{other}'"), hint));
        }
    };
    for flag in [private, unpriv, chroot] {
        if !matches!(flag.as_str(), "y" | "n" | "-") {
            return Err(Mistake(
                flag.clone(),
                format!("`{flag}' is neither y, n nor -"),
                "write `y', `n' or `-'".into(),
            ));
        }
    }
    let (arguments, overrides) = arguments(file, line, rest)?;
    Ok(Service {
        name: name.clone(),
        kind,
        flags: [private.clone(), unpriv.clone(), chroot.clone(), wakeup.clone()],
        maxproc: limit(maxproc)?,
        command: command.rsplit('/').next().unwrap_or(command).to_owned(),
        arguments,
        overrides,
        source: SourceLine::new(Arc::clone(file), line.line),
    })
}

fn limit(word: &str) -> Result<Option<u32>, Mistake> {
    if word == "-" {
        return Ok(None);
    }
    let number = word.parse().map(Some);
    number.map_err(|_| Mistake(word.into(), format!("`{word}' is no process limit"), "write a number or `-'".into()))
}

/// Separates `-o name=value`, `-oname=value` and `-o { name = value }` from other arguments.
fn arguments(file: &Arc<str>, line: &LogicalLine, words: &[String]) -> Result<(Vec<String>, Vec<Entry>), Mistake> {
    let (mut arguments, mut overrides) = (Vec::new(), Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let option = match word.strip_prefix("-o") {
            Some("") => words.next().map(String::as_str).unwrap_or_default(),
            Some(joined) => joined,
            None => {
                arguments.push(word.clone());
                continue;
            }
        };
        let plain = unbraced(option).unwrap_or(option);
        let Some((name, value)) = plain.split_once('=').filter(|(name, _)| !name.trim().is_empty()) else {
            let hint = "write `-o NAME=VALUE' without blanks, or `-o { NAME = VALUE }'";
            return Err(Mistake(word.clone(), format!("`-o {option}' is no override"), hint.into()));
        };
        overrides.push(Entry::new(name.trim(), value.trim(), place(file, line, option)));
    }
    Ok((arguments, overrides))
}

/// The physical line on which an option stands.
fn place(file: &Arc<str>, line: &LogicalLine, option: &str) -> SourceLine {
    let at = line.text.find(option).unwrap_or(0);
    let piece = line.pieces.iter().rev().find(|piece| piece.at <= at);
    SourceLine::new(Arc::clone(file), piece.map_or(line.line, |piece| piece.line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Master, Vec<Report>) {
        let mut reports = Vec::new();
        (parse(&Arc::from("master.cf"), text, &mut reports), reports)
    }

    #[test]
    fn options_are_read_in_all_their_forms() {
        let text = "submission inet n - y - 20 smtpd\n  -o syslog_name=postfix/submission -v\n# comment\n  -o { smtpd_client_restrictions = permit_sasl_authenticated, reject }\n  -osmtpd_sasl_auth_enable=yes\n";
        let (master, reports) = read(text);
        assert!(reports.is_empty(), "{reports:?}");
        let service = &master.services[0];
        assert_eq!((service.maxproc, service.command.as_str()), (Some(20), "smtpd"));
        assert_eq!(service.arguments, ["-v"]);
        let shown: Vec<_> =
            service.overrides.iter().map(|o| (o.source.line, o.name.as_str(), o.value.as_str())).collect();
        let wanted = [
            (2, "syslog_name", "postfix/submission"),
            (4, "smtpd_client_restrictions", "permit_sasl_authenticated, reject"),
            (5, "smtpd_sasl_auth_enable", "yes"),
        ];
        assert_eq!(shown, wanted);
    }

    #[test]
    fn a_wrong_line_is_shown_with_the_word() {
        let (_, reports) = read("smtp inte n - y - - smtpd\nsmtp inet n - y - - smtpd -o a b\nsmtp inet n\n");
        assert!(reports[0].to_string().contains("master.cf:1:6: unknown service type `inte'"), "{}", reports[0]);
        assert!(reports[0].hint.contains("`inet'"));
        assert_eq!(reports.len(), 3);
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in "(smtp|inet|unix|n|-|y|-o|a=b|smtpd|[ \\n{}=é]){0,30}") {
            read(&text).1.iter().for_each(|report| drop(report.to_string()));
        }
    }
}
