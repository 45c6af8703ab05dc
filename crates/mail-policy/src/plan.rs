//! What one listener's main.cf says about restrictions.

use std::collections::BTreeMap;
use std::sync::Arc;

use mail_config::main_cf::lists::Rule;
use mail_config::{Main, Value};
use mail_types::SourceLine;

/// When a plan is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// A client is there.
    Client,
    /// HELO or EHLO.
    Helo,
    /// MAIL.
    Sender,
    /// RCPT.
    Recipient,
    /// DATA.
    Data,
    /// After the content.
    EndOfData,
    /// ETRN.
    Etrn,
}

impl Stage {
    /// The command as the log and policy services know it.
    #[must_use]
    pub const fn command(self) -> &'static str {
        match self {
            Self::Client => "CONNECT",
            Self::Helo => "HELO",
            Self::Sender => "MAIL",
            Self::Recipient => "RCPT",
            Self::Data => "DATA",
            Self::EndOfData => "END-OF-MESSAGE",
            Self::Etrn => "ETRN",
        }
    }
}

/// One list of restrictions.
#[derive(Debug, Clone)]
pub(crate) struct List {
    pub name: &'static str,
    pub stage: Stage,
    pub rules: Vec<Rule>,
    pub source: SourceLine,
}

/// The restrictions of one listener.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(crate) main: Arc<Main>,
    client: List,
    helo: List,
    sender: List,
    relay: List,
    recipient: List,
    data: List,
    end_of_data: List,
    etrn: List,
    pub(crate) classes: BTreeMap<String, (Vec<Rule>, SourceLine)>,
}

/// The restrictions of which one must stand in the relay or recipient list, or anybody could relay.
const REQUIRED: [&str; 5] =
    ["reject", "reject_unauth_destination", "defer", "defer_if_permit", "defer_unauth_destination"];

impl Plan {
    /// Reads the lists of a listener.
    #[must_use]
    pub fn new(main: Arc<Main>) -> Self {
        let list = |name, stage, value: &Value<Vec<Rule>>| List {
            name,
            stage,
            rules: value.value.clone(),
            source: value.source.clone(),
        };
        let classes = main.smtpd_restriction_classes.iter().filter_map(|name| {
            let class = main.restriction_class(name)?;
            Some((name.to_ascii_lowercase(), (class.value, class.source)))
        });
        let mut plan = Self {
            client: list("smtpd_client_restrictions", Stage::Client, &main.smtpd_client_restrictions),
            helo: list("smtpd_helo_restrictions", Stage::Helo, &main.smtpd_helo_restrictions),
            sender: list("smtpd_sender_restrictions", Stage::Sender, &main.smtpd_sender_restrictions),
            relay: list("smtpd_relay_restrictions", Stage::Recipient, &main.smtpd_relay_restrictions),
            recipient: list("smtpd_recipient_restrictions", Stage::Recipient, &main.smtpd_recipient_restrictions),
            data: list("smtpd_data_restrictions", Stage::Data, &main.smtpd_data_restrictions),
            end_of_data: list("smtpd_end_of_data_restrictions", Stage::EndOfData, &main.smtpd_end_of_data_restrictions),
            etrn: list("smtpd_etrn_restrictions", Stage::Etrn, &main.smtpd_etrn_restrictions),
            classes: classes.collect(),
            main,
        };
        plan.close_the_relay();
        plan
    }

    /// Where no list keeps strangers from relaying, our own rule does, and does it first (DESIGN section 5).
    fn close_the_relay(&mut self) {
        let required = |list: &List| list.rules.iter().any(|rule| REQUIRED.contains(&rule.name.as_str()));
        if required(&self.relay) || required(&self.recipient) {
            return;
        }
        let rule = |name: &str| Rule { name: name.to_owned(), argument: None, table: None, warn_if_reject: false };
        self.relay.rules =
            ["permit_mynetworks", "permit_sasl_authenticated", "reject_unauth_destination"].map(rule).to_vec();
        self.relay.source = SourceLine::built_in();
    }

    /// The lists that run at a stage, in order.
    pub(crate) fn lists(&self, stage: Stage) -> Vec<&List> {
        let delayed = *self.main.smtpd_delay_reject;
        match stage {
            Stage::Client if !delayed => vec![&self.client],
            Stage::Helo if !delayed => vec![&self.helo],
            Stage::Sender if !delayed => vec![&self.sender],
            Stage::Client | Stage::Helo | Stage::Sender => Vec::new(),
            Stage::Recipient => {
                let mut lists = if delayed { vec![&self.client, &self.helo, &self.sender] } else { Vec::new() };
                lists.extend(if *self.main.smtpd_relay_before_recipient_restrictions {
                    [&self.relay, &self.recipient]
                } else {
                    [&self.recipient, &self.relay]
                });
                lists
            }
            Stage::Data => vec![&self.data],
            Stage::EndOfData => vec![&self.end_of_data],
            Stage::Etrn if delayed => vec![&self.client, &self.helo, &self.etrn],
            Stage::Etrn => vec![&self.etrn],
        }
    }
}
