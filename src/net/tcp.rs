//! TCP listeners that every shard opens on the same port, and the loop that accepts from one.

use std::{
    future::Future,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    time::Duration,
};

use futures_util::FutureExt;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::descriptors::Descriptors;
use crate::{
    clock::{self, Instant},
    limits, task,
};

/// An address that could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{what}: can't listen on {address}: {reason}")]
pub struct BindError {
    /// What was to listen there.
    pub what: &'static str,
    /// Where.
    pub address: SocketAddr,
    /// Why not, for people.
    pub reason: String,
}

impl BindError {
    /// Says it in words that help: which port is taken, which needs a privilege.
    pub fn new(what: &'static str, address: SocketAddr, error: &io::Error) -> Self {
        let reason = match error.kind() {
            io::ErrorKind::AddrInUse => format!("port {} is in use by another program", address.port()),
            io::ErrorKind::PermissionDenied => format!("port {} needs a privilege", address.port()),
            io::ErrorKind::AddrNotAvailable => "this machine doesn't have that address".into(),
            _ => error.to_string(),
        };
        Self { what, address, reason }
    }
}

/// Opens `count` listeners on one address; the kernel spreads connections over them.
///
/// The first is opened without `SO_REUSEPORT` once, so that another program on the port is noticed.
pub fn listen(what: &'static str, address: SocketAddr, count: usize) -> Result<Vec<StdListener>, BindError> {
    let fail = |error: io::Error| BindError::new(what, address, &error);
    let probe = socket(address, false).map_err(fail)?;
    let address = probe.local_addr().map_err(fail)?.as_socket().unwrap_or(address);
    drop(probe);
    (0..count).map(|_| socket(address, true).map(Into::into).map_err(fail)).collect()
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    if shared {
        socket.listen(BACKLOG)?;
    }
    Ok(socket)
}

/// Accepts until told to stop, the last ones that the kernel had accepted for us included. A connection for which
/// there is no descriptor is closed at once.
pub async fn accept<F, S>(
    listener: StdListener,
    descriptors: Descriptors,
    stop: CancellationToken,
    mut session: F,
) -> io::Result<()>
where
    F: FnMut(TcpStream, SocketAddr) -> S,
    S: Future<Output = ()> + Send + 'static,
{
    let (listener, mut warned) = (TcpListener::from_std(listener)?, None::<Instant>);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                // A socket that refuses is about to fail by itself.
                let _ = tune(SockRef::from(&stream));
                let Some(descriptor) = descriptors.take() else {
                    if warned.is_none_or(|warned| warned.elapsed() >= WARNING_INTERVAL) {
                        warned = Some(clock::now());
                        tracing::warn!(%peer, "closed: no file descriptor is left for another connection");
                    }
                    continue;
                };
                let session = session(stream, peer);
                task::spawn("tcp session", session.map(move |()| drop(descriptor)));
            }
            Err(error) if is_of_the_peer(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "accept paused");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Closing the socket would reset those who wait in its queue.
    let listener = listener.into_std()?;
    while let Ok((stream, peer)) = listener.accept() {
        stream.set_nonblocking(true)?;
        let _ = tune(SockRef::from(&stream));
        task::spawn("tcp session", session(TcpStream::from_std(stream)?, peer));
    }
    Ok(())
}

/// Sets what each connection is to have, whatever is spoken on it.
fn tune(socket: SockRef<'_>) -> io::Result<()> {
    // Frames are written whole; waiting to fill a packet would only delay them.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(limits::TCP_KEEPALIVE_IDLE)
            .with_interval(limits::TCP_KEEPALIVE_INTERVAL)
            .with_retries(limits::TCP_KEEPALIVE_PROBES),
    )?;
    socket.set_tcp_user_timeout(Some(limits::TCP_UNACKNOWLEDGED_MAX))?;
    socket.set_tcp_notsent_lowat(limits::TCP_UNSENT_BYTES_MAX)
}

/// The connection died before it was accepted; nothing is wrong here.
fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// How long accepting rests when descriptors or memory ran out: long enough to breathe, short enough that
/// it resumes within a second.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The same is not said more often than this.
const WARNING_INTERVAL: Duration = Duration::from_secs(1);

/// Connections the kernel holds for us while a shard is busy (a join storm); bounded by `somaxconn` too.
const BACKLOG: i32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[tokio::test]
    async fn whoever_is_accepted_can_t_hold_much_nor_vanish_unnoticed() {
        let listener = listen("test", loopback(), 1).expect("free port").pop().expect("one");
        let address = listener.local_addr().expect("bound");
        let (accepted, mut sockets) = tokio::sync::mpsc::channel(1);
        let accepting = accept(listener, Descriptors::shared(), CancellationToken::new(), move |stream, _| {
            let accepted = accepted.clone();
            async move { drop(accepted.send(stream).await) }
        });
        let _peer = TcpStream::connect(address).await.expect("connects");
        let stream = tokio::select! {
            stream = sockets.recv() => stream.expect("accepted"),
            ended = accepting => panic!("{ended:?}"),
        };
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().expect("told") && socket.keepalive().expect("told"));
        assert_eq!(socket.tcp_keepalive_time().expect("told"), limits::TCP_KEEPALIVE_IDLE);
        assert_eq!(socket.tcp_keepalive_interval().expect("told"), limits::TCP_KEEPALIVE_INTERVAL);
        assert_eq!(socket.tcp_keepalive_retries().expect("told"), limits::TCP_KEEPALIVE_PROBES);
        assert_eq!(socket.tcp_user_timeout().expect("told"), Some(limits::TCP_UNACKNOWLEDGED_MAX));
        assert_eq!(socket.tcp_notsent_lowat().expect("told"), limits::TCP_UNSENT_BYTES_MAX);
    }

    #[test]
    fn shards_share_a_port_and_others_are_told_that_it_is_taken() {
        let shards = listen("test", loopback(), 2).expect("free port");
        let address = shards[0].local_addr().expect("bound");
        assert_eq!(shards[1].local_addr().expect("bound"), address);
        let error = listen("RTMP", address, 1).expect_err("taken");
        assert_eq!(
            error.to_string(),
            format!("RTMP: can't listen on {address}: port {} is in use by another program", address.port())
        );
    }
}
