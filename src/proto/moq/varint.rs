//! QUIC variable-length integers (RFC 9000 §16) and the bounded reader every MoQ codec is built on.

use bytes::BufMut;

/// Largest value a QUIC varint carries, 2^62 - 1.
pub const VARINT_MAX: u64 = (1 << 62) - 1;

/// Why bytes are not what they should be. Always the sender's fault, save for [`WireError::Incomplete`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The rest has not arrived yet.
    #[error("more bytes are needed")]
    Incomplete,
    /// The bytes cannot be what they claim to be.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// A stream of a type that only newer versions know; others go on.
    #[error("stream of an unknown type")]
    UnknownStream,
    /// A declared length is over our bound; nothing of it was kept.
    #[error("{what} of {size} bytes is over the bound of {max}")]
    TooLarge {
        /// What was too large.
        what: &'static str,
        /// What the sender declared.
        size: u64,
        /// Our bound.
        max: usize,
    },
}

/// Reads fields from the front of a slice; running out is [`WireError::Incomplete`].
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next byte.
    pub fn u8(&mut self) -> Result<u8, WireError> {
        let (first, rest) = self.rest.split_first().ok_or(WireError::Incomplete)?;
        self.rest = rest;
        Ok(*first)
    }

    /// The next `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(WireError::Incomplete)?;
        self.rest = rest;
        Ok(head)
    }

    /// The next varint. Any of the four lengths is accepted for any value, as RFC 9000 §16 asks.
    pub fn varint(&mut self) -> Result<u64, WireError> {
        let first = *self.rest.first().ok_or(WireError::Incomplete)?;
        let len = 1usize << (first >> 6);
        let (head, tail) = self.rest.split_at_checked(len).ok_or(WireError::Incomplete)?;
        self.rest = tail;
        let value = head.iter().fold(0u64, |value, byte| (value << 8) | u64::from(*byte));
        // The length bits are the two highest of the first byte, wherever that byte ended up.
        let bits = 8 * u32::try_from(len).unwrap_or(8) - 2;
        Ok(value & (u64::MAX >> (64 - bits)))
    }

    /// A varint length of at most `max`.
    pub fn length(&mut self, what: &'static str, max: usize) -> Result<usize, WireError> {
        let size = self.varint()?;
        match usize::try_from(size) {
            Ok(len) if len <= max => Ok(len),
            _ => Err(WireError::TooLarge { what, size, max }),
        }
    }

    /// A length-prefixed UTF-8 string of at most `max` bytes.
    pub fn string(&mut self, what: &'static str, max: usize) -> Result<String, WireError> {
        let len = self.length(what, max)?;
        let text = std::str::from_utf8(self.bytes(len)?).map_err(|_| WireError::Malformed(what))?;
        Ok(text.to_owned())
    }
}

/// Appends a varint in its shortest form. Values over [`VARINT_MAX`] are written as the maximum: they
/// are counters and microseconds, which do not get there.
pub fn put_varint(out: &mut impl BufMut, value: u64) {
    let value = value.min(VARINT_MAX);
    match (u8::try_from(value), u16::try_from(value), u32::try_from(value)) {
        (Ok(v), ..) if v < 1 << 6 => out.put_u8(v),
        (_, Ok(v), _) if v < 1 << 14 => out.put_u16(v | 0x4000),
        (_, _, Ok(v)) if v < 1 << 30 => out.put_u32(v | 0x8000_0000),
        _ => out.put_u64(value | 0xC000_0000_0000_0000),
    }
}

/// How many bytes [`put_varint`] writes.
pub fn varint_len(value: u64) -> usize {
    match value {
        0..0x40 => 1,
        0x40..0x4000 => 2,
        0x4000..0x4000_0000 => 4,
        _ => 8,
    }
}

/// Appends a length and then `bytes`.
pub fn put_prefixed(out: &mut impl BufMut, bytes: &[u8]) {
    put_varint(out, u64::try_from(bytes.len()).unwrap_or(VARINT_MAX));
    out.put_slice(bytes);
}

/// Maps a signed number to an unsigned one, small magnitudes to small values.
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// The inverse of [`zigzag`].
pub fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_rfc_9000() {
        // RFC 9000, appendix A.1, the last one in a longer form than needed.
        let examples: [(&[u8], u64); 5] = [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
            (&[0x40, 0x25], 37),
        ];
        for (bytes, value) in examples {
            let mut reader = Reader::new(bytes);
            assert_eq!(reader.varint(), Ok(value));
            assert_eq!(reader.rest(), b"");
        }
    }

    #[test]
    fn a_length_over_the_bound_is_refused_before_its_bytes_arrive() {
        let mut wire = Vec::new();
        put_varint(&mut wire, 1 << 40);
        let error = Reader::new(&wire).string("name", 100);
        assert_eq!(error, Err(WireError::TooLarge { what: "name", size: 1 << 40, max: 100 }));
    }

    proptest! {
        #[test]
        fn varints_round_trip_in_the_shortest_form(shift in 2u32..64, seed in any::<u64>()) {
            let value = seed >> shift;
            let mut wire = Vec::new();
            put_varint(&mut wire, value);
            prop_assert_eq!(wire.len(), varint_len(value));
            prop_assert_eq!(Reader::new(&wire).varint(), Ok(value));
            for cut in 0..wire.len() {
                prop_assert_eq!(Reader::new(&wire[..cut]).varint(), Err(WireError::Incomplete));
            }
        }

        #[test]
        fn zigzag_round_trips(value in any::<i64>()) {
            prop_assert_eq!(unzigzag(zigzag(value)), value);
            prop_assert!(value.unsigned_abs() > 1000 || zigzag(value) <= 2000);
        }
    }
}
