//! MoQ dialects: varints, moq-lite-05 messages, catalogs.
