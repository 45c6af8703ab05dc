//! Running the lists.

use decision::Lookup;
use mail_config::main_cf::lists::Rule;
use mail_types::{Reply, Severity, SourceLine};

use crate::facts::{Facts, Missing};
use crate::input::Input;
use crate::plan::{List, Plan, Stage};
use crate::replies::Subject;
use crate::restrictions;
use crate::unlisted;
use crate::verdict::{Decision, Effect, Outcome, Verdict};

/// How deep classes and access tables may name each other (`smtpd_restriction_classes`).
const DEPTH_MAX: usize = 100;

/// How a list, or a part of one, ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Nothing was decided.
    Neutral,
    Permit,
    Refuse(Reply),
}

/// One run over the lists of a stage.
pub(crate) struct Run<'a> {
    pub plan: &'a Plan,
    pub input: &'a Input<'a>,
    pub facts: &'a dyn Facts,
    /// The stage whose list is running; it decides what a refusal is about.
    pub stage: Stage,
    list: &'static str,
    source: SourceLine,
    /// Lookups of the rule that is running.
    pub lookups: Vec<Lookup>,
    decisions: Vec<Decision>,
    defer_if_permit: Option<Reply>,
    defer_if_reject: Option<Reply>,
    hold: bool,
    /// The existence of recipient or sender was judged by a rule already.
    pub recipient_checked: bool,
    pub sender_checked: bool,
    depth: usize,
}

/// Judges a command at a stage.
#[must_use]
pub fn evaluate(plan: &Plan, stage: Stage, input: &Input<'_>, facts: &dyn Facts) -> Outcome {
    let mut run = Run {
        plan,
        input,
        facts,
        stage,
        list: "",
        source: SourceLine::built_in(),
        lookups: Vec::new(),
        decisions: Vec::new(),
        defer_if_permit: input.deferral.cloned(),
        defer_if_reject: None,
        hold: false,
        recipient_checked: false,
        sender_checked: false,
        depth: 0,
    };
    match run.stage(stage) {
        Ok(Some(reply)) => Outcome::Decided(Verdict::Refuse(run.soften(reply)), run.decisions),
        Ok(None) => {
            let verdict = Verdict::Accept { hold: run.hold, deferral: run.defer_if_permit };
            Outcome::Decided(verdict, run.decisions)
        }
        Err(Missing(question)) => Outcome::Missing(vec![question]),
    }
}

impl<'a> Run<'a> {
    fn stage(&mut self, stage: Stage) -> Result<Option<Reply>, Missing> {
        for list in self.plan.lists(stage) {
            self.begin(list);
            if !self.has_come(list.stage) {
                continue;
            }
            if let Flow::Refuse(reply) = self.rules(&list.rules)? {
                return Ok(Some(reply));
            }
        }
        self.stage = stage;
        // A temporary error may have kept an earlier rule from refusing: nothing is accepted over it.
        if stage >= Stage::Recipient
            && let Some(reply) = self.defer_if_permit.take()
        {
            return Ok(Some(reply));
        }
        self.unlisted(stage)
    }

    fn begin(&mut self, list: &List) {
        self.list = list.name;
        self.stage = list.stage;
        self.source = list.source.clone();
        self.defer_if_reject = None;
    }

    /// HELO may never come; the list then has nothing to judge (`smtpd_helo_required`).
    fn has_come(&self, stage: Stage) -> bool {
        stage != Stage::Helo || self.input.helo.is_some()
    }

    /// `smtpd_reject_unlisted_sender` and `smtpd_reject_unlisted_recipient`, where no rule did it.
    fn unlisted(&mut self, stage: Stage) -> Result<Option<Reply>, Missing> {
        let main = &self.plan.main;
        let sender_due = stage == Stage::Recipient && *main.smtpd_reject_unlisted_sender && !self.sender_checked;
        let recipient_due =
            stage == Stage::Recipient && *main.smtpd_reject_unlisted_recipient && !self.recipient_checked;
        for (due, name, value, check) in [
            (sender_due, "smtpd_reject_unlisted_sender", &main.smtpd_reject_unlisted_sender, unlisted::sender as Check),
            (
                recipient_due,
                "smtpd_reject_unlisted_recipient",
                &main.smtpd_reject_unlisted_recipient,
                unlisted::recipient,
            ),
        ] {
            if !due {
                continue;
            }
            self.list = name;
            self.source = value.source.clone();
            let effect = check(self)?;
            let flow = self.decide(name.to_owned(), effect, false);
            if let Flow::Refuse(reply) = flow {
                return Ok(Some(reply));
            }
        }
        Ok(None)
    }

    /// Runs rules until one decides.
    pub fn rules(&mut self, rules: &[Rule]) -> Result<Flow, Missing> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            let reply = crate::replies::configuration_error("restrictions nested too deeply");
            return Ok(self.decide("nesting".to_owned(), Effect::Refuse(reply), false));
        }
        let mut flow = Flow::Neutral;
        for rule in rules {
            flow = self.rule(rule)?;
            if flow != Flow::Neutral {
                break;
            }
        }
        self.depth -= 1;
        Ok(flow)
    }

    fn rule(&mut self, rule: &Rule) -> Result<Flow, Missing> {
        if let Some((rules, source)) = self.plan.classes.get(&rule.name) {
            let outer = std::mem::replace(&mut self.source, source.clone());
            let flow = self.rules(rules)?;
            self.source = outer;
            return Ok(flow);
        }
        match restrictions::apply(self, rule)? {
            restrictions::Applied::Effect(effect) => Ok(self.decide(rule.to_string(), effect, rule.warn_if_reject)),
            // An access table may name restrictions.
            restrictions::Applied::Rules(rules) => {
                self.decide(rule.to_string(), Effect::Neutral, false);
                self.rules(&rules)
            }
        }
    }

    /// Writes down what a rule did, and says how the list goes on.
    fn decide(&mut self, rule: String, effect: Effect, warn: bool) -> Flow {
        let effect = match effect {
            Effect::Refuse(reply) | Effect::DeferIfPermit(reply) if warn => Effect::Warn(reply),
            other => other,
        };
        let flow = match &effect {
            Effect::Permit => Flow::Permit,
            Effect::Refuse(reply) => Flow::Refuse(reply.clone()),
            Effect::DeferIfPermit(reply) => {
                self.defer_if_permit.get_or_insert_with(|| reply.clone());
                Flow::Neutral
            }
            Effect::DeferIfReject(reply) => {
                self.defer_if_reject.get_or_insert_with(|| reply.clone());
                Flow::Neutral
            }
            Effect::Hold(_) => {
                self.hold = true;
                Flow::Neutral
            }
            Effect::Neutral | Effect::Warn(_) | Effect::Log(..) => Flow::Neutral,
        };
        self.decisions.push(Decision {
            list: self.list,
            rule,
            source: self.source.clone(),
            input: self.subject().name,
            lookups: std::mem::take(&mut self.lookups),
            effect,
        });
        flow
    }

    /// `defer_if_reject` and `soft_bounce` turn a permanent refusal into a temporary one.
    fn soften(&self, reply: Reply) -> Reply {
        match &self.defer_if_reject {
            Some(deferral) if reply.severity() == Severity::Permanent => deferral.clone(),
            _ => reply,
        }
    }

    pub fn subject(&self) -> Subject {
        Subject::of(self.stage, self.input)
    }
}

type Check = fn(&mut Run<'_>) -> Result<Effect, Missing>;
