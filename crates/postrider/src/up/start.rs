//! What `up` tells the person before the screen: the start report, then news of the daemons.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Options;
use super::daemon::{Daemon, Life};
use super::plan::Planned;
use super::publication::Publication;
use super::supervise::Witness;
use crate::terminal::{complain, print};

/// The person before the screen.
pub struct Console {
    options: Options,
    published: Publication,
    /// Where the first generation lies, and our lock.
    state: PathBuf,
}

impl Console {
    /// Prints what is known before anything runs: where things are, and what of the files has no effect.
    #[must_use]
    pub fn new(options: Options, published: Publication) -> Self {
        let state = published.state.clone();
        let console = Self { options, published, state };
        say(&format!(
            "postrider: configuration {}, state {}, generation {}",
            console.options.directory.display(),
            console.state.display(),
            console.published.number
        ));
        console.remarks();
        console
    }

    fn remarks(&self) {
        for remark in &self.published.remarks {
            say(&format!("  {remark}"));
        }
    }
}

/// A reader of standard output that has gone is no reason to stop serving mail.
fn say(text: &str) {
    let _ = print(&format!("{text}\n"));
}

impl Witness for Console {
    fn news(&mut self, text: &str) {
        say(text);
    }

    fn processes(&mut self, daemons: &[Daemon]) {
        let pids: BTreeMap<&str, u32> =
            daemons.iter().filter_map(|daemon| Some((daemon.planned.instance.as_str(), daemon.pid()?))).collect();
        let text = pids.iter().map(|(instance, pid)| format!("{instance} {pid}\n")).collect::<String>();
        let text = format!("{}\n{text}", std::process::id());
        if let Err(error) = std::fs::write(self.state.join(super::LOCK_FILE), text) {
            complain(&format!("{}: {error}", super::LOCK_FILE));
        }
    }

    fn started(&mut self, daemons: &[Daemon]) {
        for daemon in daemons {
            let how = match &daemon.life {
                Life::Running { child, ready: true, .. } => format!("pid {}", child.pid()),
                Life::Running { child, .. } => format!("pid {}, not ready yet", child.pid()),
                Life::Due(_) => "starting again".to_owned(),
                Life::Over => "not running".to_owned(),
            };
            say(&format!("  {:<18} {how}", daemon.planned.instance));
        }
        let ports = &self.published.ports;
        if !ports.is_empty() {
            say(&format!("postrider: serving {}", ports.join(", ")));
        }
        say("postrider: ready");
        mail_daemon::notify::notify("READY=1\n");
    }

    fn reload(&mut self) -> Option<Vec<Planned>> {
        match self.options.publish_again() {
            Ok(published) => {
                self.published = published;
                say(&format!("postrider: reload, generation {}", self.published.number));
                self.remarks();
                Some(self.options.plan(&self.published))
            }
            Err(failure) => {
                complain(&format!("postrider: nothing is reloaded: {failure}"));
                None
            }
        }
    }
}
