//! Processes that end: with the test, when it fails, and when the test itself is killed.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// No peer runs longer, whatever becomes of the test: it runs under timeout(1).
const LIFETIME_S_MAX: &str = "90";

/// Longest wait for something a peer should print.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// A process in the background; it is killed, with its children, when dropped.
pub(crate) struct Process {
    name: String,
    child: Child,
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
}

impl Process {
    pub(crate) fn spawn(command: &Command) -> Self {
        let name = command.get_program().display().to_string();
        let mut child = limited(command, LIFETIME_S_MAX)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let stdout = Lines::collect(format!("{name} stdout"), child.stdout.take().unwrap());
        let stderr = Lines::collect(format!("{name} stderr"), child.stderr.take().unwrap());
        Self { name, child, stdout, stderr }
    }

    /// The id of the process itself, past timeout(1), while it runs.
    pub(crate) fn pid(&self) -> u32 {
        self.running().expect("it runs")
    }

    fn running(&self) -> Option<u32> {
        let id = self.child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }

    /// What it has in memory, bytes.
    pub(crate) fn rss(&self) -> usize {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.pid())).unwrap();
        let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap();
        pages * 4096
    }

    /// SIGSTOP: it does nothing more, and its sockets stay.
    pub(crate) fn stop(&self) {
        Command::new("kill").args(["-STOP", &self.pid().to_string()]).status().unwrap();
    }

    /// SIGKILL to the process and its children: timeout(1) made them a process group under its own id.
    pub(crate) fn kill(&mut self) {
        self.signal("-KILL", &format!("-{}", self.child.id()));
        // Waited for was timeout(1); what the process itself held is free when its pipes are.
        self.stderr.wait_end();
    }

    /// SIGTERM; gives the exit status once the process has ended by itself.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        self.tell("-TERM");
        self.exit_code()
    }

    /// Sends the process itself a signal, past timeout(1), which would give it only a second to end.
    pub(crate) fn tell(&self, signal: &str) {
        Command::new("kill").args([signal, &self.pid().to_string()]).status().unwrap();
    }

    /// Waits until it has ended by itself.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    fn signal(&mut self, signal: &str, to: &str) {
        if self.child.try_wait().unwrap().is_none() {
            Command::new("kill").args([signal, "--", to]).stderr(Stdio::null()).status().unwrap();
            self.child.wait().unwrap();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let pid = self.running();
        // timeout(1) passes it on, and kills whoever needs more than a second.
        self.signal("-TERM", &self.child.id().to_string());
        // timeout(1) may end before what it kills, and pipes are closed before ports are.
        self.stderr.wait_end();
        while pid.is_some_and(holds_ports) {
            thread::park_timeout(Duration::from_millis(5));
        }
        if thread::panicking() {
            eprintln!("--- {} ---\n{}{}", self.name, self.stdout.tail(), self.stderr.tail());
        }
    }
}

/// Not once all of its threads have ended, though nobody may have asked yet how.
fn holds_ports(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let is_over = stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with(['Z', 'X']));
    threads > 1 || !is_over
}

/// Runs to the end; more than `seconds` is a failure.
pub(crate) fn run(seconds: u32, command: &Command) -> Output {
    let output = limited(command, &seconds.to_string()).stdin(Stdio::null()).output().unwrap();
    assert_ne!(
        output.status.code(),
        Some(124),
        "still running after {seconds} s: {command:?}\n{}",
        text(&output.stderr)
    );
    output
}

/// Like [`run`], and the exit status must be zero; returns what it printed.
pub(crate) fn run_ok(seconds: u32, command: &Command) -> String {
    let output = run(seconds, command);
    assert!(output.status.success(), "{}: {command:?}\n{}", output.status, text(&output.stderr));
    text(&output.stdout)
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn limited(command: &Command, seconds: &str) -> Command {
    let mut limited = Command::new("timeout");
    limited.args(["--kill-after=1", seconds]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited
}

/// What a process has printed so far, and a way to wait for more.
#[derive(Clone)]
pub(crate) struct Lines {
    name: String,
    printed: Arc<(Mutex<Printed>, Condvar)>,
}

#[derive(Default)]
struct Printed {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    fn collect(name: String, from: impl Read + Send + 'static) -> Self {
        let lines = Self { name, printed: Arc::default() };
        let shared = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
                shared.change(|printed| printed.lines.push(text(&line)));
            }
            shared.change(|printed| printed.ended = true);
        });
        lines
    }

    /// Also after a failed `find`, which holds the lock while it panics: there is a tail to print then.
    fn lock(&self) -> MutexGuard<'_, Printed> {
        self.printed.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, how: impl FnOnce(&mut Printed)) {
        how(&mut self.lock());
        self.printed.1.notify_all();
    }

    /// Waits until `find` finds its thing among all lines so far.
    pub(crate) fn wait<T>(&self, what: &str, mut find: impl FnMut(&[String]) -> Option<T>) -> T {
        let mut found = None;
        let (printed, _) = self
            .printed
            .1
            .wait_timeout_while(self.lock(), WAIT_MAX, |printed| {
                found = find(&printed.lines);
                found.is_none() && !printed.ended
            })
            .unwrap();
        let ended = printed.ended;
        drop(printed);
        found.unwrap_or_else(|| {
            let how = if ended { "ended" } else { "timed out" };
            panic!("{how} before {what}; {}:\n{}", self.name, self.tail())
        })
    }

    /// Waits for a line that contains `needle`.
    pub(crate) fn wait_line(&self, needle: &str) -> String {
        self.wait(needle, |lines| lines.iter().find(|line| line.contains(needle)).cloned())
    }

    fn wait_end(&self) {
        drop(self.printed.1.wait_timeout_while(self.lock(), WAIT_MAX, |printed| !printed.ended));
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    fn tail(&self) -> String {
        let lines = self.all();
        let short = |line: &String| line.chars().take(300).chain(['\n']).collect::<String>();
        lines.iter().skip(lines.len().saturating_sub(30)).map(short).collect()
    }
}
