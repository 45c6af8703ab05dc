//! Tables that servers answer, for the daemons that decide about mail. Only those that the configuration names are asked: whoever takes a daemon over
//! gets no way to other servers.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use mail_config::Config;
use mail_ipc::hello::Role;
use mail_ipc::lookup::Response;
use mail_tables::{Files, RemoteAnswer, TableRef};
use table_clients::Clients;

/// The tables of the configuration in force, and the connections to their servers.
pub(crate) struct Tables(RwLock<Arc<Known>>);

struct Known {
    clients: Clients,
    by_name: HashMap<String, TableRef>,
    /// Those that hold passwords, which only remote-delivery may ask.
    secret: HashSet<String>,
}

impl Tables {
    pub(crate) fn new(config: &Config, files: Arc<dyn Files>) -> Self {
        Self(RwLock::new(Arc::new(Known::of(config, files))))
    }

    /// Takes a new configuration, with new connections.
    pub(crate) fn take(&self, config: &Config, files: Arc<dyn Files>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Known::of(config, files));
    }

    /// What a table says about a key.
    pub(crate) async fn ask(&self, role: Role, name: &str, key: &str) -> Response {
        let known = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        let allowed = role == Role::RemoteDelivery || !known.secret.contains(name);
        let Some(table) = known.by_name.get(name).filter(|_| allowed) else {
            return Response::Temporary { text: format!("{name}: the configuration of authd names no such table") };
        };
        match known.clients.ask(table, key).await {
            RemoteAnswer::Found(value) => Response::Value { value },
            RemoteAnswer::NotFound => Response::NotFound,
            RemoteAnswer::Temporary(text) => Response::Temporary { text },
        }
    }
}

impl Known {
    fn of(config: &Config, files: Arc<dyn Files>) -> Self {
        let plain = |table: TableRef| TableRef { proxy: false, ..table };
        let open: Vec<TableRef> = config.tables().into_iter().map(|(table, _)| plain(table)).collect();
        let secret = config.secret_tables().into_iter().map(plain).filter(|table| !open.contains(table));
        let secret: Vec<TableRef> = secret.collect();
        let all = open.iter().chain(&secret).filter(|table| table.kind.is_remote());
        Self {
            clients: Clients::new(Arc::clone(&config.main), files),
            by_name: all.map(|table| (table.to_string(), table.clone())).collect(),
            secret: secret.iter().map(ToString::to_string).collect(),
        }
    }
}
