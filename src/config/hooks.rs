//! `[hooks]`: the operator's backend, asked who may come and told what happens.

use std::{path::PathBuf, time::Duration};

use ipnet::IpNet;
use serde::Deserialize;
use url::Url;

/// `[hooks]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hooks {
    /// Where the calls go, `http` or `https` (default: nowhere).
    pub url: Option<Url>,
    /// What they are signed with: a file with at least 16 bytes. Needed beside `url`.
    pub secret_file: Option<PathBuf>,
    /// Trust certificates that this PEM file signed, instead of the system's.
    pub ca: Option<PathBuf>,
    /// What the backend is asked before it may begin (default: nothing).
    pub decide: Vec<Decide>,
    /// What the backend is told (default: nothing).
    pub notify: Vec<Notify>,
    /// Who asks waits this long, retries included; then he is refused (default 1500).
    pub timeout_ms: u64,
    /// Questions under way at once; further ones wait their turn within `timeout_ms` (default 16).
    pub concurrency: usize,
    /// A yes to a viewer holds for others with his token and stream this long (default 0: each is asked about).
    pub cache_ms: u64,
    /// Notices that wait for the backend; beyond it the oldest go first, those of viewers before others (default 4096).
    pub queue_max: usize,
    /// Networks that may be called beside public addresses (default: none).
    pub allow: Vec<IpNet>,
}

impl Default for Hooks {
    fn default() -> Self {
        Self {
            url: None,
            secret_file: None,
            ca: None,
            decide: Vec::new(),
            notify: Vec::new(),
            timeout_ms: 1500,
            concurrency: 16,
            cache_ms: 0,
            queue_max: 4096,
            allow: Vec::new(),
        }
    }
}

impl Hooks {
    /// `timeout_ms`.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// `cache_ms`.
    pub fn cache(&self) -> Duration {
        Duration::from_millis(self.cache_ms)
    }
}

/// What a backend may decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decide {
    /// May he send this stream?
    Publish,
    /// May he watch it?
    Play,
}

/// What a backend may be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Notify {
    /// A stream began.
    Publish,
    /// It ended.
    Unpublish,
    /// Its publisher is gone, and may come back.
    Interrupted,
    /// He came back.
    Resumed,
    /// Somebody was let in to watch.
    Play,
    /// He left.
    Stop,
    /// A commerce event was accepted.
    Event,
}

impl Notify {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Unpublish => "unpublish",
            Self::Interrupted => "interrupted",
            Self::Resumed => "resumed",
            Self::Play => "play",
            Self::Stop => "stop",
            Self::Event => "event",
        }
    }
}
