//! A publisher of our own over RTMP, who does what an encoder wouldn't: any timestamps, any configuration, and he goes
//! without a word.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use bytes::Bytes;
use hawker::{
    media::{AudioConfig, Codec, VideoConfig},
    proto::{
        flv::TagBody,
        rtmp::{ClientConfig, ClientEvent, ClientMode, ClientSession},
    },
};

/// A publisher whom the server has accepted. Dropped, he is cut off: he doesn't unpublish.
pub(crate) struct Anchor {
    socket: TcpStream,
    session: ClientSession,
}

/// Why the server said no, or how it ended.
pub(crate) type Refused = String;

impl Anchor {
    pub(crate) fn publish(url: &str) -> Result<Self, Refused> {
        let config = ClientConfig::from_url(ClientMode::Publish, url).unwrap();
        let host = url.strip_prefix("rtmp://").and_then(|rest| rest.split('/').next()).expect("rtmp://host:port/…");
        let socket = TcpStream::connect(host).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut anchor = Self { socket, session: ClientSession::new(config) };
        match anchor.next()? {
            ClientEvent::Ready => Ok(anchor),
            other => Err(format!("{other:?}")),
        }
    }

    /// What the server says next; an error if it refuses or closes.
    pub(crate) fn next(&mut self) -> Result<ClientEvent, Refused> {
        loop {
            self.flush()?;
            match self.session.poll_event() {
                Some(ClientEvent::Rejected { description, .. }) => return Err(description),
                Some(ClientEvent::Closed) => return Err("closed".into()),
                Some(event) => return Ok(event),
                None => {}
            }
            let mut bytes = [0; 4096];
            match self.socket.read(&mut bytes) {
                Ok(0) => return Err("closed".into()),
                Ok(read) => self.session.handle_bytes(&bytes[..read]).map_err(|error| error.to_string())?,
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    fn flush(&mut self) -> Result<(), Refused> {
        while let Some(bytes) = self.session.poll_output() {
            self.socket.write_all(&bytes).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    pub(crate) fn send(&mut self, ms: u32, body: &TagBody) -> Result<(), Refused> {
        self.session.send(ms, body);
        self.flush()
    }

    /// The first tag of a session with pictures; another `variant` is another encoder.
    pub(crate) fn configure(&mut self, variant: u8) -> Result<(), Refused> {
        let avcc = Bytes::from(vec![1, 0x42, 0xc0, variant, 0xff, 0xe1, 0, 0, 1, 0, 0]);
        self.send(0, &TagBody::video_config(&VideoConfig::from_description(Codec::Avc, avcc)))
    }

    pub(crate) fn configure_sound(&mut self) -> Result<(), Refused> {
        let config = AudioConfig::from_description(Codec::Aac, Bytes::from_static(&[0x11, 0x90]));
        self.send(0, &TagBody::audio_config(&config))
    }

    pub(crate) fn picture(&mut self, ms: u32, keyframe: bool) -> Result<(), Refused> {
        self.send(ms, &TagBody::video_frame(Codec::Avc, keyframe, 0, Bytes::from_static(&[0, 0, 0, 2, 0x65, 0x88])))
    }

    pub(crate) fn sound(&mut self, ms: u32) -> Result<(), Refused> {
        self.send(ms, &TagBody::audio_frame(Codec::Aac, Bytes::from_static(&[0x21, 0x10, 0x04])))
    }
}
