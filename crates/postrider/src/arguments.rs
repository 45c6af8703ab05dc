//! Option clusters as getopt(3) reads them: `-oi`, `-fuser@host`, `-f user@host`, `--`, options after operands.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// What is wrong with the options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UsageError {
    /// The command has no such option.
    Unknown(char),
    /// The option needs an argument and none follows.
    MissingArgument(char),
    /// The command has no such long option, or the option takes no argument.
    UnknownLong(String),
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(option) => write!(f, "invalid option -- '{option}'"),
            Self::MissingArgument(option) => write!(f, "option requires an argument -- '{option}'"),
            Self::UnknownLong(option) => write!(f, "unrecognized option '{option}'"),
        }
    }
}

impl std::error::Error for UsageError {}

/// One option as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The letter; for a long option its entry in the command's list.
    pub option: char,
    /// The argument, for options that take one.
    pub argument: Option<OsString>,
}

impl Given {
    /// The argument as text; octets that are not UTF-8 become `?`. Empty if there is none.
    #[must_use]
    pub fn text(&self) -> String {
        self.argument.as_deref().map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// The options in their order, and the operands in theirs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parsed {
    /// The options.
    pub options: Vec<Given>,
    /// Everything else.
    pub operands: Vec<OsString>,
}

impl Parsed {
    /// Whether an option was given at least once.
    #[must_use]
    pub fn has(&self, option: char) -> bool {
        self.options.iter().any(|given| given.option == option)
    }

    /// The argument of the last time that an option was given.
    #[must_use]
    pub fn last(&self, option: char) -> Option<&OsStr> {
        self.options.iter().rev().find(|given| given.option == option).and_then(|given| given.argument.as_deref())
    }
}

/// Which options a command has.
#[derive(Debug, Clone, Copy)]
pub struct Grammar {
    /// Letters as in getopt(3): a colon after a letter means that it takes an argument, two that the argument, if any, is part of the word.
    pub letters: &'static str,
    /// Long options with the letter that they stand for.
    pub long: &'static [(&'static str, char)],
}

enum Arity {
    None,
    Required,
    Attached,
}

impl Grammar {
    /// Only letters.
    #[must_use]
    pub const fn letters(letters: &'static str) -> Self {
        Self { letters, long: &[] }
    }

    fn arity(&self, option: char) -> Option<Arity> {
        let at = self.letters.find(option).filter(|_| option != ':')?;
        let rest = &self.letters[at + option.len_utf8()..];
        Some(match (rest.starts_with("::"), rest.starts_with(':')) {
            (true, _) => Arity::Attached,
            (false, true) => Arity::Required,
            (false, false) => Arity::None,
        })
    }

    /// Reads arguments (without the command's name). Options may stand after operands; `--` ends them.
    ///
    /// # Errors
    /// [`UsageError`] names the first word that is wrong.
    pub fn parse(&self, arguments: &[OsString]) -> Result<Parsed, UsageError> {
        let mut parsed = Parsed::default();
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            match word.as_bytes() {
                b"--" => parsed.operands.extend(words.by_ref().cloned()),
                [b'-', b'-', name @ ..] => self.long_option(name, &mut words, &mut parsed)?,
                [b'-', cluster @ ..] if !cluster.is_empty() => self.cluster(cluster, &mut words, &mut parsed)?,
                _ => parsed.operands.push(word.clone()),
            }
        }
        Ok(parsed)
    }

    fn cluster<'a>(
        &self,
        mut cluster: &[u8],
        words: &mut impl Iterator<Item = &'a OsString>,
        parsed: &mut Parsed,
    ) -> Result<(), UsageError> {
        while let [letter, rest @ ..] = cluster {
            let option = char::from(*letter);
            let attached = (!rest.is_empty()).then(|| OsString::from_vec(rest.to_vec()));
            let argument = match self.arity(option).ok_or(UsageError::Unknown(option))? {
                Arity::None => {
                    parsed.options.push(Given { option, argument: None });
                    cluster = rest;
                    continue;
                }
                Arity::Attached => attached,
                Arity::Required => {
                    let next = attached.or_else(|| words.next().cloned());
                    Some(next.ok_or(UsageError::MissingArgument(option))?)
                }
            };
            parsed.options.push(Given { option, argument });
            return Ok(());
        }
        Ok(())
    }

    fn long_option<'a>(
        &self,
        word: &[u8],
        words: &mut impl Iterator<Item = &'a OsString>,
        parsed: &mut Parsed,
    ) -> Result<(), UsageError> {
        let (name, value) = match word.iter().position(|&b| b == b'=') {
            Some(at) => (&word[..at], Some(OsString::from_vec(word[at + 1..].to_vec()))),
            None => (word, None),
        };
        let unknown = || UsageError::UnknownLong(format!("--{}", String::from_utf8_lossy(word)));
        let option = self.long.iter().find(|(long, _)| long.as_bytes() == name).map(|&(_, option)| option);
        let option = option.ok_or_else(unknown)?;
        let argument = match (self.arity(option).unwrap_or(Arity::None), value) {
            (Arity::None, Some(_)) => return Err(unknown()),
            (Arity::None, None) => None,
            (_, Some(value)) => Some(value),
            (_, None) => Some(words.next().cloned().ok_or_else(unknown)?),
        };
        parsed.options.push(Given { option, argument });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRAMMAR: Grammar = Grammar { letters: "if:o:q::tD:", long: &[("dovecot", 'D'), ("json", 't')] };

    fn parse(words: &[&str]) -> Result<Vec<String>, UsageError> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let parsed = GRAMMAR.parse(&words)?;
        let options = parsed.options.iter().map(|given| match &given.argument {
            Some(argument) => format!("{}={}", given.option, argument.to_string_lossy()),
            None => given.option.to_string(),
        });
        let operands = parsed.operands.iter().map(|operand| operand.to_string_lossy().into_owned());
        Ok(options.chain(operands).collect())
    }

    #[test]
    fn clusters_are_read_as_getopt_reads_them() {
        let cases: &[(&[&str], &[&str])] = &[
            (&["-t", "-i", "a@b"], &["t", "i", "a@b"]),
            (&["-ti"], &["t", "i"]),
            (&["-oi", "-oem"], &["o=i", "o=em"]),
            (&["-fa@b", "-f", "c@d"], &["f=a@b", "f=c@d"]),
            (&["-tif", "", "x"], &["t", "i", "f=", "x"]),
            (&["a@b", "-i", "--", "-t"], &["i", "a@b", "-t"]),
            (&["-q"], &["q"]),
            (&["-q5m", "-q", "x"], &["q=5m", "q", "x"]),
            (&["-"], &["-"]),
            (&["--dovecot", "f", "--dovecot=g", "--json"], &["D=f", "D=g", "t"]),
        ];
        for (words, expected) in cases {
            assert_eq!(parse(words).expect("good"), *expected, "{words:?}");
        }
    }

    #[test]
    fn a_wrong_option_is_named() {
        assert_eq!(parse(&["-iz"]), Err(UsageError::Unknown('z')));
        assert_eq!(parse(&["-:"]), Err(UsageError::Unknown(':')));
        assert_eq!(parse(&["-f"]), Err(UsageError::MissingArgument('f')));
        assert_eq!(parse(&["--json=1"]), Err(UsageError::UnknownLong("--json=1".into())));
        assert_eq!(parse(&["--nothing"]), Err(UsageError::UnknownLong("--nothing".into())));
        assert_eq!(parse(&["--dovecot"]), Err(UsageError::UnknownLong("--dovecot".into())));
    }
}
