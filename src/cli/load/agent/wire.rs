//! What a controller and its agents say to each other: JSON, a line a message, no line longer than its bound.

use std::{io, time::Duration};

use futures_util::StreamExt;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};

use crate::{
    cli::load::{events, tally::Tally},
    limits::{LOAD_HELLO_BYTES_MAX, LOAD_LINE_BYTES_MAX},
};

/// What a controller says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// First: who it is.
    Hello { version: u32, token: String },
    /// What time is it?
    Clock,
    /// What to do, as one would type it after `hawker load`.
    Plan { arguments: Vec<String> },
    /// Begin at this instant of the agent's clock, which is so far ahead of the publisher's.
    Start { at_unix_us: i64, ahead_us: i64 },
    /// What was sent into a stream so far.
    Events { stream: usize, sent: events::Counts },
    /// It is over.
    Stop,
}

/// What an agent says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// The token was good, or the plan can be carried out.
    Ready,
    /// It can't be done; the connection ends.
    Refused { reason: String },
    /// The agent's clock.
    Clock { unix_us: i64 },
    /// What its viewers have seen so far.
    Seen(Seen),
    /// The same at the end.
    Done(Seen),
}

/// An agent's part of the report.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Seen {
    /// For each address watched. Their recent latencies are those since the last message.
    pub(super) watched: Vec<Tally>,
    /// CPU time it took.
    pub(super) cpu_us: u64,
}

/// Why the other side can't be worked with.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it closed the connection")]
    Closed,
    #[error("it said nothing for {} s", .0.as_secs())]
    Silent(Duration),
    #[error("what it says is not understood: {0}")]
    Garbled(String),
    #[error("it refused: {0}")]
    Refused(String),
}

/// The reading side.
pub(super) struct Reader(FramedRead<OwnedReadHalf, LinesCodec>);

/// The writing side.
pub(super) struct Writer(OwnedWriteHalf);

/// Both sides of a connection; only short lines until [`Reader::trust`].
pub(super) fn split(socket: TcpStream) -> io::Result<(Reader, Writer)> {
    socket.set_nodelay(true)?;
    let (read, write) = socket.into_split();
    Ok((Reader(FramedRead::new(read, LinesCodec::new_with_max_length(LOAD_HELLO_BYTES_MAX))), Writer(write)))
}

impl Reader {
    /// Longer lines from now on: the other side has shown who it is.
    pub(super) fn trust(self) -> Self {
        Self(self.0.map_decoder(|_| LinesCodec::new_with_max_length(LOAD_LINE_BYTES_MAX)))
    }

    /// The next message. Nothing is lost if it isn't waited for.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<T, Failed> {
        match self.0.next().await {
            None => Err(Failed::Closed),
            Some(Ok(line)) => serde_json::from_str(&line).map_err(|e| Failed::Garbled(e.to_string())),
            Some(Err(LinesCodecError::MaxLineLengthExceeded)) => Err(Failed::Garbled("a line is too long".into())),
            Some(Err(LinesCodecError::Io(error))) => Err(error.into()),
        }
    }

    /// The next message, if it comes in time.
    pub(super) async fn next_within<T: DeserializeOwned>(&mut self, time: Duration) -> Result<T, Failed> {
        timeout(time, self.next()).await.unwrap_or(Err(Failed::Silent(time)))
    }
}

impl Writer {
    /// Sends a message.
    pub(super) async fn say<T: Serialize>(&mut self, message: &T) -> Result<(), Failed> {
        let mut line = serde_json::to_vec(message).map_err(|e| Failed::Garbled(e.to_string()))?;
        line.push(b'\n');
        let said = timeout(SILENCE_MAX, self.0.write_all(&line)).await;
        Ok(said.map_err(|_| Failed::Silent(SILENCE_MAX))??)
    }
}

/// Histograms as pairs of a value and how often it was recorded.
pub(in super::super) mod buckets {
    use hdrhistogram::Histogram;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::cli::load::tally::histogram;

    pub(in super::super::super) fn serialize<S: Serializer>(
        histogram: &Histogram<u64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let recorded = histogram.iter_recorded();
        serializer.collect_seq(recorded.map(|step| (step.value_iterated_to(), step.count_at_value())))
    }

    pub(in super::super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Histogram<u64>, D::Error> {
        let mut sum = histogram();
        for (value, count) in Vec::<(u64, u64)>::deserialize(deserializer)? {
            sum.saturating_record_n(value, count);
        }
        Ok(sum)
    }
}

/// A controller and an agent that differ in it refuse each other.
pub(super) const VERSION: u32 = 1;
/// Who neither speaks nor listens for so long is gone.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(5);
