//! Telling whoever supervises how the daemon is: sd_notify(3), to a path or to an abstract name (`postrider up` uses one, so that no directory
//! is too deep). Under systemd the unit says `NotifyAccess=all`, because the part without rights speaks as well.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Sends the text to `NOTIFY_SOCKET`; nothing where nobody wants to know.
pub fn notify(text: &str) {
    let Some(address) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match address.as_encoded_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(address),
    };
    // A supervisor that does not listen any more has no use for the news.
    let _ = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address));
}

/// The daemon serves, on this generation.
pub(crate) fn ready(generation: u64) {
    notify(&format!("READY=1\nSTATUS=Serving, generation {generation}\n"));
}

/// A reload has begun; [`ready`] or [`unchanged`] ends it.
pub(crate) fn reloading() {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
    notify(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}\nSTATUS=Reloading\n"));
}

/// A reload has ended without a change.
pub(crate) fn unchanged(why: &str) {
    let why = why.replace(['\n', '\r'], " ");
    notify(&format!("READY=1\nSTATUS=Serving, the configuration stays as it was: {why}\n"));
}

/// The daemon accepts nothing new and finishes what is under way.
pub(crate) fn stopping() {
    notify("STOPPING=1\nSTATUS=Finishing what is under way\n");
}

/// Half of the time after which the supervisor takes a silent daemon for dead (`WATCHDOG_USEC`); none where nobody watches us.
pub(crate) fn watchdog_pause() -> Option<Duration> {
    let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs());
    pause(number("WATCHDOG_USEC")?, number("WATCHDOG_PID"), [std::process::id(), parent])
}

/// The supervisor names the process that it started, which is us or our monitor.
fn pause(microseconds: u64, named: Option<u64>, ours: [u32; 2]) -> Option<Duration> {
    let meant = named.is_none_or(|pid| ours.iter().any(|own| u64::from(*own) == pid));
    (meant && microseconds > 0).then(|| Duration::from_micros(microseconds / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_fed_at_half_time_by_whom_it_means() {
        assert_eq!(pause(60_000_000, None, [7, 6]), Some(Duration::from_secs(30)));
        assert_eq!(pause(60_000_000, Some(6), [7, 6]), Some(Duration::from_secs(30)));
        assert_eq!(pause(60_000_000, Some(5), [7, 6]), None);
        assert_eq!(pause(0, None, [7, 6]), None);
    }
}
