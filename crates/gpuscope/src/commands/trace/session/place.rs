//! Where the state of sessions is.

use anyhow::{Context as _, bail};
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a session says of itself in its file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Described {
    pub(super) pid: u32,
    /// Time of day, RFC 3339.
    pub(super) started: String,
    pub(super) output: String,
    pub(super) backend: String,
    pub(super) is_flight: bool,
    /// Why it ended, where nobody asked it to: an error, or that it did what it was to do.
    #[serde(default)]
    pub(super) ended: Option<Ended>,
}

/// How a session ended by itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ended {
    pub(super) failed: bool,
    pub(super) detail: String,
}

/// The files of one session.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) json: PathBuf,
    pub(super) socket: PathBuf,
    pub(super) log: PathBuf,
}

/// What was found there.
pub(super) enum Found {
    Nothing,
    /// Its process is gone.
    Dead(Described),
    Alive(Described),
}

/// A session's file, locked as long as this lives.
#[derive(Debug)]
pub(super) struct Held(File);

impl Place {
    /// The place of a session of that name; the folder need not be there.
    pub(super) fn open(name: &str) -> anyhow::Result<Place> {
        let dir = folder()?;
        let of = |suffix: &str| dir.join(format!("{name}.{suffix}"));
        Ok(Place { json: of("json"), socket: of("sock"), log: of("log") })
    }

    /// Makes the folder, and looks whether it belongs to this user alone.
    pub(super) fn make_folder(&self) -> anyhow::Result<()> {
        let dir = self.json.parent().unwrap_or(Path::new("/"));
        match DirBuilder::new().mode(0o700).create(dir) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("{}: the folder of sessions cannot be made", dir.display()));
            }
            _ => {}
        }
        let found = fs::symlink_metadata(dir).with_context(|| dir.display().to_string())?;
        if !found.is_dir() || found.uid() != geteuid().as_raw() || found.mode() & 0o077 != 0 {
            bail!("{}: not a folder of this user's alone; remove it, or give it the mode 0700", dir.display());
        }
        Ok(())
    }

    /// Whether there is a session, and whether it lives.
    pub(super) fn look(&self) -> anyhow::Result<Found> {
        let name = || self.json.display().to_string();
        let mut file = match File::open(&self.json) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(error).with_context(name),
        };
        let is_alive = match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => true,
            Ok(()) => false,
            Err(TryLockError::Error(error)) => return Err(error).with_context(name),
        };
        let mut text = String::new();
        std::io::Read::by_ref(&mut file).take(64 << 10).read_to_string(&mut text).with_context(name)?;
        // One that has just begun has not written it yet.
        let described = serde_json::from_str(&text).unwrap_or_default();
        Ok(if is_alive { Found::Alive(described) } else { Found::Dead(described) })
    }

    /// Takes the place for this process. None where a session has it.
    pub(super) fn hold(&self) -> anyhow::Result<Option<Held>> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&self.json);
        let file = file.with_context(|| self.json.display().to_string())?;
        for _ in 0..20 {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Held(file))),
                // Who only looks holds it for a moment.
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
                Err(TryLockError::Error(error)) => return Err(error).with_context(|| self.json.display().to_string()),
            }
        }
        Ok(None)
    }

    /// Removes what a session left.
    pub(super) fn clear(&self) {
        for path in [&self.socket, &self.log, &self.json] {
            // What is not there need not be removed; what cannot be is found again.
            let _ = fs::remove_file(path);
        }
    }
}

impl Held {
    /// Says what the session is.
    pub(super) fn describe(&mut self, described: &Described) -> std::io::Result<()> {
        let text = serde_json::to_vec(described)?;
        self.0.rewind()?;
        self.0.set_len(0)?;
        self.0.write_all(&text)
    }
}

/// Names of sessions that have a place.
pub(super) fn names() -> anyhow::Result<Vec<String>> {
    let dir = folder()?;
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| dir.display().to_string()),
    };
    let name = |entry: fs::DirEntry| Some(entry.file_name().to_str()?.strip_suffix(".json")?.to_string());
    let mut names: Vec<String> = entries.filter_map(Result::ok).filter_map(name).collect();
    names.sort();
    Ok(names)
}

/// The folder: the user's, or root's.
fn folder() -> anyhow::Result<PathBuf> {
    if geteuid().is_root() {
        return Ok("/run/gpuscope".into());
    }
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute()) {
        Some(dir) => Ok(dir.join("gpuscope")),
        None => bail!(
            "XDG_RUNTIME_DIR: not set, so there is no folder for the state of sessions; log in as a user of systemd-logind, or set it to a \
             folder that is yours alone"
        ),
    }
}
