//! Against the vectors of RFC 5769 and of another implementation; both agents against each other, and forgeries.

use core::time::Duration;
use std::time::Instant;

use proptest::prelude::*;

use super::{
    stun::{Message, Request, integrity_key, is_stun, request_ufrag, write_success},
    *,
};
use crate::limits::{ICE_CONSENT_TIMEOUT, ICE_PATHS_MAX};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
}

fn credentials(name: &str) -> Credentials {
    Credentials { ufrag: name.into(), pwd: format!("the password of {name}") }
}

fn lite() -> Lite {
    Lite::new(&credentials("server"), &credentials("client"))
}

fn path(port: u16) -> Path {
    let at = |address: &str| address.parse().expect("an address");
    Path {
        remote: SocketAddr::new(at("192.0.2.1"), port),
        local: SocketAddr::new(at("::"), 443),
        transport: Transport::Udp,
    }
}

#[allow(clippy::disallowed_methods, reason = "any origin will do")]
fn origin() -> Instant {
    Instant::now()
}

fn request(username: &str, use_candidate: bool, pwd: &str) -> Vec<u8> {
    let request = Request { transaction: [7; 12], username, priority: 1, tie_breaker: 2, use_candidate };
    request.write(&integrity_key(pwd))
}

fn check(use_candidate: bool) -> Vec<u8> {
    request("server:client", use_candidate, "the password of server")
}

/// A message without its last attribute of `bytes`.
fn cut(mut message: Vec<u8>, bytes: usize) -> Vec<u8> {
    message.truncate(message.len() - bytes);
    let length = u16::try_from(message.len() - 20).unwrap();
    message[2..4].copy_from_slice(&length.to_be_bytes());
    message
}

fn verify(bytes: &[u8], pwd: &str) -> Result<(), Dropped> {
    let message = Message::parse(bytes)?;
    message.verify_fingerprint()?;
    message.verify_integrity(&integrity_key(pwd))
}

/// RFC 5769 §2.1 to §2.3.
#[test]
fn the_messages_of_the_rfc_are_read() {
    let pwd = "VOkJxbRl1RmTxUk/WvJxBt";
    let request =
        hex("000100582112a442b7e7a701bc34d686fa87dfae 802200105354554e207465737420636c69656e74 002400046e0001ff
         80290008932ff9b151263b36 000600096576746a3a68367659202020
         000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2 80280004e57a3bcf");
    let message = Message::parse(&request).unwrap();
    assert_eq!((message.username, message.priority), (Some("evtj:h6vY"), Some(0x6e00_01ff)));
    assert!(!message.use_candidate && is_stun(&request));
    assert_eq!(request_ufrag(&request), Some("evtj"));
    let v4 = hex("0101003c2112a442b7e7a701bc34d686fa87dfae 8022000b7465737420766563746f7220 002000080001a147e112a643
         000800142b91f599fd9e90c38c7489f92af9ba53f06be7d7 80280004c07d4c96");
    let v6 = hex("010100482112a442b7e7a701bc34d686fa87dfae 8022000b7465737420766563746f7220
         002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9
         00080014a382954e4be67bf11784c97c8292c275bfe3ed41 80280004c8fb0b4c");
    assert_eq!(request_ufrag(&v4), None, "an answer is nobody's request");
    for (answer, address) in [(&v4, "192.0.2.1:32853"), (&v6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853")] {
        assert_eq!(Message::parse(answer).unwrap().mapped_address, Some(address.parse().unwrap()));
    }
    for message in [request, v4, v6] {
        assert_eq!(verify(&message, pwd), Ok(()));
        assert_eq!(verify(&message, "another"), Err(Dropped::Integrity));
        for bit in 0..message.len() * 8 {
            let mut bad = message.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(&bad, pwd).is_err(), "bit {bit}");
        }
        for length in 0..message.len() {
            assert_eq!(Message::parse(&message[..length]).err(), Some(Dropped::Malformed));
        }
    }
}

/// Made with aioice 0.13.0: `stun.Message(BINDING, …, bytes(range(1, 13)), {attributes in this order})`, then
/// `add_message_integrity(b"a password of the server")`.
#[test]
fn messages_are_those_of_aioice() {
    let transaction = std::array::from_fn(|i| u8::try_from(i + 1).unwrap());
    let key = integrity_key("a password of the server");
    let request = Request {
        transaction,
        username: "server:client",
        priority: 0x6eff_ffff,
        tie_breaker: 0x0102_0304_0506_0708,
        use_candidate: true,
    };
    assert_eq!(
        request.write(&key),
        hex("0001004c2112a4420102030405060708090a0b0c 0006000d7365727665723a636c69656e74000000 002400046effffff
             802a00080102030405060708 00250000 00080014a43973687c582154e4f26207838d051421ae430a 802800048e052894")
    );
    assert_eq!(
        write_success(&transaction, "192.0.2.1:32853".parse().unwrap(), &key),
        hex("0101002c2112a4420102030405060708090a0b0c 002000080001a147e112a643
             000800144d4774ab09808c0c635644722e472c09cfd2b021 802800047a5f88af")
    );
    assert_eq!(
        write_success(&transaction, "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap(), &key),
        hex("010100382112a4420102030405060708090a0b0c 002000140002a1470113a9fa1336557c0517253b4d5f6d7b
             00080014de4407a176aa8a9aff040f172a1e15e519216402 80280004e2c5611d")
    );
}

#[test]
fn an_address_of_ipv4_inside_ipv6_is_told_as_what_it_is() {
    let answer = write_success(&[0; 12], "[::ffff:192.0.2.1]:9".parse().unwrap(), &integrity_key("x"));
    assert_eq!(Message::parse(&answer).unwrap().mapped_address, Some("192.0.2.1:9".parse().unwrap()));
}

#[test]
fn fresh_credentials_differ_and_keep_the_password_to_themselves() {
    let (a, b) = (Credentials::random(), Credentials::random());
    assert!(a.ufrag != b.ufrag && a.pwd != b.pwd);
    assert_eq!((a.ufrag.len(), a.pwd.len()), (16, 32));
    let is_ice_char = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '/';
    assert!(a.ufrag.chars().chain(a.pwd.chars()).all(is_ice_char));
    assert!(!format!("{a:?}").contains(&a.pwd));
}

#[test]
fn an_authentic_check_is_answered_and_makes_its_path_valid() {
    let mut lite = lite();
    assert!(!lite.is_valid(&path(1)) && lite.selected().is_none() && !lite.is_expired(origin()));
    let answer = lite.handle(origin(), path(1), &check(false)).unwrap();
    assert_eq!(verify(&answer, "the password of server"), Ok(()));
    let answer = Message::parse(&answer).unwrap();
    assert_eq!((answer.transaction, answer.mapped_address), ([7; 12], Some(path(1).remote)));
    assert!(lite.is_valid(&path(1)) && !lite.is_valid(&path(2)));
    assert!(!lite.is_valid(&Path { transport: Transport::Tcp, ..path(1) }));
}

#[test]
fn a_forged_check_is_dropped_and_changes_nothing() {
    let mut lite = lite();
    let pwd = "the password of server";
    let without_integrity = cut(check(true), 32);
    let mut huge = check(true);
    huge[22..24].fill(0xff);
    let unsigned = Message::parse(&without_integrity).unwrap().verify_integrity(&integrity_key(pwd));
    assert_eq!(unsigned, Err(Dropped::Integrity));
    for (forged, reason) in [
        (request("server:client", true, "guessed"), Dropped::Integrity),
        (request("server:other", true, pwd), Dropped::Username),
        (request("other:client", true, pwd), Dropped::Username),
        (request("server", true, pwd), Dropped::Username),
        (request("", true, pwd), Dropped::Username),
        (cut(check(true), 8), Dropped::Fingerprint),
        (write_success(&[7; 12], path(1).remote, &integrity_key(pwd)), Dropped::Unexpected),
        (check(true)[..60].to_vec(), Dropped::Malformed),
        (huge, Dropped::Malformed),
        ([check(true), vec![0; 4]].concat(), Dropped::Malformed),
        (Vec::new(), Dropped::Malformed),
    ] {
        assert_eq!(lite.handle(origin(), path(1), &forged), Err(reason), "{forged:02x?}");
    }
    assert!(!lite.is_valid(&path(1)) && lite.selected().is_none() && lite.consent_deadline().is_none());
}

#[test]
fn what_follows_the_integrity_is_not_believed() {
    // USE-CANDIDATE put in by another: between MESSAGE-INTEGRITY and a FINGERPRINT made anew.
    let plain = cut(check(false), 8);
    let mut forged = [plain, hex("00250000 8028000400000000")].concat();
    let length = u16::try_from(forged.len() - 20).unwrap();
    forged[2..4].copy_from_slice(&length.to_be_bytes());
    assert!(!Message::parse(&forged).unwrap().use_candidate);
}

#[test]
fn the_path_nominated_last_is_selected() {
    let mut lite = lite();
    let mut handle = |port, use_candidate| {
        lite.handle(origin(), path(port), &check(use_candidate)).unwrap();
        lite.selected().map(|path| path.remote.port())
    };
    assert_eq!([handle(1, false), handle(2, false)], [Some(1); 2], "the first will do");
    assert_eq!([handle(2, true), handle(1, false)], [Some(2); 2]);
    assert_eq!(handle(3, true), Some(3), "the peer moved");
    lite.remove(&path(3));
    assert!(lite.selected().is_some_and(|path| path != self::path(3)) && !lite.is_valid(&path(3)));
}

#[test]
fn of_too_many_paths_the_longest_unchecked_goes_but_never_the_selected() {
    let (mut lite, start) = (lite(), origin());
    lite.handle(start, path(0), &check(true)).unwrap();
    for port in 1..100 {
        lite.handle(start + Duration::from_millis(port.into()), path(port), &check(false)).unwrap();
    }
    let valid: Vec<_> = (0..100).filter(|port| lite.is_valid(&path(*port))).collect();
    assert_eq!(valid.len(), ICE_PATHS_MAX);
    assert_eq!((valid[0], &valid[1..]), (0, (93..100).collect::<Vec<_>>().as_slice()));
}

#[test]
fn a_peer_that_checks_no_more_is_gone() {
    let (mut lite, start) = (lite(), origin());
    lite.handle(start, path(1), &check(true)).unwrap();
    let later = start + Duration::from_secs(20);
    lite.handle(later, path(2), &check(false)).unwrap();
    lite.handle(later, path(1), &request("server:client", true, "guessed")).unwrap_err();
    assert_eq!(lite.consent_deadline(), Some(later + ICE_CONSENT_TIMEOUT));
    assert!(!lite.is_expired(start + ICE_CONSENT_TIMEOUT) && lite.is_expired(later + ICE_CONSENT_TIMEOUT));
}

/// Runs both agents until `end`; `carries` says which packets arrive. Gives the number of checks sent.
fn run(client: &mut Client, lite: &mut Lite, mut now: Instant, end: Instant, carries: impl Fn(&Path) -> bool) -> u32 {
    let mut sent = 0;
    while now < end {
        while let Some((path, packet)) = client.poll_transmit(now) {
            sent += 1;
            if carries(&path) {
                let answer = lite.handle(now, path, &packet).unwrap();
                client.handle(now, path, &answer).unwrap();
            }
        }
        let Some(deadline) = client.deadline() else { break };
        assert!(deadline > now, "a deadline that is over is served");
        now = deadline;
        if client.is_expired(now) {
            break;
        }
    }
    sent
}

fn client(start: Instant, ports: impl IntoIterator<Item = u16>) -> Client {
    Client::new(start, &credentials("client"), &credentials("server"), ports.into_iter().map(path))
}

#[test]
fn a_sole_path_is_nominated_by_its_first_check_and_kept_by_further_ones() {
    let (start, mut lite) = (origin(), lite());
    let mut client = client(start, [1]);
    let (on, packet) = client.poll_transmit(start).unwrap();
    assert!(Message::parse(&packet).unwrap().use_candidate);
    client.handle(start, on, &lite.handle(start, on, &packet).unwrap()).unwrap();
    assert_eq!((client.selected(), lite.selected()), (Some(path(1)), Some(path(1))));
    let end = start + Duration::from_secs(120);
    let sent = run(&mut client, &mut lite, start, end, |_| true);
    assert!((20..=30).contains(&sent), "one in 4 to 6 s: {sent}");
    assert!(!lite.is_expired(end) && !client.is_expired(end));
    let sent = run(&mut client, &mut lite, end, end + Duration::from_secs(60), |_| false);
    let end = end + ICE_CONSENT_TIMEOUT;
    assert!(lite.is_expired(end) && client.is_expired(end) && (4..=9).contains(&sent), "{sent}");
}

#[test]
fn of_two_paths_the_one_that_works_is_nominated() {
    let (start, mut lite) = (origin(), lite());
    let mut client = client(start, [1, 2]);
    run(&mut client, &mut lite, start, start + Duration::from_secs(3), |path| path.remote.port() == 2);
    assert_eq!((client.selected(), lite.selected()), (Some(path(2)), Some(path(2))));
    assert!(!lite.is_valid(&path(1)));
    // Were the nomination not said, the first path would be the lite agent's choice.
    let mut other = self::client(start, [3, 2]);
    lite.handle(start, path(3), &check(false)).unwrap();
    run(&mut other, &mut lite, start, start + Duration::from_secs(3), |_| true);
    assert_eq!(lite.selected(), other.selected());
}

#[test]
fn an_unanswered_check_is_sent_again_ever_later_and_then_given_up() {
    let (start, mut lite) = (origin(), lite());
    let mut client = client(start, [1]);
    let mut times = Vec::new();
    let mut transactions = Vec::new();
    let mut now = start;
    while !client.is_expired(now) {
        while let Some((_, packet)) = client.poll_transmit(now) {
            times.push((now - start).as_millis());
            transactions.push(packet);
        }
        now = client.deadline().unwrap_or(now);
    }
    assert_eq!(times, [0, 50, 150, 350, 750, 1550, 3150, 6350]);
    transactions.dedup();
    assert_eq!(transactions.len(), 1, "a retransmission is the same bytes");
    assert_eq!((client.selected(), client.deadline()), (None, None));
    let tcp = Path { transport: Transport::Tcp, ..path(1) };
    let mut client = Client::new(start, &credentials("client"), &credentials("server"), [tcp]);
    assert_eq!(run(&mut client, &mut lite, start, start + Duration::from_secs(20), |_| false), 1);
}

#[test]
fn a_forged_answer_is_not_believed() {
    let (start, mut lite) = (origin(), lite());
    let mut client = client(start, [1]);
    let (on, packet) = client.poll_transmit(start).unwrap();
    let transaction = Message::parse(&packet).unwrap().transaction;
    let forged = write_success(&transaction, on.remote, &integrity_key("guessed"));
    assert_eq!(client.handle(start, on, &forged), Err(Dropped::Integrity));
    let answer = lite.handle(start, on, &packet).unwrap();
    assert_eq!(client.handle(start, path(9), &answer), Err(Dropped::Unexpected), "not from where it was asked");
    let other = write_success(&[0; 12], on.remote, &integrity_key("the password of server"));
    assert_eq!(client.handle(start, on, &other), Err(Dropped::Unexpected));
    assert_eq!(client.handle(start, on, &packet), Err(Dropped::Unexpected), "its own request");
    assert_eq!(client.selected(), None);
    assert_eq!(client.handle(start, on, &answer), Ok(()));
    assert_eq!(client.selected(), Some(on));
}

proptest! {
    #[test]
    fn arbitrary_attributes_do_no_harm(
        kind in proptest::sample::select([0x0001u16, 0x0101, 0x0111, 0x3fff].as_slice()),
        attributes in proptest::collection::vec(
            (
                proptest::sample::select([6u16, 8, 0x20, 0x24, 0x25, 0x8028, 0x802a, 0x7777].as_slice()),
                proptest::collection::vec(any::<u8>(), 0..40),
                proptest::option::weighted(0.1, any::<u16>()),
            ),
            0..12,
        ),
    ) {
        let mut bytes = hex("0000 0000 2112a442 000102030405060708090a0b");
        for (kind, value, length) in attributes {
            bytes.extend(kind.to_be_bytes());
            bytes.extend(length.unwrap_or(u16::try_from(value.len()).unwrap()).to_be_bytes());
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        let length = u16::try_from(bytes.len() - 20).unwrap();
        bytes[..2].copy_from_slice(&kind.to_be_bytes());
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        let _ = request_ufrag(&bytes);
        prop_assert!(verify(&bytes, "x").is_err());
        prop_assert!(lite().handle(origin(), path(1), &bytes).is_err());
        prop_assert!(client(origin(), [1]).handle(origin(), path(1), &bytes).is_err());
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        prop_assert!(lite().handle(origin(), path(1), &bytes).is_err());
        prop_assert!(Message::parse(&bytes).is_err());
    }
}
