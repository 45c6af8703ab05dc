//! Programs that belong to somebody else: started so that they can be ended with everything they start, and end when we do.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{Pid, Signal};

/// Makes a program the leader of a session and process group of its own, which the kernel kills when the thread that started it ends.
/// That thread must therefore wait for it.
pub fn on_a_leash(command: &mut Command) -> &mut Command {
    let parent = Pid::from_raw(std::process::id().cast_signed());
    // SAFETY: between fork and exec the closure makes system calls only; it allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(move || {
            rustix::process::setsid()?;
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // The parent may have ended before the signal was asked for.
            if rustix::process::getppid() == parent { Ok(()) } else { Err(io::ErrorKind::Interrupted.into()) }
        })
    }
}

/// Kills a program started with [`on_a_leash`] that was not waited for yet, and everything in its process group.
pub fn kill_all(leader: u32) {
    if let Some(group) = Pid::from_raw(leader.cast_signed()) {
        // It may have ended meanwhile.
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::process::Stdio;

    #[test]
    fn a_program_ends_with_all_that_it_started() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "sleep 600 & echo started; wait"]).stdout(Stdio::piped());
        let mut child = on_a_leash(&mut command).spawn().expect("starts");
        let mut output = child.stdout.take().expect("piped");
        let mut word = [0; 8];
        output.read_exact(&mut word).expect("says so");
        kill_all(child.id());
        assert!(!child.wait().expect("ended").success());
        // The sleeper held the other end too.
        assert_eq!(output.read(&mut word).expect("closed"), 0);
    }
}
