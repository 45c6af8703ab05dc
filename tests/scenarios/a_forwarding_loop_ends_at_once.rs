//! `john` is forwarded to another machine, which forwards him back: the first one sees its own Delivered-To and returns the mail.

use test_support::Builder;

pub fn with_one_bounce() -> Result<(), String> {
    let back = "virtual_alias_maps = inline:{ { john@b.example = john@a.example } }";
    let mut theirs = Builder::new("b.example").prepare()?;
    let relay = theirs.ports.at(theirs.ports.smtp);
    let lines = format!("relayhost = [{}]:{}\nlocal_transport = local", relay.ip(), relay.port());
    let ours = Builder::new("a.example").main_cf(&lines).file("aliases", "john: john@b.example\n").start()?;
    let relay = ours.ports.at(ours.ports.smtp);
    let file = theirs.etc().join("main.cf");
    let text = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
    let text = format!("{text}relayhost = [{}]:{}\n{back}\n", relay.ip(), relay.port());
    std::fs::write(file, text).map_err(|error| error.to_string())?;
    theirs.start()?;
    theirs.run(&["sendmail", "-f", "mary@b.example", "john@a.example"], "Subject: round and round\n\nhello\n")?;
    let logs = |error: String| format!("{error}\n{}\n{}", ours.logs(), theirs.logs());
    let bounce = theirs.wait_for_messages("mary", 1).map_err(logs)?.remove(0);
    // A report folds long lines.
    let bounce = bounce.split_whitespace().collect::<Vec<_>>().join(" ");
    for wanted in ["mail forwarding loop for john@a.example", "5.4.6", "Delivered-To: john@a.example"] {
        if !bounce.contains(wanted) {
            return Err(format!("{wanted:?} is missing in:\n{bounce}"));
        }
    }
    Ok(())
}
