//! The socket under an RTMP client session, for `push` and `watch`.

use std::{io, time::Duration};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use url::Url;

use super::root_cause;
use crate::proto::{
    flv::TagBody,
    rtmp::{ClientConfig, ClientEvent, ClientMode, ClientSession, SessionError, client::BadRtmpUrl},
};

/// Why a session didn't start, or ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error(transparent)]
    Url(#[from] BadRtmpUrl),
    #[error("rtmps is not supported yet; use rtmp")]
    Tls,
    #[error("{address}: {reason}")]
    Connect { address: String, reason: String },
    #[error("the server refused: {}", if .description.is_empty() { .code } else { .description })]
    Rejected { code: String, description: String },
    #[error("the server ended the stream")]
    Ended,
    #[error("the server closed the connection before it answered; it may not like the name or the key")]
    ClosedEarly,
    #[error("the connection was lost: {0}")]
    Lost(#[from] io::Error),
    #[error("the server takes less than the stream sends: {} KiB are waiting", BACKLOG_BYTES_MAX >> 10)]
    Backlog,
    #[error("the server did not answer within {} s", SETUP_TIMEOUT.as_secs())]
    Silent,
    #[error(transparent)]
    Protocol(#[from] SessionError),
}

impl Failed {
    fn is_lost(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::Ended)
    }

    /// Whether another attempt may end better.
    pub(super) fn is_passing(&self) -> bool {
        !matches!(self, Self::Url(_) | Self::Tls | Self::Rejected { .. } | Self::Protocol(_))
    }
}

/// A session that the server has accepted.
pub(super) struct Client {
    socket: TcpStream,
    session: ClientSession,
    out: BytesMut,
    read: BytesMut,
    is_ready: bool,
}

impl Client {
    /// Connects and asks to publish or play; returns once the server has agreed.
    pub(super) async fn connect(url: &Url, mode: ClientMode) -> Result<Self, Failed> {
        let config = ClientConfig::from_url(mode, url.as_str())?;
        if url.scheme() == "rtmps" {
            return Err(Failed::Tls);
        }
        let host = url.host_str().unwrap_or_default();
        let address = format!("{host}:{}", url.port().unwrap_or(DEFAULT_PORT));
        timeout(SETUP_TIMEOUT, async {
            let connected = TcpStream::connect(&address).await;
            let socket = connected.map_err(|e| Failed::Connect { address, reason: root_cause(&e) })?;
            socket.set_nodelay(true)?;
            let mut client = Self {
                socket,
                session: ClientSession::new(config),
                out: BytesMut::new(),
                read: BytesMut::with_capacity(READ_BYTES),
                is_ready: false,
            };
            while !client.is_ready {
                // Some servers refuse a key by hanging up.
                let event = client.next().await.map_err(|e| if e.is_lost() { Failed::ClosedEarly } else { e })?;
                client.is_ready = event == ClientEvent::Ready;
            }
            Ok(client)
        })
        .await
        .map_err(|_| Failed::Silent)?
    }

    /// The next event; writes what is queued meanwhile. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<ClientEvent, Failed> {
        loop {
            self.take_output();
            match self.session.poll_event() {
                Some(ClientEvent::Rejected { code, description }) => {
                    return Err(Failed::Rejected { code, description });
                }
                Some(ClientEvent::Closed) => return Err(Failed::Ended),
                Some(event) => return Ok(event),
                None => {}
            }
            let (mut reader, mut writer) = self.socket.split();
            tokio::select! {
                read = reader.read_buf(&mut self.read) => {
                    if read? == 0 {
                        return Err(Failed::Ended);
                    }
                    self.session.handle_bytes(&self.read)?;
                    self.read.clear();
                }
                written = writer.write_buf(&mut self.out), if self.out.has_remaining() => {
                    written?;
                }
            }
        }
    }

    /// Queues a tag; [`Client::next`] writes it.
    pub(super) fn send(&mut self, timestamp_ms: u32, body: &TagBody) -> Result<(), Failed> {
        self.session.send(timestamp_ms, body);
        self.take_output();
        if self.out.len() > BACKLOG_BYTES_MAX { Err(Failed::Backlog) } else { Ok(()) }
    }

    /// Says goodbye, as far as the server listens.
    pub(super) async fn close(mut self) -> Result<(), Failed> {
        self.session.close()?;
        self.take_output();
        timeout(CLOSE_TIMEOUT, self.socket.write_all_buf(&mut self.out)).await.map_err(|_| Failed::Silent)??;
        Ok(self.socket.shutdown().await?)
    }

    fn take_output(&mut self) {
        while let Some(bytes) = self.session.poll_output() {
            self.out.extend_from_slice(&bytes);
        }
    }
}

const DEFAULT_PORT: u16 = 1935;
const READ_BYTES: usize = 64 * 1024;
const BACKLOG_BYTES_MAX: usize = 8 << 20;
const SETUP_TIMEOUT: Duration = Duration::from_secs(10);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
