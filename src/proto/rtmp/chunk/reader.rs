//! Chunks into messages: one assembly buffer per chunk stream, all under one byte budget.

use std::{mem, time::Duration};

use bytes::{Buf, Bytes};

use super::{EXTENDED, Message};
use crate::limits;

/// Reads one peer's chunks. The peer's Set Chunk Size and Abort are obeyed here and not passed on.
#[derive(Debug)]
pub struct ChunkReader {
    limits: ChunkLimits,
    chunk_bytes: usize,
    streams: Vec<ChunkStream>,
    /// Sum of what the assembly buffers have reserved.
    assembly_bytes: usize,
    /// A chunk header of which only a part has come.
    partial: Vec<u8>,
    /// The chunk that is being read: index into `streams`, and payload bytes still to come.
    current: Option<(usize, usize)>,
    /// What the peer has sent and not yet used up by chunks, in bytes; see [`limits::RTMP_CHUNK_BYTES_MIN`].
    credit: u64,
}

/// What a reader will hold for its peer.
#[derive(Debug, Clone, Copy)]
pub struct ChunkLimits {
    /// Chunk streams in use.
    pub chunk_streams_max: usize,
    /// Longest message.
    pub message_bytes_max: usize,
    /// All partly received messages together.
    pub assembly_bytes_max: usize,
    /// What a chunk must have on average.
    pub chunk_bytes_min: u64,
}

impl ChunkLimits {
    /// For a peer that nobody has authorised yet.
    pub const SETUP: Self = Self {
        chunk_streams_max: limits::RTMP_SETUP_CHUNK_STREAMS_MAX,
        message_bytes_max: limits::RTMP_SETUP_MESSAGE_BYTES_MAX,
        assembly_bytes_max: limits::RTMP_SETUP_ASSEMBLY_BYTES_MAX,
        chunk_bytes_min: limits::RTMP_CHUNK_BYTES_MIN,
    };
    /// For whom we trust: a server that we chose.
    pub const AUTHORISED: Self = Self {
        chunk_streams_max: limits::RTMP_CHUNK_STREAMS_MAX,
        message_bytes_max: limits::RTMP_MESSAGE_BYTES_MAX,
        assembly_bytes_max: limits::RTMP_ASSEMBLY_BYTES_MAX,
        chunk_bytes_min: limits::RTMP_CHUNK_BYTES_MIN,
    };
    /// For an authorised publisher; to be told how time passes.
    pub const PUBLISHER: Self = Self { chunk_bytes_min: limits::RTMP_PUBLISHER_CHUNK_BYTES_MIN, ..Self::AUTHORISED };

    fn credit_max(&self) -> u64 {
        limits::RTMP_TINY_CHUNKS_MAX * self.chunk_bytes_min
    }
}

/// Why a chunk stream can't be read any further. Always the peer's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// The first chunk of a chunk stream leaves out its header.
    #[error("chunk stream {0} starts without a message header")]
    NoHeader(u32),
    /// Too many chunk streams.
    #[error("more than {0} chunk streams")]
    TooManyStreams(usize),
    /// A message over the limit.
    #[error("message of {0} bytes is too long")]
    MessageTooLong(usize),
    /// A message whose length changes before it is complete.
    #[error("message length changes from {from} to {to} in mid-message")]
    LengthChanged {
        /// The length at its start.
        from: usize,
        /// The new one.
        to: usize,
    },
    /// Too many bytes in partly received messages.
    #[error("partly received messages exceed {0} bytes")]
    AssemblyFull(usize),
    /// Set Chunk Size of 0, over 31 bits, or cut short.
    #[error("illegal chunk size")]
    ChunkSize,
    /// Mostly headers: the work would be out of proportion to the bytes.
    #[error("chunks are too small to be worth their headers")]
    TinyChunks,
}

#[derive(Debug)]
struct ChunkStream {
    id: u32,
    kind: u8,
    stream_id: u32,
    timestamp: u32,
    delta: u32,
    /// The extended timestamp of the last header that had one; its repetition on type-3 chunks is optional in practice.
    extended: Option<u32>,
    length: usize,
    /// True from a message's first chunk to its last.
    receiving: bool,
    payload: Vec<u8>,
    reserved: usize,
}

/// A parsed chunk header; a field is `None` where the type leaves it out (§5.3.1.2).
#[derive(Debug, Default)]
struct Header {
    chunk_stream: u32,
    stream_id: Option<u32>,
    length_and_kind: Option<(usize, u8)>,
    time: Option<u32>,
    extended: bool,
}

impl ChunkReader {
    /// A reader at the start of a chunk stream.
    pub fn new(limits: ChunkLimits) -> Self {
        Self {
            limits,
            chunk_bytes: 128,
            streams: Vec::new(),
            assembly_bytes: 0,
            partial: Vec::new(),
            current: None,
            credit: limits.credit_max(),
        }
    }

    /// Changes the limits, from the next chunk on.
    pub fn set_limits(&mut self, limits: ChunkLimits) {
        self.limits = limits;
        self.credit = limits.credit_max();
    }

    /// Lets the peer send more small chunks, as many as a publisher may in `elapsed`.
    pub fn handle_time(&mut self, elapsed: Duration) {
        let bytes_per_s = limits::RTMP_PUBLISHER_CHUNKS_PER_S * self.limits.chunk_bytes_min;
        self.earn(elapsed.as_micros() * u128::from(bytes_per_s) / 1_000_000);
    }

    /// Takes the price of one chunk, or of one message inside another.
    pub(in crate::proto::rtmp) fn charge(&mut self) -> Result<(), ChunkError> {
        self.credit = self.credit.checked_sub(self.limits.chunk_bytes_min).ok_or(ChunkError::TinyChunks)?;
        Ok(())
    }

    fn earn(&mut self, bytes: impl TryInto<u64>) {
        let bytes = bytes.try_into().unwrap_or(u64::MAX);
        self.credit = self.credit.saturating_add(bytes).min(self.limits.credit_max());
    }

    /// The next whole message; `None` when `input` is used up. After an error the reader is of no more use.
    pub fn next_message(&mut self, input: &mut &[u8]) -> Result<Option<Message>, ChunkError> {
        loop {
            let Some((index, left)) = self.current else {
                if !self.read_header(input)? {
                    return Ok(None);
                }
                continue;
            };
            let left = left - self.read_payload(index, left, input)?;
            if left > 0 {
                self.current = Some((index, left));
                return Ok(None);
            }
            self.current = None;
            if let Some(message) = self.finish_message(index)
                && !self.obey(&message)?
            {
                return Ok(Some(message));
            }
        }
    }

    /// Reads one chunk header; false if it isn't complete yet.
    fn read_header(&mut self, input: &mut &[u8]) -> Result<bool, ChunkError> {
        if self.partial.is_empty() {
            let Some((header, rest)) = self.parse_header(input)? else {
                self.partial.extend_from_slice(input);
                *input = &[];
                return Ok(false);
            };
            self.earn(input.len() - rest.len());
            *input = rest;
            self.start_chunk(header)?;
            return Ok(true);
        }
        // A header is at most 18 bytes, so trying again at each byte is bounded.
        loop {
            if let Some((header, rest)) = self.parse_header(&self.partial)? {
                let used = self.partial.len() - rest.len();
                self.earn(used);
                self.partial.drain(..used);
                self.start_chunk(header)?;
                return Ok(true);
            }
            let Some((&byte, rest)) = input.split_first() else { return Ok(false) };
            self.partial.push(byte);
            *input = rest;
        }
    }

    /// A header and what follows it; `None` if more bytes are needed.
    fn parse_header<'a>(&self, mut bytes: &'a [u8]) -> Result<Option<(Header, &'a [u8])>, ChunkError> {
        let parsed = || -> Result<Header, bytes::TryGetError> {
            let mut header = Header::default();
            let first = bytes.try_get_u8()?;
            header.chunk_stream = match first & 0x3f {
                0 => 64 + u32::from(bytes.try_get_u8()?),
                1 => 64 + u32::from(bytes.try_get_u16_le()?),
                id => id.into(),
            };
            let format = first >> 6;
            if format < 3 {
                header.time = Some(get_u24(&mut bytes)?);
            }
            if format < 2 {
                let length = usize::try_from(get_u24(&mut bytes)?).unwrap_or(usize::MAX);
                header.length_and_kind = Some((length, bytes.try_get_u8()?));
            }
            if format == 0 {
                header.stream_id = Some(bytes.try_get_u32_le()?);
            }
            if header.time == Some(EXTENDED) {
                header.extended = true;
                header.time = Some(bytes.try_get_u32()?);
            }
            Ok(header)
        }();
        let Ok(header) = parsed else { return Ok(None) };
        let known = self.streams.iter().find(|stream| stream.id == header.chunk_stream);
        match known {
            // librtmp starts chunk stream 2 with a type-1 header; types 2 and 3 have nothing to build on.
            None if header.length_and_kind.is_none() => Err(ChunkError::NoHeader(header.chunk_stream)),
            Some(ChunkStream { extended: Some(extended), .. }) if header.time.is_none() => {
                let extended = extended.to_be_bytes();
                match bytes.strip_prefix(&extended) {
                    Some(rest) => Ok(Some((header, rest))),
                    // Could still become the repetition.
                    None if extended.starts_with(bytes) => Ok(None),
                    None => Ok(Some((header, bytes))),
                }
            }
            _ => Ok(Some((header, bytes))),
        }
    }

    fn start_chunk(&mut self, header: Header) -> Result<(), ChunkError> {
        self.charge()?;
        let found = self.streams.iter().position(|stream| stream.id == header.chunk_stream);
        let index = match found {
            Some(index) => index,
            None if self.streams.len() >= self.limits.chunk_streams_max => {
                return Err(ChunkError::TooManyStreams(self.limits.chunk_streams_max));
            }
            None => {
                self.streams.push(ChunkStream::new(header.chunk_stream));
                self.streams.len() - 1
            }
        };
        let Some(stream) = self.streams.get_mut(index) else { return Ok(()) };
        if stream.receiving {
            // Some encoders repeat a full header on continuations. All that counts is that it agrees.
            if let Some((to, _)) = header.length_and_kind
                && to != stream.length
            {
                return Err(ChunkError::LengthChanged { from: stream.length, to });
            }
        } else {
            stream.start_message(&header);
        }
        if stream.length > self.limits.message_bytes_max {
            return Err(ChunkError::MessageTooLong(stream.length));
        }
        self.current = Some((index, self.chunk_bytes.min(stream.length - stream.payload.len())));
        Ok(())
    }

    /// Takes up to `left` bytes of the chunk's payload; gives how many.
    fn read_payload(&mut self, index: usize, left: usize, input: &mut &[u8]) -> Result<usize, ChunkError> {
        if self.partial.is_empty() {
            let (taken, rest) = input.split_at_checked(left).unwrap_or((input, &[]));
            self.append(index, taken)?;
            *input = rest;
            return Ok(taken.len());
        }
        // What was held back for a possible extended timestamp turned out to be payload.
        let mut held = mem::take(&mut self.partial);
        let payload: Vec<u8> = held.drain(..left.min(held.len())).collect();
        self.partial = held;
        self.append(index, &payload)?;
        let more = left - payload.len();
        Ok(payload.len() + if more > 0 { self.read_payload(index, more, input)? } else { 0 })
    }

    fn append(&mut self, index: usize, bytes: &[u8]) -> Result<(), ChunkError> {
        let Some(stream) = self.streams.get_mut(index) else { return Ok(()) };
        let needed = stream.payload.len() + bytes.len();
        if needed > stream.reserved {
            // Reserved by what has come, not by what was promised: a liar gets 16 KiB, no more.
            let reserve = needed.max(stream.reserved * 2).max(FIRST_RESERVE_BYTES).min(stream.length);
            self.assembly_bytes += reserve - stream.reserved;
            if self.assembly_bytes > self.limits.assembly_bytes_max {
                return Err(ChunkError::AssemblyFull(self.limits.assembly_bytes_max));
            }
            stream.reserved = reserve;
            stream.payload.reserve_exact(reserve - stream.payload.len());
        }
        stream.payload.extend_from_slice(bytes);
        self.earn(bytes.len());
        Ok(())
    }

    /// The message of `streams[index]`, if its last byte has come.
    fn finish_message(&mut self, index: usize) -> Option<Message> {
        let stream = self.streams.get_mut(index)?;
        if stream.payload.len() < stream.length {
            return None;
        }
        self.assembly_bytes -= mem::take(&mut stream.reserved);
        stream.receiving = false;
        Some(Message {
            kind: stream.kind,
            stream_id: stream.stream_id,
            timestamp: stream.timestamp,
            payload: Bytes::from(mem::take(&mut stream.payload)),
        })
    }

    /// Applies the two messages that steer the chunk stream itself (§5.4.1, §5.4.2); true if it was one.
    fn obey(&mut self, message: &Message) -> Result<bool, ChunkError> {
        const SET_CHUNK_SIZE: u8 = 1;
        const ABORT: u8 = 2;
        let value = message.payload.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        match (message.kind, value) {
            (SET_CHUNK_SIZE, Some(size @ 1..=0x7fff_ffff)) => {
                self.chunk_bytes = usize::try_from(size).unwrap_or(usize::MAX);
            }
            (SET_CHUNK_SIZE, _) => return Err(ChunkError::ChunkSize),
            (ABORT, Some(id)) => {
                if let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == id) {
                    self.assembly_bytes -= mem::take(&mut stream.reserved);
                    stream.payload = Vec::new();
                    stream.receiving = false;
                }
            }
            (ABORT, None) => {}
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl ChunkStream {
    fn new(id: u32) -> Self {
        Self {
            id,
            kind: 0,
            stream_id: 0,
            timestamp: 0,
            delta: 0,
            extended: None,
            length: 0,
            receiving: false,
            payload: Vec::new(),
            reserved: 0,
        }
    }

    fn start_message(&mut self, header: &Header) {
        if let Some((length, kind)) = header.length_and_kind {
            (self.length, self.kind) = (length, kind);
        }
        if let Some(time) = header.time {
            self.extended = header.extended.then_some(time);
            self.delta = if header.stream_id.is_some() { 0 } else { time };
        }
        match (header.stream_id, header.time) {
            (Some(stream_id), Some(time)) => (self.stream_id, self.timestamp) = (stream_id, time),
            // Also for type 3 after type 0, where §5.3.1.2.4 would add the absolute time once more:
            // encoders mean "no change" there.
            _ => self.timestamp = self.timestamp.wrapping_add(self.delta),
        }
        self.receiving = true;
    }
}

fn get_u24(bytes: &mut &[u8]) -> Result<u32, bytes::TryGetError> {
    Ok(u32::from(bytes.try_get_u8()?) << 16 | u32::from(bytes.try_get_u16()?))
}

const FIRST_RESERVE_BYTES: usize = 16 * 1024;
