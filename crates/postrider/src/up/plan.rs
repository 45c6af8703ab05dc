//! Which daemons run, in which order.

use serde::{Deserialize, Serialize};

/// When a daemon is started; a later stage begins when all of the earlier ones are ready, and stops before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// What the others ask: authd and queue-manager.
    Core,
    /// The delivery workers.
    Workers,
    /// What clients talk to.
    Doors,
}

impl Stage {
    /// In the order of the start.
    pub const ALL: [Self; 3] = [Self::Core, Self::Workers, Self::Doors];
}

/// One process that must run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The binary's name.
    pub program: &'static str,
    /// The instance's name: the program's, or `PROGRAM@N` for further workers. It names log and control socket.
    pub instance: String,
    /// When.
    pub stage: Stage,
}

/// How many workers of each kind, from `--workers local-delivery=2,remote-delivery=3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workers {
    /// Instances of local-delivery.
    pub local: u32,
    /// Instances of remote-delivery.
    pub remote: u32,
}

impl Default for Workers {
    fn default() -> Self {
        Self { local: 1, remote: 1 }
    }
}

/// The most instances of one worker.
const WORKERS_MAX: u32 = 64;

impl Workers {
    /// Reads one `--workers` argument on top of what is set already.
    ///
    /// # Errors
    /// The part that is not `local-delivery=N` or `remote-delivery=N` with N from 1 to 64.
    pub fn set(&mut self, text: &str) -> Result<(), String> {
        for part in text.split(',') {
            let (name, count) = part.split_once('=').ok_or(part)?;
            let count = count.parse().ok().filter(|count| (1..=WORKERS_MAX).contains(count)).ok_or(part)?;
            match name {
                "local-delivery" => self.local = count,
                "remote-delivery" => self.remote = count,
                _ => return Err(part.to_owned()),
            }
        }
        Ok(())
    }
}

/// Which client protocols the configuration asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doors {
    /// `protocols` of dovecot.conf has pop3.
    pub pop3: bool,
    /// `protocols` of dovecot.conf has imap.
    pub imap: bool,
}

/// Every process, in the order of the start.
#[must_use]
pub fn plan(workers: Workers, doors: Doors) -> Vec<Planned> {
    let one = |program: &'static str, stage| Planned { program, instance: program.to_owned(), stage };
    let many = |program: &'static str, count: u32| {
        (1..=count).map(move |n| Planned {
            program,
            instance: if n == 1 { program.to_owned() } else { format!("{program}@{n}") },
            stage: Stage::Workers,
        })
    };
    let mut all = vec![one("authd", Stage::Core), one("queue-manager", Stage::Core)];
    all.extend(many("local-delivery", workers.local));
    all.extend(many("remote-delivery", workers.remote));
    all.push(one("smtpd", Stage::Doors));
    all.extend(doors.pop3.then(|| one("pop3d", Stage::Doors)));
    all.extend(doors.imap.then(|| one("imapd", Stage::Doors)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_follows_workers_and_protocols() {
        let names = |plan: Vec<Planned>| plan.into_iter().map(|planned| planned.instance).collect::<Vec<_>>();
        assert_eq!(
            names(plan(Workers { local: 2, remote: 1 }, Doors { pop3: false, imap: true })),
            ["authd", "queue-manager", "local-delivery", "local-delivery@2", "remote-delivery", "smtpd", "imapd"]
        );
        let all = plan(Workers::default(), Doors { pop3: true, imap: true });
        assert!(all.is_sorted_by_key(|planned| planned.stage));
        assert_eq!(all.len(), 7);
    }

    #[test]
    fn workers_are_counted_or_refused() {
        let mut workers = Workers::default();
        assert_eq!(workers.set("local-delivery=2,remote-delivery=3"), Ok(()));
        assert_eq!(workers, Workers { local: 2, remote: 3 });
        for wrong in ["", "local-delivery", "local-delivery=0", "smtpd=2", "remote-delivery=65"] {
            assert_eq!(workers.set(wrong), Err(wrong.to_owned()));
        }
    }
}
