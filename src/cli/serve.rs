//! `hawker serve`: one node, as its configuration says.

use std::{net::SocketAddr, path::Path};

use super::Outcome;
use crate::{
    config::{Config, LogFormat},
    observe::log,
    server::Server,
};

/// Runs until the process is told to end.
pub fn run(path: &Path, take_over: bool) -> Outcome {
    let config = Config::load(path)?;
    let format = match config.log.format {
        LogFormat::Text => log::Format::Text,
        LogFormat::Json => log::Format::Json,
    };
    log::init(&config.log.level, format);
    let role = config.role;
    let mut server = if take_over { Server::take_over(config)? } else { Server::bind(config)? };
    super::handle_signals(server.stop(), Some(server.reload_from(path)))?;
    let at = server.addresses();
    let maybe = |address: Option<SocketAddr>| address.map(tracing::field::display);
    tracing::info!(
        ?role, rtmp = %at.rtmp, rtmps = maybe(at.rtmps), http = %at.http, https = maybe(at.https), admin = %at.admin,
        moq = %at.moq, "listening"
    );
    server.run();
    Ok(())
}
