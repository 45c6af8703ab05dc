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

/// Below the caller's frame so much of the stack stays for the calls that follow.
#[cfg(target_env = "gnu")]
const STACK_KEPT: usize = 8 * 1024;
/// So far down a stack is looked after: what was used of it deeper stays.
#[cfg(target_env = "gnu")]
const STACK_DEPTH: usize = 256 * 1024;

/// Gives the part of this thread's stack back to the kernel that earlier calls have used and none uses now: making a process or a thread ready takes
/// far more of it than what follows.
#[inline(never)]
pub fn give_back_stack() {
    #[cfg(target_env = "gnu")]
    {
        let mark = std::hint::black_box(0_u8);
        let here = (&raw const mark).expose_provenance();
        // SAFETY: asks for a number.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(usize::MAX);
        let end = (here - STACK_KEPT) / page * page;
        let lowest = lowest_of_stack(here).unwrap_or(0).max(end.saturating_sub(STACK_DEPTH));
        let start = lowest.div_ceil(page).saturating_mul(page);
        if start < end {
            // SAFETY: these pages are of this thread's own stack, below the frames of all its callers and the room for the call itself, so nothing
            // in them is alive; pages that are not there yet are no error that matters. Below the stack of a process's first thread the kernel keeps
            // a gap four times as wide.
            unsafe {
                libc::madvise(std::ptr::with_exposed_provenance_mut(start), end - start, libc::MADV_DONTNEED);
            }
        }
    }
}

/// The stack that a program is started with may have this many octets, and nothing else lies in so many below its end.
#[cfg(target_env = "gnu")]
const FIRST_STACK: usize = 8 * 1024 * 1024;

/// The lowest address of this thread's stack, of which `here` is part; none for the stack that the program was started with, which grows.
#[cfg(target_env = "gnu")]
fn lowest_of_stack(here: usize) -> Option<usize> {
    // The thread's number would not tell: the first thread of a forked process goes on with the stack of the thread that forked it.
    // SAFETY: asks for an address, which the kernel chose at the end of the stack that it made (getauxval(3)).
    let end = usize::try_from(unsafe { libc::getauxval(libc::AT_RANDOM) }).unwrap_or(0);
    if here < end && end - here < FIRST_STACK {
        return None;
    }
    let mut attributes = std::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
    let (mut lowest, mut size) = (std::ptr::null_mut(), 0);
    // SAFETY: the calls fill what they are given room for; the attributes are destroyed once, after they were filled.
    unsafe {
        if libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) != 0 {
            return Some(usize::MAX);
        }
        let found = libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut lowest, &raw mut size);
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        // Without an answer nothing is given back.
        Some(if found == 0 { lowest.addr() } else { usize::MAX })
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
