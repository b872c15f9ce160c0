//! `hawker token`: keys and tokens through the API; hashes, JWTs and signed URLs without it.

use std::{fmt::Write as _, io, io::Read as _, path::PathBuf, time::Duration};

use clap::Subcommand;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::{Outcome, api};
use crate::{
    clock,
    config::{JwtAlgorithm, SignedAction, TokenRole},
    control::auth::{
        jwt::{self, Claims, Signing},
        new_secret, signed_url,
        store::Terms,
    },
    media::StreamName,
    secret::Digest,
};

/// Arguments of `hawker token`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a stream key (--role publish) or a token; its secret is printed this once.
    Create(Create),
    /// List the keys and tokens that the API has made.
    List(WithApi),
    /// Give a key or token a new secret, printed this once.
    Rotate {
        /// Its id.
        id: String,
        /// The secret before stays good for so long: 90s, 30m, 12h, 7d.
        #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "0s")]
        grace: Duration,
        #[command(flatten)]
        api: api::Access,
    },
    /// Revoke a key or token: what it opened ends.
    Revoke {
        /// Its id.
        id: String,
        #[command(flatten)]
        api: api::Access,
    },
    /// Revoke a JWT, or all of somebody's, on the node that is called.
    RevokeJwt {
        /// All tokens of this `sub`.
        #[arg(long, group = "which")]
        sub: Option<String>,
        /// The token with this `jti`.
        #[arg(long, group = "which")]
        jti: Option<String>,
        /// Remember it for so long: until the last of them has expired.
        #[arg(long = "for", value_name = "TIME", value_parser = parse_time, default_value = "1d")]
        remember: Duration,
        #[command(flatten)]
        api: api::Access,
    },
    /// Make a random key and print it with its hash for the configuration; or hash what stands on stdin.
    Hash {
        /// Hash what stands on stdin, without its line end.
        #[arg(long)]
        stdin: bool,
    },
    /// Sign a JWT, as the service that an [[auth.jwt]] names would.
    Sign(Sign),
    /// Sign a URL: prints what goes behind its question mark.
    SignUrl {
        /// The stream: live/room.
        name: StreamName,
        /// The secret of [[auth.url]].
        #[arg(long, value_name = "FILE")]
        secret_file: PathBuf,
        /// Its name.
        #[arg(long)]
        kid: String,
        /// play or publish.
        #[arg(long, value_parser = parse_word::<SignedAction>, default_value = "play")]
        action: SignedAction,
        /// Good for so long: 90s, 30m, 12h, 7d.
        #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "1h")]
        ttl: Duration,
    },
}

#[derive(Debug, clap::Args)]
struct WithApi {
    #[command(flatten)]
    api: api::Access,
}

#[derive(Debug, clap::Args)]
struct Create {
    /// publish, play, relay, events:write, api:read or api:admin; several are given one by one.
    #[arg(long = "role", value_name = "ROLE", required = true, value_parser = parse_word::<TokenRole>)]
    roles: Vec<TokenRole>,
    /// The streams it opens: a name, or a folder of names; "" is all.
    #[arg(long)]
    prefix: String,
    /// Its publisher may send events inside the stream.
    #[arg(long)]
    events: bool,
    /// Of several publishers of a stream the one with the highest is on air.
    #[arg(long, value_name = "N", default_value_t = 0)]
    priority: u8,
    /// Streams that it may publish at once.
    #[arg(long, value_name = "N")]
    streams_max: Option<u32>,
    /// What each of them may have, kbit/s.
    #[arg(long, value_name = "N")]
    bitrate_kbps_max: Option<u32>,
    /// Good for so long: 90s, 30m, 12h, 7d [default: until it is revoked].
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    ttl: Option<Duration>,
    /// Whose it is.
    #[arg(long)]
    note: Option<String>,
    #[command(flatten)]
    api: api::Access,
}

#[derive(Debug, clap::Args)]
struct Sign {
    /// The private key, PEM; for HS256 the secret itself.
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
    /// EdDSA, ES256, RS256 or HS256.
    #[arg(long, value_parser = parse_word::<JwtAlgorithm>, default_value = "EdDSA")]
    algorithm: JwtAlgorithm,
    /// The key's name, as in [[auth.jwt]].
    #[arg(long)]
    kid: String,
    /// As in [[auth.jwt]].
    #[arg(long)]
    audience: String,
    /// Whose token it is.
    #[arg(long)]
    sub: String,
    /// The token's own id, by which it can be revoked.
    #[arg(long)]
    jti: Option<String>,
    /// The streams it opens: a name, or a folder of names.
    #[arg(long)]
    prefix: String,
    /// play or publish.
    #[arg(long, value_parser = parse_word::<SignedAction>, default_value = "play")]
    action: SignedAction,
    /// Good for so long: 90s, 30m, 12h, 7d.
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "1h")]
    ttl: Duration,
    /// Its publisher may send events inside the stream.
    #[arg(long)]
    events: bool,
    /// Of several publishers of a stream the one with the highest is on air.
    #[arg(long, value_name = "N", default_value_t = 0)]
    priority: u8,
}

/// A key as the API tells of it.
#[derive(Deserialize)]
struct Told {
    id: String,
    #[serde(default)]
    secret: String,
    terms: Terms,
}

/// Does it, and prints what came of it.
pub(super) async fn run(args: Args) -> Outcome {
    match args.action {
        Action::Create(create) => {
            let (body, api) = (create.body(), create.api.open()?);
            print_new(&api.send(api.post("/v1/keys").json(&body)).await?)
        }
        Action::List(WithApi { api }) => list(&api.open()?).await,
        Action::Rotate { id, grace, api } => {
            let (api, body) = (api.open()?, json!({ "grace_secs": grace.as_secs() }));
            print_new(&api.send(api.post(&format!("/v1/keys/{}/rotate", segment(&id))).json(&body)).await?)
        }
        Action::Revoke { id, api } => {
            let api = api.open()?;
            api.send(api.delete(&format!("/v1/keys/{}", segment(&id)))).await?;
            println!("{id}: revoked");
            Ok(())
        }
        Action::RevokeJwt { sub, jti, remember, api } => {
            let (api, until) = (api.open()?, now_s() + remember.as_secs());
            let named = [("sub", sub), ("jti", jti)].map(|(key, name)| Some((key.to_owned(), name?.into())));
            let mut body: Map<String, Value> = named.into_iter().flatten().collect();
            body.insert("until".into(), until.into());
            api.send(api.post("/v1/revocations").json(&body)).await?;
            println!("revoked");
            Ok(())
        }
        Action::Hash { stdin } => hash(stdin),
        Action::Sign(sign) => {
            println!("{}", sign.token()?);
            Ok(())
        }
        Action::SignUrl { name, secret_file, kid, action, ttl } => {
            println!("{}", signed_url::sign(&secret_file, &kid, action, &name, now_s() + ttl.as_secs())?);
            Ok(())
        }
    }
}

impl Create {
    fn body(&self) -> Value {
        let optional = [
            ("streams_max", self.streams_max.map(Value::from)),
            ("bitrate_kbps_max", self.bitrate_kbps_max.map(Value::from)),
            ("expires", self.ttl.map(|ttl| (now_s() + ttl.as_secs()).into())),
            ("note", self.note.clone().map(Value::from)),
        ];
        let required = [
            ("roles", json!(self.roles)),
            ("prefix", json!(self.prefix)),
            ("events", self.events.into()),
            ("priority", self.priority.into()),
        ];
        let optional = optional.into_iter().filter_map(|(key, value)| Some((key, value?)));
        required.into_iter().chain(optional).map(|(key, value)| (key.to_owned(), value)).collect::<Map<_, _>>().into()
    }
}

impl Sign {
    fn token(self) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
        let claims = Claims {
            exp: now_s() + self.ttl.as_secs(),
            nbf: 0,
            sub: self.sub,
            jti: self.jti,
            prefix: self.prefix,
            action: self.action,
            events: self.events,
            priority: self.priority,
        };
        Ok(jwt::sign(&Signing {
            algorithm: self.algorithm,
            key_file: &self.key_file,
            kid: &self.kid,
            audience: &self.audience,
            claims: &claims,
        })?)
    }
}

/// The secret alone on stdout, for scripts; what it is on stderr.
fn print_new(answer: &str) -> Outcome {
    let told: Told = serde_json::from_str(answer)?;
    let Terms { roles, prefix, .. } = &told.terms;
    eprintln!("{}: {} for {prefix:?}; the secret is shown this once", told.id, words(roles).join(", "));
    println!("{}", told.secret);
    Ok(())
}

async fn list(api: &api::Api) -> Outcome {
    #[derive(Deserialize)]
    struct List {
        keys: Vec<Told>,
    }
    let List { keys } = serde_json::from_str(&api.send(api.get("/v1/keys")).await?)?;
    let mut out = format!("{:<26}  {:<24}  {:<24}  {:<10}  note\n", "id", "roles", "prefix", "expires in");
    for Told { id, terms, .. } in keys {
        let left = terms.expires.map_or("never".to_owned(), |expires| match expires.checked_sub(now_s()) {
            Some(secs) => format!("{secs} s"),
            None => "expired".to_owned(),
        });
        let prefix = if terms.prefix.is_empty() { "(all)" } else { &terms.prefix };
        let roles = words(&terms.roles).join(",");
        let _ = writeln!(out, "{id:<26}  {roles:<24}  {prefix:<24}  {left:<10}  {}", terms.note);
    }
    print!("{out}");
    Ok(())
}

fn hash(stdin: bool) -> Outcome {
    if stdin {
        let mut text = String::new();
        io::stdin().take(STDIN_BYTES_MAX).read_to_string(&mut text)?;
        let secret = text.trim_end_matches(['\r', '\n']);
        if secret.is_empty() {
            return Err("nothing stands on stdin".into());
        }
        println!("{}", Digest::of(secret));
        return Ok(());
    }
    let secret = new_secret();
    println!("{}\n{}", secret.expose(), Digest::of(secret.expose()));
    Ok(())
}

/// As one segment of a path, whatever it holds.
fn segment(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// A number and its unit.
fn parse_time(text: &str) -> Result<Duration, String> {
    let wrong = || "is a number with s, m, h or d behind it".to_owned();
    let (number, secs) = match text.char_indices().next_back() {
        Some((at, 's')) => (text.get(..at), 1),
        Some((at, 'm')) => (text.get(..at), 60),
        Some((at, 'h')) => (text.get(..at), 3600),
        Some((at, 'd')) => (text.get(..at), 24 * 3600),
        _ => return Err(wrong()),
    };
    let number: u32 = number.and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
    Ok(Duration::from_secs(u64::from(number) * secs))
}

/// The roles as the configuration has them.
fn words(roles: &[TokenRole]) -> Vec<String> {
    roles.iter().filter_map(|role| Some(json!(role).as_str()?.to_owned())).collect()
}

/// A word as the configuration has it.
fn parse_word<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

fn now_s() -> u64 {
    u64::try_from(clock::unix_ms() / 1000).unwrap_or(0)
}

/// More is no key.
const STDIN_BYTES_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, secs) in [("0s", 0), ("90s", 90), ("30m", 1800), ("12h", 43_200), ("7d", 604_800)] {
            assert_eq!(parse_time(text), Ok(Duration::from_secs(secs)), "{text}");
        }
        for bad in ["", "5", "s", "-1s", "1w", "1.5h", "99999999999s", "é"] {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn words_are_those_of_the_configuration() {
        assert_eq!(parse_word("events:write"), Ok(TokenRole::EventsWrite));
        assert_eq!(parse_word("EdDSA"), Ok(JwtAlgorithm::EdDsa));
        assert!(parse_word::<TokenRole>("root").expect_err("none").contains("api:admin"));
    }
}
