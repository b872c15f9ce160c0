//! The bad network that other tests put between their peers does what it says, and the same each time.

mod common;

use std::{net::UdpSocket, time::Duration};

use common::{Impairment, Link, OVERTAKEN, Pipe, QUEUE_MAX};
use hawker::clock;

/// When each of `count` packets of 1,000 bytes comes out, from the time it went in; one goes in every millisecond.
fn travel(impairment: Impairment, count: u32) -> Vec<Option<Duration>> {
    let (start, mut pipe) = (clock::now(), Pipe::new(impairment, 0));
    (0..count)
        .map(|n| {
            let now = start + Duration::from_millis(n.into());
            pipe.pass(now, 1000).map(|due| due - now)
        })
        .collect()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_link_loses_what_it_is_told_to() {
    for loss_percent in [0.0, 2.0, 5.0, 100.0] {
        let passed = travel(Impairment { seed: 1, loss_percent, ..Impairment::default() }, 20_000);
        let lost = passed.iter().filter(|packet| packet.is_none()).count() as f64 / 200.0;
        assert!((lost - loss_percent).abs() < 0.5, "{lost} % instead of {loss_percent} %");
    }
}

#[test]
fn the_same_seed_makes_the_same_losses_and_another_makes_others() {
    let lossy = |seed| travel(Impairment { seed, loss_percent: 5.0, jitter: ms(20), ..Impairment::default() }, 1000);
    assert_eq!(lossy(1), lossy(1));
    assert_ne!(lossy(1), lossy(2));
    let losses = |direction| {
        let mut pipe = Pipe::new(Impairment { loss_percent: 5.0, ..Impairment::default() }, direction);
        (0..1000).map(|_| pipe.pass(clock::now(), 1).is_none()).collect::<Vec<_>>()
    };
    assert_ne!(losses(0), losses(1), "each direction has its own luck");
}

#[test]
fn delay_and_jitter_keep_packets_in_order() {
    let impairment = Impairment { seed: 3, delay: ms(50), jitter: ms(20), ..Impairment::default() };
    let took: Vec<_> = travel(impairment, 10_000).into_iter().map(|took| took.expect("no loss")).collect();
    assert!(took.iter().all(|took| (ms(50)..=ms(70)).contains(took)));
    assert!(took.iter().any(|took| *took < ms(55)) && took.iter().any(|took| *took > ms(68)));
    assert!(took.windows(2).all(|pair| pair[0] <= pair[1] + ms(1)), "none is overtaken");
}

#[test]
fn some_are_overtaken_if_wanted() {
    let impairment = Impairment { seed: 4, reorder_percent: 10.0, ..Impairment::default() };
    let took = travel(impairment, 10_000);
    let overtaken = took.iter().filter(|took| **took == Some(OVERTAKEN)).count();
    assert!((900..1100).contains(&overtaken), "{overtaken} of 10,000");
    assert_eq!(took.iter().filter(|took| **took == Some(Duration::ZERO)).count(), 10_000 - overtaken);
}

#[test]
fn a_slow_link_queues_and_then_loses() {
    // 8 Mbit/s come, 4 Mbit/s leave: 2 ms each, and the queue is full after 2 * QUEUE_MAX.
    let impairment = Impairment { seed: 5, bits_per_s: Some(4_000_000), ..Impairment::default() };
    let took = travel(impairment, 2000);
    assert_eq!(took[0], Some(ms(2)));
    assert_eq!(took[100], Some(ms(102)));
    assert!(took.iter().flatten().all(|took| *took <= QUEUE_MAX + ms(2)));
    let lost = took[1000..].iter().filter(|packet| packet.is_none()).count();
    assert!((450..=550).contains(&lost), "half of a thousand, not {lost}");
}

#[test]
fn packets_go_to_the_target_and_back_to_their_own_client() {
    let echo = UdpSocket::bind("127.0.0.1:0").unwrap();
    let impairment = Impairment { delay: ms(10), ..Impairment::default() };
    let link = Link::start(echo.local_addr().unwrap(), impairment);
    let clients = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let started = clock::now();
    for (client, word) in clients.iter().zip([b"one", b"two"]) {
        client.set_read_timeout(Some(ms(5000))).unwrap();
        client.send_to(word, link.addr).unwrap();
    }
    let mut buffer = [0; 100];
    let mut from = Vec::new();
    for _ in &clients {
        let (length, address) = echo.recv_from(&mut buffer).unwrap();
        echo.send_to(&buffer[..length], address).unwrap();
        from.push(address);
    }
    assert_ne!(from[0], from[1], "each client has his own socket towards the target");
    for (client, word) in clients.iter().zip([b"one", b"two"]) {
        let (length, address) = client.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], address), (word.as_slice(), link.addr));
    }
    assert!(started.elapsed() >= ms(20), "there and back");
    assert_eq!(link.carried_and_lost(), (4, 0));
}
