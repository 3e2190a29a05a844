//! How a stream ends and what happens while it runs.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is a failed test")]

mod common;

use common::{over, valid_line, valid_lines};
use gpuscope_testkit::{Tree, machines};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

struct Stream {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Stream {
    /// Whoever runs the tests may ignore signals (nohup does): the program is started with none ignored.
    fn start(command: &mut Command) -> Self {
        Stream::with_signals("--default-signal=HUP,INT,TERM", command)
    }

    fn with_signals(option: &str, command: &Command) -> Self {
        let mut with = Command::new("env");
        with.arg(option).arg(command.get_program()).args(command.get_args());
        if let Some(dir) = command.get_current_dir() {
            with.current_dir(dir);
        }
        let mut child = with.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Stream { child, out }
    }

    fn over(tree: &Tree, args: &[&str]) -> Self {
        Stream::start(over(tree, &["stat", "--interval", "20ms"]).args(args))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "the stream ended: {line:?}");
        line
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            if Instant::now() > deadline {
                self.child.kill().unwrap();
                self.child.wait().unwrap();
                panic!("the stream did not end");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What is left of its output, once it has ended by itself.
    fn rest(&mut self) -> String {
        self.wait();
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        rest
    }

    /// Status and stderr, once it has ended by itself.
    fn end(mut self) -> (ExitStatus, String) {
        let status = self.wait();
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (status, stderr)
    }
}

#[test]
fn a_signal_ends_json_lines_with_a_whole_line() {
    let tree = machines::i915_discrete();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut stream = Stream::over(&tree, &["--json"]);
        valid_line(stream.line().trim_end());
        stream.signal(signal);
        valid_lines(&stream.rest());
        let (status, stderr) = stream.end();
        assert_eq!((status.code(), stderr.as_str()), (Some(0), ""), "{signal:?}");
    }
}

#[test]
fn under_nohup_a_hangup_does_not_end_it() {
    let tree = machines::no_gpu();
    let mut stream =
        Stream::with_signals("--ignore-signal=HUP", over(&tree, &["stat", "--interval", "20ms"]).arg("--json"));
    stream.line();
    stream.signal(Signal::HUP);
    (0..3).for_each(|_| drop(stream.line()));
    stream.signal(Signal::INT);
    valid_lines(&stream.rest());
    assert_eq!(stream.end().0.code(), Some(0));
}

#[test]
fn a_signal_ends_a_stream_of_procs_with_a_whole_line() {
    let tree = machines::gpu_users();
    let mut stream = Stream::start(&mut over(&tree, &["procs", "--stream", "--interval", "20ms", "--json"]));
    for _ in 0..2 {
        assert_eq!(valid_line(stream.line().trim_end())["schema"], "gpuscope.procs/1");
    }
    stream.signal(Signal::INT);
    valid_lines(&stream.rest());
    let (status, stderr) = stream.end();
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_signal_does_not_wait_for_the_interval() {
    let tree = machines::no_gpu();
    let mut stream = Stream::start(&mut over(&tree, &["stat", "--interval", "1h", "--format", "csv"]));
    assert_eq!(stream.line(), "time,monotonic_ns,gpu,metric,label,value,unit,reason\n");
    stream.signal(Signal::INT);
    let (status, stderr) = stream.end();
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_closed_pipe_ends_the_stream_quietly() {
    let tree = machines::i915_discrete();
    for form in ["text", "json", "csv"] {
        let mut stream = Stream::over(&tree, &["--format", form]);
        stream.line();
        // As `| head -1` does.
        let Stream { child, out } = stream;
        drop(out);
        let mut idle = Command::new("true").stdout(Stdio::piped()).spawn().unwrap();
        idle.wait().unwrap();
        let stream = Stream { child, out: BufReader::new(idle.stdout.take().unwrap()) };
        let (status, stderr) = stream.end();
        assert_eq!((status.code(), stderr.as_str()), (Some(0), ""), "{form}");
    }
}

#[test]
fn a_reader_that_goes_away_is_noticed_before_the_next_sample() {
    let tree = machines::no_gpu();
    let mut stream = Stream::start(&mut over(&tree, &["stat", "--interval", "1h", "--format", "csv"]));
    stream.line();
    let Stream { child, out } = stream;
    drop(out);
    let mut idle = Command::new("true").stdout(Stdio::piped()).spawn().unwrap();
    idle.wait().unwrap();
    let (status, stderr) = Stream { child, out: BufReader::new(idle.stdout.take().unwrap()) }.end();
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn list_and_doctor_into_a_closed_pipe_are_quiet() {
    let tree = machines::i915_discrete();
    for args in [&["list"][..], &["doctor"], &["--help"], &["completions", "bash"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let out = over(&tree, args).stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        assert_eq!((out.status.code(), out.stderr.as_slice()), (Some(0), &b""[..]), "{args:?}");
    }
}

#[test]
fn a_full_disk_is_a_failure_and_says_so() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let tree = machines::i915_discrete();
    let out = over(&tree, &["list"]).stdout(full).output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(String::from_utf8(out.stderr).unwrap().lines().count(), 1);
}

#[test]
fn count_is_the_number_of_lines_and_each_has_an_interval() {
    let tree = machines::i915_integrated();
    let text = common::stdout(&mut over(&tree, &["stat", "--json", "--interval", "30ms", "--count", "3"]));
    let lines = valid_lines(&text);
    assert_eq!(lines.len(), 3);
    for line in &lines {
        assert!(line["interval_s"].as_f64().unwrap() > 0.0, "{line:#}");
    }
    let at: Vec<u64> = lines.iter().map(|l| l["monotonic_ns"].as_u64().unwrap()).collect();
    assert!(at.is_sorted_by(|a, b| a < b), "{at:?}");
}

#[test]
fn a_gpu_that_appears_is_an_event_and_then_in_the_sample() {
    let tree = machines::no_gpu();
    let mut stream = Stream::over(&tree, &["--json"]);
    let first = valid_line(stream.line().trim_end());
    assert_eq!(first["gpus"], serde_json::json!([]));
    machines::add_i915_integrated(&tree);
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let line = valid_line(stream.line().trim_end());
        if line["schema"] == "gpuscope.event/1" {
            assert_eq!((&line["event"], &line["id"]), (&"gpu_added".into(), &"0000:00:02.0".into()));
            let next = valid_line(stream.line().trim_end());
            assert_eq!(next["gpus"][0]["id"], "0000:00:02.0");
            break;
        }
        assert!(Instant::now() < deadline, "no event");
    }
    stream.signal(Signal::INT);
    // Its reader stays: the last line may be on its way.
    stream.rest();
    assert_eq!(stream.end().0.code(), Some(0));
}
