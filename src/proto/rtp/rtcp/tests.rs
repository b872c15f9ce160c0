use std::time::UNIX_EPOCH;

use proptest::prelude::*;
use str0m::rtp::rtcp::Rtcp as Foreign;

use super::{super::hex, *};

const REPORT: Report = Report {
    ssrc: 0x902F_9E2E,
    fraction_lost: 85,
    lost: 4711,
    highest_sequence: 0x1_46E1,
    jitter: 273,
    last_sr: 0x9F3_6432,
    delay_since_sr: 150_137,
};

#[test]
fn what_webrtc_rs_writes_is_read() {
    let info = SenderInfo { ntp: 0xDA8B_D1FC_DDDD_A05A, timestamp: 0xAAF4_EDD5, packets: 1, octets: 2 };
    let sender = "81c8000c902f9e2eda8bd1fcdddda05aaaf4edd50000000100000002\
        902f9e2e55001267000146e10000011109f3643200024a79";
    let receiver = "82c9000d00000007902f9e2e55001267000146e10000011109f3643200024a79\
        0000000855001267000146e10000011109f3643200024a79";
    let cases = [
        (sender, Rtcp::SenderReport { ssrc: 0x902F_9E2E, info, reports: vec![REPORT] }),
        (receiver, Rtcp::ReceiverReport { ssrc: 7, reports: vec![REPORT, Report { ssrc: 8, ..REPORT }] }),
        (
            "81cd00050000000100000002fffa00100000060000280000",
            Rtcp::Nack { media_ssrc: 2, lost: vec![65530, 65535, 0, 10, 11, 40] },
        ),
        ("81ce00020000000100000002", Rtcp::Pli { media_ssrc: 2 }),
        ("84ce000400000001000000000000000209000000", Rtcp::Fir { media_ssrc: 2, command: 9 }),
        (
            "8fce0006000000010000000052454d42021a20df4874ed1600000005",
            Rtcp::Remb { bitrate_bps: 8_927_168, ssrcs: vec![1_215_622_422, 5] },
        ),
        // With a reason, and padding.
        ("a2cb0004000000010000000204676f6e65000003", Rtcp::Bye { ssrcs: vec![1, 2] }),
        ("81ca00040000000301066861776b657200000003", Rtcp::Other),
    ];
    for (text, expected) in &cases {
        assert_eq!(parse(&hex(text)).as_ref(), Ok(&vec![expected.clone()]));
    }
    let compound: String = cases.iter().map(|(text, _)| *text).collect();
    assert_eq!(parse(&hex(&compound)), Ok(cases.map(|(_, expected)| expected).to_vec()));
}

#[test]
fn str0m_reads_what_is_written() {
    let now_us = 1_795_358_399_123_456;
    let info = SenderInfo { ntp: ntp::from_unix_us(now_us), timestamp: 90_000, packets: 3, octets: 4 };
    let out = written(|out| write_sender_report(out, 7, &info, &[REPORT]));
    let Ok(Foreign::SenderReport(report)) = Foreign::try_from(out.as_slice()) else { panic!("{out:02x?}") };
    let sender = report.sender_info;
    let ntp_us = (sender.ntp_time.duration_since(UNIX_EPOCH).unwrap().as_nanos() + 500) / 1000;
    assert_eq!((*sender.ssrc, i64::try_from(ntp_us).unwrap()), (7, now_us));
    assert_eq!((sender.rtp_time.numer(), sender.sender_packet_count, sender.sender_octet_count), (90_000, 3, 4));
    let block = report.reports.get(0).unwrap();
    assert_eq!((*block.ssrc, block.fraction_lost, block.packets_lost), (REPORT.ssrc, 85, 4711));
    assert_eq!((block.max_seq, block.jitter), (0x1_46E1, 273));
    assert_eq!((block.last_sr_time, block.last_sr_delay), (REPORT.last_sr, 150_137));

    let out = written(|out| write_receiver_report(out, 7, &[REPORT; 40]));
    let Ok(Foreign::ReceiverReport(report)) = Foreign::try_from(out.as_slice()) else { panic!("{out:02x?}") };
    assert_eq!((*report.sender_ssrc, report.reports.len()), (7, 31));

    for cname in ["", "a", "ab", "abc", "hawker-viewer"] {
        let out = written(|out| write_cname(out, 9, cname));
        let Ok(Foreign::SourceDescription(names)) = Foreign::try_from(out.as_slice()) else { panic!("{out:02x?}") };
        let name = names.reports.get(0).unwrap();
        assert_eq!((*name.ssrc, name.values.get(0).unwrap().1.as_str()), (9, cname));
    }

    let out = written(|out| write_nack(out, 7, 8, &[65530, 65535, 0, 10, 11, 40]));
    let Ok(Foreign::Nack(nack)) = Foreign::try_from(out.as_slice()) else { panic!("{out:02x?}") };
    let entries: Vec<_> = nack.reports.iter().map(|entry| (entry.pid, entry.blp)).collect();
    assert_eq!((*nack.ssrc, entries), (8, vec![(65530, 1 << 4 | 1 << 5 | 1 << 15), (11, 0), (40, 0)]));

    let out = written(|out| write_pli(out, 7, 8));
    let Ok(Foreign::Pli(pli)) = Foreign::try_from(out.as_slice()) else { panic!("{out:02x?}") };
    assert_eq!((*pli.sender_ssrc, *pli.ssrc), (7, 8));

    let out = written(|out| write_fir(out, 7, 8, 9));
    let Ok(Foreign::Fir(fir)) = Foreign::try_from(out.as_slice()) else { panic!("{out:02x?}") };
    let entry = fir.reports.get(0).unwrap();
    assert_eq!((*fir.sender_ssrc, *entry.ssrc, entry.seq_no), (7, 8, 9));

    let out = written(|out| write_bye(out, &[7, 8]));
    let Ok(Foreign::Goodbye(bye)) = Foreign::try_from(out.as_slice()) else { panic!("{out:02x?}") };
    assert_eq!(bye.reports.iter().map(|ssrc| **ssrc).collect::<Vec<_>>(), [7, 8]);
}

#[test]
fn a_few_bytes_cannot_ask_for_everything() {
    let mut nack = hex("81cd01020000000100000002");
    nack.extend([0xFF; 4 * 256]);
    let parsed = parse(&nack).unwrap();
    let [Rtcp::Nack { lost, .. }] = parsed.as_slice() else { panic!("{parsed:?}") };
    assert_eq!(lost.len(), RTCP_NACK_PACKETS_MAX);
}

#[test]
fn a_datagram_that_lies_about_its_lengths_is_refused() {
    let lies = [
        "81ce",                     // half a header
        "81ce00030000000100000002", // longer than the datagram
        "41ce00020000000100000002", // version 1
        "81c9000100000001",         // one block announced, none there
        "81ce000100000001",         // feedback without its source
        "a1ce00020000000100000000", // padding of no bytes
        "a1ce0002000000010000000d", // padding longer than the packet
    ];
    for lie in lies {
        assert!(parse(&hex(lie)).is_err(), "{lie}");
    }
    assert_eq!(parse(&[]), Ok(vec![]));
}

#[test]
fn a_round_trip_is_what_the_rfc_computes() {
    // The example of RFC 3550 §6.4.1, figure 2.
    let report = Report { last_sr: 0xB705_2000, delay_since_sr: 0x0005_4000, ..REPORT };
    assert_eq!(report.round_trip(0xB44D_B710_8000_0000), Some(Duration::from_millis(6_125)));
    assert_eq!(report.round_trip(0xB44D_B700_8000_0000), None, "an answer before its question");
    assert_eq!(Report { last_sr: 0, ..report }.round_trip(0xB44D_B710_8000_0000), None);
}

proptest! {
    #[test]
    fn reports_come_back(ssrc: u32, ntp: u64, counters: [u32; 3], blocks in proptest::collection::vec(block(), 0..31)) {
        let info = SenderInfo { ntp, timestamp: counters[0], packets: counters[1], octets: counters[2] };
        let out = written(|out| {
            write_sender_report(out, ssrc, &info, &blocks);
            write_receiver_report(out, ssrc, &blocks);
        });
        let reports = blocks;
        let expected = vec![
            Rtcp::SenderReport { ssrc, info, reports: reports.clone() },
            Rtcp::ReceiverReport { ssrc, reports },
        ];
        prop_assert_eq!(parse(&out), Ok(expected));
    }

    #[test]
    fn a_request_asks_for_each_lost_packet_once(start: u16, steps in proptest::collection::vec(1u16..40, 0..200), media_ssrc: u32) {
        let mut next = start;
        let lost: Vec<u16> = steps.iter().map(|step| { next = next.wrapping_add(*step); next }).collect();
        let out = written(|out| write_nack(out, 1, media_ssrc, &lost));
        prop_assert_eq!(parse(&out), Ok(vec![Rtcp::Nack { media_ssrc, lost }]));
    }

    #[test]
    fn any_bytes_are_packets_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn any_body_is_a_packet_or_an_error(kind in 198u8..209, first in 0x80u8..0xC0, words in 0u8..30, body: [u8; 120]) {
        let mut packet = vec![first, kind, 0, words];
        packet.extend(body.iter().take(4 * usize::from(words)));
        if let Ok(parsed) = parse(&packet) {
            prop_assert_eq!(parsed.len(), 1);
        }
    }
}

fn block() -> impl Strategy<Value = Report> {
    (any::<[u32; 5]>(), any::<u8>(), LOST_MIN..=LOST_MAX).prop_map(|(words, fraction_lost, lost)| {
        let [ssrc, highest_sequence, jitter, last_sr, delay_since_sr] = words;
        Report { ssrc, fraction_lost, lost, highest_sequence, jitter, last_sr, delay_since_sr }
    })
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    assert!(out.len().is_multiple_of(4));
    out
}
