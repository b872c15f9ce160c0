//! The client's side of a session: what `push`, `watch` and pulling from other servers use.

use std::{collections::VecDeque, fmt};

use bytes::Bytes;

use super::{
    STREAM_ID, SessionError,
    amf0::Value,
    connection::{Connection, Received},
    message::{Command, Typed, UserControl},
};
use crate::{
    media::Metadata,
    proto::flv::{
        MediaTag, TagBody, TagKind,
        script::{self, ScriptData},
        tag,
    },
};

/// What a client session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientMode {
    /// Send a stream.
    Publish,
    /// Receive a stream.
    Play,
}

/// Where a client goes.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientConfig {
    /// Publish or play.
    pub mode: ClientMode,
    /// The application.
    pub app: String,
    /// The URL of the application.
    pub tc_url: String,
    /// The stream's name, with its query. It may hold a key.
    pub name: String,
}

/// A URL that names no stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an RTMP URL looks like rtmp://host[:port]/app/name[?query]")]
pub struct BadRtmpUrl;

impl ClientConfig {
    /// Splits `rtmp://host[:port]/app[/more]/name[?query]`: the last segment is the name.
    pub fn from_url(mode: ClientMode, url: &str) -> Result<Self, BadRtmpUrl> {
        let parsed: url::Url = url.parse().map_err(|_| BadRtmpUrl)?;
        let host = parsed.host_str().ok_or(BadRtmpUrl)?;
        let (app, name) = parsed.path().trim_matches('/').rsplit_once('/').ok_or(BadRtmpUrl)?;
        if !matches!(parsed.scheme(), "rtmp" | "rtmps") || app.is_empty() || name.is_empty() {
            return Err(BadRtmpUrl);
        }
        let port = parsed.port().map(|port| format!(":{port}")).unwrap_or_default();
        let query = parsed.query().map(|query| format!("?{query}")).unwrap_or_default();
        Ok(Self {
            mode,
            app: app.to_owned(),
            tc_url: format!("{}://{host}{port}/{app}", parsed.scheme()),
            name: format!("{name}{query}"),
        })
    }
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig").field("mode", &self.mode).field("tc_url", &self.tc_url).finish_non_exhaustive()
    }
}

/// What a client session has to say to its caller.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientEvent {
    /// The server took the request: media may flow.
    Ready,
    /// The server refused, or ended the session with an error.
    Rejected {
        /// Such as `NetStream.Publish.BadName`.
        code: String,
        /// For humans.
        description: String,
    },
    /// Audio or video.
    Media {
        /// Milliseconds, 32 bits, wrapping.
        timestamp: u32,
        /// What it is.
        tag: MediaTag,
    },
    /// A data message: an AMF0 name and its values.
    Data {
        /// Milliseconds, 32 bits, wrapping.
        timestamp: u32,
        /// The message.
        amf0: Bytes,
    },
    /// The stream's description.
    Metadata(Metadata),
    /// The stream has ended.
    Closed,
}

/// A client session; its first output is ready at once.
#[derive(Debug)]
pub struct ClientSession {
    config: ClientConfig,
    connection: Connection,
    state: State,
    /// The stream that the server created for us.
    stream_id: u32,
    events: VecDeque<ClientEvent>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Handshake,
    Connecting,
    Creating,
    Requested,
    Running,
    Closed,
}

impl ClientSession {
    /// A session on a connection just made.
    pub fn new(config: ClientConfig) -> Self {
        Self {
            config,
            connection: Connection::client(),
            state: State::Handshake,
            stream_id: STREAM_ID,
            events: VecDeque::new(),
        }
    }

    /// Takes bytes from the server. After an error the session is over.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        let mut input = bytes;
        loop {
            let received = self.connection.next_message(&mut input)?;
            if self.state == State::Handshake && self.connection.is_greeted() {
                self.send_connect()?;
            }
            let Some(received) = received else { return Ok(()) };
            self.handle_message(received)?;
        }
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        self.events.pop_front()
    }

    /// The next bytes to write.
    pub fn poll_output(&mut self) -> Option<Bytes> {
        self.connection.poll_output()
    }

    /// Queues media or data; nothing before [`ClientEvent::Ready`]. The caller paces itself by the output's drain.
    pub fn send(&mut self, timestamp: u32, body: &TagBody) {
        if self.state == State::Running {
            self.connection.send_media(self.stream_id, timestamp, body);
        }
    }

    /// Says goodbye; close after the output is flushed.
    pub fn close(&mut self) -> Result<(), SessionError> {
        if self.state == State::Running {
            if self.config.mode == ClientMode::Publish {
                self.call("FCUnpublish", 6.0, [Value::string(self.config.name.as_str())])?;
            }
            self.call("deleteStream", 7.0, [Value::Number(self.stream_id.into())])?;
        }
        self.state = State::Closed;
        Ok(())
    }

    fn handle_message(&mut self, received: Received) -> Result<(), SessionError> {
        let Received { timestamp, message, .. } = received;
        match message {
            Typed::Command(command) => return self.handle_command(&command),
            Typed::UserControl(UserControl::StreamEof(_)) => self.end(ClientEvent::Closed),
            Typed::Media(kind @ (TagKind::Audio | TagKind::Video), body) => {
                let tag = tag::parse(kind, body)?;
                self.events.push_back(ClientEvent::Media { timestamp, tag });
            }
            Typed::Data(body) => match script::parse(body, self.connection.amf0_limits())? {
                ScriptData::Metadata(metadata) => self.events.push_back(ClientEvent::Metadata(metadata)),
                ScriptData::Data(amf0) => self.events.push_back(ClientEvent::Data { timestamp, amf0 }),
                ScriptData::ForPlayer => {}
            },
            _ => {}
        }
        Ok(())
    }

    fn handle_command(&mut self, command: &Command) -> Result<(), SessionError> {
        let info = command.arguments.first().unwrap_or(&Value::Null);
        match (command.name.as_str(), self.state) {
            ("_result", State::Connecting) if command.transaction == CONNECT => self.send_create_stream(),
            ("_result", State::Creating) if command.transaction == CREATE_STREAM => {
                self.stream_id = stream_id(info);
                self.send_request()
            }
            // Other calls are courtesies; servers that don't know them may say so.
            ("_error", _) if [CONNECT, CREATE_STREAM].contains(&command.transaction) => {
                self.reject(info);
                Ok(())
            }
            ("onStatus", _) => {
                self.handle_status(info);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn handle_status(&mut self, info: &Value) {
        match info.get_str("code").unwrap_or_default() {
            "NetStream.Publish.Start" | "NetStream.Play.Start" if self.state == State::Requested => {
                self.state = State::Running;
                self.events.push_back(ClientEvent::Ready);
            }
            "NetStream.Play.UnpublishNotify" | "NetStream.Play.Stop" | "NetStream.Play.Complete" => {
                self.end(ClientEvent::Closed);
            }
            _ if info.get_str("level") == Some("error") => self.reject(info),
            _ => {}
        }
    }

    fn reject(&mut self, info: &Value) {
        let text = |key| info.get_str(key).unwrap_or_default().to_owned();
        self.end(ClientEvent::Rejected { code: text("code"), description: text("description") });
    }

    fn end(&mut self, event: ClientEvent) {
        if self.state != State::Closed {
            self.state = State::Closed;
            self.events.push_back(event);
        }
    }

    fn send_connect(&mut self) -> Result<(), SessionError> {
        self.state = State::Connecting;
        self.connection.send_parameters(false)?;
        let four_ccs = ["avc1", "hvc1", "av01", "vp08", "vp09", "Opus", "mp4a"].map(Value::string);
        let object = Value::object([
            ("app", Value::string(self.config.app.as_str())),
            ("type", Value::string("nonprivate")),
            ("flashVer", Value::string("FMLE/3.0 (compatible; hawker)")),
            ("tcUrl", Value::string(self.config.tc_url.as_str())),
            ("fpad", Value::Bool(false)),
            ("capabilities", Value::Number(15.0)),
            ("audioCodecs", Value::Number(4071.0)),
            ("videoCodecs", Value::Number(252.0)),
            ("videoFunction", Value::Number(1.0)),
            ("fourCcList", Value::StrictArray(four_ccs.into())),
        ]);
        self.connection.reply_command(0, &Command { object, ..Command::new("connect", CONNECT, []) })
    }

    fn send_create_stream(&mut self) -> Result<(), SessionError> {
        self.state = State::Creating;
        let name = Value::string(self.config.name.as_str());
        if self.config.mode == ClientMode::Publish {
            self.call("releaseStream", 2.0, [name.clone()])?;
            self.call("FCPublish", 3.0, [name])?;
        }
        self.call("createStream", CREATE_STREAM, [])
    }

    fn send_request(&mut self) -> Result<(), SessionError> {
        self.state = State::Requested;
        let name = Value::string(self.config.name.as_str());
        let request = match self.config.mode {
            ClientMode::Publish => Command::new("publish", REQUEST, [name, Value::string("live")]),
            // -2000: live if there is one; in milliseconds, as Flash and every client since sends it.
            ClientMode::Play => Command::new("play", REQUEST, [name, Value::Number(-2000.0)]),
        };
        self.connection.reply_command(self.stream_id, &request)?;
        match self.config.mode {
            ClientMode::Publish => Ok(()),
            ClientMode::Play => self.connection.reply_control(UserControl::SetBufferLength(self.stream_id, BUFFER_MS)),
        }
    }

    fn call<const N: usize>(
        &mut self,
        name: &str,
        transaction: f64,
        arguments: [Value; N],
    ) -> Result<(), SessionError> {
        self.connection.reply_command(0, &Command::new(name, transaction, arguments))
    }
}

/// A message stream id out of a number on the wire; ours if it is none.
fn stream_id(value: &Value) -> u32 {
    let number = value.as_number().unwrap_or_default();
    format!("{number:.0}").parse().unwrap_or(STREAM_ID)
}

/// Transaction ids, in the order of the calls.
const CONNECT: f64 = 1.0;
const CREATE_STREAM: f64 = 4.0;
const REQUEST: f64 = 5.0;

const BUFFER_MS: u32 = 1000;

#[cfg(test)]
mod tests;
