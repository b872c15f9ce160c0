//! A socket whose peer has to go on taking what it asked for.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use super::stream::Stream;

/// A stream whose writes fail with `TimedOut` once the peer has taken not one byte for a while. For those who
/// leave writing to a library; viewers of FLV and RTMP have a loop of their own.
pub struct StallGuard {
    stream: Stream,
    stall_max: Duration,
    /// Runs while a write waits. Most never do, and cost nothing.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl StallGuard {
    /// Guards `stream`.
    pub fn new(stream: Stream, stall_max: Duration) -> Self {
        Self { stream, stall_max, deadline: None }
    }

    /// The connection, unguarded.
    pub fn into_inner(self) -> Stream {
        self.stream
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.deadline = None;
            return written;
        }
        let stall_max = self.stall_max;
        ready!(self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall_max))).as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for StallGuard {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for StallGuard {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpSocket},
    };

    use super::*;

    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_noticed_and_one_that_reads_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(16 * 1024).expect("set");
        let connect = socket.connect(listener.local_addr().expect("bound"));
        let (peer, accepted) = tokio::join!(connect, listener.accept());
        let (mut peer, (stream, _)) = (peer.expect("connects"), accepted.expect("accepts"));
        let mut guard = StallGuard::new(Stream::Plain(stream), Duration::from_millis(200));
        let bytes = vec![7; 16 << 20];
        let mut seen = vec![0; bytes.len()];
        let (written, read) = tokio::join!(guard.write_all(&bytes), peer.read_exact(&mut seen));
        assert!(written.is_ok() && read.is_ok());
        let error = guard.write_all(&bytes).await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
