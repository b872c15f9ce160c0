//! The floor under WHEP: one thread, no runtime. Each packet gets a header, is sealed for each viewer and goes out with
//! those of its frame in as few sends as the kernel allows (GSO).
//!
//! Viewers are let in as WHEP viewers are, so that the load generator does the same for them. What they say afterwards is
//! received and not looked at. What a server costs above this is its own.

use std::{
    collections::HashMap,
    io::{self, ErrorKind, IoSliceMut, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::Arc,
    thread,
    time::Duration,
};

use hawker::{
    cli::load::media::{Shape, Synthetic},
    clock::{self, Instant},
    media::TrackKind,
    net::tls,
    proto::{
        ice::{
            Credentials, Lite, Path, Transport,
            stun::{is_stun, request_ufrag},
        },
        rtp::{
            packet::Header,
            payload::{Packetiser, Packets},
        },
        sdp::{Candidate, Local, Offer, Ssrcs, Track, play},
        webrtc::{Channels, Ice, Identity, Outbox, Peer},
    },
};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};

/// Packets that a picture of this shape has, on average: what makes a packet's cost out of a frame's.
pub(crate) fn packets_per_picture(shape: &Shape) -> f64 {
    let media = Synthetic::for_webrtc(shape);
    let mut packetiser = packetiser(&media);
    let pictures = media.frames(0.0).filter(|due| due.track == TrackKind::Video);
    let pictures: Vec<_> = pictures.take(usize::try_from(shape.fps * shape.gop_secs).unwrap_or(1)).collect();
    let packets =
        pictures.iter().map(|due| packetiser.packetise(media.video(), due.keyframe, &media.frame(due, 0)).len());
    packets.sum::<usize>() as f64 / pictures.len().max(1) as f64
}

/// Serves viewers until the process ends; `ready` is told where they POST their offers.
pub(crate) fn serve(
    shape: &Shape,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let media = Synthetic::for_webrtc(shape);
    let mut room = Room::open(&media)?;
    ready(room.listener.local_addr()?);
    let (mut packetiser, began) = (packetiser(&media), clock::now());
    for due in media.frames(0.0).filter(|due| due.track == TrackKind::Video) {
        room.admit_until(began + Duration::from_micros(due.at_us))?;
        let packets = packetiser.packetise(media.video(), due.keyframe, &media.frame(&due, clock::unix_us()));
        let timestamp = u32::try_from((due.at_us * 90 / 1000) & 0xffff_ffff).unwrap_or(0);
        room.send(timestamp, due.keyframe, &packets);
    }
    Ok(())
}

fn packetiser(media: &Synthetic) -> Packetiser {
    Packetiser::new(media.video().codec, PAYLOAD_BYTES_MAX)
}

struct Room<'a> {
    media: &'a Synthetic,
    listener: TcpListener,
    /// Connected, with as much as has come of their requests.
    asking: Vec<(TcpStream, Vec<u8>)>,
    socket: UdpSocket,
    state: UdpSocketState,
    address: SocketAddr,
    identity: Arc<Identity>,
    viewers: Vec<Viewer>,
    by_ufrag: HashMap<String, usize>,
    by_address: HashMap<SocketAddr, usize>,
    buffers: Vec<Vec<u8>>,
    outbox: Outbox,
    timers_at: Instant,
}

struct Viewer {
    peer: Peer,
    track: Track,
    ssrc: u32,
    sequence: u16,
    /// He has had a keyframe.
    is_watching: bool,
}

impl<'a> Room<'a> {
    fn open(media: &'a Synthetic) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        // With the same kernel buffers as hawker asks for.
        let socket = hawker::net::udp::bind("floor", SocketAddr::from(([127, 0, 0, 1], 0)), 1)?.pop();
        let socket = socket.ok_or(ErrorKind::AddrNotAvailable).map_err(io::Error::from)?;
        let (certificate, key) = tls::session_certificate()?;
        Ok(Self {
            media,
            listener,
            asking: Vec::new(),
            state: UdpSocketState::new((&socket).into())?,
            address: socket.local_addr()?,
            socket,
            identity: Arc::new(Identity::new(certificate, key).ok_or("an identity")?),
            viewers: Vec::new(),
            by_ufrag: HashMap::new(),
            by_address: HashMap::new(),
            buffers: vec![vec![0; RECEIVE_BYTES]; BATCH_SIZE],
            outbox: Outbox::default(),
            timers_at: clock::now(),
        })
    }

    /// Lets viewers in until it is time for the next frame.
    fn admit_until(&mut self, due: Instant) -> io::Result<()> {
        loop {
            while let Some((socket, _)) = or_none(self.listener.accept())? {
                socket.set_nonblocking(true)?;
                self.asking.push((socket, Vec::new()));
            }
            for (mut socket, mut request) in std::mem::take(&mut self.asking) {
                let mut piece = [0; 8 * 1024];
                while let Some(count @ 1..) = or_none(socket.read(&mut piece))? {
                    request.extend_from_slice(piece.get(..count).unwrap_or_default());
                }
                match body(&request) {
                    Some(offer) => self.answer(socket, offer)?,
                    None => self.asking.push((socket, request)),
                }
            }
            self.receive()?;
            if self.timers_at <= clock::now() {
                self.timers_at = clock::now() + TIMERS_EVERY;
                (0..self.viewers.len()).for_each(|index| self.drive(index, |peer, now| peer.handle_timeout(now)));
            }
            let left = due.saturating_duration_since(clock::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::park_timeout(left.min(ADMIT_EVERY));
        }
    }

    fn answer(&mut self, mut socket: TcpStream, offer: &str) -> io::Result<()> {
        let local = Local {
            ice: Credentials::random(),
            fingerprint: self.identity.fingerprint(),
            candidates: vec![Candidate::host_udp(self.address)],
            session_id: 1,
        };
        let ssrcs = Ssrcs { video: rand::random(), video_rtx: rand::random(), audio: rand::random() };
        let wants = play::Play { video: Some(self.media.video()), audio: None, ssrcs };
        let offer = Offer::parse(offer).map_err(io::Error::other)?;
        let (answer, terms) = play::answer(&offer, &local, &wants).map_err(io::Error::other)?;
        let track = terms.track(TrackKind::Video).cloned().ok_or(ErrorKind::InvalidData)?;
        let agent = Ice::Lite(Lite::new(&local.ice, &terms.transport.ice));
        let now = clock::now().into_std();
        let peer = Peer::new(&self.identity, agent, &terms.transport, Channels::Taken, now);
        self.by_ufrag.insert(local.ice.ufrag, self.viewers.len());
        self.viewers.push(Viewer { peer, track, ssrc: ssrcs.video, sequence: 0, is_watching: false });
        let length = answer.len();
        let head =
            format!("HTTP/1.1 201 Created\r\nlocation: /gone\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        socket.write_all([head, answer].concat().as_bytes())
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        loop {
            let mut buffers = std::mem::take(&mut self.buffers);
            let mut slices: Vec<_> = buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
            let received = or_none(self.state.recv((&self.socket).into(), &mut slices, &mut metas))?;
            for (buffer, meta) in buffers.iter_mut().zip(&metas).take(received.unwrap_or(0)) {
                let bytes = buffer.get_mut(..meta.len).unwrap_or_default();
                bytes.chunks_mut(meta.stride.max(1)).for_each(|datagram| self.handle(meta.addr, datagram));
            }
            self.buffers = buffers;
            if received.is_none() {
                return Ok(());
            }
        }
    }

    fn handle(&mut self, remote: SocketAddr, datagram: &mut [u8]) {
        let is_check = is_stun(datagram);
        let by_name = || request_ufrag(datagram).and_then(|ufrag| self.by_ufrag.get(ufrag));
        let viewer = if is_check { by_name() } else { self.by_address.get(&remote) };
        let Some(index) = viewer.copied() else { return };
        if is_check {
            self.by_address.insert(remote, index);
        }
        if !matches!(datagram.first(), Some(128..=191)) {
            let path = Path { remote, local: self.address, transport: Transport::Udp };
            self.drive(index, |peer, now| _ = peer.handle_datagram(now, path, datagram));
        }
    }

    fn drive(&mut self, index: usize, handle: impl FnOnce(&mut Peer, std::time::Instant)) {
        let Some(Viewer { peer, .. }) = self.viewers.get_mut(index) else { return };
        handle(peer, clock::now().into_std());
        while let Some(datagram) = peer.poll_transmit() {
            let _ = send(&self.state, &self.socket, datagram.path.remote, &datagram.bytes, None);
        }
        while peer.poll_event().is_some() {}
    }

    /// One frame to everybody.
    fn send(&mut self, timestamp: u32, is_keyframe: bool, packets: &Packets) {
        let Self { viewers, outbox, state, socket, .. } = self;
        for viewer in viewers {
            viewer.is_watching |= is_keyframe;
            let (Some(path), true) = (viewer.peer.path(), viewer.is_watching) else { continue };
            viewer.seal(timestamp, packets, state.max_gso_segments(), outbox);
            for (bytes, segment) in outbox.sends() {
                // What the kernel doesn't take is lost; the load generator counts it.
                let _ = send(state, socket, path.remote, bytes, segment);
            }
            outbox.clear();
        }
    }
}

impl Viewer {
    fn seal(&mut self, timestamp: u32, packets: &Packets, segments_max: usize, outbox: &mut Outbox) {
        let Some(sealer) = self.peer.sealer() else {
            self.is_watching = false;
            return;
        };
        for (nth, payload) in (1..).zip(packets.iter()) {
            let (marker, payload_type) = (nth == packets.len(), self.track.payload_type);
            let header = Header { marker, payload_type, sequence: self.sequence, timestamp, ssrc: self.ssrc };
            let (buffer, start) = outbox.begin();
            let transport_id = self.track.extensions.transport_cc.unwrap_or(0);
            header.write(&[(transport_id, &self.sequence.to_be_bytes())], buffer);
            let header_bytes = buffer.len() - start;
            buffer.extend_from_slice(payload);
            match sealer.seal_rtp(buffer, start, header_bytes) {
                Ok(()) => outbox.end(start, segments_max),
                Err(_) => outbox.abandon(start),
            }
            self.sequence = self.sequence.wrapping_add(1);
        }
    }
}

fn send(
    state: &UdpSocketState,
    socket: &UdpSocket,
    destination: SocketAddr,
    contents: &[u8],
    segment_size: Option<usize>,
) -> io::Result<()> {
    state.try_send(socket.into(), &Transmit { destination, ecn: None, contents, segment_size, src_ip: None })
}

/// The body of a request that has come whole.
fn body(request: &[u8]) -> Option<&str> {
    let request = std::str::from_utf8(request).ok()?;
    let (head, body) = request.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    })?;
    (body.len() >= length).then_some(body)
}

fn or_none<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// As hawker's packets have.
const PAYLOAD_BYTES_MAX: usize = 1156;
/// How soon a viewer is let in.
const ADMIT_EVERY: Duration = Duration::from_millis(5);
const TIMERS_EVERY: Duration = Duration::from_millis(50);
const RECEIVE_BYTES: usize = 64 * 1024;
