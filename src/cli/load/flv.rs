//! HTTP-FLV viewers: a request, and a reader that walks over the body without keeping it.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{observer::Observer, plan::Target, tags::Tag, viewers::Failed};

/// Asks for the stream; the reader has been given what came with the answer's head.
pub(super) async fn connect(target: &Target, observer: &mut Observer) -> Result<(TcpStream, Reader), Failed> {
    let mut socket = TcpStream::connect(target.address).await?;
    let url = &target.url;
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    let request = format!(
        "GET {}{query} HTTP/1.1\r\nHost: {}\r\nUser-Agent: hawker\r\nAccept: */*\r\n\r\n",
        url.path(),
        target.host
    );
    socket.write_all(request.as_bytes()).await?;
    let mut head = Vec::with_capacity(1024);
    let body = loop {
        if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if head.len() > HEAD_BYTES_MAX {
            return Err(Failed::Broken("an answer whose head has no end"));
        }
        if socket.read_buf(&mut head).await? == 0 {
            return Err(Failed::Ended);
        }
    };
    let (head, body) = head.split_at(body);
    let mut reader = Reader::new(is_chunked(head)?);
    observer.connected();
    reader.read(body, observer)?;
    Ok((socket, reader))
}

/// Whether the body comes in chunks, or is closed by the connection's end.
fn is_chunked(head: &[u8]) -> Result<bool, Failed> {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    if status != "200" {
        return Err(Failed::Refused(format!("HTTP status {status}")));
    }
    Ok(lines.any(|line| line.starts_with("transfer-encoding:") && line.contains("chunked")))
}

/// Walks over a body in any split.
#[derive(Debug)]
pub(super) struct Reader {
    /// The chunk of HTTP that is being read; `None` where there are no chunks.
    chunk: Option<Chunk>,
    /// Bytes of FLV that are of no interest: what is left of the file's header, or of a tag's trailer.
    skip: usize,
    /// A tag's header, as far as it has come.
    header: [u8; TAG_HEADER_BYTES],
    header_bytes: usize,
    tag: Tag,
}

#[derive(Debug)]
enum Chunk {
    /// In the line that tells its length, so far this; nothing behind the digits counts.
    Length {
        bytes: usize,
        in_digits: bool,
    },
    /// Bytes to come, and then a line's end.
    Body(usize),
    End,
}

impl Reader {
    fn new(chunked: bool) -> Self {
        Self {
            chunk: chunked.then_some(Chunk::START),
            skip: FILE_HEADER_BYTES,
            header: [0; TAG_HEADER_BYTES],
            header_bytes: 0,
            tag: Tag::default(),
        }
    }

    /// Takes bytes from the server, and tells what is in them.
    pub(super) fn read(&mut self, mut bytes: &[u8], observer: &mut Observer) -> Result<(), Failed> {
        observer.arrived(bytes.len());
        while !bytes.is_empty() {
            match &mut self.chunk {
                None => return self.read_body(bytes, observer),
                Some(Chunk::Body(left)) => {
                    let (body, rest) = bytes.split_at(bytes.len().min(*left));
                    *left -= body.len();
                    if *left == 0 {
                        self.chunk = Some(Chunk::End);
                    }
                    bytes = rest;
                    self.read_body(body, observer)?;
                }
                Some(chunk) => {
                    let Some((byte, rest)) = bytes.split_first() else { return Ok(()) };
                    chunk.advance(*byte)?;
                    bytes = rest;
                }
            }
        }
        Ok(())
    }

    fn read_body(&mut self, mut input: &[u8], observer: &mut Observer) -> Result<(), Failed> {
        loop {
            let skipped = input.len().min(self.skip);
            self.skip -= skipped;
            input = input.get(skipped..).unwrap_or_default();
            if self.header_bytes < TAG_HEADER_BYTES {
                if input.is_empty() {
                    return Ok(());
                }
                if !self.read_header(&mut input)? {
                    return Ok(());
                }
            }
            self.tag.take(&mut input, usize::MAX);
            if self.tag.left() > 0 {
                return Ok(());
            }
            self.tag.tell(observer);
            self.header_bytes = 0;
            self.skip = TAG_TRAILER_BYTES;
        }
    }

    /// True once a tag's header is complete and its body begins.
    fn read_header(&mut self, input: &mut &[u8]) -> Result<bool, Failed> {
        let room = self.header.get_mut(self.header_bytes..).unwrap_or_default();
        let (taken, rest) = input.split_at(input.len().min(room.len()));
        room.iter_mut().zip(taken).for_each(|(to, from)| *to = *from);
        self.header_bytes += taken.len();
        *input = rest;
        if self.header_bytes < TAG_HEADER_BYTES {
            return Ok(false);
        }
        let [kind, l2, l1, l0, ..] = self.header;
        if !matches!(kind, 8 | 9 | 18) {
            return Err(Failed::Broken("an FLV tag of an unknown type"));
        }
        let length = u32::from_be_bytes([0, l2, l1, l0]);
        self.tag.begin(kind, usize::try_from(length).unwrap_or(usize::MAX));
        Ok(true)
    }
}

impl Chunk {
    const START: Self = Self::Length { bytes: 0, in_digits: true };

    /// Takes a byte of what is around a chunk's body.
    fn advance(&mut self, byte: u8) -> Result<(), Failed> {
        let next = match *self {
            Self::Length { bytes: 0, .. } if byte == b'\n' => return Err(Failed::Ended),
            Self::Length { bytes, .. } if byte == b'\n' => Self::Body(bytes),
            Self::Length { bytes, in_digits: true } => match char::from(byte).to_digit(16) {
                Some(digit) if bytes < CHUNK_BYTES_MAX => {
                    Self::Length { bytes: bytes << 4 | usize::try_from(digit).unwrap_or(0), in_digits: true }
                }
                Some(_) => return Err(Failed::Broken("an HTTP chunk that is too long")),
                None => Self::Length { bytes, in_digits: false },
            },
            Self::End if byte == b'\n' => Self::START,
            Self::Length { bytes, .. } => Self::Length { bytes, in_digits: false },
            Self::End | Self::Body(_) => return Ok(()),
        };
        *self = next;
        Ok(())
    }
}

const HEAD_BYTES_MAX: usize = 16 * 1024;
const CHUNK_BYTES_MAX: usize = 1 << 32;
/// With the zero size of the tag before the first.
const FILE_HEADER_BYTES: usize = 13;
const TAG_HEADER_BYTES: usize = 11;
const TAG_TRAILER_BYTES: usize = 4;

#[cfg(test)]
mod tests;
