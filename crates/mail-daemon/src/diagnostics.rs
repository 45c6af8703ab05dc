//! Developers' diagnostics: `tracing`, on the log's own writer thread. Off unless `POSTRIDER_LOG` names what to show, such as `debug` or
//! `queue_manager=trace`; operational lines never come from here.

use std::io;

use decision::Ident;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::Log;

/// The environment variable with the filter.
const FILTER: &str = "POSTRIDER_LOG";

/// Sends the diagnostics of this process to its log, if the environment asks for any.
pub(crate) fn install(log: &Log, daemon: &str) {
    let Ok(filter) = EnvFilter::try_from_env(FILTER) else { return };
    let lines = Lines { log: log.clone(), ident: Ident::postfix("postrider", daemon) };
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).without_time().with_env_filter(filter).with_writer(lines);
    // A process installs once; a second attempt could only come from a test in the same process.
    let _ = tracing::subscriber::set_global_default(subscriber.finish());
}

/// Makes a writer per event.
struct Lines {
    log: Log,
    ident: Ident,
}

/// One event; becomes a line when it is dropped.
struct Line<'a> {
    lines: &'a Lines,
    text: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { lines: self, text: Vec::new() }
    }
}

impl io::Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.text);
        self.lines.log.text(&self.lines.ident, text.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::LogPlan;

    #[test]
    fn an_event_is_one_line_of_the_log() {
        let directory = tempfile::tempdir().expect("a directory");
        let own = directory.path().join("smtpd.log");
        let log = Log::start(LogPlan { own: Some(own.clone()), ..LogPlan::default() }).expect("a thread");
        let lines = Lines { log: log.clone(), ident: Ident::postfix("postrider", "smtpd") };
        let subscriber = tracing_subscriber::fmt().with_ansi(false).without_time().with_writer(lines).finish();
        tracing::subscriber::with_default(subscriber, || tracing::info!(id = 7, "took a\nlease"));
        log.flush();
        let text = std::fs::read_to_string(own).expect("written");
        assert_eq!(text.lines().count(), 1);
        assert!(text.contains("postrider/smtpd[") && text.contains("took a") && text.contains("id=7"), "{text}");
    }
}
