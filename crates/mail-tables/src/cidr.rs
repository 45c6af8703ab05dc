//! `cidr:` tables (cidr_table(5)): networks and values, the first match wins.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use mail_config::lines::logical_lines;
use mail_config::main_cf::networks::parse_network;
use mail_config::{Level, Report};
use mail_types::SourceLine;

/// What a line does.
#[derive(Debug)]
enum Rule {
    /// `network value`, `!network value`.
    Match { negated: bool, net: IpNet, value: String, line: u32 },
    /// `if network`, `if !network`; the index of the line after its `endif`.
    If { negated: bool, net: IpNet, end: usize },
}

/// A table of networks.
#[derive(Debug)]
pub(crate) struct CidrTable {
    rules: Vec<Rule>,
}

impl CidrTable {
    /// Reads the text; lines that are wrong are left out and reported, as Postfix does.
    pub(crate) fn parse(file: &Arc<str>, text: &str) -> (Self, Vec<Report>) {
        let mut rules: Vec<Rule> = Vec::new();
        let mut open = Vec::new();
        let mut reports = Vec::new();
        for line in logical_lines(text) {
            let mut warn = |message: String, hint: String| {
                let source = SourceLine::new(Arc::clone(file), line.line);
                reports.push(Report::new(Level::Warning, source, message, hint));
            };
            let (word, rest) = line.text.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((&line.text, ""));
            if word.eq_ignore_ascii_case("endif") {
                match open.pop() {
                    Some(at) => close(&mut rules, at),
                    None => warn("endif without if".into(), "the line is ignored".into()),
                }
                continue;
            }
            let is_if = word.eq_ignore_ascii_case("if");
            let pattern = if is_if { rest.trim() } else { word };
            let (negated, pattern) = match pattern.strip_prefix('!') {
                Some(pattern) => (true, pattern.trim()),
                None => (false, pattern),
            };
            let net = match read_net(pattern) {
                Ok(net) => net,
                Err((message, hint)) => {
                    warn(message, format!("{hint}; the line is ignored"));
                    continue;
                }
            };
            if is_if {
                open.push(rules.len());
                rules.push(Rule::If { negated, net, end: 0 });
            } else if rest.trim().is_empty() {
                warn("no value after the network".into(), "the line is ignored".into());
            } else {
                rules.push(Rule::Match { negated, net, value: rest.trim().to_owned(), line: line.line });
            }
        }
        open.into_iter().for_each(|at| close(&mut rules, at));
        (Self { rules }, reports)
    }

    /// The value and line for an address; nothing for a key that is none.
    pub(crate) fn get(&self, key: &str) -> Option<(&str, u32)> {
        let address: IpAddr = key.parse().ok()?;
        let mut at = 0;
        while let Some(rule) = self.rules.get(at) {
            at += 1;
            match rule {
                Rule::Match { negated, net, value, line } if matches(net, &address, *negated) => {
                    return Some((value, *line));
                }
                Rule::If { negated, net, end } if !matches(net, &address, *negated) => at = *end,
                _ => {}
            }
        }
        None
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

/// Whether a pattern matches. One of IPv4 says nothing about an address of IPv6, with `!` neither.
fn matches(net: &IpNet, address: &IpAddr, negated: bool) -> bool {
    net.addr().is_ipv4() == address.is_ipv4() && net.contains(address) != negated
}

fn close(rules: &mut [Rule], at: usize) {
    let after = rules.len();
    if let Some(Rule::If { end, .. }) = rules.get_mut(at) {
        *end = after;
    }
}

/// In these tables IPv6 addresses stand without brackets; with brackets they are read too.
fn read_net(text: &str) -> Result<IpNet, (String, String)> {
    let bracketed = match text.split_once('/') {
        _ if text.starts_with('[') || !text.contains(':') => text.to_owned(),
        Some((address, prefix)) => format!("[{address}]/{prefix}"),
        None => format!("[{text}]"),
    };
    parse_network(&bracketed).map(|(net, _)| net).map_err(|mistake| (mistake.what, mistake.instead))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Compared with `postmap -q` of Postfix 3.7.11.
    #[test]
    fn the_first_network_that_matches_wins() {
        let text = "192.168.2.1/24 bad\n10.0.0.0/8  ten\nif 1.0.0.0/8\n1.2.3.4 x\nif !1.5.0.0/16\n1.0.0.0/8 inner\nendif\nendif\n!10.0.0.0/8 notten\n2001:db8::/32 never\n";
        let (table, reports) = CidrTable::parse(&Arc::from("t"), text);
        assert_eq!(reports.len(), 1);
        let cases = [
            ("10.1.1.1", Some(("ten", 2))),
            ("1.2.3.4", Some(("x", 4))),
            ("1.9.9.9", Some(("inner", 6))),
            ("1.5.0.1", Some(("notten", 9))),
            ("11.5.0.1", Some(("notten", 9))),
            ("::1", None),
            ("foo", None),
        ];
        for (key, wanted) in cases {
            assert_eq!(table.get(key), wanted, "{key}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_parser(text in "(if|endif|!|10\\.0\\.0\\.0/8|::1|[ \\n/x]){0,30}") {
            let (table, _) = CidrTable::parse(&Arc::from("t"), &text);
            let _ = table.get("10.0.0.1");
        }
    }
}
