//! `postrider_json_log`: one JSON object for each line, with the rule that decided and the line of the file that states it.

use std::collections::HashMap;
use std::fs;
use std::net::Ipv4Addr;

use serde_json::Value;
use test_support::dns::Dns;
use test_support::{Patience, System, free_port, wait_for};

use crate::traffic::{Round, Truth, builder, remote};

pub fn stand_behind_every_line() -> Result<(), String> {
    let wrong = |error: std::io::Error| error.to_string();
    let dns = Dns::start().map_err(wrong)?;
    let remote = remote().map_err(wrong)?;
    let closed = (Ipv4Addr::LOCALHOST, free_port(Ipv4Addr::LOCALHOST).map_err(wrong)?).into();
    let mut system =
        builder(remote, closed, &dns).main_cf("postrider_json_log = all\nmaximal_queue_lifetime = 0").start()?;
    let mut truth = Truth::default();
    Round::new(&system, &mut truth, 0).run().map_err(|error| format!("{error}\n{}", system.logs()))?;
    wait_for("the deliveries", Patience::default(), || {
        let logs = system.logs();
        // Once as a line, once in its record.
        let sent = logs.matches("status=sent (").count() >= 2 * truth.totals.delivered as usize;
        let expired = logs.contains("status=expired, returned to sender");
        (sent && expired && logs.matches("status=deferred (").count() >= 2 * truth.totals.deferrals as usize)
            .then_some(())
    })
    .map_err(|error| format!("{error}\n{}", system.logs()))?;
    truth.is_logged(&system)?;
    system.stop()?;
    let records = lines_and_records(&system)?;
    sources(&system, &records).map_err(|error| format!("{error}\n{}", system.logs()))
}

/// The records of all daemons, after each was found to belong to one line.
fn lines_and_records(system: &System) -> Result<Vec<Value>, String> {
    let mut all = Vec::new();
    for daemon in ["smtpd", "queue-manager", "local-delivery", "remote-delivery", "pop3d", "imapd", "authd"] {
        let json = fs::read_to_string(system.root().join(format!("log/{daemon}.json")));
        let json = json.map_err(|error| format!("{daemon}.json: {error}"))?;
        let records: Result<Vec<Value>, _> = json.lines().map(serde_json::from_str).collect();
        let records = records.map_err(|error| format!("{daemon}.json: {error}"))?;
        let log = system.log(daemon);
        let lines: Vec<&str> = log.lines().collect();
        if lines.len() != records.len() {
            return Err(format!("{daemon}: {} lines, {} records\n{log}\n{json}", lines.len(), records.len()));
        }
        for (line, record) in lines.iter().zip(&records) {
            let text = record["line"].as_str().unwrap_or("no line");
            let ident = record["ident"].as_str().unwrap_or("no ident");
            let known = ["time", "level", "stage", "rule", "source", "event"].iter().all(|key| record[key].is_string());
            if !line.ends_with(&format!(": {text}")) || !line.contains(ident) || !known || record["daemon"] != daemon {
                return Err(format!("{line}\nis not\n{record}"));
            }
        }
        all.extend(records);
    }
    Ok(all)
}

/// Sources name lines that say what the rule is; the decisions of this traffic are known.
fn sources(system: &System, records: &[Value]) -> Result<(), String> {
    let mut files: HashMap<String, String> = HashMap::new();
    let mut stated = |file: &str, number: usize| {
        let text = files.entry(file.to_owned()).or_insert_with(|| fs::read_to_string(file).unwrap_or_default());
        text.lines().nth(number.wrapping_sub(1)).map(str::to_owned)
    };
    for record in records {
        let source = record["source"].as_str().unwrap_or_default();
        let Some((file, number)) = source.rsplit_once(':').filter(|(file, _)| file.starts_with('/')) else { continue };
        let line = number.parse().ok().and_then(|number| stated(file, number));
        if line.is_none_or(|line| line.trim().is_empty()) {
            return Err(format!("{source} is no line\n{record}"));
        }
    }
    // Where a setting stands last, which is where it counts.
    let in_file = |name: &str, setting: &str| {
        let path = system.etc().join(name);
        let text = fs::read_to_string(&path).unwrap_or_default();
        let number = text.lines().enumerate().filter(|(_, text)| text.starts_with(&format!("{setting} ="))).last();
        format!("{}:{}", path.display(), number.map_or(0, |(at, _)| at + 1))
    };
    let at = |parameter: &str| in_file("main.cf", parameter);
    let transport = system.etc().join("transport").display().to_string();
    // Rule, where it must be written, and the text that the record's line must hold.
    let known = [
        ("check_client_access", at("smtpd_client_restrictions"), "Client host rejected: Access denied"),
        ("reject_non_fqdn_helo_hostname", at("smtpd_helo_restrictions"), "need fully-qualified hostname"),
        ("reject_unknown_sender_domain", at("smtpd_sender_restrictions"), "Domain not found"),
        ("check_sender_access", at("smtpd_sender_restrictions"), "triggers HOLD action"),
        ("check_recipient_access", at("smtpd_recipient_restrictions"), "come back later; from"),
        ("smtpd_hard_error_limit", at("smtpd_hard_error_limit"), "too many errors after"),
        ("transport_maps", format!("{transport}:3"), "relay=none, delay"),
        ("transport_maps", format!("{transport}:1"), "status=bounced (host"),
        ("transport_maps", format!("{transport}:1"), "said: 450 4.2.0 come back later"),
        ("transport_maps", format!("{transport}:2"), "connect to 127.0.0.1[127.0.0.1]"),
        ("transport_maps", format!("{transport}:4"), "dsn=5.1.2, status=bounced (nobody there)"),
        ("local_transport", at("local_transport"), "to=<john@info.net>"),
        ("maximal_queue_lifetime", at("maximal_queue_lifetime"), "status=expired, returned to sender"),
        ("auth_mechanisms", in_file("dovecot.conf", "auth_mechanisms"), "(auth failed, 1 attempts in"),
    ];
    for (rule, source, line) in known {
        let found = records.iter().any(|record| {
            let is = |key: &str, wanted: &str| record[key].as_str().is_some_and(|text| text.contains(wanted));
            is("rule", rule) && is("line", line) && record["source"] == source.as_str()
        });
        if !found {
            let near = records.iter().filter(|record| record["line"].as_str().is_some_and(|text| text.contains(line)));
            let near: Vec<String> = near.map(Value::to_string).collect();
            return Err(format!("no record of {line:?} says {rule} at {source}; but:\n{}", near.join("\n")));
        }
    }
    Ok(())
}
