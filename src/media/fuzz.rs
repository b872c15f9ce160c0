//! Entry points of the fuzz targets: any bytes in, no panic, and what is read can be written again.

use bytes::Bytes;

use super::{
    AudioConfig, Codec, Event, Room, StreamName, VideoConfig,
    codec::{
        parameter_sets::{ParameterSets, parameter_sets},
        record,
        sei::NalFormat,
    },
};

/// An event, as it comes from the API or from another node.
pub fn event(bytes: &[u8]) {
    if let Ok(event) = Event::from_json(bytes) {
        assert_eq!(Event::from_json(&event.json).as_ref(), Ok(&event), "the canonical form is not its own");
    }
}

/// A room's snapshot, as it comes from another node.
pub fn room(bytes: &[u8]) {
    let mut more = Vec::new();
    if let Ok((room, now)) = Room::from_json(bytes, &mut more) {
        let source = "org/live/room".parse().expect("a stream name");
        let json = room.to_json(&source, now, &[]);
        assert!(Room::from_json(json.as_bytes(), &mut more).is_ok(), "no snapshot: {json}");
    }
}

/// A configuration record and a frame: the first byte chooses the codec, the second says how long the record is.
pub fn codec_config(bytes: &[u8]) {
    let Some(([codec, cut], rest)) = bytes.split_first_chunk::<2>() else { return };
    let (description, frame) = rest.split_at(rest.len().min(usize::from(*cut)));
    let (description, frame) = (Bytes::copy_from_slice(description), Bytes::copy_from_slice(frame));
    if codec & 8 != 0 {
        let codec = if codec & 1 == 0 { Codec::Aac } else { Codec::Opus };
        let config = AudioConfig::from_description(codec, description);
        assert!(config.sample_rate > 0 && config.channels > 0 && !config.codec_string().is_empty(), "{config:?}");
        return;
    }
    let codec = match codec % 5 {
        0 => Codec::Avc,
        1 => Codec::Hevc,
        2 => Codec::Av1,
        3 => Codec::Vp9,
        _ => Codec::Vp8,
    };
    let config = VideoConfig::from_description(codec, description);
    assert!(!config.codec_string().is_empty());
    let _ = (record::av1(&frame), record::vp8(&frame), record::vp9(&frame));
    let mut sets = ParameterSets::new(codec);
    for unit in parameter_sets(&config) {
        let _ = sets.insert(unit);
    }
    let Some(format) = NalFormat::of(&config) else { return };
    for unit in format.nal_units(&frame) {
        let _ = sets.insert(unit);
    }
    let _ = format.user_data(&frame);
    let _ = format.insert_user_data(&frame, [7; 16], b"payload");
    if let Some(made) = sets.config() {
        let mut again = ParameterSets::new(codec);
        for unit in parameter_sets(&made) {
            let _ = again.insert(unit);
        }
        assert_eq!(again.config(), Some(made), "a record of ours is not read as it was written");
    }
}

/// A stream's name: what is taken for one holds nothing that means something in a path, a URL or a log line.
pub fn stream_name(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(name) = text.parse::<StreamName>() else { return };
    assert_eq!(name.to_string(), text);
    assert!(!text.is_empty() && text.len() <= StreamName::BYTES_MAX && !text.contains("//"), "{text:?}");
    assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-/".contains(&byte)), "{text:?}");
    let parent = text.rsplit_once('/').map_or("", |(parent, _)| parent);
    assert!(name.is_under(parent) && name.is_under(text) && !name.is_under(&format!("{text}-")), "{text:?}");
    assert!(name.global().is_none_or(|global| global.is_global()), "{text:?}");
}
