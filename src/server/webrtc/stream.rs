//! ICE over TCP (RFC 6544), for networks that let no UDP out: the same datagrams, each with its length in front
//! (RFC 4571).

use std::{io, net::SocketAddr, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
    time::{timeout, timeout_at},
};

use super::door::Door;
use crate::{
    clock, limits,
    net::pending::Place,
    proto::ice::{
        Path, Transport,
        framing::{Frames, frame},
        stun::is_stun,
    },
};

/// What waits for a TCP peer's socket.
#[derive(Clone, Default)]
pub(super) struct Writer(Arc<Outgoing>);

#[derive(Default)]
struct Outgoing {
    bytes: Mutex<Vec<u8>>,
    more: Notify,
}

impl Writer {
    /// Queues packets. False if some have no room: they are lost, as on any link.
    pub(super) fn write<'a>(&self, packets: impl Iterator<Item = &'a [u8]>) -> bool {
        let mut bytes = self.0.bytes.lock();
        let mut all = true;
        for packet in packets {
            match bytes.len() + packet.len() <= limits::WEBRTC_TCP_QUEUE_BYTES_MAX {
                true => all &= frame(packet, &mut bytes).is_ok(),
                false => all = false,
            }
        }
        drop(bytes);
        self.0.more.notify_one();
        all
    }

    async fn take(&self) -> Vec<u8> {
        loop {
            let bytes = std::mem::take(&mut *self.0.bytes.lock());
            if !bytes.is_empty() {
                return bytes;
            }
            self.0.more.notified().await;
        }
    }
}

/// One connection. It must be accepted by a session at once.
pub(super) async fn connection(door: Arc<Door>, stream: TcpStream, peer: SocketAddr, place: Place) {
    let Ok(local) = stream.local_addr() else { return };
    let path = Path { remote: canonical(peer), local: canonical(local), transport: Transport::Tcp };
    let _ = exchange(&door, stream, path, place).await;
    door.leave(path);
}

async fn exchange(door: &Arc<Door>, stream: TcpStream, path: Path, place: Place) -> io::Result<()> {
    // Until it speaks it costs no buffer.
    let accepted_by = clock::now() + limits::WEBRTC_TCP_ACCEPT_TIMEOUT;
    if !place.spoke(&stream, limits::WEBRTC_TCP_ACCEPT_TIMEOUT).await {
        return Ok(());
    }
    let (mut reader, mut socket) = stream.into_split();
    let (mut frames, mut buffer) = (Frames::default(), vec![0; READ_BYTES]);
    let writer = Writer::default();
    let (mut is_known, mut place) = (false, Some(place));
    loop {
        match door.knows(&path) {
            true => drop(place.take()),
            // Its session has gone, or has had this way replaced by later ones.
            false if place.is_none() => return Ok(()),
            false => {}
        }
        let due = if place.is_some() { accepted_by } else { clock::now() + limits::WEBRTC_TCP_SILENCE_MAX };
        let bytes = tokio::select! {
            read = timeout_at(due, reader.read(&mut buffer)) => match read {
                Ok(Ok(count)) if count > 0 => buffer.get(..count).unwrap_or_default(),
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            },
            bytes = writer.take(), if is_known => {
                let sent = timeout(limits::VIEWER_STALL_TIMEOUT, socket.write_all(&bytes)).await;
                sent.map_err(|_| io::ErrorKind::TimedOut)??;
                continue;
            }
        };
        let mut is_stranger = false;
        let read = frames.read(bytes, |datagram| {
            if is_stranger {
                return;
            }
            if !is_known {
                // Before its session may answer.
                door.enter(path.remote, writer.clone());
            }
            let is_heard = door.handle(path, datagram);
            // A check that nobody hears: the session is gone.
            is_stranger = !is_heard && (!is_known || is_stun(datagram));
            is_known |= is_heard;
        });
        if is_stranger || read.is_err() {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

const READ_BYTES: usize = 4 * 1024;
