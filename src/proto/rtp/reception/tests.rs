use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::clock;

#[test]
fn loss_is_told_since_the_last_report_and_since_the_beginning() {
    let (mut reception, now) = (Reception::new(7, 90_000), clock::now().into_std());
    assert_eq!(reception.report(now), None);
    // Over the wrap; every fourth of the first hundred is lost.
    for index in (0..100u16).filter(|index| index % 4 != 1) {
        reception.record(now, index.wrapping_add(65_500), 0);
    }
    let report = reception.report(now).unwrap();
    assert_eq!((report.ssrc, report.fraction_lost, report.lost), (7, 64, 25));
    assert_eq!(report.highest_sequence, 1 << 16 | 63);
    assert_eq!((report.last_sr, report.delay_since_sr), (0, 0));

    for index in 100..200u16 {
        reception.record(now, index.wrapping_add(65_500), 0);
    }
    let report = reception.report(now).unwrap();
    assert_eq!((report.fraction_lost, report.lost), (0, 25));
    assert_eq!(reception.report(now).unwrap().fraction_lost, 0, "nothing was expected");
}

#[test]
fn duplicates_make_the_loss_less_and_even_negative() {
    let (mut reception, now) = (Reception::new(7, 90_000), clock::now().into_std());
    for sequence in [10, 10, 10, 12] {
        reception.record(now, sequence, 0);
    }
    let report = reception.report(now).unwrap();
    assert_eq!((report.fraction_lost, report.lost), (0, -1));
}

#[test]
fn a_packet_out_of_order_is_not_lost() {
    let (mut reception, now) = (Reception::new(7, 90_000), clock::now().into_std());
    for sequence in [65_535, 2, 0, 1] {
        reception.record(now, sequence, 0);
    }
    let report = reception.report(now).unwrap();
    assert_eq!((report.lost, report.highest_sequence), (0, 1 << 16 | 2));
}

#[test]
fn a_new_count_of_the_source_is_no_loss() {
    let (mut reception, now) = (Reception::new(7, 90_000), clock::now().into_std());
    for sequence in [10, 11, 30_000, 30_001, 30_003] {
        reception.record(now, sequence, 0);
    }
    let report = reception.report(now).unwrap();
    assert_eq!((report.lost, report.highest_sequence), (1, 30_003));
}

#[test]
fn jitter_settles_at_the_variation_of_the_transit_time() {
    let (mut reception, start) = (Reception::new(7, 90_000), clock::now().into_std());
    // A picture each 20 ms, every second one 3 ms late: 270 ticks from one transit to the next.
    for index in 0..400u16 {
        let late = Duration::from_millis(if index % 2 == 0 { 0 } else { 3 });
        let at = start + Duration::from_millis(20) * index.into() + late;
        reception.record(at, index, u32::from(index).wrapping_mul(1800).wrapping_sub(100_000));
        let jitter = reception.report(at).unwrap().jitter;
        assert!(jitter <= 270 && (index < 100 || jitter >= 265), "{jitter} at {index}");
    }
    // The timestamps begin anew: not more than a second of it counts.
    reception.record(start + Duration::from_secs(8), 400, 1 << 31);
    assert!(reception.report(start).unwrap().jitter <= 270 + 90_000 / 16);
}

#[test]
fn a_report_says_how_long_ago_the_senders_was() {
    let (mut reception, now) = (Reception::new(7, 48_000), clock::now().into_std());
    reception.handle_sender_report(now, 0x1234_5678_9ABC_DEF0);
    reception.record(now, 1, 0);
    let report = reception.report(now + Duration::from_millis(5_250)).unwrap();
    assert_eq!((report.last_sr, report.delay_since_sr), (0x5678_9ABC, 0x0005_4000));
}

proptest! {
    #[test]
    fn any_packets_make_a_report(packets in proptest::collection::vec((any::<u16>(), any::<u32>(), 0u64..10_000_000), 1..100)) {
        let (mut reception, mut now) = (Reception::new(7, u32::MAX), clock::now().into_std());
        for (sequence, timestamp, us) in packets {
            now += Duration::from_micros(us);
            reception.record(now, sequence, timestamp);
            prop_assert!(reception.report(now).is_some());
        }
    }
}
