//! The question that every door asks; `control` answers it.

use crate::media::StreamName;

/// Who may do what. The same answer for unknown and wrong; constant time in the secret.
pub trait Access: Send + Sync + 'static {
    /// May `key` publish `name`?
    fn may_publish(&self, name: &StreamName, key: &str) -> bool;
    /// May who publishes `name` with `key` put events into it, inside the stream?
    fn may_publish_events(&self, name: &StreamName, key: &str) -> bool;
    /// May `name` be watched with `token`, or without one?
    fn may_play(&self, name: &StreamName, token: Option<&str>) -> bool;
    /// Is `token` an edge's?
    fn may_relay(&self, token: &str) -> bool;
}
