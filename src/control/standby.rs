//! Two origins, of which one stands by: how the journal's copy goes over, and who is let in where.

use std::{net::IpAddr, sync::Arc};

use arc_swap::ArcSwap;
use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use http_body_util::{BodyExt, Limited};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use rustls::RootCertStore;
use serde::{Deserialize, Serialize};
use url::Url;

use super::api::{Api, Caller, RUNDOWN_KIND, Refusal};
use crate::{
    config,
    hub::{Copy, Heads, Journal, NotCopied, Replica},
    limits,
    media::{Keys, StreamName},
    net::{
        access::{Access, Action, Asked, Denied, Grant},
        outbound::{Answer, Outbound, OutboundError, Post, Reach},
        tls::{self, TlsError},
    },
    secret::Secret,
};

/// Why the other node can't be called as configured.
#[derive(Debug, thiserror::Error)]
pub enum StandbyError {
    /// There is no token for it.
    #[error("standby.token_file: {0}")]
    Token(std::io::Error),
    /// A token has characters that no header may have.
    #[error("standby.token_file: not a token")]
    BadToken,
    /// The authorities of its certificate are of no use.
    #[error("standby.ca: {0}")]
    Authorities(#[from] TlsError),
    /// The client can't be made.
    #[error(transparent)]
    Client(#[from] OutboundError),
}

/// The other node, over its API.
/// Its token is in `bearer`, which prints nothing.
#[derive(Clone)]
pub struct Other {
    url: Url,
    bearer: HeaderValue,
    outbound: Outbound,
}

impl Other {
    /// `None` if the configuration names none.
    pub fn new(config: &config::Standby) -> Result<Option<Self>, StandbyError> {
        let Some(mut url) = config.url.clone() else { return Ok(None) };
        url.set_path("/v1/standby");
        let token = config.load_token().map_err(StandbyError::Token)?.unwrap_or_else(|| Secret::new(""));
        let mut bearer =
            HeaderValue::from_str(&format!("Bearer {}", token.expose())).map_err(|_| StandbyError::BadToken)?;
        bearer.set_sensitive(true);
        let roots = match (url.scheme(), &config.ca) {
            ("https", Some(ca)) => tls::authorities(ca)?,
            ("https", None) => tls::authorities(tls::SYSTEM_AUTHORITIES.as_ref())?,
            _ => RootCertStore::empty(),
        };
        // The operator's own two machines: wherever they are.
        let everywhere = Reach::new(&[ipnet::Ipv4Net::default().into(), ipnet::Ipv6Net::default().into()]);
        Ok(Some(Self { url, bearer, outbound: Outbound::new(everywhere, Arc::new(roots))? }))
    }

    async fn post(self, copy: Copy) -> Result<Heads, NotCopied> {
        let away = |error: &dyn std::fmt::Display| NotCopied::Away(error.to_string());
        let body = serde_json::to_vec(&copy).map_err(|error| away(&error))?;
        let answered = self.outbound.post_json(Post {
            url: &self.url,
            header: (AUTHORIZATION, self.bearer),
            body: body.into(),
            timeout: limits::STANDBY_TIMEOUT,
            answer_bytes_max: limits::STANDBY_ANSWER_BYTES_MAX,
        });
        let Answer { status, body, .. } = answered.await.map_err(|error| away(&error))?;
        match status {
            200 => serde_json::from_slice(&body).map_err(|error| away(&error)),
            409 => {
                let held: Result<Held, _> = serde_json::from_slice(&body);
                Err(held.map_or_else(|error| away(&error), |held| NotCopied::Serves(held.term)))
            }
            413 => Err(NotCopied::Bad("too long")),
            422 => Err(NotCopied::Bad("the other node can't take it: an unknown key, stream name or document")),
            status => Err(away(&format_args!("status {status}"))),
        }
    }
}

impl Replica for Other {
    fn send(&self, copy: Copy) -> BoxFuture<'static, Result<Heads, NotCopied>> {
        self.clone().post(copy).boxed()
    }
}

/// `POST /v1/standby`: takes what the other node wrote, from who has the role `relay`. Only where the node is `shared`
/// with another one: what comes may depose it.
pub fn router(api: &Arc<Api>, keys: &Arc<ArcSwap<Keys>>, shared: bool) -> Router {
    let taker = Taker { api: api.clone(), keys: keys.clone(), shared };
    Router::new().route("/v1/standby", post(take)).with_state(taker)
}

#[derive(Clone)]
struct Taker {
    api: Arc<Api>,
    keys: Arc<ArcSwap<Keys>>,
    shared: bool,
}

async fn take(State(taker): State<Taker>, caller: Caller, body: Body) -> Result<Response, Refusal> {
    caller.must(&taker.api, None).await?;
    let Some(journal) = taker.api.hub.journal().filter(|_| taker.shared) else {
        return Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, "this node shares its journal with none"));
    };
    let reading = Limited::new(body, limits::STANDBY_BODY_BYTES_MAX).collect();
    let Ok(Ok(body)) = tokio::time::timeout(limits::HTTP_BODY_TIMEOUT, reading).await else {
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too long, or too slow"));
    };
    match import(journal, &taker.keys.load(), body.to_bytes()).await {
        Ok(heads) => Ok(Json(heads).into_response()),
        Err(NotCopied::Serves(term)) => {
            Ok((StatusCode::CONFLICT, Json(Held { error: "this node serves".into(), term })).into_response())
        }
        Err(error @ NotCopied::Bad(_)) => Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())),
        Err(error @ NotCopied::Away(_)) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())),
    }
}

/// Why no copy was taken: this node serves, or knows of a later reign.
#[derive(Serialize, Deserialize)]
struct Held {
    error: String,
    term: u64,
}

async fn import(journal: &Journal, keys: &Keys, body: Bytes) -> Result<Heads, NotCopied> {
    let copy = serde_json::from_slice(&body).map_err(|_| NotCopied::Bad("not a copy"))?;
    journal.import(copy, keys, &[RUNDOWN_KIND]).await
}

/// Who is let in: nobody on a node that stands by, but a publisher who finds the other one silent, whereupon this
/// one takes over.
pub struct OneServes {
    access: Arc<dyn Access>,
    journal: Arc<Journal>,
}

impl OneServes {
    /// `access` where this node serves.
    pub fn new(access: Arc<dyn Access>, journal: Arc<Journal>) -> Arc<Self> {
        Arc::new(Self { access, journal })
    }
}

impl Access for OneServes {
    fn ask<'a>(&'a self, asked: Asked<'a>) -> BoxFuture<'a, Result<Grant, Denied>> {
        async move {
            let standing = self.journal.standing();
            let takes_over = asked.action == Action::Publish && standing.may_take_over();
            if !standing.serves() && !takes_over {
                return Err(Denied::StandsBy);
            }
            let grant = self.access.ask(asked).await?;
            if asked.action != Action::Publish {
                return Ok(grant);
            }
            match self.journal.take_over().await {
                Ok(true) => Ok(grant),
                Ok(false) => Err(Denied::StandsBy),
                Err(error) => {
                    tracing::error!(%error, "this node can't take over");
                    Err(Denied::StandsBy)
                }
            }
        }
        .boxed()
    }

    fn may_see(&self, stream: &StreamName, token: Option<&str>) -> bool {
        self.access.may_see(stream, token)
    }

    fn edge<'a>(&'a self, token: &'a str, peer: IpAddr) -> BoxFuture<'a, Result<Option<Grant>, Denied>> {
        self.access.edge(token, peer)
    }

    fn is_open(&self) -> bool {
        self.journal.standing().serves()
    }
}
