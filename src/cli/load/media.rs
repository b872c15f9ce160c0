//! Synthetic media: frames of the right sizes at the right times, each of which says when it was sent and which it is.
//!
//! The configurations are those of the built-in clip. A picture is a SEI message with the mark and one slice of
//! filler; a sound frame of AAC is a data stream element with the mark, one of Opus silence with the mark for padding.
//! Servers and demuxers take all of them for what they are; decoders find nothing in them.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    cli::source::Clip,
    media::{Metadata, Scalar, TrackKind, VideoConfig},
    proto::{
        flv::{TagBody, TagKind, script},
        rtmp::amf0::{self, Value},
    },
};

/// What to publish.
#[derive(Debug, Clone, clap::Args, serde::Serialize, serde::Deserialize)]
pub struct Shape {
    /// Pictures a second.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=240))]
    pub fps: u32,
    /// Bit rate, picture and sound together.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(16..=100_000))]
    pub kbit_per_s: u32,
    /// Seconds from keyframe to keyframe.
    #[arg(long, value_name = "SECS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub gop_secs: u32,
    /// Of which sound; 0: none.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(0..=512))]
    pub audio_kbit_per_s: u32,
}

/// What a frame says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Its place among the frames of its track.
    pub number: u64,
    /// UTC when it was sent, microseconds.
    pub clock_us: i64,
}

impl Mark {
    /// Its length.
    pub const BYTES: usize = 34;

    /// The mark of a coded picture, if it carries one; its first [`HEAD_BYTES`] are enough.
    pub fn of_picture(frame: &[u8]) -> Option<Self> {
        Self::decode(frame.get(NAL_LENGTH_BYTES + SEI_HEADER.len()..)?)
    }

    /// The same of a sound frame.
    pub fn of_sound(frame: &[u8]) -> Option<Self> {
        match frame.strip_prefix(&OPUS_HEADER) {
            // The length of the padding ends with the first byte that isn't full.
            Some(padded) => Self::decode(padded.get(padded.iter().position(|byte| *byte != u8::MAX)? + 1..)?),
            None => Self::decode(frame.get(ELEMENT_HEADER.len()..)?),
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let numbers = bytes.strip_prefix(&UUID)?;
        let number = |at: usize| {
            let digits = numbers.get(at..at + NUMBER_BYTES)?;
            Some(digits.iter().fold(0, |number, digit| number << 7 | u64::from(digit & 0x7f)))
        };
        Some(Self { number: number(0)?, clock_us: i64::try_from(number(NUMBER_BYTES)?).ok()? })
    }

    fn encode(self, out: &mut BytesMut) {
        out.put_slice(&UUID);
        for number in [self.number, self.clock_us.unsigned_abs()] {
            // The high bit is always set: no zeros, so nothing in a NAL unit looks like a start code.
            (0..9).rev().for_each(|digit| out.put_u8(0x80 | (number >> (7 * digit) & 0x7f) as u8));
        }
    }
}

/// How much of a frame must be looked at to find its mark.
pub const HEAD_BYTES: usize = NAL_LENGTH_BYTES + SEI_HEADER.len() + Mark::BYTES;

/// A frame that is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The track.
    pub track: TrackKind,
    /// Its place in the track, from 0.
    pub number: u64,
    /// When, from the first frame on.
    pub at_us: u64,
    /// Decoding may start here.
    pub keyframe: bool,
}

/// A stream's frames; one serves all publishers.
#[derive(Debug)]
pub struct Synthetic {
    fps: u64,
    gop_frames: u64,
    sample_rate: u32,
    /// Of one frame of sound.
    samples: u64,
    video: VideoConfig,
    heads: [TagBody; 3],
    /// As long as the longest frame, without zeros.
    filler: Bytes,
    key_bytes: usize,
    inter_bytes: usize,
    /// 0 without sound.
    sound_bytes: usize,
}

impl Synthetic {
    /// The frames of streams of this shape, as RTMP has them: H.264 and AAC.
    pub fn new(shape: &Shape) -> Self {
        let tracks = Clip::sample().tracks;
        let video = tracks.video.as_ref().expect("invariant: the built-in clip has a picture");
        let audio = tracks.audio.as_ref().expect("invariant: the built-in clip has sound");
        let sound_kbit = shape.audio_kbit_per_s.min(shape.kbit_per_s / 2);
        let bytes_per_s = |kbit: u32| usize::try_from(kbit).unwrap_or(usize::MAX) * 125;
        let gop_frames = usize::try_from(shape.fps * shape.gop_secs).unwrap_or(usize::MAX);
        let gop_bytes =
            bytes_per_s(shape.kbit_per_s - sound_kbit) * gop_frames / usize::try_from(shape.fps).unwrap_or(usize::MAX);
        let inter_bytes = (gop_bytes / (gop_frames - 1 + KEYFRAME_FACTOR)).max(PICTURE_BYTES_MIN);
        let key_bytes = inter_bytes * KEYFRAME_FACTOR;
        let sound_bytes = bytes_per_s(sound_kbit) * SAMPLES_PER_FRAME
            / usize::try_from(audio.sample_rate).unwrap_or(usize::MAX).max(1);
        Self {
            samples: SAMPLES_PER_FRAME as u64,
            video: video.clone(),
            fps: shape.fps.into(),
            gop_frames: (shape.fps * shape.gop_secs).into(),
            sample_rate: audio.sample_rate,
            heads: [metadata(shape), TagBody::video_config(video), TagBody::audio_config(audio)],
            filler: vec![FILLER; key_bytes.max(sound_bytes)].into(),
            key_bytes,
            inter_bytes,
            sound_bytes: if sound_kbit == 0 { 0 } else { sound_bytes.max(SOUND_BYTES_MIN) },
        }
    }

    /// The same as WebRTC has them: H.264 and Opus.
    pub fn for_webrtc(shape: &Shape) -> Self {
        let media = Self::new(shape);
        let sound_bytes = media.sound_bytes * OPUS_SAMPLES * usize::try_from(media.sample_rate).unwrap_or(0)
            / (SAMPLES_PER_FRAME * OPUS_SAMPLE_RATE as usize);
        Self { sample_rate: OPUS_SAMPLE_RATE, samples: OPUS_SAMPLES as u64, sound_bytes, ..media }
    }

    /// The picture's configuration.
    pub fn video(&self) -> &VideoConfig {
        &self.video
    }

    /// There is sound beside the picture.
    pub fn has_sound(&self) -> bool {
        self.sound_bytes > 0
    }

    /// Metadata and configurations, to be sent first.
    pub fn heads(&self) -> &[TagBody] {
        let [head @ .., _sound] = &self.heads;
        if self.sound_bytes == 0 { head } else { &self.heads }
    }

    /// From picture to picture.
    pub fn frame_interval(&self) -> Duration {
        Duration::from_micros(1_000_000 / self.fps)
    }

    /// The frames in the order of their times, without end. The second keyframe comes `phase` (0 to 1) of a group
    /// early, so that many streams don't have theirs at once.
    pub fn frames(&self, phase: f64) -> impl Iterator<Item = Due> + '_ {
        let shift = (phase * self.gop_frames as f64) as u64 % self.gop_frames;
        let (mut pictures, mut sounds) = (0, 0);
        std::iter::from_fn(move || {
            let picture_us = pictures * 1_000_000 / self.fps;
            let sound_us = sounds * self.samples * 1_000_000 / u64::from(self.sample_rate.max(1));
            if self.sound_bytes > 0 && sound_us < picture_us {
                sounds += 1;
                return Some(Due { track: TrackKind::Audio, number: sounds - 1, at_us: sound_us, keyframe: true });
            }
            let number = pictures;
            pictures += 1;
            let keyframe = number == 0 || (number + shift).is_multiple_of(self.gop_frames);
            Some(Due { track: TrackKind::Video, number, at_us: picture_us, keyframe })
        })
    }

    /// A frame to be sent now over RTP.
    pub fn frame(&self, due: &Due, clock_us: i64) -> Bytes {
        let mark = Mark { number: due.number, clock_us };
        match due.track {
            TrackKind::Video => {
                let TagBody { header, payload, .. } = self.picture(mark, due.keyframe);
                [header.get(AVC_TAG_HEADER_BYTES..).unwrap_or_default(), &payload].concat().into()
            }
            TrackKind::Audio => self.opus(mark),
        }
    }

    /// A frame to be sent now over RTMP. What is in it besides its head is shared.
    pub fn tag(&self, due: &Due, clock_us: i64) -> TagBody {
        let mark = Mark { number: due.number, clock_us };
        match due.track {
            TrackKind::Video => self.picture(mark, due.keyframe),
            TrackKind::Audio => self.sound(mark),
        }
    }

    fn picture(&self, mark: Mark, keyframe: bool) -> TagBody {
        let bytes = if keyframe { self.key_bytes } else { self.inter_bytes };
        let (tag_header, slice_header) = if keyframe { (0x17, 0x65) } else { (0x27, 0x41) };
        let mut header = BytesMut::with_capacity(64);
        // AVC NAL units, no composition offset (FLV E.4.3).
        header.put_slice(&[tag_header, 1, 0, 0, 0]);
        let frame = header.len();
        header.put_uint((SEI_HEADER.len() + Mark::BYTES + 1) as u64, NAL_LENGTH_BYTES);
        header.put_slice(&SEI_HEADER);
        mark.encode(&mut header);
        header.put_u8(RBSP_TRAILING);
        let slice_bytes = bytes - (header.len() - frame) - NAL_LENGTH_BYTES;
        header.put_uint(slice_bytes as u64, NAL_LENGTH_BYTES);
        header.put_u8(slice_header);
        TagBody { kind: TagKind::Video, header: header.freeze(), payload: self.filler.slice(..slice_bytes - 1) }
    }

    fn sound(&self, mark: Mark) -> TagBody {
        let mut header = BytesMut::with_capacity(64);
        header.put_slice(&[AAC_TAG_HEADER, 1]);
        header.put_slice(&ELEMENT_HEADER);
        mark.encode(&mut header);
        header.put_u8(AAC_END);
        let filler = self.sound_bytes.saturating_sub(SOUND_BYTES_MIN);
        TagBody { kind: TagKind::Audio, header: header.freeze(), payload: self.filler.slice(..filler) }
    }

    /// One frame that is not there, and padding that begins with the mark (RFC 6716 §3.2.5).
    fn opus(&self, mark: Mark) -> Bytes {
        let padding = self.sound_bytes.max(Mark::BYTES + OPUS_HEADER.len() + 1) - OPUS_HEADER.len() - 1;
        let mut packet = BytesMut::with_capacity(self.sound_bytes + 16);
        packet.put_slice(&OPUS_HEADER);
        // A full byte stands for 254 of them, and goes on.
        packet.put_bytes(u8::MAX, padding / 254);
        packet.put_u8((padding % 254) as u8);
        mark.encode(&mut packet);
        packet.put_bytes(FILLER, padding - Mark::BYTES);
        packet.freeze()
    }
}

fn metadata(shape: &Shape) -> TagBody {
    let number = |key: &str, value: u32| (key.to_owned(), Scalar::Number(value.into()));
    let properties: Metadata = vec![
        ("encoder".to_owned(), Scalar::String("hawker load".into())),
        number("framerate", shape.fps),
        number("videocodecid", 7),
        number("videodatarate", shape.kbit_per_s),
    ];
    let mut body = BytesMut::new();
    amf0::encode(&Value::string("@setDataFrame"), &mut body);
    body.extend_from_slice(&script::on_metadata(&properties));
    TagBody::script(body.freeze())
}

/// Of our marks. No byte is zero.
const UUID: [u8; 16] = 0x7c63_91d5_2e48_4b7a_9f1d_35a8_c26e_f481_u128.to_be_bytes();
/// A keyframe is this many times as long as another picture.
const KEYFRAME_FACTOR: usize = 5;
/// Seven bits a byte.
const NUMBER_BYTES: usize = 9;
const NAL_LENGTH_BYTES: usize = 4;
/// A SEI NAL unit, and in it unregistered user data as long as a mark (ISO/IEC 14496-10 §7.3.2.3).
const SEI_HEADER: [u8; 3] = [6, 5, Mark::BYTES as u8];
const RBSP_TRAILING: u8 = 0x80;
/// A data stream element, byte aligned, as long as a mark (ISO/IEC 14496-3 §4.4.2.7).
const ELEMENT_HEADER: [u8; 2] = [0x81, Mark::BYTES as u8];
/// In front of a picture's NAL units (FLV E.4.3).
const AVC_TAG_HEADER_BYTES: usize = 5;
const AAC_TAG_HEADER: u8 = 0xaf;
/// The id of the element that ends a frame; decoders read no further.
const AAC_END: u8 = 0xe0;
const SAMPLES_PER_FRAME: usize = 1024;
/// CELT, 20 ms, both channels, any number of frames; here one, with padding (RFC 6716 §3.1, §3.2.5).
const OPUS_HEADER: [u8; 2] = [0xff, 0x41];
const OPUS_SAMPLE_RATE: u32 = 48_000;
const OPUS_SAMPLES: usize = 960;
const FILLER: u8 = 0xa5;
const PICTURE_BYTES_MIN: usize = HEAD_BYTES + 16;
const SOUND_BYTES_MIN: usize = ELEMENT_HEADER.len() + Mark::BYTES + 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        media::{Codec, VideoConfig, codec::sei::NalFormat},
        proto::flv::{MediaTag, tag},
    };

    const SHAPE: Shape = Shape { fps: 30, kbit_per_s: 1000, gop_secs: 2, audio_kbit_per_s: 64 };

    fn whole(body: &TagBody) -> Bytes {
        [body.header.as_ref(), body.payload.as_ref()].concat().into()
    }

    #[test]
    fn a_frame_is_what_it_says_and_its_mark_is_found() {
        let media = Synthetic::new(&SHAPE);
        for due in media.frames(0.0).take(300) {
            let body = media.tag(&due, 1_763_800_000_123_456);
            let parsed = tag::parse(body.kind, whole(&body)).expect("a media tag");
            let MediaTag::Frame { codec, keyframe, cts_us: 0, data } = parsed else { panic!("{parsed:?}") };
            let mark = match due.track {
                TrackKind::Video => Mark::of_picture(&data[..HEAD_BYTES]),
                TrackKind::Audio => Mark::of_sound(&data[..HEAD_BYTES]),
            };
            assert_eq!((codec.kind(), keyframe), (due.track, due.keyframe));
            assert_eq!(mark, Some(Mark { number: due.number, clock_us: 1_763_800_000_123_456 }));
            if codec == Codec::Avc {
                let config = VideoConfig { codec, description: vec![1, 0, 0, 0, 0xff].into(), width: 0, height: 0 };
                let found = NalFormat::of(&config).expect("AVC").user_data(&data);
                assert_eq!(found.len(), 1, "one SEI message, and the units fill the frame");
            }
        }
    }

    #[test]
    fn the_rate_is_the_one_asked_for() {
        for (kbit_per_s, audio_kbit_per_s) in [(1000, 64), (2500, 128), (200, 32), (600, 0)] {
            let media = Synthetic::new(&Shape { kbit_per_s, audio_kbit_per_s, ..SHAPE });
            let frames = media.frames(0.0).take_while(|due| due.at_us < 20_000_000);
            let bytes: usize = frames.map(|due| whole(&media.tag(&due, 0)).len()).sum();
            let kbit = bytes as f64 / 125.0 / 20.0;
            assert!((kbit / f64::from(kbit_per_s) - 1.0).abs() < 0.03, "{kbit} instead of {kbit_per_s}");
        }
    }

    #[test]
    fn keyframes_come_once_a_group_and_streams_have_theirs_at_different_times() {
        let media = Synthetic::new(&SHAPE);
        let keyframes = |phase: f64| {
            let pictures = media.frames(phase).filter(|due| due.track == TrackKind::Video && due.keyframe);
            pictures.map(|due| due.number).take(3).collect::<Vec<_>>()
        };
        assert_eq!(keyframes(0.0), [0, 60, 120]);
        assert_eq!(keyframes(0.25), [0, 45, 105]);
    }

    #[test]
    fn over_webrtc_sound_is_opus_silence_with_a_mark_at_the_rate_asked_for() {
        for audio_kbit_per_s in [16, 64, 160, 500] {
            let media = Synthetic::for_webrtc(&Shape { audio_kbit_per_s, ..SHAPE });
            let sounds: Vec<_> = media.frames(0.0).filter(|due| due.track == TrackKind::Audio).take(100).collect();
            assert_eq!((sounds[99].number, sounds[99].at_us), (99, 1_980_000));
            let packets: Vec<_> = sounds.iter().map(|due| media.frame(due, 7)).collect();
            let kbit: usize = packets.iter().map(|packet| packet.len()).sum::<usize>() / 250;
            assert!(kbit.abs_diff(audio_kbit_per_s as usize) <= 2, "{kbit} instead of {audio_kbit_per_s}");
            for (nth, packet) in packets.iter().enumerate() {
                assert_eq!(Mark::of_sound(packet), Some(Mark { number: nth as u64, clock_us: 7 }));
                // RFC 6716 §3.2.5: the padding's length, and after it nothing but the frame of zero bytes and the padding.
                let lengths = packet[2..].iter().take_while(|byte| **byte == 255).count();
                let padding = 254 * lengths + usize::from(packet[2 + lengths]);
                assert_eq!(packet.len(), 2 + lengths + 1 + padding);
            }
        }
    }

    #[test]
    fn nothing_else_has_a_mark() {
        assert_eq!(Mark::of_picture(b"\0\0\0\x26\x06\x05\x22"), None);
        assert_eq!(Mark::of_sound(&[0x21; 64]), None);
    }
}
