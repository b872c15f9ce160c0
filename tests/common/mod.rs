//! What the end-to-end tests share: a running `hawker dev`, foreign publishers, viewers that report what they see.

#![allow(dead_code, unused_imports, reason = "each test file uses its own part")]

mod anchor;
mod api;
mod authority;
mod backend;
mod cluster;
mod dev;
mod flv;
mod link;
mod peers;
mod process;
mod seen;
mod strangers;
mod viewer;
mod wait;
mod webrtc;

pub(crate) use anchor::Anchor;
pub(crate) use api::{Api, Reply};
pub(crate) use authority::Authority;
pub(crate) use backend::{Backend, Mood};
pub(crate) use cluster::{Cluster, hawker, status};
pub(crate) use dev::{Dev, Node, Ports};
pub(crate) use flv::{Carried, FlvViewer, Seen, SeenPicture};
pub(crate) use link::{Impairment, Link, OVERTAKEN, Pipe, QUEUE_MAX};
pub(crate) use peers::{
    H264_AAC, browser, ffmpeg, ffmpeg_9, ffprobe, publish, publish_numbered, publish_whip, python, with_values,
};
pub(crate) use process::{Process, run, run_ok, text};
pub(crate) use seen::{Peer, Picture, assert_each_once, beeps, frame_0_us, lags_ms, pictures};
pub(crate) use strangers::{connect_from, is_closed, source};
pub(crate) use viewer::{Kind, Packet, Viewer, assert_even};
pub(crate) use wait::{fault_seed, wait_until};
pub(crate) use webrtc::{Answer, End, PUBLISH_KEY, Player, SDP, WebRtcNode};
