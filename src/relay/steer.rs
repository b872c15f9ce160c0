//! Datagrams that the kernel gave to the wrong shard, on to the right one.
//!
//! Each shard has a socket of its own, and the kernel chooses among them by addresses. A client whose address changes
//! (a phone that leaves its Wi-Fi, a NAT that forgets) may so come to a shard that has never heard of it. The
//! connection ids that we give out name their shard, which is all that they tell an observer, and whoever gets
//! another's datagram hands it over.

use std::{
    fmt,
    io::{self, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use parking_lot::Mutex;
use quinn::{
    AsyncUdpSocket, ConnectionId, ConnectionIdGenerator, EndpointConfig, Runtime, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use rand::RngCore;
use tokio::sync::mpsc;

use crate::limits::MOQ_STEERED_MAX;

/// A shard's socket, and its way to the others.
pub struct Steered {
    socket: UdpSocket,
    shard: u16,
    mine: mpsc::Receiver<Datagram>,
    shards: Arc<[mpsc::Sender<Datagram>]>,
}

/// A datagram on its way to its shard.
struct Datagram {
    meta: RecvMeta,
    bytes: Box<[u8]>,
}

/// Joins the sockets of all shards, which listen on one address.
pub fn steer(sockets: Vec<UdpSocket>) -> Vec<Steered> {
    let (shards, mine): (Vec<_>, Vec<_>) = sockets.iter().map(|_| mpsc::channel(MOQ_STEERED_MAX)).unzip();
    let shards: Arc<[_]> = shards.into();
    let joined = (0..=u16::MAX).zip(sockets).zip(mine);
    joined.map(|((shard, socket), mine)| Steered { socket, shard, mine, shards: shards.clone() }).collect()
}

impl Steered {
    /// Where all of them listen.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// What a QUIC endpoint needs to read and write as this shard. To be called on the shard's runtime.
    pub(super) fn open(self, runtime: &dyn Runtime) -> io::Result<(EndpointConfig, Arc<dyn AsyncUdpSocket>)> {
        let Self { socket, shard, mine, shards } = self;
        let mut config = EndpointConfig::default();
        config.cid_generator(move || Box::new(Ids { shard }));
        let inner = runtime.wrap_udp_socket(socket)?;
        Ok((config, Arc::new(Socket { inner, shard, mine: Mutex::new(mine), shards })))
    }
}

/// Connection ids: the shard, then chance.
struct Ids {
    shard: u16,
}

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; ID_BYTES];
        rand::rng().fill_bytes(&mut id);
        let [first, second] = self.shard.to_be_bytes();
        (id[0], id[1]) = (first, second);
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// The shard that a datagram is for: that of its connection id, where that is one of ours (RFC 9000 §17.3.1).
/// Handshakes begin with ids that clients choose, and belong to who gets them.
fn shard_of(datagram: &[u8]) -> Option<u16> {
    match datagram {
        [first, high, low, ..] if first & LONG_HEADER == 0 => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    }
}

struct Socket {
    inner: Arc<dyn AsyncUdpSocket>,
    shard: u16,
    mine: Mutex<mpsc::Receiver<Datagram>>,
    shards: Arc<[mpsc::Sender<Datagram>]>,
}

impl Socket {
    /// Who gets the datagram, if that is another shard.
    fn other(&self, datagram: &[u8]) -> Option<&mpsc::Sender<Datagram>> {
        let shard = shard_of(datagram).filter(|shard| *shard != self.shard)?;
        self.shards.get(usize::from(shard))
    }

    /// Hands over what is for other shards of the datagrams that came in one buffer; the rest moves together.
    fn sort(&self, buffer: &mut [u8], meta: &mut RecvMeta) {
        let (stride, len) = (meta.stride.max(1), meta.len.min(buffer.len()));
        let whole = |buffer: &[u8]| !buffer.chunks(stride).any(|datagram| self.other(datagram).is_some());
        if buffer.get(..len).is_none_or(whole) {
            return;
        }
        let (mut kept, mut at) = (0, 0);
        while at < len {
            let end = (at + stride).min(len);
            let datagram = buffer.get(at..end).unwrap_or_default();
            match self.other(datagram) {
                Some(other) => {
                    let meta = RecvMeta { len: datagram.len(), stride: datagram.len(), ..*meta };
                    // A shard that can't keep up loses them, as a full socket buffer would.
                    let _ = other.try_send(Datagram { meta, bytes: datagram.into() });
                }
                None => {
                    buffer.copy_within(at..end, kept);
                    kept += end - at;
                }
            }
            at = end;
        }
        meta.len = kept;
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if let (Poll::Ready(Some(datagram)), Some(buffer), Some(meta)) =
            (self.mine.lock().poll_recv(cx), bufs.first_mut(), meta.first_mut())
        {
            let len = datagram.bytes.len().min(buffer.len());
            if let (Some(to), Some(from)) = (buffer.get_mut(..len), datagram.bytes.get(..len)) {
                to.copy_from_slice(from);
            }
            *meta = RecvMeta { len, ..datagram.meta };
            return Poll::Ready(Ok(1));
        }
        let received = ready!(self.inner.poll_recv(cx, bufs, meta))?;
        if self.shards.len() > 1 {
            bufs.iter_mut().zip(meta).take(received).for_each(|(buffer, meta)| self.sort(buffer, meta));
        }
        Poll::Ready(Ok(received))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("shard", &self.shard).finish_non_exhaustive()
    }
}

/// Of every connection id that we give out.
const ID_BYTES: usize = 8;

/// Set in the first byte of the packets of a handshake (RFC 9000 §17.2).
const LONG_HEADER: u8 = 0x80;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use quinn::TokioRuntime;

    use super::*;

    fn datagram(shard: u8, text: &[u8]) -> Vec<u8> {
        [&[0x40, 0, shard], text].concat()
    }

    #[test]
    fn ids_name_their_shard_and_differ() {
        let mut ids = Ids { shard: 258 };
        let (one, other) = (ids.generate_cid(), ids.generate_cid());
        assert_eq!((&one[..2], one.len()), (&[1, 2][..], ids.cid_len()));
        assert_ne!(one, other);
        assert_eq!(shard_of(&[&[0x4f], &one[..]].concat()), Some(258));
        assert_eq!(shard_of(&[&[0xcf], &one[..]].concat()), None, "a handshake");
        assert_eq!(shard_of(&[0x40, 1]), None, "too short");
    }

    #[tokio::test]
    async fn each_shard_gets_its_own_out_of_a_mixed_buffer() {
        let sockets = (0..2).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port")).collect();
        let shards = steer(sockets).into_iter().map(|shard| {
            shard.socket.set_nonblocking(true).expect("set");
            let Steered { socket, shard, mine, shards } = shard;
            let inner = TokioRuntime.wrap_udp_socket(socket).expect("a socket");
            Socket { inner, shard, mine: Mutex::new(mine), shards }
        });
        let [zero, one] = <[Socket; 2]>::try_from(shards.collect::<Vec<_>>()).expect("two");
        let parts = [datagram(0, b"aaa"), datagram(1, b"bbb"), datagram(9, b"ccc"), datagram(0, b"d")];
        let mut buffer = parts.concat();
        let mut meta = RecvMeta { len: buffer.len(), stride: 6, ..RecvMeta::default() };
        zero.sort(&mut buffer, &mut meta);
        assert_eq!(&buffer[..meta.len], [&parts[0][..], &parts[2], &parts[3]].concat(), "nobody is shard 9");
        let (mut into, mut meta) = ([0; 100], [RecvMeta::default()]);
        let mut bufs = [IoSliceMut::new(&mut into)];
        let received = std::future::poll_fn(|cx| one.poll_recv(cx, &mut bufs, &mut meta)).await;
        assert_eq!((received.expect("one"), meta[0].len, meta[0].stride), (1, 6, 6));
        assert_eq!(&into[..6], parts[1]);
    }
}
