//! Wire vectors and properties of moq-lite-05.

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};

use super::*;

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

fn whole<M: Message + std::fmt::Debug + PartialEq>(vector: &str, message: M) {
    let mut out = Vec::new();
    encode(&message, &mut out);
    assert_eq!(out, hex(vector), "{message:?}");
    assert_eq!(decode(&mut BytesMut::from(out.as_slice())), Ok(Some(message)));
}

/// `vector` is the message; the request has the stream's kind before it.
fn request(kind: u8, vector: &str, request: Request) {
    let wire = [vec![kind], hex(vector)].concat();
    assert_eq!(request.to_bytes(), wire, "{request:?}");
    assert_eq!(Request::decode(&mut BytesMut::from(wire.as_slice())), Ok(Some(request)));
}

// All vectors of this file were written by npm @moq/net 0.3.4, version DRAFT_05.

#[test]
fn setup_vectors() {
    whole("0100", Setup::default());
    let setup = Setup { probe: 1, path: Some("/acme?token=t".into()), role: Some(Role::Subscriber), hop: 77 };
    whole("1a04010101020d2f61636d653f746f6b656e3d740301020502404d", setup);
}

#[test]
fn request_vectors() {
    request(
        1,
        "0c0961636d652f6c697665412c",
        Request::Announce(AnnounceRequest { prefix: "acme/live".into(), exclude_hop: 300 }),
    );
    request(
        2,
        "1703096c6976652f726f6f6d05766964656f3c0041f42a00",
        Request::Subscribe(Subscribe {
            id: 3,
            broadcast: "live/room".into(),
            track: "video".into(),
            priority: 60,
            max_age_ms: 500,
            group_start: Some(41),
            ..Subscribe::default()
        }),
    );
    request(
        2,
        "1400000c636174616c6f672e6a736f6e6401000000",
        Request::Subscribe(Subscribe {
            track: "catalog.json".into(),
            priority: 100,
            ordered: true,
            ..Subscribe::default()
        }),
    );
    request(
        3,
        "15096c6976652f726f6f6d05766964656f3c80004000",
        Request::Fetch(Fetch { broadcast: "live/room".into(), track: "video".into(), priority: 60, group: 16384 }),
    );
    request(5, "100f68747470733a2f2f623a343434332f", Request::Goaway(Goaway { uri: "https://b:4443/".into() }));
    request(5, "0100", Request::Goaway(Goaway::default()));
    request(
        6,
        "10096c6976652f726f6f6d05617564696f",
        Request::Track(TrackRequest { broadcast: "live/room".into(), track: "audio".into() }),
    );
    request(4, "", Request::Probe);
}

#[test]
fn reply_vectors() {
    whole("09c000001cbe991a1402", AnnounceOk { hop: 123_456_789_012, active: 2 });
    whole(
        "0e0106726f6f6d2d31020580011170",
        AnnounceBroadcast { active: true, suffix: "room-1".into(), hops: vec![5, 70_000] },
    );
    whole("090006726f6f6d2d3100", AnnounceBroadcast { active: false, suffix: "room-1".into(), hops: vec![] });
    whole("0850005388800f4240", TrackInfo { priority: 80, ordered: false, max_age_ms: 5000, timescale: 1_000_000 });
    whole("05803d090032", Probe { bitrate: 4_000_000, rtt_ms: 50 });
    whole("020000", Probe::default());
    whole(
        "08010180011170010a",
        SubscribeUpdate { priority: 1, ordered: true, max_age_ms: 70_000, group_start: Some(0), group_end: Some(9) },
    );
    for (vector, reply) in [
        ("00024040", SubscribeReply::Start { group: 64 }),
        ("01024041", SubscribeReply::End { group: 65 }),
        ("0203050705", SubscribeReply::Drop { start: 5, end: 7, code: 5 }),
    ] {
        assert_eq!(reply.to_bytes(), hex(vector));
        assert_eq!(SubscribeReply::decode(&mut BytesMut::from(hex(vector).as_slice())), Ok(Some(reply)));
    }
}

const GROUP_VECTOR: &str = "000903c000000040000000801e8480036162638001046900800208d4026465";
const GROUP_FRAMES: [(i64, &str); 3] = [(1_000_000, "abc"), (966_667, ""), (1_033_333, "de")];

#[test]
fn a_group_is_written_as_the_peer_writes_it() {
    let mut wire = GroupHeader { subscribe: 3, sequence: 1 << 30 }.to_stream();
    let mut last = 0;
    for (timestamp, payload) in GROUP_FRAMES {
        frame_header(&mut wire, timestamp - last, payload.len());
        wire.extend_from_slice(payload.as_bytes());
        last = timestamp;
    }
    assert_eq!(wire, hex(GROUP_VECTOR));
}

#[test]
fn a_group_is_read_whatever_the_cuts() {
    let wire = hex(GROUP_VECTOR);
    let mut expected = vec![DataEvent::Group(GroupHeader { subscribe: 3, sequence: 1 << 30 })];
    expected.extend(
        GROUP_FRAMES.map(|(timestamp, payload)| DataEvent::Frame {
            timestamp,
            payload: Bytes::from_static(payload.as_bytes()),
        }),
    );
    for step in 1..=wire.len() {
        let (mut stream, mut events) = (DataStream::default(), Vec::new());
        for chunk in wire.chunks(step) {
            stream.handle_chunk(chunk);
            while let Some(event) = stream.poll_event().expect("a group") {
                events.push(event);
            }
        }
        assert_eq!(events, expected, "in steps of {step}");
        assert!(stream.is_at_boundary());
    }
}

#[test]
fn half_a_message_is_not_yet_and_a_lie_is_an_error() {
    let wire = Request::Track(TrackRequest { broadcast: "a/b".into(), track: "video".into() }).to_bytes();
    for cut in 0..wire.len() {
        assert_eq!(Request::decode(&mut BytesMut::from(&wire[..cut])), Ok(None), "cut at {cut}");
    }
    // The body says 2 bytes, its string says 5.
    assert_eq!(Request::decode(&mut BytesMut::from(&[6, 2, 5, b'x'][..])), Err(WireError::Malformed("TRACK")));
    // A byte too many in the body.
    let long = decode::<AnnounceOk>(&mut BytesMut::from(&[3, 1, 1, 1][..]));
    assert_eq!(long, Err(WireError::Malformed("ANNOUNCE_OK")));
    assert_eq!(Request::decode(&mut BytesMut::from(&[7, 0][..])), Err(WireError::UnknownStream));
    // A timescale of zero would be divided by.
    assert!(decode::<TrackInfo>(&mut BytesMut::from(&[4, 0, 0, 0, 0][..])).is_err());
}

#[test]
fn declared_sizes_are_refused_before_they_are_kept() {
    let mut message = BytesMut::from(&[2][..]);
    put_varint(&mut message, 1 << 30);
    assert!(matches!(Request::decode(&mut message), Err(WireError::TooLarge { .. })));
    let mut stream = DataStream::default();
    let mut frame = GroupHeader { subscribe: 0, sequence: 0 }.to_stream();
    frame_header(&mut frame, 0, 1 << 40);
    stream.handle_chunk(&frame);
    assert!(matches!(stream.poll_event(), Ok(Some(DataEvent::Group(_)))));
    assert!(matches!(stream.poll_event(), Err(WireError::TooLarge { .. })));
}

#[test]
fn setup_skips_what_it_does_not_know_and_refuses_a_parameter_sent_twice() {
    // Parameter 4 (cost) and 99 are not ours.
    let known = decode::<Setup>(&mut BytesMut::from(&[12, 3, 4, 1, 9, 0x40, 99, 2, 1, 1, 1, 1, 7][..]));
    assert_eq!(known, Ok(Some(Setup { probe: 2, ..Setup::default() })));
    let twice = decode::<Setup>(&mut BytesMut::from(&[7, 2, 1, 1, 0, 1, 1, 0][..]));
    assert!(matches!(twice, Err(WireError::Malformed(_))));
}

proptest! {
    #[test]
    fn subscriptions_round_trip(
        id in 0u64..1 << 62, broadcast in "[a-z/]{0,40}", track in ".{0,20}", priority in any::<u8>(),
        ordered in any::<bool>(), max_age_ms in 0u64..1 << 62,
        group_start in proptest::option::of(0u64..1 << 61), group_end in proptest::option::of(0u64..1 << 61),
    ) {
        let request =
            Request::Subscribe(Subscribe { id, broadcast, track, priority, ordered, max_age_ms, group_start, group_end });
        let wire = request.to_bytes();
        prop_assert_eq!(Request::decode(&mut BytesMut::from(wire.as_slice())), Ok(Some(request)));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..300)) {
        crate::proto::moq::fuzz::control(&bytes);
        crate::proto::moq::fuzz::data(&bytes);
    }

    #[test]
    fn almost_a_group_is_read_or_refused(flip in 0usize..31, value in any::<u8>(), cut in any::<u8>()) {
        let mut bytes = [vec![cut], hex(GROUP_VECTOR)].concat();
        if let Some(byte) = bytes.get_mut(flip + 1) {
            *byte = value;
        }
        crate::proto::moq::fuzz::data(&bytes);
    }
}
