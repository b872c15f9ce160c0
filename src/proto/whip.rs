//! What WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep) say over HTTP: media types, relations of links, resources.

use core::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// The type of offers and answers.
pub const SDP: &str = "application/sdp";
/// The type of candidates and restarts in a PATCH, also the value of `Accept-Patch`.
pub const FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// The data channel that events travel on; the viewer opens it.
pub const EVENTS_CHANNEL: &str = "live-events";
/// The relation of a link to a player's events (draft-ietf-wish-whep §4.5.1).
pub const SSE_REL: &str = "urn:ietf:params:whep:ext:core:server-sent-events";

/// Does `If-Match` name the ICE session with that `ETag`, its quotes included? A restart names any, as `*`, which
/// RFC 9725 §4.3.3 writes in quotes.
pub fn if_match(header: &str, etag: &str) -> bool {
    header.split(',').map(str::trim).any(|tag| matches!(tag, "*" | "\"*\"") || tag == etag)
}

/// Names a session in its URL. Random, so that who knows it may end the session.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ResourceId([u8; 16]);

impl ResourceId {
    /// A new one.
    pub fn random() -> Self {
        Self(rand::random())
    }
}

impl fmt::Display for ResourceId {
    /// As URLs have it: 22 characters of base64url.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for ResourceId {
    /// Logs must not say it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResourceId(…)")
    }
}

/// A text that names no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a session")]
pub struct BadResourceId;

impl FromStr for ResourceId {
    type Err = BadResourceId;

    fn from_str(text: &str) -> Result<Self, BadResourceId> {
        // 22 characters carry four bits too many, which the decoder wants to be 0: each id has one text.
        let mut bytes = [0; 16];
        match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
            Ok(16) => Ok(Self(bytes)),
            _ => Err(BadResourceId),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_has_one_name() {
        let id = ResourceId::random();
        let text = id.to_string();
        assert_eq!((text.len(), text.parse()), (22, Ok(id)));
        assert!(ResourceId::random() != id && !format!("{id:?}").contains(&text));
        // RFC 4648 §10: "foobar" is Zm9vYmFy.
        assert_eq!("Zm9vYmFyZm9vYmFyZm9vYg".parse(), Ok(ResourceId(*b"foobarfoobarfoob")));
        for bad in ["", "Zm9vYmFy", "Zm9vYmFyZm9vYmFyZm9vYh", "Zm9vYmFyZm9vYmFyZm9vYg==", "Zm9vYmFyZm9vYmFyZm9vYmFy"] {
            assert_eq!(bad.parse::<ResourceId>(), Err(BadResourceId), "{bad}");
        }
        assert_eq!("é".repeat(11).parse::<ResourceId>(), Err(BadResourceId));
    }

    #[test]
    fn tags_match_as_http_says() {
        for (header, is_match) in [
            ("\"abcd\"", true),
            ("*", true),
            ("\"*\"", true),
            ("\"x\", \"abcd\"", true),
            ("abcd", false),
            ("W/\"abcd\"", false),
            ("", false),
        ] {
            assert_eq!(if_match(header, "\"abcd\""), is_match, "{header}");
        }
    }
}
