//! What the command line may say.

mod live;
mod session;
mod trace;

pub(crate) use live::Live;
pub(crate) use session::{Change, Named, Save, Start, Status, Trigger};
pub(crate) use trace::{
    Backend, Compare, Export, ExportFormat, Keep, KeepClass, KeepKind, KeepShare, Merge, Record, Report, Timeline,
    Totals, Trace, Which,
};

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// See what the GPUs of this machine are doing, and be told when a number cannot be known
///
/// Without a command: samples as text on a terminal, the list of GPUs elsewhere. Exit status: 0 done, 1 failed, 2 wrong usage.
#[derive(Parser, Debug)]
#[command(name = "gpuscope", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// List the GPUs: id, name, driver, nodes, PMU, GTs and engines, power state
    List,
    /// Tell for every source of numbers whether it works, or why not and the remedy
    Doctor,
    /// Sample the GPUs: engines, frequency, power, idle residency, temperature, fans, memory
    Stat(Stat),
    /// Show who uses the GPUs: processes, their engine time and memory, user and container, and who keeps an idle GPU awake
    Procs(Procs),
    /// Trace what happens to the GPUs' jobs: who submitted them, how long they queued and ran
    #[command(subcommand)]
    Trace(Trace),
    /// Write the completions of a shell to stdout
    #[command(hide = true)]
    Completions { shell: clap_complete::Shell },
    /// Write the man pages into a folder
    #[command(hide = true)]
    Man { dir: PathBuf },
}

#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Common options")]
pub(crate) struct Common {
    /// Read DIR/proc, DIR/sys and DIR/dev in place of this machine's: a captured machine
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// Form of the output; csv with stat and procs only
    #[arg(long, global = true, value_enum, value_name = "FORMAT", conflicts_with = "json")]
    format: Option<Format>,
    /// Short for --format json: one object a line
    #[arg(long, global = true)]
    json: bool,
    /// Time between samples: a number with ms, s, m or h; at least 10ms [default: 1s]
    #[arg(long, global = true, value_name = "DURATION", value_parser = parse_interval)]
    interval: Option<Duration>,
}

#[derive(clap::Args, Debug, Default)]
pub(crate) struct Stat {
    /// End after N samples; each covers one interval
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Only this GPU: PCI address (03:00.0), card0, renderD128, a path in /dev/dri, or its place in `gpuscope list` from 0; may be repeated
    #[arg(long, value_name = "ID")]
    pub(crate) gpu: Vec<String>,
    /// Show who uses the GPUs as well
    #[arg(long)]
    pub(crate) processes: bool,
    /// i915: time engines wait for events. Side effect: the kernel samples the GPU 200 times a second while it is awake
    #[arg(long)]
    pub(crate) wait: bool,
    /// i915: time engines wait for semaphores. Side effect: the kernel samples the GPU 200 times a second while it is awake
    #[arg(long)]
    pub(crate) sema: bool,
    /// i915: frequencies averaged over the interval. Side effect: the kernel samples the GPU 200 times a second while it is awake
    #[arg(long)]
    pub(crate) pmu_frequency: bool,
    /// xe: engines one by one, from the PMU. Side effect: the GPU stays awake and its GTs out of C6 while gpuscope runs
    #[arg(long)]
    pub(crate) perturbing: bool,
}

#[derive(clap::Args, Debug, Default)]
pub(crate) struct Procs {
    /// Show a snapshot an interval until stopped, in place of one
    #[arg(long, conflicts_with = "count")]
    pub(crate) stream: bool,
    /// End after N snapshots [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Order [default: busy as text; GPU, process and client as json and csv]
    #[arg(long, value_enum, value_name = "KEY")]
    pub(crate) sort: Option<SortKey>,
    /// Only clients that this process holds; may be repeated
    #[arg(long, value_name = "PID")]
    pub(crate) pid: Vec<u32>,
    /// Only clients of this user's processes, by name or number; may be repeated
    #[arg(long, value_name = "USER")]
    pub(crate) user: Vec<String>,
    /// Only clients of processes whose container or cgroup contains TEXT; may be repeated
    #[arg(long, value_name = "TEXT")]
    pub(crate) container: Vec<String>,
    /// Only this GPU: PCI address (03:00.0), card0, renderD128, a path in /dev/dri, or its place in `gpuscope list` from 0; may be repeated
    #[arg(long, value_name = "ID")]
    pub(crate) gpu: Vec<String>,
    /// Add up the clients of each container, or cgroup where there is no container
    #[arg(long)]
    pub(crate) by_container: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SortKey {
    /// The busiest engine class first
    Busy,
    /// The most resident memory first
    Memory,
    /// The most processor time first
    Cpu,
    /// The lowest process number first
    Pid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// One JSON object a line
    Json,
    /// One row a value
    Csv,
}

impl Common {
    pub(crate) fn format(&self) -> Format {
        if self.json { Format::Json } else { self.format.unwrap_or(Format::Text) }
    }

    pub(crate) fn interval(&self) -> Duration {
        self.interval.unwrap_or(Duration::from_secs(1))
    }
}

impl Cli {
    /// Checks what the definitions cannot say.
    pub(crate) fn checked(self) -> Result<Self, clap::Error> {
        let command = match self.command {
            Some(Command::List) => "list",
            Some(Command::Doctor) => "doctor",
            Some(Command::Trace(Trace::Report(_))) => "trace report",
            Some(Command::Trace(Trace::Live(_))) => "trace live",
            Some(Command::Trace(Trace::Status(_))) => "trace status",
            Some(Command::Trace(Trace::Save(_))) => "trace save",
            Some(Command::Trace(Trace::Stop(_))) => "trace stop",
            _ => return Ok(self),
        };
        if self.common.format() == Format::Csv {
            let text = format!("`{command}` has no csv form: use --format text or --format json");
            return Err(Cli::command().error(ErrorKind::InvalidValue, text));
        }
        Ok(self)
    }
}

/// Shorter than this, the readings themselves take a notable part of the interval.
const SHORTEST: Duration = Duration::from_millis(10);
/// Counters that the driver only extends when they are read (hwmon energy) need a reading more often than this anyway.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval < SHORTEST {
        return Err("shorter than 10ms: reading would take a notable part of it; use 10ms or more".into());
    }
    if interval > LONGEST {
        return Err("longer than a day; use 24h or less".into());
    }
    Ok(interval)
}

/// A decimal number and its unit: `500ms`, `1.5s`, `2m`, `1h`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit.trim_start() {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "" if !number.is_empty() => return Err(format!("the unit is missing; write {number}ms or {number}s")),
        _ => return Err("not a duration; write a number and ms, s, m or h, as in 500ms".into()),
    };
    let number: f64 = number.parse().map_err(|_| "not a duration; write a number and ms, s, m or h, as in 500ms")?;
    Duration::try_from_secs_f64(number * unit).map_err(|_| "too long for a duration".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_carry_their_unit() {
        for (text, ms) in
            [("500ms", 500), ("1s", 1000), ("0.5s", 500), ("1.5 s", 1500), ("2m", 120_000), ("1h", 3_600_000)]
        {
            assert_eq!(parse_interval(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "1", "1.2.3s", "-1s", "1 day", "1e3s", "infs", "9".repeat(400).as_str(), "25h"] {
            assert!(parse_interval(text).is_err(), "{text}");
        }
        assert!(parse_interval("500").unwrap_err().contains("500ms"));
    }

    #[test]
    fn intervals_that_cannot_be_kept_are_refused() {
        for text in ["0s", "0ms", "9ms", "0.001s"] {
            assert!(parse_interval(text).unwrap_err().contains("10ms"), "{text}");
        }
    }

    #[test]
    fn options_stand_before_or_after_the_command() {
        for line in [["gpuscope", "--json", "list"], ["gpuscope", "list", "--json"]] {
            assert_eq!(Cli::try_parse_from(line).unwrap().common.format(), Format::Json);
        }
        assert!(Cli::try_parse_from(["gpuscope", "list", "--format", "csv"]).and_then(Cli::checked).is_err());
        assert!(Cli::try_parse_from(["gpuscope", "stat", "--json", "--format", "csv"]).is_err());
        assert!(Cli::try_parse_from(["gpuscope", "stat", "--count", "0"]).is_err());
    }
}
