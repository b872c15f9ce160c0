//! The operator's backend, as hooks call it: it answers as it is told to, and remembers what it was sent.

use std::{
    future::pending,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Condvar, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Yes to questions, and notices are taken.
    Willing,
    /// No to questions.
    Unwilling,
    /// Not at all.
    Hanging,
    /// With a server's error.
    Failing,
    /// With something that is not JSON.
    Garbling,
    /// With ten megabytes.
    Endless,
    /// With a yes that is a page.
    Paging,
    /// With the way to the metadata of a cloud.
    Redirecting,
}

/// A small HTTP server. It is gone while stopped, and back on the same port.
pub(crate) struct Backend {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: Mutex<Option<(CancellationToken, JoinHandle<()>)>>,
}

struct Shared {
    mood: Mutex<Mood>,
    calls: (Mutex<Vec<Call>>, Condvar),
}

/// What it was sent.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) body: Bytes,
    pub(crate) json: Value,
    pub(crate) signature: String,
    /// It was answered with a 2xx.
    pub(crate) taken: bool,
}

impl Backend {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let shared = Arc::new(Shared { mood: Mutex::new(Mood::Willing), calls: Default::default() });
        let backend = Self { address: listener.local_addr().unwrap(), shared, server: Mutex::default() };
        backend.serve(listener);
        backend
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub(crate) fn set(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap() = mood;
    }

    /// Nobody listens any more, and all connections are closed.
    pub(crate) fn go_away(&self) {
        if let Some((stop, server)) = self.server.lock().unwrap().take() {
            stop.cancel();
            server.join().unwrap();
        }
    }

    pub(crate) fn come_back(&self) {
        self.serve(TcpListener::bind(self.address).unwrap());
    }

    fn serve(&self, listener: TcpListener) {
        listener.set_nonblocking(true).unwrap();
        let (stop, shared) = (CancellationToken::new(), self.shared.clone());
        let stopped = stop.clone().cancelled_owned();
        let server = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let routes = Router::new().route("/hook", post(answer)).with_state(shared);
                tokio::select! {
                    served = axum::serve(listener, routes) => served.unwrap(),
                    () = stopped => {}
                }
            });
        });
        *self.server.lock().unwrap() = Some((stop, server));
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.shared.calls.0.lock().unwrap().clone()
    }

    /// The questions so far.
    pub(crate) fn questions(&self) -> Vec<Value> {
        self.calls().into_iter().map(|call| call.json).filter(|json| json["hook"] == "decide").collect()
    }

    /// The notices that it took, in that order.
    pub(crate) fn notices(&self) -> Vec<Value> {
        notices(&self.calls())
    }

    /// Waits until it has taken so many notices.
    pub(crate) fn wait_notices(&self, count: usize) -> Vec<Value> {
        self.wait(|calls| notices(calls).len() >= count);
        let notices = self.notices();
        assert!(notices.len() >= count, "{count} notices expected: {notices:#?}");
        notices
    }

    /// Waits until it was sent something that it did not take.
    pub(crate) fn wait_refused(&self) {
        self.wait(|calls| calls.iter().any(|call| !call.taken));
    }

    fn wait(&self, is_so: impl Fn(&[Call]) -> bool) {
        let (calls, changed) = &self.shared.calls;
        drop(changed.wait_timeout_while(calls.lock().unwrap(), Duration::from_secs(15), |calls| !is_so(calls)));
    }
}

fn notices(calls: &[Call]) -> Vec<Value> {
    let taken = calls.iter().filter(|call| call.taken && call.json["hook"] == "notify");
    taken.map(|call| call.json.clone()).collect()
}

async fn answer(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let mood = *shared.mood.lock().unwrap();
    let signature = headers["hawker-signature"].to_str().unwrap().to_owned();
    let json = serde_json::from_slice(&body).unwrap();
    let taken = matches!(mood, Mood::Willing | Mood::Unwilling);
    shared.calls.0.lock().unwrap().push(Call { body, json, signature, taken });
    shared.calls.1.notify_all();
    let json = |text: &'static str| ([(header::CONTENT_TYPE, "application/json")], text).into_response();
    match mood {
        Mood::Willing => json(r#"{"allow":true}"#),
        Mood::Unwilling => json(r#"{"allow":false,"reason":"not today"}"#),
        Mood::Hanging => pending().await,
        Mood::Failing => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Mood::Garbling => json("{\"allow\":tru\0"),
        Mood::Endless => ([(header::CONTENT_TYPE, "application/json")], vec![b' '; 10_000_000]).into_response(),
        Mood::Paging => ([(header::CONTENT_TYPE, "text/html")], r#"{"allow":true}"#).into_response(),
        Mood::Redirecting => {
            (StatusCode::FOUND, [(header::LOCATION, "http://169.254.169.254/latest/")]).into_response()
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.go_away();
    }
}
