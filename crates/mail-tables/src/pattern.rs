//! A compiled expression: of an engine that takes linear time whatever the key or, where that has no words for it, of one that tries and goes back,
//! with a limit of steps.

use std::ops::Range;

use fancy_regex::BytesMode;

use crate::longest::Longest;

/// The most steps back for one key. Who chooses the key may choose one that takes them all: they are a matter of milliseconds.
const STEPS_MAX: usize = 100_000;
/// The most octets of a compiled expression.
const SIZE_MAX: usize = 10 << 20;

/// How an expression is to be read.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Reading {
    pub(crate) case_insensitive: bool,
    pub(crate) multi_line: bool,
    pub(crate) dot_all: bool,
    pub(crate) extended: bool,
    /// Repetitions take as little as they can, unless a question mark follows.
    pub(crate) lazy: bool,
}

impl Reading {
    /// An expression of the linear engine.
    pub(crate) fn linear(self, expression: &str) -> Result<regex::bytes::Regex, String> {
        let mut builder = regex::bytes::RegexBuilder::new(expression);
        builder.unicode(false);
        builder.case_insensitive(self.case_insensitive).multi_line(self.multi_line);
        builder.dot_matches_new_line(self.dot_all).ignore_whitespace(self.extended).swap_greed(self.lazy);
        builder.build().map_err(|error| {
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            format!("the pattern cannot be used: {reason}")
        })
    }
}

/// A compiled expression.
#[derive(Debug)]
pub(crate) enum Pattern {
    /// In linear time.
    Linear(regex::bytes::Regex),
    /// In linear time, with the match that POSIX wants.
    Longest(Box<Longest>),
    /// With steps back.
    Backtracking(Box<fancy_regex::Regex>),
}

/// What each group of a match took, the whole match first.
pub(crate) type Groups = Vec<Option<Range<usize>>>;

impl Pattern {
    /// Compiles what is written in the words of the linear engine. Expressions are of octets: a dot is one.
    pub(crate) fn linear(expression: &str, reading: Reading) -> Result<Self, String> {
        reading.linear(expression).map(Self::Linear)
    }

    /// The same for the match that POSIX wants, where it matters which one that is.
    pub(crate) fn longest(expression: &str, reading: Reading) -> Result<Self, String> {
        let regex = reading.linear(expression)?;
        match regex.captures_len() {
            1 => Ok(Self::Linear(regex)),
            _ => Longest::of(regex, expression, reading).map(|longest| Self::Longest(Box::new(longest))),
        }
    }

    /// Compiles what is written in the words of the other one.
    pub(crate) fn backtracking(expression: &str, reading: Reading) -> Result<Self, String> {
        if reading.lazy {
            return Err("the flag U is not built for a pattern with look-around or references".to_owned());
        }
        let mut builder = fancy_regex::RegexBuilder::new(expression);
        builder.bytes_mode(BytesMode::Ascii).backtrack_limit(STEPS_MAX).delegate_size_limit(SIZE_MAX);
        builder.case_insensitive(reading.case_insensitive).multi_line(reading.multi_line);
        builder.dot_matches_new_line(reading.dot_all).ignore_whitespace(reading.extended);
        let built = builder.build().map_err(|error| format!("the pattern cannot be used: {error}"));
        built.map(|regex| Self::Backtracking(Box::new(regex)))
    }

    /// How many groups it has, the whole match not counted.
    pub(crate) fn groups(&self) -> usize {
        match self {
            Self::Linear(regex) => regex.captures_len() - 1,
            Self::Longest(longest) => longest.len() - 1,
            Self::Backtracking(regex) => regex.captures_len() - 1,
        }
    }

    /// Whether it matches a key.
    ///
    /// # Errors
    /// It takes too many steps to know.
    pub(crate) fn is_match(&self, key: &[u8]) -> Result<bool, String> {
        match self {
            Self::Linear(regex) => Ok(regex.is_match(key)),
            Self::Longest(longest) => Ok(longest.is_match(key)),
            Self::Backtracking(regex) => regex.is_match(key).map_err(|_| too_many()),
        }
    }

    /// What its groups match in a key; none if it does not match.
    ///
    /// # Errors
    /// It takes too many steps to know.
    pub(crate) fn find(&self, key: &[u8]) -> Result<Option<Groups>, String> {
        match self {
            Self::Linear(regex) => Ok(regex
                .captures(key)
                .map(|found| found.iter().map(|group| group.map(|group| group.range())).collect())),
            Self::Longest(longest) => Ok(longest.find(key)),
            Self::Backtracking(regex) => {
                let found = regex.captures(key).map_err(|_| too_many())?;
                let one = |found: &fancy_regex::Captures<'_, [u8]>, at| found.get(at).map(|group| group.range());
                Ok(found.map(|found| (0..found.len()).map(|at| one(&found, at)).collect()))
            }
        }
    }
}

fn too_many() -> String {
    "the pattern takes too many steps for this key".to_owned()
}
