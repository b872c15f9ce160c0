use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::clock;

const PATIENCE: Patience = Patience { wait: Duration::from_millis(100), ask_every: Some(Duration::from_millis(30)) };

#[test]
fn a_hole_is_waited_for_and_then_given_up() {
    let (mut reorder, at) = start();
    reorder.insert(at(0), 65534, 'a');
    reorder.insert(at(1), 1, 'd');
    assert_eq!(drain(&mut reorder, at(1)), [Ready::Packet('a')]);
    assert_eq!(drain(&mut reorder, at(100)), []);
    // One of the two comes back in time.
    reorder.insert(at(100), 0, 'c');
    assert_eq!(drain(&mut reorder, at(101)), [Ready::Lost { packets: 1 }, Ready::Packet('c'), Ready::Packet('d')]);
    assert_eq!(reorder.deadline(), None);
    reorder.insert(at(102), 65535, 'b');
    reorder.insert(at(102), 1, 'd');
    assert_eq!(drain(&mut reorder, at(999)), []);
    assert_eq!(reorder.counters(), Counters { lost: 1, late: 2, ..Counters::default() });
}

#[test]
fn a_lost_packet_is_asked_for_once_a_round_trip_until_it_comes() {
    let (mut reorder, at) = start();
    reorder.insert(at(0), 10, ());
    reorder.insert(at(0), 12, ());
    drain(&mut reorder, at(0));
    // It may be only out of order.
    assert_eq!((reorder.poll_nack(at(9)), reorder.deadline()), (vec![], Some(at(10))));
    assert_eq!((reorder.poll_nack(at(10)), reorder.deadline()), (vec![11], Some(at(40))));
    assert!(reorder.poll_nack(at(39)).is_empty());
    assert_eq!(reorder.poll_nack(at(40)), [11]);
    // A hole that three packets have overtaken is asked for at once.
    reorder.insert(at(41), 16, ());
    assert_eq!(reorder.poll_nack(at(41)), [13]);
    assert_eq!(reorder.poll_nack(at(51)), [14, 15]);
    reorder.insert(at(52), 11, ());
    assert_eq!(reorder.poll_nack(at(71)), [13]);
    assert_eq!(reorder.counters().asked, 6);
}

#[test]
fn a_packet_is_asked_for_so_often_and_no_more() {
    let (mut reorder, at) = start();
    reorder.handle_patience(Patience { wait: Duration::from_secs(60), ask_every: Some(Duration::ZERO) });
    reorder.insert(at(0), 1, ());
    reorder.insert(at(0), 3, ());
    drain(&mut reorder, at(0));
    let mut asked = 0;
    let mut deadline = reorder.deadline().unwrap();
    while deadline < at(60_000) {
        assert_eq!(reorder.poll_nack(deadline), [2], "a deadline has something to say");
        asked += 1;
        deadline = reorder.deadline().unwrap();
    }
    assert_eq!((asked, deadline), (10, at(60_000)));
    assert_eq!(drain(&mut reorder, deadline), [Ready::Lost { packets: 1 }, Ready::Packet(())]);
}

#[test]
fn nothing_is_asked_for_where_that_is_not_wanted() {
    let (mut reorder, at) = start();
    reorder.handle_patience(Patience { ask_every: None, ..PATIENCE });
    reorder.insert(at(0), 1, ());
    reorder.insert(at(0), 9, ());
    assert_eq!((drain(&mut reorder, at(0)).len(), reorder.poll_nack(at(50))), (1, vec![]));
    assert_eq!(reorder.deadline(), Some(at(100)));
}

#[test]
fn one_request_is_bounded() {
    let (mut reorder, at) = start();
    reorder.insert(at(0), 0, ());
    reorder.insert(at(0), 1000, ());
    drain(&mut reorder, at(0));
    let (first, second) = (reorder.poll_nack(at(10)), reorder.poll_nack(at(10)));
    assert_eq!((first.len(), second.len()), (RTCP_NACK_PACKETS_MAX, 999 - RTCP_NACK_PACKETS_MAX));
    assert_eq!([first, second].concat(), (1..1000).collect::<Vec<_>>());
}

#[test]
fn a_far_jump_begins_a_new_count() {
    for first in [30_000u16, 60_000] {
        let (mut reorder, at) = start();
        for sequence in [100, 102, first, first + 1] {
            reorder.insert(at(0), sequence, sequence);
        }
        // 100 waited for its turn; nobody polled.
        let expected = [Ready::Lost { packets: 3 }, Ready::Packet(first), Ready::Packet(first + 1)];
        assert_eq!(drain(&mut reorder, at(0)), expected);
        // Even if all before had come out, there is a break that must be told.
        reorder.insert(at(0), 10, 10);
        assert_eq!(drain(&mut reorder, at(0)), [Ready::Lost { packets: 1 }, Ready::Packet(10)]);
    }
}

#[test]
fn too_many_behind_a_hole_end_the_wait() {
    let (mut reorder, at) = start();
    reorder.insert(at(0), 0, 0);
    drain(&mut reorder, at(0));
    let last = u16::try_from(RTP_REORDER_PACKETS_MAX).unwrap() + 1;
    for sequence in 2..last {
        reorder.insert(at(0), sequence, sequence);
    }
    assert_eq!(drain(&mut reorder, at(0)), []);
    reorder.insert(at(0), last, last);
    let expected: Vec<_> = [Ready::Lost { packets: 1 }].into_iter().chain((2..=last).map(Ready::Packet)).collect();
    assert_eq!(drain(&mut reorder, at(0)), expected);
}

#[test]
fn it_stays_bounded_though_nobody_polls() {
    let (mut reorder, at) = start();
    for index in 0..50u16 {
        reorder.insert(at(0), index.wrapping_mul(2999), ());
    }
    assert!(reorder.slots.len() <= RTP_REORDER_PACKETS_MAX + 3000);
}

proptest! {
    #[test]
    fn packets_come_out_in_order_once_and_the_lost_are_counted(
        first: u16,
        fates in proptest::collection::vec(fate(), 1..400),
        wait_ms in prop_oneof![Just(10_000u64), 0u64..60],
    ) {
        let arrivals = arrivals(&fates);
        let (_, begins) = arrivals[0];
        let ends = arrivals.iter().map(|(_, index)| *index).max().unwrap();
        let zero = clock::now().into_std();
        let mut reorder = Reorder::new(Patience { wait: Duration::from_millis(wait_ms), ask_every: None });
        let mut out = Vec::new();
        let mut now = zero;
        for (ms, index) in &arrivals {
            now = zero + Duration::from_millis(*ms);
            out.extend(drain(&mut reorder, now));
            reorder.insert(now, first.wrapping_add(u16::try_from(*index).unwrap()), *index);
            out.extend(drain(&mut reorder, now));
        }
        while let Some(deadline) = reorder.deadline() {
            now = now.max(deadline);
            out.extend(drain(&mut reorder, now));
        }

        // What comes out covers everything from the first to the last, packet by packet or as a loss.
        let mut next = begins;
        let mut packets = 0;
        for ready in out {
            match ready {
                Ready::Packet(index) => {
                    prop_assert_eq!(index, next);
                    (next, packets) = (next + 1, packets + 1);
                }
                Ready::Lost { packets } => next += usize::try_from(packets).unwrap(),
            }
        }
        prop_assert_eq!(next, ends + 1);

        let counters = reorder.counters();
        let lost = u64::try_from(ends + 1 - begins - packets).unwrap();
        prop_assert_eq!(counters.lost, lost);
        prop_assert_eq!(packets + usize::try_from(counters.duplicate + counters.late).unwrap(), arrivals.len());
        if wait_ms == 10_000 {
            let arrived: BTreeSet<_> = arrivals.iter().map(|(_, index)| *index).filter(|index| *index >= begins).collect();
            prop_assert_eq!(packets, arrived.len(), "what comes in time is not lost");
        }
    }

    #[test]
    fn any_sequence_is_taken(steps in proptest::collection::vec((any::<u16>(), 0u64..50), 1..200)) {
        let (mut reorder, _) = start();
        let mut now = clock::now().into_std();
        for (sequence, ms) in steps {
            now += Duration::from_millis(ms);
            reorder.insert(now, sequence, ());
            drain(&mut reorder, now);
            prop_assert!(reorder.poll_nack(now).len() <= RTCP_NACK_PACKETS_MAX);
            prop_assert!(reorder.slots.len() <= RTP_REORDER_PACKETS_MAX);
        }
    }
}

/// How late a packet comes; or not, or twice.
#[derive(Debug, Clone)]
struct Fate {
    arrivals_ms: Vec<u64>,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(vec![0]),
        2 => Just(vec![]),
        2 => (0u64..50).prop_map(|ms| vec![ms]),
        1 => (0u64..50, 0u64..50).prop_map(|(one, other)| vec![one, other]),
    ]
    .prop_map(|arrivals_ms| Fate { arrivals_ms })
}

/// When each packet arrives and which it is, in the order of arrival: one is sent each millisecond, and of the first
/// one at least a copy arrives at once.
fn arrivals(fates: &[Fate]) -> Vec<(u64, usize)> {
    let mut arrivals = vec![(0, 0)];
    for (index, fate) in fates.iter().enumerate() {
        let sent_ms = u64::try_from(index).unwrap();
        arrivals.extend(fate.arrivals_ms.iter().map(|ms| (sent_ms + ms, index)));
    }
    arrivals.sort_by_key(|(ms, _)| *ms);
    arrivals
}

fn start<T>() -> (Reorder<T>, impl Fn(u64) -> Instant) {
    let zero = clock::now().into_std();
    (Reorder::new(PATIENCE), move |ms| zero + Duration::from_millis(ms))
}

fn drain<T>(reorder: &mut Reorder<T>, now: Instant) -> Vec<Ready<T>> {
    std::iter::from_fn(|| reorder.poll(now)).collect()
}
