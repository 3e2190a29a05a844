//! What ends a stream from outside: Ctrl-C, SIGTERM, SIGHUP, and a reader that goes away.

use gpuscope_engine::Stop;
use rustix::event::{PollFd, PollFlags, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::{process, thread};

/// Watches on a thread of its own, and stops waits when a signal comes or stdout loses its reader.
///
/// A second signal ends the process at once: the first one waits for the line at hand to be written, and its reader may be stuck.
pub(crate) fn watch() -> io::Result<Stop> {
    watch_for(Ends::SignalOrReader)
}

/// The same for what writes nothing to stdout: a reader of a command's output may go away while the command goes on.
pub(crate) fn watch_signals() -> io::Result<Stop> {
    watch_for(Ends::Signal)
}

/// What ends a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    Signal,
    SignalOrReader,
}

fn watch_for(ends: Ends) -> io::Result<Stop> {
    let (mut receiver, sender) = UnixStream::pair()?;
    // Under nohup SIGHUP is ignored, and stays so.
    let hangup = (!ignores(SIGHUP)).then_some(SIGHUP);
    for signal in [SIGINT, SIGTERM].into_iter().chain(hangup) {
        signal_hook::low_level::pipe::register(signal, sender.try_clone()?)?;
    }
    let stop = Stop::new();
    let watched = stop.clone();
    thread::Builder::new().name("stop".into()).spawn(move || {
        wait_for_end(&receiver, ends);
        watched.stop();
        // The byte of the first signal may still be there when it was the reader that went away.
        let mut byte = [0; 1];
        for _ in 0..2 {
            if receiver.read_exact(&mut byte).is_err() {
                return;
            }
        }
        process::exit(128 + SIGINT);
    })?;
    Ok(stop)
}

/// Whether whoever started this program has it ignore a signal: `SigIgn` of `/proc/self/status`.
fn ignores(signal: i32) -> bool {
    let status = gpuscope_sys::read_text("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|l| l.strip_prefix("SigIgn:")).map(str::trim);
    mask.and_then(|m| u64::from_str_radix(m, 16).ok()).is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Returns when a signal is in the pipe or stdout is of no use any more.
fn wait_for_end(receiver: &UnixStream, ends: Ends) {
    let stdout = io::stdout();
    loop {
        // Without events asked for, poll tells errors only: a pipe without reader, a terminal hung up.
        let mut fds =
            [PollFd::new(receiver, PollFlags::IN), PollFd::from_borrowed_fd(stdout.as_fd(), PollFlags::empty())];
        let watched = if ends == Ends::Signal { 1 } else { 2 };
        match poll(fds.get_mut(..watched).unwrap_or_default(), None) {
            Err(rustix::io::Errno::INTR) => {}
            // Neither poll failing nor an event that nobody asked for can be waited out.
            _ => return,
        }
    }
}
