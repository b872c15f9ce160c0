//! How many connections may be in their unauthenticated phase, in all and per address; who gives way when places
//! run out.

use std::{
    collections::{BTreeMap, HashMap},
    mem::MaybeUninit,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use socket2::SockRef;
use tokio::{net::TcpStream, sync::Notify, time::sleep};

use super::guard::network;

/// Counts connections that have not yet shown who they are.
///
/// When places run out, the one whose peer has been silent for longest goes to the newcomer: a flood of connections
/// that say nothing pushes out itself, not those who have something to say.
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
    /// Those whose peers say nothing, the oldest first.
    silent: BTreeMap<u64, (IpAddr, Arc<Notify>)>,
    /// The next key of `silent`.
    next: u64,
}

/// One connection's place; dropped when it is authorised or gone.
pub struct Place {
    counts: Arc<Mutex<Counts>>,
    address: IpAddr,
    /// While a newcomer may have it: the key in `silent`.
    silent: Mutex<Option<u64>>,
    /// Told when a newcomer has been given it.
    told: Arc<Notify>,
}

impl Pending {
    /// Admits up to `total_max` connections, `per_address_max` of them from one address.
    pub fn new(total_max: usize, per_address_max: usize) -> Self {
        Self { counts: Arc::default(), total_max, per_address_max }
    }

    /// A place that stays its holder's, or `None` if there are too many.
    pub fn admit(&self, address: IpAddr) -> Option<Place> {
        let address = network(address);
        self.counts.lock().enter(address, self)?;
        Some(Place { counts: self.counts.clone(), address, silent: Mutex::default(), told: Arc::default() })
    }

    /// A place for a peer that has said nothing yet: until [`Place::heard`], newer ones may take it.
    pub fn admit_silent(&self, address: IpAddr) -> Option<Place> {
        let place = self.admit(address)?;
        place.is_silent();
        Some(place)
    }

    /// How many places are taken.
    pub fn taken(&self) -> usize {
        self.counts.lock().total
    }
}

impl Counts {
    /// Counts one more, in place of the silent one that is in its way if there is one.
    fn enter(&mut self, address: IpAddr, bounds: &Pending) -> Option<()> {
        if self.here(address) >= bounds.per_address_max {
            let oldest = self.silent.iter().find(|(_, (from, _))| *from == address).map(|(key, _)| *key);
            self.evict(oldest?);
        } else if self.total >= bounds.total_max {
            let oldest = *self.silent.first_key_value()?.0;
            self.evict(oldest);
        }
        self.count(address);
        Some(())
    }

    fn here(&self, address: IpAddr) -> usize {
        self.by_address.get(&address).copied().unwrap_or_default()
    }

    fn count(&mut self, address: IpAddr) {
        *self.by_address.entry(address).or_default() += 1;
        self.total += 1;
    }

    fn evict(&mut self, key: u64) {
        if let Some((address, told)) = self.silent.remove(&key) {
            self.leave(address);
            told.notify_one();
        }
    }

    fn leave(&mut self, address: IpAddr) {
        self.total -= 1;
        if let Some(here) = self.by_address.get_mut(&address) {
            *here -= 1;
            if *here == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

impl Place {
    /// The peer has nothing to say for now: a newcomer may have the place.
    pub fn is_silent(&self) {
        let mut silent = self.silent.lock();
        if silent.is_none() {
            let mut counts = self.counts.lock();
            let key = counts.next;
            counts.next += 1;
            counts.silent.insert(key, (self.address, self.told.clone()));
            *silent = Some(key);
        }
    }

    /// The peer has said something: the place stays its own. If a newcomer has just been given it, it is counted on
    /// top: its peer was only a little late.
    pub fn heard(&self) {
        if let Some(key) = self.silent.lock().take() {
            let mut counts = self.counts.lock();
            if counts.silent.remove(&key).is_none() {
                counts.count(self.address);
            }
        }
    }

    /// Ready when a newcomer has been given the place, and the peer is still silent.
    pub async fn taken(&self) {
        loop {
            self.told.notified().await;
            if self.silent.lock().is_some_and(|key| !self.counts.lock().silent.contains_key(&key)) {
                return;
            }
        }
    }

    /// Waits for the first byte that the peer sends; until then it costs this and no buffer. False if none comes in
    /// time, or a newcomer needs the place.
    pub async fn spoke(&self, stream: &TcpStream, within: Duration) -> bool {
        let mut byte = [0];
        let spoke = tokio::select! {
            biased;
            peeked = stream.peek(&mut byte) => peeked.is_ok_and(|bytes| bytes > 0),
            // In a rush nobody may have looked yet at what has come.
            () = self.taken() => has_spoken(stream),
            () = sleep(within) => false,
        };
        if spoke {
            self.heard();
        }
        spoke
    }
}

fn has_spoken(stream: &TcpStream) -> bool {
    SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]).is_ok_and(|bytes| bytes > 0)
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        let is_counted = self.silent.get_mut().is_none_or(|key| counts.silent.remove(&key).is_some());
        if is_counted {
            counts.leave(self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn address(n: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, n])
    }

    #[test]
    fn bounds_hold_in_all_and_per_address_and_places_come_back() {
        let pending = Pending::new(3, 2);
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

    #[test]
    fn the_oldest_silent_one_gives_way() {
        let pending = Pending::new(3, 2);
        let told = |place: &Place| place.taken().now_or_never().is_some();
        let first = pending.admit_silent(address(1)).expect("room");
        let second = pending.admit_silent(address(2)).expect("room");
        let third = pending.admit_silent(address(3)).expect("room");
        first.heard();
        let newer = pending.admit_silent(address(4)).expect("the second's");
        assert!(!told(&first) && told(&second) && !told(&third), "the oldest of those who say nothing");
        drop(second);
        assert_eq!(pending.taken(), 3, "not counted off twice");

        let _same = pending.admit_silent(address(4)).expect("the third's");
        let again = pending.admit_silent(address(4)).expect("its own address's oldest");
        assert!(told(&newer) && !told(&again));
        newer.heard();
        assert_eq!(pending.taken(), 4, "who spoke just then stays, and is counted");
        drop((first, newer, again));
        assert_eq!(pending.taken(), 1);
        assert_eq!(pending.counts.lock().silent.len(), 1);
    }

    #[test]
    fn who_has_spoken_does_not_give_way() {
        let pending = Pending::new(2, 2);
        let places: Vec<_> = (1..=2).filter_map(|n| pending.admit_silent(address(n))).collect();
        places.iter().for_each(Place::heard);
        assert!(pending.admit_silent(address(9)).is_none());
        places[1].is_silent();
        assert!(pending.admit_silent(address(9)).is_some(), "silent again");
    }
}
