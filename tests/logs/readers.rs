//! The programs that read our logs.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

fn output(command: &mut Command) -> Result<String, String> {
    let shown = format!("{command:?}");
    let output = command.output().map_err(|error| format!("{shown}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{shown}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The addresses that a filter of fail2ban's finds in a file, one per match, sorted. `host` is left out: the harness itself knocks from there.
pub fn fail2ban(log: &Path, filter: &str, host: IpAddr) -> Result<Vec<IpAddr>, String> {
    let mut command = Command::new("fail2ban-regex");
    // Exit code 1 means that nothing matched.
    let output = command.args(["-o", "ip", "--usedns", "no"]).arg(log).arg(filter).output();
    let output = output.map_err(|error| format!("fail2ban-regex: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let address = line.trim().parse();
        found.push(
            address
                .map_err(|_| format!("fail2ban-regex {filter}: {text}{}", String::from_utf8_lossy(&output.stderr)))?,
        );
    }
    found.retain(|address| *address != host);
    found.sort_unstable();
    Ok(found)
}

/// What `fail2ban-client` makes of a configuration directory.
pub fn jails(directory: &Path) -> Result<String, String> {
    output(Command::new("fail2ban-client").arg("-c").arg(directory).arg("-d"))
}

/// The grand totals of pflogsumm.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub received: u32,
    pub delivered: u32,
    pub deferred: u32,
    pub deferrals: u32,
    pub bounced: u32,
    pub rejected: u32,
    pub warned: u32,
    pub held: u32,
    pub discarded: u32,
}

/// Runs pflogsumm over a file.
pub fn pflogsumm(log: &Path) -> Result<Totals, String> {
    let text = output(Command::new("pflogsumm").arg(log))?;
    let mut totals = Totals::default();
    let section = text.split("Per-Day").next().unwrap_or_default().split("Per-Hour").next().unwrap_or_default();
    for line in section.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(number) = words.first().and_then(|word| word.parse::<u32>().ok()) else { continue };
        match words.get(1..) {
            Some(["received"]) => totals.received = number,
            Some(["delivered"]) => totals.delivered = number,
            Some(["deferred", rest @ ..]) => {
                totals.deferred = number;
                let count = rest.first().and_then(|word| word.trim_start_matches('(').parse().ok());
                totals.deferrals = count.unwrap_or(0);
            }
            Some(["bounced"]) => totals.bounced = number,
            Some(["rejected", ..]) => totals.rejected = number,
            Some(["reject", "warnings"]) => totals.warned = number,
            Some(["held"]) => totals.held = number,
            Some(["discarded", ..]) => totals.discarded = number,
            _ => {}
        }
    }
    Ok(totals)
}
