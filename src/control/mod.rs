//! The HTTP API and who may do what.
