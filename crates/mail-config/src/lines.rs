//! Logical lines of main.cf, master.cf and table sources: comments, blank lines, continuation.

use std::sync::Arc;

/// One physical line's part of a logical line; it leads an offset in the logical text back to file, line and column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Where the part begins in the logical text, in octets.
    pub at: usize,
    /// The physical line, counted from 1.
    pub line: u32,
    /// The column of the part's first octet, counted from 1.
    pub column: u32,
    /// The whole physical line.
    pub text: Arc<str>,
}

/// A line of postconf(5) syntax with its continuation lines, joined as Postfix joins them (the line ends vanish).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogicalLine {
    /// The joined text, white space at the end removed.
    pub text: String,
    /// The number of the first physical line, counted from 1.
    pub line: u32,
    /// Whether the first line of the file begins with white space, which Postfix warns about.
    pub indented: bool,
    /// Where the text comes from, in order; never empty.
    pub pieces: Vec<Piece>,
}

/// Splits a file into logical lines: lines that are blank or whose first visible character is `#` vanish wherever they
/// stand, a line that begins with white space continues the one before.
#[must_use]
pub fn logical_lines(text: &str) -> Vec<LogicalLine> {
    let mut lines: Vec<LogicalLine> = Vec::new();
    for (number, physical) in (1u32..).zip(text.lines()) {
        let visible = physical.trim();
        if visible.is_empty() || visible.starts_with('#') {
            continue;
        }
        let indented = physical.starts_with(|c: char| c.is_ascii_whitespace());
        let piece = |at| Piece { at, line: number, column: 1, text: Arc::from(physical) };
        match lines.last_mut() {
            Some(open) if indented => {
                open.pieces.push(piece(open.text.len()));
                open.text.push_str(physical);
            }
            _ => {
                lines.push(LogicalLine { text: physical.to_owned(), line: number, indented, pieces: vec![piece(0)] });
            }
        }
    }
    for line in &mut lines {
        line.text.truncate(line.text.trim_end().len());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_blank_lines_do_not_end_a_continuation() {
        let lines = logical_lines("a = 1,\n# comment\n\n  2\nb = 3\r\n   # no continuation\n");
        let texts: Vec<_> = lines.iter().map(|l| (l.line, l.text.as_str())).collect();
        assert_eq!(texts, [(1, "a = 1,  2"), (5, "b = 3")]);
        assert_eq!((lines[0].pieces[1].at, lines[0].pieces[1].line), (6, 4));
    }

    proptest::proptest! {
        #[test]
        fn every_octet_that_counts_is_kept(text in "[a-c#= \\n\\t]{0,60}") {
            let kept: String = logical_lines(&text).iter().map(|l| l.text.replace([' ', '\t'], "")).collect();
            let wanted: String = text.lines().map(str::trim).filter(|l| !l.starts_with('#'))
                .map(|l| l.replace([' ', '\t'], "")).collect();
            proptest::prop_assert_eq!(kept, wanted);
        }
    }
}
