//! RTP packets (RFC 3550 §5.1) and their header extensions (RFC 8285).

use bytes::{Buf, BufMut};

use super::Malformed;

/// What every RTP packet begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// For video the last packet of a picture; for audio the first after silence.
    pub marker: bool,
    /// What the payload is, as the session description says: 7 bits.
    pub payload_type: u8,
    /// Counts packets of this source, wrapping.
    pub sequence: u16,
    /// The media's time in ticks of its clock rate, wrapping.
    pub timestamp: u32,
    /// The source.
    pub ssrc: u32,
}

impl Header {
    /// Appends the header and, if there are any, its extensions in their one-byte form (RFC 8285 §4.2).
    ///
    /// An element which that form cannot carry (id not in 1..=14, length not in 1..=16) is left out.
    pub fn write(&self, extensions: &[(u8, &[u8])], out: &mut Vec<u8>) {
        let fits = |id: u8, value: &[u8]| (1..=14).contains(&id) && (1..=16).contains(&value.len());
        let fitting = || extensions.iter().filter(|(id, value)| fits(*id, value));
        let has_extensions = fitting().next().is_some();
        out.put_u8(VERSION | if has_extensions { EXTENSION } else { 0 });
        out.put_u8(self.payload_type & 0x7F | if self.marker { MARKER } else { 0 });
        out.put_u16(self.sequence);
        out.put_u32(self.timestamp);
        out.put_u32(self.ssrc);
        if !has_extensions {
            return;
        }
        let bytes: usize = fitting().map(|(_, value)| 1 + value.len()).sum();
        let words = bytes.div_ceil(4);
        out.put_u16(ONE_BYTE_PROFILE);
        out.put_u16(u16::try_from(words).unwrap_or(u16::MAX));
        for (id, value) in fitting() {
            out.put_u8(id << 4 | u8::try_from(value.len() - 1).unwrap_or(0));
            out.put_slice(value);
        }
        out.put_bytes(0, 4 * words - bytes);
    }
}

/// A packet as it was received, its CSRCs and padding taken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The fixed header.
    pub header: Header,
    /// The header extensions, not yet looked at.
    pub extensions: Extensions<'a>,
    /// The payload; empty in a packet that is padding only.
    pub payload: &'a [u8],
}

impl Packet<'_> {
    /// Reads one decrypted packet.
    pub fn parse(bytes: &[u8]) -> Result<Packet<'_>, Malformed> {
        let mut rest = bytes;
        let first = rest.try_get_u8()?;
        if first & VERSION_MASK != VERSION {
            return Err(Malformed("version of RTP"));
        }
        let second = rest.try_get_u8()?;
        let header = Header {
            marker: second & MARKER != 0,
            payload_type: second & 0x7F,
            sequence: rest.try_get_u16()?,
            timestamp: rest.try_get_u32()?,
            ssrc: rest.try_get_u32()?,
        };
        let csrc_bytes = 4 * usize::from(first & CSRC_COUNT);
        rest.split_off(..csrc_bytes).ok_or(Malformed("list of CSRCs"))?;
        let extensions = match first & EXTENSION {
            0 => Extensions::default(),
            _ => Extensions::take_from(&mut rest)?,
        };
        let payload = match first & PADDING {
            0 => rest,
            _ => without_padding(rest)?,
        };
        Ok(Packet { header, extensions, payload })
    }
}

/// The header extensions of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extensions<'a> {
    profile: u16,
    elements: &'a [u8],
}

impl<'a> Extensions<'a> {
    fn take_from(rest: &mut &'a [u8]) -> Result<Self, Malformed> {
        let profile = rest.try_get_u16()?;
        let bytes = 4 * usize::from(rest.try_get_u16()?);
        let elements = rest.split_off(..bytes).ok_or(Malformed("header extension"))?;
        Ok(Self { profile, elements })
    }

    /// The value of the element with this id, in either form. A block of another profile has none.
    pub fn get(&self, id: u8) -> Option<&'a [u8]> {
        let mut rest = self.elements;
        loop {
            let (found, value) = match self.profile {
                ONE_BYTE_PROFILE => one_byte_element(&mut rest)?,
                profile if profile & 0xFFF0 == TWO_BYTE_PROFILE => two_byte_element(&mut rest)?,
                _ => return None,
            };
            if found == id && id != 0 {
                return Some(value);
            }
        }
    }
}

/// RFC 8285 §4.2. Id 0 is a byte of padding; 15 ends the list.
fn one_byte_element<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let first = *rest.split_off_first()?;
    match first >> 4 {
        0 => Some((0, &[])),
        15 => None,
        id => Some((id, rest.split_off(..usize::from(first & 0x0F) + 1)?)),
    }
}

/// RFC 8285 §4.3. Id 0 is a byte of padding.
fn two_byte_element<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    match *rest.split_off_first()? {
        0 => Some((0, &[])),
        id => {
            let bytes = *rest.split_off_first()?;
            Some((id, rest.split_off(..usize::from(bytes))?))
        }
    }
}

/// How many bytes of a packet are header: with CSRCs and extension, so what SRTP leaves in the clear.
/// `None` if it is no RTP packet.
pub fn header_bytes(packet: &[u8]) -> Option<usize> {
    let first = *packet.first()?;
    let mut bytes = FIXED_BYTES + 4 * usize::from(first & CSRC_COUNT);
    if first & EXTENSION != 0 {
        let mut words = packet.get(bytes + 2..bytes + 4)?;
        bytes += 4 + 4 * usize::from(words.try_get_u16().ok()?);
    }
    (first & VERSION_MASK == VERSION && bytes <= packet.len()).then_some(bytes)
}

/// True if a datagram of version 2 is RTCP and not RTP (RFC 5761 §4).
pub fn is_rtcp(datagram: &[u8]) -> bool {
    matches!(datagram, [first, 192..=223, ..] if first & VERSION_MASK == VERSION)
}

/// Takes off the padding that the last byte counts, itself included (RFC 3550 §5.1).
pub(super) fn without_padding(bytes: &[u8]) -> Result<&[u8], Malformed> {
    let padding = usize::from(*bytes.last().unwrap_or(&0));
    let kept = bytes.len().checked_sub(padding).filter(|_| padding > 0);
    kept.and_then(|kept| bytes.get(..kept)).ok_or(Malformed("padding"))
}

const FIXED_BYTES: usize = 12;
/// Two bits, in RTP and RTCP.
pub(super) const VERSION_MASK: u8 = 0xC0;
pub(super) const VERSION: u8 = 0x80;
pub(super) const PADDING: u8 = 0x20;
const EXTENSION: u8 = 0x10;
const CSRC_COUNT: u8 = 0x0F;
const MARKER: u8 = 0x80;
const ONE_BYTE_PROFILE: u16 = 0xBEDE;
/// The lowest four bits are for the application.
const TWO_BYTE_PROFILE: u16 = 0x1000;

#[cfg(test)]
mod tests;
