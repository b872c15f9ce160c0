//! Which certificate a node shows, and which of its upstream's it accepts.

use std::{path::Path, sync::Arc};

use super::StartError;
use crate::{
    config,
    net::tls::{Identity, SYSTEM_AUTHORITIES, TlsError, Trust},
    relay::{Relay, Upstream},
};

/// The configured certificate, or a self-signed one that lasts as long as browsers accept by fingerprint.
pub(super) fn identity(tls: &config::Tls) -> Result<Identity, TlsError> {
    match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => Identity::load(cert, key),
        _ => Identity::development(),
    }
}

/// Where an edge takes its streams from; `None` without upstream URLs.
pub(super) fn upstream(config: &config::Upstream, relay: &Arc<Relay>) -> Result<Option<Upstream>, StartError> {
    if config.urls.is_empty() {
        return Ok(None);
    }
    let trust = match (&config.cert_sha256, &config.ca) {
        (Some(pin), _) => Trust::Pinned(vec![*pin.as_bytes()]),
        (None, Some(ca)) => Trust::from_authorities(ca)?,
        (None, None) => Trust::from_authorities(Path::new(SYSTEM_AUTHORITIES))?,
    };
    let token = config.load_token()?;
    let urls: Vec<_> = config
        .urls
        .iter()
        .cloned()
        .map(|mut url| {
            if let Some(token) = &token {
                url.query_pairs_mut().append_pair("token", token.expose());
            }
            url
        })
        .collect();
    let identity = match (&config.cert, &config.key) {
        (Some(cert), Some(key)) => Some(Identity::load(cert, key)?),
        _ => None,
    };
    Ok(Some(Upstream::new(relay.clone(), urls, trust).with_identity(identity)))
}
