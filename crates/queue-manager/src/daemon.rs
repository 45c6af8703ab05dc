//! The daemon: store, core and sockets put together under `mail-daemon`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use decision::Ident;
use mail_config::Config;
use mail_daemon::lookups::Lookups;
use mail_daemon::{Context, Daemon, Log, Plan, Running, Supervision};
use mail_ipc::hello::Role;
use mail_ipc::sockets::{CONTROL, DELIVERY, QUEUE};
use mail_tables::TableSet;
use queue_store::{Options, Recovery, Store};
use tokio::sync::broadcast;

use crate::asked::{self, Asked};
use crate::core::{Core, Event, Router};
use crate::routes::Routes;
use crate::serve::{Hub, Kind, listen};
use crate::settings::Settings;

/// The daemon.
#[must_use]
pub fn daemon() -> Daemon {
    Daemon {
        name: "queue-manager",
        role: Role::QueueManager,
        user: "postrider",
        plan: |_| Plan { unix: vec![QUEUE, DELIVERY, CONTROL], ..Plan::default() },
        tls: |_| Vec::new(),
        supervision: Supervision::Monitor,
        serve: |context| Box::pin(serve(context)),
    }
}

async fn serve(mut context: Context) {
    let running = context.now();
    let ident = Ident::postfix(running.config.main.syslog_name.as_str(), "qmgr");
    if let Err(text) = serve_queue(&mut context, &running, &ident).await {
        context.fail(&text);
    }
}

async fn serve_queue(context: &mut Context, running: &Running, ident: &Ident) -> Result<(), String> {
    let log = context.log.clone();
    let options = Options { min_free: *running.config.main.queue_minfree, ..Options::default() };
    let dir = context.state().to_owned();
    let opened = tokio::task::spawn_blocking(move || Store::open(&dir, options)).await;
    let (store, recovery) = match opened.map_err(|error| error.to_string())? {
        Ok(opened) => opened,
        Err(error) => {
            log.warning(ident, &format!("fatal: {error}"));
            return Err(error.to_string());
        }
    };
    tell(&log, ident, &recovery);
    let store = Arc::new(store);
    let (asked, questions) = Asked::new();
    let mut tables = Tables::open(running, asked.clone(), &log, ident);
    let settings = Settings::of(&running.config);
    let (mut core, events) = Core::new(store.clone(), &recovery, settings, tables.router(), log.clone());
    if !running.config.main.address_verify_map.trim().is_empty() {
        core.remember_addresses_in(context.state().to_owned());
    }
    let lookups = Lookups::new(context.state().to_owned(), context.hello());
    let fetching = tokio::spawn(asked::fetch(asked.clone(), questions, lookups, events.clone()));
    let mut core = tokio::task::spawn_blocking(move || core.run());
    let roles = context.setup.roles.clone();
    let hub = Hub::new(store.clone(), events.clone(), tables.router(), context.hello(), roles);
    let kinds = [Kind::Intake, Kind::Delivery, Kind::Control];
    let listeners: Vec<_> = std::mem::take(&mut context.unix)
        .into_iter()
        .zip(kinds)
        .map(|(listener, kind)| tokio::spawn(listen(hub.clone(), listener, kind)))
        .collect();
    context.ready();

    let mut stop = context.stop.clone();
    let mut changed = context.tables.subscribe();
    let mut every_second = tokio::time::interval(Duration::from_secs(1));
    let (mut sound, mut rest) = (true, Rest::default());
    loop {
        tokio::select! {
            () = stop.requested() => break,
            ended = &mut core => { sound = ended.unwrap_or(false); break; }
            Ok(()) = context.running.changed() => {
                let running = context.running.borrow_and_update().clone();
                asked.forget();
                tables = Tables::open(&running, asked.clone(), &log, ident);
                hub.set_router(tables.router());
                let settings = Box::new(Settings::of(&running.config));
                // The core ends only together with this loop.
                let _ = events.send(Event::Reload(settings, tables.router()));
            }
            path = changed.recv() => tables.reload(path, &events, &log, ident),
            _ = every_second.tick() => {
                tables.check(&events, &log, ident);
                if rest.is_due(store.sequence()) {
                    tokio::task::spawn_blocking(mail_posix::memory::give_back);
                }
            }
        }
    }
    fetching.abort();
    listeners.iter().for_each(tokio::task::JoinHandle::abort);
    let _ = events.send(Event::Stop);
    if sound && !core.is_finished() {
        let _ = core.await;
    }
    hub.close();
    drop(hub);
    end(store, &log, ident).await;
    if sound { Ok(()) } else { Err("the queue index failed".to_owned()) }
}

/// So many records leave enough freed memory behind to be worth giving back, and it is given back at the latest after so many seconds of them.
const WORK: u64 = 2_000;
const LONGEST: u32 = 10;

/// When memory is given back to the kernel: in the first second without work after much of it, and now and then while it goes on.
#[derive(Debug, Default)]
struct Rest {
    /// Where the work stood a second ago, and when memory was last given back.
    seen: u64,
    given: u64,
    seconds: u32,
}

impl Rest {
    /// To be asked once a second with the number of records so far.
    fn is_due(&mut self, sequence: u64) -> bool {
        let quiet = std::mem::replace(&mut self.seen, sequence) == sequence;
        self.seconds += 1;
        let due = sequence.saturating_sub(self.given) >= WORK && (quiet || self.seconds >= LONGEST);
        if due {
            (self.given, self.seconds) = (sequence, 0);
        }
        due
    }
}

/// Closes the store cleanly once its last user is gone; connections that linger do not delay that for long.
async fn end(store: Arc<Store>, log: &Log, ident: &Ident) {
    let mut store = store;
    for _ in 0..40 {
        match Arc::try_unwrap(store) {
            Ok(store) => {
                let closed = tokio::task::spawn_blocking(move || store.close()).await;
                if let Ok(Err(error)) = closed {
                    log.warning(ident, &format!("the queue was not closed cleanly: {error}"));
                }
                return;
            }
            Err(shared) => store = shared,
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The next start replays; nothing is lost.
    log.warning(ident, "the queue was not closed cleanly: somebody still uses it");
}

/// The tables and the routes made with them.
struct Tables {
    config: Arc<Config>,
    set: Arc<TableSet>,
    routes: Arc<Routes>,
}

impl Tables {
    /// Opens what the configuration names; what only the monitor may open comes from there.
    fn open(running: &Running, asked: Arc<Asked>, log: &Log, ident: &Ident) -> Self {
        let config = &running.config;
        let (set, reports) = TableSet::open(config, Box::new(running.tables.clone()));
        for report in reports {
            log.warning(ident, &report.to_string());
        }
        let set = Arc::new(set);
        let routes = Arc::new(Routes::new(config.clone(), set.clone(), asked));
        Self { config: config.clone(), set, routes }
    }

    fn router(&self) -> Arc<dyn Router> {
        self.routes.clone()
    }

    fn reload(
        &self,
        path: Result<PathBuf, broadcast::error::RecvError>,
        events: &std::sync::mpsc::Sender<Event>,
        log: &Log,
        ident: &Ident,
    ) {
        // Too many words at once: then every table is read.
        let path = path.ok().map(|path| path.display().to_string());
        self.took(self.set.reload(path.as_deref()), events, log, ident);
    }

    fn check(&self, events: &std::sync::mpsc::Sender<Event>, log: &Log, ident: &Ident) {
        let reports = self.set.check(SystemTime::now());
        if !reports.is_empty() {
            self.took(reports, events, log, ident);
        }
    }

    /// Tables changed: what is queued may have other routes now.
    fn took(
        &self,
        reports: Vec<mail_config::Report>,
        events: &std::sync::mpsc::Sender<Event>,
        log: &Log,
        ident: &Ident,
    ) {
        for report in reports {
            log.warning(ident, &report.to_string());
        }
        let settings = Box::new(Settings::of(&self.config));
        let _ = events.send(Event::Reload(settings, self.router()));
    }
}

/// Says what the start found.
fn tell(log: &Log, ident: &Ident, recovery: &Recovery) {
    if let Some(why) = &recovery.rebuilt {
        log.text(ident, &format!("queue index rebuilt from {} records: {why}", recovery.replayed));
    }
    if let Some(why) = &recovery.without_index {
        log.warning(ident, &format!("the queue index is kept in memory until the next start: {why}"));
    }
    for stretch in &recovery.quarantined {
        let copy = stretch.copy.display();
        log.warning(
            ident,
            &format!(
                "queue segment {} is damaged from {} to {}; copied to {copy}",
                stretch.segment, stretch.from, stretch.to
            ),
        );
    }
    for id in &recovery.corrupt {
        log.warning(ident, &format!("{id}: the content is damaged; the message stays in the queue, marked corrupt"));
    }
    if recovery.truncated > 0 {
        log.text(
            ident,
            &format!("{} octets of an unfinished write removed from the end of the queue", recovery.truncated),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_after_work_and_not_while_there_is_none() {
        let mut rest = Rest::default();
        let due: Vec<bool> = [10, 10, 9_000, 9_500, 9_500, 9_500].map(|sequence| rest.is_due(sequence)).into();
        assert_eq!(due, [false, false, false, false, true, false]);
        let busy: Vec<bool> = (0..12).map(|second| rest.is_due(10_000 + second * 5_000)).collect();
        assert_eq!(busy.iter().position(|due| *due), Some(8));
        assert_eq!(busy.iter().filter(|due| **due).count(), 1);
    }
}
