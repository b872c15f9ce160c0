//! The one validated stream name. Nothing else in the house may name a stream.

use std::{fmt, str::FromStr, sync::Arc};

/// Segments of `[A-Za-z0-9_-]`, joined by `/`, at most 8 and at most 128 bytes in all.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamName(Arc<str>);

/// Why a name was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a stream name has 1 to 8 segments of A-Z a-z 0-9 _ -, joined by '/', and at most 128 bytes")]
pub struct BadStreamName;

impl StreamName {
    /// Longest name in bytes.
    pub const BYTES_MAX: usize = 128;
    /// Most segments in a name.
    pub const SEGMENTS_MAX: usize = 8;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if `prefix` equals this name or names a folder above it; compares whole segments,
    /// so `a` covers `a/b` and never `ab`. The empty prefix covers everything.
    pub fn is_under(&self, prefix: &str) -> bool {
        match self.0.strip_prefix(prefix) {
            Some(rest) => prefix.is_empty() || rest.is_empty() || rest.starts_with('/'),
            None => false,
        }
    }

    /// True for `org/_global`, whose events are for every room of the organisation.
    pub fn is_global(&self) -> bool {
        Self::is_global_name(&self.0)
    }

    /// The same of a name that is only text.
    pub(super) fn is_global_name(name: &str) -> bool {
        name.split_once('/').is_some_and(|(_, room)| room == GLOBAL)
    }

    /// The name under which the organisation of this stream has its all-rooms events; a name without folders
    /// has no organisation.
    pub fn global(&self) -> Option<Self> {
        let (org, _) = self.0.split_once('/')?;
        Self::global_of(org).ok()
    }

    /// The same by the organisation, which is one segment.
    pub fn global_of(org: &str) -> Result<Self, BadStreamName> {
        format!("{org}/{GLOBAL}").parse()
    }
}

/// The room that stands for all rooms of an organisation.
const GLOBAL: &str = "_global";

impl FromStr for StreamName {
    type Err = BadStreamName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let legal = |segment: &str| {
            !segment.is_empty() && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        };
        if text.len() > Self::BYTES_MAX || text.split('/').count() > Self::SEGMENTS_MAX || !text.split('/').all(legal) {
            return Err(BadStreamName);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_segments_and_refuses_the_rest() {
        for good in ["a", "live/room-1", "acme/live/room_8841", "1/2/3/4/5/6/7/8", &"x".repeat(128)] {
            assert_eq!(good.parse::<StreamName>().expect(good).as_str(), good);
        }
        for bad in
            ["", "/", "a/", "/a", "a//b", "a b", "a.b", "../a", "ä", "a\n", "1/2/3/4/5/6/7/8/9", &"x".repeat(129)]
        {
            assert_eq!(bad.parse::<StreamName>(), Err(BadStreamName), "{bad:?}");
        }
    }

    #[test]
    fn a_prefix_covers_whole_segments_only() {
        let name: StreamName = "a/b".parse().expect("legal");
        assert!(name.is_under("") && name.is_under("a") && name.is_under("a/b"));
        let other: StreamName = "ab/c".parse().expect("legal");
        assert!(!other.is_under("a") && !name.is_under("a/b/c") && !name.is_under("b"));
    }

    #[test]
    fn an_organisation_has_one_room_for_all() {
        let room: StreamName = "acme/live/room-1".parse().expect("legal");
        let global = room.global().expect("an organisation");
        assert_eq!(global.as_str(), "acme/_global");
        assert!(global.is_global() && !room.is_global());
        assert_eq!("room".parse::<StreamName>().expect("legal").global(), None);
    }
}
