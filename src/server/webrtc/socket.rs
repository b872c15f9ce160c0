//! A shard's UDP socket for all its WebRTC sessions: many datagrams a system call, both ways.

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
};

use parking_lot::Mutex;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use tokio::io::Interest;

use crate::proto::ice::{Path, Transport};

/// A bound socket.
pub(super) struct Socket {
    socket: tokio::net::UdpSocket,
    state: Mutex<UdpSocketState>,
    address: SocketAddr,
}

impl Socket {
    /// Takes a bound socket over. To be called on the shard's runtime.
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        let address = socket.local_addr()?;
        Ok(Self { socket: tokio::net::UdpSocket::from_std(socket)?, state: Mutex::new(state), address })
    }

    /// Datagrams that one send may hold, all of one size but the last.
    pub(super) fn segments_max(&self) -> usize {
        self.state.lock().max_gso_segments()
    }

    /// Sends what the kernel takes at once. What it doesn't take is lost, as on any link.
    pub(super) fn send(&self, path: &Path, contents: &[u8], segment_size: Option<usize>) -> io::Result<()> {
        let transmit = Transmit {
            destination: self.outward(path.remote),
            ecn: None,
            contents,
            segment_size,
            src_ip: (!path.local.ip().is_unspecified()).then(|| self.outward(path.local).ip()),
        };
        let send = || self.state.lock().try_send((&self.socket).into(), &transmit);
        let sent = self.socket.try_io(Interest::WRITABLE, send);
        if segment_size.is_none() && sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::InvalidInput) {
            // An address that can't be sent to or from. The library takes it for a kernel without GSO.
            *self.state.lock() = UdpSocketState::new((&self.socket).into())?;
        }
        sent
    }

    /// Waits for datagrams and hands each to `handle`, until the socket fails.
    pub(super) async fn receive(&self, mut handle: impl FnMut(Path, &[u8])) -> io::Result<()> {
        let mut buffers = vec![vec![0; RECEIVE_BYTES]; BATCH_SIZE];
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        loop {
            let received = self.socket.async_io(Interest::READABLE, || {
                let mut slices = slices(&mut buffers);
                self.state.lock().recv((&self.socket).into(), &mut slices, &mut metas)
            });
            let count = received.await?;
            for (buffer, meta) in buffers.iter().zip(&metas).take(count) {
                let local = meta.dst_ip.map_or(self.address.ip(), |ip| ip.to_canonical());
                let path = Path {
                    remote: SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port()),
                    local: SocketAddr::new(local, self.address.port()),
                    transport: Transport::Udp,
                };
                if !can_answer(&path) {
                    continue;
                }
                let bytes = buffer.get(..meta.len).unwrap_or_default();
                for datagram in bytes.chunks(meta.stride.max(1)) {
                    handle(path, datagram);
                }
            }
        }
    }

    /// An address as this socket's family writes it.
    fn outward(&self, address: SocketAddr) -> SocketAddr {
        match (self.address, address.ip()) {
            (SocketAddr::V6(_), IpAddr::V4(v4)) => SocketAddr::new(IpAddr::V6(v4.to_ipv6_mapped()), address.port()),
            _ => address,
        }
    }
}

fn slices(buffers: &mut [Vec<u8>]) -> [IoSliceMut<'_>; BATCH_SIZE] {
    let mut buffers = buffers.iter_mut();
    std::array::from_fn(|_| IoSliceMut::new(buffers.next().map_or(&mut [], Vec::as_mut_slice)))
}

/// False for what no answer could go to or come from.
fn can_answer(path: &Path) -> bool {
    let is_one = |ip: IpAddr| !ip.is_multicast() && ip != IpAddr::V4(Ipv4Addr::BROADCAST);
    path.remote.port() != 0 && is_one(path.remote.ip()) && !path.remote.ip().is_unspecified() && is_one(path.local.ip())
}

/// Room for a batch that the kernel has put together (GRO).
const RECEIVE_BYTES: usize = 64 * 1024;
