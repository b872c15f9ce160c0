//! What the end-to-end tests share: a running `hawker dev`, foreign publishers, viewers that report what they see.

#![allow(dead_code, unused_imports, reason = "each test file uses its own part")]

mod dev;
mod peers;
mod process;
mod viewer;

pub(crate) use dev::{Dev, Node, Ports};
pub(crate) use peers::{H264_AAC, ffmpeg, ffmpeg_9, ffprobe, publish, with_values};
pub(crate) use process::{Process, run, run_ok, text};
pub(crate) use viewer::{Kind, Packet, Viewer, assert_even};
