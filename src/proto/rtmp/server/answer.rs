//! What the server answers: results, statuses, and the prologues of publish and play.

use bytes::BytesMut;

use super::{ServerSession, State};
use crate::proto::{
    flv::TagBody,
    rtmp::{
        STREAM_ID, SessionError,
        amf0::{self, Value},
        message::{Command, UserControl},
    },
};

impl ServerSession {
    /// Tells a viewer that the stream has ended.
    pub fn end_play(&mut self, description: &str) -> Result<(), SessionError> {
        if self.state != State::Playing {
            return Ok(());
        }
        self.state = State::Closed;
        self.connection.reply_control(UserControl::StreamEof(STREAM_ID))?;
        self.send_status("status", "NetStream.Play.UnpublishNotify", description)
    }

    /// Asks the peer to connect anew, elsewhere if `tc_url` is given (Enhanced RTMP v2, "Reconnect Request").
    /// False if the peer never said that it can.
    pub fn request_reconnect(&mut self, tc_url: Option<&str>, description: &str) -> Result<bool, SessionError> {
        if !self.can_reconnect {
            return Ok(false);
        }
        let mut info = status("status", "NetConnection.Connect.ReconnectRequest", description);
        if let (Value::Object(properties), Some(tc_url)) = (&mut info, tc_url) {
            properties.push(("tcUrl".to_owned(), Value::string(tc_url)));
        }
        self.connection.reply_command(0, &Command::new("onStatus", 0.0, [info]))?;
        Ok(true)
    }

    pub(super) fn answer(&mut self, call: &Command, result: Value) -> Result<(), SessionError> {
        self.connection.reply_command(0, &Command::new("_result", call.transaction, [result]))
    }

    pub(super) fn answer_connect(&mut self, call: &Command) -> Result<(), SessionError> {
        let mut info = status("status", "NetConnection.Connect.Success", "Connection succeeded.");
        let caps_ex = call.object.get("capsEx").and_then(Value::as_number);
        let asks_enhanced =
            ["fourCcList", "videoFourCcInfoMap", "audioFourCcInfoMap"].iter().any(|key| call.object.get(key).is_some());
        if let Value::Object(properties) = &mut info {
            // What we send is AMF0, whatever the peer prefers.
            properties.push(("objectEncoding".to_owned(), Value::Number(0.0)));
            if asks_enhanced || caps_ex.is_some() {
                let four_ccs = FOUR_CCS.iter().map(|four_cc| Value::string(*four_cc)).collect();
                properties.push(("fourCcList".to_owned(), Value::StrictArray(four_ccs)));
                properties.push(("capsEx".to_owned(), Value::Number(CAPS_EX)));
            }
        }
        // Bit 0 of a whole number, given as a double.
        self.can_reconnect = caps_ex.is_some_and(|caps| caps.rem_euclid(2.0) >= 1.0);
        let server =
            Value::object([("fmsVer", Value::string("FMS/3,5,7,7009")), ("capabilities", Value::Number(31.0))]);
        self.connection.send_parameters(true)?;
        let result = Command { object: server, ..Command::new("_result", call.transaction, [info]) };
        self.connection.reply_command(0, &result)
    }

    pub(super) fn answer_subscribe(&mut self, call: &Command) -> Result<(), SessionError> {
        let name = call.argument_str(0).unwrap_or_default();
        let info = status("status", "NetStream.Play.Start", name);
        self.connection.reply_command(0, &Command::new("onFCSubscribe", 0.0, [info]))
    }

    pub(super) fn answer_publish(&mut self) -> Result<(), SessionError> {
        let info = status("status", "NetStream.Publish.Start", &self.name);
        // Some Flash-era encoders wait for this one, the rest ignore it.
        self.connection.reply_command(self.stream_id, &Command::new("onFCPublish", 0.0, [info]))?;
        self.connection.reply_control(UserControl::StreamBegin(STREAM_ID))?;
        self.send_status("status", "NetStream.Publish.Start", "Publishing.")
    }

    pub(super) fn answer_unpublish(&mut self) -> Result<(), SessionError> {
        let info = status("status", "NetStream.Unpublish.Success", &self.name);
        self.connection.reply_command(self.stream_id, &Command::new("onFCUnpublish", 0.0, [info]))?;
        self.send_status("status", "NetStream.Unpublish.Success", "Unpublished.")
    }

    pub(super) fn answer_play(&mut self) -> Result<(), SessionError> {
        self.connection.reply_control(UserControl::StreamBegin(STREAM_ID))?;
        self.send_status("status", "NetStream.Play.Reset", "Playing and resetting.")?;
        self.send_status("status", "NetStream.Play.Start", "Playing.")?;
        // Flash players keep sound and picture data from scripts without it.
        let mut access = BytesMut::new();
        amf0::encode_all(&[Value::string("|RtmpSampleAccess"), Value::Bool(true), Value::Bool(true)], &mut access);
        self.connection.send_media(STREAM_ID, 0, &TagBody::script(access.freeze()));
        Ok(())
    }

    pub(super) fn answer_pause(&mut self, pause: bool) -> Result<(), SessionError> {
        if pause {
            self.send_status("status", "NetStream.Pause.Notify", "Paused.")
        } else {
            self.send_status("status", "NetStream.Unpause.Notify", "Unpaused.")
        }
    }

    pub(super) fn send_status(&mut self, level: &str, code: &str, description: &str) -> Result<(), SessionError> {
        let command = Command::new("onStatus", 0.0, [status(level, code, description)]);
        self.connection.reply_command(self.stream_id, &command)
    }
}

fn status(level: &str, code: &str, description: &str) -> Value {
    Value::object([
        ("level", Value::string(level)),
        ("code", Value::string(code)),
        ("description", Value::string(description)),
    ])
}

/// What we take, as Enhanced RTMP names it.
const FOUR_CCS: [&str; 7] = ["avc1", "hvc1", "av01", "vp08", "vp09", "mp4a", "Opus"];
/// Reconnect, ModEx, timestamp nanosecond offset; not multitrack, of which we take only the first track.
const CAPS_EX: f64 = 13.0;
