//! Whose events `watch` believes: told, or asked of the node that is watched.

use std::{path::Path, time::Duration};

use url::Url;

use super::Failed;
use crate::{
    cli::{dev, root_cause},
    limits::EVENT_KEYS_BYTES_MAX,
    media::Keys,
};

/// The keys of a file or URL; else those of the node behind `url`, if it is one that tells them.
pub(super) async fn load(asked: Option<&str>, url: &Url) -> Result<Option<Keys>, Failed> {
    if let Some(asked) = asked {
        let keys = if asked.starts_with("http://") { fetch(asked).await } else { read(Path::new(asked)) };
        return keys.map(Some).map_err(|reason| Failed::Keys { from: asked.to_owned(), reason });
    }
    let node = match url.scheme() {
        "http" => Some(format!("http://{}", url.authority())),
        _ => dev::Info::node_at(url).map(|node| node.http),
    };
    let Some(node) = node else { return Ok(None) };
    // Other servers have none; what is wrong with the node itself shows as it is watched.
    Ok(fetch(&format!("{node}/.well-known/hawker-keys.json")).await.ok())
}

fn read(path: &Path) -> Result<Keys, String> {
    let text = std::fs::read(path).map_err(|e| e.to_string())?;
    Keys::from_jwks(&text).map_err(|e| e.to_string())
}

async fn fetch(url: &str) -> Result<Keys, String> {
    let fetching = async {
        let mut answer = reqwest::get(url).await?.error_for_status()?;
        let mut text = Vec::new();
        while let Some(piece) = answer.chunk().await? {
            text.extend_from_slice(&piece);
            if text.len() > EVENT_KEYS_BYTES_MAX {
                break;
            }
        }
        Ok::<_, reqwest::Error>(text)
    };
    let text = tokio::time::timeout(TIMEOUT, fetching).await.map_err(|_| "no answer in time")?;
    let text = text.map_err(|e| root_cause(&e))?;
    Keys::from_jwks(&text).map_err(|e| e.to_string())
}

const TIMEOUT: Duration = Duration::from_secs(5);
