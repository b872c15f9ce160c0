//! Connections from many addresses: all of 127/8 is ours.

use std::{
    io::{ErrorKind, Read},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
};

use socket2::{Domain, Socket, Type};

/// The `n`th address of a flood that has as many as it likes.
pub(crate) fn source(n: usize) -> Ipv4Addr {
    let [.., high, low] = u32::try_from(n + 1).unwrap().to_be_bytes();
    Ipv4Addr::new(127, 9, high, low)
}

pub(crate) fn connect_from(source: impl Into<IpAddr>, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(source.into(), 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

/// True once the other side has closed it.
pub(crate) fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    match stream.read(&mut [0; 16]) {
        Err(error) => error.kind() != ErrorKind::WouldBlock,
        Ok(bytes) => bytes == 0,
    }
}
