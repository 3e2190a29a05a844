//! Questions to a session, and its answers: a line each, over a socket in its owner's folder.

use super::place::Place;
use super::state::State;
use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

/// Longest question.
const MOST_QUESTION: u64 = 1 << 20;
/// Longest answer.
const MOST_ANSWER: u64 = 4 << 20;

/// How long who asks may take to ask.
const ASKING: Duration = Duration::from_secs(2);
/// How long an answer is waited for: a recording that ends is brought to the disk first.
const ANSWERING: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Request {
    Status,
    Stop,
    /// What to keep: options, an argument each.
    Change(Vec<String>),
    /// Why.
    Save(String),
}

#[derive(Serialize, Deserialize)]
enum Answer {
    State(Box<State>),
    Error(String),
}

/// Asks a session.
pub(super) fn ask(place: &Place, request: &Request) -> anyhow::Result<State> {
    let name = || format!("{}: the session does not answer", place.socket.display());
    let mut stream = UnixStream::connect(&place.socket).with_context(name)?;
    stream.set_read_timeout(Some(ANSWERING)).with_context(name)?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line).with_context(name)?;
    let mut answer = String::new();
    BufReader::new(stream.take(MOST_ANSWER)).read_line(&mut answer).with_context(name)?;
    match serde_json::from_str(&answer).with_context(name)? {
        Answer::State(state) => Ok(*state),
        Answer::Error(error) => bail!("{error}"),
    }
}

/// A question that waits for its answer.
pub(super) struct Asked {
    pub(super) request: Request,
    stream: UnixStream,
}

impl Asked {
    pub(super) fn answer(self, state: State) {
        self.put(&Answer::State(Box::new(state)));
    }

    pub(super) fn refuse(self, error: String) {
        self.put(&Answer::Error(error));
    }

    fn put(mut self, answer: &Answer) {
        let Ok(mut line) = serde_json::to_vec(answer) else { return };
        line.push(b'\n');
        // Who asked may have gone.
        let _ = self.stream.write_all(&line);
    }
}

/// Listens on a thread of its own. The questions come out of the channel.
pub(super) fn listen(place: &Place) -> anyhow::Result<Receiver<Asked>> {
    let name = || place.socket.display().to_string();
    // That of a session that was killed: this one holds the place.
    let _ = fs::remove_file(&place.socket);
    let listener = UnixListener::bind(&place.socket).with_context(name)?;
    let (sender, receiver) = sync_channel(16);
    thread::Builder::new().name("control".into()).spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                // Out of files, perhaps: not to be tried without a pause.
                thread::sleep(ASKING);
                continue;
            };
            let Some(asked) = read(stream) else { continue };
            if sender.send(asked).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}

fn read(stream: UnixStream) -> Option<Asked> {
    stream.set_read_timeout(Some(ASKING)).ok()?;
    stream.set_write_timeout(Some(ASKING)).ok()?;
    let mut line = String::new();
    BufReader::new(stream.try_clone().ok()?.take(MOST_QUESTION)).read_line(&mut line).ok()?;
    Some(Asked { request: serde_json::from_str(&line).ok()?, stream })
}
