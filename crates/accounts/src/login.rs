//! A password against the passdbs of a plan: order, `deny`, master users, and the result rules of Dovecot.

mod ask;

use std::net::IpAddr;

use mail_types::Octets;

use crate::names::{Identity, Refused};
use crate::patterns::filter_allows;
use crate::plan::{About, After, Flow, Lead, Note, PassDriver, Passdb, Plan, Sources};
use crate::variables::Values;
use ask::Result;
pub(crate) use ask::{expand_all, find};

/// Somebody who wants in. `Debug` hides the password.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// `smtp`, `imap`, `pop3`.
    pub service: String,
    /// The SASL mechanism.
    pub mechanism: String,
    /// Whom PLAIN's client wants to be, as sent; empty for the user that the password belongs to.
    pub authzid: String,
    /// The name as sent.
    pub user: String,
    /// The password as sent.
    pub password: Octets,
    /// The peer's address.
    pub peer: IpAddr,
    /// Our address.
    pub local: IpAddr,
    /// The name that the client asked for in its TLS handshake.
    pub local_name: Option<String>,
    /// The session's name.
    pub session: String,
}

impl Attempt {
    /// A name for this attempt: of everything that the databases may judge, password included, but for the session. Who does not have the secret learns nothing
    /// from it.
    #[must_use]
    pub fn fingerprint(&self, secret: &[u8; 32]) -> String {
        let (peer, local) = (self.peer.to_string(), self.local.to_string());
        let name = self.local_name.as_deref().unwrap_or_default();
        let texts = [&self.service, &self.mechanism, &self.authzid, &self.user, &peer, &local, name];
        let mut message = Vec::new();
        for part in texts.iter().map(|text| text.as_bytes()).chain([self.password.as_bytes()]) {
            message.extend_from_slice(&(part.len() as u64).to_le_bytes());
            message.extend_from_slice(part);
        }
        crate::schemes::keyed_hash(secret, &message)
    }
}

/// What the passdbs say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The password is right and the user may log in.
    Granted(Granted),
    /// Wrong, unknown or refused: the peer never learns which.
    Denied,
    /// Nobody knows just now.
    Unavailable,
}

/// A user who may log in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Granted {
    /// The name after all rules.
    pub user: String,
    /// The master user who logs in as that user; none for the user.
    pub master: Option<String>,
    /// The fields `userdb_...` of the passdb, without the prefix: what `prefetch` gives.
    pub prefetched: Vec<(String, String)>,
}

/// A verdict with what the log should say.
#[derive(Debug, Clone)]
pub struct Judged {
    /// The verdict.
    pub verdict: Verdict,
    /// The name after the rules of names: the master user's until that password was right, then the user's. The one sent if the rules refuse it.
    pub user: String,
    /// Lines for the log.
    pub notes: Vec<Note>,
}

/// Judges an attempt. May take long (hashing, PAM): not on an event loop.
#[must_use]
pub fn login(plan: &Plan, sources: &dyn Sources, attempt: &Attempt) -> Judged {
    let mut notes = Vec::new();
    let mechanism = attempt.mechanism.to_ascii_lowercase();
    let session = attempt.session.as_str();
    let about = About { driver: &mechanism, user: "?", remote: Some(attempt.peer), session, ..About::default() };
    let names = (attempt.authzid.as_str(), attempt.user.as_str());
    let Identity { user, login } = match plan.names.identify(names, &attempt.service, !plan.masters.is_empty()) {
        Ok(identity) => identity,
        Err(Refused { user, shown, why }) => {
            notes.push(About { user: user.as_deref().unwrap_or("?"), ..about }.info(why));
            return Judged { verdict: Verdict::Denied, user: shown, notes };
        }
    };
    // An empty password is never anybody's: a file with an empty {PLAIN} would let everybody in.
    if attempt.password.as_bytes().is_empty() {
        notes.push(About { user: &user, master: login.is_some(), ..about }.info("Given password is empty"));
        return Judged { verdict: Verdict::Denied, user, notes };
    }
    let mut judge = Judge {
        plan,
        sources,
        attempt,
        granted: Granted { user: user.clone(), ..Granted::default() },
        login,
        shown: user,
        verified: false,
        refused: false,
        notes,
    };
    let verdict = judge.run();
    Judged { verdict, user: judge.shown, notes: judge.notes }
}

/// Whether a passdb of ordinary users knows the user, without a password: how `static` learns who exists. `None` if no passdb can tell.
pub(crate) fn exists(plan: &Plan, sources: &dyn Sources, user: &str) -> std::result::Result<Option<bool>, String> {
    let mut blind = false;
    for passdb in plan.passdbs.iter().filter(|passdb| !passdb.deny) {
        let values = Values { user, ..Values::default() };
        let known = match &passdb.driver {
            PassDriver::PasswdFile(arguments) => find(arguments, sources, &values)?.1.is_some(),
            PassDriver::Shadow => sources.system_user(user)?.is_some(),
            PassDriver::Static(_) => true,
            PassDriver::Unusable(text) => return Err(text.clone()),
            PassDriver::Pam(_) => {
                blind = true;
                continue;
            }
        };
        if known {
            return Ok(Some(true));
        }
    }
    Ok(if blind { None } else { Some(false) })
}

struct Judge<'a> {
    plan: &'a Plan,
    sources: &'a dyn Sources,
    attempt: &'a Attempt,
    granted: Granted,
    /// Whom a master user wants to be, until that password was right.
    login: Option<String>,
    /// Whom the log names.
    shown: String,
    /// The password was right and a later database is asked all the same: for what it knows of the user, no more for the password.
    verified: bool,
    /// A field such as `nologin` was given: right password, but no login.
    refused: bool,
    notes: Vec<Note>,
}

impl Judge<'_> {
    fn run(&mut self) -> Verdict {
        let plan = self.plan;
        let (mut success, mut internal) = (false, false);
        let mut rest = if self.login.is_some() { plan.masters.as_slice() } else { plan.passdbs.as_slice() };
        while let Some((passdb, after)) = rest.split_first() {
            rest = after;
            if self.passed_over(passdb) {
                continue;
            }
            let result = self.ask(passdb);
            if passdb.deny {
                match result {
                    Result::Unknown => continue,
                    Result::Internal => return Verdict::Unavailable,
                    _ => {
                        self.notes.push(self.about(passdb).info("User found from deny passdb"));
                        return Verdict::Denied;
                    }
                }
            }
            if result == Result::Disabled {
                return Verdict::Denied;
            }
            if result == Result::Ok && self.become_login_user(passdb) {
                // Whatever follows is asked about the user whom the master user has become.
                rest = &plan.passdbs;
            }
            let rule = rule(passdb.flow, result);
            self.verified |= rule == After::ContinueOk || (rule == After::Continue && result == Result::Ok);
            internal |= result == Result::Internal;
            match rule.leads(success) {
                Lead::End(false) if rule == After::ReturnFail => return Verdict::Denied,
                Lead::End(decided) => {
                    success = decided;
                    break;
                }
                Lead::On(decided) => success = decided,
            }
        }
        match (success && !self.refused, internal && !success) {
            (true, _) => Verdict::Granted(std::mem::take(&mut self.granted)),
            (false, true) => Verdict::Unavailable,
            (false, false) => Verdict::Denied,
        }
    }

    /// A master user's password was right: from here on it is the login of the user whom they asked for. False where nobody asked for somebody else.
    fn become_login_user(&mut self, passdb: &Passdb) -> bool {
        let Some(login) = self.login.clone() else { return false };
        self.notes.push(self.about(passdb).info(format_args!("Master user logging in as {login}")));
        self.login = None;
        self.granted.master = Some(std::mem::replace(&mut self.granted.user, login.clone()));
        self.shown = login;
        true
    }

    fn passed_over(&self, passdb: &Passdb) -> bool {
        let skipped = passdb.flow.skip.passes_over(self.verified);
        let mechanism = passdb.mechanisms.is_empty()
            || passdb.mechanisms.iter().any(|name| name.eq_ignore_ascii_case(&self.attempt.mechanism));
        skipped || !mechanism || !filter_allows(&passdb.username_filter, &self.granted.user)
    }

    fn about(&self, passdb: &Passdb) -> About<'_> {
        let driver = match passdb.driver {
            PassDriver::PasswdFile(_) => "passwd-file",
            PassDriver::Pam(_) => "pam",
            PassDriver::Shadow => "shadow",
            PassDriver::Static(_) => "static",
            PassDriver::Unusable(_) => "passdb",
        };
        let attempt = self.attempt;
        let (remote, master) = (Some(attempt.peer), self.login.is_some());
        About { driver, user: &self.granted.user, remote, master, session: &attempt.session }
    }

    fn say(&mut self, passdb: &Passdb, error: bool, text: impl std::fmt::Display) {
        let note = if error { self.about(passdb).error(text) } else { self.about(passdb).info(text) };
        self.notes.push(note);
    }
}

/// The rule that a result falls under.
fn rule(flow: Flow, result: Result) -> After {
    match result {
        Result::Ok => flow.success,
        Result::Internal => flow.internal_failure,
        Result::Disabled => After::ReturnFail,
        Result::Mismatch | Result::Unknown => flow.failure,
    }
}

#[cfg(test)]
mod masters;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, field, passdb, passdb_file, template};
    use crate::plan::{Flow, Skip};

    const FILE: &str = "alice:{PLAIN}wonder:5000:5001::/h::userdb_mail=maildir:~/M allow_nets=192.0.2.0/24\n\
        carol:{FOO}x\ndave:\nerin:{PLAIN}x::::::allow_nets=198.51.100.1\nfrank:{PLAIN}x::::::nologin\n\
        gina:{PLAIN}\nhugo:::::::nopassword\npaul:{PLAIN}x::::::proxy host=192.0.2.9\n\
        mary@info.net:{PLAIN}x::::::user=alice\n";

    fn attempt(user: &str, password: &str) -> Attempt {
        Attempt {
            service: "imap".into(),
            mechanism: "PLAIN".into(),
            authzid: String::new(),
            user: user.into(),
            password: password.into(),
            peer: "192.0.2.5".parse().unwrap(),
            local: "192.0.2.1".parse().unwrap(),
            local_name: None,
            session: "SESS".into(),
        }
    }

    fn judge(passdbs: Vec<Passdb>, user: &str, password: &str) -> (Verdict, Vec<String>) {
        let plan = Plan { passdbs, ..Plan::default() };
        let mut sources = Fake::with_file("/p", FILE);
        sources.files.insert("/deny".into(), "alice\n".into());
        let judged = login(&plan, &sources, &attempt(user, password));
        (judged.verdict, judged.notes.into_iter().map(|note| note.text).collect())
    }

    fn granted(user: &str, passdbs: Vec<Passdb>, password: &str) -> bool {
        matches!(judge(passdbs, user, password).0, Verdict::Granted(_))
    }

    fn file() -> Vec<Passdb> {
        vec![passdb_file("/p")]
    }

    #[test]
    fn a_right_password_is_granted_with_the_fields_of_the_user() {
        let (verdict, notes) = judge(file(), "Alice", "wonder");
        let prefetched = vec![("mail".to_owned(), "maildir:~/M".to_owned())];
        assert_eq!(verdict, Verdict::Granted(Granted { user: "alice".into(), master: None, prefetched }));
        assert!(notes.is_empty());
    }

    // The lines are those of Dovecot 2.3.19, except where a login is refused that it would grant.
    #[test]
    fn a_refusal_says_why_in_the_log_only() {
        let cases = [
            ("alice", "no", "passwd-file(alice,192.0.2.5,<SESS>): Password mismatch"),
            ("nobody", "x", "passwd-file(nobody,192.0.2.5,<SESS>): unknown user"),
            ("carol", "x", "passwd-file(carol,192.0.2.5,<SESS>): Unknown scheme FOO"),
            ("dave", "x", "passwd-file(dave,192.0.2.5,<SESS>): Password mismatch"),
            (
                "erin",
                "x",
                "passwd-file(erin,192.0.2.5,<SESS>): allow_nets check failed: IP 192.0.2.5 not in allowed networks",
            ),
            ("frank", "x", "passwd-file(frank,192.0.2.5,<SESS>): nologin is set: login refused"),
            ("gina", "", "plain(gina,192.0.2.5,<SESS>): Given password is empty"),
            ("hugo", "x", "passwd-file(hugo,192.0.2.5,<SESS>): nopassword is not supported: login refused"),
            ("paul", "x", "passwd-file(paul,192.0.2.5,<SESS>): proxying is not supported: login refused"),
            (
                "we!rd",
                "x",
                "plain(?,192.0.2.5,<SESS>): Username character disallowed by auth_username_chars: 0x21 (username: we!rd)",
            ),
        ];
        for (user, password, line) in cases {
            let (verdict, notes) = judge(file(), user, password);
            assert_eq!(verdict, Verdict::Denied, "{user}");
            assert_eq!(notes, vec![line.to_owned()]);
        }
    }

    #[test]
    fn a_field_may_rename_the_user() {
        let (verdict, _) = judge(file(), "mary@info.net", "x");
        assert_eq!(verdict, Verdict::Granted(Granted { user: "alice".into(), ..Granted::default() }));
    }

    #[test]
    fn the_next_passdb_is_asked_after_a_failure() {
        let pam = || passdb(PassDriver::Pam(template("dovecot")));
        assert!(granted("pamela", vec![passdb_file("/p"), pam()], "system"));
        assert!(granted("alice", vec![pam(), passdb_file("/p")], "wonder"));
        assert_eq!(judge(vec![passdb_file("/p"), pam()], "pamela", "wrong").0, Verdict::Denied);
    }

    #[test]
    fn shadow_decides_like_any_other() {
        assert!(granted("shade", vec![passdb(PassDriver::Shadow)], "dark"));
        assert_eq!(judge(vec![passdb(PassDriver::Shadow)], "shade", "light").0, Verdict::Denied);
    }

    #[test]
    fn nobody_knows_is_not_no() {
        let absent = || passdb_file("/absent");
        assert_eq!(judge(vec![absent()], "alice", "wonder").0, Verdict::Unavailable);
        assert_eq!(judge(vec![absent(), passdb_file("/p")], "alice", "no").0, Verdict::Unavailable);
        assert!(granted("alice", vec![absent(), passdb_file("/p")], "wonder"));
    }

    #[test]
    fn a_deny_passdb_refuses_whom_it_knows() {
        let mut deny = passdb_file("/deny");
        deny.deny = true;
        let (verdict, notes) = judge(vec![deny.clone(), passdb_file("/p")], "alice", "wonder");
        assert_eq!(verdict, Verdict::Denied);
        assert!(notes.last().unwrap().ends_with("User found from deny passdb"));
        assert!(granted("mary@info.net", vec![deny.clone(), passdb_file("/p")], "x"));
        // An unreadable list of the refused lets nobody in.
        deny.driver = passdb_file("/absent").driver;
        assert_eq!(judge(vec![deny, passdb_file("/p")], "alice", "wonder").0, Verdict::Unavailable);
    }

    #[test]
    fn expired_accounts_are_refused_whatever_follows() {
        let pam = passdb(PassDriver::Pam(template("dovecot")));
        let all = passdb(PassDriver::Static(vec![field("password=x")]));
        assert_eq!(judge(vec![pam, all.clone()], "expired", "x").0, Verdict::Denied);
        assert!(granted("expired", vec![all], "x"));
    }

    #[test]
    fn result_rules_lead_on_or_end() {
        let with = |flow| {
            let mut first = passdb_file("/p");
            first.flow = flow;
            vec![first, passdb(PassDriver::Static(vec![field("password=second")]))]
        };
        assert!(granted("alice", with(Flow::default()), "second"));
        assert!(!granted("alice", with(Flow { failure: After::ReturnFail, ..Flow::default() }), "second"));
        assert!(!granted("alice", with(Flow { failure: After::Return, ..Flow::default() }), "second"));
        assert!(granted("alice", with(Flow { success: After::ContinueOk, ..Flow::default() }), "wonder"));
        let mut skipping = with(Flow { success: After::ContinueOk, ..Flow::default() });
        skipping[1].flow.skip = Skip::Unauthenticated;
        assert!(!granted("alice", skipping.clone(), "second"));
        assert!(granted("alice", skipping, "wonder"));
        // `return` keeps what earlier databases decided, and before the first that is no.
        assert!(!granted("alice", with(Flow { success: After::Return, ..Flow::default() }), "wonder"));
        let mut earlier = with(Flow { success: After::ContinueOk, ..Flow::default() });
        earlier[1].flow.failure = After::Return;
        assert!(granted("alice", earlier, "wonder"));
    }

    // What Dovecot 2.3.19 does: the next database is no more asked for the password, only whether it knows the user.
    #[test]
    fn after_a_right_password_that_leads_on_the_user_only_has_to_be_known() {
        let flow = Flow { success: After::Continue, ..Flow::default() };
        let first = |driver| Passdb { flow, ..passdb(driver) };
        let all = || first(PassDriver::Static(vec![field("password=all")]));
        assert!(granted("alice", vec![all(), passdb_file("/p")], "all"));
        assert!(!granted("nobody", vec![all(), passdb_file("/p")], "all"));
        assert!(!granted("alice", vec![all()], "all"), "nobody has said yes");
        for user in ["dave", "carol", "hugo"] {
            assert!(granted(user, vec![all(), passdb_file("/p")], "all"), "{user} has no password to compare with");
        }
        for user in ["erin", "frank", "paul"] {
            assert!(!granted(user, vec![all(), passdb_file("/p")], "all"), "{user} may not log in");
        }
        let shadow = || passdb(PassDriver::Shadow);
        assert!(granted("shade", vec![all(), shadow()], "all"));
        assert!(!granted("locked", vec![all(), shadow()], "all"));
        // PAM knows nobody without a password.
        assert!(!granted("pamela", vec![all(), passdb(PassDriver::Pam(template("dovecot")))], "all"));
        let mut skipped = passdb_file("/p");
        skipped.flow.skip = Skip::Authenticated;
        assert!(!granted("alice", vec![all(), skipped], "all"));
    }

    #[test]
    fn mechanisms_and_names_choose_a_passdb() {
        let mut only = passdb_file("/p");
        only.mechanisms = vec!["login".into()];
        assert!(!granted("alice", vec![only.clone()], "wonder"));
        only.mechanisms = vec!["plain".into()];
        assert!(granted("alice", vec![only.clone()], "wonder"));
        only.username_filter = vec!["*@info.net".into()];
        assert!(!granted("alice", vec![only.clone()], "wonder"));
        only.username_filter = vec!["*".into(), "!a?ice".into()];
        assert!(!granted("alice", vec![only], "wonder"));
    }

    #[test]
    fn no_passdb_is_no_login() {
        assert_eq!(judge(Vec::new(), "alice", "wonder").0, Verdict::Denied);
        assert!(!granted("alice", vec![passdb(PassDriver::Static(vec![field("nopassword=y")]))], "x"));
    }

    #[test]
    fn override_fields_come_last() {
        let mut first = passdb_file("/p");
        first.override_fields = vec![field("user=%d-%n")];
        let (verdict, _) = judge(vec![first], "mary@info.net", "x");
        assert!(matches!(verdict, Verdict::Granted(granted) if granted.user == "info.net-mary"));
    }
}
