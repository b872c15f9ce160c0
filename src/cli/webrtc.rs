//! The tools' end of WebRTC: a WHIP publisher or a WHEP viewer, on a UDP socket of its own.

use std::{
    cell::RefCell,
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, OnceLock},
    time::{self, Duration},
};

use bytes::Bytes;
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use reqwest::{StatusCode, header};
use socket2::SockRef;
use tokio::{io::Interest, net::UdpSocket, time::timeout_at};
use url::Url;

pub(super) use self::receiver::Receiver;
use super::{root_cause, sentence};
use crate::{
    clock::{self, Instant},
    media::Codec,
    net::tls::{self, TlsError},
    proto::{
        ice::{self, Path},
        rtp::packet::Header,
        sdp::{BadSdp, Local, Ssrcs, Terms, client},
        webrtc::{Channels, Ice, Identity, Media, Outbox, Over, Peer, PeerEvent},
        whip,
    },
};

mod receiver;

/// Why there is no session, or no more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error("{server}: {reason}")]
    Unreachable { server: String, reason: String },
    #[error("the server refused: {status}{said}")]
    Refused { status: StatusCode, said: String },
    #[error("the server's answer can't be used: {0}")]
    Sdp(#[from] BadSdp),
    #[error("the server's answer has no {0}")]
    Lacking(&'static str),
    #[error(transparent)]
    Over(#[from] Over),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("no certificate: {0}")]
    Certificate(#[from] TlsError),
    #[error("DTLS takes no certificate of ours")]
    Dtls,
}

/// What a session has to tell.
#[derive(Debug)]
pub(super) enum Input<'a> {
    /// So many bytes came; what was in them follows.
    Arrived(usize),
    /// An RTP packet.
    Rtp(&'a [u8]),
    /// A compound RTCP packet.
    Rtcp(&'a [u8]),
    /// The channel of events is open: what happens from now on is told.
    ChannelOpen,
    /// A message on it.
    Message(Bytes),
}

/// One session. The server is told when it is dropped.
pub(super) struct Session {
    peer: Peer,
    socket: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    terms: Terms,
    resource: Url,
    outbox: Outbox,
}

/// Where the offer goes, if `url` is of that kind, `whip` or `whep`: `whep://host/name` is short for
/// `http://host/whep/name`.
pub(super) fn endpoint(url: &Url, kind: &str) -> Option<Url> {
    match url.scheme() {
        "http" => url.path().strip_prefix('/')?.strip_prefix(kind)?.starts_with('/').then(|| url.clone()),
        scheme if scheme == kind => {
            let (host, name) = url.as_str().strip_prefix(kind)?.strip_prefix("://")?.split_once('/')?;
            format!("http://{host}/{kind}/{name}").parse().ok()
        }
        _ => None,
    }
}

impl Session {
    /// Asks to play what is at `url`, in any codec, with its events. It is not connected yet: call [`Session::turn`].
    pub(super) async fn play(url: &Url) -> Result<Self, Failed> {
        Self::open(url, Channels::Opened(whip::EVENTS_CHANNEL), |local| client::play(local, &CODECS, true)).await
    }

    /// Asks to publish there with these SSRCs, H.264 and perhaps Opus. It is not connected yet: call
    /// [`Session::turn`].
    pub(super) async fn publish(url: &Url, with_sound: bool, ssrcs: Ssrcs) -> Result<Self, Failed> {
        let sound = with_sound.then_some(Codec::Opus);
        Self::open(url, Channels::None, |local| client::publish(local, Some(Codec::Avc), sound, ssrcs)).await
    }

    async fn open(url: &Url, channels: Channels, offer: impl FnOnce(&Local) -> String) -> Result<Self, Failed> {
        let identity = identity()?;
        let local = Local {
            ice: ice::Credentials::random(),
            fingerprint: identity.fingerprint(),
            candidates: Vec::new(),
            session_id: rand::random::<u64>() >> 1,
        };
        let (terms, resource) = post(url, offer(&local)).await?;
        let transport = &terms.transport;
        let remotes: Vec<_> =
            transport.candidates.iter().filter(|found| found.transport == ice::Transport::Udp).collect();
        let first = remotes.first().ok_or(Failed::Lacking("UDP address"))?.address;
        let socket = bind(first.is_ipv6())?;
        let address = socket.local_addr()?;
        let same_family = remotes.iter().filter(|found| found.address.is_ipv6() == first.is_ipv6());
        let paths = same_family.map(|found| path(found.address, address));
        let now = clock::now().into_std();
        let agent = Ice::Client(ice::Client::new(now, &local.ice, &transport.ice, paths));
        Ok(Self {
            peer: Peer::new(&identity, agent, transport, channels, now),
            state: UdpSocketState::new((&socket).into())?,
            socket,
            local: address,
            terms,
            resource,
            outbox: Outbox::default(),
        })
    }

    /// What was agreed upon.
    pub(super) fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Media may flow.
    pub(super) fn is_connected(&mut self) -> bool {
        self.peer.sealer().is_some()
    }

    /// Waits until something comes, or until `until`, and tells of it. To be called again and again; dropping the
    /// future loses nothing.
    pub(super) async fn turn(
        &mut self,
        until: Instant,
        mut handle: impl FnMut(time::Instant, Input<'_>),
    ) -> Result<(), Failed> {
        let due = self.peer.poll_timeout().map_or(until, |due| until.min(Instant::from_std(due)));
        let readable = timeout_at(due, self.socket.readable()).await;
        let now = clock::now().into_std();
        if let Ok(readable) = readable {
            readable?;
            self.receive(now, &mut handle)?;
        }
        if self.peer.poll_timeout().is_some_and(|due| due <= now) {
            self.peer.handle_timeout(now);
        }
        self.tell(now, &mut handle)?;
        self.transmit();
        Ok(())
    }

    fn receive(&mut self, now: time::Instant, handle: &mut impl FnMut(time::Instant, Input<'_>)) -> Result<(), Failed> {
        BUFFERS.with_borrow_mut(|buffers| {
            let mut metas = [RecvMeta::default(); BATCH];
            let received = self.socket.try_io(Interest::READABLE, || {
                let mut slices = buffers.each_mut().map(|buffer| IoSliceMut::new(buffer));
                self.state.recv((&self.socket).into(), &mut slices, &mut metas)
            });
            let count = match received {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                received => received?,
            };
            handle(now, Input::Arrived(metas.iter().take(count).map(|meta| meta.len).sum()));
            for (buffer, meta) in buffers.iter_mut().zip(&metas).take(count) {
                let path = path(meta.addr, self.local);
                let bytes = buffer.get_mut(..meta.len).unwrap_or_default();
                for datagram in bytes.chunks_mut(meta.stride.max(1)) {
                    match self.peer.handle_datagram(now, path, datagram) {
                        Some(Media::Rtp(packet)) => handle(now, Input::Rtp(packet)),
                        Some(Media::Rtcp(packet)) => handle(now, Input::Rtcp(packet)),
                        None => self.tell(now, handle)?,
                    }
                }
            }
            Ok(())
        })
    }

    fn tell(&mut self, now: time::Instant, handle: &mut impl FnMut(time::Instant, Input<'_>)) -> Result<(), Failed> {
        while let Some(event) = self.peer.poll_event() {
            match event {
                PeerEvent::Connected | PeerEvent::ChannelClosed { .. } => {}
                PeerEvent::ChannelOpen { .. } => handle(now, Input::ChannelOpen),
                PeerEvent::Message { data, .. } => handle(now, Input::Message(data)),
                PeerEvent::Over(over) => return Err(over.into()),
            }
        }
        Ok(())
    }

    /// Queues an RTP packet, its payload in two parts; [`Session::flush`] sends it.
    pub(super) fn send_rtp(&mut self, header: &Header, extensions: &[(u8, &[u8])], payload: [&[u8]; 2]) {
        let Some(sealer) = self.peer.sealer() else { return };
        let (buffer, start) = self.outbox.begin();
        header.write(extensions, buffer);
        let header_bytes = buffer.len() - start;
        payload.iter().for_each(|part| buffer.extend_from_slice(part));
        match sealer.seal_rtp(buffer, start, header_bytes) {
            Ok(()) => self.outbox.end(start, self.state.max_gso_segments()),
            Err(_) => self.outbox.abandon(start),
        }
    }

    /// Queues a compound RTCP packet; [`Session::flush`] sends it.
    pub(super) fn send_rtcp(&mut self, packet: &[u8]) {
        let Some(sealer) = self.peer.sealer() else { return };
        let (buffer, start) = self.outbox.begin();
        buffer.extend_from_slice(packet);
        match sealer.seal_rtcp(buffer, start) {
            Ok(()) => self.outbox.end(start, self.state.max_gso_segments()),
            Err(_) => self.outbox.abandon(start),
        }
    }

    /// Sends what is queued. What the kernel doesn't take at once is lost, as on any link.
    pub(super) fn flush(&mut self) {
        if let Some(path) = self.peer.path() {
            self.outbox.sends().for_each(|(bytes, segment)| self.send(path.remote, bytes, segment));
        }
        self.outbox.clear();
    }

    fn transmit(&mut self) {
        while let Some(datagram) = self.peer.poll_transmit() {
            self.send(datagram.path.remote, &datagram.bytes, None);
        }
    }

    fn send(&self, destination: SocketAddr, contents: &[u8], segment_size: Option<usize>) {
        let transmit = Transmit { destination, ecn: None, contents, segment_size, src_ip: None };
        let _ = self.socket.try_io(Interest::WRITABLE, || self.state.try_send((&self.socket).into(), &transmit));
    }

    /// Ends it over HTTP: a stream that was published is over then.
    pub(super) async fn close(self) -> Result<(), Failed> {
        let delete = http().delete(self.resource.clone()).timeout(CLOSE_TIMEOUT).send().await;
        delete.map(drop).map_err(|error| unreachable(&self.resource, &error))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.peer.close(clock::now().into_std());
        self.transmit();
    }
}

/// The answer to an offer, and the session's resource (RFC 9725 §4.2).
async fn post(url: &Url, offer: String) -> Result<(Terms, Url), Failed> {
    let fail = |error: reqwest::Error| unreachable(url, &error);
    let request = http().post(url.clone()).timeout(ANSWER_TIMEOUT).header(header::CONTENT_TYPE, whip::SDP);
    let answer = request.body(offer).send().await.map_err(fail)?;
    let status = answer.status();
    let location = answer.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
    let resource = location.and_then(|location| answer.url().join(location).ok());
    let text = answer.text().await.map_err(fail)?;
    if status != StatusCode::CREATED {
        return Err(Failed::Refused { status, said: sentence(&text) });
    }
    Ok((client::accept(&text)?, resource.ok_or(Failed::Lacking("Location"))?))
}

fn unreachable(url: &Url, error: &reqwest::Error) -> Failed {
    let port = url.port_or_known_default().map(|port| format!(":{port}")).unwrap_or_default();
    Failed::Unreachable { server: format!("{}{port}", url.host_str().unwrap_or_default()), reason: root_cause(error) }
}

thread_local! {
    /// Its connections belong to this thread's runtime.
    static HTTP: reqwest::Client = reqwest::Client::new();
    /// What comes is looked at before more is received.
    static BUFFERS: RefCell<[Vec<u8>; BATCH]> = RefCell::new(std::array::from_fn(|_| vec![0; RECEIVE_BYTES]));
}

fn http() -> reqwest::Client {
    HTTP.with(Clone::clone)
}

/// One certificate will do for all sessions of a process.
fn identity() -> Result<Arc<Identity>, Failed> {
    static IDENTITY: OnceLock<Arc<Identity>> = OnceLock::new();
    if let Some(identity) = IDENTITY.get() {
        return Ok(identity.clone());
    }
    let (certificate, key) = tls::session_certificate()?;
    let identity = Arc::new(Identity::new(certificate, key).ok_or(Failed::Dtls)?);
    Ok(IDENTITY.get_or_init(|| identity).clone())
}

fn bind(is_ipv6: bool) -> io::Result<UdpSocket> {
    let any: IpAddr = if is_ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let socket = std::net::UdpSocket::bind((any, 0))?;
    // The kernel may give less, which is no error.
    let _ = SockRef::from(&socket).set_recv_buffer_size(BUFFER_BYTES);
    let _ = SockRef::from(&socket).set_send_buffer_size(BUFFER_BYTES);
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

fn path(remote: SocketAddr, local: SocketAddr) -> Path {
    Path { remote, local, transport: ice::Transport::Udp }
}

/// What a player takes: all that a stream may have.
const CODECS: [Codec; 6] = [Codec::Avc, Codec::Hevc, Codec::Av1, Codec::Vp9, Codec::Vp8, Codec::Opus];
/// Servers may wait for a publisher before they answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Receives of one system call, each of what the kernel has put together (GRO).
const BATCH: usize = 4;
const RECEIVE_BYTES: usize = 64 * 1024;
/// Kernel buffer asked for: a keyframe fits while the process does something else.
const BUFFER_BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_short_for_their_endpoint() {
        let of = |text: &str, kind| endpoint(&text.parse().expect("a URL"), kind).map(String::from);
        let whole = "http://127.0.0.1:8080/whep/live/room?token=t";
        assert_eq!(of("whep://127.0.0.1:8080/live/room?token=t", "whep").as_deref(), Some(whole));
        assert_eq!(of(whole, "whep").as_deref(), Some(whole));
        for other in ["http://127.0.0.1/live/whep.flv", "http://127.0.0.1/wheplive/x", "whip://127.0.0.1/live/room"] {
            assert_eq!(of(other, "whep"), None, "{other}");
        }
    }
}
