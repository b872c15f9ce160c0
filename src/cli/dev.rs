//! `hawker dev`: an origin and an edge on loopback, joined by real QUIC, for trying things out.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::Outcome;

/// Arguments of `hawker dev`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print one JSON object with all URLs and tokens as the first line.
    #[arg(long)]
    pub json: bool,
    /// Leave the sample anchor out.
    #[arg(long)]
    pub no_sample: bool,
    /// The first of the ports to use.
    #[arg(long, value_name = "N")]
    pub port_base: Option<u16>,
    /// Keep keys and data here [default: a fresh temporary directory].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// Where a running `hawker dev` is reached: what `--json` prints, and what the other tools look up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// The node that publishers push to.
    pub origin: Node,
    /// The node that viewers watch at.
    pub edge: Node,
}

/// One node of `hawker dev`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// `rtmp://host:port`
    pub rtmp: String,
    /// `http://host:port`: FLV, page and API.
    pub http: String,
    /// `https://host:port`: MoQ.
    pub moq: String,
    /// Where to push, key included.
    pub publish_url: String,
    /// Opens the API.
    pub api_token: String,
}

impl Info {
    /// The file by which tools started without addresses find the running `hawker dev`.
    pub fn default_path() -> PathBuf {
        std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from).join("hawker-dev.json")
    }

    /// Writes it, readable for this user only: it holds keys.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        use std::{io::Write, os::unix::fs::OpenOptionsExt};
        // A new file each time: an old one may have other rights, or be a link.
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(serde_json::to_string(self)?.as_bytes())
    }

    /// Reads what a running `hawker dev` has written.
    pub fn load(path: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    }
}

/// Runs until the process is told to end.
pub fn run(_args: Args) -> Outcome {
    Err("dev is not built yet".into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn info_is_found_again_and_kept_private() {
        let node = Node {
            rtmp: "rtmp://127.0.0.1:1935".into(),
            http: "http://127.0.0.1:8080".into(),
            moq: "https://127.0.0.1:4443".into(),
            publish_url: "rtmp://127.0.0.1:1935/live/room?key=k".into(),
            api_token: "t".into(),
        };
        let info = Info { origin: node.clone(), edge: node };
        let dir = tempfile::tempdir().expect("a directory");
        let (path, other) = (dir.path().join("dev.json"), dir.path().join("other"));
        symlink(&other, &path).expect("linked");
        info.save(&path).expect("saved");
        info.save(&path).expect("saved over itself");
        assert_eq!(Info::load(&path).expect("loaded"), info);
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert!(!other.exists(), "the link was not followed");
    }
}
