//! How often one address may fail to authenticate.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
};

use crate::{
    clock::Instant,
    limits::{AUTH_FAILURE_ADDRESSES_MAX, AUTH_FAILURES_MAX, AUTH_FAILURES_WINDOW},
};

/// Counts failed attempts per address. An IPv6 peer is counted by its /64, which one host fills at will.
#[derive(Debug, Default)]
pub struct FailedAuth {
    by_address: HashMap<IpAddr, Failures>,
}

#[derive(Debug)]
struct Failures {
    since: Instant,
    count: u32,
}

impl FailedAuth {
    /// Whether a peer at `address` may try. Ask before looking at what it presents.
    pub fn may_try(&self, address: IpAddr, now: Instant) -> bool {
        match self.by_address.get(&network(address)) {
            Some(failures) => expired(failures, now) || failures.count < AUTH_FAILURES_MAX,
            None => true,
        }
    }

    /// Remembers that a peer at `address` failed.
    pub fn failed(&mut self, address: IpAddr, now: Instant) {
        let address = network(address);
        if !self.by_address.contains_key(&address) && self.by_address.len() >= AUTH_FAILURE_ADDRESSES_MAX {
            self.forget_some(now);
        }
        let failures = self.by_address.entry(address).or_insert(Failures { since: now, count: 0 });
        if expired(failures, now) {
            *failures = Failures { since: now, count: 0 };
        }
        failures.count = failures.count.saturating_add(1);
    }

    fn forget_some(&mut self, now: Instant) {
        self.by_address.retain(|_, failures| !expired(failures, now));
        if self.by_address.len() < AUTH_FAILURE_ADDRESSES_MAX {
            return;
        }
        let oldest = self.by_address.iter().min_by_key(|(_, failures)| failures.since).map(|(address, _)| *address);
        if let Some(oldest) = oldest {
            self.by_address.remove(&oldest);
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

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_is_refused_for_the_rest_of_its_window() {
        let (mut guard, start) = (FailedAuth::default(), clock::now());
        let (bad, good) = (address("192.0.2.1"), address("192.0.2.2"));
        for _ in 0..AUTH_FAILURES_MAX {
            assert!(guard.may_try(bad, start));
            guard.failed(bad, start);
        }
        assert!(!guard.may_try(bad, start) && guard.may_try(good, start));
        assert!(!guard.may_try(address("::ffff:192.0.2.1"), start), "the same peer over a v6 socket");
        let last = start + AUTH_FAILURES_WINDOW - Duration::from_millis(1);
        assert!(!guard.may_try(bad, last));
        let later = start + AUTH_FAILURES_WINDOW;
        assert!(guard.may_try(bad, later));
        guard.failed(bad, later);
        assert!(guard.may_try(bad, later), "a new window counts from one");
    }

    #[test]
    fn a_v6_host_cannot_hide_in_its_own_network() {
        let (mut guard, now) = (FailedAuth::default(), clock::now());
        for host in 0..AUTH_FAILURES_MAX {
            guard.failed(address(&format!("2001:db8::{host:x}")), now);
        }
        assert!(!guard.may_try(address("2001:db8::ffff"), now));
        assert!(guard.may_try(address("2001:db8:0:1::1"), now));
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_is_forgotten_first() {
        let (mut guard, start) = (FailedAuth::default(), clock::now());
        let host = |i: usize| IpAddr::from((10 << 24 | u32::try_from(i).expect("small")).to_be_bytes());
        for i in 0..AUTH_FAILURE_ADDRESSES_MAX + 10 {
            for _ in 0..AUTH_FAILURES_MAX {
                guard.failed(host(i), start + Duration::from_micros(i as u64));
            }
        }
        let now = start + Duration::from_secs(1);
        assert_eq!(guard.by_address.len(), AUTH_FAILURE_ADDRESSES_MAX);
        assert!(guard.may_try(host(9), now) && !guard.may_try(host(10), now));
        guard.failed(address("192.0.2.1"), start + AUTH_FAILURES_WINDOW * 2);
        assert_eq!(guard.by_address.len(), 1, "what has expired goes first");
    }
}
