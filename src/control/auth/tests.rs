use std::net::SocketAddr;

use super::*;
use crate::{
    config::{JwtAlgorithm, JwtKey, PlayPolicy, PublishKey, SignedAction, Token},
    limits,
    net::access::{Action, GrantOver},
    observe::metrics::Protocol,
};

fn name(text: &str) -> StreamName {
    text.parse().expect("a stream name")
}

fn config(play: PlayPolicy) -> config::Auth {
    let token = |prefix: &str, token: &str, roles: &[TokenRole]| Token {
        prefix: prefix.into(),
        token_sha256: Digest::of(token),
        roles: roles.to_vec(),
    };
    let key = |prefix: &str, key: &str, events| PublishKey {
        prefix: prefix.into(),
        key_sha256: Digest::of(key),
        events,
        priority: 0,
        streams_max: None,
        bitrate_kbps_max: None,
    };
    config::Auth {
        play,
        publish: vec![key("live", "live-key", false), key("live/room", "room-key", true)],
        token: vec![
            token("live", "director", &[TokenRole::EventsWrite, TokenRole::ApiRead]),
            token("shop", "director", &[TokenRole::ApiRead]),
            token("", "edge", &[TokenRole::Relay]),
            token("live/room", "viewer", &[TokenRole::Play]),
        ],
        ..config::Auth::default()
    }
}

fn auth(play: PlayPolicy) -> Arc<Auth> {
    Auth::new(&config(play))
}

fn peer(n: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, n], 5000))
}

fn asked<'a>(action: Action, stream: &'a StreamName, secret: &'a str) -> Asked<'a> {
    Asked { action, stream, protocol: Protocol::Rtmp, peer: peer(1), secret: Some(secret) }
}

impl Auth {
    fn opens(&self, secret: &str, role: TokenRole, stream: Option<&StreamName>) -> Option<Right> {
        self.rules.load().find(Digest::of(secret), role, stream, now_s())
    }
}

fn terms(roles: &[TokenRole], prefix: &str) -> Terms {
    Terms { roles: roles.to_vec(), prefix: prefix.into(), ..Terms::default() }
}

#[test]
fn the_default_opens_nothing() {
    let auth = Auth::new(&config::Auth::default());
    let room = name("live/room");
    assert!(!auth.may_see(&room, None) && !auth.may_see(&room, Some("")));
    for role in [TokenRole::Publish, TokenRole::EventsWrite, TokenRole::ApiRead, TokenRole::Relay, TokenRole::Play] {
        assert_eq!(auth.opens("", role, None), None);
    }
}

#[test]
fn a_key_opens_its_prefix_only() {
    let auth = auth(PlayPolicy::Deny);
    for (stream, key, allowed) in [
        ("live/room", "live-key", Some(false)),
        ("live/room", "room-key", Some(true)),
        ("live/other", "live-key", Some(false)),
        ("live/other", "room-key", None),
        ("liver/room", "live-key", None),
        ("live/room", "live-kez", None),
        ("live/room", "", None),
        ("unknown", "live-key", None),
    ] {
        let right = auth.opens(key, TokenRole::Publish, Some(&name(stream)));
        assert_eq!(right.map(|right| right.events), allowed, "{stream} {key}");
    }
}

#[test]
fn a_token_needs_role_and_prefix_in_one_rule() {
    let auth = auth(PlayPolicy::Deny);
    let (live, shop) = (name("live/room"), name("shop/room"));
    let may = |token, role, stream| auth.opens(token, role, stream).is_some();
    assert!(may("director", TokenRole::EventsWrite, Some(&live)));
    assert!(may("director", TokenRole::ApiRead, Some(&shop)));
    assert!(may("director", TokenRole::ApiRead, None));
    assert!(!may("director", TokenRole::EventsWrite, Some(&shop)));
    assert!(!may("director", TokenRole::Relay, None));
    assert!(may("edge", TokenRole::Relay, Some(&shop)));
    assert_eq!(auth.prefixes("director", TokenRole::ApiRead), ["live", "shop"]);
    assert!(auth.prefixes("edge", TokenRole::ApiRead).is_empty());
}

#[tokio::test(start_paused = true)]
async fn playing_is_open_only_where_the_policy_says_so() {
    let (room, other) = (name("live/room"), name("live/other"));
    let nothing = |stream| Asked { secret: None, ..asked(Action::Play, stream, "") };
    assert!(auth(PlayPolicy::Anyone).ask(nothing(&other)).await.is_ok());
    let auth = auth(PlayPolicy::Deny);
    assert_eq!(auth.ask(nothing(&room)).await.expect_err("nothing shown"), Denied::NoSecret);
    assert!(auth.ask(asked(Action::Play, &room, "viewer")).await.is_ok());
    for wrong in [asked(Action::Play, &other, "viewer"), asked(Action::Play, &room, "director")] {
        let began = clock::now();
        assert_eq!(auth.ask(wrong).await.expect_err("wrong"), Denied::Wrong);
        assert!(began.elapsed() >= AUTH_FAILURE_DELAY_MIN, "a guess costs time");
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_failed_too_often_is_not_heard() {
    let (auth, room) = (auth(PlayPolicy::Deny), name("live/room"));
    for _ in 0..limits::AUTH_FAILURES_MAX {
        assert!(auth.ask(asked(Action::Publish, &room, "guess")).await.is_err());
    }
    assert_eq!(auth.ask(asked(Action::Publish, &room, "room-key")).await.expect_err("not heard"), Denied::Wrong);
    tokio::time::advance(limits::AUTH_FAILURES_WINDOW).await;
    assert!(auth.ask(asked(Action::Publish, &room, "room-key")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_stranger_holds_no_more_than_his_share_of_late_answers() {
    let (auth, room) = (auth(PlayPolicy::Deny), name("live/room"));
    let guesses = (0..AUTH_DELAYED_PER_ADDRESS_MAX + 5).map(|_| async {
        let began = clock::now();
        assert!(auth.ask(asked(Action::Publish, &room, "guess")).await.is_err());
        began.elapsed()
    });
    let waited = futures_util::future::join_all(guesses).await;
    assert_eq!(waited.iter().filter(|waited| waited.is_zero()).count(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_key_lives_from_its_making_to_its_revocation_also_through_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = || Auth::open(&config(PlayPolicy::Deny), Some(dir.path())).expect("a store");
    let (auth, room) = (open(), name("live/room"));
    let wanted = Terms { events: true, priority: 7, ..terms(&[TokenRole::Publish], "live") };
    let (key, secret) = auth.create(wanted).expect("made");
    let file = std::fs::read_to_string(dir.path().join("keys.json")).expect("written");
    assert!(!file.contains(secret.expose()) && secret.expose().len() == 32, "{file}");

    let auth = open();
    let grant = auth.ask(asked(Action::Publish, &room, secret.expose())).await.expect("let in");
    assert_eq!((grant.priority, grant.events, grant.is_over()), (7, true, false));
    assert!(auth.ask(asked(Action::Play, &room, secret.expose())).await.is_err(), "no viewer's");
    assert_eq!(auth.keys(), std::slice::from_ref(&key));
    auth.revoke(&key.id).expect("known");
    assert_eq!(grant.over().await, GrantOver::Revoked);
    assert!(auth.ask(asked(Action::Publish, &room, secret.expose())).await.is_err());
    assert!(matches!(auth.revoke(&key.id), Err(KeyError::Unknown)));
    assert!(open().keys().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_rotated_secret_is_good_until_its_grace_is_over() {
    let dir = tempfile::tempdir().expect("a directory");
    let auth = Auth::open(&config::Auth::default(), Some(dir.path())).expect("a store");
    let room = name("live/room");
    let (key, first) = auth.create(terms(&[TokenRole::Publish], "live")).expect("made");
    let old = auth.ask(asked(Action::Publish, &room, first.expose())).await.expect("let in");
    let (_, second) = auth.rotate(&key.id, Duration::from_secs(60)).expect("known");
    let graced = auth.ask(asked(Action::Publish, &room, first.expose())).await.expect("in its grace");
    assert!(graced.expires.is_some() && !old.is_over());
    let new = auth.ask(asked(Action::Publish, &room, second.expose())).await.expect("let in");
    assert!(new.expires.is_none());

    let (_, third) = auth.rotate(&key.id, Duration::ZERO).expect("known");
    assert!(old.is_over() && graced.is_over() && new.is_over());
    assert!(auth.ask(asked(Action::Publish, &room, second.expose())).await.is_err());
    assert!(auth.ask(asked(Action::Publish, &room, third.expose())).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_reload_ends_what_is_gone_from_the_configuration_and_nothing_else() {
    let auth = auth(PlayPolicy::Anyone);
    let room = name("live/room");
    let anyone = auth.ask(Asked { secret: None, ..asked(Action::Play, &room, "") }).await.expect("open");
    let kept = auth.ask(asked(Action::Publish, &room, "room-key")).await.expect("let in");
    let gone = auth.ask(asked(Action::Publish, &room, "live-key")).await.expect("let in");
    let edge = auth.edge("edge", peer(1).ip()).await.expect("let in").expect("an edge");
    let caller = auth.call(peer(1).ip(), "director", TokenRole::ApiRead, Some(&room)).await.expect("let in");
    let mut without = config(PlayPolicy::Deny);
    without.publish.remove(0);
    without.token.retain(|token| !token.roles.contains(&TokenRole::Relay));
    auth.reload(&without).expect("good");
    assert!(gone.is_over() && edge.is_over() && anyone.is_over());
    assert!(!kept.is_over() && !caller.is_over());

    let missing = JwtKey {
        kid: "a".into(),
        algorithm: JwtAlgorithm::EdDsa,
        key_file: "/nonexistent/key.pem".into(),
        audience: "hawker".into(),
        prefix: String::new(),
        actions: vec![SignedAction::Play],
    };
    let broken = config::Auth { jwt: vec![missing], ..config::Auth::default() };
    assert!(auth.reload(&broken).expect_err("no such file").to_string().contains("/nonexistent/key.pem"));
    assert!(!kept.is_over(), "the old one stays");
}

#[tokio::test(start_paused = true)]
async fn a_key_publishes_no_more_streams_than_it_may() {
    let dir = tempfile::tempdir().expect("a directory");
    let auth = Auth::open(&config::Auth::default(), Some(dir.path())).expect("a store");
    let wanted = Terms { streams_max: Some(1), ..terms(&[TokenRole::Publish], "live") };
    let (_, secret) = auth.create(wanted).expect("made");
    let (one, two) = (name("live/one"), name("live/two"));
    let first = auth.ask(asked(Action::Publish, &one, secret.expose())).await.expect("let in");
    let again = auth.ask(asked(Action::Publish, &one, secret.expose())).await.expect("the same stream, taken over");
    assert_eq!(auth.ask(asked(Action::Publish, &two, secret.expose())).await.expect_err("two"), Denied::Full);
    drop((first, again));
    assert!(auth.ask(asked(Action::Publish, &two, secret.expose())).await.is_ok(), "it has left");
}

/// A configuration with one shared secret for JWTs, and its file.
fn with_jwt() -> (config::Auth, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "0123456789abcdef0123456789abcdef").expect("written");
    let key = JwtKey {
        kid: "shop".into(),
        algorithm: JwtAlgorithm::Hs256,
        key_file: file.path().into(),
        audience: "hawker".into(),
        prefix: String::new(),
        actions: vec![SignedAction::Play],
    };
    (config::Auth { jwt: vec![key], ..config::Auth::default() }, file)
}

fn jwt(file: &Path, sub: &str, jti: &str, secs: u64) -> String {
    let claims = jwt::Claims {
        exp: now_s() + secs,
        nbf: 0,
        sub: sub.into(),
        jti: Some(jti.into()),
        prefix: "live".into(),
        action: SignedAction::Play,
        events: false,
        priority: 0,
    };
    let (algorithm, kid) = (JwtAlgorithm::Hs256, "shop");
    jwt::sign(&jwt::Signing { algorithm, key_file: file, kid, audience: "hawker", claims: &claims }).expect("signed")
}

#[tokio::test(start_paused = true)]
async fn a_jwt_ends_with_its_time_with_its_owner_and_with_its_key() {
    let (config, file) = with_jwt();
    let (auth, room) = (Auth::new(&config), name("live/room"));
    let short = jwt(file.path(), "ann", "1", 2);
    let timed = auth.ask(asked(Action::Play, &room, &short)).await.expect("let in");
    assert!(auth.may_see(&room, Some(&short)) && !auth.may_see(&name("shop/room"), Some(&short)));
    let began = clock::now();
    assert_eq!(timed.over().await, GrantOver::Expired);
    assert!(began.elapsed() <= Duration::from_secs(2));

    let (ann, bob) = (jwt(file.path(), "ann", "2", 60), jwt(file.path(), "bob", "3", 60));
    let bobs_other = jwt(file.path(), "bob", "4", 60);
    let ann_in = auth.ask(asked(Action::Play, &room, &ann)).await.expect("let in");
    let bob_in = auth.ask(asked(Action::Play, &room, &bob)).await.expect("let in");
    let other_in = auth.ask(asked(Action::Play, &room, &bobs_other)).await.expect("let in");
    let until = now_s() + 60;
    auth.revoke_jwt(Revocation { sub: None, jti: Some("4".into()), until }).expect("room");
    assert!(other_in.is_over() && !bob_in.is_over());
    auth.revoke_jwt(Revocation { sub: Some("bob".into()), jti: None, until }).expect("room");
    assert!(bob_in.is_over() && !ann_in.is_over());
    assert!(auth.ask(asked(Action::Play, &room, &bob)).await.is_err());

    std::fs::write(file.path(), "another secret of thirty-two bytes").expect("written");
    auth.reload(&config).expect("good");
    assert!(ann_in.is_over(), "the key was replaced under its name");
}

#[tokio::test(start_paused = true)]
async fn a_token_of_nobodys_is_a_guess_at_the_door_of_edges_too() {
    let (closed, open, at) = (auth(PlayPolicy::Deny), auth(PlayPolicy::Anyone), peer(1).ip());
    for _ in 0..2 * limits::AUTH_FAILURES_MAX {
        assert!(closed.edge("viewer", at).await.expect("somebody's").is_none());
        assert!(open.edge("wrong", at).await.expect("anyone's").is_none());
    }
    for _ in 0..limits::AUTH_FAILURES_MAX {
        assert!(closed.edge("edge", at).await.expect("let in").is_some());
        let began = clock::now();
        assert_eq!(closed.edge("wrong", at).await.expect_err("nobody's"), Denied::Wrong);
        assert!(began.elapsed() >= limits::AUTH_FAILURE_DELAY_MIN);
    }
    assert_eq!(closed.edge("edge", at).await.expect_err("he has guessed too often"), Denied::Wrong);
    assert!(closed.edge("edge", peer(2).ip()).await.expect("let in").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_signing_key_that_is_narrowed_ends_what_it_no_longer_opens() {
    let (mut config, file) = with_jwt();
    let (auth, room, other) = (Auth::new(&config), name("live/room"), name("live/other"));
    let token = jwt(file.path(), "ann", "1", 60);
    let kept = auth.ask(asked(Action::Play, &room, &token)).await.expect("let in");
    let gone = auth.ask(asked(Action::Play, &other, &token)).await.expect("let in");
    config.jwt[0].prefix = "live/room".into();
    auth.reload(&config).expect("good");
    assert!(gone.is_over() && !kept.is_over());
    config.jwt[0].audience = "another".into();
    auth.reload(&config).expect("good");
    assert!(kept.is_over());
}

#[test]
fn a_revocation_holds_until_its_time() {
    let (config, file) = with_jwt();
    let (auth, room, token) = (Auth::new(&config), name("live/room"), jwt(file.path(), "ann", "1", 120));
    let now = now_s();
    auth.revoke_jwt(Revocation { sub: Some("ann".into()), jti: None, until: now + 60 }).expect("room");
    let opens = |at| auth.rules.load().prove(&token, TokenRole::Play, &room, at).is_some();
    assert!(!opens(now) && !opens(now + 59) && opens(now + 60));
}
