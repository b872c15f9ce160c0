//! WebRTC: WHIP publishers and WHEP viewers. HTTP says what they want (RFC 9725, draft-ietf-wish-whep); then each is
//! a session of its own on the shard that its request came to, behind that shard's one UDP port.

mod door;
mod http;
mod play;
mod publish;
mod session;
mod socket;
mod stream;

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::mpsc;

pub(super) use self::http::router;
use self::{
    door::Door,
    session::{Command, Role, Session},
    socket::Socket,
};
use super::Node;
use crate::{
    clock, config,
    egress::Egress,
    limits,
    media::StreamName,
    net::{
        access::Grant,
        descriptors::Descriptors,
        pending::{Pending, Place},
        tcp::{self, BindError},
        udp,
    },
    proto::{
        ice::{self, Lite},
        sdp::{Candidate, Local, Terms},
        webrtc::{Channels, Ice, Identity, Peer},
        whip::ResourceId,
    },
    task,
};

/// What all WebRTC sessions of a node share.
pub(super) struct WebRtc {
    /// Neither publishers nor viewers shall keep the others out.
    publishers: Side,
    viewers: Side,
    /// All sessions, by the resource that HTTP knows them as.
    resources: Mutex<HashMap<ResourceId, Resource>>,
}

/// What is counted apart for publishers and viewers.
struct Side {
    /// The handshakes that run.
    identity: Arc<Identity>,
    /// The sessions that are not connected.
    pending: Pending,
}

/// A session as HTTP knows it.
#[derive(Clone)]
struct Resource {
    name: StreamName,
    is_publisher: bool,
    commands: mpsc::Sender<Command>,
    /// Of its ICE session.
    etag: String,
    /// The peer's name in checks, to tell a restart from more candidates.
    peer_ufrag: String,
}

/// WebRTC on one shard.
pub(super) struct Shard {
    node: Arc<Node>,
    door: Arc<Door>,
    egress: Arc<Egress>,
}

impl WebRtc {
    /// Without sessions.
    pub(super) fn new(identity: Identity) -> Self {
        let side = |identity| Side {
            identity: Arc::new(identity),
            pending: Pending::new(limits::WEBRTC_PENDING_MAX, limits::WEBRTC_PENDING_PER_ADDRESS_MAX),
        };
        Self { viewers: side(identity.to_others()), publishers: side(identity), resources: Mutex::default() }
    }
}

/// Opens a port for each shard, UDP and TCP. With `take_over` the process before this one may have these: then the next
/// as many are taken. Peers are told which.
pub(super) fn bind(
    config: &config::WebRtc,
    shards: usize,
    take_over: bool,
) -> Result<Vec<(UdpSocket, TcpListener)>, BindError> {
    let bind = |first| (first..first + shards).map(|index| bind_both(config.listen_of(index), PORT_TRIES)).collect();
    let bound: Result<_, _> = bind(0);
    bound.or_else(|error| if take_over { bind(shards) } else { Err(error) })
}

/// The UDP port that the kernel chose may be another's as a TCP port.
fn bind_both(listen: SocketAddr, tries: u32) -> Result<(UdpSocket, TcpListener), BindError> {
    let both = || {
        let udp = udp::bind("WebRTC", listen, 1)?.pop();
        let address = udp.as_ref().and_then(|udp| udp.local_addr().ok()).unwrap_or(listen);
        let tcp = tcp::listen("WebRTC over TCP", address, 1)?.pop();
        udp.zip(tcp).ok_or_else(|| BindError::new("WebRTC", listen, &io::ErrorKind::Other.into()))
    };
    match both() {
        Err(_) if listen.port() == 0 && tries > 1 => bind_both(listen, tries - 1),
        bound => bound,
    }
}

impl Shard {
    /// Takes the shard's sockets over. To be called on its runtime.
    pub(super) fn new(node: Arc<Node>, egress: Arc<Egress>, udp: UdpSocket) -> io::Result<Arc<Self>> {
        let address = udp.local_addr()?;
        let door = Door::new(Socket::new(udp)?, address, node.metrics.clone());
        Ok(Arc::new(Self { node, door, egress }))
    }

    /// Receives datagrams, and TCP peers from `listener`, until told to stop.
    pub(super) async fn run(self: Arc<Self>, listener: TcpListener) -> io::Result<()> {
        let (door, node) = (self.door.clone(), self.node.clone());
        let accept = tcp::accept(listener, Descriptors::shared(), self.node.stop.clone(), move |stream, peer| {
            let place = node.pending.admit_silent(peer.ip());
            let door = door.clone();
            async move {
                if let Some(place) = place {
                    stream::connection(door, stream, peer, place).await;
                }
            }
        });
        tokio::select! {
            received = self.door.clone().run() => received,
            accepted = accept => accepted,
        }
    }

    /// Where a peer that reached us at `reached` finds this shard.
    fn candidates(&self, reached: IpAddr) -> Vec<Candidate> {
        let listen = self.door.address.ip();
        let public = &self.node.config.webrtc.public_addresses;
        let found = if listen.is_unspecified() { reached.to_canonical() } else { listen };
        let addresses = if public.is_empty() { vec![found] } else { public.clone() };
        let port = self.door.address.port();
        let both =
            |ip| [Candidate::host_udp(SocketAddr::new(ip, port)), Candidate::host_tcp(SocketAddr::new(ip, port))];
        addresses.into_iter().flat_map(both).collect()
    }

    /// Our side of a new session.
    fn local(&self, reached: IpAddr) -> Local {
        Local {
            ice: ice::Credentials::random(),
            fingerprint: self.node.webrtc.publishers.identity.fingerprint(),
            candidates: self.candidates(reached),
            session_id: rand::random::<u64>() >> 1,
        }
    }

    /// Starts a session that was agreed on.
    fn start(
        self: &Arc<Self>,
        name: StreamName,
        local: &Local,
        terms: &Terms,
        role: Role,
        grant: Grant,
        place: Place,
    ) -> ResourceId {
        let webrtc = &self.node.webrtc;
        let transport = &terms.transport;
        let seat = self.door.seat(local.ice.ufrag.clone());
        let agent = Ice::Lite(Lite::new(&local.ice, &transport.ice));
        let channels = if terms.data.is_some() { Channels::Taken } else { Channels::None };
        let is_publisher = matches!(role, Role::Publish(_));
        let side = if is_publisher { &webrtc.publishers } else { &webrtc.viewers };
        let peer = Peer::new(&side.identity, agent, transport, channels, clock::now().into_std());
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let id = ResourceId::random();
        let (etag, peer_ufrag) = (http::etag(local), transport.ice.ufrag.clone());
        let resource = Resource { name, is_publisher, commands, etag, peer_ufrag };
        webrtc.resources.lock().insert(id, resource);
        let listed = Listed { node: self.node.clone(), id };
        let session = Session::new(peer, role, seat, receiver, (grant, place), self.node.stop.clone());
        let run = async move {
            session.run().await;
            drop(listed);
        };
        task::spawn("webrtc session", self.node.sessions.track_future(run));
        id
    }
}

/// A session's entry among the resources. However it ends, a panic included, the entry goes with it.
struct Listed {
    node: Arc<Node>,
    id: ResourceId,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.node.webrtc.resources.lock().remove(&self.id);
    }
}

/// Times that a free port is looked for.
const PORT_TRIES: u32 = 8;
/// Requests that wait for a session's turn.
const COMMANDS_MAX: usize = 4;

#[cfg(test)]
mod tests;
