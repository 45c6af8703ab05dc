//! CPU seconds and memory of a process and all that descend from it, as /proc counts them.

use std::collections::HashMap;
use std::fs;

/// Clock ticks per second, as Linux shows them in /proc on every architecture.
const TICKS: f64 = 100.0;

/// User and system seconds of the process, its living descendants, and the ended children that any of them waited for.
pub fn of_tree(root: u32) -> f64 {
    let ticks: u64 = tree(root).iter().map(|(_, ticks)| ticks).sum();
    f64::from(u32::try_from(ticks).unwrap_or(u32::MAX)) / TICKS
}

/// KiB that the process and its descendants hold; a page shared by several of them (or with others) counts in parts.
pub fn memory_of_tree(root: u32) -> f64 {
    tree(root).iter().filter_map(|(pid, _)| memory_of(*pid)).sum()
}

/// The process and its living descendants, with their ticks.
fn tree(root: u32) -> Vec<(u32, u64)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let processes: HashMap<u32, (u32, u64)> = pids.filter_map(|pid| Some((pid, stat(pid)?))).collect();
    let descends = |pid: u32| {
        let mut at = pid;
        while at != root {
            match processes.get(&at) {
                Some((parent, _)) if *parent > 1 => at = *parent,
                _ => return false,
            }
        }
        true
    };
    processes.iter().filter(|(pid, _)| descends(**pid)).map(|(pid, (_, ticks))| (*pid, *ticks)).collect()
}

/// KiB that one process holds.
pub fn memory_of(pid: u32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.trim().parse().ok())
}

/// Parent and ticks of a process.
fn stat(pid: u32) -> Option<(u32, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the fields begin behind the last of them. ppid is field 4, the times are fields 14 to 17.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11..15)?.iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Some((fields.get(1)?.parse().ok()?, ticks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_is_seen_to() {
        let before = of_tree(std::process::id());
        let mut sum = 0u64;
        while of_tree(std::process::id()) < before + 0.02 {
            sum = (0..1_000_000).fold(sum, |sum, n| sum.wrapping_mul(31).wrapping_add(n));
        }
        assert_ne!(std::hint::black_box(sum), 1);
    }
}
