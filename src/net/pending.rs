//! How many connections may be in their unauthenticated phase, in all and per address.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use parking_lot::Mutex;

use super::guard::network;

/// Counts connections that have not yet shown who they are.
#[derive(Clone)]
pub struct Pending {
    counts: Arc<Mutex<Counts>>,
    total_max: usize,
    per_address_max: usize,
}

#[derive(Default)]
struct Counts {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One connection's place; dropped when it is authorised or gone.
pub struct Place {
    counts: Arc<Mutex<Counts>>,
    address: IpAddr,
}

impl Pending {
    /// Admits up to `total_max` connections, `per_address_max` of them from one address.
    pub fn new(total_max: usize, per_address_max: usize) -> Self {
        Self { counts: Arc::default(), total_max, per_address_max }
    }

    /// A place for a new connection, or `None` if there are too many.
    pub fn admit(&self, address: IpAddr) -> Option<Place> {
        let address = network(address);
        let mut counts = self.counts.lock();
        if counts.total >= self.total_max {
            return None;
        }
        let here = counts.by_address.entry(address).or_default();
        if *here >= self.per_address_max {
            return None;
        }
        *here += 1;
        counts.total += 1;
        Some(Place { counts: self.counts.clone(), address })
    }

    /// How many places are taken.
    pub fn taken(&self) -> usize {
        self.counts.lock().total
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        counts.total -= 1;
        if let Some(here) = counts.by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_in_all_and_per_address_and_places_come_back() {
        let pending = Pending::new(3, 2);
        let address = |n: u8| IpAddr::from([127, 0, 0, n]);
        let first = pending.admit(address(1)).expect("room");
        let _second = pending.admit(address(1)).expect("room");
        assert!(pending.admit(address(1)).is_none(), "two of one address");
        let _other = pending.admit(address(2)).expect("room");
        assert!(pending.admit(address(3)).is_none(), "three in all");
        drop(first);
        assert!(pending.admit(address(1)).is_some());
        assert_eq!(pending.counts.lock().by_address.len(), 2, "no trace of who left");

        let pending = Pending::new(9, 1);
        let v6 = |text: &str| text.parse().expect("an address");
        let _one = pending.admit(v6("2001:db8::1")).expect("room");
        assert!(pending.admit(v6("2001:db8::2")).is_none(), "the same host, from its own /64");
        assert!(pending.admit(v6("2001:db8:0:1::1")).is_some());
    }
}
