//! Trickled candidates and ICE restarts (`application/trickle-ice-sdpfrag`, RFC 8840), as PATCH requests carry them.

use super::{
    BadSdp, Candidate, Local,
    lines::{Sections, is_token},
    media::Head,
    transport::{candidates, credentials},
    write::write_candidates,
};
use crate::proto::ice::Credentials;

/// A fragment that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// Whose candidates these are; others than the session's ask for a restart (RFC 9725 §4.3.3).
    pub ice: Option<Credentials>,
    /// The line that they belong to, empty if it isn't said.
    pub mid: String,
    /// The candidates.
    pub candidates: Vec<Candidate>,
    /// There will be no more.
    pub end_of_candidates: bool,
    head: Option<Head>,
}

impl Fragment {
    /// Reads a fragment. Of several lines the first counts: all share its transport.
    pub fn parse(text: &str) -> Result<Self, BadSdp> {
        let sections = Sections::read(text)?;
        let session = &sections.session;
        let media = sections.media.first().unwrap_or(session);
        let ice = credentials(media)?.map_or_else(|| credentials(session), |ice| Ok(Some(ice)))?;
        let mid = media.first("mid").unwrap_or_default();
        if !mid.is_empty() && !is_token(mid) {
            return Err(BadSdp::Bad("mid"));
        }
        let head = match sections.media.first() {
            Some(media) => Some(Head::parse(media.line).ok_or(BadSdp::Bad("media line"))?.0),
            None => None,
        };
        Ok(Self {
            ice,
            mid: mid.to_owned(),
            candidates: candidates(media),
            end_of_candidates: media.has("end-of-candidates") || session.has("end-of-candidates"),
            head,
        })
    }

    /// The answer to a restart: our new credentials, and where we are.
    pub fn restart_answer(&self, local: &Local) -> String {
        let mut text = "a=ice-lite\r\n".to_owned();
        if let Some(head) = &self.head {
            text.push_str(&format!("m={} 9 {} {}\r\n", head.media, head.protocol, head.format));
        }
        if !self.mid.is_empty() {
            text.push_str(&format!("a=mid:{}\r\n", self.mid));
        }
        text.push_str(&format!("a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n", local.ice.ufrag, local.ice.pwd));
        write_candidates(&mut text, local);
        text
    }
}
