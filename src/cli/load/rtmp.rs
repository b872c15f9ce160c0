//! RTMP viewers: the session as far as play, then a reader that walks over the chunks without keeping them.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
};

use super::{observer::Observer, plan::Target, tags::Tag, viewers::Failed};
use crate::{
    cli::rtmp::Failed as RtmpFailed,
    proto::rtmp::{ClientConfig, ClientEvent, ClientMode, ClientSession, SessionError},
};

/// Asks for the stream; the reader has been given all that came so far.
pub(super) async fn connect(target: &Target, observer: &mut Observer) -> Result<(TcpStream, Reader), Failed> {
    let config = ClientConfig::from_url(ClientMode::Play, target.url.as_str()).map_err(RtmpFailed::from)?;
    let mut socket = TcpStream::connect(target.address).await?;
    socket.set_nodelay(true)?;
    let (mut session, mut reader) = (ClientSession::new(config), Reader::default());
    let mut bytes = Vec::with_capacity(8 * 1024);
    loop {
        while let Some(output) = session.poll_output() {
            socket.write_all(&output).await?;
        }
        match session.poll_event() {
            Some(ClientEvent::Ready) => break,
            Some(ClientEvent::Rejected { code, description }) => {
                return Err(RtmpFailed::Rejected { code, description }.into());
            }
            Some(ClientEvent::Closed) => return Err(Failed::Ended),
            Some(_) => continue,
            None => {}
        }
        bytes.clear();
        if socket.read_buf(&mut bytes).await? == 0 {
            return Err(RtmpFailed::ClosedEarly.into());
        }
        reader.read(&bytes, observer)?;
        session.handle_bytes(&bytes).map_err(|error: SessionError| Failed::from(RtmpFailed::from(error)))?;
    }
    // Pings were answered by the session.
    reader.answer = None;
    observer.connected();
    Ok((socket, reader))
}

/// Walks over a server's bytes in any split, from the handshake on.
#[derive(Debug)]
pub(super) struct Reader {
    /// What is left of the handshake.
    skip: usize,
    chunk_bytes: usize,
    streams: Vec<ChunkStream>,
    /// A chunk's header, as far as it has come.
    header: Vec<u8>,
    /// The chunk that is coming in: a place in `streams`, and bytes.
    chunk: Option<(usize, usize)>,
    received: u32,
    acknowledged: u32,
    answer: Option<Vec<u8>>,
}

#[derive(Debug)]
struct ChunkStream {
    id: u32,
    kind: u8,
    length: usize,
    /// Its headers have extended timestamps.
    is_extended: bool,
    is_receiving: bool,
    tag: Tag,
}

/// A chunk's header as far as it matters.
struct Header {
    stream: u32,
    message: Option<(usize, u8)>,
    is_extended: bool,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            skip: HANDSHAKE_BYTES,
            chunk_bytes: 128,
            streams: Vec::new(),
            header: Vec::new(),
            chunk: None,
            received: 0,
            acknowledged: 0,
            answer: None,
        }
    }
}

impl Reader {
    /// Takes bytes from the server, and tells what is in them.
    pub(super) fn read(&mut self, mut bytes: &[u8], observer: &mut Observer) -> Result<(), Failed> {
        observer.arrived(bytes.len());
        let skipped = bytes.len().min(self.skip);
        self.skip -= skipped;
        bytes = bytes.get(skipped..).unwrap_or_default();
        self.received = self.received.wrapping_add(u32::try_from(bytes.len()).unwrap_or(0));
        while !bytes.is_empty() {
            let Some((index, left)) = self.chunk else {
                self.read_header(&mut bytes)?;
                continue;
            };
            let Some(stream) = self.streams.get_mut(index) else { return Ok(()) };
            let left = left - stream.tag.take(&mut bytes, left);
            self.chunk = (left > 0).then_some((index, left));
            if stream.tag.left() == 0 {
                stream.is_receiving = false;
                stream.tag.tell(observer);
                self.obey(index)?;
            }
        }
        if self.received.wrapping_sub(self.acknowledged) > ACKNOWLEDGE_BYTES {
            self.acknowledged = self.received;
            self.say(ACKNOWLEDGEMENT, &self.received.to_be_bytes());
        }
        Ok(())
    }

    /// What the server expects to hear, if anything.
    pub(super) fn answer(&mut self) -> Option<Vec<u8>> {
        self.answer.take()
    }

    fn read_header(&mut self, bytes: &mut &[u8]) -> Result<(), Failed> {
        if self.header.is_empty()
            && let Some((header, rest)) = self.parse_header(bytes)
        {
            *bytes = rest;
            return self.begin_chunk(&header);
        }
        // It is cut: a byte at a time, until it is whole.
        let Some((byte, rest)) = bytes.split_first() else { return Ok(()) };
        *bytes = rest;
        self.header.push(*byte);
        let Some((header, _)) = self.parse_header(&self.header) else { return Ok(()) };
        self.header.clear();
        self.begin_chunk(&header)
    }

    /// A header and what follows it; `None` if more bytes are needed (RTMP 1.0 §5.3.1).
    fn parse_header<'a>(&self, bytes: &'a [u8]) -> Option<(Header, &'a [u8])> {
        let (first, mut rest) = bytes.split_first()?;
        let stream = match first & 0x3f {
            0 => 64 + u32::from(take::<1>(&mut rest)?[0]),
            1 => 64 + u32::from(u16::from_le_bytes(take(&mut rest)?)),
            id => id.into(),
        };
        let format = first >> 6;
        let time = if format < 3 { Some(take::<3>(&mut rest)?) } else { None };
        let message = if format < 2 {
            let [l2, l1, l0, kind] = take(&mut rest)?;
            Some((usize::try_from(u32::from_be_bytes([0, l2, l1, l0])).ok()?, kind))
        } else {
            None
        };
        if format == 0 {
            take::<4>(&mut rest)?;
        }
        let known = self.streams.iter().find(|known| known.id == stream);
        let is_extended = match time {
            Some(time) => time == [0xff; 3],
            None => known.is_some_and(|known| known.is_extended),
        };
        if is_extended {
            take::<4>(&mut rest)?;
        }
        Some((Header { stream, message, is_extended }, rest))
    }

    fn begin_chunk(&mut self, header: &Header) -> Result<(), Failed> {
        let known = self.streams.iter().position(|known| known.id == header.stream);
        let index = match known {
            Some(index) => index,
            None if header.message.is_some() && self.streams.len() < CHUNK_STREAMS_MAX => {
                self.streams.push(ChunkStream::new(header.stream));
                self.streams.len() - 1
            }
            None => return Err(Failed::Broken("an RTMP chunk of a stream that never began")),
        };
        let Some(stream) = self.streams.get_mut(index) else { return Ok(()) };
        stream.is_extended = header.is_extended;
        if !stream.is_receiving {
            if let Some((length, kind)) = header.message {
                (stream.length, stream.kind) = (length, kind);
            }
            stream.tag.begin(stream.kind, stream.length);
            stream.is_receiving = stream.length > 0;
        }
        let bytes = stream.tag.left().min(self.chunk_bytes);
        self.chunk = (bytes > 0).then_some((index, bytes));
        Ok(())
    }

    /// Does what a control message asks for, and notices the end.
    fn obey(&mut self, index: usize) -> Result<(), Failed> {
        let Some(ChunkStream { tag, .. }) = self.streams.get(index) else { return Ok(()) };
        match (tag.kind(), tag.head()) {
            (SET_CHUNK_SIZE, [a, b, c, d, ..]) => {
                let size = u32::from_be_bytes([*a, *b, *c, *d]) & 0x7fff_ffff;
                if size == 0 {
                    return Err(Failed::Broken("an RTMP chunk size of 0"));
                }
                self.chunk_bytes = usize::try_from(size).unwrap_or(usize::MAX);
            }
            (USER_CONTROL, [0, STREAM_EOF, ..]) => return Err(Failed::Ended),
            (USER_CONTROL, [0, PING, time @ ..]) => {
                let pong = [&[0, PONG], time.get(..4).unwrap_or_default()].concat();
                self.say(USER_CONTROL, &pong);
            }
            _ => {}
        }
        Ok(())
    }

    /// Queues a control message: chunk stream 2, message stream 0.
    fn say(&mut self, kind: u8, payload: &[u8]) {
        let answer = self.answer.get_or_insert_default();
        let length = u8::try_from(payload.len()).unwrap_or(0);
        answer.extend_from_slice(&[2, 0, 0, 0, 0, 0, length, kind, 0, 0, 0, 0]);
        answer.extend_from_slice(payload);
    }
}

impl ChunkStream {
    fn new(id: u32) -> Self {
        Self { id, kind: 0, length: 0, is_extended: false, is_receiving: false, tag: Tag::default() }
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

/// Viewers on their way to play: servers bound how many strangers an address may send them at once.
pub(super) static CONNECTING: Semaphore = Semaphore::const_new(48);
/// S0, S1 and S2.
const HANDSHAKE_BYTES: usize = 1 + 2 * 1536;
const CHUNK_STREAMS_MAX: usize = 64;
const ACKNOWLEDGE_BYTES: u32 = 1_000_000;
const SET_CHUNK_SIZE: u8 = 1;
const ACKNOWLEDGEMENT: u8 = 3;
const USER_CONTROL: u8 = 4;
/// Kinds of user control (§7.1.7).
const STREAM_EOF: u8 = 1;
const PING: u8 = 6;
const PONG: u8 = 7;

#[cfg(test)]
mod tests;
