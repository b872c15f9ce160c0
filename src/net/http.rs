//! HTTP/1.1 serving of a router on one listener, with the bounds that every request has.

use std::{
    convert::Infallible,
    future::{Future, pending, poll_fn},
    io,
    net::{SocketAddr, TcpListener},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo};
use futures_util::{FutureExt, TryFutureExt, future::BoxFuture};
use http::{HeaderValue, Request, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use super::{
    descriptors::Descriptors,
    pending::{Pending, Place},
    stall::StallGuard,
    stream::{Handshake, Stream},
    tcp,
};
use crate::limits;

/// Serves `router` until told to stop; requests under way are finished, keep-alive connections closed. Whoever
/// wants to see the last of them waits for `sessions`. When there are too many connections, the one that has been
/// without a request for longest is closed.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    handshake: Handshake,
    descriptors: Descriptors,
    stop: CancellationToken,
    sessions: TaskTracker,
) -> io::Result<()> {
    let connections = Pending::new(limits::HTTP_CONNECTIONS_MAX, limits::HTTP_CONNECTIONS_MAX);
    let closing = stop.clone();
    tcp::accept(listener, descriptors, stop, move |stream, peer| {
        let place = connections.admit_silent(peer.ip());
        let reached = Reached(stream.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0))));
        let (router, handshake, closing) = (router.clone(), handshake.clone(), closing.clone());
        sessions.track_future(async move {
            let Some(place) = place else { return };
            let spoke = tokio::select! {
                spoke = place.spoke(&stream, limits::HTTP_HEADER_TIMEOUT) => spoke,
                () = too_late(&closing, pending()) => false,
            };
            if spoke && let Some(stream) = handshake.accept(stream, peer).await {
                let stream = StallGuard::new(stream, limits::VIEWER_STALL_TIMEOUT);
                // Boxed: what comes after the first byte is not part of what a silent stranger costs.
                connection(stream, place, (peer, reached), router, closing).boxed().await;
            }
        })
    })
    .await
}

/// Why a request's body is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadBody {
    /// It has more bytes than it may.
    TooLarge,
    /// It did not come in time.
    TooSlow,
    /// The connection broke, or its framing did.
    Broken,
}

/// Reads a body of `bytes_max` at most. It costs what has come, however small the pieces it came in.
pub async fn read_body(body: Body, bytes_max: usize, within: Duration) -> Result<Vec<u8>, BadBody> {
    if usize::try_from(body.size_hint().lower()).is_ok_and(|bytes| bytes > bytes_max) {
        return Err(BadBody::TooLarge);
    }
    let mut body = body;
    let reading = async {
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| BadBody::Broken)?.into_data() else { continue };
            let length = bytes.len() + data.len();
            if length > bytes_max {
                return Err(BadBody::TooLarge);
            }
            if length > bytes.capacity() {
                bytes.reserve_exact(length.next_power_of_two().min(bytes_max) - bytes.len());
            }
            bytes.extend_from_slice(&data);
        }
        Ok(bytes)
    };
    tokio::time::timeout(within, reading).await.unwrap_or(Err(BadBody::TooSlow))
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

/// A request that is being answered, to the end of the answer's body: its connection doesn't give way.
struct UnderWay(Arc<Place>);

impl UnderWay {
    fn new(place: Arc<Place>) -> Self {
        place.heard();
        Self(place)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.is_silent();
    }
}

async fn connection(
    stream: StallGuard,
    place: Place,
    (peer, reached): (SocketAddr, Reached),
    router: Router,
    stop: CancellationToken,
) {
    // A first byte is no request yet.
    place.is_silent();
    let (place, takeover) = (Arc::new(place), Takeover::default());
    let (extension, kept) = (takeover.clone(), place.clone());
    let (asked, is_last) = (Arc::new(Notify::new()), stop.clone());
    let told = asked.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        told.notify_one();
        let under_way = UnderWay::new(kept.clone());
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(reached);
        request.extensions_mut().insert(extension.clone());
        let held = move |error| {
            let _ = &under_way;
            error
        };
        let is_last = is_last.clone();
        router.clone().oneshot(request).map_ok(move |answer| {
            let mut answer = answer.map(|body| body.map_err(held));
            if is_last.is_cancelled() {
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            answer
        })
    });
    let mut connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HTTP_HEADER_TIMEOUT)
        .max_buf_size(limits::HTTP_BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut stopped = pin!(too_late(&stop, asked.notified()));
    let mut stopping = false;
    let mut taken = pin!(place.taken());
    let ended = poll_fn(|cx| {
        if !stopping && stopped.as_mut().poll(cx).is_ready() {
            stopping = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(ended) => Poll::Ready(Err(ended)),
            // Whoever takes the connection does so while it is polled.
            Poll::Pending => match takeover.0.lock().take() {
                Some(taker) => Poll::Ready(Ok(taker)),
                None => taken.as_mut().poll(cx).map(|()| Err(Ok(()))),
            },
        }
    });
    match ended.await {
        Ok(taker) => {
            let stream = connection.into_parts().io.into_inner().into_inner();
            // The request is over for HTTP, and goes on here.
            place.heard();
            taker(stream).await;
        }
        Err(Err(error)) => tracing::debug!(%peer, %error, "http connection ended"),
        Err(Ok(())) => {}
    }
}

/// When a connection is closed after `stop`: at once if it has `asked` before, else a moment later. It may just have come
/// out of the listener's queue, with its request on the way.
async fn too_late(stop: &CancellationToken, asked: impl Future<Output = ()>) {
    stop.cancelled().await;
    let _ = tokio::time::timeout(limits::HTTP_LAST_REQUEST_TIMEOUT, asked).await;
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, time::Duration};

    use axum::routing::get;
    use bytes::Bytes;
    use futures_util::stream;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
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
        let place = Pending::new(1, 1).admit(peer.ip()).expect("room");
        let serving = connection(stream, place, (peer, Reached(peer)), routes, CancellationToken::new());
        let served = timeout(Duration::from_secs(10), serving);
        assert!(served.await.is_ok(), "still served though nobody reads");
        drop(client);
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_accepted_before_the_end_is_answered_once_and_no_more() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let mut client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connects");
        let (stream, peer) = listener.accept().await.expect("accepts");
        let stream = StallGuard::new(Stream::Plain(stream), Duration::from_secs(10));
        let routes = Router::new().route("/", get(|| async { "here" }));
        let place = Pending::new(1, 1).admit(peer.ip()).expect("room");
        let stop = CancellationToken::new();
        stop.cancel();
        let asking = async {
            tokio::time::sleep(limits::HTTP_LAST_REQUEST_TIMEOUT / 2).await;
            client.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.expect("open");
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.expect("an answer to its end");
            answer
        };
        let serving = connection(stream, place, (peer, Reached(peer)), routes, stop);
        let ((), answer) = tokio::join!(serving, asking);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("here"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
}
