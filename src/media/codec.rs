//! Facts read from codec configuration records: dimensions, rates and RFC 6381 codec strings.
