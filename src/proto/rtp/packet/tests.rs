use proptest::prelude::*;

use super::{super::hex, *};

/// Made with webrtc-rs: two CSRCs and the one-byte elements 1, 5 and 14.
const ONE_BYTE: &str = "92e0698fd9c293da1c6427820000000100000002bede0006\
    10aa51bbccef3031323334353637383961626364656600006d65646961";
/// The same in the two-byte form, with the elements 1 (empty), 2 and 200.
const TWO_BYTE: &str = "92e0698fd9c293da1c64278200000001000000021000\
    000601000201bbc81130313233343536373839616263646566306d65646961";
/// The first without its CSRCs.
const WRITTEN: &str = "90e0698fd9c293da1c642782bede000610aa51bbccef3031323334353637383961626364656600006d65646961";

const HEADER: Header =
    Header { marker: true, payload_type: 96, sequence: 27023, timestamp: 3_653_407_706, ssrc: 476_325_762 };

#[test]
fn a_foreign_packet_is_read_in_both_forms_of_extension() {
    let (one, two) = (hex(ONE_BYTE), hex(TWO_BYTE));
    let packet = Packet::parse(&one).unwrap();
    assert_eq!((packet.header, packet.payload), (HEADER, &b"media"[..]));
    let get = |id| packet.extensions.get(id);
    assert_eq!([get(1), get(5), get(14)], [Some(&b"\xAA"[..]), Some(b"\xBB\xCC"), Some(b"0123456789abcdef")]);
    assert_eq!([get(0), get(2), get(15), get(255)], [None; 4]);

    let packet = Packet::parse(&two).unwrap();
    assert_eq!((packet.header, packet.payload), (HEADER, &b"media"[..]));
    let get = |id| packet.extensions.get(id);
    assert_eq!([get(1), get(2), get(200)], [Some(&b""[..]), Some(b"\xBB"), Some(b"0123456789abcdef0")]);
    assert_eq!([get(0), get(3)], [None; 2]);
    assert_eq!([header_bytes(&one), header_bytes(&two)], [Some(one.len() - 5), Some(two.len() - 5)]);
}

#[test]
fn a_packet_is_written_as_others_write_it() {
    let mut out = Vec::new();
    HEADER.write(&[(1, b"\xAA"), (5, b"\xBB\xCC"), (14, b"0123456789abcdef")], &mut out);
    out.extend(b"media");
    assert_eq!(out, hex(WRITTEN));
}

#[test]
fn padding_is_taken_off_or_refused() {
    let packet = |padding: &[u8]| [&[0xA0, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 7][..], padding].concat();
    assert_eq!(Packet::parse(&packet(&[0, 2])).unwrap().payload, [7]);
    assert_eq!(Packet::parse(&packet(&[0, 3])).unwrap().payload, [0; 0]);
    for wrong in [&[0, 0][..], &[0, 4], &[255]] {
        assert_eq!(Packet::parse(&packet(wrong)), Err(Malformed("padding")));
    }
}

#[test]
fn an_element_that_is_cut_short_ends_the_list() {
    let mut packet = Vec::new();
    HEADER.write(&[(3, b"abc")], &mut packet);
    let length = packet.len() - 4;
    packet[length] = 0x3F;
    assert_eq!(Packet::parse(&packet).unwrap().extensions.get(3), None);
    // Id 15 ends it too (RFC 8285 §4.2); 0 does not.
    let get_3 = |elements: [u8; 4]| {
        let packet = [&[0x90, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0xBE, 0xDE, 0, 1][..], &elements].concat();
        Packet::parse(&packet).unwrap().extensions.get(3).map(<[u8]>::to_vec)
    };
    assert_eq!([get_3([0xF0, 0, 0x30, 7]), get_3([0, 0, 0x30, 7])], [None, Some(vec![7])]);
    // Another profile than RFC 8285's is not ours to read.
    packet[12] = 0xAB;
    assert_eq!(Packet::parse(&packet).unwrap().extensions.get(3), None);
}

#[test]
fn rtcp_is_told_from_rtp_by_its_type() {
    // Sender report, transport feedback; then RTP of payload type 96 with the marker (224), STUN, DTLS, and half a header.
    assert!(is_rtcp(&[0x80, 200]) && is_rtcp(&[0xAF, 205, 0, 0]));
    for other in [&[0x80, 224][..], &[0x80, 96], &[0, 200], &[22, 200], &[0x80]] {
        assert!(!is_rtcp(other));
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        (marker, payload_type, sequence, timestamp, ssrc) in (any::<bool>(), 0u8..128, any::<u16>(), any::<u32>(), any::<u32>()),
        elements in proptest::collection::btree_map(0u8..=20, proptest::collection::vec(any::<u8>(), 0..20), 0..8),
        payload in proptest::collection::vec(any::<u8>(), 0..50),
    ) {
        let header = Header { marker, payload_type, sequence, timestamp, ssrc };
        let extensions: Vec<_> = elements.iter().map(|(id, value)| (*id, value.as_slice())).collect();
        let mut out = Vec::new();
        header.write(&extensions, &mut out);
        prop_assert_eq!(header_bytes(&out), Some(out.len()));
        out.extend(&payload);
        let packet = Packet::parse(&out).unwrap();
        prop_assert_eq!((packet.header, packet.payload), (header, payload.as_slice()));
        for (id, value) in extensions {
            let fits = (1..=14).contains(&id) && (1..=16).contains(&value.len());
            prop_assert_eq!(packet.extensions.get(id), fits.then_some(value));
        }
    }

    #[test]
    fn any_bytes_are_a_packet_or_an_error(first in 0x80u8..0xC0, mut bytes in proptest::collection::vec(any::<u8>(), 0..100), id: u8) {
        // The second half of the cases gets past the version.
        if let Some(byte) = bytes.first_mut().filter(|byte| **byte < 128) {
            *byte = first;
        }
        let parsed = Packet::parse(&bytes);
        if let Ok(packet) = parsed {
            packet.extensions.get(id);
            let header = header_bytes(&bytes).unwrap();
            prop_assert!(packet.payload.len() <= bytes.len() - header);
        }
        is_rtcp(&bytes);
    }
}
