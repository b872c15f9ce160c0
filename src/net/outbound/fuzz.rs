//! Entry point of the fuzz target: any text as a URL, and no way to an address that the standard library calls local.

use std::net::IpAddr;

use url::{Host, Url};

use super::Reach;

/// A URL, and its first bytes as addresses.
pub fn outbound(bytes: &[u8]) {
    if let Some(v4) = bytes.first_chunk::<4>() {
        check((*v4).into());
    }
    if let Some(v6) = bytes.first_chunk::<16>() {
        check((*v6).into());
    }
    let Ok(Ok(url)) = core::str::from_utf8(bytes).map(Url::parse) else { return };
    if Reach::default().check(&url).is_ok() {
        assert!(matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none());
        match url.host() {
            Some(Host::Ipv4(address)) => check(address.into()),
            Some(Host::Ipv6(address)) => check(address.into()),
            // What a client would take for an address has been taken for one here.
            Some(Host::Domain(name)) => assert!(name.parse::<IpAddr>().is_err(), "{name}"),
            None => unreachable!("a URL without a host may not be called"),
        }
    }
}

fn check(address: IpAddr) {
    if !super::is_public(address) {
        return;
    }
    let is_local = match address {
        IpAddr::V4(v4) => {
            v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.is_documentation()
                || v4.is_unspecified()
        }
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
                || v6.to_ipv4().is_some()
        }
    };
    assert!(!is_local, "{address} is not public");
}
