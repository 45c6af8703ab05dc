//! Every table that a server answers, opened when it is asked first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mail_tables::{TableKind, TableRef};

use crate::RemoteAnswer;
use crate::socketmap::Socketmap;
use crate::tcp::Tcp;

/// The clients of a process.
#[derive(Default)]
pub struct Clients {
    open: Mutex<HashMap<TableRef, Arc<Client>>>,
}

enum Client {
    Socketmap(Socketmap),
    Tcp(Tcp),
}

impl Clients {
    /// Asks a table for a key.
    pub async fn ask(&self, table: &TableRef, key: &str) -> RemoteAnswer {
        let answer = match self.client(table) {
            Err(why) => RemoteAnswer::Temporary(why),
            Ok(client) => match client.as_ref() {
                Client::Socketmap(map) => map.ask(key).await,
                Client::Tcp(map) => map.ask(key).await,
            },
        };
        match answer {
            RemoteAnswer::Temporary(why) => RemoteAnswer::Temporary(format!("{table}: {why}")),
            other => other,
        }
    }

    /// Closes every connection, and reads every file anew when it is needed.
    pub fn forget(&self) {
        self.open().clear();
    }

    fn client(&self, table: &TableRef) -> Result<Arc<Client>, String> {
        if let Some(client) = self.open().get(table) {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(match table.kind {
            TableKind::Socketmap => Client::Socketmap(Socketmap::new(&table.name)?),
            TableKind::Tcp => Client::Tcp(Tcp::new(&table.name)?),
            _ => return Err("no client for this type of table".to_owned()),
        });
        self.open().insert(table.clone(), Arc::clone(&client));
        Ok(client)
    }

    fn open(&self) -> MutexGuard<'_, HashMap<TableRef, Arc<Client>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
