//! Wires the parts into a running server.
