//! The hang "legacy" container: a varint timestamp in microseconds, then the codec's frame.

use bytes::{Buf, Bytes};

use super::{
    lite05::frame_header,
    varint::{Reader, WireError, put_varint, varint_len},
};

/// The head of a moq-lite frame that carries `payload_len` bytes in this container. It doesn't depend on
/// the subscriber, so it is made once a frame and sent beside the shared payload. `delta_us` is the
/// distance to the timestamp of the frame before it in the group, and to 0 for the first.
pub fn legacy_frame_head(delta_us: i64, pts_us: i64, payload_len: usize) -> Bytes {
    let timestamp = legacy_timestamp(pts_us);
    let mut head = Vec::with_capacity(24);
    frame_header(&mut head, delta_us, varint_len(timestamp).saturating_add(payload_len));
    put_varint(&mut head, timestamp);
    head.into()
}

/// Splits a frame into its timestamp and the codec's frame, which shares the bytes given.
pub fn read_legacy(mut frame: Bytes) -> Result<(i64, Bytes), WireError> {
    let mut reader = Reader::new(&frame);
    let pts_us = reader.varint().map_err(|_| WireError::Malformed("container timestamp"))?;
    let head = frame.len() - reader.rest().len();
    frame.advance(head);
    Ok((pts_us.cast_signed(), frame))
}

/// The container has no room for times before the stream's start; B-frames at the very start have them.
fn legacy_timestamp(pts_us: i64) -> u64 {
    pts_us.max(0).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::moq::lite05::{DataEvent, DataStream, GroupHeader};

    #[test]
    fn the_bytes_of_moq_hang_0_3_5() {
        // `Legacy.encodeFrame([1, 2, 3], 1000000)` of npm @moq/hang 0.3.5 gave 800f4240010203.
        let head = legacy_frame_head(0, 1_000_000, 3);
        assert_eq!(head[..], [0x00, 0x07, 0x80, 0x0f, 0x42, 0x40]);
    }

    proptest! {
        #[test]
        fn frames_round_trip_through_a_group(pts in proptest::collection::vec(0i64..1 << 50, 1..20)) {
            let mut stream = DataStream::default();
            stream.handle_chunk(&GroupHeader { subscribe: 1, sequence: 2 }.to_stream());
            let mut last = 0;
            for (index, pts_us) in pts.iter().enumerate() {
                let payload = vec![7; index];
                stream.handle_chunk(&legacy_frame_head(pts_us - last, *pts_us, payload.len()));
                stream.handle_chunk(&payload);
                last = *pts_us;
            }
            prop_assert!(matches!(stream.poll_event(), Ok(Some(DataEvent::Group(_)))));
            for (index, pts_us) in pts.iter().enumerate() {
                let Ok(Some(DataEvent::Frame { timestamp, payload })) = stream.poll_event() else {
                    return Err(TestCaseError::fail("a frame is missing"));
                };
                prop_assert_eq!(timestamp, *pts_us);
                let (container_us, frame) = read_legacy(payload).expect("a container");
                prop_assert_eq!((container_us, frame.len()), (*pts_us, index));
            }
            prop_assert_eq!(stream.poll_event(), Ok(None));
        }
    }
}
