//! STUN messages (RFC 8489), as far as ICE needs them: binding requests and their answers.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use aws_lc_rs::hmac;

use super::Dropped;
use crate::limits::STUN_MESSAGE_BYTES_MAX;

const HEADER_BYTES: usize = 20;
const COOKIE: u32 = 0x2112_a442;

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLING: u16 = 0x802a;

/// An attribute's type and length.
const ATTRIBUTE_HEADER_BYTES: usize = 4;
/// What the length of a message counts in MESSAGE-INTEGRITY.
const INTEGRITY_BYTES: usize = ATTRIBUTE_HEADER_BYTES + 20;

/// Matches an answer to its request; random.
pub type Transaction = [u8; 12];

/// The key of MESSAGE-INTEGRITY, out of a password.
pub fn integrity_key(pwd: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, pwd.as_bytes())
}

/// Whether a datagram is STUN rather than DTLS, RTP or RTCP (RFC 7983 §7).
pub fn is_stun(datagram: &[u8]) -> bool {
    matches!(datagram, [0..=3, _, _, _, 0x21, 0x12, 0xa4, 0x42, ..]) && datagram.len() >= HEADER_BYTES
}

/// The receiver's half of the USERNAME of a binding request: whose session it claims to be for. Nothing is verified.
pub fn request_ufrag(datagram: &[u8]) -> Option<&str> {
    let message = Message::parse(datagram).ok()?;
    let username = message.username.filter(|_| message.class == Class::Request)?;
    username.split_once(':').map(|(receiver, _)| receiver)
}

/// What a message of the binding method is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A binding request.
    Request,
    /// A binding success response.
    Success,
}

/// A parsed binding message; not verified.
#[derive(Debug)]
pub struct Message<'a> {
    /// Request or answer.
    pub class: Class,
    /// The transaction it belongs to.
    pub transaction: Transaction,
    /// USERNAME.
    pub username: Option<&'a str>,
    /// USE-CANDIDATE is there: the sender nominates the path.
    pub use_candidate: bool,
    /// PRIORITY.
    pub priority: Option<u32>,
    /// XOR-MAPPED-ADDRESS in clear.
    pub mapped_address: Option<SocketAddr>,
    bytes: &'a [u8],
    /// Where MESSAGE-INTEGRITY begins, and its value.
    integrity: Option<(usize, &'a [u8])>,
    /// Where FINGERPRINT begins, and its value.
    fingerprint: Option<(usize, u32)>,
}

impl<'a> Message<'a> {
    /// Parses a whole message. Attributes that are unknown, come again, or follow MESSAGE-INTEGRITY (except
    /// FINGERPRINT, RFC 8489 §14.5) are passed over.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Dropped> {
        let (header, mut rest) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(Dropped::Malformed)?;
        let [kind_a, kind_b, length_a, length_b, _, _, _, _, transaction @ ..] = *header;
        let length = usize::from(u16::from_be_bytes([length_a, length_b]));
        if !is_stun(bytes) || bytes.len() > STUN_MESSAGE_BYTES_MAX || length != rest.len() {
            return Err(Dropped::Malformed);
        }
        let class = match u16::from_be_bytes([kind_a, kind_b]) {
            BINDING_REQUEST => Class::Request,
            BINDING_SUCCESS => Class::Success,
            _ => return Err(Dropped::Unexpected),
        };
        let mut message = Self {
            class,
            transaction,
            username: None,
            use_candidate: false,
            priority: None,
            mapped_address: None,
            bytes,
            integrity: None,
            fingerprint: None,
        };
        while !rest.is_empty() {
            let at = bytes.len() - rest.len();
            let (kind, value, after) = split_attribute(rest).ok_or(Dropped::Malformed)?;
            message.take(at, kind, value).ok_or(Dropped::Malformed)?;
            rest = after;
        }
        Ok(message)
    }

    /// Notes an attribute. `None` if one that is known has a value that isn't.
    fn take(&mut self, at: usize, kind: u16, value: &'a [u8]) -> Option<()> {
        if kind == FINGERPRINT {
            let value = u32::from_be_bytes(value.try_into().ok()?);
            self.fingerprint.get_or_insert((at, value));
            return Some(());
        }
        if self.integrity.is_some() {
            return Some(());
        }
        match kind {
            MESSAGE_INTEGRITY => self.integrity = Some((at, value)),
            USERNAME => {
                self.username.get_or_insert(str::from_utf8(value).ok()?);
            }
            PRIORITY => {
                self.priority.get_or_insert(u32::from_be_bytes(value.try_into().ok()?));
            }
            USE_CANDIDATE => self.use_candidate = true,
            XOR_MAPPED_ADDRESS => {
                self.mapped_address.get_or_insert(read_xor_address(value, &self.transaction)?);
            }
            _ => {}
        }
        Some(())
    }

    /// Checks FINGERPRINT, which must be there and last (RFC 8489 §14.7). It guards against chance only.
    pub fn verify_fingerprint(&self) -> Result<(), Dropped> {
        let (at, value) = self.fingerprint.ok_or(Dropped::Fingerprint)?;
        let (covered, own) = self.bytes.split_at_checked(at).ok_or(Dropped::Fingerprint)?;
        let is_last = own.len() == ATTRIBUTE_HEADER_BYTES + 4;
        if is_last && value == fingerprint(covered) { Ok(()) } else { Err(Dropped::Fingerprint) }
    }

    /// Checks MESSAGE-INTEGRITY, which must be there, in constant time (RFC 8489 §14.5).
    pub fn verify_integrity(&self, key: &hmac::Key) -> Result<(), Dropped> {
        let (at, value) = self.integrity.ok_or(Dropped::Integrity)?;
        let covered = self.bytes.get(..at).ok_or(Dropped::Integrity)?;
        let expected = integrity(covered, key);
        aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_ref(), value).map_err(|_| Dropped::Integrity)
    }
}

/// What a controlling agent asks with (RFC 8445 §7.1).
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Fresh for each request that isn't a retransmission.
    pub transaction: Transaction,
    /// The receiver's ufrag, a colon, the sender's.
    pub username: &'a str,
    /// Priority that a candidate found by this check would have.
    pub priority: u32,
    /// Random, the same for a session.
    pub tie_breaker: u64,
    /// Whether the path is to be used.
    pub use_candidate: bool,
}

impl Request<'_> {
    /// The message, signed with the receiver's password.
    pub fn write(&self, key: &hmac::Key) -> Vec<u8> {
        let mut writer = Writer::new(BINDING_REQUEST, &self.transaction);
        writer.attribute(USERNAME, self.username.as_bytes());
        writer.attribute(PRIORITY, &self.priority.to_be_bytes());
        writer.attribute(ICE_CONTROLLING, &self.tie_breaker.to_be_bytes());
        if self.use_candidate {
            writer.attribute(USE_CANDIDATE, &[]);
        }
        writer.finish(key)
    }
}

/// The answer to a request that came from `mapped`, signed with the password that the request was signed with.
pub fn write_success(transaction: &Transaction, mapped: SocketAddr, key: &hmac::Key) -> Vec<u8> {
    let mut writer = Writer::new(BINDING_SUCCESS, transaction);
    writer.attribute(XOR_MAPPED_ADDRESS, &xor_address(mapped, transaction));
    writer.finish(key)
}

struct Writer {
    out: Vec<u8>,
}

impl Writer {
    fn new(kind: u16, transaction: &Transaction) -> Self {
        let mut out = Vec::with_capacity(128);
        out.extend(kind.to_be_bytes());
        out.extend([0, 0]);
        out.extend(COOKIE.to_be_bytes());
        out.extend(transaction);
        Self { out }
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
        let value = value.get(..length.into()).unwrap_or(value);
        self.out.extend(kind.to_be_bytes());
        self.out.extend(length.to_be_bytes());
        self.out.extend(value);
        self.out.resize(self.out.len().next_multiple_of(4), 0);
    }

    fn finish(mut self, key: &hmac::Key) -> Vec<u8> {
        let integrity = integrity(&self.out, key);
        self.attribute(MESSAGE_INTEGRITY, integrity.as_ref());
        let bytes = self.out.len() - HEADER_BYTES + ATTRIBUTE_HEADER_BYTES + 4;
        let length = u16::try_from(bytes).unwrap_or(u16::MAX);
        self.out.iter_mut().skip(2).zip(length.to_be_bytes()).for_each(|(to, from)| *to = from);
        let fingerprint = fingerprint(&self.out);
        self.attribute(FINGERPRINT, &fingerprint.to_be_bytes());
        self.out
    }
}

/// An attribute's type and value, and what follows its padding.
fn split_attribute(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let ([kind_a, kind_b, length_a, length_b], rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::from(u16::from_be_bytes([*length_a, *length_b]));
    let (padded, after) = rest.split_at_checked(length.next_multiple_of(4))?;
    Some((u16::from_be_bytes([*kind_a, *kind_b]), padded.get(..length)?, after))
}

/// The HMAC over what precedes MESSAGE-INTEGRITY, under a length that ends with it.
fn integrity(covered: &[u8], key: &hmac::Key) -> hmac::Tag {
    let bytes = (covered.len() + INTEGRITY_BYTES).saturating_sub(HEADER_BYTES);
    let length = u16::try_from(bytes).unwrap_or(u16::MAX);
    let (kind, rest) = covered.split_at_checked(2).unwrap_or_default();
    let (_, rest) = rest.split_at_checked(2).unwrap_or_default();
    let mut context = hmac::Context::with_key(key);
    context.update(kind);
    context.update(&length.to_be_bytes());
    context.update(rest);
    context.sign()
}

/// The CRC-32 over what precedes FINGERPRINT, made different from that of any other protocol.
fn fingerprint(covered: &[u8]) -> u32 {
    let crc = covered.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    });
    !crc ^ 0x5354_554e
}

/// The value of XOR-MAPPED-ADDRESS (RFC 8489 §14.2). An IPv4 address inside IPv6 is told as the IPv4 it is.
fn xor_address(address: SocketAddr, transaction: &Transaction) -> Vec<u8> {
    let [cookie_a, cookie_b, ..] = COOKIE.to_be_bytes();
    let port = address.port() ^ u16::from_be_bytes([cookie_a, cookie_b]);
    let [port_a, port_b] = port.to_be_bytes();
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => [[0, 1, port_a, port_b], (ip.to_bits() ^ COOKIE).to_be_bytes()].concat(),
        IpAddr::V6(ip) => {
            let mut value = vec![0, 2, port_a, port_b];
            value.extend((ip.to_bits() ^ mask_of_v6(transaction)).to_be_bytes());
            value
        }
    }
}

fn read_xor_address(value: &[u8], transaction: &Transaction) -> Option<SocketAddr> {
    let ([_, family, port @ ..], ip) = value.split_first_chunk::<4>()?;
    let [cookie_a, cookie_b, ..] = COOKIE.to_be_bytes();
    let port = u16::from_be_bytes(*port) ^ u16::from_be_bytes([cookie_a, cookie_b]);
    let ip = match family {
        1 => Ipv4Addr::from_bits(u32::from_be_bytes(ip.try_into().ok()?) ^ COOKIE).into(),
        2 => Ipv6Addr::from_bits(u128::from_be_bytes(ip.try_into().ok()?) ^ mask_of_v6(transaction)).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn mask_of_v6(transaction: &Transaction) -> u128 {
    let low = transaction.iter().fold(0, |low, byte| low << 8 | u128::from(*byte));
    u128::from(COOKIE) << 96 | low
}
