//! Streams: one line of items each, read through cursors.
