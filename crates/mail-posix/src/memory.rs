//! What the allocator keeps of the memory that was freed. Without glibc nothing here does anything.

/// Makes all threads of this process share so many pools of memory: each thread would otherwise keep a pool of its own, and what one thread
/// freed would be of no use to the others. To be called before threads exist.
pub fn share_pools(pools: u8) {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number in the allocator; the process has one thread.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, i32::from(pools));
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = pools;
}

/// Gives the memory that was freed back to the kernel. Takes milliseconds where much was freed: not for an event loop.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: walks the allocator's own lists under its locks.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn freed_memory_goes_back_to_the_kernel() {
        let resident = || {
            let text = std::fs::read_to_string("/proc/self/statm").expect("/proc");
            text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("a number")
        };
        // Small pieces, the last of which stays: so the heap cannot simply shrink.
        let mut pieces: Vec<Box<[u8]>> = (0..40_000).map(|_| vec![1; 1000].into_boxed_slice()).collect();
        let last = pieces.pop();
        drop(pieces);
        let before = resident();
        super::give_back();
        assert!(before - resident() > 4_000, "{before} and {} pages", resident());
        drop(last);
    }
}
