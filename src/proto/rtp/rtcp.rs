//! RTCP: reports (RFC 3550 §6) and feedback (RFC 4585, 5104, REMB, transport-wide).
//!
//! Compound and reduced-size (RFC 5506) packets are read alike. Writers append one packet each, so that
//! several make a compound.

use std::time::Duration;

use bytes::{Buf, BufMut};

use super::{
    Malformed, ntp,
    packet::{PADDING, VERSION, VERSION_MASK, without_padding},
    twcc::Feedback,
};
use crate::limits::RTCP_NACK_PACKETS_MAX;

/// One packet of a compound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rtcp {
    /// What a source has sent, and when (RFC 3550 §6.4.1).
    SenderReport {
        /// The source.
        ssrc: u32,
        /// Its clock and counters.
        info: SenderInfo,
        /// What it received from others.
        reports: Vec<Report>,
    },
    /// What a peer that sends nothing itself received (RFC 3550 §6.4.2).
    ReceiverReport {
        /// Who reports.
        ssrc: u32,
        /// One block a source.
        reports: Vec<Report>,
    },
    /// Packets the peer asks for again (RFC 4585 §6.2.1).
    Nack {
        /// The source they belong to.
        media_ssrc: u32,
        /// Their sequence numbers, at most [`RTCP_NACK_PACKETS_MAX`].
        lost: Vec<u16>,
    },
    /// The peer needs a keyframe (RFC 4585 §6.3.1).
    Pli {
        /// Of this source.
        media_ssrc: u32,
    },
    /// The same, from conference software (RFC 5104 §4.3.1). A request is repeated with the same `command` number.
    Fir {
        /// Of this source.
        media_ssrc: u32,
        /// Grows with every new request.
        command: u8,
    },
    /// When each packet of the transport arrived.
    Twcc(Feedback),
    /// The bitrate a receiver thinks it can take (draft-alvestrand-rmcat-remb-03).
    Remb {
        /// All sources together.
        bitrate_bps: u64,
        /// The sources meant.
        ssrcs: Vec<u32>,
    },
    /// These sources end (RFC 3550 §6.6).
    Bye {
        /// The sources.
        ssrcs: Vec<u32>,
    },
    /// A packet that nothing here needs: SDES, APP, XR and unknown kinds.
    Other,
}

/// A sender's clock and counters (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SenderInfo {
    /// The wall clock at the moment of sending, as [`ntp::from_unix_us`] makes it.
    pub ntp: u64,
    /// The RTP timestamp of the same moment.
    pub timestamp: u32,
    /// Packets sent, wrapping.
    pub packets: u32,
    /// Payload bytes sent, wrapping.
    pub octets: u32,
}

/// How one source was received (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// The source.
    pub ssrc: u32,
    /// Packets lost since the last report, in 1/256 of those expected.
    pub fraction_lost: u8,
    /// Packets lost since the beginning: 24 bits, below zero if there were more duplicates.
    pub lost: i32,
    /// Highest sequence number received; the upper 16 bits count its wraps.
    pub highest_sequence: u32,
    /// Variation of the transit time, in ticks of the source's clock rate.
    pub jitter: u32,
    /// [`ntp::middle`] of the last sender report; 0 if there was none.
    pub last_sr: u32,
    /// Time since then, in 1/65536 s.
    pub delay_since_sr: u32,
}

impl Report {
    /// The round trip this report tells the sender, who receives it at `now` of its NTP clock (RFC 3550 §6.4.1).
    /// `None` if it answers no sender report, or one from the future.
    pub fn round_trip(&self, now: u64) -> Option<Duration> {
        let ticks = ntp::middle(now).wrapping_sub(self.last_sr).wrapping_sub(self.delay_since_sr);
        let past = self.last_sr != 0 && ticks < 1 << 31;
        past.then(|| Duration::from_micros((u64::from(ticks) * 1_000_000) >> 16))
    }

    fn parse(body: &mut &[u8]) -> Result<Self, Malformed> {
        let ssrc = body.try_get_u32()?;
        let loss = body.try_get_i32()?;
        Ok(Self {
            ssrc,
            fraction_lost: loss.to_be_bytes()[0],
            // The shift up and down extends the sign of the lower 24 bits.
            lost: (loss << 8) >> 8,
            highest_sequence: body.try_get_u32()?,
            jitter: body.try_get_u32()?,
            last_sr: body.try_get_u32()?,
            delay_since_sr: body.try_get_u32()?,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        let lost = self.lost.clamp(LOST_MIN, LOST_MAX);
        out.put_u32(self.ssrc);
        out.put_i32(lost & 0x00FF_FFFF | i32::from(self.fraction_lost) << 24);
        out.put_u32(self.highest_sequence);
        out.put_u32(self.jitter);
        out.put_u32(self.last_sr);
        out.put_u32(self.delay_since_sr);
    }
}

/// Reads a datagram of one or more packets.
pub fn parse(compound: &[u8]) -> Result<Vec<Rtcp>, Malformed> {
    let mut packets = Vec::new();
    let mut rest = compound;
    while !rest.is_empty() {
        let first = rest.try_get_u8()?;
        let packet_type = rest.try_get_u8()?;
        let bytes = 4 * usize::from(rest.try_get_u16()?);
        let body = rest.split_off(..bytes).ok_or(Malformed("length of RTCP"))?;
        if first & VERSION_MASK != VERSION {
            return Err(Malformed("version of RTCP"));
        }
        let body = if first & PADDING == 0 { body } else { without_padding(body)? };
        packets.push(parse_packet(packet_type, first & COUNT, body)?);
    }
    Ok(packets)
}

/// `count` is the header's five bits: a number of blocks, or the kind of feedback.
fn parse_packet(packet_type: u8, count: u8, mut body: &[u8]) -> Result<Rtcp, Malformed> {
    match packet_type {
        SENDER_REPORT => Ok(Rtcp::SenderReport {
            ssrc: body.try_get_u32()?,
            info: SenderInfo {
                ntp: body.try_get_u64()?,
                timestamp: body.try_get_u32()?,
                packets: body.try_get_u32()?,
                octets: body.try_get_u32()?,
            },
            reports: parse_reports(count, body)?,
        }),
        RECEIVER_REPORT => Ok(Rtcp::ReceiverReport { ssrc: body.try_get_u32()?, reports: parse_reports(count, body)? }),
        BYE => Ok(Rtcp::Bye { ssrcs: parse_ssrcs(count, body)? }),
        TRANSPORT_FEEDBACK | PAYLOAD_FEEDBACK => {
            let _sender_ssrc = body.try_get_u32()?;
            let media_ssrc = body.try_get_u32()?;
            parse_feedback((packet_type, count), media_ssrc, body)
        }
        _ => Ok(Rtcp::Other),
    }
}

fn parse_feedback(kind: (u8, u8), media_ssrc: u32, mut body: &[u8]) -> Result<Rtcp, Malformed> {
    match kind {
        NACK => Ok(Rtcp::Nack { media_ssrc, lost: parse_lost(body)? }),
        TWCC => Ok(Rtcp::Twcc(Feedback::parse(body)?)),
        PLI => Ok(Rtcp::Pli { media_ssrc }),
        // The source is in the entry, and the header's field is unused. We ask and are asked for one at a time.
        FIR => Ok(Rtcp::Fir { media_ssrc: body.try_get_u32()?, command: body.try_get_u8()? }),
        APPLICATION if body.starts_with(b"REMB") => parse_remb(body),
        _ => Ok(Rtcp::Other),
    }
}

fn parse_reports(count: u8, mut body: &[u8]) -> Result<Vec<Report>, Malformed> {
    (0..count).map(|_| Report::parse(&mut body)).collect()
}

fn parse_ssrcs(count: u8, mut body: &[u8]) -> Result<Vec<u32>, Malformed> {
    (0..count).map(|_| Ok(body.try_get_u32()?)).collect()
}

fn parse_lost(mut body: &[u8]) -> Result<Vec<u16>, Malformed> {
    let mut lost = Vec::new();
    while !body.is_empty() && lost.len() < RTCP_NACK_PACKETS_MAX {
        let first = body.try_get_u16()?;
        let following = body.try_get_u16()?;
        lost.push(first);
        let bits = (0..16u16).filter(|bit| following >> bit & 1 == 1);
        lost.extend(bits.map(|bit| first.wrapping_add(bit + 1)));
    }
    lost.truncate(RTCP_NACK_PACKETS_MAX);
    Ok(lost)
}

/// draft-alvestrand-rmcat-remb-03 §2.2: six bits of exponent, 18 of mantissa.
fn parse_remb(mut body: &[u8]) -> Result<Rtcp, Malformed> {
    let _name = body.try_get_u32()?;
    let count = body.try_get_u8()?;
    let bitrate = body.try_get_uint(3).map_err(Malformed::from)?;
    let (exponent, mantissa) = (bitrate >> 18, bitrate & 0x3_FFFF);
    let bitrate_bps = u64::try_from(u128::from(mantissa) << exponent).unwrap_or(u64::MAX);
    Ok(Rtcp::Remb { bitrate_bps, ssrcs: parse_ssrcs(count, body)? })
}

/// Appends a sender report. Only the first 31 blocks fit.
pub fn write_sender_report(out: &mut Vec<u8>, ssrc: u32, info: &SenderInfo, reports: &[Report]) {
    write_packet(out, SENDER_REPORT, block_count(reports), |out| {
        out.put_u32(ssrc);
        out.put_u64(info.ntp);
        out.put_u32(info.timestamp);
        out.put_u32(info.packets);
        out.put_u32(info.octets);
        write_reports(out, reports);
    });
}

/// Appends a receiver report. Only the first 31 blocks fit.
pub fn write_receiver_report(out: &mut Vec<u8>, ssrc: u32, reports: &[Report]) {
    write_packet(out, RECEIVER_REPORT, block_count(reports), |out| {
        out.put_u32(ssrc);
        write_reports(out, reports);
    });
}

/// Appends the canonical name of a source, which every compound must carry (RFC 3550 §6.5.1). Only its first 255
/// bytes fit.
pub fn write_cname(out: &mut Vec<u8>, ssrc: u32, cname: &str) {
    let cname = cname.as_bytes().get(..255).unwrap_or(cname.as_bytes());
    write_packet(out, SOURCE_DESCRIPTION, 1, |out| {
        out.put_u32(ssrc);
        out.put_u8(CNAME_ITEM);
        out.put_u8(u8::try_from(cname.len()).unwrap_or(0));
        out.put_slice(cname);
        // At least one zero ends the items, and the chunk ends on a word (§6.5).
        out.put_bytes(0, 4 - (2 + cname.len()) % 4);
    });
}

/// Appends the end of some sources. Only the first 31 fit.
pub fn write_bye(out: &mut Vec<u8>, ssrcs: &[u32]) {
    write_packet(out, BYE, block_count(ssrcs), |out| {
        for ssrc in ssrcs.iter().take(BLOCKS_MAX) {
            out.put_u32(*ssrc);
        }
    });
}

/// Appends a request for lost packets. Rising sequence numbers make it shortest.
pub fn write_nack(out: &mut Vec<u8>, sender_ssrc: u32, media_ssrc: u32, lost: &[u16]) {
    write_feedback(out, NACK, (sender_ssrc, media_ssrc), |out| {
        let mut lost = lost.iter().copied().peekable();
        while let Some(first) = lost.next() {
            let mut following = 0u16;
            while let Some(near) = lost.next_if(|next| (1..=16).contains(&next.wrapping_sub(first))) {
                following |= 1 << (near.wrapping_sub(first) - 1);
            }
            out.put_u16(first);
            out.put_u16(following);
        }
    });
}

/// Appends a request for a keyframe.
pub fn write_pli(out: &mut Vec<u8>, sender_ssrc: u32, media_ssrc: u32) {
    write_feedback(out, PLI, (sender_ssrc, media_ssrc), |_| ());
}

/// Appends the same as conference software asks for it; `command` grows with every new request (RFC 5104 §4.3.1).
pub fn write_fir(out: &mut Vec<u8>, sender_ssrc: u32, media_ssrc: u32, command: u8) {
    write_feedback(out, FIR, (sender_ssrc, 0), |out| {
        out.put_u32(media_ssrc);
        out.put_u32(u32::from(command) << 24);
    });
}

/// Appends transport-wide feedback.
pub fn write_twcc(out: &mut Vec<u8>, sender_ssrc: u32, media_ssrc: u32, feedback: &Feedback) {
    write_feedback(out, TWCC, (sender_ssrc, media_ssrc), |out| feedback.write(out));
}

fn write_feedback(out: &mut Vec<u8>, kind: (u8, u8), ssrcs: (u32, u32), body: impl FnOnce(&mut Vec<u8>)) {
    write_packet(out, kind.0, kind.1, |out| {
        out.put_u32(ssrcs.0);
        out.put_u32(ssrcs.1);
        body(out);
    });
}

/// Writes the header, whose length is known after the body; and padding if the body ends within a word.
fn write_packet(out: &mut Vec<u8>, packet_type: u8, count: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.put_u8(VERSION | count & COUNT);
    out.put_u8(packet_type);
    out.put_u16(0);
    body(out);
    let padding = (out.len() - start).wrapping_neg() % 4;
    if padding > 0 {
        out.put_bytes(0, padding - 1);
        out.put_u8(u8::try_from(padding).unwrap_or(0));
    }
    let words = u16::try_from((out.len() - start) / 4 - 1).unwrap_or(u16::MAX);
    if let Some([first, _, high, low]) = out.get_mut(start..).and_then(|packet| packet.first_chunk_mut()) {
        *first |= if padding > 0 { PADDING } else { 0 };
        [*high, *low] = words.to_be_bytes();
    }
}

fn write_reports(out: &mut Vec<u8>, reports: &[Report]) {
    for report in reports.iter().take(BLOCKS_MAX) {
        report.write(out);
    }
}

fn block_count<T>(blocks: &[T]) -> u8 {
    u8::try_from(blocks.len().min(BLOCKS_MAX)).unwrap_or(0)
}

/// What 24 bits hold.
const LOST_MIN: i32 = -(1 << 23);
pub(super) const LOST_MAX: i32 = (1 << 23) - 1;
/// Blocks that the five bits of a header count.
const BLOCKS_MAX: usize = 31;
const COUNT: u8 = 0x1F;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const BYE: u8 = 203;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;
const CNAME_ITEM: u8 = 1;

/// Packet type and format of feedback.
const NACK: (u8, u8) = (TRANSPORT_FEEDBACK, 1);
const TWCC: (u8, u8) = (TRANSPORT_FEEDBACK, 15);
const PLI: (u8, u8) = (PAYLOAD_FEEDBACK, 1);
const FIR: (u8, u8) = (PAYLOAD_FEEDBACK, 4);
const APPLICATION: (u8, u8) = (PAYLOAD_FEEDBACK, 15);

#[cfg(test)]
mod tests;
