//! HTTP/1.1 serving of a router on one listener, with the bounds that every request has.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use axum::{Router, body::Body, extract::ConnectInfo};
use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{pending::Pending, tcp};
use crate::limits;

/// Serves `router` until told to stop; requests under way are finished, keep-alive connections closed.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> io::Result<()> {
    let connections = Pending::new(limits::HTTP_CONNECTIONS_MAX, limits::HTTP_CONNECTIONS_MAX);
    let closing = stop.clone();
    tcp::accept(listener, stop, move |stream, peer| {
        let place = connections.admit(peer.ip());
        let connection = connection(stream, peer, router.clone(), closing.clone());
        async move {
            if place.is_some() {
                connection.await;
            }
            drop(place);
        }
    })
    .await
}

async fn connection(stream: tokio::net::TcpStream, peer: SocketAddr, router: Router, stop: CancellationToken) {
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request)
    });
    let mut connection = std::pin::pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits::HTTP_HEADER_TIMEOUT)
            .max_buf_size(limits::HTTP_BUFFER_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "http connection ended");
    }
}
