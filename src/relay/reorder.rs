//! Puts the groups of one track back in order: they travel on streams of their own, newest first.
//!
//! A group that hangs while a newer one has been there for a while is given up; what still comes of it is late.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use crate::{clock::Instant, limits::MOQ_REORDER_GROUPS_MAX};

/// The groups of a track that have not been read to their end.
pub struct Reorder<T> {
    patience: Duration,
    groups: BTreeMap<u64, Group<T>>,
    /// Everything below is over.
    floor: u64,
    /// `floor` has been read from, or follows directly on what was.
    in_turn: bool,
}

struct Group<T> {
    items: VecDeque<T>,
    ended: bool,
    began: Instant,
}

impl<T> Reorder<T> {
    /// Waits at most `patience` for a group once a newer one is there.
    pub fn new(patience: Duration) -> Self {
        Self { patience, groups: BTreeMap::new(), floor: 0, in_turn: false }
    }

    /// The first group is this one, whichever comes first.
    pub fn begin_at(&mut self, group: u64) {
        if self.floor == 0 {
            (self.floor, self.in_turn) = (group, true);
        }
    }

    /// The next item of `group`. Gives it back if the group is over.
    pub fn handle_item(&mut self, now: Instant, group: u64, item: T) -> Result<(), T> {
        if group < self.floor {
            return Err(item);
        }
        self.entry(now, group).items.push_back(item);
        Ok(())
    }

    /// Nothing more will come of `group`.
    pub fn handle_end(&mut self, now: Instant, group: u64) {
        if group >= self.floor {
            self.entry(now, group).ended = true;
        }
    }

    /// The next item in order, with its group.
    pub fn poll_item(&mut self, now: Instant) -> Option<(u64, T)> {
        loop {
            let hurry = self.groups.len() > MOQ_REORDER_GROUPS_MAX;
            let newer_began = self.groups.values().nth(1).map(|newer| newer.began);
            let (&number, group) = self.groups.iter_mut().next()?;
            let is_next = self.in_turn && number == self.floor;
            if !is_next && self.floor > 0 && !hurry && now < group.began + self.patience {
                return None;
            }
            (self.floor, self.in_turn) = (number, true);
            if let Some(item) = group.items.pop_front() {
                return Some((number, item));
            }
            let overdue = newer_began.is_some_and(|began| now >= began + self.patience);
            if !group.ended && !overdue && !hurry {
                return None;
            }
            self.groups.remove(&number);
            self.floor = number.saturating_add(1);
        }
    }

    /// When [`poll_item`](Self::poll_item) may have something although nothing arrived.
    pub fn poll_deadline(&self) -> Option<Instant> {
        let mut groups = self.groups.iter();
        let (&number, group) = groups.next()?;
        let waited_for = if self.in_turn && number == self.floor { groups.next()?.1 } else { group };
        Some(waited_for.began + self.patience)
    }

    fn entry(&mut self, now: Instant, group: u64) -> &mut Group<T> {
        self.groups.entry(group).or_insert_with(|| Group { items: VecDeque::new(), ended: false, began: now })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock;

    const PATIENCE: Duration = Duration::from_millis(500);

    fn drain(reorder: &mut Reorder<u32>, now: Instant) -> Vec<(u64, u32)> {
        std::iter::from_fn(|| reorder.poll_item(now)).collect()
    }

    #[test]
    fn a_newer_group_waits_for_the_older_one_to_end() {
        let (mut reorder, now) = (Reorder::new(PATIENCE), clock::now());
        assert_eq!(reorder.handle_item(now, 7, 1), Ok(()));
        assert_eq!(drain(&mut reorder, now), [(7, 1)]);
        assert_eq!(reorder.handle_item(now, 8, 3), Ok(()));
        assert_eq!(drain(&mut reorder, now), []);
        assert_eq!(reorder.handle_item(now, 7, 2), Ok(()));
        reorder.handle_end(now, 7);
        assert_eq!(drain(&mut reorder, now), [(7, 2), (8, 3)]);
    }

    #[test]
    fn the_first_group_is_waited_for_where_it_is_known() {
        let (mut reorder, now) = (Reorder::new(PATIENCE), clock::now());
        reorder.begin_at(7);
        assert_eq!(reorder.handle_item(now, 8, 2), Ok(()));
        assert_eq!(drain(&mut reorder, now), []);
        assert_eq!(reorder.handle_item(now, 7, 1), Ok(()));
        reorder.handle_end(now, 7);
        assert_eq!(drain(&mut reorder, now), [(7, 1), (8, 2)]);
    }

    #[test]
    fn a_hanging_group_is_given_up_and_what_comes_of_it_is_late() {
        let (mut reorder, now) = (Reorder::new(PATIENCE), clock::now());
        assert_eq!(reorder.handle_item(now, 7, 1), Ok(()));
        assert_eq!(drain(&mut reorder, now), [(7, 1)]);
        assert_eq!(reorder.handle_item(now, 8, 3), Ok(()));
        assert_eq!(reorder.poll_deadline(), Some(now + PATIENCE));
        assert_eq!(drain(&mut reorder, now + PATIENCE / 2), []);
        assert_eq!(drain(&mut reorder, now + PATIENCE), [(8, 3)]);
        assert_eq!(reorder.handle_item(now + PATIENCE, 7, 2), Err(2));
    }

    #[test]
    fn a_jump_in_the_numbers_costs_the_patience_once() {
        let (mut reorder, now) = (Reorder::new(PATIENCE), clock::now());
        assert_eq!(reorder.handle_item(now, 7, 1), Ok(()));
        reorder.handle_end(now, 7);
        assert_eq!(drain(&mut reorder, now), [(7, 1)]);
        assert_eq!(reorder.handle_item(now, 1000, 2), Ok(()));
        assert_eq!(drain(&mut reorder, now), [], "8 may still come");
        assert_eq!(reorder.poll_deadline(), Some(now + PATIENCE));
        assert_eq!(drain(&mut reorder, now + PATIENCE), [(1000, 2)]);
        assert_eq!(reorder.handle_item(now + PATIENCE, 1000, 3), Ok(()));
        assert_eq!(drain(&mut reorder, now + PATIENCE), [(1000, 3)]);
    }

    proptest! {
        /// However the groups' streams interleave, within the patience everything comes out once and in order.
        #[test]
        fn order_is_restored(lengths in proptest::collection::vec(0u32..5, 1..6), picks in any::<u64>()) {
            let now = clock::now();
            let mut reorder = Reorder::new(PATIENCE);
            // The first group is there first, as its subscription begins with it.
            prop_assert_eq!(reorder.handle_item(now, 1, 0), Ok(()));
            let mut out = drain(&mut reorder, now);
            let mut expected = vec![(1u64, 0u32)];
            let mut left: Vec<(u64, u32, u32)> = Vec::new();
            for (number, length) in (1u64..).zip(&lengths) {
                expected.extend((1..=*length).map(|item| (number, item)));
                left.push((number, 1, *length));
            }
            let mut picks = picks;
            while !left.is_empty() {
                let at = usize::try_from(picks % left.len() as u64).expect("small");
                picks = picks.rotate_right(7) ^ 0x9e37;
                let (number, next, length) = left[at];
                if next > length {
                    reorder.handle_end(now, number);
                    left.remove(at);
                } else {
                    prop_assert_eq!(reorder.handle_item(now, number, next), Ok(()));
                    left[at].1 += 1;
                }
                out.extend(drain(&mut reorder, now));
            }
            prop_assert_eq!(out, expected);
        }
    }
}
