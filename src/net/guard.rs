//! How often somebody may fail to authenticate: an address, and all addresses together at one key.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
};

use crate::{
    clock::Instant,
    limits::{AUTH_FAILURE_ADDRESSES_MAX, AUTH_FAILURES_MAX, AUTH_FAILURES_WINDOW, AUTH_KEY_FAILURES_MAX},
};

/// Counts failed attempts. An IPv6 peer is counted by its /64, which one host fills at will.
#[derive(Debug, Default)]
pub struct FailedAuth {
    by_address: Counts<IpAddr>,
    by_key: Counts<String>,
}

impl FailedAuth {
    /// Whether a peer at `address` may try `key`, by whatever name keys have. Ask before looking at what it presents.
    pub fn may_try(&self, address: IpAddr, key: &str, now: Instant) -> bool {
        match self.by_address.count(&network(address), now) {
            0 => true,
            failures => failures < AUTH_FAILURES_MAX && self.by_key.count(key, now) < AUTH_KEY_FAILURES_MAX,
        }
    }

    /// Remembers that a peer at `address` failed at `key`.
    pub fn failed(&mut self, address: IpAddr, key: &str, now: Instant) {
        self.by_address.add(network(address), now);
        self.by_key.add(key.to_owned(), now);
    }
}

/// Failures by who or what they are counted of; of too many the oldest is forgotten.
#[derive(Debug)]
struct Counts<K>(HashMap<K, Failures>);

#[derive(Debug)]
struct Failures {
    since: Instant,
    count: u32,
}

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Hash + Eq + Clone> Counts<K> {
    fn count<Q: Hash + Eq + ?Sized>(&self, key: &Q, now: Instant) -> u32
    where
        K: std::borrow::Borrow<Q>,
    {
        self.0.get(key).filter(|failures| !expired(failures, now)).map_or(0, |failures| failures.count)
    }

    fn add(&mut self, key: K, now: Instant) {
        if !self.0.contains_key(&key) && self.0.len() >= AUTH_FAILURE_ADDRESSES_MAX {
            self.forget_some(now);
        }
        let failures = self.0.entry(key).or_insert(Failures { since: now, count: 0 });
        if expired(failures, now) {
            *failures = Failures { since: now, count: 0 };
        }
        failures.count = failures.count.saturating_add(1);
    }

    fn forget_some(&mut self, now: Instant) {
        self.0.retain(|_, failures| !expired(failures, now));
        if self.0.len() < AUTH_FAILURE_ADDRESSES_MAX {
            return;
        }
        let oldest = self.0.iter().min_by_key(|(_, failures)| failures.since).map(|(key, _)| key.clone());
        if let Some(oldest) = oldest {
            self.0.remove(&oldest);
        }
    }
}

fn expired(failures: &Failures, now: Instant) -> bool {
    now.saturating_duration_since(failures.since) >= AUTH_FAILURES_WINDOW
}

/// What one host can speak from at will: an IPv4 address, or an IPv6 /64.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock;

    const KEY: &str = "live/room";

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_is_refused_for_the_rest_of_its_window() {
        let (mut guard, start) = (FailedAuth::default(), clock::now());
        let (bad, good) = (address("192.0.2.1"), address("192.0.2.2"));
        for _ in 0..AUTH_FAILURES_MAX {
            assert!(guard.may_try(bad, KEY, start));
            guard.failed(bad, KEY, start);
        }
        assert!(!guard.may_try(bad, KEY, start) && guard.may_try(good, KEY, start));
        assert!(!guard.may_try(address("::ffff:192.0.2.1"), KEY, start), "the same peer over a v6 socket");
        let last = start + AUTH_FAILURES_WINDOW - Duration::from_millis(1);
        assert!(!guard.may_try(bad, KEY, last));
        let later = start + AUTH_FAILURES_WINDOW;
        assert!(guard.may_try(bad, KEY, later));
        guard.failed(bad, KEY, later);
        assert!(guard.may_try(bad, KEY, later), "a new window counts from one");
    }

    #[test]
    fn a_v6_host_cannot_hide_in_its_own_network() {
        let (mut guard, now) = (FailedAuth::default(), clock::now());
        for host in 0..AUTH_FAILURES_MAX {
            guard.failed(address(&format!("2001:db8::{host:x}")), KEY, now);
        }
        assert!(!guard.may_try(address("2001:db8::ffff"), KEY, now));
        assert!(guard.may_try(address("2001:db8:0:1::1"), KEY, now));
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_is_forgotten_first() {
        let (mut guard, start) = (FailedAuth::default(), clock::now());
        let host = |i: usize| IpAddr::from((10 << 24 | u32::try_from(i).expect("small")).to_be_bytes());
        for i in 0..AUTH_FAILURE_ADDRESSES_MAX + 10 {
            for _ in 0..AUTH_FAILURES_MAX {
                guard.failed(host(i), KEY, start + Duration::from_micros(i as u64));
            }
        }
        let now = start + Duration::from_secs(1);
        assert_eq!(guard.by_address.0.len(), AUTH_FAILURE_ADDRESSES_MAX);
        assert!(guard.may_try(host(9), KEY, now) && !guard.may_try(host(10), KEY, now));
        guard.failed(address("192.0.2.1"), KEY, start + AUTH_FAILURES_WINDOW * 2);
        assert_eq!(guard.by_address.0.len(), 1, "what has expired goes first");
    }

    #[test]
    fn who_guesses_from_many_addresses_has_one_try_each_and_locks_nobody_out() {
        let (mut guard, now) = (FailedAuth::default(), clock::now());
        let host = |n: u8| IpAddr::from([192, 0, 2, n]);
        for n in 0..30 {
            assert!(guard.may_try(host(n), KEY, now));
            guard.failed(host(n), KEY, now);
        }
        assert!(!guard.may_try(host(3), KEY, now), "he has failed, and the key is being guessed at");
        assert!(guard.may_try(host(3), "live/other", now), "another key isn't");
        assert!(guard.may_try(host(99), KEY, now), "who has not failed is heard");
        assert!(guard.may_try(host(3), KEY, now + AUTH_FAILURES_WINDOW));
    }
}
