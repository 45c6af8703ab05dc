//! Counting: commands for the log, errors for the limits.

use super::commands::{COUNTERS, Command};

/// What was counted in a session, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Per command: name in lower case, successes, all; only those that came, in Postfix's order.
    pub commands: Vec<(&'static str, u32, u32)>,
    /// The last command in upper case, `CONNECT` before the first, `END-OF-MESSAGE` after content.
    pub last: &'static str,
    /// Octets of content that had come when the session ended inside it.
    pub content_octets: Option<u64>,
}

impl std::fmt::Display for Summary {
    /// `ehlo=1 mail=1/2 quit=1 commands=3/4`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (good, all) = self.commands.iter().fold((0, 0), |(good, all), (_, g, a)| (good + g, all + a));
        for (name, good, all) in self.commands.iter().copied().chain([("commands", good, all)]) {
            let blank = if name == "commands" && self.commands.is_empty() { "" } else { " " };
            let lead = if self.commands.first().is_some_and(|first| first.0 == name) { "" } else { blank };
            // Tools look for 0/0 where no command came.
            if good == all && (name != "commands" || all > 0) {
                write!(f, "{lead}{name}={all}")?
            } else {
                write!(f, "{lead}{name}={good}/{all}")?
            }
        }
        Ok(())
    }
}

/// The running counts of one session.
pub(super) struct Tally {
    counts: [(u32, u32); COUNTERS.len()],
    current: usize,
    junk: bool,
    last: &'static str,
    /// Errors since the last message that was accepted.
    pub errors: u32,
    junk_commands: u32,
    forgiven: bool,
    lost_content: Option<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            counts: [(0, 0); COUNTERS.len()],
            current: COUNTERS.len() - 1,
            junk: false,
            last: "CONNECT",
            errors: 0,
            junk_commands: 0,
            forgiven: false,
            lost_content: None,
        }
    }
}

impl Tally {
    pub fn begin(&mut self, command: &Command) {
        self.current = command.counter;
        self.junk = command.junk;
        self.last = command.verb;
    }

    pub fn begin_unknown(&mut self) {
        self.current = COUNTERS.len() - 1;
        self.junk = false;
        self.last = "UNKNOWN";
    }

    pub fn current_verb(&self) -> &'static str {
        self.last
    }

    pub fn finished(&mut self, failed: bool, junk_limit: u32) {
        let (good, all) = &mut self.counts[self.current];
        *all += 1;
        if failed {
            self.errors += u32::from(!std::mem::take(&mut self.forgiven));
        } else {
            *good += 1;
        }
        if self.junk {
            self.junk_commands += 1;
            self.errors += u32::from(self.junk_commands > junk_limit);
        }
    }

    /// A message was accepted: the client is forgiven.
    pub fn message_accepted(&mut self) {
        self.errors = 0;
        self.junk_commands = 0;
        self.last = "END-OF-MESSAGE";
    }

    /// The refusal that follows is not the client's mistake.
    pub fn forgive_next(&mut self) {
        self.forgiven = true;
    }

    /// The connection broke after so many octets of content.
    pub fn lost_content(&mut self, octets: u64) {
        self.lost_content = Some(octets);
    }

    pub fn summary(&self) -> Summary {
        let counted = COUNTERS.iter().zip(&self.counts).filter(|(_, (_, all))| *all > 0);
        let commands = counted.map(|(name, &(good, all))| (*name, good, all)).collect();
        Summary { commands, last: self.last, content_octets: self.lost_content }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_reads_like_postfix() {
        let commands = vec![("ehlo", 1, 1), ("mail", 2, 3), ("unknown", 0, 1)];
        let summary = Summary { commands, last: "QUIT", content_octets: None };
        assert_eq!(summary.to_string(), "ehlo=1 mail=2/3 unknown=0/1 commands=3/5");
        let nothing = Summary { commands: vec![], last: "CONNECT", content_octets: None };
        assert_eq!(nothing.to_string(), "commands=0/0");
    }
}
