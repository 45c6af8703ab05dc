//! When a daemon that ended is started again: at once, then after 100 ms doubling to 2 s; never after a configuration mistake.

use std::time::Duration;

use mail_posix::Ended;

use crate::exit::CONFIGURATION;

/// The first pause after a second death in a row.
const FIRST: Duration = Duration::from_millis(100);
/// The longest pause.
/// It leaves a daemon time to be back within five seconds (R6).
const LONGEST: Duration = Duration::from_secs(2);
/// Who lived this long has recovered: its next death counts as the first.
const RECOVERED: Duration = Duration::from_secs(1);

/// What follows a death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Start it again after a pause (which may be zero).
    Restart(Duration),
    /// Its configuration is wrong: only a person can help.
    GiveUp,
}

/// The deaths in a row of one daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Restarts {
    deaths: u32,
}

impl Restarts {
    /// Judges a death after a life of this length.
    pub fn death(&mut self, ended: Ended, lived: Duration) -> Next {
        if ended == Ended::Code(CONFIGURATION) {
            return Next::GiveUp;
        }
        if lived >= RECOVERED {
            self.deaths = 0;
        }
        self.deaths += 1;
        let pause = match self.deaths {
            1 => Duration::ZERO,
            deaths => FIRST.saturating_mul(1 << (deaths - 2).min(16)).min(LONGEST),
        };
        Next::Restart(pause)
    }

    /// Forgets the past: a person has changed something.
    pub fn forgive(&mut self) {
        self.deaths = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_from_nothing_to_two_seconds() {
        let mut restarts = Restarts::default();
        let pauses: Vec<u128> = (0..9)
            .map(|_| match restarts.death(Ended::Signal(9), Duration::from_millis(900)) {
                Next::Restart(pause) => pause.as_millis(),
                Next::GiveUp => panic!("gave up"),
            })
            .collect();
        assert_eq!(pauses, [0, 100, 200, 400, 800, 1600, 2000, 2000, 2000]);
    }

    #[test]
    fn a_long_life_begins_the_count_anew() {
        let mut restarts = Restarts::default();
        for _ in 0..5 {
            restarts.death(Ended::Code(1), Duration::ZERO);
        }
        assert_eq!(restarts.death(Ended::Code(1), RECOVERED), Next::Restart(Duration::ZERO));
    }

    #[test]
    fn a_configuration_mistake_is_not_tried_again() {
        assert_eq!(Restarts::default().death(Ended::Code(78), Duration::ZERO), Next::GiveUp);
    }
}
