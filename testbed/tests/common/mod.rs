//! `gpuscope stat` as a test sees it: one JSON object a line, while it runs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a guest that is not as it should be is a failed test"
)]
#![allow(unreachable_pub, reason = "a module of test binaries")]
#![allow(dead_code, reason = "every test binary uses its own part")]

pub mod books;
pub mod clients;
pub mod recorded;

use gpuscope_sys::monotonic_ns;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// The binary under test, as the runner of the guest names it.
pub fn gpuscope() -> String {
    std::env::var("GPUSCOPE").expect("GPUSCOPE names the gpuscope binary; `cargo xtask testbed` sets it")
}

/// Sets how this thread runs, by a program of util-linux that takes the thread's number last: `chrt` or `taskset`.
pub fn this_thread(program: &str, args: &[&str]) {
    let thread = fs::read_link("/proc/thread-self").unwrap();
    let done = Command::new(program).args(args).arg(thread.file_name().unwrap()).stdout(Stdio::null()).status();
    assert!(done.is_ok_and(|status| status.success()), "{program} comes with util-linux");
}

/// A running `gpuscope` that prints JSON lines.
pub struct Stream {
    child: Child,
    lines: Receiver<(String, u64)>,
}

impl Stream {
    /// Starts `gpuscope ARGS`.
    pub fn start(args: &[&str]) -> Stream {
        let mut command = Command::new(gpuscope());
        command.args(args);
        Stream::of(command)
    }

    /// Starts a command that runs gpuscope in its own way (as another user).
    pub fn of(mut command: Command) -> Stream {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
        let out = child.stdout.take().unwrap();
        let (send, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(out).lines() {
                let Ok(line) = line else { return };
                if send.send((line, monotonic_ns())).is_err() {
                    return;
                }
            }
        });
        Stream { child, lines }
    }

    /// The next line, or `None` at the end of the stream.
    pub fn next(&mut self, within: Duration) -> Option<Value> {
        match self.lines.recv_timeout(within) {
            Ok(line) => Some(parse(line)),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no line of gpuscope within {within:?}"),
        }
    }

    /// Lines that come within a time.
    pub fn during(&mut self, time: Duration) -> Vec<Value> {
        let end = Instant::now() + time;
        let mut all = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            all.push(parse(line));
        }
        all
    }

    /// Process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it with SIGINT, as Ctrl-C does, and returns its exit status and what it said on stderr.
    pub fn interrupt(mut self) -> (i32, String) {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-INT", &pid]).status().unwrap();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let status = self.child.wait().unwrap();
        (status.code().unwrap_or(-1), said)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Open files of a process: folders `/proc/PID/fd` of others, of which gpuscope holds one a process while that lives, and the rest.
pub fn open_files(pid: u32) -> (usize, usize) {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten().filter_map(|f| fs::read_link(f.path()).ok());
    let is_folder = |target: &PathBuf| target.starts_with("/proc") && target.to_string_lossy().contains("/fd");
    let (folders, rest): (Vec<_>, Vec<_>) = files.partition(is_folder);
    let clients = folders.iter().filter(|target| target.to_string_lossy().contains("/fdinfo")).count();
    (folders.len() - clients, rest.len() + clients)
}

/// Processes of the machine.
pub fn processes() -> usize {
    let names = fs::read_dir("/proc").unwrap().flatten().map(|e| e.file_name());
    names.filter(|n| n.to_string_lossy().bytes().all(|b| b.is_ascii_digit())).count()
}

/// The object of a line, with `arrived_ns` beside its own fields.
fn parse((line, arrived_ns): (String, u64)) -> Value {
    let mut object: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
    object["arrived_ns"] = arrived_ns.into();
    object
}

/// Whether a line is a sample, not an event.
pub fn is_sample(line: &Value) -> bool {
    line["schema"] == "gpuscope.stat/1"
}

/// The GPU of that id in a sample.
pub fn gpu<'a>(line: &'a Value, id: &str) -> Option<&'a Value> {
    line["gpus"].as_array()?.iter().find(|g| g["id"] == id)
}

/// The engine of that name.
pub fn engine<'a>(gpu: &'a Value, name: &str) -> Option<&'a Value> {
    gpu["engines"].as_array()?.iter().find(|e| e["name"] == name)
}

/// The class of that name.
pub fn class<'a>(gpu: &'a Value, name: &str) -> Option<&'a Value> {
    gpu["classes"].as_array()?.iter().find(|c| c["class"] == name)
}

/// The entry of a list whose `gt` is that.
pub fn gt<'a>(gpu: &'a Value, list: &str, number: u64) -> Option<&'a Value> {
    gpu[list].as_array()?.iter().find(|g| g["gt"] == number)
}

/// Why a field is null: its entry in `unavailable`.
pub fn why<'a>(gpu: &'a Value, metric: &str) -> Option<&'a Value> {
    gpu["unavailable"].as_array()?.iter().find(|u| u["metric"] == metric)
}

/// The periods of intel_gpu_top's JSON.
///
/// Its stream is no valid JSON document (objects without brackets around them, commas between them or not, by version): whole
/// objects are taken out by their braces.
pub fn objects(text: &str) -> Vec<Value> {
    let (mut depth, mut start, mut all) = (0, 0, Vec::new());
    for (i, c) in text.char_indices() {
        match c {
            '{' => {
                if depth == 0 {
                    start = i;
                }
                depth += 1;
            }
            '}' => {
                depth -= 1;
                if depth == 0 {
                    all.push(serde_json::from_str(&text[start..=i]).unwrap());
                }
            }
            _ => {}
        }
    }
    all
}
