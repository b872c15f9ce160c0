//! What WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep) have in common over HTTP: media types, links, resources, ETags.

use core::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// The type of offers and answers.
pub const SDP: &str = "application/sdp";
/// The type of candidates and restarts in a PATCH, also the value of `Accept-Patch`.
pub const SDP_FRAGMENT: &str = "application/trickle-ice-sdpfrag";
/// The relation of a link to a STUN or TURN server (RFC 9725 §4.6).
pub const ICE_SERVER: &str = "ice-server";
/// The relation of a link to a player's events (draft-ietf-wish-whep §4.5.1).
pub const SERVER_SENT_EVENTS: &str = "urn:ietf:params:whep:ext:core:server-sent-events";

/// Is the value of a `Content-Type` that type, whatever its parameters (RFC 9110 §8.3.1)?
pub fn is_type(content_type: &str, expected: &str) -> bool {
    content_type.split(';').next().is_some_and(|found| found.trim().eq_ignore_ascii_case(expected))
}

/// The value of a `Link` header (RFC 8288 §3): a target, its relation, and parameters such as a TURN server's
/// `username` and `credential`. `None` if it has characters that a header can't carry.
pub fn link(target: &str, relation: &str, parameters: &[(&str, &str)]) -> Option<String> {
    let mut text = format!("<{target}>");
    for (name, value) in [("rel", relation)].iter().chain(parameters) {
        let escaped = value.replace('\\', r"\\").replace('"', r#"\""#);
        text.push_str(&format!(r#"; {name}="{escaped}""#));
    }
    let is_target = target.bytes().all(|b| b.is_ascii_graphic() && b != b'<' && b != b'>');
    (is_target && text.bytes().all(|b| b == b' ' || b.is_ascii_graphic())).then_some(text)
}

/// The `ETag` of an ICE session, quotes included (RFC 9725 §4.3.1). A restart changes the ufrag, so the tag too.
pub fn etag(ufrag: &str) -> String {
    format!("\"{ufrag}\"")
}

/// Does `If-Match` name the session with that `ETag`? A restart names any, as `*`, which RFC 9725 §4.3.3 writes in
/// quotes.
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
    fn links_are_as_the_rfcs_write_them() {
        let turn = [("username", "user"), ("credential", "my\"Password"), ("credential-type", "password")];
        assert_eq!(
            link("turn:turn.example.net?transport=udp", ICE_SERVER, &turn).as_deref(),
            Some(
                "<turn:turn.example.net?transport=udp>; rel=\"ice-server\"; username=\"user\"; \
                 credential=\"my\\\"Password\"; credential-type=\"password\""
            )
        );
        assert_eq!(link("stun:a\r\nSet-Cookie: b", ICE_SERVER, &[]), None);
        assert_eq!(link("stun:a>; rel=x", ICE_SERVER, &[]), None);
        assert_eq!(link("turn:a", ICE_SERVER, &[("username", "a\r\nb")]), None);
    }

    #[test]
    fn types_and_tags_match_as_http_says() {
        assert!(is_type("Application/SDP; charset=utf-8", SDP) && is_type("application/sdp", SDP));
        assert!(!is_type("application/sdpx", SDP) && !is_type("", SDP) && !is_type(SDP_FRAGMENT, SDP));
        let tag = etag("abcd");
        for (header, is_match) in
            [("\"abcd\"", true), ("*", true), ("\"*\"", true), ("\"x\", \"abcd\"", true), ("abcd", false), ("", false)]
        {
            assert_eq!(if_match(header, &tag), is_match, "{header}");
        }
    }
}
