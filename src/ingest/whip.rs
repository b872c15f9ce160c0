//! stub
#![allow(missing_docs)]
use crate::{
    clock::Instant,
    hub::{Publisher, Replaced, Stream},
    proto::sdp::Terms,
};
use std::{sync::Arc, time::Duration};
#[derive(Debug, Clone, Copy, Default)]
pub struct Counters {
    pub video_frames: u64,
    pub audio_frames: u64,
    pub bytes: u64,
    pub lost: u64,
    pub recovered: u64,
    pub malformed: u64,
    pub keyframe_requests: u64,
}
pub struct RtpIngest {
    publisher: Publisher,
}
impl RtpIngest {
    pub fn new(publisher: Publisher, _terms: Terms, _interval: Duration, _now: Instant) -> Self {
        Self { publisher }
    }
    pub fn handle_rtp(&mut self, _now: Instant, _p: &[u8]) -> Result<(), Replaced> {
        Ok(())
    }
    pub fn handle_rtcp(&mut self, _now: Instant, _p: &[u8]) {}
    pub fn handle_timeout(&mut self, _now: Instant) -> Result<(), Replaced> {
        Ok(())
    }
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    pub fn poll_feedback(&mut self, _now: Instant) -> Option<Vec<u8>> {
        None
    }
    pub fn counters(&self) -> Counters {
        Counters::default()
    }
    pub fn codecs(&self) -> String {
        String::new()
    }
    pub fn stream(&self) -> &Arc<Stream> {
        self.publisher.stream()
    }
    pub fn replaced(&self) -> impl Future<Output = Replaced> + use<> {
        self.publisher.replaced()
    }
    pub fn end(self) {
        self.publisher.end();
    }
}
