//! A viewer that reads HTTP-FLV himself and keeps every event: no player shows them all.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use hawker::clock::{self, Instant};
use serde::Deserialize;
use serde_json::value::RawValue;
use socket2::SockRef;

/// Watches until the server ends it, or the test does.
pub(crate) struct FlvViewer {
    seen: Arc<(Mutex<Seen>, Condvar)>,
    held: Arc<AtomicBool>,
}

/// What has come so far.
#[derive(Default)]
pub(crate) struct Seen {
    /// Pictures.
    pub(crate) frames: usize,
    pub(crate) pictures: Vec<SeenPicture>,
    /// Tags of sound.
    pub(crate) sounds: usize,
    /// Tags that configure pictures.
    pub(crate) configs: usize,
    pub(crate) events: Vec<Carried>,
    /// Keyframes that came after a gap.
    pub(crate) skips: usize,
    /// Pictures that came after a gap and need those that were left out.
    pub(crate) broken: usize,
    newest_ms: u32,
    /// Why there will be no more.
    pub(crate) ended: Option<String>,
}

/// A picture as it came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SeenPicture {
    pub(crate) dts_ms: i64,
    pub(crate) is_key: bool,
    /// Configurations before it.
    pub(crate) configs: usize,
    pub(crate) at: Instant,
}

/// An event as it was carried.
#[derive(Debug, Clone)]
pub(crate) struct Carried {
    /// In a snapshot: it tells what is so, not what happens.
    pub(crate) replay: bool,
    /// The signed bytes.
    pub(crate) json: String,
    /// Pictures before it.
    pub(crate) frame: usize,
}

/// Longest wait for something to come.
const WAIT_MAX: Duration = Duration::from_secs(20);

impl FlvViewer {
    pub(crate) fn watch(url: &str) -> Self {
        Self::begin(url, None)
    }

    /// One who takes little in advance, and can be held.
    pub(crate) fn watch_held_short(url: &str) -> Self {
        Self::begin(url, Some(16 * 1024))
    }

    /// Lets him read no more, or again.
    pub(crate) fn hold(&self, held: bool) {
        self.held.store(held, Ordering::Relaxed);
    }

    fn begin(url: &str, receive_bytes: Option<usize>) -> Self {
        let (seen, held): (Arc<(Mutex<Seen>, Condvar)>, Arc<AtomicBool>) = Default::default();
        let (shared, url, is_held) = (seen.clone(), url.to_owned(), held.clone());
        thread::spawn(move || {
            let ended = read(&url, receive_bytes, |change| {
                while is_held.load(Ordering::Relaxed) {
                    thread::park_timeout(Duration::from_millis(5));
                }
                change(&mut shared.0.lock().unwrap_or_else(PoisonError::into_inner));
                shared.1.notify_all();
            });
            let why = ended.expect_err("reads until it fails").to_string();
            shared.0.lock().unwrap_or_else(PoisonError::into_inner).ended = Some(why);
            shared.1.notify_all();
        });
        Self { seen, held }
    }

    /// Waits until `find` finds its thing in what has come so far.
    pub(crate) fn wait<T>(&self, what: &str, find: impl FnMut(&Seen) -> Option<T>) -> T {
        let found = self.try_wait(find);
        found.unwrap_or_else(|| {
            let came = self.look(|seen| format!("{} frames, {} events", seen.frames, seen.events.len()));
            panic!("no {what}; {came}, ended: {:?}", self.look(|seen| seen.ended.clone()))
        })
    }

    /// Waits as well; `None` if it doesn't come.
    pub(crate) fn try_wait<T>(&self, mut find: impl FnMut(&Seen) -> Option<T>) -> Option<T> {
        let mut found = None;
        let lock = self.seen.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = |seen: &mut Seen| {
            found = find(seen);
            found.is_none() && seen.ended.is_none()
        };
        drop(self.seen.1.wait_timeout_while(lock, WAIT_MAX, waiting));
        found
    }

    /// Waits until `count` pictures have come since it began.
    pub(crate) fn wait_total(&self, count: usize) -> Vec<SeenPicture> {
        self.wait(&format!("{count} pictures"), |seen| (seen.frames >= count).then(|| seen.pictures.clone()))
    }

    /// Waits until the server ends it.
    pub(crate) fn wait_end(&self) {
        let lock = self.seen.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (seen, _) = self.seen.1.wait_timeout_while(lock, WAIT_MAX, |seen| seen.ended.is_none()).unwrap();
        assert!(seen.ended.is_some(), "still connected");
    }

    /// What has come so far.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for `count` more video frames.
    pub(crate) fn wait_frames(&self, count: usize) {
        let before = self.look(|seen| seen.frames);
        self.wait("more frames", |seen| (seen.frames >= before + count).then_some(()));
    }

    /// Waits for more pictures, all on this connection.
    pub(crate) fn goes_on(&self) {
        let before = self.look(|seen| seen.frames);
        self.wait("more pictures", |seen| (seen.frames > before + 10 && seen.ended.is_none()).then_some(()));
    }

    /// How often the event of this id has come: as it happens, and in snapshots.
    pub(crate) fn count(&self, id: &str) -> (usize, usize) {
        self.look(|seen| {
            let of_id = seen.events.iter().filter(|event| event.json.contains(&format!("\"id\":\"{id}\"")));
            let replays = of_id.clone().filter(|event| event.replay).count();
            (of_id.count() - replays, replays)
        })
    }
}

impl Seen {
    fn picture(&mut self, ms: u32, is_key: bool) {
        let gap = self.frames > 0 && ms > self.newest_ms + GAP_MS;
        self.skips += usize::from(gap && is_key);
        self.broken += usize::from(gap && !is_key);
        (self.frames, self.newest_ms) = (self.frames + 1, ms);
        let (dts_ms, configs) = (ms.into(), self.configs);
        self.pictures.push(SeenPicture { dts_ms, is_key, configs, at: clock::now() });
    }
}

/// Between pictures of 30 a second that follow each other.
const GAP_MS: u32 = 60;

type Change<'a> = &'a mut dyn FnMut(&mut Seen);

fn read(url: &str, receive_bytes: Option<usize>, mut told: impl FnMut(Change<'_>)) -> io::Result<()> {
    let (host, path) = url.strip_prefix("http://").and_then(|url| url.split_once('/')).expect("an http URL");
    let mut stream = TcpStream::connect(host)?;
    if let Some(bytes) = receive_bytes {
        SockRef::from(&stream).set_recv_buffer_size(bytes)?;
    }
    // 1.0: the body comes as it is, and ends with the connection.
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
    let mut from = BufReader::new(stream);
    let mut line = String::new();
    from.read_line(&mut line)?;
    if !line.contains(" 200 ") {
        return Err(io::Error::other(line));
    }
    while line.trim_end() != "" {
        line.clear();
        from.read_line(&mut line)?;
    }
    let _header: [u8; 9 + 4] = array(&mut from)?;
    loop {
        let [kind, l2, l1, l0, t2, t1, t0, t3, ..] = array::<11>(&mut from)?;
        let (length, ms) = (u32::from_be_bytes([0, l2, l1, l0]), u32::from_be_bytes([t3, t2, t1, t0]));
        let mut body = vec![0; usize::try_from(length).unwrap()];
        from.read_exact(&mut body)?;
        let _length: [u8; 4] = array(&mut from)?;
        match kind {
            // All but the configuration, which H.264 marks with a 0 here.
            9 if body.get(1) != Some(&0) => told(&mut |seen| seen.picture(ms, body[0] >> 4 == 1)),
            9 => told(&mut |seen| seen.configs += 1),
            8 => told(&mut |seen| seen.sounds += 1),
            18 => told(&mut |seen| seen.events.extend(events(&body, seen.frames))),
            _ => {}
        }
    }
}

fn array<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The events of a script tag, if it has any.
fn events(body: &[u8], frame: usize) -> Vec<Carried> {
    #[derive(Deserialize)]
    struct Snapshot<'a> {
        #[serde(borrow)]
        events: Vec<&'a RawValue>,
    }
    let (Some(kind), Some(json)) = (member(body, b"kind"), member(body, b"json")) else { return Vec::new() };
    let carried = |replay, json: &str| Carried { replay, json: json.to_owned(), frame };
    if kind == "ev" {
        return vec![carried(false, json)];
    }
    let snapshot: Snapshot<'_> = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"));
    snapshot.events.into_iter().map(|event| carried(true, event.get())).collect()
}

/// A string of an AMF0 object: its key, a marker, two bytes of length.
fn member<'a>(body: &'a [u8], key: &[u8]) -> Option<&'a str> {
    let key = [&[0, u8::try_from(key.len()).unwrap()], key, &[2]].concat();
    let at = body.windows(key.len()).position(|window| window == key)?;
    let (length, text) = body.get(at + key.len()..)?.split_first_chunk::<2>()?;
    str::from_utf8(text.get(..u16::from_be_bytes(*length).into())?).ok()
}
