//! HTTP-FLV.

use futures_util::StreamExt;
use url::Url;

use super::{
    Failed,
    analysis::Analysis,
    observed::{self, Observed, TagReader},
};
use crate::{
    cli::sentence,
    clock,
    proto::{
        flv::{
            FlvReader, FlvTag, TagKind,
            script::{self, ScriptData},
            tag,
        },
        rtmp::amf0,
    },
};

/// Plays until the server ends the stream.
pub(super) async fn play(url: &Url, analysis: &mut Analysis) -> Result<(), Failed> {
    let response = reqwest::get(url.clone()).await.map_err(|e| Failed::unreachable(url, &e))?;
    if !response.status().is_success() {
        let status = response.status();
        let said = response.text().await.unwrap_or_default();
        return Err(Failed::Refused(format!("{status}{}", sentence(&said))));
    }
    let (mut flv, mut reader) = (FlvReader::new(), TagReader::default());
    let mut body = response.bytes_stream();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|e| Failed::unreachable(url, &e))?;
        flv.handle_bytes(&piece).map_err(|e| Failed::Broken(e.to_string()))?;
        while let Some(tag) = flv.poll_tag() {
            if let Some(observed) = read(&mut reader, tag)? {
                analysis.handle(observed, &reader.tracks, clock::now(), clock::unix_ms());
            }
        }
    }
    Ok(())
}

fn read(reader: &mut TagReader, FlvTag { kind, timestamp_ms, body }: FlvTag) -> Result<Option<Observed>, Failed> {
    if kind != TagKind::Script {
        let tag = tag::parse(kind, body).map_err(|e| Failed::Broken(e.to_string()))?;
        return Ok(reader.media(timestamp_ms, tag));
    }
    match script::parse(body, &amf0::Limits::AUTHORISED).map_err(|e| Failed::Broken(e.to_string()))? {
        ScriptData::Metadata(_) | ScriptData::ForPlayer => Ok(None),
        ScriptData::Data(amf0) => Ok(observed::data(&amf0)),
    }
}
