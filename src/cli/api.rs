//! How the tools reach the origin's API: where it is, and with what token.

use std::{path::PathBuf, time::Duration};

use reqwest::{Client, RequestBuilder};

use super::{dev, root_cause, sentence};
use crate::{media::StreamName, secret::Secret};

/// Where the API is.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Access {
    /// The origin's API [default: the running `hawker dev`].
    #[arg(long, value_name = "URL", env = "HAWKER_API")]
    api: Option<String>,
    /// A token with the role that the call needs [default: that of the running `hawker dev`].
    #[arg(long, env = "HAWKER_TOKEN", hide_env_values = true, value_parser = parse_secret)]
    token: Option<Secret>,
    /// Where `hawker dev` wrote its addresses [default: where it does].
    #[arg(long, value_name = "FILE")]
    dev_file: Option<PathBuf>,
}

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error("no --api and no running `hawker dev` ({}: {source})", .path.display())]
    NoApi { path: PathBuf, source: std::io::Error },
    #[error("{api}: {reason}")]
    Unreachable { api: String, reason: String },
    #[error("the server refused it: {status}{body}")]
    Refused { status: reqwest::StatusCode, body: String },
}

impl Access {
    /// The API as given, or that of the running `hawker dev`.
    pub(super) fn open(self) -> Result<Api, Failed> {
        let (base, token) = match self.api {
            Some(api) => (api, self.token),
            None => {
                let path = self.dev_file.unwrap_or_else(dev::Info::default_path);
                let info = dev::Info::load(&path).map_err(|source| Failed::NoApi { path, source })?;
                (info.origin.http, Some(self.token.unwrap_or_else(|| Secret::new(info.origin.api_token))))
            }
        };
        let client = Client::builder().timeout(TIMEOUT).build();
        let client = client.map_err(|e| Failed::Unreachable { api: base.clone(), reason: root_cause(&e) })?;
        Ok(Api { base: base.trim_end_matches('/').to_owned(), token, client })
    }
}

/// The API of one node.
pub(super) struct Api {
    base: String,
    token: Option<Secret>,
    client: Client,
}

impl Api {
    pub(super) fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.base))
    }

    pub(super) fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.base))
    }

    pub(super) fn delete(&self, path: &str) -> RequestBuilder {
        self.client.delete(format!("{}{path}", self.base))
    }

    pub(super) fn put(&self, path: &str) -> RequestBuilder {
        self.client.put(format!("{}{path}", self.base))
    }

    /// The answer's text, if the server did what it was asked.
    pub(super) async fn send(&self, mut request: RequestBuilder) -> Result<String, Failed> {
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        let unreachable = |e: reqwest::Error| Failed::Unreachable { api: self.base.clone(), reason: root_cause(&e) };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let text = response.text().await.map_err(unreachable)?;
        if status.is_success() { Ok(text) } else { Err(Failed::Refused { status, body: sentence(&text) }) }
    }
}

/// The stream's path. The name is one segment, so that no part of it is taken for a call.
pub(super) fn stream(name: &StreamName) -> String {
    format!("/v1/streams/{}", name.as_str().replace('/', "%2F"))
}

pub(super) fn parse_secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}

const TIMEOUT: Duration = Duration::from_secs(10);
