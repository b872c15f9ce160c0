use std::io::{Read, Write};

use proptest::prelude::*;

use super::*;

fn reach(allowed: &[&str]) -> Reach {
    Reach::new(&allowed.iter().map(|network| network.parse().expect("a network")).collect::<Vec<_>>())
}

fn outbound(allowed: &[&str]) -> Outbound {
    Outbound::new(reach(allowed), Arc::new(RootCertStore::empty())).expect("a client")
}

async fn post(outbound: &Outbound, url: &str, timeout: Duration) -> Result<Answer, OutboundError> {
    let header = (HeaderName::from_static("x-test"), HeaderValue::from_static("1"));
    let (url, body) = (&url.parse().expect("a URL"), Bytes::from_static(b"{}"));
    outbound.post_json(Post { url, header, body, timeout, answer_bytes_max: 16 * 1024 }).await
}

/// A server that reads one request, says `answer`, and says nothing more. Gives its port.
fn serve(answer: impl Into<Vec<u8>>) -> u16 {
    let (listener, answer) = (std::net::TcpListener::bind("127.0.0.1:0").expect("a port"), answer.into());
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(&answer);
            // Until the client goes.
            let _ = stream.read(&mut request);
        }
    });
    port
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn only_public_addresses_are_public() {
    for address in NOT_PUBLIC.split_whitespace() {
        assert!(!is_public(address.parse().expect("an address")), "{address}");
    }
    for address in PUBLIC.split_whitespace() {
        assert!(is_public(address.parse().expect("an address")), "{address}");
    }
}

#[test]
fn urls_are_judged_as_they_will_be_dialled() {
    for url in [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://127.0.0.1./",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "https://169.254.169.254/latest/",
        "http://[fd00:ec2::254]/",
        "http://0/",
        "http://１２７.0.0.1/",
    ] {
        assert_eq!(Reach::default().check(&url.parse().expect(url)), Err(OutboundError::NotAllowed), "{url}");
    }
    for url in ["ftp://8.8.8.8/", "file:///etc/passwd", "http://user@8.8.8.8/", "http://:pw@8.8.8.8/", "data:,x"] {
        let judged = Reach::default().check(&url.parse().expect(url));
        assert!(matches!(judged, Err(OutboundError::BadUrl(_))), "{url}: {judged:?}");
    }
    let private = reach(&["10.0.0.0/8", "fd00::/8"]);
    for (url, may) in [
        ("http://10.1.2.3/", true),
        ("https://[fd12::1]:8443/x", true),
        ("http://11.0.0.1/", true),
        ("http://127.0.0.1/", false),
        ("http://[::ffff:10.1.2.3]/", false),
        ("http://shop.example.com/", true),
    ] {
        assert_eq!(private.check(&url.parse().expect(url)).is_ok(), may, "{url}");
    }
}

proptest! {
    #[test]
    fn no_text_leads_to_a_local_address(text in "(http|https|HTTP)://[0-9a-fx.:\\[\\]@%]{1,24}/?") {
        fuzz::outbound(text.as_bytes());
    }

    #[test]
    fn no_bytes_are_a_local_and_public_address(bytes in any::<[u8; 16]>()) {
        fuzz::outbound(&bytes);
    }
}

#[tokio::test]
async fn a_name_for_a_local_address_is_not_dialled() {
    let port = serve("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let url = format!("http://localhost:{port}/");
    assert_eq!(post(&outbound(&[]), &url, SECOND).await, Err(OutboundError::NotAllowed));
    let answer = post(&outbound(&["127.0.0.1/32"]), &url, SECOND).await.expect("an answer");
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"ok".as_slice()));
    let unknown = post(&outbound(&[]), "http://no-such-host.invalid/", 5 * SECOND).await;
    assert!(matches!(unknown, Err(OutboundError::Unresolved | OutboundError::TimedOut)), "{unknown:?}");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_followed() {
    let port = serve("HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n");
    let answer = post(&outbound(&["127.0.0.1/32"]), &format!("http://127.0.0.1:{port}/"), SECOND).await;
    assert_eq!(answer.expect("an answer").status, 302);
}

#[tokio::test]
async fn an_answer_has_its_bounds() {
    let client = outbound(&["127.0.0.1/32"]);
    let long = format!("HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n{}", "x".repeat(10_000_000));
    let port = serve(long);
    assert_eq!(post(&client, &format!("http://127.0.0.1:{port}/"), SECOND).await, Err(OutboundError::TooLong));
    let port = serve("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nonly");
    let short = post(&client, &format!("http://127.0.0.1:{port}/"), Duration::from_millis(200)).await;
    assert_eq!(short, Err(OutboundError::TimedOut));
    let port = serve("garbage\r\n\r\n");
    let garbage = post(&client, &format!("http://127.0.0.1:{port}/?token=abc"), SECOND).await;
    let Err(OutboundError::Failed(why)) = garbage else { panic!("{garbage:?}") };
    assert!(!why.contains("abc"), "{why}");
}

const NOT_PUBLIC: &str = "\
    0.0.0.0 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1 127.255.255.254 169.254.169.254 \
    172.16.0.1 172.31.255.255 192.0.0.192 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.1 \
    203.0.113.1 224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 :: ::1 ::8.8.8.8 ::ffff:8.8.8.8 ::ffff:127.0.0.1 \
    ::ffff:0:127.0.0.1 64:ff9b::8.8.8.8 64:ff9b::10.0.0.1 64:ff9b:1::1 100::1 2001::1 2001:0:4136:e378::1 \
    2001:2::1 2001:10::1 2001:20::1 2001:db8::1 2002:a00:1::1 2002:808:808::1 3fff::1 5f00::1 fc00::1 \
    fd00:ec2::254 fe80::1 fec0::1 ff02::1";

const PUBLIC: &str = "\
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 169.253.255.255 \
    172.15.255.255 172.32.0.0 192.0.1.0 192.167.255.255 198.17.255.255 198.20.0.0 223.255.255.255 \
    2001:4860:4860::8888 2606:4700::1111 2a00::1";
