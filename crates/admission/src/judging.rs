//! Judging a command: what is known goes to `mail-policy`, what it misses is fetched, until it has decided. And what an earlier command left for later.

use decision::Said;
use mail_config::Main;
use mail_policy::{Decision, Effect, Outcome, Question, Stage, Verdict};
use mail_types::{Address, EnhancedStatus, Reply, ReplyCode};

use crate::facts::Fetched;

/// How often one command may ask for one more fact.
const FACTS_MAX: usize = 100;

/// A command that is judged.
#[derive(Debug, Clone, Copy)]
pub struct Command<'a> {
    /// Where the session is.
    pub stage: Stage,
    /// The recipient that it is about, and how the client wrote it.
    pub recipient: Option<(&'a Address, &'a str)>,
    /// The domain of ETRN.
    pub etrn: Option<&'a str>,
}

impl<'a> Command<'a> {
    /// A command at a stage that names nobody.
    #[must_use]
    pub const fn at(stage: Stage) -> Self {
        Self { stage, recipient: None, etrn: None }
    }

    /// The recipient as the client wrote it.
    #[must_use]
    pub fn recipient_text(&self) -> Option<&'a str> {
        self.recipient.map(|(_, text)| text)
    }
}

/// A session as far as its commands are judged.
pub trait Bench: Send {
    /// Runs the restrictions over what is known.
    fn evaluate(&self, command: Command<'_>) -> Outcome;

    /// Fetches a fact and remembers it in [`Bench::fetched`].
    fn fetch(&mut self, question: Question) -> impl Future<Output = ()> + Send;

    /// What was fetched.
    fn fetched(&mut self) -> &mut Fetched;
}

/// Runs the restrictions about a command, and fetches what they miss, until they have decided.
///
/// # Errors
/// They miss more than one command may ask for; the client hears this.
pub async fn judge(bench: &mut impl Bench, command: Command<'_>) -> Result<(Verdict, Vec<Decision>), Reply> {
    let mut decided = None;
    for _ in 0..FACTS_MAX {
        match bench.evaluate(command) {
            Outcome::Decided(verdict, decisions) => {
                decided = Some((verdict, decisions));
                break;
            }
            // On the heap: most commands need no fact from outside, and keep no room for one.
            Outcome::Missing(question) => Box::pin(bench.fetch(question)).await,
        }
    }
    bench.fetched().end_of_command();
    decided.ok_or_else(|| Reply::new(ReplyCode::of(451), EnhancedStatus::of(4, 3, 0), "Error: too many lookups"))
}

/// What client, HELO and sender restrictions left to be refused later, where `smtpd_delay_reject = no`.
#[derive(Debug, Default)]
pub struct Deferrals {
    client: Option<Reply>,
    helo: Option<Reply>,
    sender: Option<Reply>,
}

impl Deferrals {
    /// What the restrictions of a stage must know. VRFY and ETRN stand outside a transaction, whose sender is none of theirs.
    #[must_use]
    pub fn before(&self, stage: Stage, in_transaction: bool) -> Option<&Reply> {
        let early = self.helo.as_ref().or(self.client.as_ref());
        match stage {
            Stage::Client | Stage::Data | Stage::EndOfData => None,
            Stage::Helo => self.client.as_ref(),
            Stage::Sender | Stage::Etrn => early,
            Stage::Recipient => self.sender.as_ref().filter(|_| in_transaction).or(early),
        }
    }

    /// Remembers what a stage left. A client that is judged anew has left nothing else.
    pub fn keep(&mut self, stage: Stage, deferral: Option<Reply>) {
        match stage {
            Stage::Client => *self = Self { client: deferral, ..Self::default() },
            Stage::Helo => self.helo = deferral,
            Stage::Sender => self.sender = deferral,
            Stage::Recipient | Stage::Data | Stage::EndOfData | Stage::Etrn => {}
        }
    }
}

/// A refusal as `soft_bounce` has it: nothing is refused for ever.
#[must_use]
pub fn softened(reply: Reply, main: &Main) -> Reply {
    if *main.soft_bounce { reply.softened() } else { reply }
}

/// What the log says of a decision beside yes and no.
#[derive(Debug, Clone, Copy)]
pub enum Remark<'a> {
    /// A line about the command, with its first word: `reject_warning`, `hold`, `warn`, `permit` ...
    Line(&'a str, Said<'a>),
    /// A warning about the rule.
    Warning(&'a str),
}

/// Tells what the log says of a decision beside yes and no. A yes is told where the decision has it still ([`crate::clients`]).
pub fn remark(decision: &Decision, main: &Main, mut tell: impl FnMut(Remark<'_>)) {
    match &decision.effect {
        Effect::Warn(reply) => {
            tell(Remark::Line("reject_warning", Said::Reply(&softened(reply.clone(), main))));
        }
        Effect::Log(word, text) => tell(Remark::Line(word, Said::Text(text))),
        Effect::Act(action) => {
            if let Some((word, text)) = action.log() {
                tell(Remark::Line(word, Said::Text(text)));
            }
        }
        Effect::Fail { why, .. } | Effect::Ignored(why) => tell(Remark::Warning(why)),
        Effect::Neutral | Effect::Permit | Effect::Refuse(_) | Effect::DeferIfPermit(_) | Effect::DeferIfReject(_) => {}
    }
    if let Some(permission) = &decision.permission {
        tell(Remark::Line("permit", Said::Text(&permission.text)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(text: &str) -> Option<Reply> {
        Some(Reply::new(ReplyCode::of(450), EnhancedStatus::of(4, 7, 1), text))
    }

    /// Asks for a fact more each time, so many times.
    struct Asking {
        wanted: usize,
        fetched: Fetched,
    }

    impl Bench for Asking {
        fn evaluate(&self, _: Command<'_>) -> Outcome {
            match self.wanted {
                0 => Outcome::Decided(Verdict::Accept { deferral: None }, Vec::new()),
                _ => Outcome::Missing(Question::Host("x.example".to_owned())),
            }
        }

        async fn fetch(&mut self, _: Question) {
            self.wanted -= 1;
        }

        fn fetched(&mut self) -> &mut Fetched {
            &mut self.fetched
        }
    }

    #[tokio::test]
    async fn a_command_has_its_facts_fetched_and_not_without_end() {
        let judged = async |wanted| {
            let mut asking = Asking { wanted, fetched: Fetched::default() };
            judge(&mut asking, Command::at(Stage::Helo)).await.map(|(verdict, _)| verdict)
        };
        assert_eq!(judged(FACTS_MAX - 1).await, Ok(Verdict::Accept { deferral: None }));
        assert_eq!(judged(FACTS_MAX).await.expect_err("too many").code.get(), 451);
    }

    #[test]
    fn what_was_left_for_later_is_known_from_the_next_command_on() {
        let mut deferrals = Deferrals::default();
        deferrals.keep(Stage::Client, reply("client"));
        deferrals.keep(Stage::Sender, reply("sender"));
        assert_eq!(deferrals.before(Stage::Client, false), None);
        assert_eq!(deferrals.before(Stage::Helo, false), reply("client").as_ref());
        assert_eq!(deferrals.before(Stage::Recipient, true), reply("sender").as_ref());
        assert_eq!(deferrals.before(Stage::Recipient, false), reply("client").as_ref());
        deferrals.keep(Stage::Helo, reply("helo"));
        assert_eq!(deferrals.before(Stage::Sender, false), reply("helo").as_ref());
        assert_eq!(deferrals.before(Stage::Data, true), None);
        deferrals.keep(Stage::Client, None);
        assert_eq!(deferrals.before(Stage::Recipient, true), None);
    }
}
