use proptest::prelude::*;

use super::*;
use crate::proto::rtmp::{
    chunk::{ChunkError, ChunkWriter, MessageHeader},
    message::kind,
};

/// A message as a peer that kept the initial chunk size sends it.
fn wire(kind: u8, timestamp: u32, payload: impl Into<Bytes>) -> Vec<u8> {
    let header = MessageHeader { chunk_stream: 4, kind, stream_id: 1, timestamp };
    ChunkWriter::new(128).encode(&header, &[], payload.into()).concat()
}

fn call<const N: usize>(name: &str, arguments: [Value; N]) -> Vec<u8> {
    wire(kind::COMMAND, 0, Command::new(name, 2.0, arguments).encode())
}

fn connect(properties: Value) -> Vec<u8> {
    wire(kind::COMMAND, 0, Command { object: properties, ..Command::new("connect", 1.0, []) }.encode())
}

fn live() -> Value {
    Value::object([("app", Value::string("/live/?a=1")), ("tcUrl", Value::string("rtmp://h/live?a=1"))])
}

/// A session past its handshake.
fn greeted() -> ServerSession {
    let mut session = ServerSession::new();
    session.handle_bytes(&[3; 1 + 2 * 1536]).expect("a handshake");
    while session.poll_output().is_some() {}
    session
}

fn connected() -> ServerSession {
    let mut session = greeted();
    session.handle_bytes(&connect(live())).expect("connect");
    assert!(matches!(session.poll_event(), Some(ServerEvent::Connect(info)) if info.app == "live"));
    session
}

fn publishing() -> ServerSession {
    let mut session = connected();
    session.handle_bytes(&call("publish", [Value::string("room")])).expect("publish");
    session.accept_publish().expect("accepted");
    while session.poll_event().is_some() {}
    while session.poll_output().is_some() {}
    session
}

fn output(session: &mut ServerSession) -> Vec<u8> {
    std::iter::from_fn(|| session.poll_output()).flatten().collect()
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn commands_out_of_order_end_the_session() {
    let publish = || call("publish", [Value::string("room")]);
    assert!(matches!(greeted().handle_bytes(&publish()), Err(SessionError::Unexpected(_))));
    assert!(matches!(connected().handle_bytes(&connect(live())), Err(SessionError::Unexpected(_))));
    assert!(matches!(publishing().handle_bytes(&publish()), Err(SessionError::Unexpected(_))));
}

#[test]
fn nothing_is_started_or_heard_before_the_verdict() {
    let mut session = connected();
    let frame = wire(9, 40, b"\x17\x01\0\0\0nal".as_slice());
    session.handle_bytes(&frame).expect("ignored");
    session.handle_bytes(&[call("publish", [Value::string("room")]), frame].concat()).expect("held");
    assert!(matches!(session.poll_event(), Some(ServerEvent::PublishRequest(_))));
    assert_eq!(session.poll_event(), None);
    assert!(!contains(&output(&mut session), "NetStream.Publish.Start"));
    session.accept_publish().expect("accepted");
    assert!(contains(&output(&mut session), "NetStream.Publish.Start"));
    assert!(matches!(session.poll_event(), Some(ServerEvent::Media { timestamp: 40, .. })));
    assert_eq!(session.poll_event(), None);
}

#[test]
fn a_rejected_peer_is_told_and_no_longer_heard() {
    let mut session = connected();
    session.handle_bytes(&call("publish", [Value::string("room?key=1")])).expect("publish");
    session.reject("NetStream.Publish.BadName", "no").expect("room in the queue");
    assert!(contains(&output(&mut session), "NetStream.Publish.BadName"));
    session.poll_event();
    session.handle_bytes(&call("publish", [Value::string("room")])).expect("ignored");
    session.accept_publish().expect("nothing to accept");
    assert_eq!((session.poll_event(), session.poll_output()), (None, None));
}

#[test]
fn a_stranger_is_held_to_the_setup_bounds() {
    let long = || wire(9, 0, vec![0x17; limits::RTMP_SETUP_MESSAGE_BYTES_MAX + 1]);
    let too_long = SessionError::Chunk(ChunkError::MessageTooLong(limits::RTMP_SETUP_MESSAGE_BYTES_MAX + 1));
    assert_eq!(connected().handle_bytes(&long()), Err(too_long));
    assert_eq!(publishing().handle_bytes(&long()), Ok(()));

    let endless = call("x", []).repeat(3000);
    assert_eq!(connected().handle_bytes(&endless), Err(SessionError::SetupTooLong));
    assert_eq!(publishing().handle_bytes(&endless), Ok(()));

    let mut waiting = connected();
    waiting.handle_bytes(&call("publish", [Value::string("room")])).expect("publish");
    let flood = vec![0; limits::RTMP_SETUP_ASSEMBLY_BYTES_MAX];
    waiting.handle_bytes(&flood).expect("just fits");
    assert_eq!(waiting.handle_bytes(&[0]), Err(SessionError::HeldFull));

    let questions = call("getStreamLength", [Value::string("room")]).repeat(1000);
    assert_eq!(connected().handle_bytes(&questions), Err(SessionError::OutputFull));

    let name = "x".repeat(limits::RTMP_NAME_BYTES_MAX + 1);
    assert!(matches!(
        connected().handle_bytes(&call("play", [Value::string(name)])),
        Err(SessionError::TooLong { field: "stream name", .. })
    ));
}

#[test]
fn secrets_stay_out_of_debug_text() {
    let mut session = greeted();
    session.handle_bytes(&connect(Value::object([("app", Value::string("live?key=hush"))]))).expect("connect");
    session.handle_bytes(&call("play", [Value::string("room?token=hush")])).expect("play");
    let text = format!("{:?} {:?}", session.poll_event(), session.poll_event());
    assert!(text.contains("room") && !text.contains("hush"), "{text}");
}

#[test]
fn reconnect_is_asked_of_those_who_can() {
    assert_eq!(connected().request_reconnect(None, "drain"), Ok(false));
    let mut session = greeted();
    session.handle_bytes(&connect(Value::object([("capsEx", Value::Number(3.0))]))).expect("connect");
    assert!(contains(&output(&mut session), "fourCcList"));
    assert_eq!(session.request_reconnect(Some("rtmp://other/live"), "drain"), Ok(true));
    assert!(contains(&output(&mut session), "rtmp://other/live"));
}

#[test]
fn goodbyes_close_once() {
    let mut session = publishing();
    let goodbye = [call("FCUnpublish", []), call("deleteStream", [Value::Number(1.0)])].concat();
    session.handle_bytes(&goodbye).expect("goodbye");
    assert_eq!(session.poll_event(), Some(ServerEvent::Closed));
    assert_eq!(session.poll_event(), None);
}

#[test]
fn acknowledgements_carry_the_running_total() {
    let mut session = publishing();
    session.handle_bytes(&wire(kind::WINDOW_ACK_SIZE, 0, 1000u32.to_be_bytes().to_vec())).expect("window");
    output(&mut session);
    let mut totals = Vec::new();
    for _ in 0..3 {
        session.handle_bytes(&wire(8, 0, vec![0xaf; 2000])).expect("audio");
        let out = output(&mut session);
        totals.push(u32::from_be_bytes(*out.last_chunk().expect("an acknowledgement")));
    }
    // 2,000 bytes, a header of 12 and 15 continuations.
    assert_eq!((totals[1] - totals[0], totals[2] - totals[1]), (2027, 2027));
}

proptest! {
    #[test]
    fn no_bytes_panic(
        names in proptest::collection::vec(
            prop::sample::select(vec!["connect", "createStream", "publish", "play", "pause", "deleteStream", "x"]), 0..6),
        noise in proptest::collection::vec(any::<u8>(), 0..300),
        kind in prop::sample::select(vec![1u8, 2, 3, 4, 5, 8, 9, 15, 17, 18, 20, 22]),
        split in any::<u8>(),
    ) {
        let mut data = vec![split];
        for name in names {
            data.extend(if name == "connect" { connect(live()) } else { call(name, [Value::string("room")]) });
        }
        data.extend(wire(kind, 0, noise.clone()));
        data.extend(noise);
        fuzz::rtmp_session(&data);
    }
}

/// Silence is 43 messages of 8 bytes a second, and comes in one piece when a connection has stalled.
#[test]
fn small_messages_are_read_for_ever_and_a_flood_of_them_is_not() {
    let mut session = publishing();
    session.handle_bytes(&wire(8, 0, b"\xaf\x01frame".as_slice())).expect("audio");
    session.poll_event();
    let silence = b"\xc4\xaf\x01frame".repeat(43 * 20);
    for _ in 0..100 {
        session.handle_bytes(&silence).expect("as time goes");
        assert_eq!(std::iter::from_fn(|| session.poll_event()).count(), 43 * 20);
        session.handle_time(Duration::from_secs(20));
    }
    let flood = b"\xc4\xaf\x01frame".repeat(8 * 1024);
    assert_eq!(session.handle_bytes(&flood), Err(SessionError::Chunk(ChunkError::TinyChunks)));
}

/// Their parts cost what messages of their own do.
#[test]
fn aggregates_of_next_to_nothing_end_after_the_allowance() {
    let part = b"\x08\0\0\x02\0\0\0\0\0\0\0\xaf\x01\0\0\0\x0d";
    let aggregate = |parts| wire(kind::AGGREGATE, 0, part.repeat(parts));
    publishing().handle_bytes(&aggregate(4000)).expect("within the allowance");
    let ended = publishing().handle_bytes(&aggregate(6000));
    assert_eq!(ended, Err(SessionError::Chunk(ChunkError::TinyChunks)));
}
