use super::*;

const SHIPPED: &str = include_str!("../../deploy/hawker.toml");

/// What a node that takes events can't do without.
const DATA_DIR: &str = "data_dir = \"/var/lib/hawker\"\n";

fn problems(text: &str) -> Vec<(Option<usize>, String, String)> {
    let problems = Config::parse(text).expect_err("must be refused");
    problems.into_iter().map(|p| (p.line, p.key, p.message)).collect()
}

#[test]
fn a_profile_is_one_of_two() {
    let parse = |profile: &str| toml::from_str::<Config>(&format!("[egress]\nprofile = \"{profile}\""));
    assert_eq!(parse("balanced").expect("known").egress.profile, Profile::Balanced);
    assert_eq!(Config::default().egress.profile, Profile::Realtime);
    let error = parse("fast").expect_err("unknown").to_string();
    assert!(error.contains("expected `realtime` or `balanced`"), "{error}");
}

#[test]
fn the_shipped_file_is_the_defaults() {
    // `data_dir` has none: nobody gets files where he named no place for them.
    let defaults = Config { data_dir: Some("/var/lib/hawker".into()), ..Config::default() };
    assert_eq!(Config::parse(SHIPPED), Ok(defaults.clone()));
    assert_eq!(Config::parse(DATA_DIR), Ok(defaults));
}

#[test]
fn the_shipped_file_writes_every_key() {
    // `Url`'s own Debug would add its parts.
    let everything = with_everything();
    let upstream = Upstream { urls: Vec::new(), ..everything.upstream };
    let standby = Standby { url: None, ..everything.standby };
    let config = Config { upstream, standby, hooks: Hooks { url: None, ..everything.hooks }, ..everything };
    let debug = format!("{config:#?}");
    let keys: Vec<&str> = debug.lines().filter_map(|line| Some(line.trim().split_once(": ")?.0)).collect();
    let lines: Vec<&str> = SHIPPED.lines().map(|line| line.trim_start_matches(['#', ' '])).collect();
    let written = |key: &str| {
        let forms = [format!("[{key}]"), format!("[[auth.{key}]]")];
        lines.iter().any(|line| line.starts_with(&format!("{key} =")) || forms.iter().any(|form| form == line))
    };
    let missing: Vec<_> = keys.iter().filter(|key| !written(key)).collect();
    assert!(missing.is_empty() && keys.len() > 25, "{} keys, not in the shipped file: {missing:?}", keys.len());
}

/// The placeholders of the shipped file, uncommented.
fn with_everything() -> Config {
    let text: Vec<&str> = SHIPPED
        .lines()
        .filter(|line| *line != "urls = []")
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.starts_with("[[") || rest.contains(" = ") => rest,
            _ => line,
        })
        .collect();
    toml::from_str(&text.join("\n")).expect("the placeholders are legal")
}

#[test]
fn the_placeholders_of_the_shipped_file_are_legal() {
    let config = with_everything();
    assert_eq!(config.upstream.urls.len(), 2);
    assert_eq!(config.auth.token[0].roles, [TokenRole::EventsWrite, TokenRole::ApiRead]);
    assert_eq!(config.auth.publish[0].prefix, "live");
}

#[test]
fn hooks_go_to_public_addresses_unless_told_otherwise_and_are_signed() {
    let hooks = |text: &str| problems(&format!("{DATA_DIR}[hooks]\n{text}"));
    let local = hooks("url = \"http://10.0.0.7/hook\"\n");
    let keys: Vec<_> = local.iter().map(|(line, key, _)| (*line, key.as_str())).collect();
    assert_eq!(keys, [(Some(3), "hooks.url"), (Some(2), "hooks.secret_file")]);
    let named = hooks("url = \"http://10.0.0.7/hook\"\nallow = [\"10.0.0.0/8\"]\n");
    assert_eq!(named.iter().map(|problem| problem.1.as_str()).collect::<Vec<_>>(), ["hooks.secret_file"]);
    assert_eq!(hooks("notify = [\"publish\"]\n")[0].1, "hooks.url");
    assert_eq!(hooks("timeout_ms = 2001\n")[0].1, "hooks.timeout_ms");
    assert_eq!(hooks("notify = [\"everything\"]\n")[0].1, "hooks.notify[0]");
}

#[test]
fn errors_name_line_and_key() {
    let listen = problems("role = \"origin\"\n\n[rtmp]\nlisten = \"here\"\n");
    assert_eq!(listen, [(Some(4), "rtmp.listen".into(), "invalid socket address syntax".into())]);
    let unknown = problems("[hub]\ngops_max = 2\nring_byts = 1\n");
    assert_eq!((unknown[0].0, unknown[0].1.as_str()), (Some(3), "hub.ring_byts"));
    assert!(unknown[0].2.starts_with("unknown field `ring_byts`, expected one of"), "{unknown:?}");
    let token = format!("[[auth.token]]\nprefix = \"\"\ntoken_sha256 = \"{}\"\n", "ab".repeat(32));
    let role = problems(&format!("{token}roles = [\"relay\"]\n{token}roles = [\"root\"]\n"));
    assert_eq!((role[0].0, role[0].1.as_str()), (Some(8), "auth.token[1].roles[0]"));
    let missing = problems("[[auth.publish]]\nprefix = \"live\"\n");
    assert_eq!(missing, [(Some(1), "auth.publish[0]".into(), "missing field `key_sha256`".into())]);
    let syntax = problems("[rtmp\n");
    assert_eq!(syntax[0].0, Some(1), "{syntax:?}");
    let range = problems(&format!("{DATA_DIR}[hub]\n# how far\nlag_ms_max = 5\nlinger_secs = 301\n"));
    assert_eq!(range[0], (Some(4), "hub.lag_ms_max".into(), "5 is outside 200..=60000".into()));
    assert_eq!(range[1].0, Some(5));
}

#[test]
fn a_secret_in_the_wrong_place_is_not_echoed() {
    let found = problems("[[auth.publish]]\nprefix = \"live\"\nkey_sha256 = \"hunter2\"\n");
    assert_eq!((found[0].0, found[0].1.as_str()), (Some(3), "auth.publish[0].key_sha256"));
    assert!(!found[0].2.contains("hunter2"), "{found:?}");
}

#[test]
fn what_does_not_fit_together_is_refused() {
    for (text, key) in [
        ("role = \"edge\"", "upstream.urls"),
        ("[upstream]\nevent_keys = \"/dev/null\"\nurls = [\"http://origin\"]", "upstream.urls"),
        ("[upstream]\nevent_keys = \"/dev/null\"\nurls = [\"moqt://origin:4443?token=x\"]", "upstream.urls"),
        ("[upstream]\nurls = [\"moqt://origin:4443\"]", "upstream.event_keys"),
        ("[upstream]\nevent_keys = \"/nonexistent/keys.json\"", "upstream.event_keys"),
        ("[upstream]\ntoken = \"a\"\ntoken_file = \"/dev/null\"", "upstream.token_file"),
        ("[tls]\ncert = \"/dev/null\"", "tls.key"),
        ("[tls]\ncert = \"/nonexistent/a.pem\"\nkey = \"/dev/null\"", "tls.cert"),
        ("[rtmp]\ntls_listen = \"127.0.0.1:1936\"", "rtmp.tls_listen"),
        ("[admin]\ntls = true", "admin.tls"),
        ("[tls]\ncert = \"/dev/null\"\nkey = \"/dev/null\"", "tls.cert"),
        ("[http]\nlisten = \"127.0.0.1:1935\"", "http.listen"),
        ("[admin]\nlisten = \"127.0.0.1:8080\"", "admin.listen"),
        ("[events]\nburst = 0", "events.burst"),
        ("[log]\nlevel = \"infoo\"", "log.level"),
        ("[[auth.publish]]\nprefix = \"live/\"\nkey_sha256 = HASH", "auth.publish[0].prefix"),
        ("[[auth.token]]\nprefix = \"live\"\nroles = []\ntoken_sha256 = HASH", "auth.token[0].roles"),
        // sha256sum </dev/null
        (
            "[[auth.publish]]\nprefix = \"\"\nkey_sha256 = \
            \"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"",
            "auth.publish[0].key_sha256",
        ),
        (
            "[[auth.jwt]]\nkid = \"a b\"\nalgorithm = \"EdDSA\"\nkey_file = \"/dev/null\"\naudience = \"x\"",
            "auth.jwt[0].kid",
        ),
        (
            "[[auth.jwt]]\nkid = \"a\"\nalgorithm = \"EdDSA\"\nkey_file = \"/dev/null\"\naudience = \"\"",
            "auth.jwt[0].audience",
        ),
        (
            "[[auth.jwt]]\nkid = \"a\"\nalgorithm = \"none\"\nkey_file = \"/dev/null\"\naudience = \"x\"",
            "auth.jwt[0].algorithm",
        ),
        ("[[auth.url]]\nkid = \"a\"\nsecret_file = \"/nonexistent/secret\"", "auth.url[0].secret_file"),
        ("[[auth.url]]\nkid = \"a\"\nsecret_file = \"/dev/null\"\nactions = []", "auth.url[0].actions"),
        ("[[auth.token]]\nprefix = \"live\"\nroles = [\"relay\"]\ntoken_sha256 = HASH", "auth.token[0].prefix"),
    ] {
        let text = text.replace("HASH", &format!("\"{}\"", "ab".repeat(32)));
        let found = problems(&format!("{DATA_DIR}{text}"));
        assert_eq!(found.iter().map(|(_, key, _)| key.as_str()).collect::<Vec<_>>(), [key], "{text}");
    }
}

#[test]
fn only_a_node_that_takes_events_needs_a_data_dir() {
    for role in ["both", "origin"] {
        let found = problems(&format!("role = \"{role}\"\n"));
        assert_eq!(found.iter().map(|(_, key, _)| key.as_str()).collect::<Vec<_>>(), ["data_dir"]);
    }
    let edge = "role = \"edge\"\n[upstream]\nurls = [\"moqt://origin:4443\"]\nevent_keys = \"/dev/null\"\n";
    assert_eq!(Config::parse(edge).map(|config| config.event_key_file()), Ok(None));
}

#[test]
fn one_address_for_viewers_and_operators_is_allowed() {
    assert!(Config::parse(&format!("{DATA_DIR}[admin]\nlisten = \"0.0.0.0:8080\"\n")).is_ok());
    assert!(Config::parse(&format!("{DATA_DIR}[log]\nlevel = \"warn,hawker::relay=debug\"\n")).is_ok());
}

#[test]
fn what_was_changed_is_named_key_by_key() {
    let dir = tempfile::tempdir().expect("a directory");
    let written = |text: &str| {
        let path = dir.path().join("hawker.toml");
        std::fs::write(&path, text).expect("written");
        Written::read(&path)
    };
    let before = written("shards = 1\n[log]\nlevel = 'info'\n[hub]\ngops_max = 2\n[[auth.token]]\nprefix = 'a'\n");
    let after =
        written("[log]\nlevel = 'debug'\n[hub]\ngops_max = 2\n[[auth.token]]\nprefix = 'b'\n[rtmp]\nlisten = 'x'\n");
    let mut keys = after.differing(&before);
    keys.sort();
    assert_eq!(keys, ["auth.token", "log.level", "rtmp.listen", "shards"]);
    assert!(after.differing(&after.clone()).is_empty());
}

#[test]
fn load_names_the_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("hawker.toml");
    let error = Config::load(&path).expect_err("missing").to_string();
    assert!(error.starts_with(&format!("{}: No such file", path.display())), "{error}");
    std::fs::write(&path, "role = \"edge\"\nshards = 9999\n").expect("written");
    let error = Config::load(&path).expect_err("wrong").to_string();
    let file = path.display();
    let expected = format!(
        "{file}: upstream.urls: an edge needs at least one, such as \"moqt://origin.example.com:4443\"\n{file}:2: shards: 9999 is outside 0..=1024"
    );
    assert_eq!(error, expected);
}
