//! A caller of the API who may be many: one thread each, one connection each.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

/// Calls one node's API with one token; a clone has the same connection.
#[derive(Clone)]
pub(crate) struct Api {
    runtime: Arc<Runtime>,
    client: reqwest::Client,
    base: String,
    token: String,
}

/// Status and body.
pub(crate) type Reply = (u16, String);

impl Api {
    pub(crate) fn new(port: u16, token: &str) -> Self {
        let runtime = Arc::new(Builder::new_current_thread().enable_all().build().unwrap());
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build().unwrap();
        Self { runtime, client, base: format!("http://127.0.0.1:{port}/v1"), token: token.into() }
    }

    /// `None` if the server was gone before it had answered.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Option<Reply> {
        self.send(self.client.post(format!("{}/{path}", self.base)).json(body))
    }

    /// `None` if the server was gone before it had answered.
    pub(crate) fn delete(&self, path: &str) -> Option<Reply> {
        self.send(self.client.delete(format!("{}/{path}", self.base)))
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.send(self.client.get(format!("{}/{path}", self.base))).expect("an answer")
    }

    /// Posts an event that must be accepted; gives it as it was stamped.
    pub(crate) fn accept(&self, room: &str, draft: &Value) -> String {
        let (status, body) = self.post(&format!("{room}/events"), draft).expect("an answer");
        assert_eq!(status, 201, "{draft}: {body}");
        body
    }

    /// The whole log of a room, an event a line.
    pub(crate) fn log(&self, room: &str) -> Vec<String> {
        let mut log: Vec<String> = Vec::new();
        loop {
            let since =
                log.last().map_or(0, |event| serde_json::from_str::<Value>(event).unwrap()["seq"].as_u64().unwrap());
            let (status, page) = self.get(&format!("{room}/events?limit=1000&since={since}"));
            assert_eq!(status, 200, "{page}");
            if page.is_empty() {
                return log;
            }
            log.extend(page.lines().map(str::to_owned));
        }
    }

    fn send(&self, request: reqwest::RequestBuilder) -> Option<Reply> {
        self.runtime.block_on(async {
            let response = request.bearer_auth(&self.token).send().await.ok()?;
            Some((response.status().as_u16(), response.text().await.ok()?))
        })
    }
}
