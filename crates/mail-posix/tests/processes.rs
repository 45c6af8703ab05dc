//! What needs a process of one thread: fork, becoming a user, the sandbox. Runs without the usual harness, which makes threads;
//! what needs root is counted as ignored without it.

use std::io::{Read, Write};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use mail_posix::fork::{die_with_parent, reap_any};
use mail_posix::landlock::{self, Connections, Report};
use mail_posix::seccomp::{self, Calls};
use mail_posix::signals::{Caught, SignalFd};
use mail_posix::{BecomeError, Confinement, Ended, Identity, become_user, fork_child};

type Outcome = Result<Completion, Failed>;
type Story = fn() -> Outcome;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // One thread: libtest-mimic then runs the tests on the main thread.
    arguments.test_threads = Some(1);
    let stories: [(&str, Story); 15] = [
        ("a_child_runs_its_closure_and_exits_with_its_code", child_exits),
        ("a_panic_in_a_child_is_an_exit_code", child_panics),
        ("a_child_is_signalled_and_reaped", child_is_signalled),
        ("any_ended_child_can_be_reaped", any_child),
        ("the_end_of_a_child_is_seen_on_the_signal_descriptor", end_is_signalled),
        ("a_child_ends_with_its_parent", child_dies_with_parent),
        ("a_child_keeps_only_what_it_is_told_to", only_kept),
        ("a_process_without_root_cannot_become_somebody_else", not_root),
        ("a_stack_that_was_used_goes_back_to_the_kernel", stack_goes_back),
        // R9
        ("root_is_given_up_for_ever", root_is_given_up),
        // R9
        ("groups_and_capabilities_are_gone", nothing_is_kept),
        ("another_user_still_ends_with_its_parent", leash_is_kept),
        // R9
        ("the_sandbox_hides_everything_else", sandbox),
        // R9
        ("the_sandbox_lets_no_connection_be_made", connections),
        // R9
        ("the_filter_lets_no_program_be_run_and_no_process_be_made", filter),
    ];
    let trials = stories.into_iter().map(|(name, run)| Trial::ignorable_test(name, run)).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn is_root() -> bool {
    Identity::current().uid == 0
}

/// Runs the closure in a child; its `Err` text comes back as a failure.
fn in_child(run: impl FnOnce() -> Result<(), String>) -> Outcome {
    let (mut parent, mut child) = UnixStream::pair()?;
    let process = fork_child(move || match run() {
        Ok(()) => 0,
        Err(text) => {
            let _ = child.write_all(text.as_bytes());
            1
        }
    })?;
    let mut text = String::new();
    let ended = process.wait()?;
    if ended.success() {
        return Ok(Completion::Completed);
    }
    parent.set_nonblocking(true)?;
    let _ = parent.read_to_string(&mut text);
    Err(format!("{ended}: {text}").into())
}

fn must(condition: bool, text: &str) -> Result<(), String> {
    if condition { Ok(()) } else { Err(text.to_owned()) }
}

fn child_exits() -> Outcome {
    let child = fork_child(|| 42)?;
    let ended = child.wait()?;
    must(ended == Ended::Code(42), &ended.to_string())?;
    Ok(Completion::Completed)
}

fn child_panics() -> Outcome {
    let child = fork_child(|| {
        std::panic::set_hook(Box::new(|_| {}));
        panic!("expected")
    })?;
    must(child.wait()? == Ended::Code(70), "exit code 70")?;
    Ok(Completion::Completed)
}

fn child_is_signalled() -> Outcome {
    let child = fork_child(|| {
        loop {
            std::thread::park();
        }
    })?;
    must(child.try_wait()?.is_none(), "still running")?;
    child.signal(15)?;
    must(child.wait()? == Ended::Signal(15), "ended by SIGTERM")?;
    child.signal(15)?;
    Ok(Completion::Completed)
}

fn any_child() -> Outcome {
    must(reap_any()?.is_none(), "no child yet")?;
    let (mut parent, child_end) = UnixStream::pair()?;
    let child = fork_child(move || {
        drop(child_end);
        7
    })?;
    // End of file comes when the child has gone; it is a zombie a moment later.
    let mut byte = [0];
    let _ = parent.read(&mut byte)?;
    let found = loop {
        if let Some(found) = reap_any()? {
            break found;
        }
        std::thread::yield_now();
    };
    must(found == (child.pid(), Ended::Code(7)), "pid and code")?;
    Ok(Completion::Completed)
}

fn end_is_signalled() -> Outcome {
    in_child(|| {
        let text = |error: std::io::Error| error.to_string();
        let signals = SignalFd::open().map_err(text)?;
        let child = fork_child(|| 0).map_err(text)?;
        child.wait().map_err(text)?;
        must(signals.next().map_err(text)? == Some(Caught::Child), "SIGCHLD arrived")
    })
}

fn stack_goes_back() -> Outcome {
    #[inline(never)]
    fn deep() -> u8 {
        let used = std::hint::black_box([1_u8; 200 * 1024]);
        used[used.len() / 2]
    }
    // KiB without pages of files, which a process just forked takes as it goes; the shorter /proc/self/statm is not exact.
    fn resident() -> Result<usize, String> {
        let text = std::fs::read_to_string("/proc/self/smaps_rollup").map_err(|error| error.to_string())?;
        let number =
            text.lines().find_map(|line| line.strip_prefix("Anonymous:")?.split_whitespace().next()?.parse().ok());
        number.ok_or_else(|| "no number".to_owned())
    }
    fn given_back() -> Result<(), String> {
        resident()?;
        deep();
        let before = resident()?;
        let kept = std::hint::black_box([7_u8; 4096]);
        mail_posix::memory::give_back_stack();
        let after = resident()?;
        must(before >= after + 100, &format!("pages went back: {before} KiB, {after}"))?;
        must(kept.iter().all(|octet| *octet == 7), "what is in use stays")
    }
    in_child(|| {
        given_back()?;
        std::thread::spawn(given_back).join().map_err(|_| "a panic".to_owned())?
    })
}

fn child_dies_with_parent() -> Outcome {
    // Parent (here) -> middle -> leaf; the leaf holds the socket, and closes it by dying with the middle.
    let (mut here, leaf_end) = UnixStream::pair()?;
    let middle = fork_child(move || {
        let parent = std::process::id();
        let (mut ready, mut leaf_ready) = UnixStream::pair().expect("a socket pair");
        let leaf = fork_child(move || {
            let _keep = leaf_end;
            die_with_parent(parent).expect("prctl");
            let _ = leaf_ready.write_all(b"x");
            loop {
                std::thread::park();
            }
        });
        let _ = ready.read(&mut [0]);
        u8::from(leaf.is_err())
    })?;
    must(middle.wait()?.success(), "middle ended well")?;
    must(here.read(&mut [0])? == 0, "leaf is gone")?;
    Ok(Completion::Completed)
}

fn only_kept() -> Outcome {
    let (kept, lost) = UnixStream::pair()?;
    let (kept, lost) = (&kept, &lost);
    let child = fork_child(move || {
        let open = |fd: &UnixStream| Path::new(&format!("/proc/self/fd/{}", fd.as_raw_fd())).exists();
        let closed = mail_posix::fork::close_all_but(&[kept.as_fd()]).is_ok();
        u8::from(!(closed && open(kept) && !open(lost)))
    })?;
    let ended = child.wait()?;
    if ended.success() { Ok(Completion::Completed) } else { Err(format!("{ended}").into()) }
}

fn not_root() -> Outcome {
    in_child(|| {
        if is_root() {
            become_user(&Identity::ids(54_321, 54_321), Confinement::FULL).map_err(|error| error.to_string())?;
        }
        let refused = become_user(&Identity::ids(12_345, 12_345), Confinement::FULL);
        must(matches!(refused, Err(BecomeError::NotRoot { .. })), &format!("{refused:?}"))?;
        let own = Identity::current();
        become_user(&own, Confinement::FULL).map_err(|error| error.to_string())
    })
}

fn root_is_given_up() -> Outcome {
    if !is_root() {
        return Ok(Completion::ignored_with("needs root"));
    }
    let precious = tempfile::NamedTempFile::new()?;
    let path = precious.path().to_owned();
    in_child(move || {
        let refused = become_user(&Identity::ids(0, 0), Confinement::FULL);
        must(matches!(refused, Err(BecomeError::Root)), "root is refused")?;
        become_user(&Identity::ids(54_321, 54_321), Confinement::FULL).map_err(|error| error.to_string())?;
        must(Identity::current() == Identity::ids(54_321, 54_321), "ids")?;
        must(std::fs::read(&path).is_err(), "root's file is closed")?;
        // The kernel's magic links still work for the process itself: sockets depend on them.
        must(std::fs::read_dir("/proc/self/fd").is_ok(), "own descriptors")
    })
}

fn nothing_is_kept() -> Outcome {
    if !is_root() {
        return Ok(Completion::ignored_with("needs root"));
    }
    in_child(|| {
        let identity = Identity::ids(54_321, 54_321).with_group(54_322);
        let confinement = Confinement { open_files: Some(50), ..Confinement::FULL };
        become_user(&identity, confinement).map_err(|error| error.to_string())?;
        let status = std::fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
        for line in
            ["CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1"]
        {
            must(status.contains(line), line)?;
        }
        must(status.contains("Groups:\t54321 54322"), "groups")?;
        must(Identity::current().groups == vec![54_321, 54_322], "groups")?;
        let files: Vec<_> = std::iter::repeat_with(|| std::fs::File::open("/dev/null")).take(60).collect();
        must(files.iter().any(Result::is_err), "the limit of open files holds")
    })
}

fn leash_is_kept() -> Outcome {
    if !is_root() {
        return Ok(Completion::ignored_with("needs root"));
    }
    let parent = std::process::id();
    in_child(move || {
        die_with_parent(parent).map_err(|error| error.to_string())?;
        become_user(&Identity::ids(54_321, 54_321), Confinement::FULL).map_err(|error| error.to_string())?;
        let signal = rustix::process::parent_process_death_signal().map_err(|error| error.to_string())?;
        must(signal == Some(rustix::process::Signal::KILL), "the signal is kept")
    })
}

fn sandbox() -> Outcome {
    let directory = tempfile::tempdir()?;
    let (inside, outside) = (directory.path().join("inside"), directory.path().join("outside"));
    let (readable, shared) = (directory.path().join("readable"), directory.path().join("shared"));
    std::fs::create_dir(&inside)?;
    std::fs::create_dir(&shared)?;
    std::fs::write(shared.join("theirs"), "secret")?;
    std::fs::write(&outside, "secret")?;
    std::fs::write(&readable, "public")?;
    let report_file = directory.path().join("report");
    let mut report_to = std::fs::File::create(&report_file)?;
    in_child(move || {
        let rules = landlock::Rules {
            read: vec![readable.clone(), "/absent".into()],
            write: vec![inside.clone()],
            append: vec![shared.clone()],
            connect: Connections::Ports(Vec::new()),
        };
        let report = landlock::restrict(&rules);
        let report = report.map_err(|error| error.to_string())?;
        // A descriptor from before stays open.
        write!(report_to, "{report:?}").map_err(|error| error.to_string())?;
        if report == Report::Absent {
            return Ok(());
        }
        must(std::fs::read(&outside).is_err(), "outside is hidden")?;
        must(std::fs::read(&readable).is_ok(), "readable")?;
        must(std::fs::write(&readable, "x").is_err(), "not writable")?;
        std::fs::write(inside.join("file"), "x").map_err(|error| error.to_string())?;
        std::fs::rename(inside.join("file"), inside.join("other")).map_err(|error| error.to_string())?;
        must(std::fs::read(shared.join("theirs")).is_err(), "what others keep there is hidden")?;
        let append = std::fs::File::options().append(true).create(true).open(shared.join("ours"));
        append.and_then(|mut file| file.write_all(b"x")).map_err(|error| error.to_string())?;
        std::fs::remove_file(shared.join("ours")).map_err(|error| error.to_string())
    })?;
    if std::fs::read_to_string(report_file)? == "Absent" {
        return Ok(Completion::ignored_with("this kernel has no Landlock"));
    }
    Ok(Completion::Completed)
}

fn connections() -> Outcome {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    in_child(move || {
        let connects = || std::net::TcpStream::connect(address).is_ok();
        must(connects(), "without the sandbox")?;
        let nothing = Vec::new;
        let any = landlock::Rules { read: nothing(), write: nothing(), append: nothing(), connect: Connections::Any };
        if landlock::restrict(&any).map_err(|error| error.to_string())? == Report::Absent {
            return Ok(());
        }
        must(connects(), "to any port")?;
        must(std::net::TcpListener::bind("127.0.0.1:0").is_ok(), "a port of the kernel's choice")?;
        let narrow = |ports: &[u16]| landlock::Rules { connect: Connections::Ports(ports.to_vec()), ..any.clone() };
        landlock::restrict(&narrow(&[address.port()])).map_err(|error| error.to_string())?;
        must(connects(), "to a port that is named")?;
        landlock::restrict(&narrow(&[])).map_err(|error| error.to_string())?;
        must(!connects(), "to no port")?;
        must(std::net::TcpListener::bind("127.0.0.1:0").is_err(), "listens")
    })
}

fn filter() -> Outcome {
    in_child(|| {
        let report = seccomp::restrict(&[Calls::Basic, Calls::Files]).map_err(|error| error.to_string())?;
        if report == seccomp::Report::Absent {
            return Ok(());
        }
        let run = std::process::Command::new("/bin/true").status();
        must(run.is_err(), "a program was run")?;
        must(fork_child(|| 0).is_err(), "a process was made")?;
        must(std::net::UdpSocket::bind("127.0.0.1:0").is_err(), "a socket was made")?;
        must(UnixStream::pair().is_ok(), "a pair is harmless")?;
        must(std::fs::read("/proc/self/status").is_ok(), "files are Landlock's business")?;
        // Threads, files and waiting go on.
        let thread = std::thread::spawn(|| std::fs::metadata("/").is_ok());
        must(thread.join().unwrap_or(false), "a thread")
    })
}
