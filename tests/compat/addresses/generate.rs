//! Configurations, tables, addresses and messages, made from a seed.

use std::fmt::Write as _;

/// A generator of numbers that gives the same for the same seed (xorshift).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below a limit.
    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap_or(0)
    }

    /// Whether something of so many in a hundred is the case.
    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }
}

const LOCALS: &[&str] = &[
    "john",
    "jd",
    "root",
    "Mike",
    "sales",
    "a",
    "john+x",
    "john+x+y",
    "mike-ext",
    "Sales-x+y",
    "+plus",
    "-dash",
    "owner-list",
    "list-request",
    "postmaster",
    "\"a b\"",
    "\"a b+x\"",
    "\"q@r.org\"",
    "\"a@gmail.com\"",
    "a%x.org",
    "a%b%info.net",
    "x.org!a",
    "b!x!a",
    "john.doe",
    "x_y",
    "a%gmail.com",
];
const DOMAINS: &[&str] = &[
    "info.net",
    "INFO.net",
    "mail.info.net",
    "localhost",
    "example.net",
    "more.example",
    "box.org",
    "partner.com",
    "sub.partner.com",
    "gmail.com",
    "a.b.gmail.com",
    "x.org",
    "old.net",
    "www.hid.org",
    "hid.org",
    "deep.www.hid.org",
    "keep.hid.org",
    "[127.0.0.1]",
    "[192.0.2.9]",
    "192.0.2.9",
    "bare",
    "new.org",
];
/// What table values lead to and no table holds.
const LEAVES: &[&str] =
    &["leaf@far.org", "Leaf+y@far.org", "other@else.org", "\"x y\"@far.org", "hm@info.net", "third@box.org"];

/// main.cf's varying lines, the tables, and where addresses come from.
pub struct World {
    lines: String,
    pub files: Vec<(String, String)>,
}

impl World {
    /// A configuration with all kinds of rewriting.
    pub fn generate(random: &mut Random, round: u64) -> Self {
        let mut lines = String::new();
        let mut set = |name: &str, value: &str| writeln!(lines, "{name} = {value}").expect("a String takes all");
        let yes_no = ["yes", "no"];
        set("append_dot_mydomain", random.pick(&yes_no));
        set("swap_bangpath", random.pick(&yes_no));
        set("allow_percent_hack", random.pick(&yes_no));
        set("resolve_dequoted_address", random.pick(&["yes", "yes", "no"]));
        set("resolve_numeric_domain", random.pick(&yes_no));
        set("allow_min_user", random.pick(&yes_no));
        set("owner_request_special", random.pick(&yes_no));
        set("show_user_unknown_table_name", random.pick(&yes_no));
        set("recipient_delimiter", if round == 0 { "+" } else { random.pick(&["", "+", "-", "+-"]) });
        set(
            "propagate_unmatched_extensions",
            random.pick(&["canonical, virtual", "", "canonical", "virtual, alias", "canonical, virtual, generic"]),
        );
        set(
            "canonical_classes",
            random.pick(&[
                "envelope_sender, envelope_recipient, header_sender, header_recipient",
                "envelope_sender, header_sender",
                "envelope_recipient",
            ]),
        );
        set("sender_canonical_classes", random.pick(&["envelope_sender, header_sender", "header_sender"]));
        set(
            "recipient_canonical_classes",
            random.pick(&["envelope_recipient, header_recipient", "envelope_recipient"]),
        );
        set(
            "masquerade_domains",
            random.pick(&["", "!keep.hid.org hid.org", "www.hid.org hid.org", "hid.org info.net"]),
        );
        set("masquerade_exceptions", random.pick(&["", "root", "root, mike"]));
        set(
            "masquerade_classes",
            random.pick(&[
                "envelope_sender, header_sender, header_recipient",
                "envelope_sender, envelope_recipient, header_sender, header_recipient",
                "header_sender",
            ]),
        );
        set("relayhost", random.pick(&["", "[relay.far.org]:2525", "relay.far.org"]));
        set("default_transport", random.pick(&["smtp", "smtp:[own.far.org]", "relay"]));
        set("local_transport", random.pick(&["local:$myhostname", "local"]));
        set("remote_header_rewrite_domain", random.pick(&["", "domain.invalid", "info.net"]));
        set("always_bcc", random.pick(&["", "archive", "archive@far.org"]));
        set(
            "parent_domain_matches_subdomains",
            random.pick(&["relay_domains", "", "relay_domains, transport_maps", "transport_maps"]),
        );
        let mut world = Self { lines, files: Vec::new() };
        world.tables(random);
        world
    }

    /// A configuration for mail that leaves: every recipient goes to the relay host.
    pub fn leaving(random: &mut Random) -> Self {
        let lines = "recipient_delimiter = +\nmydestination = localhost\nappend_dot_mydomain = yes\nmydomain = info.net\n\
                     myorigin = info.net\nremote_header_rewrite_domain =\nlocal_recipient_maps =\nsmtp_tls_security_level = none\n\
                     smtp_generic_maps = texthash:{etc}/generic\n";
        let mut world = Self { lines: lines.to_owned(), files: Vec::new() };
        world.table(random, "generic", 8, 100, false);
        for name in ["canonical_maps", "virtual_alias_maps", "sender_canonical_maps"] {
            world.table(random, name, 4, 30, true);
        }
        world
    }

    fn tables(&mut self, random: &mut Random) {
        for (name, size) in [
            ("canonical_maps", 4),
            ("sender_canonical_maps", 3),
            ("recipient_canonical_maps", 3),
            ("virtual_alias_maps", 10),
            ("recipient_bcc_maps", 3),
            ("sender_bcc_maps", 3),
        ] {
            let most = if name == "virtual_alias_maps" { 60 } else { 0 };
            self.table(random, name, size, most, true);
        }
        let mut plain = |name: &str, size: usize, keys: &[&str], values: &[&str]| {
            let mut text = String::new();
            for _ in 0..size {
                let key = if random.chance(50) { self.key(random) } else { random.pick(keys).to_owned() };
                writeln!(text, "{key}\t{}", random.pick(values)).expect("a String takes all");
            }
            (name.to_owned(), text)
        };
        let hops = [
            "smtp:[hop.far.org]:26",
            "smtp:",
            ":",
            ":[hop.far.org]",
            "relay:far.org",
            "error:5.1.2 no such place",
            "error:",
            "retry:4.4.1 later",
            "discard:",
            "virtual",
        ];
        let keys = [
            "gmail.com",
            ".gmail.com",
            ".b.gmail.com",
            "x.org",
            "info.net",
            "box.org",
            ".partner.com",
            "partner.com",
            "*",
            "[192.0.2.9]",
        ];
        let made = [
            plain("transport_maps", 7, &keys, &hops),
            plain("relocated_maps", 3, &["@old.net"], &["new@far.org", "nowhere at all"]),
            plain(
                "sender_dependent_relayhost_maps",
                4,
                &["@info.net", "<>"],
                &["[s.far.org]", "DUNNO", "s.far.org:587"],
            ),
            plain(
                "sender_dependent_default_transport_maps",
                3,
                &["@x.org", "<>"],
                &["relay", "dunno", "smtp:[t.far.org]"],
            ),
        ];
        for (name, text) in made {
            self.add(&name, text);
        }
    }

    /// A table of addresses. A value leads to other keys in a tenth of the cases, and holds several addresses in `several` of a hundred.
    fn table(&mut self, random: &mut Random, name: &str, size: usize, several: usize, with_parameter: bool) {
        let mut text = String::new();
        for _ in 0..size {
            let key = self.key(random);
            // `@domain` means something alone, and nothing for a copy.
            let mut value = self.value(random, !name.ends_with("bcc_maps"));
            if random.chance(several) && name != "generic" && !value.starts_with('@') {
                value = format!("{value}, {}", random.pick(LEAVES));
            }
            writeln!(text, "{key}\t{value}").expect("a String takes all");
        }
        if with_parameter { self.add(name, text) } else { self.files.push((name.to_owned(), without_doubles(&text))) }
    }

    fn add(&mut self, parameter: &str, text: String) {
        let text = without_doubles(&text);
        writeln!(self.lines, "{parameter} = texthash:{{etc}}/{parameter}").expect("a String takes all");
        self.files.push((parameter.to_owned(), text));
    }

    fn key(&self, random: &mut Random) -> String {
        let local = random.pick(&[
            "john",
            "jd",
            "root",
            "mike",
            "sales",
            "a",
            "john+x",
            "sales-x",
            "\"a b\"",
            "postmaster",
            "archive",
        ]);
        let domain = random.pick(&[
            "info.net",
            "example.net",
            "box.org",
            "gmail.com",
            "old.net",
            "hid.org",
            "partner.com",
            "x.org",
            "localhost",
        ]);
        match random.below(10) {
            0..=4 => format!("{local}@{domain}"),
            5..=7 => local.to_owned(),
            _ => format!("@{domain}"),
        }
    }

    fn value(&self, random: &mut Random, domains: bool) -> String {
        match random.below(10) {
            0 => random.pick(LOCALS.get(..6).unwrap_or(LOCALS)).to_owned(),
            1 if domains => format!("@{}", random.pick(&["new.org", "far.org"])),
            // Postfix takes the address of a copy without looking for quotes in it.
            _ => random.pick(if domains { LEAVES } else { &LEAVES[..3] }).to_owned(),
        }
    }

    /// An address as a client would write it. `"a@b"` alone is a local part here, and the address a@b to Postfix, which drops its quotes.
    pub fn address(&self, random: &mut Random) -> String {
        let local = random.pick(LOCALS);
        // Postfix takes the bare postmaster past all restrictions, and so past the hold.
        let alone = random.chance(15) && !local.contains('@') && local != "postmaster";
        if alone { local.to_owned() } else { format!("{local}@{}", random.pick(DOMAINS)) }
    }

    /// An address with a domain.
    pub fn complete_address(&self, random: &mut Random) -> String {
        format!("{}@{}", random.pick(LOCALS), random.pick(DOMAINS))
    }

    /// A sender, sometimes the null sender.
    pub fn sender(&self, random: &mut Random) -> String {
        if random.chance(10) { String::new() } else { self.complete_address(random) }
    }

    /// A message with many recipients and header fields.
    pub fn message(&self, random: &mut Random) -> Message {
        let recipients = (0..=random.below(4)).map(|_| self.address(random)).collect();
        let from = if random.chance(10) { String::new() } else { self.address(random) };
        Message { from, recipients, fields: FIELDS.iter().map(|name| self.field(random, name)).collect() }
    }

    /// A message whose addresses every server takes, numbered by its subject.
    pub fn plain_message(&self, random: &mut Random) -> Message {
        let mut plain = || loop {
            let address = self.address(random);
            if !address.contains(['[', '!', '%']) && !address.contains("192.") && !address.starts_with(['-', '+']) {
                return address;
            }
        };
        let (from, recipients) = (plain(), vec![plain(), plain()]);
        let mut fields: Vec<String> =
            ["From", "To", "Cc", "Reply-To", "Sender"].iter().map(|name| format!("{name}: {}", plain())).collect();
        fields.push(format!("Subject: {}", random.next()));
        fields.push("Message-Id: <x@y>".to_owned());
        fields.push("Date: Sun, 22 Nov 2026 22:04:34 +0000".to_owned());
        Message { from, recipients, fields }
    }

    fn field(&self, random: &mut Random, name: &str) -> String {
        let mut items = Vec::new();
        for _ in 0..=random.below(2) {
            let address = self.address(random);
            items.push(match random.below(7) {
                0 => format!("John Doe <{address}>"),
                1 => format!("\"Doe, John\" <{address}>"),
                2 => format!("{address} (a comment)"),
                3 => format!("<{address}>"),
                _ => address,
            });
        }
        if random.chance(5) {
            return format!("{name}: staff: {};", items.join(", "));
        }
        format!("{name}: {}", items.join(if random.chance(20) { ",\r\n\t" } else { ", " }))
    }

    /// The whole main.cf. Postfix puts mail on hold, so that it stays where it can be read.
    pub fn main_cf(&self) -> String {
        if self.lines.contains("smtp_generic_maps") {
            return format!(
                "compatibility_level = 3.6\nmyhostname = mail.info.net\nmynetworks = 127.0.0.0/8\nalias_maps =\n{}",
                self.lines
            );
        }
        format!(
            "compatibility_level = 3.6\nmyhostname = mail.info.net\nmydomain = info.net\nmyorigin = info.net\nmydestination = info.net, $myhostname, localhost, .no.org\n\
             virtual_alias_domains = example.net, more.example\nvirtual_mailbox_domains = box.org\nvirtual_mailbox_maps = inline:{{ {{john@box.org=x}}, {{@new.org=y}} }}\n\
             relay_domains = partner.com\nrelay_recipient_maps = inline:{{ {{john@partner.com=x}}, {{@sub.partner.com=y}} }}\nlocal_recipient_maps = inline:{{john=x, sales=x}}\n\
             inet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nmynetworks = 127.0.0.0/8\nalias_maps =\nsmtputf8_enable = no\n\
             smtpd_client_restrictions = check_client_access static:HOLD\nsmtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination\n\
             smtpd_reject_unlisted_recipient = no\nsmtpd_peername_lookup = no\nsmtpd_error_sleep_time = 0\nsmtpd_hard_error_limit = 100000\n\
             smtpd_soft_error_limit = 100000\nsmtpd_junk_command_limit = 100000\nsmtpd_recipient_limit = 100000\n{}",
            self.lines
        )
    }

    /// The configuration for the report of a difference.
    pub fn shown(&self) -> String {
        let files = self.files.iter().map(|(name, text)| format!("--- {name}\n{text}"));
        format!("{}\n{}", self.lines, files.collect::<String>())
    }
}

/// A table with each key once.
fn without_doubles(text: &str) -> String {
    let mut seen = std::collections::HashSet::new();
    let key = |line: &str| line.split('\t').next().unwrap_or_default().to_lowercase();
    text.lines().filter(|line| seen.insert(key(line))).map(|line| format!("{line}\n")).collect()
}

/// The fields of a generated message.
const FIELDS: &[&str] = &[
    "From",
    "Sender",
    "Reply-To",
    "Errors-To",
    "Return-Receipt-To",
    "Disposition-Notification-To",
    "Mail-Followup-To",
    "Apparently-To",
    "To",
    "Cc",
    "Resent-From",
    "Resent-Sender",
    "Resent-To",
    "Resent-Cc",
    "Resent-Reply-To",
    "X-Other",
    "Return-Path",
    "Bcc",
];

/// A message as a client sends it.
#[derive(Debug)]
pub struct Message {
    pub from: String,
    pub recipients: Vec<String>,
    pub fields: Vec<String>,
}
