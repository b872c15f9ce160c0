use super::*;
use crate::proto::rtmp::{ServerEvent, ServerSession};

fn talk(server: &mut ServerSession, client: &mut ClientSession) {
    for _ in 0..8 {
        std::iter::from_fn(|| client.poll_output()).for_each(|bytes| server.handle_bytes(&bytes).expect("ours"));
        std::iter::from_fn(|| server.poll_output()).for_each(|bytes| client.handle_bytes(&bytes).expect("ours"));
    }
}

#[test]
fn urls_split_into_app_and_name() {
    let config = ClientConfig::from_url(ClientMode::Play, "rtmp://h:19350/live/eu/room?key=1").expect("a URL");
    assert_eq!((config.app.as_str(), config.name.as_str()), ("live/eu", "room?key=1"));
    assert_eq!(config.tc_url, "rtmp://h:19350/live/eu");
    for bad in ["http://h/live/room", "rtmp://h/room", "rtmp:///live/room", "rtmp://h/", "room"] {
        assert_eq!(ClientConfig::from_url(ClientMode::Play, bad), Err(BadRtmpUrl), "{bad}");
    }
}

#[test]
fn a_refusal_is_an_event_with_its_code() {
    let config = ClientConfig::from_url(ClientMode::Publish, "rtmp://h/live/room").expect("a URL");
    let (mut server, mut client) = (ServerSession::new(), ClientSession::new(config));
    talk(&mut server, &mut client);
    assert_eq!(client.poll_event(), None);
    server.reject("NetStream.Publish.BadName", "no").expect("room in the queue");
    talk(&mut server, &mut client);
    let refused = ClientEvent::Rejected { code: "NetStream.Publish.BadName".to_owned(), description: "no".to_owned() };
    assert_eq!(client.poll_event(), Some(refused));
    client.send(0, &TagBody::script(Bytes::new()));
    assert_eq!(client.poll_output(), None);
}

#[test]
fn the_end_of_a_stream_is_an_event() {
    let config = ClientConfig::from_url(ClientMode::Play, "rtmp://h/live/room").expect("a URL");
    let (mut server, mut client) = (ServerSession::new(), ClientSession::new(config));
    talk(&mut server, &mut client);
    server.poll_event();
    assert!(matches!(server.poll_event(), Some(ServerEvent::PlayRequest { start, .. }) if start < 0.0));
    server.accept_play().expect("accepted");
    talk(&mut server, &mut client);
    assert_eq!(client.poll_event(), Some(ClientEvent::Ready));
    server.end_play("over").expect("room in the queue");
    talk(&mut server, &mut client);
    assert_eq!((client.poll_event(), client.poll_event()), (Some(ClientEvent::Closed), None));
}
