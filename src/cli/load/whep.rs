//! WHEP viewers: picture and sound over RTP, events on a data channel.

use std::time::Duration;

use tokio::{sync::Semaphore, time::sleep};

use super::{
    events,
    media::Mark,
    observer::Observer,
    plan::{Target, Visit},
    viewers::{Failed, in_time},
};
use crate::{
    cli::webrtc::{Input, Receiver, Session},
    clock::{self, Instant},
    media::TrackKind,
};

/// Watches until the server ends it.
pub(super) async fn watch(visit: &Visit, observer: &mut Observer) -> Result<(), Failed> {
    let mut viewer = {
        // To wait for it is no fault of the server's. It is never closed.
        let _turn = CONNECTING.acquire().await;
        observer.begin();
        in_time(Viewer::connect(&visit.target, observer)).await?
    };
    loop {
        let bytes = viewer.turn(observer).await?;
        if let Some(bytes_per_s) = visit.bytes_per_s_max {
            sleep(Duration::from_secs_f64(bytes as f64 / bytes_per_s as f64)).await;
        }
    }
}

struct Viewer {
    session: Session,
    receiver: Receiver,
}

impl Viewer {
    async fn connect(target: &Target, observer: &mut Observer) -> Result<Self, Failed> {
        let session = Session::play(&target.url).await?;
        let receiver = Receiver::new(session.terms(), clock::now().into_std());
        let mut viewer = Self { session, receiver };
        while !viewer.session.is_connected() {
            viewer.turn(observer).await?;
        }
        observer.connected();
        Ok(viewer)
    }

    /// Waits for what comes and tells of it; gives how many bytes it was.
    async fn turn(&mut self, observer: &mut Observer) -> Result<usize, Failed> {
        let Self { session, receiver } = self;
        let (until, mut bytes) = (Instant::from_std(receiver.deadline()), 0);
        let handle = |now, input: Input<'_>| match input {
            Input::Arrived(count) => {
                bytes = count;
                observer.arrived(count);
            }
            Input::Rtp(packet) => receiver.handle_rtp(now, packet),
            Input::Rtcp(packet) => receiver.handle_rtcp(now, packet),
            Input::ChannelOpen => observer.hears_events(),
            Input::Message(message) => {
                if let Some(number) = events::number(&message) {
                    observer.event(number);
                }
            }
        };
        session.turn(until, handle).await?;
        let now = clock::now().into_std();
        while let Some((track, frame)) = receiver.poll_frame(now) {
            let mark = match track {
                TrackKind::Video => Mark::of_picture(&frame.data),
                TrackKind::Audio => Mark::of_sound(&frame.data),
            };
            observer.frame(track, frame.keyframe, mark);
        }
        while let Some(packet) = receiver.poll_feedback(now) {
            session.send_rtcp(&packet);
        }
        session.flush();
        Ok(bytes)
    }
}

/// Viewers on their way to play: servers bound how many strangers an address may send them at once.
static CONNECTING: Semaphore = Semaphore::const_new(48);
