//! The log of a command that moves mail: `maillog_file` and syslog as the daemons write them, and a file of its own beside theirs.

use std::path::{Path, PathBuf};

use decision::Ident;
use mail_config::Config;
use mail_daemon::Log;
use mail_daemon::log::{LogPlan, System};

/// An open log with the name under which it speaks.
#[derive(Debug)]
pub struct OwnLog {
    log: Log,
    ident: Ident,
}

impl OwnLog {
    /// Opens the log of a command. Only root's command on the system itself speaks to syslog.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn open(config: &Config, command: &str, system: bool) -> std::io::Result<Self> {
        let socket = Path::new("/dev/log");
        let mut plan = LogPlan::default();
        plan.own = Some(config.state_dir().join(format!("log/{command}.log")));
        plan.maillog.clone_from(&config.main.maillog_file.value);
        plan.system = (system && socket.exists()).then(|| System::Syslog(PathBuf::from(socket)));
        config.main.myhostname.split('.').next().unwrap_or_default().clone_into(&mut plan.host);
        command.clone_into(&mut plan.instance);
        let ident = Ident::postfix(config.main.syslog_name.as_str(), command);
        Ok(Self { log: Log::start(plan)?, ident })
    }

    /// Writes a line.
    pub fn line(&self, text: &str) {
        self.log.text(&self.ident, text);
    }

    /// Writes a warning.
    pub fn warning(&self, text: &str) {
        self.log.warning(&self.ident, text);
    }
}

impl Drop for OwnLog {
    fn drop(&mut self) {
        self.log.flush();
    }
}
