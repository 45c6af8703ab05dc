//! What is said about a file: file, line, column, the line itself with a mark under the place, and what to write instead.

use std::fmt;

use mail_types::SourceLine;

/// How much a report weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// For `check`: how a parameter is supported.
    Note,
    /// The daemons run and log it.
    Warning,
    /// The start stops (exit 78).
    Error,
}

/// What a report says about a parameter, in the words of `check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// It does what Postfix or Dovecot does.
    Supported,
    /// A part of it does; the report says what does not.
    Partly,
    /// It has no meaning here.
    NoEffect,
    /// It belongs to a part that is not built; the report says what happens instead, which is never more permissive.
    Later,
    /// Nobody knows the name.
    Unknown,
    /// The value, the file or the syntax is wrong.
    Wrong,
    /// What is written is understood and may do harm.
    Danger,
}

impl Status {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Supported => "supported",
            Self::Partly => "partly",
            Self::NoEffect => "no effect",
            Self::Later => "later",
            Self::Unknown => "unknown",
            Self::Wrong => "wrong",
            Self::Danger => "danger",
        }
    }
}

/// The line that a report is about, with the stretch to underline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// The physical line.
    pub text: String,
    /// Where the mark begins, in octets of `text`.
    pub start: usize,
    /// The length of the marked stretch in octets.
    pub length: usize,
}

/// One remark about one place in a file.
///
/// `Display` shows the place as a compiler does; [`Report::line`] is the form for a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How much it weighs.
    pub level: Level,
    /// The file and line.
    pub source: SourceLine,
    /// The column, counted from 1; 0 if the remark is about the whole line or file.
    pub column: u32,
    /// What is the matter, without full stop.
    pub message: String,
    /// What to write instead, or what happens now.
    pub hint: String,
    /// The line itself.
    pub excerpt: Option<Box<Excerpt>>,
    /// The parameter, setting or service that the remark is about; empty if it is about a file.
    pub parameter: String,
    /// What it says about it.
    pub status: Status,
}

impl Report {
    /// A report about a whole line or file. An error is about something wrong, a warning about a danger, unless [`Report::about`] says
    /// otherwise.
    #[must_use]
    pub fn new(level: Level, source: SourceLine, message: impl Into<String>, hint: impl Into<String>) -> Self {
        let status = match level {
            Level::Note => Status::NoEffect,
            Level::Warning => Status::Danger,
            Level::Error => Status::Wrong,
        };
        let (parameter, excerpt) = (String::new(), None);
        Self { level, source, column: 0, message: message.into(), hint: hint.into(), excerpt, parameter, status }
    }

    /// The same about a parameter, with what it says about it.
    #[must_use]
    pub fn about(self, parameter: impl Into<String>, status: Status) -> Self {
        Self { parameter: parameter.into(), status, ..self }
    }

    /// The same about a parameter.
    #[must_use]
    pub fn of(self, parameter: impl Into<String>) -> Self {
        Self { parameter: parameter.into(), ..self }
    }

    /// One line for the log: `FILE:LINE:COLUMN: message: hint`.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = format!("{}{}", self.place(), self.message);
        if !self.hint.is_empty() {
            line.push_str(": ");
            line.push_str(&self.hint);
        }
        line
    }

    fn place(&self) -> String {
        match (self.source.is_built_in(), self.column) {
            (true, _) => String::new(),
            (false, 0) => format!("{}: ", self.source),
            (false, column) => format!("{}:{column}: ", self.source),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = if self.level == Level::Warning { "warning: " } else { "" };
        write!(f, "{}{level}{}", self.place(), self.message)?;
        let Some(Excerpt { text, start, length }) = self.excerpt.as_deref() else {
            return if self.hint.is_empty() { Ok(()) } else { write!(f, ": {}", self.hint) };
        };
        // Columns are counted in characters on the screen; a tab is shown as one blank.
        let before = text.get(..*start).map_or(0, |t| t.chars().count());
        let marked = text.get(*start..start + length).map_or(1, |t| t.chars().count()).max(1);
        let shown: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        // A width of the formatter has 16 bits; a line may be longer.
        write!(f, "\n  {shown}\n  {}^{}", " ".repeat(before), "~".repeat(marked - 1))?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "  {}", self.hint) }
    }
}

/// The mistakes that stop the start, in the order of the files; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors(pub Vec<Report>);

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, report) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            report.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// The known name that is nearest to a misspelt one, if any is near enough to be meant.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count() / 4).clamp(1, 4);
    let ranked = known.into_iter().map(|candidate| (distance(name, candidate, limit), candidate));
    ranked.filter(|(distance, _)| *distance <= limit).min().map(|(_, candidate)| candidate)
}

/// The edit distance of two names (insert, delete, replace, swap of neighbours); more than `limit` if it is larger.
fn distance(a: &str, b: &str, limit: usize) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > limit {
        return limit + 1;
    }
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let above = &rows[i - 1];
            let mut best = (above[j] + 1).min(row[j - 1] + 1).min(above[j - 1] + usize::from(a[i - 1] != b[j - 1]));
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_shown_where_it_stands() {
        let source = SourceLine::new("/etc/postfix/main.cf", 12);
        let (message, hint) = ("unknown parameter `mydestinations'", "did you mean `mydestination'?");
        let report = Report {
            column: 1,
            excerpt: Some(Box::new(Excerpt { text: "mydestinations = info.net".into(), start: 0, length: 14 })),
            ..Report::new(Level::Error, source, message, hint)
        };
        let shown = "/etc/postfix/main.cf:12:1: unknown parameter `mydestinations'\n  mydestinations = info.net\n  ^~~~~~~~~~~~~~  did you mean `mydestination'?";
        assert_eq!(report.to_string(), shown);
    }

    #[test]
    fn a_mistake_far_to_the_right_is_shown() {
        let (start, length) = (70_000, 66_000);
        let excerpt = Excerpt { text: "x".repeat(start + length), start, length };
        let report =
            Report { excerpt: Some(Box::new(excerpt)), ..Report::new(Level::Error, SourceLine::built_in(), "no", "") };
        let shown = report.to_string();
        let marks = shown.lines().last().expect("a line");
        assert_eq!((marks.find('^'), marks.matches('~').count()), (Some(start + 2), length - 1));
    }

    #[test]
    fn the_nearest_name_is_the_one_meant() {
        let known = ["mydestination", "mydomain", "myorigin", "mynetworks"];
        assert_eq!(nearest("mydestinations", known), Some("mydestination"));
        assert_eq!(nearest("mynetwroks", known), Some("mynetworks"));
        assert_eq!(nearest("milter", known), None);
    }
}
