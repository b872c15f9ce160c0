//! A TCP connection as sessions see it: plain, or with TLS on it.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::pending::{Pending, Place};
use crate::{limits, observe::metrics::Metrics};

/// A connection that was accepted. Plain ones pay for TLS with one branch a call.
pub enum Stream {
    /// As the kernel has it.
    Plain(TcpStream),
    /// After the handshake.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// The socket's own address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket().local_addr()
    }

    /// Waits for the peer's first byte, as [`Place::spoke`] does. Over TLS his handshake was that.
    pub async fn spoke(&self, place: &Place, within: Duration) -> bool {
        match self {
            Self::Plain(stream) => place.spoke(stream, within).await,
            Self::Tls(_) => {
                place.heard();
                true
            }
        }
    }

    /// Ends the connection. TLS tells its peer that nothing was cut off (RFC 8446 §6.1).
    pub async fn close(mut self) {
        if let Self::Tls(stream) = &mut self {
            // Who doesn't read it any more doesn't need it.
            let _ = timeout(limits::TLS_CLOSE_TIMEOUT, stream.shutdown()).await;
        }
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Does the TLS handshake of one listener's connections, within the node's bounds. Plain connections pass.
#[derive(Clone)]
pub struct Handshake {
    tls: Option<TlsAcceptor>,
    in_flight: Pending,
    metrics: Arc<Metrics>,
}

/// Why a connection got no further than its handshake.
#[derive(Debug, thiserror::Error)]
enum HandshakeError {
    #[error("too many TLS handshakes at once")]
    Full,
    #[error("no TLS handshake in time")]
    Timeout,
    #[error("TLS handshake: {0}")]
    Failed(#[from] io::Error),
}

impl Handshake {
    /// Without TLS, until [`Handshake::with_tls`].
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let in_flight = Pending::new(limits::TLS_HANDSHAKES_MAX, limits::TLS_HANDSHAKES_PER_ADDRESS_MAX);
        Self { tls: None, in_flight, metrics }
    }

    /// For a listener with TLS; it shares the bounds.
    pub fn with_tls(&self, config: Arc<ServerConfig>) -> Self {
        Self { tls: Some(config.into()), ..self.clone() }
    }

    /// Makes `stream` what sessions can use; `None` if nothing came of it, which is logged and counted.
    pub async fn accept(&self, stream: TcpStream, peer: SocketAddr) -> Option<Stream> {
        let Some(tls) = &self.tls else { return Some(Stream::Plain(stream)) };
        // Boxed: plain connections don't pay for its size.
        match Box::pin(self.handshake(tls, stream, peer)).await {
            Ok(stream) => Some(Stream::Tls(Box::new(stream))),
            Err(error) => {
                self.metrics.refused("tls_handshake");
                tracing::info!(%peer, reason = %error, "not accepted");
                None
            }
        }
    }

    async fn handshake(
        &self,
        tls: &TlsAcceptor,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> Result<TlsStream<TcpStream>, HandshakeError> {
        let place = self.in_flight.admit_silent(peer.ip()).ok_or(HandshakeError::Full)?;
        let handshake = async {
            // Until he says something he costs nothing but his socket.
            if !place.spoke(&stream, limits::TLS_HANDSHAKE_TIMEOUT).await {
                return Err(HandshakeError::Timeout);
            }
            Ok(tls.accept_with(stream, |tls| tls.set_buffer_limit(Some(limits::TLS_SEND_BYTES_MAX))).await?)
        };
        timeout(limits::TLS_HANDSHAKE_TIMEOUT, handshake).await.unwrap_or(Err(HandshakeError::Timeout))
    }
}
