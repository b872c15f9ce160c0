//! Entry points of the fuzz targets: any bytes in, no panic, and what is read can be written again.

use super::{Event, Room};

/// An event, as it comes from the API or from another node.
pub fn event(bytes: &[u8]) {
    if let Ok(event) = Event::from_json(bytes) {
        assert_eq!(Event::from_json(&event.json).as_ref(), Ok(&event), "the canonical form is not its own");
    }
}

/// A room's snapshot, as it comes from another node.
pub fn room(bytes: &[u8]) {
    let mut more = Vec::new();
    if let Ok((room, now)) = Room::from_json(bytes, &mut more) {
        let source = "org/live/room".parse().expect("a stream name");
        let json = room.to_json(&source, now, &[]);
        assert!(Room::from_json(json.as_bytes(), &mut more).is_ok(), "no snapshot: {json}");
    }
}
