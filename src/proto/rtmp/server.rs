//! The server's side of a session: one publish or one play, decided by the caller.
//!
//! Until [`ServerSession::accept_publish`] or [`ServerSession::accept_play`] the peer is a stranger and held to
//! the setup limits. "Publish.Start" is sent only then: encoders that are refused after it reconnect in a loop.

mod answer;

use std::{collections::VecDeque, fmt, mem, time::Duration};

use bytes::Bytes;

use super::{
    SessionError,
    amf0::Value,
    chunk::ChunkLimits,
    connection::{Connection, Received},
    message::{Command, Typed, UserControl},
    query::{self, Query},
};
use crate::{
    limits,
    media::Metadata,
    proto::flv::{
        MediaTag, TagKind,
        script::{self, ScriptData},
        tag,
    },
};

/// A server session. Feed it with [`Self::handle_bytes`]; drain [`Self::poll_event`] and [`Self::poll_output`] after.
#[derive(Debug)]
pub struct ServerSession {
    connection: Connection,
    state: State,
    events: VecDeque<ServerEvent>,
    /// What came after a request that the caller has not answered yet.
    held: Vec<u8>,
    app: String,
    /// Queries of app and tcUrl; the name's own goes before them.
    query: Query,
    /// The message stream of the request, for its answers.
    stream_id: u32,
    /// The requested name, for its answers.
    name: String,
    /// The peer can be told to reconnect elsewhere.
    can_reconnect: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before `connect`.
    Greeting,
    Connected,
    PublishRequested,
    PlayRequested,
    Publishing,
    Playing,
    Closed,
}

/// What a session has to say to its caller.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerEvent {
    /// The peer introduced itself; already answered.
    Connect(ConnectInfo),
    /// Answer with [`ServerSession::accept_publish`] or [`ServerSession::reject`].
    PublishRequest(StreamRequest),
    /// Answer with [`ServerSession::accept_play`] or [`ServerSession::reject`].
    PlayRequest {
        /// Which stream.
        request: StreamRequest,
        /// -2 live or recorded, -1 live, else seconds; of no meaning for live streams.
        start: f64,
    },
    /// Audio or video of an accepted publisher.
    Media {
        /// Milliseconds, 32 bits, wrapping.
        timestamp: u32,
        /// What it is.
        tag: MediaTag,
    },
    /// A data message of an accepted publisher: an AMF0 name and its values.
    Data {
        /// Milliseconds, 32 bits, wrapping.
        timestamp: u32,
        /// The message.
        amf0: Bytes,
    },
    /// The publisher describes itself.
    Metadata(Metadata),
    /// The player pauses (true) or goes on.
    Pause(bool),
    /// The peer ended its publish or play in good order.
    Closed,
}

/// What `connect` said.
#[derive(Clone, PartialEq)]
pub struct ConnectInfo {
    /// The application, without query and outer slashes.
    pub app: String,
    /// The URL the peer believes it is connected to, without its query.
    pub tc_url: String,
    /// The peer's software, as it calls itself.
    pub flash_ver: String,
    /// The whole command object. It may hold keys: never log it.
    pub object: Value,
}

/// A request for one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRequest {
    /// The application, without query and outer slashes.
    pub app: String,
    /// The stream's name within it, without query.
    pub name: String,
    /// Queries of name, app and tcUrl, in this order.
    pub query: Query,
}

impl fmt::Debug for ConnectInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectInfo").field("app", &self.app).field("flash_ver", &self.flash_ver).finish()
    }
}

impl Default for ServerSession {
    fn default() -> Self {
        Self::new()
    }
}

impl ServerSession {
    /// A session on a connection just accepted.
    pub fn new() -> Self {
        Self {
            connection: Connection::server(),
            state: State::Greeting,
            events: VecDeque::new(),
            held: Vec::new(),
            app: String::new(),
            query: Query::default(),
            stream_id: 0,
            name: String::new(),
            can_reconnect: false,
        }
    }

    /// Takes bytes from the peer. While a request waits for its answer they are held, within a bound, so
    /// the caller does well not to read. After an error the session is over.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<(), SessionError> {
        let mut input = bytes;
        loop {
            match self.state {
                State::Closed => return Ok(()),
                State::PublishRequested | State::PlayRequested => return self.hold(input),
                _ => {}
            }
            let Some(received) = self.connection.next_message(&mut input)? else { return Ok(()) };
            self.handle_message(received)?;
        }
    }

    /// To be told while it publishes: what a publisher may send in small chunks goes by time.
    pub fn handle_time(&mut self, elapsed: Duration) {
        self.connection.handle_time(elapsed);
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<ServerEvent> {
        self.events.pop_front()
    }

    /// The next bytes to write.
    pub fn poll_output(&mut self) -> Option<Bytes> {
        self.connection.poll_output()
    }

    /// Lets the publisher in, and reads what it sent meanwhile.
    pub fn accept_publish(&mut self) -> Result<(), SessionError> {
        if self.state != State::PublishRequested {
            return Ok(());
        }
        self.state = State::Publishing;
        self.connection.authorise(ChunkLimits::PUBLISHER);
        self.answer_publish()?;
        self.release()
    }

    /// Lets the viewer in. From here on the caller writes media with [`super::encode_media`] and
    /// [`super::STREAM_ID`], between whole items of [`Self::poll_output`].
    pub fn accept_play(&mut self) -> Result<(), SessionError> {
        if self.state != State::PlayRequested {
            return Ok(());
        }
        self.state = State::Playing;
        self.connection.admit();
        self.answer_play()?;
        self.release()
    }

    /// Refuses a request, or ends a session with a reason; close after the output is flushed.
    ///
    /// `code` is NetStream's or NetConnection's, such as `NetStream.Publish.BadName`.
    pub fn reject(&mut self, code: &str, description: &str) -> Result<(), SessionError> {
        self.state = State::Closed;
        self.held = Vec::new();
        self.send_status("error", code, description)
    }

    fn hold(&mut self, input: &[u8]) -> Result<(), SessionError> {
        if self.held.len() + input.len() > limits::RTMP_SETUP_ASSEMBLY_BYTES_MAX {
            return Err(SessionError::HeldFull);
        }
        self.held.extend_from_slice(input);
        Ok(())
    }

    fn release(&mut self) -> Result<(), SessionError> {
        let held = mem::take(&mut self.held);
        self.handle_bytes(&held)
    }

    fn handle_message(&mut self, received: Received) -> Result<(), SessionError> {
        let Received { stream_id, timestamp, message } = received;
        match message {
            Typed::Command(command) => self.handle_command(stream_id, &command),
            // Only a publisher that was let in is listened to.
            _ if self.state != State::Publishing => Ok(()),
            Typed::Media(kind @ (TagKind::Audio | TagKind::Video), body) => {
                let tag = tag::parse(kind, body)?;
                self.events.push_back(ServerEvent::Media { timestamp, tag });
                Ok(())
            }
            Typed::Data(body) => {
                match script::parse(body, self.connection.amf0_limits())? {
                    ScriptData::Metadata(metadata) => self.events.push_back(ServerEvent::Metadata(metadata)),
                    ScriptData::Data(amf0) => self.events.push_back(ServerEvent::Data { timestamp, amf0 }),
                    ScriptData::ForPlayer => {}
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn handle_command(&mut self, stream_id: u32, command: &Command) -> Result<(), SessionError> {
        match command.name.as_str() {
            "connect" => self.handle_connect(command),
            "createStream" => self.answer(command, Value::Number(super::STREAM_ID.into())),
            "getStreamLength" => self.answer(command, Value::Number(0.0)),
            "releaseStream" | "FCPublish" | "_checkbw" => self.answer(command, Value::Undefined),
            "FCSubscribe" => self.answer_subscribe(command),
            "publish" => {
                let request = self.handle_request(stream_id, command)?;
                self.state = State::PublishRequested;
                self.events.push_back(ServerEvent::PublishRequest(request));
                Ok(())
            }
            "play" => {
                let request = self.handle_request(stream_id, command)?;
                let start = command.arguments.get(1).and_then(Value::as_number).unwrap_or(-2.0);
                self.state = State::PlayRequested;
                self.events.push_back(ServerEvent::PlayRequest { request, start });
                Ok(())
            }
            "pause" if self.state == State::Playing => {
                let pause = matches!(command.arguments.first(), Some(Value::Bool(true)));
                self.events.push_back(ServerEvent::Pause(pause));
                self.answer_pause(pause)
            }
            "FCUnpublish" | "closeStream" | "deleteStream" => self.handle_close(),
            // Answers to our pings, bandwidth checks, and whatever else clients say unasked.
            _ => Ok(()),
        }
    }

    fn handle_connect(&mut self, command: &Command) -> Result<(), SessionError> {
        if self.state != State::Greeting {
            return Err(SessionError::Unexpected("a second connect"));
        }
        let text = |key| command.object.get_str(key).unwrap_or_default();
        let (app, app_query) = query::split(text("app"));
        let (tc_url, tc_query) = query::split(text("tcUrl"));
        let info = ConnectInfo {
            app: bounded("app", app.trim_matches('/'), limits::RTMP_NAME_BYTES_MAX)?,
            tc_url: bounded("tcUrl", tc_url, limits::RTMP_NAME_BYTES_MAX)?,
            flash_ver: bounded("flashVer", text("flashVer"), limits::RTMP_NAME_BYTES_MAX)?,
            object: command.object.clone(),
        };
        self.app.clone_from(&info.app);
        // Clients derive the app from the tcUrl, so both usually carry the same query.
        self.query = Query::default().join(app_query).join(if tc_query == app_query { "" } else { tc_query });
        self.state = State::Connected;
        self.answer_connect(command)?;
        self.events.push_back(ServerEvent::Connect(info));
        Ok(())
    }

    fn handle_request(&mut self, stream_id: u32, command: &Command) -> Result<StreamRequest, SessionError> {
        match self.state {
            State::Connected => {}
            State::Greeting => return Err(SessionError::Unexpected("a stream is requested before connect")),
            _ => return Err(SessionError::Unexpected("a second stream is requested")),
        }
        let (name, name_query) = query::split(command.argument_str(0).unwrap_or_default());
        let query = Query::default().join(name_query).join(self.query.as_str());
        if query.as_str().len() > limits::RTMP_QUERY_BYTES_MAX {
            return Err(SessionError::TooLong { field: "query", bytes_max: limits::RTMP_QUERY_BYTES_MAX });
        }
        self.stream_id = stream_id;
        self.name = bounded("stream name", name.trim_matches('/'), limits::RTMP_NAME_BYTES_MAX)?;
        Ok(StreamRequest { app: self.app.clone(), name: self.name.clone(), query })
    }

    /// Encoders say goodbye up to three times; the first counts.
    fn handle_close(&mut self) -> Result<(), SessionError> {
        let publishing = self.state == State::Publishing;
        if publishing || self.state == State::Playing {
            self.state = State::Closed;
            self.events.push_back(ServerEvent::Closed);
        }
        if publishing { self.answer_unpublish() } else { Ok(()) }
    }

    /// Asks the peer for a sign of life; it comes back as bytes received.
    pub fn ping(&mut self, timestamp: u32) -> Result<(), SessionError> {
        self.connection.reply_control(UserControl::PingRequest(timestamp))
    }
}

fn bounded(field: &'static str, text: &str, bytes_max: usize) -> Result<String, SessionError> {
    if text.len() > bytes_max {
        return Err(SessionError::TooLong { field, bytes_max });
    }
    Ok(text.to_owned())
}

/// Fuzz entry: whatever a peer sends after a good handshake; every request is accepted.
pub mod fuzz {
    use super::{ServerEvent, ServerSession};

    /// `data` follows the handshake; the first byte says where it is split.
    pub fn rtmp_session(data: &[u8]) {
        let Some((&split, data)) = data.split_first() else { return };
        let (first, second) = data.split_at_checked(split.into()).unwrap_or((data, &[]));
        let mut session = ServerSession::new();
        for input in [&[3; 1 + 2 * 1536], first, second] {
            if session.handle_bytes(input).is_err() {
                return;
            }
            while let Some(event) = session.poll_event() {
                let accepted = match event {
                    ServerEvent::PublishRequest(_) => session.accept_publish(),
                    ServerEvent::PlayRequest { .. } => session.accept_play(),
                    _ => Ok(()),
                };
                if accepted.is_err() {
                    return;
                }
            }
            while session.poll_output().is_some() {}
        }
    }
}

#[cfg(test)]
mod tests;
