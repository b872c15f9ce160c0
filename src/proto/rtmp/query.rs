//! The query part of stream names and URLs: where keys travel.

use std::fmt;

/// A query string. It may hold a key, so it has no readable `Debug`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Query(String);

impl Query {
    /// The value of `key`, percent-decoded.
    pub fn get(&self, key: &str) -> Option<String> {
        let pairs = url::form_urlencoded::parse(self.0.as_bytes());
        pairs.into_iter().find(|(k, _)| k == key).map(|(_, value)| value.into_owned())
    }

    /// The whole of it, without the question mark.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Appends another one; what was there first wins in [`Self::get`].
    pub(super) fn join(mut self, other: &str) -> Self {
        if !self.0.is_empty() && !other.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(other);
        self
    }
}

impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Query({} bytes)", self.0.len())
    }
}

/// `text` without its query, and the query.
pub(super) fn split(text: &str) -> (&str, &str) {
    text.split_once('?').unwrap_or((text, ""))
}
