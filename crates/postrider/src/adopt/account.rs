//! What became of each message of Postfix's queue.

use serde::Serialize;

/// A message that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Adopted {
    /// Its id in Postfix's queue.
    pub old: String,
    /// Its id in ours; for a submission the name of its file.
    pub new: String,
}

/// A message that stays where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Left {
    /// Its queue and id.
    pub message: String,
    /// Why.
    pub reason: String,
}

/// The account of an import.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Account {
    /// Users and groups that were made for the daemons.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub made: Vec<String>,
    /// Messages that are in our queue and go their way.
    pub imported: u64,
    /// Messages that are in our queue on hold.
    pub held: u64,
    /// Submissions that smtpd picks up.
    pub submitted: u64,
    /// Messages that an earlier run had begun.
    pub resumed: u64,
    /// Files whose recipients Postfix had all seen to.
    pub done: u64,
    /// Old and new ids.
    pub adopted: Vec<Adopted>,
    /// What stays in Postfix's queue.
    pub left: Vec<Left>,
}

impl Account {
    /// A message entered our queue.
    pub fn taken(&mut self, old: String, new: String, hold: bool) {
        *(if hold { &mut self.held } else { &mut self.imported }) += 1;
        self.adopted.push(Adopted { old, new });
    }

    /// A submission waits for smtpd.
    pub fn submission(&mut self, old: String, new: String) {
        self.submitted += 1;
        self.adopted.push(Adopted { old, new });
    }

    /// A message stays.
    pub fn left(&mut self, message: String, reason: &str) {
        self.left.push(Left { message, reason: reason.to_owned() });
    }

    /// The account in lines.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!(
            "imported {}, on hold {}, submissions for smtpd {}, left {}\n",
            self.imported,
            self.held,
            self.submitted,
            self.left.len()
        );
        if !self.made.is_empty() {
            out.push_str(&format!("made: {}\n", self.made.join(", ")));
        }
        if self.resumed > 0 {
            out.push_str(&format!("finished what an earlier run began: {}\n", self.resumed));
        }
        if self.done > 0 {
            out.push_str(&format!("put away, because Postfix had seen to all recipients: {}\n", self.done));
        }
        for Left { message, reason } in &self.left {
            out.push_str(&format!("left: {message}: {reason}\n"));
        }
        out
    }
}
