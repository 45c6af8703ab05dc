//! Text as a log may hold it.

use std::fmt::{self, Write as _};
use std::time::Duration;

/// Prints text with everything outside 0x20-0x7e replaced by `?`, as Postfix does: no peer can write control codes or a second line into a log.
#[derive(Debug, Clone, Copy)]
pub struct Safe<T>(pub T);

impl<T: fmt::Display> fmt::Display for Safe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Filter(f), "{}", self.0)
    }
}

struct Filter<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for Filter<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.bytes().all(|b| (0x20..0x7f).contains(&b)) {
            return self.0.write_str(text);
        }
        text.chars().try_for_each(|c| self.0.write_char(if (' '..='~').contains(&c) { c } else { '?' }))
    }
}

/// Prints a span of time in seconds as Postfix's `delay=` does: two significant digits, at most two decimals (`delay_logging_resolution_limit`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay(pub Duration);

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        if seconds >= 10.0 {
            return write!(f, "{}", seconds.round());
        }
        let text = if seconds >= 1.0 { format!("{seconds:.1}") } else { format!("{seconds:.2}") };
        let text = text.trim_end_matches('0').trim_end_matches('.');
        f.write_str(if text.is_empty() { "0" } else { text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_on_its_line() {
        assert_eq!(Safe("a\r\nb\u{1b}[31m\u{e9}\0").to_string(), "a??b?[31m??");
    }

    #[test]
    fn delays_look_as_pflogsumm_expects_them() {
        for (millis, text) in [
            (0, "0"),
            (4, "0"),
            (50, "0.05"),
            (110, "0.11"),
            (100, "0.1"),
            (1000, "1"),
            (1234, "1.2"),
            (12345, "12"),
            (120_000, "120"),
        ] {
            assert_eq!(Delay(Duration::from_millis(millis)).to_string(), text);
        }
    }
}
