//! HTTP/1.1 serving of a router on one listener, with the bounds that every request has.

use std::{
    convert::Infallible,
    future::{Future, pending, poll_fn},
    io,
    net::{SocketAddr, TcpListener},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use axum::{Router, body::Body, extract::ConnectInfo};
use futures_util::future::BoxFuture;
use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use super::{
    pending::Pending,
    stall::StallGuard,
    stream::{Handshake, Stream},
    tcp,
};
use crate::limits;

/// Serves `router` until told to stop; requests under way are finished, keep-alive connections closed. Whoever
/// wants to see the last of them waits for `sessions`.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    handshake: Handshake,
    stop: CancellationToken,
    sessions: TaskTracker,
) -> io::Result<()> {
    let connections = Pending::new(limits::HTTP_CONNECTIONS_MAX, limits::HTTP_CONNECTIONS_MAX);
    let closing = stop.clone();
    tcp::accept(listener, stop, move |stream, peer| {
        let place = connections.admit(peer.ip());
        let reached = Reached(stream.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0))));
        let (router, handshake, closing) = (router.clone(), handshake.clone(), closing.clone());
        sessions.track_future(async move {
            let Some(_place) = place else { return };
            if let Some(stream) = handshake.accept(stream, peer).await {
                let stream = StallGuard::new(stream, limits::VIEWER_STALL_TIMEOUT);
                connection(stream, (peer, reached), router, closing).await;
            }
        })
    })
    .await
}

/// A request's way to take its connection out of HTTP: for responses without end, whose bytes are shared with
/// others and written by their own loop.
#[derive(Clone, Default)]
pub struct Takeover(Arc<Mutex<Option<Taker>>>);

type Taker = Box<dyn FnOnce(Stream) -> BoxFuture<'static, ()> + Send>;

impl Takeover {
    /// Hands the connection to `taker`, who answers the request himself. It never returns: the connection, and with it
    /// the request, is dropped meanwhile.
    pub async fn take<F>(self, taker: impl FnOnce(Stream) -> F + Send + 'static) -> Infallible
    where
        F: Future<Output = ()> + Send + 'static,
    {
        *self.0.lock() = Some(Box::new(move |stream| Box::pin(taker(stream))));
        pending().await
    }
}

/// The address that a request came to: how the client sees this host.
#[derive(Debug, Clone, Copy)]
pub struct Reached(pub SocketAddr);

async fn connection(
    stream: StallGuard,
    (peer, reached): (SocketAddr, Reached),
    router: Router,
    stop: CancellationToken,
) {
    let takeover = Takeover::default();
    let extension = takeover.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(reached);
        request.extensions_mut().insert(extension.clone());
        router.clone().oneshot(request)
    });
    let mut connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HTTP_HEADER_TIMEOUT)
        .max_buf_size(limits::HTTP_BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut stopped = pin!(stop.cancelled());
    let mut stopping = false;
    let ended = poll_fn(|cx| {
        if !stopping && stopped.as_mut().poll(cx).is_ready() {
            stopping = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(ended) => Poll::Ready(Err(ended)),
            // Whoever takes the connection does so while it is polled.
            Poll::Pending => takeover.0.lock().take().map_or(Poll::Pending, |taker| Poll::Ready(Ok(taker))),
        }
    });
    match ended.await {
        Ok(taker) => {
            let stream = connection.into_parts().io.into_inner().into_inner();
            taker(stream).await;
        }
        Err(Err(error)) => tracing::debug!(%peer, %error, "http connection ended"),
        Err(Ok(())) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, time::Duration};

    use axum::routing::get;
    use bytes::Bytes;
    use futures_util::stream;
    use tokio::{
        io::AsyncWriteExt,
        net::{TcpListener, TcpStream},
        time::timeout,
    };

    use super::*;

    #[tokio::test]
    async fn a_client_that_stops_reading_is_dropped() {
        let endless = || async {
            Body::from_stream(stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from_static(&[0; 32 * 1024]))))
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let mut client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connects");
        let (stream, peer) = listener.accept().await.expect("accepts");
        client.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.expect("open");
        let stream = StallGuard::new(Stream::Plain(stream), Duration::from_millis(200));
        let routes = Router::new().route("/", get(endless));
        let served = timeout(
            Duration::from_secs(10),
            connection(stream, (peer, Reached(peer)), routes, CancellationToken::new()),
        );
        assert!(served.await.is_ok(), "still served though nobody reads");
        drop(client);
    }
}
