//! Running the lists.

use decision::Lookup;
use mail_config::main_cf::kinds::TempfailAction;
use mail_config::main_cf::lists::Rule;
use mail_types::{Reply, Severity, SourceLine};

use crate::facts::{Facts, Missing};
use crate::input::Input;
use crate::lookups;
use crate::plan::{List, Plan, Stage};
use crate::replies::Subject;
use crate::restrictions;
use crate::unlisted;
use crate::verdict::{Action, Decision, Effect, Outcome, Permission, Verdict};

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
    /// The stage that was asked for: the command that is judged.
    pub command: Stage,
    list: &'static str,
    source: SourceLine,
    named_by: Option<SourceLine>,
    /// What the table judged that named the rules that run.
    subject: Option<Subject>,
    /// Lookups of the rule that is running.
    pub lookups: Vec<Lookup>,
    /// The word of a table or service that said yes, what it judged, and which it is.
    pub granted: Option<(String, Subject, String)>,
    decisions: Vec<Decision>,
    defer_if_permit: Option<Reply>,
    defer_if_reject: Option<Reply>,
    /// An access table said `DISCARD`: nothing is judged any more.
    discarded: bool,
    /// An access table said `HOLD`.
    pub held: bool,
    /// The existence of recipient or sender was judged by a rule already.
    pub recipient_checked: bool,
    pub sender_checked: bool,
    depth: usize,
    /// The depth at which `warn_if_reject` stands; it covers all that its rule leads to.
    warning_from: Option<usize>,
    /// How many pauses the rules have asked for.
    pub pauses: usize,
}

/// Judges a command at a stage.
#[must_use]
pub fn evaluate(plan: &Plan, stage: Stage, input: &Input<'_>, facts: &dyn Facts) -> Outcome {
    let mut run = Run {
        plan,
        input,
        facts,
        stage,
        command: stage,
        list: "",
        source: SourceLine::built_in(),
        named_by: None,
        subject: None,
        lookups: Vec::new(),
        granted: None,
        decisions: Vec::new(),
        defer_if_permit: input.deferral.cloned(),
        defer_if_reject: None,
        discarded: input.discarded,
        held: input.held,
        recipient_checked: false,
        sender_checked: false,
        depth: 0,
        warning_from: None,
        pauses: 0,
    };
    // Tables that write down what they are asked begin anew: a run that missed a fact is gone.
    drop(facts.tables().take_asked());
    match run.stage(stage) {
        Ok(Some(reply)) => Outcome::Decided(Verdict::Refuse(reply), run.decisions),
        Ok(None) => Outcome::Decided(Verdict::Accept { deferral: run.defer_if_permit }, run.decisions),
        Err(Missing(question)) => Outcome::Missing(question),
    }
}

impl<'a> Run<'a> {
    fn stage(&mut self, stage: Stage) -> Result<Option<Reply>, Missing> {
        if stage == Stage::Recipient && self.is_bare_postmaster() {
            return Ok(None);
        }
        for list in self.plan.lists(stage) {
            self.begin(list);
            if !self.has_come(list.stage) {
                continue;
            }
            if let Flow::Refuse(reply) = self.rules(&list.rules)? {
                return Ok(Some(reply));
            }
            if list.stage == Stage::Sender
                && let Some(reply) = self.unlisted_sender()?
            {
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
        if stage == Stage::Recipient { self.unlisted_recipient() } else { Ok(None) }
    }

    /// RFC 5321 section 4.5.1 (S12): the postmaster without domain is reached in any case.
    fn is_bare_postmaster(&self) -> bool {
        self.input.recipient_text.is_some_and(|text| text.eq_ignore_ascii_case("postmaster"))
    }

    fn begin(&mut self, list: &List) {
        // The two lists of RCPT are one in this.
        if list.stage != Stage::Recipient || self.stage != Stage::Recipient || self.list.is_empty() {
            self.defer_if_reject = None;
        }
        self.list = list.name;
        self.stage = list.stage;
        self.source = list.source.clone();
        self.warning_from = None;
    }

    /// HELO may never come; the list then has nothing to judge (`smtpd_helo_required`). Nor has that of senders at VRFY and ETRN.
    fn has_come(&self, stage: Stage) -> bool {
        match stage {
            Stage::Helo => self.input.helo.is_some(),
            Stage::Sender => self.input.sender.is_some(),
            _ => true,
        }
    }

    /// `smtpd_reject_unlisted_sender`, where no rule did it.
    fn unlisted_sender(&mut self) -> Result<Option<Reply>, Missing> {
        let value = &self.plan.main.smtpd_reject_unlisted_sender;
        let due = **value && !self.sender_checked && !self.discarded;
        self.implied(due, "smtpd_reject_unlisted_sender", value.source.clone(), unlisted::sender)
    }

    /// `smtpd_reject_unlisted_recipient`, where no rule did it.
    fn unlisted_recipient(&mut self) -> Result<Option<Reply>, Missing> {
        let value = &self.plan.main.smtpd_reject_unlisted_recipient;
        let due = **value && !self.recipient_checked && !self.discarded;
        self.implied(due, "smtpd_reject_unlisted_recipient", value.source.clone(), unlisted::recipient)
    }

    fn implied(
        &mut self,
        due: bool,
        name: &'static str,
        source: SourceLine,
        check: fn(&mut Run<'_>) -> Result<Effect, Missing>,
    ) -> Result<Option<Reply>, Missing> {
        if !due {
            return Ok(None);
        }
        self.list = name;
        self.source = source;
        let effect = check(self)?;
        match self.decide(name.to_owned(), effect) {
            Flow::Refuse(reply) => Ok(Some(reply)),
            Flow::Neutral | Flow::Permit => Ok(None),
        }
    }

    /// Runs rules until one decides.
    pub fn rules(&mut self, rules: &[Rule]) -> Result<Flow, Missing> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            let effect = crate::replies::fail("restrictions and access tables name each other without end");
            return Ok(self.decide("nesting".to_owned(), effect));
        }
        let mut flow = Flow::Neutral;
        for rule in rules {
            if self.discarded {
                break;
            }
            if rule.warn_if_reject && self.warning_from.is_none() {
                self.warning_from = Some(self.depth);
            }
            flow = self.rule(rule)?;
            if self.warning_from.is_some_and(|depth| depth >= self.depth) {
                self.warning_from = None;
            }
            // A refusal for now is certain then.
            let certain = self.defer_if_permit.is_some() && self.defer_if_reject.is_some();
            if flow != Flow::Neutral || certain {
                break;
            }
        }
        self.depth -= 1;
        Ok(flow)
    }

    fn rule(&mut self, rule: &Rule) -> Result<Flow, Missing> {
        if let Some((rules, source)) = self.plan.classes.get(&rule.name) {
            let outer = std::mem::replace(&mut self.source, source.clone());
            let named_by = self.named_by.take();
            let flow = self.rules(rules)?;
            self.source = outer;
            self.named_by = named_by;
            return Ok(flow);
        }
        match restrictions::apply(self, rule)? {
            restrictions::Applied::Effect(effect) => Ok(self.decide(rule.to_string(), effect)),
            // An access table may name restrictions.
            restrictions::Applied::Rules { rules, source, yes, subject } => {
                self.decide(rule.to_string(), Effect::Neutral);
                let named_by = self.named_by.replace(source);
                let outer = self.subject.replace(subject);
                let flow = self.rules(&rules)?;
                self.subject = outer;
                self.named_by = named_by;
                match yes.of(flow) {
                    Ok(flow) => Ok(flow),
                    Err(effect) => Ok(self.decide(rule.to_string(), effect)),
                }
            }
        }
    }

    /// What a rule's words come to where the rules before it are counted in: a warning, or a refusal for now.
    fn in_context(&mut self, effect: Effect) -> Effect {
        let warning = self.warning_from.is_some();
        match effect {
            Effect::Refuse(reply) | Effect::DeferIfPermit(reply) | Effect::DeferIfReject(reply) if warning => {
                Effect::Warn(reply)
            }
            Effect::Refuse(reply) if reply.severity() == Severity::Permanent => {
                Effect::Refuse(self.defer_if_reject.take().unwrap_or(reply))
            }
            other => other,
        }
    }

    /// Writes down what a rule did, and says how the list goes on.
    fn decide(&mut self, rule: String, effect: Effect) -> Flow {
        let effect = self.in_context(effect);
        let flow = match &effect {
            Effect::Permit => Flow::Permit,
            Effect::Refuse(reply) | Effect::Fail { reply, .. } => Flow::Refuse(reply.clone()),
            Effect::DeferIfPermit(reply) => {
                self.defer_if_permit.get_or_insert_with(|| reply.clone());
                Flow::Neutral
            }
            Effect::DeferIfReject(reply) => {
                self.defer_if_reject.get_or_insert_with(|| reply.clone());
                Flow::Neutral
            }
            Effect::Act(Action::Discard(_)) => {
                self.discarded = true;
                Flow::Permit
            }
            Effect::Act(Action::Hold(_)) => {
                self.held = true;
                Flow::Neutral
            }
            Effect::Neutral | Effect::Act(_) | Effect::Warn(_) | Effect::Log(..) | Effect::Ignored(_) => Flow::Neutral,
        };
        let subject = self.subject();
        let permission = self.permission(&rule, &effect, &subject);
        self.decisions.push(Decision {
            list: self.list,
            rule,
            source: self.source.clone(),
            named_by: self.named_by.clone(),
            input: subject.name,
            class: subject.class,
            lookups: lookups::every(self.facts.tables().take_asked(), std::mem::take(&mut self.lookups)),
            effect,
            permission,
        });
        flow
    }

    /// A yes as the log may show it. One that an earlier deferral overrules is none.
    fn permission(&mut self, rule: &str, effect: &Effect, subject: &Subject) -> Option<Permission> {
        let granted = self.granted.take();
        let is_yes = match effect {
            Effect::Permit | Effect::Act(Action::Discard(_)) => true,
            // A table that may not say yes has said it all the same.
            Effect::Fail { .. } => granted.is_some(),
            _ => false,
        };
        if !is_yes || self.defer_if_permit.is_some() {
            return None;
        }
        let (action, of, from) = match granted {
            Some((word, of, from)) => (word, of, format!("from {from}")),
            None => {
                let plain = rule.trim_start_matches("warn_if_reject ");
                let (name, argument) = plain.split_once(' ').unwrap_or((plain, ""));
                let client = || Subject { name: self.input.peer(), class: "Client host" };
                let of = match name {
                    "permit_mynetworks"
                    | "permit_inet_interfaces"
                    | "permit_sasl_authenticated"
                    | "permit_dnswl_client"
                    | "permit_rhswl_client" => client(),
                    "permit_auth_destination" | "permit_mx_backup" => Subject::of(Stage::Recipient, self.input),
                    _ => subject.clone(),
                };
                let from = if argument.is_empty() { String::new() } else { format!("from {argument}") };
                (name.to_owned(), of, from)
            }
        };
        let text = format!("action={action} for {}={} {from}", of.class, of.name);
        Some(Permission { action, text })
    }

    /// What a rule judges that names nothing of its own: what its list judges, or the table that named it.
    pub fn subject(&self) -> Subject {
        self.subject.clone().unwrap_or_else(|| Subject::of(self.stage, self.input))
    }

    /// What a lookup that fails for now comes to, as one of the `*_tempfail_action` parameters says.
    pub fn tempfail(action: TempfailAction, reply: Reply) -> Effect {
        match action {
            TempfailAction::DeferIfPermit => Effect::DeferIfPermit(reply),
            TempfailAction::Defer => Effect::Refuse(reply),
        }
    }
}
