//! Packets on a TCP path: each behind its length in two bytes (RFC 4571, as RFC 6544 uses it).

use crate::limits::ICE_FRAME_BYTES_MAX;

/// A frame longer than [`ICE_FRAME_BYTES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("frame too long")]
pub struct TooLong;

/// Appends `packet` as a frame.
pub fn frame(packet: &[u8], out: &mut Vec<u8>) -> Result<(), TooLong> {
    let length = u16::try_from(packet.len()).ok().filter(|_| packet.len() <= ICE_FRAME_BYTES_MAX).ok_or(TooLong)?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(packet);
    Ok(())
}

/// Cuts a byte stream into its frames.
#[derive(Debug, Default)]
pub struct Frames {
    /// The frame that isn't whole yet, with its length.
    partial: Vec<u8>,
}

impl Frames {
    /// Reads the next bytes and hands out what is whole, empty frames aside. After an error the connection is of no
    /// more use.
    pub fn read(&mut self, mut bytes: &[u8], mut out: impl FnMut(&[u8])) -> Result<(), TooLong> {
        while !self.partial.is_empty() && !bytes.is_empty() {
            let missing = match self.partial.split_first_chunk::<2>() {
                Some((length, begun)) => frame_bytes(*length)?.saturating_sub(begun.len()),
                None => 2 - self.partial.len(),
            };
            let (now, later) = bytes.split_at(missing.min(bytes.len()));
            self.partial.extend_from_slice(now);
            bytes = later;
            if let Some((length, packet)) = self.partial.split_first_chunk::<2>()
                && packet.len() == frame_bytes(*length)?
            {
                hand_out(packet, &mut out);
                self.partial.clear();
            }
        }
        while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
            let Some((packet, after)) = rest.split_at_checked(frame_bytes(*length)?) else { break };
            hand_out(packet, &mut out);
            bytes = after;
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }
}

fn frame_bytes(length: [u8; 2]) -> Result<usize, TooLong> {
    let bytes = usize::from(u16::from_be_bytes(length));
    if bytes > ICE_FRAME_BYTES_MAX { Err(TooLong) } else { Ok(bytes) }
}

fn hand_out(packet: &[u8], out: &mut impl FnMut(&[u8])) {
    if !packet.is_empty() {
        out(packet);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_in(pieces: impl IntoIterator<Item = Vec<u8>>) -> Result<Vec<Vec<u8>>, TooLong> {
        let (mut frames, mut read) = (Frames::default(), Vec::new());
        for piece in pieces {
            frames.read(&piece, |packet| read.push(packet.to_vec()))?;
        }
        Ok(read)
    }

    #[test]
    fn a_length_beyond_the_bound_is_refused_before_anything_is_kept() {
        let mut out = Vec::new();
        assert_eq!(frame(&[0; ICE_FRAME_BYTES_MAX + 1], &mut out), Err(TooLong));
        assert!(out.is_empty());
        frame(&[7; ICE_FRAME_BYTES_MAX], &mut out).unwrap();
        assert_eq!(read_in([out]), Ok(vec![vec![7; ICE_FRAME_BYTES_MAX]]));
        assert_eq!(read_in([vec![0xff, 0xff]]), Err(TooLong));
        assert_eq!(read_in([vec![0xff], vec![0xff], vec![0]]), Err(TooLong));
    }

    proptest! {
        #[test]
        fn frames_come_out_whole_however_they_are_cut(
            packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..20),
            cuts in proptest::collection::vec(1usize..40, 1..100),
        ) {
            let mut stream = Vec::new();
            packets.iter().for_each(|packet| frame(packet, &mut stream).unwrap());
            let mut pieces = Vec::new();
            for cut in cuts.iter().cycle() {
                let rest = stream.split_off((*cut).min(stream.len()));
                pieces.push(std::mem::replace(&mut stream, rest));
                if stream.is_empty() {
                    break;
                }
            }
            let expected: Vec<_> = packets.into_iter().filter(|packet| !packet.is_empty()).collect();
            prop_assert_eq!(read_in(pieces), Ok(expected));
        }
    }
}
