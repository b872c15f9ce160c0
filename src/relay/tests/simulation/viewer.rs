//! Viewers, and what they hold the nodes to.

use std::{collections::BTreeSet, sync::Arc};

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use quinn::Runtime;
use url::Url;

use super::network::Place;
use crate::{
    clock::{self, Instant},
    hub::{Cursor, Read, Viewer},
    limits::MOQ_UPSTREAM_RECEIVE_WINDOW_BYTES,
    media::{Event, Head, Item, TrackKind},
    net::tls::Trust,
    proto::moq::container::read_legacy,
    relay::{Client, Received},
};

/// Which picture it is: the publisher's session, the group in it, and the place in the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    pub(super) session: u32,
    pub(super) group: u32,
    pub(super) index: u32,
}

impl Mark {
    pub(super) fn read(mut data: Bytes) -> Self {
        Self { session: data.get_u32(), group: data.get_u32(), index: data.get_u32() }
    }

    fn follows(self, before: Self) -> bool {
        self == Self { index: before.index + 1, ..before }
    }
}

/// A viewer in the same process as his node, as those of FLV, RTMP and WebRTC are.
pub(super) struct Seat {
    pub(super) place: Place,
    pub(super) stalled: bool,
    /// He counts as one.
    _viewer: Viewer,
    cursor: Cursor<Item>,
    head: Option<Arc<Head>>,
    /// The newest picture, if nothing was left out since.
    picture: Option<Mark>,
    newest_us: [i64; 2],
    /// When he had his first frame.
    pub(super) joined: Option<Instant>,
    pub(super) newest: Option<Mark>,
    pub(super) events: Vec<Arc<Event>>,
    ids: BTreeSet<String>,
}

impl Seat {
    pub(super) fn new(place: Place, viewer: Viewer) -> Self {
        let cursor = viewer.stream().ring().cursor(Some(2_000_000));
        Self {
            place,
            stalled: false,
            _viewer: viewer,
            cursor,
            head: None,
            picture: None,
            newest_us: [i64::MIN; 2],
            joined: None,
            newest: None,
            events: Vec::new(),
            ids: BTreeSet::new(),
        }
    }

    /// Reads all there is, and holds it to what every viewer is promised.
    pub(super) fn read(&mut self) {
        if self.stalled {
            return;
        }
        let place = self.place;
        loop {
            let read = self.cursor.try_recv();
            match read.unwrap_or_else(|end| panic!("a viewer at {place} was disconnected: {end}")) {
                Some(Read::Entry { entry, .. }) => self.take(entry),
                Some(Read::Skipped { .. }) => self.picture = None,
                None => return,
            }
        }
    }

    fn take(&mut self, item: Item) {
        let place = self.place;
        match item {
            Item::Head(head) => self.head = Some(head),
            Item::Event(event) if event.head.kind != "clock" => {
                let id = event.head.id.clone();
                assert!(self.ids.insert(id), "a viewer at {place} got an event twice: {event:?}");
                self.events.push(event);
            }
            Item::Frame(frame) => {
                let head = self.head.as_ref().unwrap_or_else(|| panic!("a frame before its head at {place}"));
                let newest_us = &mut self.newest_us[usize::from(frame.track == TrackKind::Audio)];
                assert!(frame.dts_us > *newest_us, "{place}: {} after {newest_us} us", frame.dts_us);
                *newest_us = frame.dts_us;
                if frame.track == TrackKind::Audio {
                    return;
                }
                let mark = Mark::read(frame.data);
                let description = head.tracks.video.as_ref().map(|video| video.description.clone());
                assert_eq!(description, Some(super::description(mark.session)), "{place}: not the head of {mark:?}");
                assert_eq!(frame.keyframe, mark.index == 0, "{place}: {mark:?}");
                let decodable = frame.keyframe || self.picture.is_some_and(|before| mark.follows(before));
                assert!(decodable, "{place}: {mark:?} after {:?}", self.picture);
                self.picture = Some(mark);
                self.newest = Some(mark);
                self.joined.get_or_insert_with(clock::now);
            }
            Item::Event(_) | Item::Data(_) => {}
        }
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    /// His events that `other` has too, in his order.
    pub(super) fn shared(&self, other: &Self) -> Vec<&str> {
        self.events.iter().map(|event| event.head.id.as_str()).filter(|id| other.has(id)).collect()
    }
}

/// A viewer with a MoQ player of his own.
#[derive(Debug, Default)]
pub(super) struct Guest {
    /// How his sessions ended.
    pub(super) ended: Vec<String>,
    pub(super) newest: Option<Mark>,
    pub(super) wrong: Option<String>,
}

/// Plays the picture and comes back whenever he is disconnected.
pub(super) async fn visit(guest: Arc<Mutex<Guest>>, runtime: Arc<dyn Runtime>, url: Url, trust: Trust) {
    loop {
        let connecting = Client::connect_on(runtime.clone(), &url, &trust, None, 0, MOQ_UPSTREAM_RECEIVE_WINDOW_BYTES);
        if let Ok(client) = connecting.await {
            let begun = guest.lock().newest;
            let ended = tokio::select! {
                () = play(&guest, &client) => "the track ended".to_owned(),
                error = client.closed() => error.to_string(),
            };
            let mut guest = guest.lock();
            // An edge that has just begun knows of no stream yet.
            if guest.newest != begun {
                guest.ended.push(ended);
            }
        }
        tokio::time::sleep(super::TICK).await;
    }
}

async fn play(guest: &Mutex<Guest>, client: &Client) {
    let Ok(mut video) = client.subscribe(super::ROOM, "video", 60, None).await else { return };
    let mut before: Option<(u64, i64, Mark)> = None;
    while let Some(received) = video.next().await {
        let Received::Frame { group, timestamp, payload } = received else { continue };
        let Ok((_, data)) = read_legacy(payload) else { continue };
        let mark = Mark::read(data);
        let mut guest = guest.lock();
        // Groups may come interleaved; within one, pictures are complete and in order.
        if let Some((_, before_us, picture)) = before.filter(|(of, ..)| *of == group)
            && !(timestamp > before_us && mark.follows(picture))
        {
            guest.wrong = Some(format!("{mark:?} at {timestamp} after {picture:?} at {before_us}"));
        }
        before = Some((group, timestamp, mark));
        guest.newest = Some(mark);
    }
}
