//! What FLV tags and RTMP messages have in common, for a reader that looks at their first bytes and skips the rest.

use super::{
    events,
    media::{HEAD_BYTES, Mark},
    observer::Observer,
};
use crate::media::TrackKind;

/// A tag that is coming in: as much of its body as is looked at.
#[derive(Debug, Default)]
pub(super) struct Tag {
    kind: u8,
    left: usize,
    /// At most as many bytes as [`Tag::kept_bytes_max`] says.
    head: Vec<u8>,
}

impl Tag {
    /// Begins a tag of this type and length.
    pub(super) fn begin(&mut self, kind: u8, length: usize) {
        self.kind = kind;
        self.left = length;
        self.head.clear();
    }

    /// Bytes that are still to come.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// Its type.
    pub(super) fn kind(&self) -> u8 {
        self.kind
    }

    /// The first bytes of its body.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Takes as many of its bytes as there are, but no more than `max`; gives how many.
    pub(super) fn take(&mut self, input: &mut &[u8], max: usize) -> usize {
        let (body, rest) = input.split_at(input.len().min(self.left).min(max));
        let room = self.kept_bytes_max().saturating_sub(self.head.len());
        self.head.extend_from_slice(body.get(..room).unwrap_or(body));
        self.left -= body.len();
        *input = rest;
        body.len()
    }

    /// Tells what it was, once it is whole.
    pub(super) fn tell(&self, observer: &mut Observer) {
        let (head, is_enhanced) = (self.head(), self.head.first().is_some_and(|first| first & 0x80 != 0));
        match (self.kind, head) {
            (VIDEO, [first, packet_type, ..]) => {
                let keyframe = first >> 4 & 7 == 1;
                let coded = if is_enhanced { matches!(first & 0x0f, 1 | 3) } else { *packet_type == 1 };
                if coded {
                    let frame = head.get(VIDEO_HEADER_BYTES..).unwrap_or_default();
                    observer.frame(TrackKind::Video, keyframe, Mark::of_picture(frame));
                }
            }
            // AAC; of Enhanced RTMP, coded frames.
            (AUDIO, [0xa0..=0xaf, 1, frame @ ..]) => observer.frame(TrackKind::Audio, true, Mark::of_sound(frame)),
            (AUDIO, [0x91, ..]) => observer.frame(TrackKind::Audio, true, None),
            (SCRIPT, _) => {
                if let Some(number) = events::number(head) {
                    observer.event(number);
                }
            }
            _ => {}
        }
    }

    fn kept_bytes_max(&self) -> usize {
        match self.kind {
            VIDEO | AUDIO => VIDEO_HEADER_BYTES + HEAD_BYTES,
            SCRIPT => SCRIPT_BYTES_MAX,
            // Control messages.
            _ => 16,
        }
    }
}

const AUDIO: u8 = 8;
const VIDEO: u8 = 9;
const SCRIPT: u8 = 18;
/// Of H.264 (FLV E.4.3).
const VIDEO_HEADER_BYTES: usize = 5;
/// Our events are shorter.
const SCRIPT_BYTES_MAX: usize = 2048;
