//! Reading a configuration file, with errors that name the file, the line and the key.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::{Config, Upstream};
use crate::secret::Secret;

/// One thing that is wrong in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line in the file, from 1, if the key or its section is written there.
    pub line: Option<usize>,
    /// `section.key`; empty when the text isn't TOML at all.
    pub key: String,
    /// What is wrong with it.
    pub message: String,
}

/// Why a configuration file can't be served.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file, or one it names, can't be read.
    #[error("{}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Its content is wrong; one line of text for each problem.
    #[error("{}", Listing(.path, .problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// At least one.
        problems: Vec<Problem>,
    },
}

impl Config {
    /// Reads and checks `path`.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let text = std::fs::read_to_string(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|problems| LoadError::Invalid { path: path.to_owned(), problems })
    }

    /// Reads and checks TOML text.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        let lines = keys_by_line(text);
        let toml = toml::Deserializer::parse(text).map_err(|error| {
            let line = error.span().map(|span| text.bytes().take(span.start).filter(|b| *b == b'\n').count() + 1);
            vec![Problem { line, key: String::new(), message: error.message().trim_end().to_owned() }]
        })?;
        let config: Self = serde_path_to_error::deserialize(toml).map_err(|error| {
            let key = error.path().to_string();
            let message = error.inner().message().trim_end().to_owned();
            vec![Problem { line: line_of(&lines, &key), key, message }]
        })?;
        let mut problems = config.check();
        for problem in &mut problems {
            problem.line = line_of(&lines, &problem.key);
        }
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }
}

/// A configuration as somebody wrote it, to tell two of them apart key by key.
#[derive(Debug, Clone, Default)]
pub struct Written(toml::Table);

impl Written {
    /// Reads `path`; what can't be read has nothing written in it.
    pub fn read(path: &Path) -> Self {
        Self(std::fs::read_to_string(path).ok().and_then(|text| text.parse().ok()).unwrap_or_default())
    }

    /// The keys, as `section.key`, whose values differ from those in `other`.
    pub fn differing(&self, other: &Self) -> Vec<String> {
        let mut keys = Vec::new();
        differing("", &self.0, &other.0, &mut keys);
        keys
    }
}

fn differing(section: &str, ours: &toml::Table, theirs: &toml::Table, keys: &mut Vec<String>) {
    let nothing = toml::Table::new();
    let added = theirs.keys().filter(|key| !ours.contains_key(*key));
    for key in ours.keys().chain(added) {
        let path = if section.is_empty() { key.clone() } else { format!("{section}.{key}") };
        match (ours.get(key), theirs.get(key)) {
            (Some(toml::Value::Table(ours)), theirs) => {
                let theirs = theirs.and_then(toml::Value::as_table).unwrap_or(&nothing);
                differing(&path, ours, theirs, keys);
            }
            (None, Some(toml::Value::Table(theirs))) => differing(&path, &nothing, theirs, keys),
            (ours, theirs) if ours != theirs => keys.push(path),
            _ => {}
        }
    }
}

impl Upstream {
    /// The relay token, from the configuration or its file.
    pub fn load_token(&self) -> Result<Option<Secret>, LoadError> {
        let Some(path) = &self.token_file else { return Ok(self.token.clone()) };
        let text = std::fs::read_to_string(path).map_err(|source| LoadError::Read { path: path.clone(), source })?;
        Ok(Some(Secret::new(text.trim())))
    }
}

/// The lines that write a key, as `section.key` or `section[index].key`; section headers count as keys.
fn keys_by_line(text: &str) -> Vec<(usize, String)> {
    let mut keys: Vec<(usize, String)> = Vec::new();
    let mut section = String::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if let Some(name) = line.strip_prefix("[[").and_then(|rest| rest.split_once("]]")).map(|(name, _)| name.trim())
        {
            let index = (0..).find(|i| !keys.iter().any(|(_, key)| *key == format!("{name}[{i}]"))).unwrap_or(0);
            section = format!("{name}[{index}]");
            keys.push((number, section.clone()));
        } else if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(name, _)| name) {
            section = name.trim().to_owned();
            keys.push((number, section.clone()));
        } else if let Some((key, _)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            let key = key.trim();
            keys.push((number, if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }));
        }
    }
    keys
}

/// Where `key` is written, or else what encloses it.
fn line_of(lines: &[(usize, String)], mut key: &str) -> Option<usize> {
    loop {
        if let Some((line, _)) = lines.iter().find(|(_, written)| written == key) {
            return Some(*line);
        }
        key = key.get(..key.rfind(['.', '['])?)?;
    }
}

struct Listing<'a>(&'a Path, &'a [Problem]);

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.1.iter().enumerate() {
            let newline = if i == 0 { "" } else { "\n" };
            write!(f, "{newline}{}", self.0.display())?;
            if let Some(line) = problem.line {
                write!(f, ":{line}")?;
            }
            if !problem.key.is_empty() {
                write!(f, ": {}", problem.key)?;
            }
            write!(f, ": {}", problem.message)?;
        }
        Ok(())
    }
}
