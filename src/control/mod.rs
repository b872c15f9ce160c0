//! The HTTP API and who may do what.

pub mod api;
pub mod auth;
pub mod hooks;
pub mod keys;
pub mod rundown;
pub mod standby;
