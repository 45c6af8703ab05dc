//! The monitor's side: PAM and shadow in a process per question, and passwd-files opened for the front.
//!
//! The front may have been taken over, so every question is held against the configuration: no other PAM service, no other file. A helper
//! runs foreign code (PAM modules, NSS) and ends after one question.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{SystemTime, UNIX_EPOCH};

use accounts::plan::Plan;
use accounts::schemes::Stored;
use mail_config::dovecot::Connection;
use mail_daemon::monitor::{Channel, Desk, Service};
use mail_ipc::frame::{self, Frame, Raw};
use mail_posix::fork::{Ended, end_after};
use mail_posix::{pam, users};
use mail_types::Octets;

use crate::questions::{Answer, Opinion, Question};

/// The most helpers at once, whatever the front asks for.
pub(crate) const HELPERS_MAX: usize = 64;
/// A helper that has no answer by then is ended (seconds).
const PATIENCE: u32 = 60;

/// The helpers under way.
#[derive(Default)]
pub(crate) struct Helpers {
    running: HashMap<u32, Helper>,
    /// The plans of the generation in force.
    plans: Option<(u64, Vec<Plan>)>,
}

struct Helper {
    channel: Channel,
    /// The front's number of the question.
    question: u64,
    answered: bool,
}

impl Service for Helpers {
    fn frame(&mut self, desk: &mut Desk, raw: Raw, _descriptors: Vec<OwnedFd>) {
        let Ok(Frame { id, body, .. }) = raw.read::<Question>(&[]) else {
            reply(desk, raw.id(), Answer::Refused { text: "question not understood".into() }, &[]);
            return;
        };
        match body {
            Question::Rights => reply(desk, id, Answer::Rights { root: is_root() }, &[]),
            Question::File { path } => match self.open(desk, &path) {
                Ok(file) => reply(desk, id, Answer::File, &[file.as_fd()]),
                Err(text) => reply(desk, id, Answer::Refused { text }, &[]),
            },
            Question::Pam { .. } | Question::Shadow { .. } => {
                if let Err(text) = self.start(desk, id, body) {
                    reply(desk, id, Answer::Refused { text }, &[]);
                }
            }
        }
    }

    fn ready(&mut self, desk: &mut Desk, token: u64) {
        if let Some(pid) = u32::try_from(token).ok().filter(|pid| self.running.contains_key(pid)) {
            self.pass_on(desk, pid);
        }
    }

    fn child_ended(&mut self, desk: &mut Desk, pid: u32, ended: Ended) {
        self.pass_on(desk, pid);
        if let Some(helper) = self.forget(desk, pid)
            && !helper.answered
        {
            let opinion = Opinion::Unavailable { text: format!("helper process ended without an answer: {ended}") };
            reply(desk, helper.question, Answer::Opinion { opinion }, &[]);
        }
    }

    fn reloaded(&mut self, _desk: &mut Desk) {
        self.plans = None;
    }

    fn stop(&mut self, _desk: &mut Desk) {}

    /// Helpers end by themselves, and nobody waits for their answers after the front has gone.
    fn busy(&self) -> bool {
        false
    }
}

impl Helpers {
    /// What dovecot.conf says to any protocol. Addresses and names make no difference to databases.
    fn plans(&mut self, desk: &Desk) -> &[Plan] {
        let running = &desk.running;
        let current = self.plans.take().filter(|(generation, _)| *generation == running.generation);
        let plans = current.unwrap_or_else(|| {
            let dovecot = &running.config.dovecot;
            let protocols = dovecot.protocols_with_settings();
            let plan = |protocol: &String| accounts::dovecot::plan(&dovecot.seen(&Connection::of(protocol))).0;
            (running.generation, protocols.iter().map(plan).collect())
        });
        &self.plans.insert(plans).1
    }

    fn open(&mut self, desk: &Desk, path: &str) -> Result<File, String> {
        if !self.plans(desk).iter().any(|plan| plan.names_file(path)) {
            return Err(format!("{path} is no passwd-file of the configuration"));
        }
        File::open(path).map_err(|error| format!("open({path}) failed: {error}"))
    }

    fn start(&mut self, desk: &Desk, id: u64, question: Question) -> Result<(), String> {
        if !is_root() {
            return Err("system passwords cannot be checked without root".into());
        }
        let permitted = match &question {
            Question::Pam { service, .. } => self.plans(desk).iter().any(|plan| plan.names_pam_service(service)),
            Question::Shadow { .. } => self.plans(desk).iter().any(Plan::uses_shadow),
            _ => false,
        };
        if !permitted {
            return Err("the configuration does not ask this".into());
        }
        if self.running.len() >= HELPERS_MAX {
            return Err("too many helpers".into());
        }
        let failed = |error: std::io::Error| format!("cannot start a helper: {error}");
        let (channel, far) = Channel::pair().map_err(failed)?;
        let child = desk.fork(&[far.as_fd()], || work(&far, question)).map_err(failed)?;
        desk.watch.add(&channel, u64::from(child.pid())).map_err(failed)?;
        self.running.insert(child.pid(), Helper { channel, question: id, answered: false });
        Ok(())
    }

    /// Passes a helper's answer to the front.
    fn pass_on(&mut self, desk: &mut Desk, pid: u32) {
        let Some(helper) = self.running.get_mut(&pid) else { return };
        let Ok(taken) = helper.channel.receive() else { return };
        if let Some((raw, _)) = taken.frames.first()
            && let Ok(frame) = raw.read::<Opinion>(&[])
            && !helper.answered
        {
            helper.answered = true;
            reply(desk, helper.question, Answer::Opinion { opinion: frame.body }, &[]);
        }
        // A closed channel stays readable: its helper is forgotten once it has answered, or when it has ended.
        if taken.closed && helper.answered {
            self.forget(desk, pid);
        }
    }

    fn forget(&mut self, desk: &Desk, pid: u32) -> Option<Helper> {
        let helper = self.running.remove(&pid)?;
        desk.watch.remove(&helper.channel);
        Some(helper)
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn reply(desk: &Desk, id: u64, answer: Answer, descriptors: &[BorrowedFd<'_>]) {
    // A front that takes nothing has ended or will be ended; the monitor sees that by itself.
    let _ = desk.front.send(&Frame::new(id, answer), descriptors);
}

/// The helper: one question, one answer, end.
fn work(mut to: &UnixStream, question: Question) -> u8 {
    end_after(PATIENCE);
    let opinion = match &question {
        Question::Pam { service, user, password, remote } => ask_pam(service, user, password, remote, None),
        Question::Shadow { user, password } => ask_shadow(user, password.as_ref()),
        _ => return 1,
    };
    let mut bytes = Vec::new();
    let sent = frame::encode(&Frame::new(0, opinion), 0, &mut bytes).is_ok() && to.write_all(&bytes).is_ok();
    u8::from(!sent)
}

fn ask_pam(service: &str, user: &str, password: &Octets, remote: &str, directory: Option<&std::path::Path>) -> Opinion {
    let Some(password) = password.as_str() else {
        return Opinion::Denied { text: "password is not UTF-8".into() };
    };
    let question = pam::Question { service, user, password, remote: Some(remote), terminal: "dovecot", directory };
    match pam::check(question) {
        pam::Answer::Granted { user } => Opinion::Granted { user },
        pam::Answer::Denied(text) => Opinion::Denied { text },
        pam::Answer::UnknownUser(text) => Opinion::Unknown { text },
        pam::Answer::Expired(text) => Opinion::Expired { text },
        pam::Answer::Unavailable(text) => Opinion::Unavailable { text },
    }
}

fn ask_shadow(user: &str, password: Option<&Octets>) -> Opinion {
    match users::shadow_by_name(user) {
        Err(error) => Opinion::Unavailable { text: format!("getspnam() failed: {error}") },
        Ok(None) => Opinion::Unknown { text: "unknown user".into() },
        Ok(Some(shadow)) => judge_shadow(user, &shadow, password, today()),
    }
}

fn judge_shadow(user: &str, shadow: &users::Shadow, password: Option<&Octets>, today: u64) -> Opinion {
    if shadow.expires.is_some_and(|day| today >= day) {
        return Opinion::Expired { text: "account has expired".into() };
    }
    let Some(password) = password else {
        // `*` and `!` before a hash lock an account, and an empty field is no password.
        return match shadow.password.chars().next() {
            None | Some('*' | '!') => Opinion::Denied { text: "invalid password field".into() },
            Some(_) => Opinion::Granted { user: user.to_owned() },
        };
    };
    match Stored::parse(&shadow.password, "CRYPT").and_then(|stored| stored.verify(user, password.as_bytes())) {
        Ok(true) => Opinion::Granted { user: user.to_owned() },
        Ok(false) => Opinion::Denied { text: "Password mismatch".into() },
        Err(error) => Opinion::Unavailable { text: error.to_string() },
    }
}

/// Days since 1970.
fn today() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() / 86_400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shadow_judges_password_and_expiry() {
        // The hash is of "dark", made with openssl passwd.
        let shadow = |expires| users::Shadow { password: "$1$saltsalt$j3QuLdnY6Uh3.x2GXW4fj1".into(), expires };
        let judged = |password: &str, expires| judge_shadow("shade", &shadow(expires), Some(&password.into()), 20_000);
        assert_eq!(judged("dark", None), Opinion::Granted { user: "shade".into() });
        assert_eq!(judged("dark", Some(20_001)), Opinion::Granted { user: "shade".into() });
        assert!(matches!(judged("dark", Some(20_000)), Opinion::Expired { .. }));
        assert!(matches!(judged("light", None), Opinion::Denied { .. }));
        let locked = users::Shadow { password: "!$1$saltsalt$x".into(), expires: None };
        assert!(!matches!(judge_shadow("shade", &locked, Some(&"x".into()), 1), Opinion::Granted { .. }));
        // Without a password the account must stand.
        let stands =
            |shadow: &users::Shadow| matches!(judge_shadow("shade", shadow, None, 20_000), Opinion::Granted { .. });
        assert!(stands(&shadow(None)) && stands(&shadow(Some(20_001))) && !stands(&shadow(Some(20_000))));
        for password in ["", "*", "!", "!!", "!$1$saltsalt$x", "*LK*"] {
            assert!(!stands(&users::Shadow { password: password.into(), expires: None }), "{password}");
        }
    }

    #[test]
    fn a_helper_answers_with_one_frame() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("mail"), "auth required pam_deny.so\naccount required pam_deny.so\n")
            .unwrap();
        let opinion = ask_pam("mail", "john", &"x".into(), "192.0.2.1", Some(directory.path()));
        // Without libpam on the machine the answer is Unavailable; it is never a grant.
        assert!(matches!(opinion, Opinion::Denied { .. } | Opinion::Unavailable { .. }), "{opinion:?}");
        let (mut near, far) = Channel::pair().unwrap();
        let question = Question::Shadow { user: "no-such-user-anywhere".into(), password: Some("x".into()) };
        assert_eq!(work(&far, question), 0);
        let taken = near.receive().unwrap();
        let answer = taken.frames[0].0.read::<Opinion>(&[]).unwrap().body;
        assert!(matches!(answer, Opinion::Unknown { .. } | Opinion::Unavailable { .. }), "{answer:?}");
    }
}
