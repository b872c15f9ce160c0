use std::collections::BTreeSet;

use proptest::prelude::*;
use str0m::rtp::rtcp::Rtcp as Foreign;

use super::{
    super::{
        hex,
        rtcp::{Rtcp, parse, write_twcc},
    },
    *,
};
use crate::clock;

#[test]
fn what_webrtc_rs_writes_is_read() {
    // Sixteen lost; a vector of single bits; a vector of pairs, of which three count.
    let bytes = hex("afcd00080000000100000002fffd0021123456fa0010a401e20000ff047fff8000000003");
    let mut deltas_250us = vec![None; 33];
    for (index, delta) in [(16, 0), (19, 255), (29, 4), (30, i16::MAX), (32, i16::MIN)] {
        deltas_250us[index] = Some(delta);
    }
    let feedback = Feedback { base_sequence: 65533, reference_64ms: 0x12_3456, count: 250, deltas_250us };
    assert_eq!(parse(&bytes), Ok(vec![Rtcp::Twcc(feedback.clone())]));

    let start_us = 0x12_3456 * 64_000;
    let arrived: Vec<_> = feedback.arrivals().filter_map(|(sequence, at)| Some((sequence, at? - start_us))).collect();
    assert_eq!(arrived, [(13, 0), (16, 63_750), (26, 64_750), (27, 8_256_500), (29, 64_500)]);
}

#[test]
fn a_long_run_is_one_chunk_and_more_than_the_bound_is_refused() {
    let feedback = |packets| Feedback { deltas_250us: vec![None; packets], ..Feedback::default() };
    let mut out = Vec::new();
    write_twcc(&mut out, 1, 2, &feedback(RTCP_TWCC_PACKETS_MAX));
    assert_eq!(out.len(), 24);
    assert_eq!(parse(&out), Ok(vec![Rtcp::Twcc(feedback(RTCP_TWCC_PACKETS_MAX))]));
    out.clear();
    write_twcc(&mut out, 1, 2, &feedback(RTCP_TWCC_PACKETS_MAX + 1));
    assert_eq!(parse(&out), Err(Malformed("number of packets in feedback")));
}

#[test]
fn feedback_waits_a_tenth_of_a_second_and_begins_where_the_last_one_ended() {
    let (mut recorder, start) = (Recorder::default(), clock::now().into_std());
    let at = |ms| start + Duration::from_millis(ms);
    assert_eq!((recorder.deadline(), recorder.poll_feedback(start)), (None, None));
    recorder.record(at(0), 65535);
    recorder.record(at(10), 1);
    recorder.record(at(11), 1);
    assert_eq!((recorder.deadline(), recorder.poll_feedback(at(99))), (Some(at(100)), None));
    let deltas_250us = vec![Some(0), None, Some(40)];
    let first = Feedback { base_sequence: 65535, reference_64ms: 0, count: 0, deltas_250us };
    assert_eq!(recorder.poll_feedback(at(100)), Some(first));
    assert_eq!((recorder.poll_feedback(at(300)), recorder.deadline()), (None, None));

    // The next one starts at the packet after, though that is lost.
    recorder.record(at(200), 3);
    let second = recorder.poll_feedback(at(300)).unwrap();
    assert_eq!((second.base_sequence, second.reference_64ms, second.count), (2, 3, 1));
    assert_eq!(second.deltas_250us, [None, Some(32)]);
}

#[test]
fn a_late_packet_takes_its_loss_back() {
    let (mut recorder, start) = (Recorder::default(), clock::now().into_std());
    let at = |ms| start + Duration::from_millis(ms);
    recorder.record(at(0), 7);
    recorder.record(at(2), 9);
    let [first] = &tell(&mut recorder, at(100))[..] else { panic!("one feedback") };
    assert_eq!(first.deltas_250us, [Some(0), None, Some(8)]);
    recorder.record(at(101), 8);
    let [again] = &tell(&mut recorder, at(201))[..] else { panic!("one feedback") };
    assert_eq!(again.arrivals().collect::<Vec<_>>(), [(8, Some(101_000)), (9, Some(2_000))]);
}

#[test]
fn a_count_that_begins_anew_is_followed() {
    let now = clock::now().into_std();
    for first in [20_000, 60_000] {
        let mut recorder = Recorder::default();
        for sequence in [first, first + 1, 5, 6] {
            recorder.record(now, sequence);
        }
        let told = tell(&mut recorder, now + INTERVAL);
        let arrived = told.iter().flat_map(|feedback| feedback.arrivals()).filter(|(_, at)| at.is_some());
        assert!(arrived.map(|(sequence, _)| sequence).collect::<Vec<_>>().ends_with(&[5, 6]), "from {first}");
    }
}

#[test]
fn arrivals_are_bounded_while_nobody_asks() {
    let (mut recorder, now) = (Recorder::default(), clock::now().into_std());
    for sequence in 0..20_000 {
        recorder.record(now, sequence);
    }
    assert_eq!(recorder.arrivals.len(), RTCP_TWCC_PACKETS_MAX);
    let feedback = tell(&mut recorder, now + INTERVAL);
    let arrived = feedback.iter().flat_map(|feedback| feedback.arrivals()).filter(|(_, at)| at.is_some()).count();
    assert_eq!(arrived, RTCP_TWCC_PACKETS_MAX);
    for feedback in feedback {
        let mut out = Vec::new();
        write_twcc(&mut out, 1, 2, &feedback);
        assert!(out.len() <= 1200, "{} bytes", out.len());
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(feedback in feedback(40)) {
        let mut out = Vec::new();
        write_twcc(&mut out, 1, 2, &feedback);
        prop_assert_eq!(parse(&out), Ok(vec![Rtcp::Twcc(feedback)]));
    }

    #[test]
    fn str0m_reads_what_is_written(feedback in feedback(3)) {
        let mut out = Vec::new();
        write_twcc(&mut out, 1, 2, &feedback);
        // It steps over a run of large deltas by a byte each, and they have two.
        let symbols: Vec<u16> = feedback.deltas_250us.iter().map(|delta| symbol(*delta)).collect();
        prop_assume!(!has_run_of_large(&symbols));
        let padding = if out[0] & 0x20 == 0 { 0 } else { usize::from(out[out.len() - 1]) };
        let Ok(Foreign::Twcc(foreign)) = Foreign::try_from(&out[..out.len() - padding]) else { panic!("{out:02x?}") };
        prop_assert_eq!((foreign.base_seq, foreign.reference_time, foreign.feedback_count), (feedback.base_sequence, feedback.reference_64ms, feedback.count));
        let zero = clock::now().into_std();
        let theirs: Vec<_> = foreign
            .into_iter(zero, u64::from(feedback.base_sequence).into())
            .map(|(sequence, _, at)| (*sequence as u16, at.map(|at| i64::try_from((at - zero).as_micros()).unwrap())))
            .collect();
        prop_assert_eq!(feedback.arrivals().collect::<Vec<_>>(), theirs);
    }

    #[test]
    fn every_arrival_is_told_and_no_other(
        first: u16,
        packets in proptest::collection::vec((0u64..60_000, any::<bool>(), 0usize..5), 1..300),
        polled_every in 1usize..100,
    ) {
        // Packets arrive in an order that is a little mixed; the first one does arrive, and first.
        let mut order: Vec<_> = packets.iter().enumerate().skip(1).filter(|(_, packet)| packet.1).map(|(index, _)| index).collect();
        order.sort_by_key(|index| index + packets[*index].2);
        order.insert(0, 0);
        let mut recorder = Recorder::default();
        let mut now = clock::now().into_std();
        let start = now + Duration::from_micros(packets[0].0);
        let mut truth = Vec::new();
        let mut told = Vec::new();
        for (step, index) in order.iter().enumerate() {
            now += Duration::from_micros(packets[*index].0);
            let sequence = first.wrapping_add(u16::try_from(*index).unwrap());
            recorder.record(now, sequence);
            truth.push((sequence, i64::try_from((now - start).as_micros()).unwrap() / TICK_US * TICK_US));
            if step.is_multiple_of(polled_every) {
                told.extend(tell(&mut recorder, now));
            }
        }
        told.extend(tell(&mut recorder, now + INTERVAL));
        let counts: Vec<_> = told.iter().map(|feedback| usize::from(feedback.count)).collect();
        prop_assert_eq!(counts, (0..told.len()).map(|count| count % 256).collect::<Vec<_>>());
        let said: BTreeSet<_> =
            told.iter().flat_map(|feedback| feedback.arrivals()).filter_map(|(sequence, at)| Some((sequence, at?))).collect();
        prop_assert_eq!(said, truth.into_iter().collect());
    }

    #[test]
    fn any_bytes_are_feedback_or_an_error(head: [u8; 6], packets in prop_oneof![0u16..100, 0u16..10_000], chunks: [u8; 40]) {
        let bytes = [&head[..2], &packets.to_be_bytes(), &head[2..], &chunks].concat();
        if let Ok(feedback) = Feedback::parse(&bytes) {
            prop_assert_eq!(feedback.deltas_250us.len(), usize::from(packets));
            prop_assert_eq!(feedback.arrivals().count(), usize::from(packets));
        }
    }

    #[test]
    fn any_arrivals_are_told_within_the_bounds(steps in proptest::collection::vec((any::<u16>(), 0u64..10_000_000), 0..100)) {
        let mut recorder = Recorder::default();
        let mut now = clock::now().into_std();
        for (sequence, us) in steps {
            now += Duration::from_micros(us);
            recorder.record(now, sequence);
            for feedback in tell(&mut recorder, now) {
                prop_assert!(feedback.deltas_250us.len() <= FEEDBACK_PACKETS_MAX);
            }
        }
    }
}

fn has_run_of_large(mut symbols: &[u16]) -> bool {
    while !symbols.is_empty() {
        let (chunk, packets) = first_chunk(symbols);
        if chunk >> 13 == LARGE {
            return true;
        }
        symbols = &symbols[packets..];
    }
    false
}

fn tell(recorder: &mut Recorder, now: Instant) -> Vec<Feedback> {
    std::iter::from_fn(|| recorder.poll_feedback(now)).collect()
}

/// Runs of alike, large deltas at most `large_max` in a row, and mixtures. The clock is past its beginning, which no
/// delta may go before.
fn feedback(large_max: usize) -> impl Strategy<Value = Feedback> {
    let small = prop_oneof![Just(None), (0i16..256).prop_map(Some)];
    let large = prop_oneof![i16::MIN..0, 256..=i16::MAX].prop_map(Some);
    let run = prop_oneof![
        3 => (small, 1usize..40).prop_map(|(delta, packets)| vec![delta; packets]),
        1 => (large, 1..=large_max).prop_map(|(delta, packets)| vec![delta; packets]),
    ];
    let deltas = proptest::collection::vec(run, 1..30).prop_map(|runs| runs.concat());
    (any::<u16>(), 1u32 << 18..1 << 24, any::<u8>(), deltas).prop_map(
        |(base_sequence, reference_64ms, count, deltas_250us)| Feedback {
            base_sequence,
            reference_64ms,
            count,
            deltas_250us,
        },
    )
}
