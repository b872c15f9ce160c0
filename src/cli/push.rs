//! `hawker push`: a file as a live anchor over RTMP, looped without a seam.

use std::{future::Future, path::PathBuf, time::Duration};

use bytes::BytesMut;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{sleep, timeout_at};
use url::Url;

use super::{
    Outcome, mark,
    rtmp::{Client, Failed},
    source::Clip,
};
use crate::{
    clock::{self, Instant},
    media::{Codec, Frame, Metadata, Scalar, TrackKind},
    proto::{
        flv::{TagBody, script},
        rtmp::{ClientMode, amf0},
    },
    secret::redact,
};

/// Arguments of `hawker push`.
#[derive(Debug, clap::Args)]
#[command(allow_missing_positional = true)]
pub struct Args {
    /// FLV or MP4: H.264, H.265, AV1 or VP9 with AAC or Opus.
    #[arg(required_unless_present = "sample", conflicts_with = "sample")]
    file: Option<PathBuf>,
    /// rtmp://host/app/name?key=…
    #[arg(required = true)]
    url: Url,
    /// Push the built-in clip.
    #[arg(long)]
    sample: bool,
    /// End with the file instead of starting it again.
    #[arg(long)]
    once: bool,
    /// Connect again when the connection is lost.
    #[arg(long)]
    reconnect: bool,
}

/// Publishes until the file, the server or the user ends it.
pub(super) async fn run(args: Args) -> Outcome {
    let clip = match &args.file {
        Some(path) => Clip::load(path).map_err(|e| format!("{}: {e}", path.display()))?,
        None => Clip::sample(),
    };
    let mut push = Push::new(&clip, &args.url, args.once, progress_bar());
    let interrupted = async {
        // Without signals, the process ends at the first.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    eprintln!("pushing to {}", redact(args.url.as_str()));
    push.keep_on(args.reconnect, interrupted).await?;
    push.progress.finish();
    Ok(())
}

/// Pushes the built-in clip to `url` until `stop`, connecting again when the connection is lost.
pub(super) async fn run_sample(url: &str, stop: impl Future<Output = ()>) -> Outcome {
    let (clip, url) = (Clip::sample(), url.parse()?);
    Ok(Push::new(&clip, &url, false, ProgressBar::hidden()).keep_on(true, stop).await?)
}

struct Push<'a> {
    clip: &'a Clip,
    url: &'a Url,
    once: bool,
    progress: ProgressBar,
    window_start: Instant,
    window_frames: u64,
    window_bytes: u64,
}

impl<'a> Push<'a> {
    fn new(clip: &'a Clip, url: &'a Url, once: bool, progress: ProgressBar) -> Self {
        Self { clip, url, once, progress, window_start: clock::now(), window_frames: 0, window_bytes: 0 }
    }

    /// Publishes, again and again if `reconnect`, until `stop`.
    async fn keep_on(&mut self, reconnect: bool, stop: impl Future<Output = ()>) -> Result<(), Failed> {
        let mut stop = std::pin::pin!(stop);
        loop {
            let failed = match self.publish(stop.as_mut()).await {
                Err(failed) if reconnect && failed.is_passing() => failed,
                ended => return ended,
            };
            self.progress.set_message(format!("{failed}; connecting again"));
            tokio::select! {
                () = stop.as_mut() => return Ok(()),
                () = sleep(RECONNECT_DELAY) => {}
            }
        }
    }

    /// One session, from its first frame to its end.
    async fn publish(&mut self, mut stop: std::pin::Pin<&mut impl Future<Output = ()>>) -> Result<(), Failed> {
        let mut client = tokio::select! {
            () = stop.as_mut() => return Ok(()),
            client = Client::connect(self.url, ClientMode::Publish) => client?,
        };
        self.send_head(&mut client)?;
        let start = clock::now();
        let mut next_mark_us = 0;
        let rounds = if self.once { 1 } else { usize::MAX };
        for frame in self.clip.rounds(rounds) {
            let due = start + Duration::from_micros(frame.dts_us.unsigned_abs());
            let stopped = tokio::select! {
                () = stop.as_mut() => true,
                // The server has nothing to say that matters here, save that it is over.
                over = timeout_at(due, async { loop { client.next().await?; } }) => match over {
                    Ok(failed) => return failed,
                    Err(_) => false,
                },
            };
            if stopped {
                break;
            }
            if frame.dts_us >= next_mark_us {
                client.send(ms(frame.dts_us), &TagBody::script(mark::encode(clock::unix_ms())))?;
                next_mark_us = frame.dts_us + MARK_INTERVAL_US;
            }
            client.send(ms(frame.dts_us), &self.body(&frame))?;
            self.count(&frame, clock::now());
        }
        client.close().await
    }

    /// The description and the decoder configurations, before the first frame.
    fn send_head(&self, client: &mut Client) -> Result<(), Failed> {
        let mut metadata = BytesMut::new();
        amf0::encode(&amf0::Value::string("@setDataFrame"), &mut metadata);
        metadata.extend_from_slice(&script::on_metadata(&self.metadata()));
        client.send(0, &TagBody::script(metadata.freeze()))?;
        let tracks = &self.clip.tracks;
        let configs =
            [tracks.video.as_ref().map(TagBody::video_config), tracks.audio.as_ref().map(TagBody::audio_config)];
        configs.iter().flatten().try_for_each(|config| client.send(0, config))
    }

    fn metadata(&self) -> Metadata {
        let tracks = &self.clip.tracks;
        let mut metadata = vec![("encoder".to_owned(), Scalar::String("hawker push".into()))];
        let mut number = |key: &str, value: u32| metadata.push((key.into(), Scalar::Number(value.into())));
        if let Some(video) = &tracks.video {
            number("width", video.width);
            number("height", video.height);
        }
        if let Some(audio) = &tracks.audio {
            number("audiosamplerate", audio.sample_rate);
            number("audiochannels", audio.channels.into());
        }
        metadata
    }

    fn body(&self, frame: &Frame) -> TagBody {
        let codec = self.clip.codec(frame.track);
        match frame.track {
            TrackKind::Video => {
                let cts_ms = i32::try_from(frame.pts_us / 1000 - frame.dts_us / 1000).unwrap_or(0);
                TagBody::video_frame(codec.unwrap_or(Codec::Avc), frame.keyframe, cts_ms, frame.data.clone())
            }
            TrackKind::Audio => TagBody::audio_frame(codec.unwrap_or(Codec::Aac), frame.data.clone()),
        }
    }

    /// Tells the progress, once a second.
    fn count(&mut self, frame: &Frame, now: Instant) {
        self.window_bytes += frame.data.len() as u64;
        self.window_frames += u64::from(frame.track == TrackKind::Video);
        let secs = now.saturating_duration_since(self.window_start).as_secs_f64();
        if secs >= 1.0 {
            let (fps, kbit) = (self.window_frames as f64 / secs, self.window_bytes as f64 / 125.0 / secs);
            self.progress.set_message(format!("{} s  {fps:.1} fps  {kbit:.0} kbit/s", frame.dts_us / 1_000_000));
            (self.window_start, self.window_frames, self.window_bytes) = (now, 0, 0);
        }
    }
}

/// The timestamp on the wire: milliseconds that wrap at 32 bits.
fn ms(dts_us: i64) -> u32 {
    (dts_us / 1000) as u32
}

fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg}");
    let bar = ProgressBar::new_spinner();
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

const MARK_INTERVAL_US: i64 = 1_000_000;
const RECONNECT_DELAY: Duration = Duration::from_secs(1);
