//! Calls to URLs that a configuration names, to public addresses only: what can be made to call an address of choice
//! must not reach the machine's own services, its network, or the cloud's metadata.
//!
//! A name is resolved once, what is not public is dropped, and exactly what is left is connected to. No redirects, no
//! proxies, and an answer has its bounds in time and bytes.

use std::{
    error::Error,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use reqwest::{
    dns::{Addrs, Name, Resolve, Resolving},
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
    redirect,
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use url::{Host, Url};

pub mod fuzz;

/// Why a call came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    /// The URL is not one that may be called.
    #[error("{0}")]
    BadUrl(&'static str),
    /// None of the host's addresses is public or allowed.
    #[error("its address is not public, and not allowed by the configuration")]
    NotAllowed,
    /// The name has no address.
    #[error("its name can't be resolved")]
    Unresolved,
    /// No whole answer in time.
    #[error("no answer in time")]
    TimedOut,
    /// The answer is longer than allowed.
    #[error("the answer is too long")]
    TooLong,
    /// The connection, or the TLS or HTTP on it, failed.
    #[error("{0}")]
    Failed(String),
    /// TLS can't be set up.
    #[error("TLS can't be set up: {0}")]
    Tls(String),
}

/// Which addresses may be called: the public ones, and those that the operator names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach(Arc<[IpNet]>);

impl Reach {
    /// Public addresses, and `allowed`.
    pub fn new(allowed: &[IpNet]) -> Self {
        Self(allowed.into())
    }

    /// May `address` be connected to?
    pub fn has(&self, address: IpAddr) -> bool {
        is_public(address) || self.0.iter().any(|network| network.contains(&address))
    }

    /// May `url` be called? Of a host with a name that is seen only when it is resolved.
    pub fn check(&self, url: &Url) -> Result<(), OutboundError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(OutboundError::BadUrl("only http and https are called"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(OutboundError::BadUrl("a URL to call has no user part"));
        }
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(_)) => return Ok(()),
            None => return Err(OutboundError::BadUrl("a URL to call has a host")),
        };
        if self.has(address) { Ok(()) } else { Err(OutboundError::NotAllowed) }
    }
}

/// Is `address` one of the public internet? By the special-purpose registries of IANA (RFC 6890): what is private,
/// shared, local to link or host, documentation, benchmark, multicast or reserved is not, nor is what leads to such
/// an address through a translation or a tunnel.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !NOT_PUBLIC_V4.iter().any(|network| network.contains(&v4)),
        IpAddr::V6(v6) => PUBLIC_V6.contains(&v6) && !NOT_PUBLIC_V6.iter().any(|network| network.contains(&v6)),
    }
}

/// A client for such calls.
#[derive(Clone)]
pub struct Outbound {
    client: reqwest::Client,
    reach: Reach,
}

/// One call.
pub struct Post<'a> {
    /// Where to.
    pub url: &'a Url,
    /// What shows who calls.
    pub header: (HeaderName, HeaderValue),
    /// JSON.
    pub body: Bytes,
    /// From the look-up of the name to the last byte of the answer.
    pub timeout: Duration,
    /// A longer answer is an error.
    pub answer_bytes_max: usize,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// `Content-Type`, if it says one.
    pub content_type: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Outbound {
    /// A client that trusts `roots` and reaches `reach`.
    pub fn new(reach: Reach, roots: Arc<RootCertStore>) -> Result<Self, OutboundError> {
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| OutboundError::Tls(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(Public(reach.clone()))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .user_agent(concat!("hawker/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| OutboundError::Tls(error.to_string()))?;
        Ok(Self { client, reach })
    }

    /// Posts JSON; gives the answer, whatever its status.
    pub async fn post_json(&self, post: Post<'_>) -> Result<Answer, OutboundError> {
        let Post { url, header, body, timeout, answer_bytes_max } = post;
        self.reach.check(url)?;
        let request = self.client.post(url.clone()).header(CONTENT_TYPE, "application/json").body(body);
        let exchange = async {
            let mut response = request.header(header.0, header.1).send().await?;
            let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
            let content_type = content_type.map(str::to_owned);
            let (status, mut body) = (response.status().as_u16(), Vec::new());
            while let Some(piece) = response.chunk().await? {
                if body.len() + piece.len() > answer_bytes_max {
                    return Err(OutboundError::TooLong);
                }
                body.extend_from_slice(&piece);
            }
            Ok(Answer { status, content_type, body })
        };
        tokio::time::timeout(timeout, exchange).await.map_err(|_| OutboundError::TimedOut)?
    }
}

impl From<reqwest::Error> for OutboundError {
    /// Says the cause, without the URL.
    fn from(error: reqwest::Error) -> Self {
        let mut cause: &(dyn Error + 'static) = &error;
        while let Some(deeper) = cause.source() {
            if let Some(ours) = deeper.downcast_ref::<Self>() {
                return ours.clone();
            }
            cause = deeper;
        }
        Self::Failed(cause.to_string())
    }
}

/// Resolves names to what may be connected to.
struct Public(Reach);

impl Resolve for Public {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0.clone();
        Box::pin(async move {
            // The port is the URL's.
            let found = tokio::net::lookup_host((name.as_str(), 0)).await.map_err(|_| OutboundError::Unresolved)?;
            let allowed: Vec<SocketAddr> = found.filter(|address| reach.has(address.ip())).collect();
            if allowed.is_empty() {
                return Err(OutboundError::NotAllowed.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

const fn v4(a: u8, b: u8, c: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), length)
}

const fn v6(a: u16, b: u16, length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), length)
}

const NOT_PUBLIC_V4: [Ipv4Net; 15] = [
    v4(0, 0, 0, 8),       // this network
    v4(10, 0, 0, 8),      // private
    v4(100, 64, 0, 10),   // shared by the customers of a carrier
    v4(127, 0, 0, 8),     // loopback
    v4(169, 254, 0, 16),  // link-local, metadata of clouds
    v4(172, 16, 0, 12),   // private
    v4(192, 0, 0, 24),    // protocol assignments, metadata of one cloud
    v4(192, 0, 2, 24),    // documentation
    v4(192, 88, 99, 24),  // 6to4 relays
    v4(192, 168, 0, 16),  // private
    v4(198, 18, 0, 15),   // benchmarks
    v4(198, 51, 100, 24), // documentation
    v4(203, 0, 113, 24),  // documentation
    v4(224, 0, 0, 4),     // multicast
    v4(240, 0, 0, 4),     // reserved, broadcast
];

/// Global unicast. Loopback, link-local, unique local (metadata of clouds too), multicast, IPv4-mapped and the
/// prefixes of NAT64 are outside it.
const PUBLIC_V6: Ipv6Net = v6(0x2000, 0, 3);

const NOT_PUBLIC_V6: [Ipv6Net; 4] = [
    v6(0x2001, 0, 23),     // protocol assignments: Teredo, benchmarks, ORCHID
    v6(0x2001, 0xdb8, 32), // documentation
    v6(0x2002, 0, 16),     // 6to4
    v6(0x3fff, 0, 20),     // documentation
];

#[cfg(test)]
mod tests;
