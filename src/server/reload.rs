//! What changes while a node runs: its certificate when the files do, its configuration at SIGHUP. No session notices;
//! what is of no use changes nothing.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{sync::Notify, time::MissedTickBehavior};

use super::{Node, hub_settings, keys::EventKeys};
use crate::{
    clock,
    config::{self, Config, Written},
    control::hooks::Rules,
    limits,
    net::tls::{Identity, TlsError},
    observe::log,
};

/// Keeps a node up to date until it ends.
pub(super) struct Reload {
    certificate: Certificate,
    file: Option<ConfigFile>,
    asked: Arc<Notify>,
}

/// Where the configuration came from.
struct ConfigFile {
    path: PathBuf,
    /// As the node started with it.
    started: Written,
    /// As it was read last.
    current: Written,
}

impl Reload {
    pub(super) fn new(identity: Identity, tls: &config::Tls) -> Self {
        Self { certificate: Certificate::new(identity, tls), file: None, asked: Arc::default() }
    }

    /// Reads the configuration again from `path`, as it is now, whenever the value returned is notified.
    pub(super) fn from(&mut self, path: &Path) -> Arc<Notify> {
        let written = Written::read(path);
        self.file = Some(ConfigFile { path: path.to_owned(), started: written.clone(), current: written });
        self.asked.clone()
    }

    /// Runs until the node begins to end.
    pub(super) async fn run(mut self, node: &Node) {
        let mut tick = tokio::time::interval(limits::CERTIFICATE_POLL_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = node.drain.cancelled() => return,
                () = self.asked.notified() => self.reload(node),
                _ = tick.tick() => {}
            }
            self.certificate.look(node);
        }
    }

    /// Applies the configuration as it is written now, or says what is wrong with it.
    fn reload(&mut self, node: &Node) {
        let Some(file) = &mut self.file else { return };
        let loaded = Config::load(&file.path).map_err(|error| error.to_string());
        let applied = loaded.and_then(|config| {
            let keys = EventKeys::load(&config).map_err(|error| error.to_string())?;
            let hooks = Rules::new(&config.hooks).map_err(|error| error.to_string())?;
            // The last that may fail: with it who is no longer allowed goes.
            node.auth.reload(&config.auth).map_err(|error| error.to_string())?;
            node.hooks.set(hooks);
            Ok((config, keys))
        });
        let (config, keys) = match applied {
            Ok(applied) => applied,
            Err(error) => {
                node.metrics.config_reload_failures.inc();
                tracing::error!(%error, "configuration not reloaded: the node goes on with the one it has");
                return;
            }
        };
        node.apply(&config, keys);
        self.certificate.files = Files::of(&config.tls);
        self.certificate.seen = None;
        let written = Written::read(&file.path);
        let (live, _) = split(written.differing(&file.current));
        let (_, started) = split(written.differing(&file.started));
        file.current = written;
        tracing::info!(changed = live.join(", "), need_restart = started.join(", "), "configuration reloaded");
    }
}

impl Node {
    /// Takes over what can change while the node runs: the keys of [`LIVE`].
    fn apply(&self, config: &Config, keys: EventKeys) {
        self.hub.set(hub_settings(config));
        self.event_keys.store(keys.trusted);
        self.drain_secs.store(config.drain_secs, Ordering::Relaxed);
        log::set_level(&config.log.level);
    }
}

/// The keys that take effect at once, and those that need a restart.
fn split(keys: Vec<String>) -> (Vec<String>, Vec<String>) {
    let is_live = |key: &String| {
        LIVE.iter().any(|live| key.strip_prefix(live).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
    };
    keys.into_iter().partition(is_live)
}

/// What needs no restart: keys, or whole sections. Those of `ingest` hold for streams that begin after it.
const LIVE: &[&str] =
    &["tls", "auth", "hooks", "ingest", "hub.reconnect_window_secs", "upstream.event_keys", "log.level", "drain_secs"];

/// The certificate on the listeners, and the files that it comes from.
struct Certificate {
    identity: Identity,
    files: Option<Files>,
    /// The files when they were last read for good.
    seen: Option<[Stamp; 2]>,
    /// The same, when they were found to be of no use: read once more before anybody is told, since a chain and its key
    /// are not written at once.
    doubtful: Option<[Stamp; 2]>,
    warned: Option<clock::Instant>,
}

struct Files {
    chain: PathBuf,
    key: PathBuf,
}

impl Files {
    fn of(tls: &config::Tls) -> Option<Self> {
        Some(Self { chain: tls.cert.clone()?, key: tls.key.clone()? })
    }
}

/// Tells one content of a file from the next, links followed.
type Stamp = Option<(i64, i64, u64, u64)>;

fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.mtime(), metadata.mtime_nsec(), metadata.size(), metadata.ino()))
}

impl Certificate {
    fn new(identity: Identity, tls: &config::Tls) -> Self {
        let files = Files::of(tls);
        let seen = files.as_ref().map(Files::stamps);
        Self { identity, files, seen, doubtful: None, warned: None }
    }

    /// Shows what the files hold, if they have changed.
    fn look(&mut self, node: &Node) {
        let Some(files) = &self.files else { return };
        let stamps = files.stamps();
        if self.seen != Some(stamps) {
            match self.identity.replace(&files.chain, &files.key) {
                Ok(()) => {
                    (self.seen, self.doubtful, self.warned) = (Some(stamps), None, None);
                    tracing::info!(chain = %files.chain.display(), "certificate loaded");
                }
                Err(error) if self.doubtful == Some(stamps) => {
                    (self.seen, self.doubtful) = (Some(stamps), None);
                    refuse(node, &error);
                }
                Err(_) => self.doubtful = Some(stamps),
            }
        }
        self.watch_expiry(node);
    }

    fn watch_expiry(&mut self, node: &Node) {
        let Some(expires) = self.identity.expires_unix_s() else { return };
        node.metrics.tls_certificate_expiry.set(expires);
        let left_s = expires - clock::unix_ms() / 1000;
        let is_due = self.warned.is_none_or(|at| at.elapsed() >= WARNING_INTERVAL);
        if left_s < EXPIRY_WARNING_S && is_due {
            self.warned = Some(clock::now());
            let (days, hours) = (left_s / (24 * 3600), left_s / 3600);
            match left_s {
                ..=0 => tracing::error!("the certificate has expired: clients refuse it"),
                _ => tracing::warn!(days, hours, "the certificate expires soon"),
            }
        }
    }
}

impl Files {
    fn stamps(&self) -> [Stamp; 2] {
        [stamp(&self.chain), stamp(&self.key)]
    }
}

fn refuse(node: &Node, error: &TlsError) {
    node.metrics.tls_reload_failures.inc();
    tracing::error!(%error, "certificate not loaded: the node goes on with the one it has");
}

/// An operator has two weeks.
const EXPIRY_WARNING_S: i64 = 14 * 24 * 3600;
/// Often enough to be seen, seldom enough not to be turned off.
const WARNING_INTERVAL: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_live_by_name_or_section() {
        let keys = |keys: &[&str]| keys.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (live, restart) = split(keys(&["auth.play", "authority", "log.level", "log.format", "tls.cert", "shards"]));
        assert_eq!(live, keys(&["auth.play", "log.level", "tls.cert"]));
        assert_eq!(restart, keys(&["authority", "log.format", "shards"]));
    }
}
