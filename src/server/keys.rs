//! The key by which this node signs events, and those whose events it believes.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    config::{Config, Role},
    media::{Keys, Signer, signature::BadKeys},
    secret::write_private,
};

/// The keys of a node.
pub(super) struct EventKeys {
    /// Signs what is posted here; a pure edge has none.
    pub(super) signer: Option<Arc<Signer>>,
    /// Its own and its origin's.
    pub(super) trusted: Arc<Keys>,
}

/// Why a node can't have its keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A node that takes events has no place for its key.
    #[error("data_dir is missing: a node that takes events needs it")]
    NoPlace,
    /// A file can't be read or made.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file doesn't hold what it should.
    #[error("{}: {source}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: BadKeys,
    },
}

impl KeyError {
    fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::File { path, source }
    }

    fn content(path: &Path) -> impl FnOnce(BadKeys) -> Self {
        let path = path.to_owned();
        |source| Self::Content { path, source }
    }
}

impl EventKeys {
    /// Reads what the configuration names; makes this node's own key at the first start.
    pub(super) fn load(config: &Config) -> Result<Self, KeyError> {
        let mut trusted = match &config.upstream.event_keys {
            Some(path) => {
                let text = fs::read(path).map_err(KeyError::file(path))?;
                Keys::from_jwks(&text).map_err(KeyError::content(path))?
            }
            None => Keys::default(),
        };
        if config.role == Role::Edge {
            return Ok(Self { signer: None, trusted: Arc::new(trusted) });
        }
        let path = config.event_key_file().ok_or(KeyError::NoPlace)?;
        let signer = load_or_make(&path)?;
        trusted.insert(signer.public()).map_err(KeyError::content(&path))?;
        Ok(Self { signer: Some(Arc::new(signer)), trusted: Arc::new(trusted) })
    }
}

fn load_or_make(path: &Path) -> Result<Signer, KeyError> {
    match fs::read(path) {
        Ok(text) => Signer::from_private_jwk(&text).map_err(KeyError::content(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).map_err(KeyError::file(folder))?;
            }
            let signer = Signer::from_seed(&rand::random());
            write_private(path, signer.to_private_jwk().as_bytes()).map_err(KeyError::file(path))?;
            tracing::info!(kid = signer.kid(), path = %path.display(), "made the key that signs events");
            Ok(signer)
        }
        Err(error) => Err(KeyError::file(path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_for_us_only() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = Config { data_dir: Some(dir.path().join("new")), ..Config::default() };
        let kid = || EventKeys::load(&config).map(|keys| keys.signer.expect("it takes events").kid().to_owned());
        let first = kid().expect("made");
        assert_eq!(kid().expect("found"), first);
        let path = config.event_key_file().expect("a place");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);

        fs::write(&path, "{}").expect("written");
        let error = kid().expect_err("no key").to_string();
        assert!(error.starts_with(&path.display().to_string()), "{error}");
        fs::remove_file(&path).expect("there");
        assert_ne!(kid().expect("made"), first);
        assert!(matches!(EventKeys::load(&Config::default()), Err(KeyError::NoPlace)));
    }

    #[test]
    fn an_edge_believes_its_origin_and_signs_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let origin = EventKeys::load(&Config { data_dir: Some(dir.path().into()), ..Config::default() }).expect("keys");
        let jwks = dir.path().join("jwks.json");
        let mut config = Config { role: Role::Edge, ..Config::default() };
        config.upstream.event_keys = Some(jwks.clone());
        assert!(matches!(EventKeys::load(&config), Err(KeyError::File { .. })), "not there yet");
        fs::write(&jwks, origin.trusted.to_jwks()).expect("written");
        let edge = EventKeys::load(&config).expect("keys");
        assert!(edge.signer.is_none() && edge.trusted == origin.trusted);
        // Both at once: its own and its origin's.
        config = Config { role: Role::Both, data_dir: Some(dir.path().join("both")), ..config };
        let both = EventKeys::load(&config).expect("keys");
        assert!(*both.trusted != *origin.trusted && both.signer.is_some());
    }
}
