//! What goes wrong, and when.

use std::time::Duration;

use rand::{Rng, rngs::StdRng};

use super::{
    FAR, NEAR, ORIGIN,
    network::{Link, Place},
};

/// One thing that is done to the world.
#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    /// The way between two nodes is so from here on.
    Link(Place, Place, Link),
    /// Power off.
    Kill(Place),
    /// Power on.
    Start(Place),
    /// The publisher's session is lost.
    Hush,
    /// He publishes, whoever else does.
    Publish,
    /// The viewer at a node stops reading.
    Stall(Place),
    /// He goes on.
    Resume(Place),
}

/// The troubles of one round, in order of time; the last of them is over `within` that time.
pub(super) fn plan(rng: &mut StdRng, within: Duration) -> Vec<(Duration, Act)> {
    let mut acts = Vec::new();
    for _ in 0..rng.random_range(1..=4) {
        let begin = within.mul_f64(rng.random_range(0.0..0.7));
        let end = begin + (within - begin).mul_f64(rng.random_range(0.02..1.0));
        let (first, last) = trouble(rng);
        acts.extend(first.into_iter().map(|act| (begin, act)));
        acts.extend(last.into_iter().map(|act| (end, act)));
    }
    acts.sort_by_key(|(at, _)| *at);
    acts
}

/// How one trouble begins and ends.
fn trouble(rng: &mut StdRng) -> (Vec<Act>, Vec<Act>) {
    let cut = Link { cut: true, ..Link::SOUND };
    let poor = Link {
        cut: false,
        loss: rng.random_range(0.0..0.15),
        delay: Duration::from_millis(rng.random_range(1..80)),
        jitter: Duration::from_millis(rng.random_range(0..60)),
        repeat: rng.random_range(0.0..0.05),
    };
    let (a, b) = LINKS[rng.random_range(0..LINKS.len())];
    let place = [ORIGIN, NEAR, FAR][rng.random_range(0..3)];
    let of_place =
        |link| LINKS.into_iter().filter(|(a, b)| [*a, *b].contains(&place)).map(move |(a, b)| Act::Link(a, b, link));
    match rng.random_range(0..10) {
        0..=2 => (vec![Act::Link(a, b, poor)], vec![Act::Link(a, b, Link::SOUND)]),
        3 | 4 => (vec![Act::Link(a, b, cut)], vec![Act::Link(a, b, Link::SOUND)]),
        5 => (of_place(cut).collect(), of_place(Link::SOUND).collect()),
        6 => (vec![Act::Kill(place)], vec![Act::Start(place)]),
        7 => (vec![Act::Hush], vec![Act::Publish]),
        8 => (vec![Act::Publish], Vec::new()),
        _ => (vec![Act::Stall(place)], vec![Act::Resume(place)]),
    }
}

/// The ways that can be bad.
pub(super) const LINKS: [(Place, Place); 3] = [(ORIGIN, NEAR), (ORIGIN, FAR), (NEAR, FAR)];
