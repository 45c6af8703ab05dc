//! Facts about the machine: its name, this boot, its load.

use std::io;

/// The name of the machine as `gethostname` gives it; it may or may not hold a domain.
#[must_use]
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The kernel's random name of this boot: two equal values mean that no reboot (and no power cut) lies between.
///
/// # Errors
/// /proc is not mounted.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// The load averages over 1, 5 and 15 minutes.
#[must_use]
pub fn load_average() -> [f64; 3] {
    // The kernel counts in units of 1/65536.
    #[allow(clippy::cast_precision_loss)]
    rustix::system::sysinfo().loads.map(|load| load as f64 / 65_536.0)
}

/// The highest resident memory of this process so far, in bytes.
///
/// # Errors
/// /proc is not mounted.
pub fn peak_memory() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other("no VmHWM in /proc/self/status"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_a_name_a_boot_and_a_load() {
        assert!(!hostname().is_empty());
        assert_eq!(boot_id().unwrap().len(), 36);
        assert!(load_average().iter().all(|load| *load >= 0.0));
        assert!(peak_memory().unwrap() > 100_000);
    }
}
