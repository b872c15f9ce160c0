//! What processes of this machine use, from /proc.

use std::{
    fs,
    sync::atomic::{AtomicU64, Ordering},
};

use super::report::ServerUse;

/// CPU time and memory of a process so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) cpu_us: u64,
    pub(super) rss_bytes: u64,
}

impl Usage {
    fn read(process: &str) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        // The name, which comes second, may hold anything but ends with the last parenthesis.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut ticks = fields.split_whitespace().skip(11).map_while(|field| field.parse::<u64>().ok());
        let (user, system) = (ticks.next()?, ticks.next()?);
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let rss_kib: u64 = rss.and_then(|rss| rss.split_whitespace().next()?.parse().ok()).unwrap_or(0);
        Some(Self { cpu_us: (user + system) * TICK_US, rss_bytes: rss_kib * 1024 })
    }
}

/// CPU time of this process so far; what it was before if nobody can tell.
pub(super) fn own_cpu_us() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = Usage::read("self").map_or(0, |usage| usage.cpu_us);
    LAST.fetch_max(now, Ordering::Relaxed).max(now)
}

/// The server processes observed.
#[derive(Debug)]
pub(super) struct Servers {
    servers: Vec<Server>,
}

#[derive(Debug)]
struct Server {
    pid: u32,
    name: String,
    now: Usage,
    steady_cpu_us: Option<u64>,
    rss_bytes_min: u64,
    rss_bytes_max: u64,
}

/// A `--pid` that isn't one.
#[derive(Debug, thiserror::Error)]
#[error("--pid {0}: no such process on this machine")]
pub(super) struct NoProcess(u32);

impl Servers {
    /// Looks at them for the first time.
    pub(super) fn open(pids: &[u32]) -> Result<Self, NoProcess> {
        let open = |pid: u32| {
            let now = Usage::read(&pid.to_string()).ok_or(NoProcess(pid))?;
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
            let rss = now.rss_bytes;
            Ok(Server { pid, name, now, steady_cpu_us: None, rss_bytes_min: rss, rss_bytes_max: rss })
        };
        Ok(Self { servers: pids.iter().copied().map(open).collect::<Result<_, _>>()? })
    }

    /// Looks again; gives the CPU time of all of them. One that has ended keeps what it had.
    pub(super) fn sample(&mut self) -> u64 {
        for server in &mut self.servers {
            if let Some(now) = Usage::read(&server.pid.to_string()) {
                server.now = now;
                server.rss_bytes_min = server.rss_bytes_min.min(now.rss_bytes);
                server.rss_bytes_max = server.rss_bytes_max.max(now.rss_bytes);
            }
        }
        self.servers.iter().map(|server| server.now.cpu_us).sum()
    }

    /// Whatever memory they have by now, viewers have no part in it.
    pub(super) fn begin_viewers(&mut self) {
        self.sample();
        self.servers.iter_mut().for_each(|server| server.rss_bytes_min = server.now.rss_bytes);
    }

    /// From here on CPU time counts as that of the steady part.
    pub(super) fn begin_steady(&mut self) {
        self.servers.iter_mut().for_each(|server| server.steady_cpu_us = Some(server.now.cpu_us));
    }

    /// What they used, if the steady part was so long.
    pub(super) fn finish(self, steady_secs: f64) -> Vec<ServerUse> {
        let used = |server: Server| {
            let cpu_us = server.steady_cpu_us.map_or(0, |since| server.now.cpu_us.saturating_sub(since));
            let cpu_percent = if steady_secs > 0.0 { cpu_us as f64 / steady_secs / 10_000.0 } else { 0.0 };
            let Server { pid, name, rss_bytes_min, rss_bytes_max, .. } = server;
            ServerUse { pid, name, cpu_us, cpu_percent, rss_bytes_min, rss_bytes_max }
        };
        self.servers.into_iter().map(used).collect()
    }
}

/// Linux tells CPU time in hundredths of a second, on every architecture.
const TICK_US: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_uses_cpu_and_has_memory() {
        let (before_us, mut sum) = (own_cpu_us(), 0u64);
        while own_cpu_us() < before_us + 2 * TICK_US {
            sum = (0..100_000).fold(sum, |sum, n| sum.wrapping_mul(31).wrapping_add(n));
        }
        let usage = Usage::read("self").expect("ourselves");
        assert!(usage.rss_bytes > 1 << 20, "{usage:?} {sum}");
    }

    #[test]
    fn servers_are_this_machine_s() {
        assert!(Servers::open(&[u32::MAX]).is_err());
        let mut servers = Servers::open(&[std::process::id()]).expect("ourselves");
        servers.begin_viewers();
        servers.begin_steady();
        servers.sample();
        let [server] = servers.finish(1.0).try_into().expect("one");
        assert!(server.rss_bytes_max >= server.rss_bytes_min && server.rss_bytes_min > 0 && !server.name.is_empty());
    }
}
