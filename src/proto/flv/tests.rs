use proptest::prelude::*;

use super::*;
use crate::{
    media::{Codec, Scalar},
    proto::rtmp::amf0,
};
use script::{LiveEvent, LiveEventKind, ScriptData};

fn file(tags: &[(u32, TagBody)]) -> Vec<u8> {
    let mut file = header(true, true).to_vec();
    for (timestamp_ms, body) in tags {
        file.extend(encode_tag(*timestamp_ms, body).concat());
    }
    file
}

proptest! {
    #[test]
    fn tags_survive_any_split(
        tags in proptest::collection::vec((any::<u32>(), proptest::collection::vec(any::<u8>(), 1..300)), 0..6),
        split in 1usize..64,
    ) {
        let bodies: Vec<_> = tags
            .iter()
            .map(|(timestamp_ms, data)| (*timestamp_ms, TagBody::video_frame(Codec::Avc, true, -40, data.clone().into())))
            .collect();
        let mut reader = FlvReader::new();
        for bytes in file(&bodies).chunks(split) {
            reader.handle_bytes(bytes).expect("own file");
        }
        for (timestamp_ms, data) in tags {
            let tag = reader.poll_tag().expect("a tag");
            prop_assert_eq!(tag.timestamp_ms, timestamp_ms);
            prop_assert_eq!(
                tag::parse(tag.kind, tag.body),
                Ok(MediaTag::Frame { codec: Codec::Avc, keyframe: true, cts_us: -40_000, data: data.into() })
            );
        }
        prop_assert_eq!(reader.poll_tag(), None);
    }

    #[test]
    fn no_bytes_panic(data in proptest::collection::vec(any::<u8>(), 0..256), with_header in any::<bool>()) {
        let mut file = vec![20];
        if with_header {
            file.extend(header(true, true));
        }
        file.extend(data);
        reader::fuzz::flv(&file);
    }
}

#[test]
fn a_tag_has_the_size_fields_of_annex_e() {
    let [head, payload, previous] = encode_tag(0x0112_2334, &TagBody::audio_frame(Codec::Aac, "abc".into()));
    assert_eq!(*head, [8, 0, 0, 5, 0x12, 0x23, 0x34, 0x01, 0, 0, 0, 0xaf, 1]);
    assert_eq!(payload, "abc");
    assert_eq!(*previous, [0, 0, 0, 16]);
}

#[test]
fn what_is_not_flv_is_refused() {
    let read = |bytes: &[u8]| FlvReader::new().handle_bytes(bytes);
    assert_eq!(read(b"FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00"), Ok(()));
    assert_eq!(read(b"MP4"), Err(FlvError::Signature));
    assert_eq!(read(b"FLV\x01\x05\xff\xff\xff\xff"), Err(FlvError::HeaderLength(u32::MAX)));
    let tag = |tag: &[u8]| read(&[&header(true, true), tag].concat());
    assert_eq!(tag(b"\x09\xff\xff\xff\0\0\0\0\0\0\0"), Err(FlvError::TagTooLong(0xff_ffff)));
    assert_eq!(tag(b"\x29\0\0\x01\0\0\0\0\0\0\0"), Err(FlvError::TagType(0x29)));
}

#[test]
fn on_live_event_has_the_contract_bytes() {
    let event = LiveEvent { ts_ms: 1500.0, replay: true, kind: LiveEventKind::Event, json: "{}" };
    let expected = [
        b"\x02\x00\x0bonLiveEvent\x03".as_slice(),
        b"\x00\x01v\x00\x3f\xf0\0\0\0\0\0\0",
        b"\x00\x02ts\x00\x40\x97\x70\0\0\0\0\0",
        b"\x00\x02rp\x01\x01",
        b"\x00\x04kind\x02\x00\x02ev",
        b"\x00\x04json\x02\x00\x02{}",
        b"\x00\x00\x09",
    ];
    assert_eq!(event.encode(), expected.concat());
}

#[test]
fn metadata_keeps_scalars_and_loses_its_envelope() {
    let properties = vec![
        ("width".to_owned(), Scalar::Number(1280.0)),
        ("encoder".to_owned(), Scalar::String("obs".to_owned())),
        ("stereo".to_owned(), Scalar::Bool(true)),
    ];
    let mut wrapped = BytesMut::new();
    amf0::encode(&amf0::Value::string("@setDataFrame"), &mut wrapped);
    wrapped.put_slice(&script::on_metadata(&properties));
    let parsed = script::parse(wrapped.freeze(), &amf0::Limits::SETUP);
    assert_eq!(parsed, Ok(ScriptData::Metadata(properties)));

    let mut nested = BytesMut::new();
    let object = amf0::Value::object([("keyframes", amf0::Value::object([])), ("n", amf0::Value::Number(1.0))]);
    amf0::encode_all(&[amf0::Value::string("onMetaData"), object], &mut nested);
    let parsed = script::parse(nested.freeze(), &amf0::Limits::SETUP);
    assert_eq!(parsed, Ok(ScriptData::Metadata(vec![("n".to_owned(), Scalar::Number(1.0))])));

    let other = Bytes::from_static(b"\x02\x00\x0aonCuePoint\x05");
    assert_eq!(script::parse(other.clone(), &amf0::Limits::SETUP), Ok(ScriptData::Data(other)));
}
