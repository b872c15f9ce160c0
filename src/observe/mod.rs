//! Metrics, health and logs.

pub mod health;
pub mod log;
pub mod memory;
pub mod metrics;

pub use health::Health;
pub use metrics::{Metrics, Protocol, StreamMetrics};
