//! Work on many messages by a few threads: reading and parsing files is what FETCH and SEARCH spend their time on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Fewer items than this are not worth a thread.
const WORTH_A_THREAD: usize = 64;
/// A thread takes so many items at once.
const BLOCK: usize = 16;
/// More threads than this would only take the processor from other users.
const THREADS_MAX: usize = 4;

/// Does `work` on every item, in any order; the results are in the order of the items.
pub(super) fn map<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads =
        thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX).min(items.len() / WORTH_A_THREAD);
    if threads <= 1 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let run = || {
        let mut done = Vec::new();
        loop {
            let block = next.fetch_add(1, Ordering::Relaxed);
            let Some(rest) = items.get(block * BLOCK..).filter(|rest| !rest.is_empty()) else { return done };
            done.push((block, rest[..rest.len().min(BLOCK)].iter().map(&work).collect::<Vec<R>>()));
        }
    };
    let mut blocks: Vec<(usize, Vec<R>)> = thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads).map(|_| scope.spawn(run)).collect();
        let mut blocks = run();
        for helper in helpers {
            blocks.extend(helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        blocks
    });
    blocks.sort_unstable_by_key(|(block, _)| *block);
    blocks.into_iter().flat_map(|(_, results)| results).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn results_keep_the_order_of_the_items() {
        for count in [0, 1, 15, 200, 1001] {
            let items: Vec<usize> = (0..count).collect();
            assert_eq!(super::map(&items, |n| n * 2), items.iter().map(|n| n * 2).collect::<Vec<_>>());
        }
    }
}
