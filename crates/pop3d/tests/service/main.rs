//! The real processes: monitor, front and session processes of `pop3d`, with a small authd of the test's own.

mod daemon;
mod dovecot;
mod sessions;
