//! The system calls that a process keeps: a filter of the kernel's seccomp, for ever, for this thread and what comes from it.
//!
//! A filter is a list of [`Calls`], groups of system calls by what they are good for. Everything else fails with ENOSYS, as on a kernel that
//! does not know the call: the C library then takes another way where there is one (`clone` for `clone3`), and a process that was taken over
//! can neither run a program nor make a process, trace another one, mount, load code into the kernel, or open a socket of a strange family.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Compare, SeccompCondition as Condition,
    SeccompFilter, SeccompRule, TargetArch,
};

/// A group of system calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Calls {
    /// What every program needs: memory, threads (not processes), time, signals, waiting, and using descriptors that are open.
    Basic,
    /// Opening, making, renaming and removing files; which of them, Landlock and the permissions say.
    Files,
    /// Making Unix sockets and connecting them.
    UnixSockets,
    /// Making sockets for IPv4 and IPv6 and connecting them.
    InternetSockets,
    /// What the name service switch asks the kernel for addresses and interfaces with.
    Netlink,
}

/// Whether the filter is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// It is.
    Full,
    /// The kernel has no such filters or may not take another one, or this processor is not known here: nothing is restricted.
    Absent,
}

/// Keeps these groups of calls and gives up all others. The process gains no rights by running programs any more (`no_new_privs`).
///
/// # Errors
/// The kernel has filters but refuses this one; the process is then unrestricted.
pub fn restrict(groups: &[Calls]) -> io::Result<Report> {
    let Ok(processor) = TargetArch::try_from(std::env::consts::ARCH) else { return Ok(Report::Absent) };
    let filter = SeccompFilter::new(
        rules(groups).map_err(other)?,
        SeccompAction::Errno(libc::ENOSYS.unsigned_abs()),
        SeccompAction::Allow,
        processor,
    );
    let program: BpfProgram = filter.and_then(TryInto::try_into).map_err(other)?;
    match seccompiler::apply_filter(&program) {
        Ok(()) => Ok(Report::Full),
        Err(seccompiler::Error::Seccomp(error) | seccompiler::Error::Prctl(error))
            // EPERM: a filter that is already in force, a container's or a unit's, forbids another one.
            if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL | libc::EPERM)) =>
        {
            Ok(Report::Absent)
        }
        Err(error) => Err(other(error)),
    }
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn rules(groups: &[Calls]) -> Result<Rules, seccompiler::BackendError> {
    let has = |group| groups.contains(&group);
    let mut rules = Rules::new();
    let unconditional =
        [(Calls::Basic, BASIC), (Calls::Basic, BASIC_OLD), (Calls::Files, FILES), (Calls::Files, FILES_OLD)];
    for (_, calls) in unconditional.into_iter().filter(|(group, _)| has(*group)) {
        rules.extend(calls.iter().map(|call| (*call, Vec::new())));
    }
    if has(Calls::Basic) {
        // A thread, never a process.
        let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
        let threads = Condition::new(0, Length::Qword, Compare::MaskedEq(thread), thread)?;
        rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![threads])?]);
        // For the event loop's own wake-ups; without a name it leads nowhere.
        rules.insert(libc::SYS_socketpair, vec![family(libc::AF_UNIX)?]);
    }
    let families = [
        (Calls::UnixSockets, &[libc::AF_UNIX][..]),
        (Calls::InternetSockets, &[libc::AF_INET, libc::AF_INET6]),
        (Calls::Netlink, &[libc::AF_NETLINK]),
    ];
    for (_, families) in families.into_iter().filter(|(group, _)| has(*group)) {
        for &one in families {
            rules.entry(libc::SYS_socket).or_default().push(family(one)?);
        }
        rules.extend(SOCKETS.iter().map(|call| (*call, Vec::new())));
    }
    Ok(rules)
}

/// The first argument is this family of sockets.
fn family(family: i32) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![Condition::new(0, Length::Dword, Compare::Eq, u64::from(family.unsigned_abs()))?])
}

const BASIC: &[i64] = &[
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_memfd_create,
    libc::SYS_mincore,
    libc::SYS_mlock,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_msync,
    libc::SYS_munlock,
    libc::SYS_munmap,
    // Threads.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_get_robust_list,
    libc::SYS_getcpu,
    libc::SYS_gettid,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    // Time.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getitimer,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_setitimer,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_gettime,
    libc::SYS_timerfd_settime,
    libc::SYS_times,
    // Signals, to whom Landlock and the permissions say.
    libc::SYS_kill,
    libc::SYS_pidfd_send_signal,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_sigaltstack,
    libc::SYS_signalfd4,
    libc::SYS_tgkill,
    libc::SYS_wait4,
    libc::SYS_waitid,
    // Who and where we are.
    libc::SYS_capget,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getgroups,
    libc::SYS_getpgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getpriority,
    libc::SYS_getrandom,
    libc::SYS_getresgid,
    libc::SYS_getresuid,
    libc::SYS_getrusage,
    libc::SYS_getsid,
    libc::SYS_getuid,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    libc::SYS_sysinfo,
    libc::SYS_umask,
    libc::SYS_uname,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    // Descriptors that are open.
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_copy_file_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fadvise64,
    libc::SYS_fallocate,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_ioctl,
    libc::SYS_lseek,
    libc::SYS_pipe2,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_read,
    libc::SYS_readahead,
    libc::SYS_readv,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_sync_file_range,
    libc::SYS_tee,
    libc::SYS_write,
    libc::SYS_writev,
    // Sockets that are open.
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
];

const FILES: &[i64] = &[
    libc::SYS_chdir,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fchdir,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fgetxattr,
    libc::SYS_flistxattr,
    libc::SYS_fsetxattr,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_getxattr,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_rm_watch,
    libc::SYS_lgetxattr,
    libc::SYS_linkat,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_mkdirat,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_readlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_symlinkat,
    libc::SYS_syncfs,
    libc::SYS_truncate,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
];

/// New sockets; which families, the rules of `socket` say.
const SOCKETS: &[i64] = &[libc::SYS_bind, libc::SYS_connect, libc::SYS_listen];

/// Calls that younger processors never had.
#[cfg(target_arch = "x86_64")]
const BASIC_OLD: &[i64] = &[
    libc::SYS_alarm,
    libc::SYS_arch_prctl,
    libc::SYS_dup2,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_getpgrp,
    libc::SYS_getrlimit,
    libc::SYS_pause,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const BASIC_OLD: &[i64] = &[];

/// Calls that younger processors never had.
#[cfg(target_arch = "x86_64")]
const FILES_OLD: &[i64] = &[
    libc::SYS_access,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_creat,
    libc::SYS_getdents,
    libc::SYS_inotify_init,
    libc::SYS_lchown,
    libc::SYS_link,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_open,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_rmdir,
    libc::SYS_stat,
    libc::SYS_symlink,
    libc::SYS_unlink,
    libc::SYS_utime,
    libc::SYS_utimes,
];
#[cfg(not(target_arch = "x86_64"))]
const FILES_OLD: &[i64] = &[];

#[cfg(test)]
mod tests {
    use super::*;

    // A filter is for ever: what it does is shown in a child process, in tests/processes.rs.

    #[test]
    fn no_group_lets_a_program_be_run_or_a_process_be_traced() {
        let all = [Calls::Basic, Calls::Files, Calls::UnixSockets, Calls::InternetSockets, Calls::Netlink];
        let rules = rules(&all).expect("rules");
        let never = [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_clone3,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_mount,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
            libc::SYS_keyctl,
            libc::SYS_setuid,
            libc::SYS_setresuid,
            libc::SYS_init_module,
            libc::SYS_userfaultfd,
            libc::SYS_perf_event_open,
            libc::SYS_pidfd_getfd,
        ];
        assert!(never.iter().all(|call| !rules.contains_key(call)));
    }

    #[test]
    fn a_group_brings_its_own_calls_only() {
        let basic = rules(&[Calls::Basic]).expect("rules");
        assert!(basic.contains_key(&libc::SYS_read) && !basic.contains_key(&libc::SYS_openat));
        assert!(!basic.contains_key(&libc::SYS_socket) && !basic.contains_key(&libc::SYS_connect));
        let unix = rules(&[Calls::Basic, Calls::UnixSockets]).expect("rules");
        assert_eq!(unix[&libc::SYS_socket].len(), 1);
    }
}
