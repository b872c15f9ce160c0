//! The session keys of one direction, for RTP or for RTCP, and what they do to a packet.

use aws_lc_rs::{
    aead::{self, Aad, LessSafeKey, Nonce, UnboundKey},
    cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey},
    error::Unspecified,
    hmac,
};

use super::{BadKey, Profile};

/// The labels of a kind's encryption key, authentication key and salt (RFC 3711 §4.3.2).
pub(super) type Labels = [u8; 3];
pub(super) const RTP_LABELS: Labels = [0, 1, 2];
pub(super) const RTCP_LABELS: Labels = [3, 4, 5];

/// The longest tag; a profile's tag is the first [`Profile::tag_bytes`] of it.
pub(super) type Tag = [u8; 16];

pub(super) struct Cipher {
    transform: Transform,
    /// Placed so that XOR with source and index makes the counter block or the nonce.
    salt: u128,
}

enum Transform {
    Gcm(LessSafeKey),
    /// Boxed: it is the larger by far, and seldom used.
    CmSha1(Box<(EncryptingKey, hmac::Key)>),
}

/// Where a packet stands: what makes its IV, and what is authenticated beside it.
#[derive(Clone, Copy)]
pub(super) struct Place {
    ssrc: u32,
    index: u64,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Rtp { rollovers: [u8; 4] },
    Rtcp { word: [u8; 4] },
}

impl Place {
    /// An RTP packet, by its 48-bit index.
    pub(super) fn rtp(ssrc: u32, index: u64) -> Self {
        let [_, _, a, b, c, d, _, _] = index.to_be_bytes();
        Self { ssrc, index, kind: Kind::Rtp { rollovers: [a, b, c, d] } }
    }

    /// An RTCP packet, by the E flag and 31-bit index at its end.
    pub(super) fn rtcp(ssrc: u32, word: u32) -> Self {
        Self { ssrc, index: (word & !RTCP_ENCRYPTED).into(), kind: Kind::Rtcp { word: word.to_be_bytes() } }
    }
}

/// The E flag (RFC 3711 §3.4).
pub(super) const RTCP_ENCRYPTED: u32 = 1 << 31;

impl Cipher {
    /// Derives session keys from master keys (RFC 3711 §4.3, with the AES of RFC 7714 §11). They are derived once.
    pub(super) fn derive(profile: Profile, key: &[u8], salt: &[u8], labels: Labels) -> Result<Self, BadKey> {
        let bad = BadKey(profile);
        if key.len() != profile.key_bytes() || salt.len() != profile.salt_bytes() {
            return Err(bad);
        }
        let key = counter_mode(key).map_err(|_| bad)?;
        let salt = left_aligned(salt);
        let mut session = ([0; 32], [0; 20], [0; 14]);
        let session_key = session.0.get_mut(..profile.key_bytes()).ok_or(bad)?;
        let session_salt = session.2.get_mut(..profile.salt_bytes()).ok_or(bad)?;
        for (label, out) in labels.into_iter().zip([&mut *session_key, &mut session.1, &mut *session_salt]) {
            add_keystream(&key, salt ^ u128::from(label) << 64, out).map_err(|_| bad)?;
        }
        Self::new(profile, session_key, &session.1, session_salt).map_err(|_| bad)
    }

    /// The cipher of the given session keys.
    pub(super) fn new(profile: Profile, key: &[u8], mac_key: &[u8], salt: &[u8]) -> Result<Self, Unspecified> {
        let salt = left_aligned(salt);
        Ok(match profile {
            Profile::Aes128CmSha1_80 => {
                let mac = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, mac_key);
                Self { transform: Transform::CmSha1(Box::new((counter_mode(key)?, mac))), salt }
            }
            // The nonce is the 12 bytes before the block's last two, where AES-CM has its block counter.
            Profile::Aes128Gcm => Self { transform: Transform::Gcm(gcm(&aead::AES_128_GCM, key)?), salt: salt >> 16 },
            Profile::Aes256Gcm => Self { transform: Transform::Gcm(gcm(&aead::AES_256_GCM, key)?), salt: salt >> 16 },
        })
    }

    /// Encrypts `body` and gives the tag over it, its header and its place.
    pub(super) fn seal(&self, at: Place, header: &[u8], body: &mut [u8]) -> Result<Tag, Unspecified> {
        let iv = self.iv(at);
        match &self.transform {
            Transform::Gcm(key) => {
                let tag = match at.kind {
                    Kind::Rtp { .. } => key.seal_in_place_separate_tag(nonce(iv), Aad::from(header), body),
                    Kind::Rtcp { word } => key.seal_in_place_separate_tag(nonce(iv), rtcp_aad(header, word)?, body),
                };
                tag?.as_ref().try_into().map_err(|_| Unspecified)
            }
            Transform::CmSha1(keys) => {
                let (key, mac) = &**keys;
                add_keystream(key, iv, body)?;
                Ok(tag_of(mac, at, header, body))
            }
        }
    }

    /// Decrypts `body` if `tag`, of the profile's length, is right. Else the body is worth nothing.
    pub(super) fn open(&self, at: Place, header: &[u8], body: &mut [u8], tag: &[u8]) -> Result<(), Unspecified> {
        let iv = self.iv(at);
        match &self.transform {
            Transform::Gcm(key) => {
                match at.kind {
                    Kind::Rtp { .. } => key.open_in_place_separate_tag(nonce(iv), Aad::from(header), tag, body)?,
                    Kind::Rtcp { word } => {
                        key.open_in_place_separate_tag(nonce(iv), rtcp_aad(header, word)?, tag, body)?
                    }
                };
                Ok(())
            }
            Transform::CmSha1(keys) => {
                let (key, mac) = &**keys;
                let expected = tag_of(mac, at, header, body);
                let expected = expected.get(..Profile::Aes128CmSha1_80.tag_bytes()).ok_or(Unspecified)?;
                aws_lc_rs::constant_time::verify_slices_are_equal(expected, tag)?;
                add_keystream(key, iv, body)
            }
        }
    }

    /// The counter block of AES-CM (RFC 3711 §4.1.1). RFC 7714 §8.1 and §9.1 lay source and index out alike.
    fn iv(&self, at: Place) -> u128 {
        self.salt ^ u128::from(at.ssrc) << 64 ^ u128::from(at.index) << 16
    }
}

fn counter_mode(key: &[u8]) -> Result<EncryptingKey, Unspecified> {
    let algorithm = if key.len() == 32 { &AES_256 } else { &AES_128 };
    EncryptingKey::ctr(UnboundCipherKey::new(algorithm, key)?)
}

fn gcm(algorithm: &'static aead::Algorithm, key: &[u8]) -> Result<LessSafeKey, Unspecified> {
    Ok(LessSafeKey::new(UnboundKey::new(algorithm, key)?))
}

fn add_keystream(key: &EncryptingKey, iv: u128, data: &mut [u8]) -> Result<(), Unspecified> {
    key.less_safe_encrypt(data, EncryptionContext::Iv128(iv.to_be_bytes().into()))?;
    Ok(())
}

fn nonce(iv: u128) -> Nonce {
    let [_, _, nonce @ .., _, _] = iv.to_be_bytes();
    Nonce::assume_unique_for_key(nonce)
}

/// RFC 7714 §9.2: the first 8 bytes, then the word that the packet has at its end.
fn rtcp_aad(header: &[u8], word: [u8; 4]) -> Result<Aad<[u8; 12]>, Unspecified> {
    let header: [u8; 8] = header.try_into().map_err(|_| Unspecified)?;
    let mut aad = [0; 12];
    aad.iter_mut().zip(header.into_iter().chain(word)).for_each(|(to, from)| *to = from);
    Ok(Aad::from(aad))
}

/// RFC 3711 §4.2: over the encrypted packet, then the rollover count or the word at the end.
fn tag_of(mac: &hmac::Key, at: Place, header: &[u8], body: &[u8]) -> Tag {
    let mut context = hmac::Context::with_key(mac);
    context.update(header);
    context.update(body);
    context.update(match &at.kind {
        Kind::Rtp { rollovers: end } | Kind::Rtcp { word: end } => end,
    });
    let mut tag = Tag::default();
    tag.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
    tag
}

fn left_aligned(bytes: &[u8]) -> u128 {
    let mut block = [0; 16];
    block.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    u128::from_be_bytes(block)
}

#[cfg(test)]
mod tests {
    use super::{super::tests::hex, *};

    /// RFC 3711 §B.3.
    #[test]
    fn session_keys_are_derived_as_in_the_rfc() {
        let key = counter_mode(&hex("E1F97A0D3E018BE0D64FA32C06DE4139")).unwrap();
        let salt = left_aligned(&hex("0EC675AD498AFEEBB6960B3AABE6"));
        for (label, expected) in [
            (0u128, "C61E7A93744F39EE10734AFE3FF7A087"),
            (2, "30CBBC08863D8C85D49DB34A9AE1"),
            (1, "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA48F0A0ACF3C34E2359E6CDBCE"),
        ] {
            let expected = hex(expected);
            let mut derived = vec![0; expected.len()];
            add_keystream(&key, salt ^ label << 64, &mut derived).unwrap();
            assert_eq!(derived, expected, "label {label}");
        }
    }

    /// RFC 3711 §B.2: the keystream of AES-CM.
    #[test]
    fn the_keystream_is_that_of_the_rfc() {
        let salt = hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD");
        let key = hex("2B7E151628AED2A6ABF7158809CF4F3C");
        let cipher = Cipher::new(Profile::Aes128CmSha1_80, &key, &[0; 20], &salt).unwrap();
        let mut body = vec![0; 48];
        cipher.seal(Place::rtp(0, 0), &[], &mut body).unwrap();
        let expected =
            "E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB 41E95B3BB0A2E8DD477901E4FCA894C0";
        assert_eq!(body, hex(expected));
    }

    /// RFC 7714 §16 and §17: one RTP and one RTCP packet under session keys that count up from 0.
    #[test]
    fn packets_are_sealed_as_in_the_rfc() {
        let keys: Vec<u8> = (0..32).collect();
        let rtp =
            "8040f17b8041f8d35501a0b2 47616c6c696120657374206f6d6e6973 2064697669736120696e207061727465732074726573";
        let rtcp = "81c8000d4d617273 4e5450314e545032525450200000042a0000e930 4c756e61deadbeefdeadbeefdeadbeefdeadbeefdeadbeef";
        let (rtp_at, rtcp_at) = (Place::rtp(0x5501_a0b2, 0xf17b), Place::rtcp(0x4d61_7273, 0x8000_05d4));
        let (rtp, rtcp) = ((12, rtp_at, rtp), (8, rtcp_at, rtcp));
        for (profile, (header, at, plain), sealed) in [
            (
                Profile::Aes128Gcm,
                rtp,
                "f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833899d\
                 7f27beb16a9152cf765ee4390cce",
            ),
            (
                Profile::Aes256Gcm,
                rtp,
                "32b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f1ba63799b87b7aa3\
                 db36dfffd6b0f9bb7878d7a76c13",
            ),
            (
                Profile::Aes128Gcm,
                rtcp,
                "63e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda4ce09b4686303ded\
                 0bb9275bc84aa45896cf4d2fc5abf87245d9eade",
            ),
        ] {
            let cipher = Cipher::new(profile, &keys[..profile.key_bytes()], &[], b"Quid pro quo").unwrap();
            let mut plain = hex(plain);
            let (header, body) = plain.split_at_mut(header);
            let tag = cipher.seal(at, header, body).unwrap();
            assert_eq!([&*body, &tag].concat(), hex(sealed), "{profile:?}");
        }
    }
}
