//! `hawker watch`: plays a stream without showing it, and reports what came.

use std::{future::Future, time::Duration};

use tokio::time::timeout_at;
use url::Url;

use self::analysis::{Analysis, Report};
use super::{Outcome, root_cause, webrtc};
use crate::{
    clock::{self, Instant},
    secret::{Digest, redact},
};

mod analysis;
mod flv;
mod keys;
mod moq;
mod observed;
mod rtmp;
mod whep;

pub(super) use moq::trust;

/// Arguments of `hawker watch`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// rtmp://host/app/name, http://host/name.flv, https://host:port/name or moqt://host:port/name (MoQ),
    /// whep://host/name (WebRTC, the same as http://host/whep/name).
    url: Url,
    /// How long.
    #[arg(long, value_name = "N", default_value_t = 10.0, value_parser = parse_secs)]
    secs: f64,
    /// The server's certificate, for MoQ where no authority vouches for it.
    #[arg(long, value_name = "HEX", value_parser = parse_digest)]
    cert_sha256: Option<Digest>,
    /// The keys whose events are believed: a JWK set [default: what the node tells, if it is HTTP or `hawker dev`].
    #[arg(long, value_name = "FILE|URL")]
    event_keys: Option<String>,
    /// Print one JSON report at the end, and nothing else.
    #[arg(long)]
    json: bool,
}

/// Why nothing, or no more, was watched.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error("{server}: {reason}")]
    Unreachable { server: String, reason: String },
    #[error("the server refused: {0}")]
    Refused(String),
    #[error(transparent)]
    Rtmp(#[from] super::rtmp::Failed),
    #[error(transparent)]
    WebRtc(#[from] webrtc::Failed),
    #[error("what came is not a stream: {0}")]
    Broken(String),
    #[error("{0}: watch knows rtmp, http with .flv, https and moqt (MoQ), and whep")]
    Scheme(String),
    #[error("connected, but no keyframe came ({0}): is anybody publishing?")]
    Silent(String),
    #[error("{from}: {reason}")]
    Keys { from: String, reason: String },
    #[error("{0} of the events are not what a trusted key signed")]
    Forged(u64),
}

impl Failed {
    fn unreachable(url: &Url, error: &dyn std::error::Error) -> Self {
        let port = url.port_or_known_default().map(|port| format!(":{port}")).unwrap_or_default();
        Self::Unreachable { server: format!("{}{port}", url.host_str().unwrap_or_default()), reason: root_cause(error) }
    }
}

/// Watches to the end and reports; an error if nothing played.
pub(super) async fn run(mut args: Args) -> Outcome {
    let whep = webrtc::endpoint(&args.url, "whep");
    args.url = whep.unwrap_or(args.url);
    let keys = keys::load(args.event_keys.as_deref(), &args.url).await?;
    let start = clock::now();
    let mut analysis = Analysis::new(start, clock::unix_ms(), !args.json).believing(keys);
    let shown = redact(args.url.as_str());
    if !args.json {
        println!("watching {shown} for {} s", args.secs);
    }
    let ended = match play(&args, start + Duration::from_secs_f64(args.secs), &mut analysis).await {
        Ok(Ended::ByServer) => "the server ended the stream".to_owned(),
        Ok(Ended::TimeUp) => "time is up".to_owned(),
        Err(failed) if !analysis.has_played() => return Err(failed.into()),
        Err(failed) => failed.to_string(),
    };
    let played = analysis.has_played();
    let report = analysis.finish(&shown, ended.clone(), clock::now());
    print(&report, args.json)?;
    match report.events_forged {
        Some(forged @ 1..) => Err(Failed::Forged(forged).into()),
        _ if !played => Err(Failed::Silent(ended).into()),
        _ => Ok(()),
    }
}

/// How watching ends where nothing went wrong.
enum Ended {
    ByServer,
    TimeUp,
}

async fn play(args: &Args, until: Instant, analysis: &mut Analysis) -> Result<Ended, Failed> {
    let url = &args.url;
    match url.scheme() {
        "http" if webrtc::endpoint(url, "whep").is_some() => whep::play(url, until, analysis).await,
        "http" if url.path().ends_with(".flv") => bounded(until, flv::play(url, analysis)).await,
        "rtmp" | "rtmps" => bounded(until, rtmp::play(url, analysis)).await,
        "https" | "moqt" => moq::play(url, args.cert_sha256, until, analysis).await,
        other => Err(Failed::Scheme(other.to_owned())),
    }
}

/// `playing`, but no longer than `until`.
async fn bounded(until: Instant, playing: impl Future<Output = Result<(), Failed>>) -> Result<Ended, Failed> {
    match timeout_at(until, playing).await {
        Ok(result) => result.map(|()| Ended::ByServer),
        Err(_) => Ok(Ended::TimeUp),
    }
}

fn print(report: &Report, json: bool) -> Outcome {
    if json {
        println!("{}", serde_json::to_string(report)?);
    } else {
        println!("{report}");
    }
    Ok(())
}

pub(super) fn parse_digest(text: &str) -> Result<Digest, String> {
    serde_json::from_value(text.into()).map_err(|e| e.to_string())
}

pub(super) fn parse_secs(text: &str) -> Result<f64, String> {
    let secs: f64 = text.parse().map_err(|_| "is a number of seconds")?;
    if (0.1..=86_400.0).contains(&secs) { Ok(secs) } else { Err("is between 0.1 and 86400".into()) }
}
