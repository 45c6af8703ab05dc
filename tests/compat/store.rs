//! Our LMTP client and Dovecot's LMTP server.

use test_support::{Builder, Patience, System, wait_for};

use crate::dovecot::Dovecot;

/// What Dovecot must store as it was sent: dots, a long line, octets above 127.
const BODY: &str = "Subject: by LMTP\n\n.\n..two dots\n\u{fc}ml\u{e4}ute\nlast";

pub fn delivers_to_dovecot() -> Result<(), String> {
    let root = tempfile::tempdir().map_err(|error| error.to_string())?;
    let place = root.path().join("ours");
    let listening = place.join("dovecot/lmtp");
    let lines = format!("local_transport = lmtp:unix:{}\nlocal_recipient_maps =", listening.display());
    open_to_all(root.path())?;
    let system = Builder::new("lmtp.example").path(&place).main_cf(&lines).start()?;
    let _dovecot = Dovecot::beside(&system)?;
    let told = story(&system);
    told.map_err(|error| format!("{error}\n{}\n{}", system.logs(), log_of_dovecot(&system)))
}

fn story(system: &System) -> Result<(), String> {
    let to = ["john@lmtp.example", "mary@lmtp.example", "nobody-here@lmtp.example"];
    let arguments: Vec<&str> = ["sendmail", "-i", "-f", "mary@lmtp.example"].into_iter().chain(to).collect();
    system.run(&arguments, BODY)?;
    let stored = system.wait_for_messages("john", 1)?;
    let message = stored.first().ok_or("no message")?;
    let body = message.replace("\r\n", "\n").split_once("\n\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    let wanted = BODY.split_once("\n\n").map(|(_, body)| body).unwrap_or_default();
    if body.trim_end() != wanted {
        return Err(format!("stored {body:?}"));
    }
    if !message.starts_with("Return-Path: <mary@lmtp.example>") {
        return Err(format!("no Return-Path in:\n{message}"));
    }
    // One refused recipient: a bounce for that one, and mary's own copy.
    let marys = system.wait_for_messages("mary", 2)?;
    let bounce = marys.iter().find(|text| text.contains("Final-Recipient: rfc822; nobody-here@lmtp.example"));
    let bounce = bounce.ok_or_else(|| format!("no bounce in {marys:#?}"))?;
    if !bounce.contains("Status: 5.1.1") || !bounce.contains("Diagnostic-Code: smtp; 550 5.1.1") {
        return Err(format!("the bounce does not say what Dovecot said:\n{bounce}"));
    }
    wait_for("the line of the log", Patience::default(), || {
        let log = system.log("remote-delivery");
        log.lines()
            .any(|line| {
                line.contains("to=<john@lmtp.example>") && line.contains("status=sent (250 2.0.0 <john@lmtp.example>")
            })
            .then_some(())
    })
}

fn log_of_dovecot(system: &System) -> String {
    std::fs::read_to_string(system.root().join("dovecot/log")).unwrap_or_default()
}

/// The system runs as another user than the test.
fn open_to_all(path: &std::path::Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).map_err(|error| error.to_string())
}
