//! HTTP-FLV.

use futures_util::StreamExt;
use url::Url;

use super::{
    Failed,
    analysis::Analysis,
    observed::TagReader,
};
use crate::{
    clock,
    proto::flv::{FlvReader, FlvTag},
};

/// Plays until the server ends the stream.
pub(super) async fn play(url: &Url, analysis: &mut Analysis) -> Result<(), Failed> {
    let response = reqwest::get(url.clone()).await.map_err(|e| Failed::Unreachable(crate::cli::root_cause(&e)))?;
    if !response.status().is_success() {
        return Err(Failed::Refused(response.status().to_string()));
    }
    let (mut flv, mut reader) = (FlvReader::new(), TagReader::default());
    let mut body = response.bytes_stream();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|e| Failed::Unreachable(crate::cli::root_cause(&e)))?;
        flv.handle_bytes(&piece).map_err(|e| Failed::Broken(e.to_string()))?;
        while let Some(FlvTag { kind, timestamp_ms, body }) = flv.poll_tag() {
            if let Some(observed) = reader.read(kind, timestamp_ms, &body)? {
                analysis.handle(observed, &reader.tracks, clock::now(), clock::unix_ms());
            }
        }
    }
    Ok(())
}
