//! UDP sockets that every shard opens on the same port.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
};

use socket2::{Domain, Protocol, Socket, Type};

use super::tcp::BindError;

/// Opens `count` sockets on one address; the kernel keeps each peer on one of them.
///
/// The address is first opened without `SO_REUSEPORT`, so that another program on the port is noticed.
pub fn bind(what: &'static str, address: SocketAddr, count: usize) -> Result<Vec<UdpSocket>, BindError> {
    let fail = |error: io::Error| BindError::new(what, address, &error);
    let probe = socket(address, false).map_err(fail)?;
    let address = probe.local_addr().map_err(fail)?;
    drop(probe);
    (0..count).map(|_| socket(address, true).map_err(fail)).collect()
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    // The kernel caps these at rmem_max and wmem_max; less than asked for is no error.
    let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(BUFFER_BYTES);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Kernel buffer asked for: a burst of keyframes to many viewers fits while a shard does something else.
const BUFFER_BYTES: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_a_port_and_others_are_told_that_it_is_taken() {
        let shards = bind("test", SocketAddr::from(([127, 0, 0, 1], 0)), 2).expect("free port");
        let address = shards[0].local_addr().expect("bound");
        assert_eq!(shards[1].local_addr().expect("bound"), address);
        let error = bind("MoQ", address, 1).expect_err("taken");
        assert!(error.to_string().contains("in use by another program"), "{error}");
    }
}
