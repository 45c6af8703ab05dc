//! The words of login lines, as Dovecot 2.3 writes them and as the programs that watch its log expect them.

use std::time::Duration;

use mail_net::{Stream, TlsInfo};
use session::Close;

/// What was tried on a connection before its end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attempts {
    /// Logins that failed.
    pub failed: u32,
    /// The last user name that authd heard.
    pub user: Option<String>,
    /// The master user who logged in as that user.
    pub master: Option<String>,
    /// The last mechanism.
    pub method: Option<String>,
    /// A password was offered where it may not be sent.
    pub cleartext: bool,
    /// TLS version and cipher; empty in clear.
    pub cipher: String,
    /// The name that the client asked for in its handshake.
    pub local_name: Option<String>,
}

impl Attempts {
    /// Takes over what the handshake was about.
    pub fn saw(&mut self, stream: &Stream) {
        if let Some(TlsInfo { version, cipher, bits, .. }) = stream.tls() {
            self.cipher = format!("{version} with cipher {cipher} ({bits}/{bits} bits)");
        }
        self.local_name = stream.server_name().map(str::to_owned);
    }
}

/// The text before `: user=<...>` of a connection that ended without a session.
#[must_use]
pub fn disconnected(reason: &Close, attempts: &Attempts, after: Duration) -> String {
    let why = match reason {
        Close::Quit => "Aborted login by logging out",
        Close::Timeout => "Inactivity",
        Close::Lost | Close::HandOver => "Connection closed",
        Close::Hangup(text) => text,
    };
    format!("Disconnected: {why} ({})", tried(attempts, after))
}

/// What is told of the attempts, in parentheses.
#[must_use]
pub fn tried(attempts: &Attempts, after: Duration) -> String {
    let seconds = after.as_secs();
    match attempts {
        Attempts { failed: 0, cleartext: true, .. } => "tried to use disallowed plaintext auth".to_owned(),
        Attempts { failed: 0, .. } => format!("no auth attempts in {seconds} secs"),
        Attempts { failed, .. } => format!("auth failed, {failed} attempts in {seconds} secs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_dovecots() {
        let none = Attempts::default();
        let failed =
            Attempts { failed: 4, user: Some("a".into()), method: Some("PLAIN".into()), ..Attempts::default() };
        let cleartext = Attempts { cleartext: true, ..Attempts::default() };
        let cases = [
            (Close::Quit, &none, "Disconnected: Aborted login by logging out (no auth attempts in 16 secs)"),
            (Close::Lost, &failed, "Disconnected: Connection closed (auth failed, 4 attempts in 16 secs)"),
            (Close::Lost, &cleartext, "Disconnected: Connection closed (tried to use disallowed plaintext auth)"),
            (
                Close::Hangup("Too many bad commands"),
                &none,
                "Disconnected: Too many bad commands (no auth attempts in 16 secs)",
            ),
            (Close::Timeout, &none, "Disconnected: Inactivity (no auth attempts in 16 secs)"),
        ];
        for (reason, attempts, text) in cases {
            assert_eq!(disconnected(&reason, attempts, Duration::from_millis(16_900)), text);
        }
    }
}
