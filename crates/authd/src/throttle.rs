//! The brake on guessing: after failed logins from one place, the next one waits, longer each time, as Dovecot's penalty does.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long a login waits after so many failures from its place.
const WAITS: [u64; 5] = [0, 2, 4, 8, 15];
/// A place without failures for so long starts anew.
const MEMORY: Duration = Duration::from_secs(60);
/// The most places remembered. Full, the oldest are forgotten: a flood of addresses slows itself by its failures' own delay.
const MOST: usize = 10_000;

/// Failed logins by place: an IPv4 address, or a /48 of IPv6.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    places: HashMap<IpAddr, Place>,
    hash: RandomState,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    failures: usize,
    last: Instant,
    /// What was tried last, as a keyed hash: a program that repeats one wrong password guesses nothing.
    tried: u64,
}

impl Throttle {
    /// How long a login from this address waits before it is looked at.
    pub(crate) fn wait(&self, peer: IpAddr, now: Instant) -> Duration {
        let place = self.places.get(&place_of(peer)).filter(|place| now < place.last + MEMORY);
        let failures = place.map_or(0, |place| place.failures);
        Duration::from_secs(WAITS[failures.min(WAITS.len() - 1)])
    }

    /// A login with these credentials failed.
    pub(crate) fn failed(&mut self, peer: IpAddr, credentials: (&str, &[u8]), now: Instant) {
        if self.places.len() >= MOST {
            self.places.retain(|_, place| now < place.last + MEMORY);
        }
        if self.places.len() >= MOST
            && let Some(oldest) = self.places.iter().min_by_key(|(_, place)| place.last).map(|(peer, _)| *peer)
        {
            self.places.remove(&oldest);
        }
        let tried = self.hash.hash_one(credentials);
        let fresh = Place { failures: 0, last: now, tried: 0 };
        let place = self.places.entry(place_of(peer)).or_insert(fresh);
        if now >= place.last + MEMORY {
            *place = fresh;
        }
        if place.failures == 0 || place.tried != tried {
            place.failures = (place.failures + 1).min(WAITS.len() - 1);
        }
        (place.last, place.tried) = (now, tried);
    }

    /// A login from this address was right.
    pub(crate) fn succeeded(&mut self, peer: IpAddr) {
        self.places.remove(&place_of(peer));
    }
}

fn place_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & (u128::MAX << 80)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn waits_grow_with_failures_and_end_with_success() {
        let (mut throttle, now, john) = (Throttle::default(), Instant::now(), peer("192.0.2.1"));
        let mut waits = Vec::new();
        for guess in [b"a", b"b", b"c", b"d", b"e", b"f"] {
            waits.push(throttle.wait(john, now).as_secs());
            throttle.failed(john, ("john", guess), now);
        }
        assert_eq!(waits, [0, 2, 4, 8, 15, 15]);
        assert_eq!(throttle.wait(peer("192.0.2.2"), now).as_secs(), 0);
        throttle.succeeded(john);
        assert_eq!(throttle.wait(john, now).as_secs(), 0);
    }

    #[test]
    fn a_forgotten_old_password_is_no_guess() {
        let (mut throttle, now, john) = (Throttle::default(), Instant::now(), peer("192.0.2.1"));
        for _ in 0..5 {
            throttle.failed(john, ("john", b"old"), now);
        }
        assert_eq!(throttle.wait(john, now).as_secs(), 2);
    }

    #[test]
    fn failures_are_forgotten_after_a_minute() {
        let (mut throttle, now, john) = (Throttle::default(), Instant::now(), peer("192.0.2.1"));
        throttle.failed(john, ("john", b"a"), now);
        throttle.failed(john, ("john", b"b"), now);
        assert_eq!(throttle.wait(john, now + MEMORY).as_secs(), 0);
        throttle.failed(john, ("john", b"c"), now + MEMORY);
        assert_eq!(throttle.wait(john, now + MEMORY).as_secs(), 2);
    }

    #[test]
    fn one_network_of_ipv6_is_one_place_and_mapped_addresses_are_ipv4() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        throttle.failed(peer("2001:db8:1::1"), ("john", b"a"), now);
        assert_eq!(throttle.wait(peer("2001:db8:1:ffff::9"), now).as_secs(), 2);
        assert_eq!(throttle.wait(peer("2001:db8:2::1"), now).as_secs(), 0);
        throttle.failed(peer("::ffff:192.0.2.1"), ("john", b"a"), now);
        assert_eq!(throttle.wait(peer("192.0.2.1"), now).as_secs(), 2);
    }

    #[test]
    fn the_memory_is_bounded() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for number in 0..u32::try_from(MOST).unwrap() + 10 {
            throttle.failed(IpAddr::V4((0x0A00_0000 + number).into()), ("john", b"a"), now);
        }
        assert_eq!(throttle.places.len(), MOST);
    }
}
