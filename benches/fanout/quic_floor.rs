//! The floor under MoQ: quinn alone, with its defaults, sending shared bytes to whoever connects.
//!
//! It speaks as much moq-lite as a subscriber needs in order to count frames: every connection gets the picture
//! as the answer to its first subscription, one unidirectional stream a group. What a server costs above this
//! is its own.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use hawker::{
    net::tls::{Fingerprint, Identity},
    proto::moq::{
        container::legacy_frame_head,
        lite05::{ALPN, GroupHeader, Request, SubscribeReply},
    },
    task,
};
use quinn::{Connection, Endpoint, EndpointConfig, ServerConfig, TokioRuntime, crypto::rustls::QuicServerConfig};
use tokio::{
    runtime,
    sync::broadcast::{Receiver, Sender},
    time::{MissedTickBehavior, interval},
};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Frames a second.
    pub(crate) fps: u32,
    /// Frames of a group.
    pub(crate) group_frames: u64,
}

/// A frame, made once for all.
#[derive(Clone)]
struct Shared {
    group: u64,
    keyframe: bool,
    head: Bytes,
    payload: Bytes,
}

/// Serves subscribers on one thread until the process ends. `ready` is told where, and by which certificate;
/// `frame` makes the payload of the frame of a number.
pub(crate) fn serve(
    load: Load,
    frame: impl FnMut(u64) -> Bytes,
    ready: impl FnOnce(SocketAddr, Fingerprint),
) -> Result<(), Error> {
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let identity = Identity::development()?;
        let crypto = QuicServerConfig::try_from(identity.server(&[ALPN])?)?;
        let endpoint = Endpoint::new(
            EndpointConfig::default(),
            Some(ServerConfig::with_crypto(Arc::new(crypto))),
            socket()?,
            Arc::new(TokioRuntime),
        )?;
        ready(endpoint.local_addr()?, identity.fingerprint());
        let frames = Sender::new(FRAMES_HELD);
        task::spawn("accept", accept(endpoint, frames.clone()));
        produce(load, frame, &frames).await;
        Ok(())
    })
}

/// With the same kernel buffers as hawker asks for.
fn socket() -> io::Result<UdpSocket> {
    let sockets = hawker::net::udp::bind("floor", SocketAddr::from(([127, 0, 0, 1], 0)), 1);
    sockets.map_err(io::Error::other)?.pop().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

async fn accept(endpoint: Endpoint, frames: Sender<Shared>) {
    while let Some(incoming) = endpoint.accept().await {
        let frames = frames.subscribe();
        task::spawn("subscriber", async {
            if let Ok(connection) = incoming.await {
                // A subscriber that leaves ends its own task only.
                let _ = send(connection, frames).await;
            }
        });
    }
}

async fn produce(load: Load, mut frame: impl FnMut(u64) -> Bytes, frames: &Sender<Shared>) {
    let mut clock = interval(Duration::from_secs(1) / load.fps);
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 0.. {
        clock.tick().await;
        let payload = frame(number);
        let us = |number: u64| (number * 1_000_000 / u64::from(load.fps)).cast_signed();
        let keyframe = number.is_multiple_of(load.group_frames);
        let delta_us = if keyframe { us(number) } else { us(number) - us(number - 1) };
        let head = legacy_frame_head(delta_us, us(number), payload.len());
        // Nobody may be there yet.
        let _ = frames.send(Shared { group: number / load.group_frames, keyframe, head, payload });
    }
}

async fn send(connection: Connection, mut frames: Receiver<Shared>) -> Result<(), Error> {
    let (mut reply, mut requests) = connection.accept_bi().await?;
    let mut buffer = BytesMut::new();
    let subscribe = loop {
        match Request::decode(&mut buffer)? {
            Some(Request::Subscribe(subscribe)) => break subscribe.id,
            Some(_) => return Err("a subscription was expected".into()),
            None => {}
        }
        let chunk = requests.read_chunk(REQUEST_BYTES_MAX, true).await?.ok_or("no request")?;
        buffer.extend_from_slice(&chunk.bytes);
    };
    let mut stream = None;
    loop {
        let frame = frames.recv().await?;
        if frame.keyframe {
            let mut group = connection.open_uni().await?;
            let header = GroupHeader { subscribe, sequence: frame.group };
            if stream.is_none() {
                reply.write_chunk(SubscribeReply::Start { group: frame.group }.to_bytes().into()).await?;
            }
            group.write_chunk(header.to_stream().into()).await?;
            stream = Some(group);
        }
        if let Some(group) = &mut stream {
            group.write_all_chunks(&mut [frame.head, frame.payload]).await?;
        }
    }
}

/// A subscriber that falls further behind than this is dropped.
const FRAMES_HELD: usize = 256;

const REQUEST_BYTES_MAX: usize = 4096;
