//! `gpuscope trace start`, `stop`, `status`, `change`, `save`.

use super::trace::{Backend, Keep, parse_bytes, parse_size};
use std::path::PathBuf;
use std::time::Duration;

#[derive(clap::Args, Debug)]
pub(crate) struct Start {
    /// The recording; of a flight recorder a folder for several, or a file for one, with which the session ends [default: in the current
    /// folder, gpuscope-NAME-TIME]
    #[arg(short, long, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
    /// Replace the file even if it is no recording
    #[arg(long, conflicts_with = "flight")]
    pub(crate) force: bool,
    /// Name of the session: several may run
    #[arg(long, value_name = "NAME", value_parser = parse_name, default_value = "default")]
    pub(crate) name: String,
    /// Keep the last seconds in memory, and write them only when a trigger fires: a number with ms, s, m or h
    #[arg(long, value_name = "DURATION", value_parser = super::parse_interval)]
    pub(crate) flight: Option<Duration>,
    /// What fires, with commas between: slow:TIME (a job took as long from submission to end), timeout, error, stuck:TIME (a job is held up
    /// for so long), signal (SIGUSR1). `gpuscope trace save` does always
    #[arg(
        long,
        value_name = "TRIGGERS",
        value_parser = parse_trigger,
        value_delimiter = ',',
        default_value = "timeout,error,signal",
        requires = "flight"
    )]
    pub(crate) on: Vec<Trigger>,
    /// Time that is recorded after a trigger
    #[arg(long, value_name = "DURATION", value_parser = super::parse_interval, default_value = "2s", requires = "flight")]
    pub(crate) after: Duration,
    /// Memory for the last seconds: a number with MiB. Where they do not fit, fewer seconds are kept, and that is told
    #[arg(long, value_name = "SIZE", value_parser = parse_memory, default_value = "64MiB", requires = "flight")]
    pub(crate) max_memory: usize,
    /// Files that a flight recorder writes at most; triggers behind are counted
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), default_value_t = 16, requires = "flight")]
    pub(crate) max_files: u32,
    /// Most bytes of a recording on disk: FILE and three older parts beside it (FILE.1 to FILE.3), of which the oldest goes when the newest is
    /// full; what went is counted. 8MiB or more
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes, conflicts_with = "flight")]
    pub(crate) max_size: Option<u64>,
    /// Note jobs that are held up for longer than this, in `trace status` and in the recording
    #[arg(long, value_name = "DURATION", value_parser = super::parse_interval, conflicts_with = "slower_than")]
    pub(crate) alarm: Option<Duration>,
    /// How records are taken from the kernel [default: the first that works]
    #[arg(long, value_enum, value_name = "WAY")]
    pub(crate) backend: Option<Backend>,
    /// Record also when processors go to the threads that submit jobs or hand them over, when they leave them, and when these are woken: why a
    /// thread was late. By BPF; beside what --max-events-per-second and --max-cpu bound
    #[arg(long)]
    pub(crate) switches: bool,
    /// Size of the buffer between the kernel and gpuscope, all processors together: a number with KiB or MiB
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "8MiB")]
    pub(crate) buffer: usize,
    #[command(flatten)]
    pub(crate) keep: Keep,
    /// Be the session, and not the one who starts it
    #[arg(long, hide = true)]
    pub(crate) attend: bool,
}

#[derive(clap::Args, Debug)]
pub(crate) struct Named {
    /// The session
    #[arg(long, value_name = "NAME", value_parser = parse_name, default_value = "default")]
    pub(crate) name: String,
}

#[derive(clap::Args, Debug)]
pub(crate) struct Status {
    /// Only this session
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    pub(crate) name: Option<String>,
}

#[derive(clap::Args, Debug)]
pub(crate) struct Change {
    /// The session
    #[arg(long, value_name = "NAME", value_parser = parse_name, default_value = "default")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) keep: Keep,
}

#[derive(clap::Args, Debug)]
pub(crate) struct Save {
    /// The session
    #[arg(long, value_name = "NAME", value_parser = parse_name, default_value = "default")]
    pub(crate) name: String,
    /// Why, to be noted in the recording
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

/// What makes a flight recorder save.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trigger {
    Slow(Duration),
    Timeout,
    Error,
    Stuck(Duration),
    Signal,
}

fn parse_trigger(text: &str) -> Result<Trigger, String> {
    let (word, time) = match text.split_once(':') {
        Some((word, time)) => (word, Some(time)),
        None => (text, None),
    };
    let time_of = |what: fn(Duration) -> Trigger| match time {
        Some(time) => super::parse_duration(time).map(what),
        None => Err(format!("{word} needs a time: write {word}:50ms")),
    };
    match (word, time) {
        ("slow", _) => time_of(Trigger::Slow),
        ("stuck", _) => time_of(Trigger::Stuck),
        ("timeout", None) => Ok(Trigger::Timeout),
        ("error", None) => Ok(Trigger::Error),
        ("signal", None) => Ok(Trigger::Signal),
        ("timeout" | "error" | "signal", Some(_)) => Err(format!("{word} takes no time")),
        _ => Err("no such trigger; use slow:TIME, timeout, error, stuck:TIME or signal".into()),
    }
}

/// Names become names of files and sockets.
fn parse_name(text: &str) -> Result<String, String> {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if (1..=32).contains(&text.len()) && text.chars().all(is_fine) {
        Ok(text.to_string())
    } else {
        Err("not a name of a session; use up to 32 letters, digits, - and _".into())
    }
}

fn parse_memory(text: &str) -> Result<usize, String> {
    match usize::try_from(parse_bytes(text)?) {
        Ok(bytes) if bytes < 1 << 20 => Err("less than 1MiB; use more".into()),
        Ok(bytes) if bytes <= 16 << 30 => Ok(bytes),
        _ => Err("more than 16GiB; use less".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triggers_carry_their_time() {
        assert_eq!(parse_trigger("slow:50ms"), Ok(Trigger::Slow(Duration::from_millis(50))));
        assert_eq!(parse_trigger("stuck:2s"), Ok(Trigger::Stuck(Duration::from_secs(2))));
        assert_eq!(parse_trigger("signal"), Ok(Trigger::Signal));
        for text in ["", "slow", "slow:", "slow:50", "error:1s", "crash"] {
            assert!(parse_trigger(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_stay_in_their_folder() {
        assert!(parse_name("night-run_2").is_ok());
        for text in ["", ".", "..", "a/b", "a.json", &"x".repeat(33), "ä"] {
            assert!(parse_name(text).is_err(), "{text}");
        }
    }
}
