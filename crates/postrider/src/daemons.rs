//! The daemons that run: each has a control socket of its own in the state directory.

use std::path::{Path, PathBuf};

use mail_ipc::control::{DaemonRequest, DaemonResponse};
use mail_ipc::sockets::DAEMONS;

use crate::conversation::Conversation;

/// What a daemon said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Its instance, such as `local-delivery@2`.
    pub instance: String,
    /// What it answered, or why there was no answer.
    pub answer: Result<DaemonResponse, String>,
}

/// Asks every daemon; those that are down are left out.
#[must_use]
pub fn ask(state: &Path, request: &DaemonRequest) -> Vec<Said> {
    sockets(state)
        .into_iter()
        .filter_map(|path| {
            let instance = path.file_stem()?.to_str()?.to_owned();
            let mut conversation = match Conversation::open_path(&path) {
                Ok(conversation) => conversation,
                Err(crate::conversation::TalkError::Down(_)) => return None,
                Err(error) => return Some(Said { instance, answer: Err(error.to_string()) }),
            };
            let answer = conversation.ask::<DaemonResponse>(request).map(|(answer, _)| answer);
            Some(Said { instance, answer: answer.map_err(|error| error.to_string()) })
        })
        .collect()
}

fn sockets(state: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(state.join(DAEMONS)) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "sock"));
    paths.sort();
    paths
}
