//! Offers, as WHIP and WHEP clients post them.

use super::{BadSdp, Media, Transport, lines::Sections};

/// An offer that was read, and that names a transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The transport of the first line that has one; a line may have another.
    pub transport: Transport,
    /// The media lines.
    pub media: Vec<Media>,
    /// It asks for one transport for several lines (RFC 9143), even if it has but one.
    pub bundle: bool,
}

impl Offer {
    /// Reads an offer.
    pub fn parse(text: &str) -> Result<Self, BadSdp> {
        let (media, bundle) = read_media(text)?;
        let transport = media.iter().find_map(|media| media.transport.clone()).ok_or(BadSdp::Missing("ice-ufrag"))?;
        Ok(Self { transport, media, bundle })
    }
}

/// The media lines of an offer or an answer, and whether it has a BUNDLE group.
pub(super) fn read_media(text: &str) -> Result<(Vec<Media>, bool), BadSdp> {
    let sections = Sections::read(text)?;
    if text.lines().next() != Some("v=0") {
        return Err(BadSdp::Missing("v=0"));
    }
    let mut groups = sections.session.all("group").map(|group| group.split(' '));
    let bundle = groups.find_map(|mut words| (words.next() == Some("BUNDLE")).then_some(words));
    let mut lines: Vec<Media> = Vec::new();
    for section in &sections.media {
        let mut media = Media::read(section, &sections.session)?;
        if !media.mid.is_empty() && lines.iter().any(|other| other.mid == media.mid) {
            return Err(BadSdp::Bad("mid"));
        }
        // A line alone needs no group.
        media.bundled = match &bundle {
            Some(mids) => mids.clone().any(|mid| mid == media.mid && !mid.is_empty()),
            None => sections.media.len() == 1,
        };
        lines.push(media);
    }
    Ok((lines, bundle.is_some()))
}
