//! What a configuration must satisfy beyond its types.

use std::{net::SocketAddr, ops::RangeInclusive, path::Path};

use tracing_subscriber::filter::LevelFilter;

use super::{Config, Problem, Role, SignedAction, TokenRole};
use crate::{
    limits,
    media::StreamName,
    net::{outbound::Reach, tls::Identity},
    secret::Digest,
};

impl Config {
    /// Everything that is wrong with it; empty when it can be served.
    pub fn check(&self) -> Vec<Problem> {
        let mut found = Problems::default();
        if self.role != Role::Edge && self.data_dir.is_none() {
            found
                .add("data_dir", "a node that takes events needs a directory for its journal and key: /var/lib/hawker");
        }
        self.check_listeners(&mut found);
        self.check_hosts(&mut found);
        self.check_webrtc(&mut found);
        self.check_files(&mut found);
        self.check_upstream(&mut found);
        self.check_ranges(&mut found);
        self.check_auth(&mut found);
        self.check_hooks(&mut found);
        self.check_standby(&mut found);
        // `Targets` takes a misspelt level for a target's name; so each part's level is read by itself.
        let level = |part: &str| part.rsplit('=').next().is_some_and(|level| level.parse::<LevelFilter>().is_ok());
        if !self.log.level.split(',').all(level) {
            found.add("log.level", "is a level (error, warn, info, debug, trace) or a list of target=level");
        }
        found.0
    }

    fn check_listeners(&self, found: &mut Problems) {
        let listeners = self.tcp_listeners();
        for (index, (key, address)) in listeners.iter().enumerate() {
            // Exactly equal is allowed for these two: then one listener serves both.
            let is_shared = |other: &str| (*key, other) == ("admin.listen", "http.listen");
            let mut before = listeners.iter().take(index);
            let taken = before.find(|(other, at)| collide(*at, *address) && !(is_shared(other) && at == address));
            if let Some((other, at)) = taken {
                found.add(*key, format!("{address} is already taken by {other} ({at})"));
            }
        }
        let with_tls = [
            ("rtmp.tls_listen", self.rtmp.tls_listen.is_some()),
            ("http.tls_listen", self.http.tls_listen.is_some()),
            ("admin.tls", self.admin.tls),
        ];
        for (key, _) in with_tls.iter().filter(|(_, on)| *on && self.tls.cert.is_none()) {
            found.add(*key, "needs a certificate: tls.cert and tls.key");
        }
        if self.admin.tls && self.admin.listen == self.http.listen {
            found.add("admin.tls", "needs an address of its own: admin.listen is http.listen, which is without TLS");
        }
    }

    fn tcp_listeners(&self) -> Vec<(&'static str, SocketAddr)> {
        let listeners = [
            ("rtmp.listen", Some(self.rtmp.listen)),
            ("rtmp.tls_listen", self.rtmp.tls_listen),
            ("http.listen", Some(self.http.listen)),
            ("http.tls_listen", self.http.tls_listen),
            ("admin.listen", Some(self.admin.listen)),
        ];
        listeners.into_iter().filter_map(|(key, address)| Some((key, address?))).collect()
    }

    fn check_hosts(&self, found: &mut Problems) {
        for (key, names) in [("http.hosts", &self.http.hosts), ("admin.hosts", &self.admin.hosts)] {
            let is_name = |name: &String| !name.is_empty() && !name.contains(['/', ':', '*', ' ']);
            if !names.iter().all(is_name) {
                found.add(key, "each is a name without scheme and port, such as \"hawker.example.com\"");
            }
        }
    }

    /// Each shard has a port of its own, for UDP and TCP.
    fn check_webrtc(&self, found: &mut Problems) {
        let webrtc = &self.webrtc;
        if webrtc.listen.port() != 0 && webrtc.listen.port() > u16::MAX - SHARDS_PORTS {
            found.add("webrtc.listen", "each shard takes a port, from this one on: there are not enough above it");
        }
        let shards = self.shards.max(1);
        for index in 0..shards.min(usize::from(SHARDS_PORTS)) {
            let listen = webrtc.listen_of(index);
            let mut taken = self.tcp_listeners();
            taken.push(("moq.listen", self.moq.listen));
            for (key, _) in taken.iter().filter(|(_, other)| collide(listen, *other)) {
                found.add("webrtc.listen", format!("shard {index} would take {listen}, which is {key}'s"));
            }
        }
        found.within("webrtc.keyframe_interval_ms", webrtc.keyframe_interval_ms, 500..=60_000);
        for origin in &webrtc.allow_origins {
            let is_origin = url::Url::parse(origin).is_ok_and(|url| url.origin().ascii_serialization() == *origin);
            if origin != "*" && !is_origin {
                found.add("webrtc.allow_origins", "each is an origin, such as \"https://shop.example.com\", or \"*\"");
            }
        }
    }

    fn check_files(&self, found: &mut Problems) {
        match (&self.tls.cert, &self.tls.key) {
            (Some(_), None) => found.add("tls.key", "is required beside tls.cert"),
            (None, Some(_)) => found.add("tls.cert", "is required beside tls.key"),
            _ => {}
        }
        let files = [
            ("tls.cert", &self.tls.cert),
            ("tls.key", &self.tls.key),
            ("upstream.token_file", &self.upstream.token_file),
            ("upstream.ca", &self.upstream.ca),
            ("upstream.cert", &self.upstream.cert),
            ("upstream.key", &self.upstream.key),
            ("moq.edge_ca", &self.moq.edge_ca),
            ("upstream.event_keys", &self.upstream.event_keys),
        ];
        for (key, path) in files {
            if let Some(path) = path {
                found.readable(key, path);
            }
        }
        if let (Some(cert), Some(key)) = (&self.tls.cert, &self.tls.key)
            && cert.exists()
            && key.exists()
            && let Err(error) = Identity::load(cert, key)
        {
            found.add("tls.cert", error.to_string());
        }
    }

    fn check_upstream(&self, found: &mut Problems) {
        let upstream = &self.upstream;
        if self.role == Role::Edge && upstream.urls.is_empty() {
            found.add("upstream.urls", "an edge needs at least one, such as \"moqt://origin.example.com:4443\"");
        }
        if !upstream.urls.is_empty() && upstream.event_keys.is_none() {
            found.add("upstream.event_keys", EVENT_KEYS_NEEDED);
        }
        for url in &upstream.urls {
            let host = url.host_str().unwrap_or_default();
            if !matches!(url.scheme(), "moqt" | "https") || host.is_empty() {
                found.add("upstream.urls", "each is moqt://host:port or https://host:port");
            } else if url.query().is_some() || !url.username().is_empty() || url.password().is_some() {
                found
                    .add("upstream.urls", "put the token into upstream.token or upstream.token_file, not into the URL");
            }
        }
        match (&upstream.cert, &upstream.key) {
            (Some(_), None) => found.add("upstream.key", "is required beside upstream.cert"),
            (None, Some(_)) => found.add("upstream.cert", "is required beside upstream.key"),
            _ => {}
        }
        if upstream.token.is_some() && upstream.token_file.is_some() {
            found.add("upstream.token_file", "give either token or token_file");
        }
        if upstream.cert_sha256.is_some() && upstream.ca.is_some() {
            found.add("upstream.ca", "give either cert_sha256 or ca");
        }
    }

    fn check_ranges(&self, found: &mut Problems) {
        let hub = &self.hub;
        found.within("shards", self.shards, 0..=1024);
        found.within("drain_secs", self.drain_secs, 0..=600);
        if let Some(bytes) = self.memory_max {
            found.within("memory_max", bytes, (64 << 20)..=(1 << 44));
        }
        found.within("hub.ring_bytes_max", hub.ring_bytes_max, (1 << 20)..=(1 << 30));
        found.within("hub.gops_max", hub.gops_max, 1..=32);
        found.within("hub.lag_ms_max", hub.lag_ms_max, 200..=60_000);
        found.within("hub.reconnect_window_secs", hub.reconnect_window_secs, 0..=1800);
        found.within("hub.linger_secs", hub.linger_secs, 0..=300);
        found.within("hub.wait_publisher_secs", hub.wait_publisher_secs, 0..=300);
        found.within("ingest.standby_after_ms", self.ingest.standby_after_ms, 100..=60_000);
        let events = &self.events;
        found.within("events.journal_bytes_max", events.journal_bytes_max, (16 << 20)..=(1 << 40));
        found.within("events.journal_retention_hours", events.journal_retention_hours, 1..=8784);
        found.within("events.rate_per_s", events.rate_per_s, 1..=1000);
        found.within("events.burst", events.burst, 1..=10_000);
    }

    fn check_standby(&self, found: &mut Problems) {
        let standby = &self.standby;
        if standby.is_shared() && self.role == Role::Edge {
            found.add("standby", "an edge has no events of its own: give edges both nodes in upstream.urls");
        }
        if standby.url.as_ref().is_some_and(|url| !matches!(url.scheme(), "http" | "https") || !url.has_host()) {
            found.add("standby.url", "is http://host:port or https://host:port");
        }
        if standby.url.is_some() && standby.token_file.is_none() {
            found.add("standby.token_file", "is required beside standby.url: a token with the role relay there");
        }
        if standby.required && standby.url.is_none() {
            found.add("standby.url", "is needed where standby.required is set");
        }
        for (key, path) in [("standby.token_file", &standby.token_file), ("standby.ca", &standby.ca)] {
            if let Some(path) = path {
                found.readable(key, path);
            }
        }
    }

    fn check_hooks(&self, found: &mut Problems) {
        let hooks = &self.hooks;
        match &hooks.url {
            Some(url) => {
                if let Err(error) = Reach::new(&hooks.allow).check(url) {
                    found.add("hooks.url", format!("{error}: see hooks.allow"));
                }
                if hooks.secret_file.is_none() {
                    found.add("hooks.secret_file", "is required beside hooks.url: the calls are signed");
                }
            }
            None if !hooks.decide.is_empty() || !hooks.notify.is_empty() => {
                found.add("hooks.url", "is needed for what hooks.decide and hooks.notify name");
            }
            None => {}
        }
        for (key, path) in [("hooks.secret_file", &hooks.secret_file), ("hooks.ca", &hooks.ca)] {
            if let Some(path) = path {
                found.readable(key, path);
            }
        }
        found.within("hooks.timeout_ms", hooks.timeout_ms, 100..=2000);
        found.within("hooks.concurrency", hooks.concurrency, 1..=256);
        found.within("hooks.cache_ms", hooks.cache_ms, 0..=60_000);
        found.within("hooks.queue_max", hooks.queue_max, 64..=65_536);
    }

    fn check_auth(&self, found: &mut Problems) {
        let nothing = Digest::of("");
        for (i, key) in self.auth.publish.iter().enumerate() {
            found.prefix(format!("auth.publish[{i}].prefix"), &key.prefix);
            if key.key_sha256 == nothing {
                found.add(format!("auth.publish[{i}].key_sha256"), HASH_OF_NOTHING);
            }
            for (name, max) in [("streams_max", key.streams_max), ("bitrate_kbps_max", key.bitrate_kbps_max)] {
                found.within(&format!("auth.publish[{i}].{name}"), max.unwrap_or(1), 1..=1_000_000);
            }
        }
        for (i, token) in self.auth.token.iter().enumerate() {
            found.prefix(format!("auth.token[{i}].prefix"), &token.prefix);
            if token.token_sha256 == nothing {
                found.add(format!("auth.token[{i}].token_sha256"), HASH_OF_NOTHING);
            }
            if token.roles.is_empty() {
                found.add(format!("auth.token[{i}].roles"), "a token without a role opens nothing");
            }
            if token.roles.contains(&TokenRole::Relay) && !token.prefix.is_empty() {
                found.add(
                    format!("auth.token[{i}].prefix"),
                    "an edge pulls every stream: a token with the role relay has the prefix \"\"",
                );
            }
        }
        let mut kids = Vec::new();
        for (i, key) in self.auth.jwt.iter().enumerate() {
            let at = format!("auth.jwt[{i}]");
            found.signing_key(&at, &key.kid, &mut kids, &key.prefix, &key.actions);
            found.readable(&format!("{at}.key_file"), &key.key_file);
            if key.audience.is_empty() {
                found.add(format!("{at}.audience"), "must name this service, as its tokens do in `aud`");
            }
        }
        for (i, key) in self.auth.url.iter().enumerate() {
            let at = format!("auth.url[{i}]");
            found.signing_key(&at, &key.kid, &mut kids, &key.prefix, &key.actions);
            found.readable(&format!("{at}.secret_file"), &key.secret_file);
        }
    }
}

const HASH_OF_NOTHING: &str = "is the hash of nothing: was the file empty?";

/// Two TCP addresses that one machine can't listen on at once. Port 0 takes any free port.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && a.port() != 0 && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

/// The most shards there may be.
const SHARDS_PORTS: u16 = 1024;

const EVENT_KEYS_NEEDED: &str = "events from upstream are believed only if their key is known: \
    curl http://ORIGIN/.well-known/hawker-keys.json -o /etc/hawker/event-keys.json";

#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem { line: None, key: key.into(), message: message.into() });
    }

    fn within<T: PartialOrd + std::fmt::Display>(&mut self, key: &str, value: T, range: RangeInclusive<T>) {
        if !range.contains(&value) {
            self.add(key, format!("{value} is outside {}..={}", range.start(), range.end()));
        }
    }

    fn readable(&mut self, key: &str, path: &Path) {
        if let Err(e) = std::fs::File::open(path) {
            self.add(key, format!("{}: {e}", path.display()));
        }
    }

    fn signing_key<'a>(
        &mut self,
        at: &str,
        kid: &'a str,
        kids: &mut Vec<&'a str>,
        prefix: &str,
        actions: &[SignedAction],
    ) {
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        if kid.is_empty() || kid.len() > limits::AUTH_KID_BYTES_MAX || !kid.bytes().all(legal) {
            self.add(format!("{at}.kid"), format!("is 1 to {} of A-Z a-z 0-9 _ - .", limits::AUTH_KID_BYTES_MAX));
        }
        if kids.contains(&kid) {
            self.add(format!("{at}.kid"), format!("{kid} is already taken"));
        }
        kids.push(kid);
        self.prefix(format!("{at}.prefix"), prefix);
        if actions.is_empty() {
            self.add(format!("{at}.actions"), "a key without an action opens nothing");
        }
    }

    fn prefix(&mut self, key: String, prefix: &str) {
        if !prefix.is_empty() && prefix.parse::<StreamName>().is_err() {
            self.add(key, "is a stream name or a folder of names: A-Z a-z 0-9 _ - joined by '/', none at the ends");
        }
    }
}
