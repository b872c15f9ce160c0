//! The keys and tokens that the API makes, in one file: written whole, private, and durable before it counts.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;

use super::KeyFileError;
use crate::{config::TokenRole, secret::Digest, secret::write_private};

/// What a key or token is good for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// What it opens streams for; `publish` makes it a stream key.
    #[schema(value_type = Vec<String>, min_items = 1, example = json!(["publish"]))]
    pub roles: Vec<TokenRole>,
    /// The streams it opens: a name, or a folder of names. Empty: all.
    #[schema(example = "live/room", max_length = 128)]
    pub prefix: String,
    /// Its publisher may send events inside the stream.
    #[serde(default)]
    pub events: bool,
    /// Of several publishers of a stream the one with the highest is on air.
    #[serde(default)]
    pub priority: u8,
    /// Streams that it may publish at once; by default any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1)]
    pub streams_max: Option<u32>,
    /// What each of them may have, kbit/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1)]
    pub bitrate_kbps_max: Option<u32>,
    /// When it ends, UTC seconds since 1970, and with it its sessions; by default never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub expires: Option<u64>,
    /// For people: whose it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 256)]
    pub note: String,
}

/// A key or token, without its secret, which nobody keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// By which it is rotated and revoked.
    pub id: String,
    /// When it was made, UTC seconds since 1970.
    pub created: u64,
    #[serde(serialize_with = "as_text")]
    pub(super) sha256: Digest,
    /// The secret before the last rotation, while it is still good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) previous: Option<Previous>,
    /// What it is good for.
    pub terms: Terms,
}

/// A secret that was replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Previous {
    #[serde(serialize_with = "as_text")]
    pub(super) sha256: Digest,
    /// UTC seconds.
    pub(super) until: u64,
}

/// A JWT, or all of somebody's, that opens nothing any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// Whose JWTs: their `sub`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 1, max_length = 256)]
    pub sub: Option<String>,
    /// Which JWT: its `jti`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 1, max_length = 256)]
    pub jti: Option<String>,
    /// Until when it is remembered, UTC seconds since 1970: until the last `exp` of what is revoked.
    pub until: u64,
}

/// What the file holds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) keys: Vec<Key>,
    pub(super) revocations: Vec<Revocation>,
}

/// The file, if there is a place for it.
#[derive(Debug)]
pub(super) struct Store {
    path: Option<PathBuf>,
    pub(super) state: State,
}

impl Store {
    /// Reads what there is in the data directory.
    pub(super) fn open(data_dir: Option<&Path>) -> Result<Self, KeyFileError> {
        let path = data_dir.map(|folder| folder.join(FILE));
        let state = match &path {
            Some(path) => load(path)?,
            None => State::default(),
        };
        Ok(Self { path, state })
    }

    /// Is what it takes still there after a restart?
    pub(super) fn is_durable(&self) -> bool {
        self.path.is_some()
    }

    /// Takes a new state, once it is on disk.
    pub(super) fn save(&mut self, state: State) -> io::Result<()> {
        if let Some(path) = &self.path {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            write_private(path, &serde_json::to_vec(&state)?)?;
        }
        self.state = state;
        Ok(())
    }
}

fn load(path: &Path) -> Result<State, KeyFileError> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .map_err(|error| KeyFileError::new(path, &format!("is not what this server wrote: {error}"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State::default()),
        Err(error) => Err(KeyFileError::read(path, &error)),
    }
}

fn as_text<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(digest)
}

/// In the data directory.
const FILE: &str = "keys.json";
