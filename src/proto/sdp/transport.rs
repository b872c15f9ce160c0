//! What a description says of the transport: ICE credentials and candidates, DTLS role and fingerprint.

use core::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::{BadSdp, lines::Section};
use crate::{
    limits::SDP_CANDIDATES_MAX,
    proto::ice::{self, Credentials},
};

/// A peer's end of the transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transport {
    /// Its ICE credentials.
    pub ice: Credentials,
    /// It sends no checks of its own (RFC 8445 §2.5).
    pub ice_lite: bool,
    /// Its certificate's fingerprint.
    pub fingerprint: Fingerprint,
    /// Its DTLS role.
    pub setup: Setup,
    /// Its addresses; names (mDNS) and those that only call are left out.
    pub candidates: Vec<Candidate>,
}

impl Transport {
    /// The transport of a media line; what the line lacks is the session's. `None` for a line without a transport
    /// of its own (`bundle-only`).
    pub(super) fn read(session: &Section<'_>, media: &Section<'_>) -> Result<Option<Self>, BadSdp> {
        let Some(ice) = credentials(media)?.map_or_else(|| credentials(session), |ice| Ok(Some(ice)))? else {
            return Ok(None);
        };
        let fingerprints = || media.all("fingerprint").chain(session.all("fingerprint"));
        let strongest = fingerprints().filter_map(Fingerprint::parse).max_by_key(|found| found.function);
        let fingerprint = strongest.ok_or(match fingerprints().next() {
            None => BadSdp::Missing("fingerprint"),
            Some(_) => BadSdp::Bad("fingerprint"),
        })?;
        let setup = media.first("setup").or(session.first("setup")).ok_or(BadSdp::Missing("setup"))?;
        let setup = Setup::parse(setup).ok_or(BadSdp::Bad("setup"))?;
        Ok(Some(Self { ice, ice_lite: session.has("ice-lite"), fingerprint, setup, candidates: candidates(media) }))
    }
}

/// The candidates of a part; those that can't be used are skipped (RFC 8839 §5.1).
pub(super) fn candidates(section: &Section<'_>) -> Vec<Candidate> {
    section.all("candidate").filter_map(Candidate::parse).take(SDP_CANDIDATES_MAX).collect()
}

/// The ICE credentials of a part (RFC 8839 §5.4).
pub(super) fn credentials(section: &Section<'_>) -> Result<Option<Credentials>, BadSdp> {
    let (ufrag, pwd) = match (section.first("ice-ufrag"), section.first("ice-pwd")) {
        (Some(ufrag), Some(pwd)) => (ufrag, pwd),
        (None, None) => return Ok(None),
        (None, Some(_)) => return Err(BadSdp::Missing("ice-ufrag")),
        (Some(_), None) => return Err(BadSdp::Missing("ice-pwd")),
    };
    let is_ice = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/');
    if !(4..=256).contains(&ufrag.len()) || !is_ice(ufrag) {
        return Err(BadSdp::Bad("ice-ufrag"));
    }
    if !(22..=256).contains(&pwd.len()) || !is_ice(pwd) {
        return Err(BadSdp::Bad("ice-pwd"));
    }
    Ok(Some(Credentials { ufrag: ufrag.to_owned(), pwd: pwd.to_owned() }))
}

/// The digest of a DTLS certificate (RFC 8122 §5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// What made it.
    pub function: HashFunction,
    /// The digest.
    pub digest: Vec<u8>,
}

/// Hash functions for fingerprints, the strongest last. MD5 and SHA-1 are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HashFunction {
    /// SHA-256, which all of WebRTC uses.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl HashFunction {
    fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
        }
    }
}

impl Fingerprint {
    /// The fingerprint of a certificate in DER.
    pub fn of(function: HashFunction, certificate: &[u8]) -> Self {
        let digest = match function {
            HashFunction::Sha256 => Sha256::digest(certificate).to_vec(),
            HashFunction::Sha384 => Sha384::digest(certificate).to_vec(),
            HashFunction::Sha512 => Sha512::digest(certificate).to_vec(),
        };
        Self { function, digest }
    }

    /// Is this the fingerprint of that certificate (DER)?
    pub fn is_of(&self, certificate: &[u8]) -> bool {
        *self == Self::of(self.function, certificate)
    }

    fn parse(text: &str) -> Option<Self> {
        let (name, digits) = text.split_once(' ')?;
        let known = [HashFunction::Sha256, HashFunction::Sha384, HashFunction::Sha512];
        let function = known.into_iter().find(|function| function.name().eq_ignore_ascii_case(name))?;
        let byte = |pair: &str| (pair.len() == 2).then(|| u8::from_str_radix(pair, 16).ok()).flatten();
        let digest = digits.trim().split(':').map(byte).collect::<Option<Vec<u8>>>()?;
        (digest.len() == Self::of(function, &[]).digest.len()).then_some(Self { function, digest })
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.function.name())?;
        let mut before = ' ';
        for byte in &self.digest {
            write!(f, "{before}{byte:02X}")?;
            before = ':';
        }
        Ok(())
    }
}

/// Who sends the DTLS ClientHello (RFC 5763 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    /// Whoever the answer says.
    ActPass,
    /// This end.
    Active,
    /// The other end.
    Passive,
}

impl Setup {
    fn parse(text: &str) -> Option<Self> {
        [Self::ActPass, Self::Active, Self::Passive].into_iter().find(|setup| setup.name() == text)
    }

    /// The answer to it: passive wherever the offer allows, so that a stranger's first flight costs us least.
    pub fn answered(self) -> Self {
        match self {
            Self::ActPass | Self::Active => Self::Passive,
            Self::Passive => Self::Active,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ActPass => "actpass",
            Self::Active => "active",
            Self::Passive => "passive",
        }
    }
}

/// An address of an end (RFC 8839 §5.1), of the first component; there is no second with rtcp-mux.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// What it speaks; over TCP this end listens (RFC 6544, `tcptype passive`).
    pub transport: ice::Transport,
    /// Where it is.
    pub address: SocketAddr,
    /// Greater is better.
    pub priority: u32,
}

impl Candidate {
    /// A host candidate of ours over UDP.
    pub fn host_udp(address: SocketAddr) -> Self {
        Self::host(ice::Transport::Udp, address, 126)
    }

    /// A host candidate of ours over TCP, tried after all that speak UDP.
    pub fn host_tcp(address: SocketAddr) -> Self {
        Self::host(ice::Transport::Tcp, address, 90)
    }

    /// RFC 8445 §5.1.2.1, with IPv6 before IPv4 (RFC 8421 §4).
    fn host(transport: ice::Transport, address: SocketAddr, type_preference: u32) -> Self {
        let local_preference = 65_534 + u32::from(address.is_ipv6());
        Self { transport, address, priority: type_preference << 24 | local_preference << 8 | 255 }
    }

    /// The value of an attribute `candidate`. `None` for one that nobody can send to: a name, another component,
    /// an active TCP end.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let _foundation = words.next()?;
        let component = words.next()?;
        let transport = words.next()?;
        let priority = words.next()?.parse().ok()?;
        let address: IpAddr = words.next()?.parse().ok()?;
        let port = words.next()?.parse().ok()?;
        let transport = if transport.eq_ignore_ascii_case("udp") {
            ice::Transport::Udp
        } else if transport.eq_ignore_ascii_case("tcp") && words.any(|word| word == "passive") {
            ice::Transport::Tcp
        } else {
            return None;
        };
        (component == "1" && port != 0).then_some(Self { transport, address: (address, port).into(), priority })
    }
}

impl fmt::Display for Candidate {
    /// All but the foundation.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transport, suffix) = match self.transport {
            ice::Transport::Udp => ("udp", ""),
            ice::Transport::Tcp => ("tcp", " tcptype passive"),
        };
        let (priority, address, port) = (self.priority, self.address.ip(), self.address.port());
        write!(f, "1 {transport} {priority} {address} {port} typ host{suffix}")
    }
}
