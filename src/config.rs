//! Configuration: one struct, TOML, unknown keys refused.
