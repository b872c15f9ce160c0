//! Entry points of the fuzz targets: any bytes in, no panic, and what is read can be written again.

use bytes::{Bytes, BytesMut};

use super::{
    catalog::Catalog,
    container, line,
    lite05::{self, AnnounceBroadcast, AnnounceOk, DataEvent, DataStream, Probe, Request, SubscribeReply, TrackInfo},
    varint::{self, Reader},
};

/// Both directions of the bidirectional streams.
pub fn control(bytes: &[u8]) {
    let mut buffer = BytesMut::from(bytes);
    if let Ok(Some(request)) = Request::decode(&mut buffer) {
        let mut again = BytesMut::from(request.to_bytes().as_slice());
        assert_eq!(Request::decode(&mut again), Ok(Some(request)), "a request changed on its way");
        while let Ok(Some(_)) = lite05::decode::<lite05::SubscribeUpdate>(&mut buffer) {}
    }
    let mut buffer = BytesMut::from(bytes);
    while let Ok(Some(reply)) = SubscribeReply::decode(&mut buffer) {
        let mut again = BytesMut::from(reply.to_bytes().as_slice());
        assert_eq!(SubscribeReply::decode(&mut again), Ok(Some(reply)), "a reply changed on its way");
    }
    let mut buffer = BytesMut::from(bytes);
    if let Ok(Some(_)) = lite05::decode::<AnnounceOk>(&mut buffer) {
        while let Ok(Some(_)) = lite05::decode::<AnnounceBroadcast>(&mut buffer) {}
    }
    let _ = lite05::decode::<TrackInfo>(&mut BytesMut::from(bytes));
    let _ = lite05::decode::<Probe>(&mut BytesMut::from(bytes));
}

/// A unidirectional stream in two pieces; the first byte says where it is cut. Frames are read as items of
/// the line and as container frames.
pub fn data(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first() else { return };
    let (head, tail) = bytes.split_at(bytes.len().min(usize::from(*cut)));
    let (mut whole, mut split) = (DataStream::default(), DataStream::default());
    whole.handle_chunk(bytes);
    let expected = drain(&mut whole);
    split.handle_chunk(head);
    let mut events = drain(&mut split);
    split.handle_chunk(tail);
    events.extend(drain(&mut split));
    assert_eq!(events, expected, "a cut changed what was read");
    for event in events {
        if let DataEvent::Frame { payload, .. } = event {
            let _ = line::decode_item(&payload);
            let _ = container::read_legacy(payload);
        }
    }
    let _ = line::decode_item(&Bytes::copy_from_slice(bytes));
}

/// Numbers in any of their lengths, and strings.
pub fn varint(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    while let Ok(value) = reader.varint() {
        let mut shortest = Vec::new();
        varint::put_varint(&mut shortest, value);
        assert_eq!(shortest.len(), varint::varint_len(value));
        assert_eq!(Reader::new(&shortest).varint(), Ok(value));
        let signed = varint::unzigzag(value);
        assert_eq!(varint::zigzag(signed), value);
    }
    let mut reader = Reader::new(bytes);
    while let Ok(text) = reader.string("text", 100) {
        assert!(text.len() <= 100);
    }
}

/// A session's first stream: SETUP, or what a peer says in its place.
pub fn session(bytes: &[u8]) {
    let mut stream = DataStream::default();
    stream.handle_chunk(bytes);
    let Ok(Some(DataEvent::Setup(setup))) = stream.poll_event() else { return };
    let mut again = DataStream::default();
    again.handle_chunk(&setup.to_stream());
    assert_eq!(again.poll_event(), Ok(Some(DataEvent::Setup(setup))), "SETUP changed on its way");
}

/// A catalog.
pub fn catalog(bytes: &[u8]) {
    if let Ok(catalog) = Catalog::from_json(bytes) {
        assert_eq!(Catalog::from_json(&catalog.to_json()), Ok(catalog), "a catalog changed on its way");
    }
}

/// What the stream says until it says nothing or breaks.
fn drain(stream: &mut DataStream) -> Vec<DataEvent> {
    std::iter::from_fn(|| stream.poll_event().ok().flatten()).collect()
}
