//! `[standby]`: the other of two nodes that share their events, so that one can take over.

use std::path::PathBuf;

use serde::Deserialize;
use url::Url;

use crate::secret::Secret;

/// `[standby]`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Standby {
    /// The other node's `admin` listener, `http` or `https` (default: there is no other).
    pub url: Option<Url>,
    /// A token with the role `relay` on it: in a file. Needed beside `url`.
    pub token_file: Option<PathBuf>,
    /// Trust certificates that this PEM file signed, instead of the system's.
    pub ca: Option<PathBuf>,
    /// Stands by when it starts for the first time; the other one serves (default false).
    pub stand_by: bool,
    /// Takes no event that the other node doesn't have, and doesn't start without it (default false).
    pub required: bool,
}

impl Standby {
    /// Does this node share its work?
    pub fn is_shared(&self) -> bool {
        self.url.is_some() || self.stand_by
    }

    /// The token.
    pub fn load_token(&self) -> std::io::Result<Option<Secret>> {
        let Some(path) = &self.token_file else { return Ok(None) };
        Ok(Some(Secret::new(std::fs::read_to_string(path)?.trim())))
    }
}
