//! Publishers come in here.
