//! Packets on their way to one peer, laid out so that the kernel cuts them itself (UDP GSO).

/// Sealed packets, one behind the other.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    runs: Vec<Run>,
}

/// Packets that one send takes: all of one size, the last may be shorter.
#[derive(Debug, Clone, Copy)]
struct Run {
    start: usize,
    end: usize,
    segment: usize,
    count: usize,
}

impl Outbox {
    /// Where the next packet is to be written, and from which byte on.
    pub fn begin(&mut self) -> (&mut Vec<u8>, usize) {
        let start = self.bytes.len();
        (&mut self.bytes, start)
    }

    /// A packet was written from `start` on. One send takes `segments_max` packets at most.
    pub fn end(&mut self, start: usize, segments_max: usize) {
        let end = self.bytes.len();
        let size = end.saturating_sub(start);
        let joins = |run: &&mut Run| {
            let whole = run.end.saturating_sub(run.start) == run.segment * run.count;
            whole && size <= run.segment && run.count < segments_max && end - run.start <= SEND_BYTES_MAX
        };
        match self.runs.last_mut().filter(joins) {
            Some(run) => {
                run.end = end;
                run.count += 1;
            }
            None => self.runs.push(Run { start, end, segment: size, count: 1 }),
        }
    }

    /// Takes back what was written from `start` on: it can't be sent.
    pub fn abandon(&mut self, start: usize) {
        self.bytes.truncate(start);
    }

    /// What to hand to the kernel: the bytes of one send, and the size it is to cut them into if they are several
    /// packets.
    pub fn sends(&self) -> impl Iterator<Item = (&[u8], Option<usize>)> {
        self.runs.iter().filter_map(|run| {
            let bytes = self.bytes.get(run.start..run.end)?;
            Some((bytes, (run.count > 1).then_some(run.segment)))
        })
    }

    /// Each packet alone.
    pub fn packets(&self) -> impl Iterator<Item = &[u8]> {
        self.sends().flat_map(|(bytes, segment)| bytes.chunks(segment.unwrap_or(bytes.len()).max(1)))
    }

    /// True if nothing is to be sent.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Everything was sent, or is given up.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.runs.clear();
    }
}

/// The largest UDP payload that every kernel takes in one send.
const SEND_BYTES_MAX: usize = 65_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(sizes: &[usize], segments_max: usize) -> Outbox {
        let mut outbox = Outbox::default();
        for size in sizes {
            let (bytes, start) = outbox.begin();
            bytes.resize(start + size, 0);
            outbox.end(start, segments_max);
        }
        outbox
    }

    #[test]
    fn packets_of_one_size_leave_in_one_send_with_a_shorter_last_one() {
        let sends = |sizes: &[usize]| {
            let outbox = outbox(sizes, 64);
            let sends: Vec<_> = outbox.sends().map(|(bytes, segment)| (bytes.len(), segment)).collect();
            assert_eq!(outbox.packets().map(<[u8]>::len).collect::<Vec<_>>(), sizes);
            sends
        };
        assert_eq!(sends(&[100, 100, 100, 40]), [(340, Some(100))]);
        assert_eq!(sends(&[40, 100, 100]), [(40, None), (200, Some(100))], "the first says the size");
        assert_eq!(sends(&[100, 40, 40]), [(140, Some(100)), (40, None)], "nothing follows a shorter one");
        assert_eq!(sends(&[100]), [(100, None)]);
    }

    #[test]
    fn a_send_is_no_longer_than_the_kernel_takes() {
        let lengths: Vec<_> = outbox(&[1200; 100], 64).sends().map(|(bytes, _)| bytes.len() / 1200).collect();
        assert_eq!(lengths, [54, 46]);
        let lengths: Vec<_> = outbox(&[100; 5], 2).sends().map(|(bytes, _)| bytes.len() / 100).collect();
        assert_eq!(lengths, [2, 2, 1]);
    }
}
