//! The least that fan-out costs. Over TCP: one thread, no runtime, one bare `writev` of shared bytes a picture and
//! viewer, with the sound that came before it. Over QUIC: quinn alone. Over RTP: a seal and a share of a send a packet.
//! What a server needs above this is its own.

use std::{
    error::Error,
    io::{self, ErrorKind, IoSlice, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use hawker::{
    cli::load::media::{Due, Shape, Synthetic},
    clock,
    media::TrackKind,
    proto::flv::{self, TagKind},
};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

use crate::{quic_floor, rtp_floor, servers::Egress};

/// What a floor does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Floor {
    /// To whom.
    pub(crate) egress: Egress,
    /// Sound waits for the next picture and goes with it, as it does at hawker; else each is a write of its own.
    pub(crate) merge: bool,
    pub(crate) shape: Shape,
}

impl Floor {
    /// What it is called in a table.
    pub(crate) fn name(&self) -> &'static str {
        match (self.egress, self.merge) {
            (Egress::Moq | Egress::Whep, _) => "floor",
            (_, true) => "floor, merged",
            (_, false) => "floor, unmerged",
        }
    }
}

/// Serves until the process ends; prints where.
pub(crate) fn run(floor: &Floor) -> Result<(), Box<dyn Error + Send + Sync>> {
    match floor.egress {
        Egress::Moq => serve_quic(&floor.shape),
        Egress::Whep => rtp_floor::serve(&floor.shape, |address| println!("floor at whep://{address}/live/load-0")),
        Egress::Flv | Egress::Rtmp => Ok(serve_flv(floor)?),
    }
}

fn serve_quic(shape: &Shape) -> Result<(), Box<dyn Error + Send + Sync>> {
    let media = Synthetic::new(shape);
    let group_frames = u64::from(shape.fps * shape.gop_secs);
    let picture = |number: u64| {
        let due = Due { track: TrackKind::Video, number, at_us: 0, keyframe: number.is_multiple_of(group_frames) };
        let tag = media.tag(&due, clock::unix_us());
        // What RTMP has before the frame is not the frame's.
        [tag.header.get(AVC_TAG_HEADER_BYTES..).unwrap_or_default(), &tag.payload].concat().into()
    };
    quic_floor::serve(quic_floor::Load { fps: shape.fps, group_frames }, picture, |address, certificate| {
        let certificate: String = certificate.iter().map(|byte| format!("{byte:02x}")).collect();
        println!("floor at moqt://{address}/live/load-0 {certificate}");
    })
}

fn serve_flv(floor: &Floor) -> io::Result<()> {
    let listener = listener()?;
    println!("floor at http://{}/live/load-0.flv", listener.local_addr()?);
    let media = Synthetic::new(&floor.shape);
    let mut room = Room { listener, asking: Vec::new(), viewers: Vec::new(), head: head(&media), group: Vec::new() };
    let began = clock::now();
    let mut waiting = Vec::new();
    for due in media.frames(0.0) {
        room.admit_until(began + Duration::from_micros(due.at_us))?;
        if due.keyframe && due.track == TrackKind::Video {
            room.group.clear();
        }
        let ts_ms = u32::try_from(due.at_us / 1000).unwrap_or(u32::MAX);
        waiting.extend(flv::encode_tag(ts_ms, &media.tag(&due, clock::unix_us())));
        if floor.merge && due.track == TrackKind::Audio {
            continue;
        }
        room.write(&waiting);
        room.group.append(&mut waiting);
    }
    Ok(())
}

fn listener() -> io::Result<TcpListener> {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    listener.listen(4096)?;
    listener.set_nonblocking(true)?;
    Ok(listener.into())
}

fn head(media: &Synthetic) -> Bytes {
    let mut head = BytesMut::from("HTTP/1.1 200 OK\r\ncontent-type: video/x-flv\r\nconnection: close\r\n\r\n");
    head.extend_from_slice(&flv::header(true, true));
    // The first tells of the stream for RTMP servers.
    for body in media.heads().iter().filter(|body| body.kind != TagKind::Script) {
        flv::encode_tag(0, body).iter().for_each(|slice| head.extend_from_slice(slice));
    }
    head.freeze()
}

struct Room {
    listener: TcpListener,
    /// Connected, and their request isn't here yet.
    asking: Vec<TcpStream>,
    viewers: Vec<Viewer>,
    /// What a joiner is told first.
    head: Bytes,
    /// Since the last keyframe.
    group: Vec<Bytes>,
}

impl Room {
    /// Lets viewers in until it is time for the next frame.
    fn admit_until(&mut self, due: clock::Instant) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((socket, _)) => {
                    socket.set_nonblocking(true)?;
                    socket.set_nodelay(true)?;
                    self.asking.push(socket);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            let arrived = self.asking.extract_if(.., |socket| {
                // The request fits one segment; what it asks for is plain.
                !matches!(socket.read(&mut [0; 2048]), Err(error) if error.kind() == ErrorKind::WouldBlock)
            });
            for socket in arrived {
                let mut viewer = Viewer { socket, backlog: Vec::new() };
                let first: Vec<_> =
                    [&self.head].into_iter().chain(&self.group).map(|bytes| IoSlice::new(bytes)).collect();
                if viewer.write(&first).is_ok() {
                    self.viewers.push(viewer);
                }
            }
            let left = due.saturating_duration_since(clock::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::park_timeout(left.min(ADMIT_EVERY));
        }
    }

    fn write(&mut self, slices: &[Bytes]) {
        let slices: Vec<_> = slices.iter().map(|bytes| IoSlice::new(bytes)).collect();
        self.viewers.retain_mut(|viewer| viewer.write(&slices).is_ok());
    }
}

struct Viewer {
    socket: TcpStream,
    /// What the kernel didn't take: nothing, unless the machine is overloaded.
    backlog: Vec<u8>,
}

impl Viewer {
    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<()> {
        let mut written = 0;
        if self.backlog.is_empty() {
            written = or_none(self.socket.write_vectored(slices))?;
        }
        for slice in slices {
            self.backlog.extend_from_slice(slice.get(written.min(slice.len())..).unwrap_or_default());
            written = written.saturating_sub(slice.len());
        }
        if !self.backlog.is_empty() {
            let taken = or_none(self.socket.write(&self.backlog))?;
            self.backlog.drain(..taken);
        }
        if self.backlog.len() > BACKLOG_BYTES_MAX { Err(ErrorKind::TimedOut.into()) } else { Ok(()) }
    }
}

/// A socket that takes nothing now takes zero bytes.
fn or_none(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        written => written,
    }
}

const AVC_TAG_HEADER_BYTES: usize = 5;

/// How soon a viewer is let in.
const ADMIT_EVERY: Duration = Duration::from_millis(5);

/// A viewer further behind is dropped.
const BACKLOG_BYTES_MAX: usize = 8 << 20;
