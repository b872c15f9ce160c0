//! `hawker`: see `hawker --help`.

fn main() {}
