//! The answer of a policy service (SMTPD_POLICY_README): lines `name=value`, an empty one at the end.

/// The longest answer in octets.
const LENGTH_MAX: usize = 64 * 1024;

/// Why what a policy service said is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoAnswer {
    /// It goes on for more than 64 KiB.
    TooLong,
    /// It ended without an `action=` line.
    NoAction,
}

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TooLong => "an answer without end",
            Self::NoAction => "an answer without action",
        })
    }
}

impl std::error::Error for NoAnswer {}

/// An answer as far as it has come.
#[derive(Debug, Default)]
pub struct Answer {
    octets: Vec<u8>,
    /// Where the line begins that is not complete yet.
    line: usize,
    action: Option<String>,
}

impl Answer {
    /// Takes what came; gives the action once the answer is complete. Of several `action=` lines the last counts; what comes behind the end is left out.
    ///
    /// # Errors
    /// [`NoAnswer`]: the connection is to be closed.
    pub fn push(&mut self, octets: &[u8]) -> Result<Option<String>, NoAnswer> {
        let mut searched = self.octets.len();
        self.octets.extend_from_slice(octets);
        while let Some(length) = self.octets[searched..].iter().position(|&octet| octet == b'\n') {
            let end = searched + length;
            let line = String::from_utf8_lossy(&self.octets[self.line..end]);
            let line = line.trim_end_matches('\r');
            (self.line, searched) = (end + 1, end + 1);
            if end >= LENGTH_MAX {
                return Err(NoAnswer::TooLong);
            }
            if line.is_empty() {
                return self.action.take().map(Some).ok_or(NoAnswer::NoAction);
            }
            if let Some(value) = line.strip_prefix("action=") {
                self.action = Some(value.trim().to_owned());
            }
        }
        if self.octets.len() > LENGTH_MAX { Err(NoAnswer::TooLong) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_however_it_is_cut() {
        let text = b"x=y\r\naction= REJECT no\n\nmore";
        let mut answer = Answer::default();
        for octet in &text[..text.len() - 5] {
            assert_eq!(answer.push(&[*octet]), Ok(None));
        }
        assert_eq!(answer.push(b"\n"), Ok(Some("REJECT no".to_owned())));
        assert_eq!(Answer::default().push(text), Ok(Some("REJECT no".to_owned())));
        assert_eq!(Answer::default().push(b"action=OK\naction=DUNNO\n\n"), Ok(Some("DUNNO".to_owned())));
    }

    #[test]
    fn an_answer_without_action_or_end_is_none() {
        assert_eq!(Answer::default().push(b"\n"), Err(NoAnswer::NoAction));
        assert_eq!(Answer::default().push(&[b'a'; LENGTH_MAX]), Ok(None));
        assert_eq!(Answer::default().push(&[b'a'; LENGTH_MAX + 1]), Err(NoAnswer::TooLong));
        let mut long = b"action=OK\n".repeat(LENGTH_MAX / 10 + 1);
        long.extend(b"\n");
        assert_eq!(Answer::default().push(&long), Err(NoAnswer::TooLong));
    }
}
