//! User data in the pictures: SEI messages of type 5 (ISO/IEC 14496-10 §D.1.7, 23008-2 §D.2.7), read and inserted.
//!
//! Frames are looked at by the headers of their NAL units; the coded picture is neither read nor copied.

use std::ops::Range;

use bytes::{BufMut, Bytes};

use super::bits::without_emulation;
use crate::{
    limits,
    media::{Codec, VideoConfig},
};

/// Says whose a user data message is.
pub type Uuid = [u8; 16];

/// Our own messages: the payload is an event's JSON. No byte is below 0x10, because a player prints them unpadded.
pub const LIVE_EVENT: Uuid = 0x5b111b3f_101f_4892_ad18_8d987c1ab2cb_u128.to_be_bytes();

/// A user data message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserData {
    /// Whose it is.
    pub uuid: Uuid,
    /// What it says.
    pub payload: Vec<u8>,
}

/// How the frames of an H.264 or H.265 track are cut into NAL units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NalFormat {
    is_hevc: bool,
    /// Of the length before each unit.
    length_bytes: usize,
}

impl NalFormat {
    /// By the track's configuration record. `None` for other codecs, and for a record that is cut short.
    pub fn of(video: &VideoConfig) -> Option<Self> {
        // lengthSizeMinusOne of ISO/IEC 14496-15 §5.3.3.1.2 and §8.3.3.1.2.
        let (is_hevc, position) = match video.codec {
            Codec::Avc => (false, 4),
            Codec::Hevc => (true, 21),
            _ => return None,
        };
        let length_bytes = usize::from(video.description.get(position)? & 3) + 1;
        Some(Self { is_hevc, length_bytes })
    }

    /// The NAL units of a frame, without the lengths before them.
    pub fn nal_units(self, frame: &[u8]) -> impl Iterator<Item = &[u8]> {
        self.units(frame).map(|unit| unit.bytes)
    }

    /// The user data messages of a frame, in their order. Also those behind the picture: OBS puts its metrics there.
    pub fn user_data(self, frame: &[u8]) -> Vec<UserData> {
        let mut found = Vec::new();
        for unit in self.units(frame) {
            if self.kind(unit.header) == Kind::Sei && unit.bytes.len() <= limits::SEI_NAL_BYTES_MAX {
                let message = unit.bytes.get(self.header_bytes()..).unwrap_or_default();
                read_messages(&without_emulation(message), &mut found);
            }
        }
        found
    }

    /// A frame with one more user data message directly before its picture: what was before, the message's NAL
    /// unit, and the rest. `None` if the frame holds no picture, or the message is too long for its length field.
    pub fn insert_user_data(self, frame: &Bytes, uuid: Uuid, payload: &[u8]) -> Option<[Bytes; 3]> {
        let picture = self.units(frame).find(|unit| self.kind(unit.header) == Kind::Picture)?;
        let mut unit = Vec::with_capacity(uuid.len() + payload.len() + 32);
        unit.put_bytes(0, self.length_bytes);
        if self.is_hevc {
            // Layer and temporal id are the picture's (23008-2 §7.4.2.2).
            unit.put_u8(HEVC_PREFIX_SEI << 1 | picture.header & 1);
            unit.put_u8(*picture.bytes.get(1)?);
        } else {
            unit.put_u8(AVC_SEI);
        }
        let mut message = vec![USER_DATA_UNREGISTERED];
        let size = uuid.len() + payload.len();
        message.put_bytes(0xff, size / 0xff);
        message.push(u8::try_from(size % 0xff).ok()?);
        message.extend_from_slice(&uuid);
        message.extend_from_slice(payload);
        message.push(RBSP_TRAILING);
        put_with_emulation(&message, &mut unit);
        let length = u64::try_from(unit.len() - self.length_bytes).ok()?.to_be_bytes();
        let (unused, length) = length.split_at(length.len() - self.length_bytes);
        if unused.iter().any(|byte| *byte != 0) {
            return None;
        }
        unit.get_mut(..self.length_bytes)?.copy_from_slice(length);
        Some([frame.slice(..picture.place.start), unit.into(), frame.slice(picture.place.start..)])
    }

    fn units(self, frame: &[u8]) -> impl Iterator<Item = Unit<'_>> {
        let mut position = 0;
        let next = move || {
            let start = position + self.length_bytes;
            let length = frame.get(position..start)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            let place = position..start.checked_add(length)?;
            let bytes = frame.get(start..place.end)?;
            position = place.end;
            Some(Unit { place, header: *bytes.first()?, bytes })
        };
        std::iter::from_fn(next).take(limits::SEI_NAL_UNITS_MAX)
    }

    fn header_bytes(self) -> usize {
        if self.is_hevc { 2 } else { 1 }
    }

    fn kind(self, header: u8) -> Kind {
        let kind = if self.is_hevc { header >> 1 & 0x3f } else { header & 0x1f };
        match kind {
            HEVC_PREFIX_SEI | HEVC_SUFFIX_SEI if self.is_hevc => Kind::Sei,
            0..=31 if self.is_hevc => Kind::Picture,
            AVC_SEI if !self.is_hevc => Kind::Sei,
            // A prefix NAL unit (14) belongs to the slice behind it.
            1..=5 | 14 if !self.is_hevc => Kind::Picture,
            _ => Kind::Other,
        }
    }
}

struct Unit<'a> {
    /// In the frame, its length field included.
    place: Range<usize>,
    /// The first byte.
    header: u8,
    bytes: &'a [u8],
}

#[derive(PartialEq)]
enum Kind {
    Sei,
    Picture,
    Other,
}

/// The messages of an SEI RBSP (ISO/IEC 14496-10 §7.3.2.3).
fn read_messages(mut rbsp: &[u8], found: &mut Vec<UserData>) {
    // Less than three bytes are the trailing bits.
    while rbsp.len() > 2 {
        let Some((kind, rest)) = read_number(rbsp) else { return };
        let Some((size, rest)) = read_number(rest) else { return };
        let Some((message, rest)) = rest.split_at_checked(size) else { return };
        if kind == usize::from(USER_DATA_UNREGISTERED)
            && let Some((uuid, payload)) = message.split_first_chunk()
        {
            if found.len() >= limits::SEI_MESSAGES_MAX {
                return;
            }
            found.push(UserData { uuid: *uuid, payload: payload.to_vec() });
        }
        rbsp = rest;
    }
}

/// A number in 255s and a rest.
fn read_number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let full = bytes.iter().take_while(|byte| **byte == 0xff).count();
    let (last, rest) = bytes.get(full..)?.split_first()?;
    Some((full * 0xff + usize::from(*last), rest))
}

/// Adds the emulation prevention bytes of a NAL unit (ISO/IEC 14496-10 §7.4.1).
fn put_with_emulation(rbsp: &[u8], out: &mut Vec<u8>) {
    let mut zeros = 0;
    for &byte in rbsp {
        if zeros >= 2 && byte <= 3 {
            out.push(3);
            zeros = 0;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
}

const AVC_SEI: u8 = 6;
const HEVC_PREFIX_SEI: u8 = 39;
const HEVC_SUFFIX_SEI: u8 = 40;
const USER_DATA_UNREGISTERED: u8 = 5;
const RBSP_TRAILING: u8 = 0x80;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AVC: NalFormat = NalFormat { is_hevc: false, length_bytes: 4 };
    const HEVC: NalFormat = NalFormat { is_hevc: true, length_bytes: 4 };

    /// A frame of these units.
    fn frame(format: NalFormat, units: &[&[u8]]) -> Bytes {
        let mut frame = Vec::new();
        for unit in units {
            frame.put_uint(unit.len() as u64, format.length_bytes);
            frame.extend_from_slice(unit);
        }
        frame.into()
    }

    fn config(codec: Codec, description: &'static [u8]) -> VideoConfig {
        VideoConfig { codec, description: Bytes::from_static(description), width: 0, height: 0 }
    }

    #[test]
    fn the_configuration_record_says_how_long_a_length_is() {
        let avc = config(Codec::Avc, &[1, 0x64, 0, 0x1f, 0xfd]);
        assert_eq!(NalFormat::of(&avc), Some(NalFormat { is_hevc: false, length_bytes: 2 }));
        assert_eq!(NalFormat::of(&config(Codec::Avc, &[1, 0x64, 0, 0x1f])), None);
        assert_eq!(NalFormat::of(&config(Codec::Hevc, &[0xff; 22])), Some(HEVC));
        assert_eq!(NalFormat::of(&config(Codec::Av1, &[0xff; 22])), None);
    }

    #[test]
    fn a_message_goes_behind_delimiter_and_parameter_sets_and_before_the_first_slice() {
        let units: [&[u8]; 5] = [&[9, 0xf0], &[0x67, 1], &[0x68, 1], &[0x65, 1, 2], &[0x65, 3, 4]];
        let whole = frame(AVC, &units);
        let [before, message, after] = AVC.insert_user_data(&whole, LIVE_EVENT, b"{}").expect("a picture");
        assert_eq!((before, after), (frame(AVC, &units[..3]), frame(AVC, &units[3..])));
        assert_eq!(message[..7], [0, 0, 0, 22, 6, 5, 18]);
        assert_eq!(message[23..], *b"{}\x80");

        // Layer 33, temporal id 2.
        let units: [&[u8]; 3] = [&[35 << 1, 1, 0x50], &[32 << 1, 1], &[19 << 1 | 1, 0x0a, 7]];
        let [before, message, after] = HEVC.insert_user_data(&frame(HEVC, &units), LIVE_EVENT, b"").expect("a picture");
        assert_eq!((before, after), (frame(HEVC, &units[..2]), frame(HEVC, &units[2..])));
        assert_eq!(message[4..8], [39 << 1 | 1, 0x0a, 5, 16]);
    }

    #[test]
    fn what_can_not_be_inserted_is_not() {
        assert_eq!(AVC.insert_user_data(&frame(AVC, &[&[0x67, 1]]), LIVE_EVENT, b"x"), None, "no picture");
        let short = NalFormat { is_hevc: false, length_bytes: 1 };
        let whole = frame(short, &[&[0x65, 1]]);
        assert!(short.insert_user_data(&whole, LIVE_EVENT, &[b'x'; 235]).is_some());
        assert_eq!(short.insert_user_data(&whole, LIVE_EVENT, &[b'x'; 236]), None, "256 bytes and more");
    }

    #[test]
    fn messages_are_found_behind_the_picture_and_among_others() {
        let mut sei = vec![6, 1, 2, 0xaa, 0xbb, 5, 17];
        sei.extend_from_slice(&LIVE_EVENT);
        sei.extend_from_slice(&[b'a', 5, 15]);
        sei.extend_from_slice(&[0x55; 15]);
        sei.push(RBSP_TRAILING);
        let found = AVC.user_data(&frame(AVC, &[&[0x65, 1], &sei]));
        assert_eq!(found, [UserData { uuid: LIVE_EVENT, payload: b"a".to_vec() }], "none without a UUID");
        let suffix = [&[40 << 1, 1], &sei[1..]].concat();
        assert_eq!(HEVC.user_data(&frame(HEVC, &[&[2, 1, 1], &suffix])), found);
    }

    #[test]
    fn what_a_frame_can_make_us_read_is_bounded() {
        let message = |size: usize| {
            let picture = frame(AVC, &[&[0x65]]);
            let [_, message, _] = AVC.insert_user_data(&picture, LIVE_EVENT, &vec![b'x'; size]).expect("a picture");
            message
        };
        assert_eq!(AVC.user_data(&message(0).repeat(20)).len(), limits::SEI_MESSAGES_MAX);
        assert!(AVC.user_data(&message(limits::SEI_NAL_BYTES_MAX)).is_empty());
        let far = [frame(AVC, &[&[0x65]]).repeat(limits::SEI_NAL_UNITS_MAX), message(1).to_vec()].concat();
        assert!(AVC.user_data(&far).is_empty());
    }

    proptest! {
        #[test]
        fn what_is_inserted_is_found_and_hides_no_start_code(
            is_hevc in any::<bool>(),
            length_bytes in 2usize..=4,
            payload in proptest::collection::vec(prop_oneof![Just(0u8), 0u8..4, any::<u8>()], 0..2000),
        ) {
            let format = NalFormat { is_hevc, length_bytes };
            let picture: &[u8] = if is_hevc { &[2, 1, 9] } else { &[0x41, 9] };
            let frame = frame(format, &[picture, picture]);
            let parts = format.insert_user_data(&frame, LIVE_EVENT, &payload).expect("a picture");
            prop_assert!(parts[1][length_bytes..].windows(3).all(|three| !matches!(three, [0, 0, 0..=2])));
            prop_assert_eq!(format.user_data(&parts.concat()), [UserData { uuid: LIVE_EVENT, payload }]);
        }

        #[test]
        fn no_bytes_panic(
            is_hevc in any::<bool>(),
            length_bytes in 1usize..=4,
            bytes in proptest::collection::vec(prop_oneof![0u8..8, Just(0x4e), any::<u8>()], 0..200),
        ) {
            let format = NalFormat { is_hevc, length_bytes };
            format.user_data(&bytes);
            format.insert_user_data(&bytes.into(), LIVE_EVENT, b"x");
        }
    }
}
