//! A description's lines, cut into the session's part and one part for each media line (RFC 8866 §5).

use super::BadSdp;
use crate::limits::{SDP_BYTES_MAX, SDP_LINE_BYTES_MAX, SDP_LINES_MAX, SDP_MEDIA_MAX, SDP_TOKEN_BYTES_MAX};

/// The parts of a description.
pub(super) struct Sections<'a> {
    pub(super) session: Section<'a>,
    pub(super) media: Vec<Section<'a>>,
}

/// One part: its `m=` line, empty for the session's, and its attributes in order.
#[derive(Default)]
pub(super) struct Section<'a> {
    pub(super) line: &'a str,
    attributes: Vec<(&'a str, &'a str)>,
}

impl<'a> Sections<'a> {
    /// Reads any lines; which of them must be there is the caller's to say.
    pub(super) fn read(text: &'a str) -> Result<Self, BadSdp> {
        if text.len() > SDP_BYTES_MAX {
            return Err(BadSdp::TooLong);
        }
        let mut sections = Self { session: Section::default(), media: Vec::new() };
        for (number, line) in (1..).zip(text.lines()) {
            if number > SDP_LINES_MAX {
                return Err(BadSdp::TooMany("lines"));
            }
            if line.len() > SDP_LINE_BYTES_MAX {
                return Err(BadSdp::TooLong);
            }
            if line.is_empty() {
                continue;
            }
            let bad = BadSdp::Line(number);
            let (kind, value) = line.split_once('=').ok_or(bad.clone())?;
            if kind.len() != 1 || line.contains(char::is_control) {
                return Err(bad);
            }
            match kind {
                "m" if sections.media.len() == SDP_MEDIA_MAX => return Err(BadSdp::TooMany("media lines")),
                "m" => sections.media.push(Section { line: value, attributes: Vec::new() }),
                "a" => {
                    let section = sections.media.last_mut().unwrap_or(&mut sections.session);
                    section.attributes.push(value.split_once(':').unwrap_or((value, "")));
                }
                _ => {}
            }
        }
        Ok(sections)
    }
}

impl<'a> Section<'a> {
    /// All attributes, each a name and its value, which is empty for a flag.
    pub(super) fn attributes(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.attributes.iter().copied()
    }

    /// The values of an attribute.
    pub(super) fn all(&self, name: &'static str) -> impl Iterator<Item = &'a str> {
        self.attributes().filter_map(move |(found, value)| (found == name).then_some(value))
    }

    /// The first value of an attribute.
    pub(super) fn first(&self, name: &'static str) -> Option<&'a str> {
        self.all(name).next()
    }

    /// Is there such an attribute?
    pub(super) fn has(&self, name: &'static str) -> bool {
        self.first(name).is_some()
    }
}

/// Is `text` a token (RFC 8866 §9), so that it may be repeated in an answer?
pub(super) fn is_token(text: &str) -> bool {
    let token_char = |b: u8| b.is_ascii_graphic() && !br#""(),/:;<=>?@[\]"#.contains(&b);
    (1..=SDP_TOKEN_BYTES_MAX).contains(&text.len()) && text.bytes().all(token_char)
}
