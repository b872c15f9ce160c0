//! Against vectors of another implementation, and what an attacker may do to packets.

use proptest::prelude::*;

use super::*;
use crate::limits::{SRTP_REPLAY_WINDOW_PACKETS, SRTP_SOURCES_MAX};

const PROFILES: [Profile; 3] = [Profile::Aes128CmSha1_80, Profile::Aes128Gcm, Profile::Aes256Gcm];

pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
}

/// Keys that count up from 1: the key, then the salt.
fn session(profile: Profile) -> (Sealer, Opener) {
    let material: Vec<u8> = (1..=64).collect();
    let (key, rest) = material.split_at(profile.key_bytes());
    let salt = &rest[..profile.salt_bytes()];
    (Sealer::new(profile, key, salt).unwrap(), Opener::new(profile, key, salt).unwrap())
}

fn rtp(ssrc: u32, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = hex("8060 0000 000003e8 00000000");
    packet[2..4].copy_from_slice(&sequence.to_be_bytes());
    packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

fn sealed(sealer: &mut Sealer, ssrc: u32, sequence: u16) -> Vec<u8> {
    let mut packet = rtp(ssrc, sequence, b"live commerce");
    sealer.seal_rtp(&mut packet, 0, 12).unwrap();
    packet
}

/// Made with pylibsrtp 1.0.0 (libsrtp): `Session(Policy(key=bytes(range(1, n + 1)), SSRC_ANY_OUTBOUND, profile))`;
/// `protect` of two packets across a wrap, the second with a contributing source and an extension; `protect_rtcp`,
/// whose first index is 1.
#[test]
fn packets_are_those_of_libsrtp() {
    let extended = hex("91600000000003e8cafef00d 01020304 bede000110aa0000");
    let plain = [
        rtp(0xcafe_f00d, 0xffff, b"live commerce"),
        [&extended, b"live commerce".as_slice()].concat(),
        hex("80c9000112345678 81ce000212345678cafef00d"),
    ];
    for (profile, theirs) in PROFILES.into_iter().zip([
        [
            "8060ffff000003e8cafef00d3113b0085cd1478514ff766e864c9540171bcb381d7943",
            "91600000000003e8cafef00d01020304bede000110aa0000a4647d7acac3f1a0f7f46fcd3d2ae84e885375f0946737",
            "80c9000112345678c97c8728d83ad92e994b19a78000000127d4b69cf7f9f41cd215",
        ],
        [
            "8060ffff000003e8cafef00d81a9835320bf42ccf217e73fa0d871d374c61c917e85cf7a0cdc851323",
            "91600000000003e8cafef00d01020304bede000110aa0000\
             6c92c549301fa86205b96690e75d6bac4e5cc7fd9f5bfc5137bc9a8e58",
            "80c9000112345678bb7df43e8fa0ba07b7f2488ba12cc8d1568390bc70e66dd4ca63702680000001",
        ],
        [
            "8060ffff000003e8cafef00da6ed4ff0d7424a803fb74ea6d259d40ee1907c0859bbea8c92688b98cb",
            "91600000000003e8cafef00d01020304bede000110aa0000\
             9703f6a1ffcacf3e965f9fab83be387e4d45754eddc2a0b2345c5225c0",
            "80c9000112345678c276bbfc17e38729a6d946c51d77ad78224563cc1f689d63e7ed2e5f80000001",
        ],
    ]) {
        let (mut sealer, mut opener) = session(profile);
        let theirs = theirs.map(hex);
        let mut ours = plain.clone();
        sealer.seal_rtp(&mut ours[0], 0, 12).unwrap();
        sealer.seal_rtp(&mut ours[1], 0, 24).unwrap();
        sealer.seal_rtcp(&mut plain[2].clone(), 0).unwrap();
        sealer.seal_rtcp(&mut ours[2], 0).unwrap();
        assert_eq!(ours, theirs, "{profile:?}");
        assert_eq!(theirs[0].len() - plain[0].len(), sealer.overhead());
        for (i, (mut theirs, plain)) in theirs.into_iter().zip(&plain).enumerate() {
            let open = if i < 2 { Opener::open_rtp } else { Opener::open_rtcp };
            let length = open(&mut opener, &mut theirs).unwrap();
            assert_eq!(&theirs[..length], plain, "{profile:?}");
        }
    }
}

#[test]
fn material_of_dtls_is_split_between_the_two_sides() {
    for profile in PROFILES {
        let material: Vec<u8> = (0..).take(profile.keying_bytes()).collect();
        let (mut client, mut clients_opener) = from_dtls(profile, &material, true).unwrap();
        let (mut server, mut servers_opener) = from_dtls(profile, &material, false).unwrap();
        assert!(servers_opener.open_rtp(&mut sealed(&mut client, 1, 1)).is_ok());
        assert!(clients_opener.open_rtp(&mut sealed(&mut server, 1, 1)).is_ok());
        assert_eq!(clients_opener.open_rtp(&mut sealed(&mut client, 1, 2)), Err(Rejected::NotAuthentic));
        assert_eq!(from_dtls(profile, &material[1..], true).err(), Some(BadKey(profile)));
    }
}

#[test]
fn a_packet_behind_others_in_the_buffer_is_sealed_alone() {
    let (mut sealer, mut opener) = session(Profile::Aes128Gcm);
    let mut buffer = sealed(&mut sealer, 1, 1);
    let first = buffer.clone();
    buffer.extend(rtp(1, 2, b"second"));
    sealer.seal_rtp(&mut buffer, first.len(), 12).unwrap();
    assert!(buffer.starts_with(&first));
    let (first, second) = buffer.split_at_mut(first.len());
    let lengths = [first, second].map(|packet| opener.open_rtp(packet).unwrap());
    assert_eq!(lengths, [25, 18]);
}

#[test]
fn each_packet_opens_once_in_any_order_and_across_wraps() {
    for profile in PROFILES {
        let (mut sealer, mut opener) = session(profile);
        let numbers = (65_000..=u16::MAX).chain(0..=u16::MAX).chain(0..500);
        let packets: Vec<_> = numbers.map(|n| sealed(&mut sealer, 1, n)).collect();
        // Some are lost, and those that come are swapped in pairs and come twice.
        for (i, pair) in packets.chunks(2).enumerate().step_by(101) {
            for packet in pair.iter().rev() {
                assert_eq!(opener.open_rtp(&mut packet.clone()), Ok(25), "{profile:?}, pair {i}");
                assert_eq!(opener.open_rtp(&mut packet.clone()), Err(Rejected::Replayed));
            }
        }
        let window = usize::try_from(SRTP_REPLAY_WINDOW_PACKETS).unwrap();
        assert_eq!(opener.open_rtp(&mut packets.last().unwrap().clone()), Ok(25));
        assert_eq!(opener.open_rtp(&mut packets[packets.len() - window].clone()), Ok(25), "the oldest in the window");
        let older = &packets[packets.len() - window - 1];
        assert_eq!(opener.open_rtp(&mut older.clone()), Err(Rejected::Replayed), "older than the window");
        // The same sequence number, one rollover ago: taken for the newer packet, and not authentic as that.
        assert_eq!(opener.open_rtp(&mut packets[700].clone()), Err(Rejected::NotAuthentic));
    }
}

#[test]
fn rtcp_is_protected_from_replay() {
    for profile in PROFILES {
        let (mut sealer, mut opener) = session(profile);
        let mut packet = hex("80c9000112345678");
        sealer.seal_rtcp(&mut packet, 0).unwrap();
        assert_eq!(opener.open_rtcp(&mut packet.clone()), Ok(8));
        assert_eq!(opener.open_rtcp(&mut packet.clone()), Err(Rejected::Replayed));
        let word = if profile == Profile::Aes128CmSha1_80 { 8 } else { packet.len() - 4 };
        packet[word] &= 0x7f;
        assert_eq!(opener.open_rtcp(&mut packet), Err(Rejected::NotEncrypted));
    }
}

#[test]
fn a_changed_bit_anywhere_is_found_and_changes_nothing() {
    for profile in PROFILES {
        let (mut sealer, mut opener) = session(profile);
        let good = sealed(&mut sealer, 9, 100);
        let mut good_rtcp = hex("80c9000112345678 81ce000212345678cafef00d");
        sealer.seal_rtcp(&mut good_rtcp, 0).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(opener.open_rtp(&mut bad).is_err(), "{profile:?}, bit {bit}");
        }
        for bit in 0..good_rtcp.len() * 8 {
            let mut bad = good_rtcp.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(opener.open_rtcp(&mut bad).is_err(), "{profile:?}, bit {bit}");
        }
        for length in 0..good.len() {
            assert!(opener.open_rtp(&mut good.clone()[..length]).is_err());
        }
        assert!(opener.open_rtp(&mut good.clone()).is_ok() && opener.open_rtcp(&mut good_rtcp).is_ok());
    }
}

#[test]
fn an_index_is_sealed_once() {
    let (mut sealer, _) = session(Profile::Aes128Gcm);
    let mut seal = |sequence| {
        let mut buffer = [b"before".to_vec(), rtp(1, sequence, b"other bytes")].concat();
        let result = sealer.seal_rtp(&mut buffer, 6, 12);
        assert!(result.is_ok() || buffer == b"before", "plain text stays behind");
        result
    };
    assert_eq!([seal(10), seal(11), seal(0x8000)], [Ok(()); 3]);
    assert_eq!([seal(0x8000), seal(10)], [Err(SealError::IndexReused); 2]);
    assert_eq!([seal(0xffff), seal(0)], [Ok(()); 2], "the next round");
    assert_eq!(seal(0xffff), Err(SealError::IndexReused));
}

#[test]
fn sources_are_bounded_and_strangers_take_no_place() {
    let (mut sealer, mut opener) = session(Profile::Aes128Gcm);
    let (mut other, _) = session(Profile::Aes256Gcm);
    for ssrc in 0..200 {
        assert_eq!(
            opener.open_rtp(&mut sealed(&mut session(Profile::Aes256Gcm).0, ssrc, 1)),
            Err(Rejected::NotAuthentic)
        );
    }
    let sources = u32::try_from(SRTP_SOURCES_MAX).unwrap();
    for ssrc in 0..sources {
        assert!(opener.open_rtp(&mut sealed(&mut sealer, ssrc, 1)).is_ok());
        sealed(&mut other, ssrc, 1);
    }
    assert_eq!(sealer.seal_rtp(&mut rtp(sources, 1, b""), 0, 12), Err(SealError::TooManySources));
    let mut further = sealed(&mut session(Profile::Aes128Gcm).0, sources, 1);
    assert_eq!(opener.open_rtp(&mut further), Err(Rejected::TooManySources));
    assert!(opener.open_rtp(&mut sealed(&mut sealer, 0, 2)).is_ok());
}

proptest! {
    #[test]
    fn whatever_is_sealed_opens(
        profile in proptest::sample::select(PROFILES.as_slice()),
        ssrc: u32,
        sequence: u16,
        contributors in 0u8..16,
        payload in proptest::collection::vec(any::<u8>(), 0..1500),
    ) {
        let (mut sealer, mut opener) = session(profile);
        let mut plain = rtp(ssrc, sequence, &[]);
        plain[0] |= contributors;
        plain.resize(12 + 4 * usize::from(contributors), 0xcc);
        let header_bytes = plain.len();
        plain.extend(payload);
        let mut packet = plain.clone();
        sealer.seal_rtp(&mut packet, 0, header_bytes).unwrap();
        let length = opener.open_rtp(&mut packet).unwrap();
        prop_assert_eq!(&packet[..length], &plain);
        if plain.len() >= 8 {
            let mut packet = plain.clone();
            sealer.seal_rtcp(&mut packet, 0).unwrap();
            let length = opener.open_rtcp(&mut packet).unwrap();
            prop_assert_eq!(&packet[..length], &plain);
        }
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(
        profile in proptest::sample::select(PROFILES.as_slice()),
        first in 0x80u8..0xc0,
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
        start in 0usize..250,
        header_bytes in 0usize..250,
    ) {
        let (mut sealer, mut opener) = session(profile);
        bytes.first_mut().into_iter().for_each(|byte| *byte = first);
        prop_assert!(opener.open_rtp(&mut bytes.clone()).is_err());
        prop_assert!(opener.open_rtcp(&mut bytes.clone()).is_err());
        let _ = sealer.seal_rtp(&mut bytes.clone(), start, header_bytes);
        let _ = sealer.seal_rtcp(&mut bytes, start);
    }
}
