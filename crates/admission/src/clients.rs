//! What lists and tables of main.cf say of a client, its commands and the replies to them. Those that servers answer are asked.

use std::net::IpAddr;

use mail_config::main_cf::lists::{MatchList, NetworkPattern};
use mail_config::{Main, Value};
use mail_policy::Decision;
use mail_smtp::server::Settings;
use mail_tables::lists::{match_client, match_domain, match_name};
use mail_tables::{Answer, Snapshot};
use mail_types::{Reply, SourceLine};

use crate::facts::{Sources, Users};
use crate::origin::listed;

/// A table could not say what a parameter asks it; for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unanswered {
    /// The parameter.
    pub parameter: &'static str,
    /// Where it is written.
    pub source: SourceLine,
    /// Why it cannot say.
    pub why: String,
}

impl Unanswered {
    fn of<T>(parameter: &'static str, value: &Value<T>, why: String) -> Self {
        Self { parameter, source: value.source.clone(), why }
    }
}

/// Whether names in a list also mean their subdomains (`parent_domain_matches_subdomains`).
#[must_use]
pub fn means_subdomains(main: &Main, parameter: &str) -> bool {
    main.parent_domain_matches_subdomains.iter().any(|word| word == parameter)
}

/// A client, as far as lists may name it.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// Its verified name, or `unknown`.
    pub name: &'a str,
    /// Its address.
    pub address: IpAddr,
}

type Networks = Value<MatchList<NetworkPattern>>;

impl<U: Users> Sources<U> {
    async fn is_in(
        &self,
        (parameter, list): (&'static str, &Networks),
        main: &Main,
        tables: &Snapshot,
        client: Named<'_>,
    ) -> Result<bool, Unanswered> {
        let parents = means_subdomains(main, parameter);
        let Named { name, address } = client;
        let asked = self.settle(|answers| listed(match_client(list, name, address, parents, tables, answers)));
        asked.await.map_err(|why| Unanswered::of(parameter, list, why))
    }

    /// Whether a client may speak for others (`smtpd_authorized_xclient_hosts`).
    ///
    /// # Errors
    /// A table cannot say.
    pub async fn may_xclient(&self, main: &Main, tables: &Snapshot, client: Named<'_>) -> Result<bool, Unanswered> {
        self.is_in(("smtpd_authorized_xclient_hosts", &main.smtpd_authorized_xclient_hosts), main, tables, client).await
    }

    /// Whether no limit per client holds for this one (`smtpd_client_event_limit_exceptions`).
    ///
    /// # Errors
    /// A table cannot say.
    pub async fn is_unlimited(&self, main: &Main, tables: &Snapshot, client: Named<'_>) -> Result<bool, Unanswered> {
        let list = &main.smtpd_client_event_limit_exceptions;
        self.is_in(("smtpd_client_event_limit_exceptions", list), main, tables, client).await
    }

    /// Whether ETRN may name a domain (`fast_flush_domains`).
    ///
    /// # Errors
    /// A table cannot say.
    pub async fn may_flush(&self, main: &Main, tables: &Snapshot, domain: &str) -> Result<bool, Unanswered> {
        let parents = means_subdomains(main, "fast_flush_domains");
        let list = &main.fast_flush_domains;
        let asked = self.settle(|answers| listed(match_domain(list, domain, parents, tables, answers)));
        asked.await.map_err(|why| Unanswered::of("fast_flush_domains", list, why))
    }

    /// The settings of a listener as they are for one client; none where they are those of everybody. A table that cannot say allows nothing and takes nothing away.
    pub async fn settings_for(
        &self,
        base: &Settings,
        main: &Main,
        tables: &Snapshot,
        client: Named<'_>,
    ) -> (Option<Settings>, Vec<Unanswered>) {
        let mut unanswered = Vec::new();
        let xclient = self.may_xclient(main, tables, client).await.unwrap_or_else(|why| {
            unanswered.push(why);
            false
        });
        let maps = &main.smtpd_discard_ehlo_keyword_address_maps;
        let discarded = match self.look_up(tables, maps, &client.address.to_string()).await {
            Answer::Found(found) => Some(found.value),
            Answer::Temporary(why) => {
                unanswered.push(Unanswered::of("smtpd_discard_ehlo_keyword_address_maps", maps, why));
                None
            }
            Answer::NotFound | Answer::Missing(_) => None,
        };
        if !xclient && discarded.is_none() {
            return (None, unanswered);
        }
        let mut settings = Settings { xclient, ..base.clone() };
        if let Some(words) = discarded {
            let words = words.split([',', ' ', '\t']).filter(|word| !word.is_empty());
            settings.discard_ehlo_keywords = words.map(str::to_ascii_uppercase).collect();
        }
        (Some(settings), unanswered)
    }

    /// What follows a refusal: what `smtpd_reject_footer_maps` says, else `smtpd_reject_footer`; empty for nothing. A table that cannot say is as one without the key.
    pub async fn footer(&self, main: &Main, tables: &Snapshot, refusal: &Reply) -> (String, Option<Unanswered>) {
        let otherwise = || main.smtpd_reject_footer.value.clone();
        let maps = &main.smtpd_reject_footer_maps;
        match self.look_up(tables, maps, &refusal.to_string()).await {
            Answer::Found(found) => (found.value, None),
            Answer::Temporary(why) => (otherwise(), Some(Unanswered::of("smtpd_reject_footer_maps", maps, why))),
            Answer::NotFound | Answer::Missing(_) => (otherwise(), None),
        }
    }

    /// Takes from decisions each yes that the log does not show (`smtpd_log_access_permit_actions`).
    pub async fn forget_silent(&self, main: &Main, tables: &Snapshot, decisions: &mut [Decision]) -> Vec<Unanswered> {
        let list = &main.smtpd_log_access_permit_actions;
        let mut unanswered = Vec::new();
        for decision in decisions {
            let Some(permission) = &decision.permission else { continue };
            let shown = match list.is_empty() {
                true => Ok(false),
                false => self.settle(|answers| listed(match_name(list, &permission.action, tables, answers))).await,
            };
            match shown {
                Ok(true) => continue,
                Ok(false) => {}
                Err(why) => unanswered.push(Unanswered::of("smtpd_log_access_permit_actions", list, why)),
            }
            decision.permission = None;
        }
        unanswered
    }
}

#[cfg(test)]
mod tests {
    use mail_config::{Config, Machine};
    use mail_policy::{Effect, Permission};
    use mail_tables::{Query, RemoteAnswer, TableSet};
    use mail_types::{EnhancedStatus, ReplyCode};

    use super::*;
    use crate::facts::{Database, Known};
    use crate::settings::machine_settings;

    /// Servers that know keys that end in `1`, and cannot say anything of those that end in `9`.
    struct Servers;

    impl Users for Servers {
        async fn exists(&self, _: Database, _: &str) -> Known {
            Known::No
        }

        async fn table(&self, query: &Query) -> RemoteAnswer {
            match query.key.chars().last() {
                Some('1') => RemoteAnswer::Found("dsn".to_owned()),
                Some('9') => RemoteAnswer::Temporary("down".to_owned()),
                _ => RemoteAnswer::NotFound,
            }
        }
    }

    const SOURCES: Sources<Servers> = Sources { users: Servers, dns: None };

    fn with(main_cf: &str) -> (Config, std::sync::Arc<Snapshot>) {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("main.cf"), main_cf).expect("written");
        let dovecot = dir.path().join("dovecot.conf");
        let loaded = Config::load_on(dir.path(), Some(&dovecot), Machine::named("server.info.net"));
        let config = loaded.unwrap_or_else(|errors| panic!("{errors}")).config;
        let (tables, _) = TableSet::open(&config, Box::new(mail_tables::Disk));
        let tables = tables.snapshot();
        (config, tables)
    }

    fn client(name: &'static str, address: &str) -> Named<'static> {
        Named { name, address: address.parse().expect("an address") }
    }

    #[tokio::test]
    async fn clients_stand_in_tables_of_servers_and_who_cannot_say_allows_nothing() {
        let (config, tables) = with("smtpd_authorized_xclient_hosts = tcp:localhost:1, trusted.example\n");
        let main = &config.main;
        let may = async |name, address| {
            SOURCES.may_xclient(main, &tables, client(name, address)).await.map_err(|unanswered| unanswered.parameter)
        };
        assert_eq!(may("unknown", "192.0.2.1").await, Ok(true));
        assert_eq!(may("unknown", "192.0.2.2").await, Ok(false));
        assert_eq!(may("trusted.example", "192.0.2.2").await, Ok(true));
        // Names mean no subdomains, unless parent_domain_matches_subdomains says so of this list.
        assert_eq!(may("a.trusted.example", "192.0.2.2").await, Ok(false));
        assert_eq!(may("trusted.example", "192.0.2.9").await, Err("smtpd_authorized_xclient_hosts"));
        let base = machine_settings(main, &[]);
        let (own, unanswered) = SOURCES.settings_for(&base, main, &tables, client("unknown", "192.0.2.9")).await;
        assert!(own.is_none() && unanswered.len() == 1, "{unanswered:?}");
    }

    #[tokio::test]
    async fn limits_flushing_and_keywords_ask_servers_too() {
        let (config, tables) = with(
            "smtpd_client_event_limit_exceptions = !192.0.2.11, tcp:localhost:1\nfast_flush_domains = tcp:localhost:1\n\
             smtpd_discard_ehlo_keyword_address_maps = tcp:localhost:1\n",
        );
        let main = &config.main;
        let unlimited = async |address| SOURCES.is_unlimited(main, &tables, client("unknown", address)).await.ok();
        assert_eq!(unlimited("192.0.2.1").await, Some(true));
        assert_eq!(unlimited("192.0.2.11").await, Some(false));
        assert_eq!(unlimited("192.0.2.9").await, None);
        let may = async |domain| SOURCES.may_flush(main, &tables, domain).await.ok();
        assert_eq!((may("x1").await, may("x2").await, may("x9").await), (Some(true), Some(false), None));
        let base = machine_settings(main, &[]);
        let (own, _) = SOURCES.settings_for(&base, main, &tables, client("unknown", "192.0.2.1")).await;
        assert_eq!(own.expect("its own").discard_ehlo_keywords, ["DSN"]);
    }

    #[tokio::test]
    async fn the_log_shows_the_yeses_that_a_list_names() {
        let shown = async |words: &str, action: &str| {
            let (config, tables) = with(&format!("smtpd_log_access_permit_actions = {words}\n"));
            let permission = Permission { action: action.to_owned(), text: String::new() };
            let mut decisions = [Decision {
                list: "",
                rule: String::new(),
                source: SourceLine::built_in(),
                named_by: None,
                input: String::new(),
                class: "",
                lookups: Vec::new(),
                effect: Effect::Permit,
                permission: Some(permission),
            }];
            let unanswered = SOURCES.forget_silent(&config.main, &tables, &mut decisions).await;
            (decisions[0].permission.is_some(), unanswered.len())
        };
        for (words, action, wanted) in [
            ("", "OK", (false, 0)),
            ("permit, OK", "ok", (true, 0)),
            ("!permit, static:all", "OK", (true, 0)),
            ("!permit, static:all", "permit", (false, 0)),
            ("inline:{OK=yes}", "OK", (true, 0)),
            ("inline:{OK=yes}", "permit_mynetworks", (false, 0)),
            ("tcp:localhost:1", "word1", (true, 0)),
            ("tcp:localhost:1, static:all", "word9", (false, 1)),
        ] {
            assert_eq!(shown(words, action).await, wanted, "{words} {action}");
        }
    }

    #[tokio::test]
    async fn a_footer_comes_from_tables_then_from_the_parameter() {
        let (config, tables) = with("smtpd_reject_footer_maps = tcp:localhost:1\nsmtpd_reject_footer = plain\n");
        let footer = async |text: &str| {
            let refusal = Reply::new(ReplyCode::of(550), EnhancedStatus::of(5, 7, 1), text);
            let (footer, unanswered) = SOURCES.footer(&config.main, &tables, &refusal).await;
            (footer, unanswered.is_some())
        };
        assert_eq!(footer("no 1").await, ("dsn".to_owned(), false));
        assert_eq!(footer("no 2").await, ("plain".to_owned(), false));
        assert_eq!(footer("no 9").await, ("plain".to_owned(), true));
    }
}
