//! MoQ over QUIC: edges and MoQ viewers, one session type.
