//! RTMP play.

use url::Url;

use super::{
    Failed,
    analysis::Analysis,
    observed::{self, TagReader},
};
use crate::{
    cli::rtmp::{self, Client},
    clock,
    proto::rtmp::{ClientEvent, ClientMode},
};

/// Plays until the server ends the stream.
pub(super) async fn play(url: &Url, analysis: &mut Analysis) -> Result<(), Failed> {
    let mut client = Client::connect(url, ClientMode::Play).await?;
    let mut reader = TagReader::default();
    loop {
        let observed = match client.next().await {
            Ok(ClientEvent::Media { timestamp, tag }) => reader.media(timestamp, tag),
            Ok(ClientEvent::Data { amf0, .. }) => observed::data(&amf0),
            Ok(_) => None,
            Err(rtmp::Failed::Ended) => return Ok(()),
            Err(failed) => return Err(failed.into()),
        };
        if let Some(observed) = observed {
            analysis.handle(observed, &reader.tracks, clock::now(), clock::unix_ms());
        }
    }
}
