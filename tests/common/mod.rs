//! What the end-to-end tests share: a running `hawker dev`, foreign publishers, viewers that report what they see.

#![allow(dead_code, unused_imports, reason = "each test file uses its own part")]

mod api;
mod cluster;
mod dev;
mod flv;
mod link;
mod peers;
mod process;
mod viewer;

pub(crate) use api::{Api, Reply};
pub(crate) use cluster::{Cluster, hawker, status};
pub(crate) use dev::{Dev, Node, Ports};
pub(crate) use flv::{Carried, FlvViewer, Seen};
pub(crate) use link::{Impairment, Link, OVERTAKEN, Pipe, QUEUE_MAX};
pub(crate) use peers::{H264_AAC, ffmpeg, ffmpeg_9, ffprobe, publish, with_values};
pub(crate) use process::{Process, run, run_ok, text};
pub(crate) use viewer::{Kind, Packet, Viewer, assert_even};
