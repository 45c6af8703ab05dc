//! What became of each message of our queue.

use serde::Serialize;

/// A message, or some of its recipients, that stays in our queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Left {
    /// Its id.
    pub message: String,
    /// Why, and what can be done.
    pub reason: String,
}

/// A message that Postfix has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Handed {
    /// Its id in our queue; for a submission the name of its file.
    pub old: String,
    /// Its queue and id in Postfix's.
    pub new: String,
}

/// The account of a hand-over.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Account {
    /// Messages that Postfix delivers.
    pub handed_over: u64,
    /// Messages that Postfix holds.
    pub held: u64,
    /// Submissions that Postfix picks up.
    pub submitted: u64,
    /// Messages that an earlier run had begun.
    pub resumed: u64,
    /// Old and new ids.
    pub handed: Vec<Handed>,
    /// What stays here.
    pub left: Vec<Left>,
}

impl Account {
    /// The account in lines.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { handed_over, held, submitted, resumed, .. } = self;
        let left = self.left.len();
        let mut out = format!("handed over {handed_over}, on hold {held}, submissions {submitted}, left {left}\n");
        if *resumed > 0 {
            out.push_str(&format!("finished what an earlier run began: {resumed}\n"));
        }
        for Left { message, reason } in &self.left {
            out.push_str(&format!("left: {message}: {reason}\n"));
        }
        out
    }
}
