//! What a trace keeps: options that the programs in the kernel follow.

use clap::ValueEnum;
use gpuscope_model::trace::EventKind;
use gpuscope_trace::capture::settings::RingClass;
use std::time::Duration;

pub(super) const WHOSE: &str = "Whose jobs are kept (by BPF)";
const HOW_MANY: &str = "How many of these (by BPF)";

/// Of each kind of list: where something is named, all else is left out; what is named with `--not-` is left out in any case.
#[derive(clap::Args, Debug, Default, Clone, PartialEq)]
pub(crate) struct Keep {
    /// Only jobs that these processes submit
    #[arg(long, value_name = "PID", value_delimiter = ',', help_heading = WHOSE)]
    pub(crate) pid: Vec<u32>,
    /// No jobs that these processes submit
    #[arg(long, value_name = "PID", value_delimiter = ',', help_heading = WHOSE)]
    pub(crate) not_pid: Vec<u32>,
    /// Count the children of these processes, and theirs, as they are: those that are there and those to come
    #[arg(long, help_heading = WHOSE)]
    pub(crate) children: bool,
    /// Only jobs of these users, by name or number
    #[arg(long, alias = "uid", value_name = "USER", value_delimiter = ',', help_heading = WHOSE)]
    pub(crate) user: Vec<String>,
    /// No jobs of these users
    #[arg(long, alias = "not-uid", value_name = "USER", value_delimiter = ',', help_heading = WHOSE)]
    pub(crate) not_user: Vec<String>,
    /// Only jobs from this cgroup and those below it now: its path (under /sys/fs/cgroup) or number; may be repeated
    #[arg(long, value_name = "CGROUP", help_heading = WHOSE)]
    pub(crate) cgroup: Vec<String>,
    /// No jobs from this cgroup and those below it now; may be repeated
    #[arg(long, value_name = "CGROUP", help_heading = WHOSE)]
    pub(crate) not_cgroup: Vec<String>,
    /// Only jobs of threads of this name, whole, as the kernel cuts it to 15 letters; may be repeated
    #[arg(long, value_name = "NAME", help_heading = WHOSE)]
    pub(crate) comm: Vec<String>,
    /// No jobs of threads of this name; may be repeated
    #[arg(long, value_name = "NAME", help_heading = WHOSE)]
    pub(crate) not_comm: Vec<String>,
    /// Only jobs on these GPUs, named as in `gpuscope stat --gpu`
    #[arg(long, value_name = "GPU", value_delimiter = ',', help_heading = WHOSE)]
    pub(crate) gpu: Vec<String>,
    /// No jobs on these GPUs
    #[arg(long, value_name = "GPU", value_delimiter = ',', help_heading = WHOSE)]
    pub(crate) not_gpu: Vec<String>,
    /// Only jobs on these rings, of one GPU or of all
    #[arg(long, value_name = "[GPU/]RING", value_delimiter = ',', help_heading = WHOSE)]
    pub(crate) ring: Vec<String>,
    /// No jobs on these rings
    #[arg(long, value_name = "[GPU/]RING", value_delimiter = ',', help_heading = WHOSE)]
    pub(crate) not_ring: Vec<String>,
    /// Only jobs on rings of these classes, where the driver's names of rings tell them: amdgpu and xe
    #[arg(long, value_enum, value_name = "CLASS", value_delimiter = ',', help_heading = WHOSE)]
    pub(crate) class: Vec<Class>,
    /// No jobs on rings of these classes
    #[arg(long, value_enum, value_name = "CLASS", value_delimiter = ',', help_heading = WHOSE)]
    pub(crate) not_class: Vec<Class>,
    /// Only these kinds of events of the jobs
    #[arg(long, value_enum, value_name = "KIND", value_delimiter = ',', help_heading = WHOSE)]
    pub(crate) event: Vec<Kind>,
    /// No events of these kinds
    #[arg(long, value_enum, value_name = "KIND", value_delimiter = ',', help_heading = WHOSE)]
    pub(crate) not_event: Vec<Kind>,
    /// A part of the jobs, each with all its events; with RING= of the jobs on that ring
    #[arg(long, value_name = "[[GPU/]RING=]PERCENT", value_delimiter = ',', value_parser = parse_share, help_heading = HOW_MANY)]
    pub(crate) sample: Vec<Share>,
    /// Thin the jobs so that no more events come: the part follows how many there are
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = HOW_MANY)]
    pub(crate) max_events_per_second: Option<u64>,
    /// Thin the jobs so that recording takes no more time in the kernel than this part of one processor's: what BPF programs take on all
    /// processors together, some 20 ns a run for measuring it left out. Leaving jobs out takes time, too: where that alone is more, hardly
    /// any is kept, and that is told. Needs CAP_SYS_ADMIN (root), or kernel.bpf_stats_enabled=1
    #[arg(long, value_name = "PERCENT", value_parser = parse_cpu, help_heading = HOW_MANY)]
    pub(crate) max_cpu: Option<f64>,
    /// Only jobs that take at least this long from submission to end, or fail: a number with us, ms or s. They come when they have ended, so
    /// none is told as stuck; one that has not ended after 70 s is given up, and counted as lost
    #[arg(long, value_name = "TIME", value_parser = parse_time, help_heading = HOW_MANY)]
    pub(crate) slower_than: Option<Duration>,
    /// So many jobs a second, and BURST at once after a pause [BURST: a tenth of a second's]
    #[arg(long, value_name = "JOBS/s[,BURST]", value_parser = parse_rate, help_heading = HOW_MANY)]
    pub(crate) rate_limit: Option<Rate>,
    /// So many jobs in each window of this length, as in 100/250ms
    #[arg(long, value_name = "JOBS/TIME", value_parser = parse_window, conflicts_with = "rate_limit", help_heading = HOW_MANY)]
    pub(crate) window_limit: Option<Window>,
}

/// A part of the jobs, of all or of one ring.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Share {
    pub(crate) ring: Option<String>,
    pub(crate) part: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rate {
    pub(crate) jobs_per_second: f64,
    pub(crate) burst: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Window {
    pub(crate) jobs: u64,
    pub(crate) length: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Class {
    Render,
    Compute,
    Copy,
    Video,
    VideoEnhance,
}

impl From<Class> for RingClass {
    fn from(class: Class) -> RingClass {
        match class {
            Class::Render => RingClass::Render,
            Class::Compute => RingClass::Compute,
            Class::Copy => RingClass::Copy,
            Class::Video => RingClass::Video,
            Class::VideoEnhance => RingClass::VideoEnhance,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A program handed a job over
    Submit,
    /// A job waits for another one
    Dependency,
    /// A job's turn came and it had to wait
    Blocked,
    /// A job went to the hardware
    Commit,
    /// A job is done
    Complete,
    /// A job failed
    Error,
}

impl From<Kind> for EventKind {
    fn from(kind: Kind) -> EventKind {
        match kind {
            Kind::Submit => EventKind::Submit,
            Kind::Dependency => EventKind::Dependency,
            Kind::Blocked => EventKind::Blocked,
            Kind::Commit => EventKind::Commit,
            Kind::Complete => EventKind::Complete,
            Kind::Error => EventKind::Error,
        }
    }
}

/// `10%`, `gfx=50%`, `card0/gfx=0%`.
fn parse_share(text: &str) -> Result<Share, String> {
    let (ring, part) = match text.rsplit_once('=') {
        Some((ring, part)) => (Some(ring.trim().to_string()), part),
        None => (None, text),
    };
    let wrong = || "not a part; write a percentage, as in 10% or gfx=50%".to_string();
    let number = part.trim().strip_suffix('%').ok_or_else(wrong)?;
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') || ring.as_deref() == Some("") {
        return Err(wrong());
    }
    let percent: f64 = number.parse().map_err(|_| wrong())?;
    if percent > 100.0 {
        return Err("more than all; write 0% to 100%".into());
    }
    Ok(Share { ring, part: percent / 100.0 })
}

/// `1%`, `0.5%`: of one processor, as a ratio.
fn parse_cpu(text: &str) -> Result<f64, String> {
    match parse_share(text) {
        Ok(Share { ring: None, part }) if part > 0.0 => Ok(part),
        Ok(Share { ring: None, .. }) => Err("no time at all; write 0.1% or more".into()),
        _ => Err("not a part of a processor; write a percentage up to 100%, as in 1%".into()),
    }
}

/// `250us`, `5ms`, `1.5s`.
fn parse_time(text: &str) -> Result<Duration, String> {
    let time = match text.strip_suffix("us").or_else(|| text.strip_suffix("µs")) {
        Some(number) => {
            let number = number.trim_end();
            let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
            let micros: Option<f64> = number.parse().ok().filter(|_| is_number);
            let micros = micros.ok_or("not a time; write a number and us, ms or s, as in 5ms")?;
            Duration::try_from_secs_f64(micros / 1e6).map_err(|_| "too long for a time".to_string())?
        }
        None => crate::args::parse_duration(text)?,
    };
    match time.as_nanos() {
        0 => Err("no time at all; write 1us or more".into()),
        ns if ns > 86_400_000_000_000 => Err("longer than a day; use 24h or less".into()),
        _ => Ok(time),
    }
}

/// `1000/s`, `1000/s,50`.
fn parse_rate(text: &str) -> Result<Rate, String> {
    let wrong = || "not a rate; write jobs a second, as in 1000/s, or with a burst, as in 1000/s,50".to_string();
    let (rate, burst) = match text.split_once(',') {
        Some((rate, burst)) => (rate, Some(burst.trim().parse::<u64>().map_err(|_| wrong())?)),
        None => (text, None),
    };
    let number = rate.trim().strip_suffix("/s").ok_or_else(wrong)?.trim();
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(wrong());
    }
    let jobs_per_second: f64 = number.parse().map_err(|_| wrong())?;
    if !(jobs_per_second.is_finite() && jobs_per_second >= 1e-6) || burst == Some(0) {
        return Err("that lets nothing through; write a rate and a burst above zero".into());
    }
    // At least one, or no job would ever fit.
    let burst = burst.unwrap_or(((jobs_per_second / 10.0).ceil() as u64).max(1));
    Ok(Rate { jobs_per_second, burst })
}

/// `100/250ms`.
fn parse_window(text: &str) -> Result<Window, String> {
    let (jobs, length) =
        text.split_once('/').ok_or("not a window; write jobs and a time, as in 100/250ms".to_string())?;
    let jobs: u64 = jobs.trim().parse().map_err(|_| "not a number of jobs; write as in 100/250ms".to_string())?;
    if jobs == 0 || jobs >= 1 << 24 {
        return Err("a window holds from 1 to 16777215 jobs".into());
    }
    Ok(Window { jobs, length: parse_time(length.trim())? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percentages_of_all_jobs_or_of_a_ring() {
        let share = |ring: Option<&str>, part| Ok(Share { ring: ring.map(str::to_string), part });
        assert_eq!(parse_share("10%"), share(None, 0.1));
        assert_eq!(parse_share("0%"), share(None, 0.0));
        assert_eq!(parse_share("card0/gfx_0.0.0=12.5%"), share(Some("card0/gfx_0.0.0"), 0.125));
        for text in ["", "10", "%", "0.1", "101%", "-1%", "NaN%", "inf%", "=5%", "gfx=", "1e1%"] {
            assert!(parse_share(text).is_err(), "{text}");
        }
    }

    #[test]
    fn time_of_a_processor_is_a_percentage_above_zero() {
        assert_eq!(parse_cpu("1%"), Ok(0.01));
        assert_eq!(parse_cpu("0.5%"), Ok(0.005));
        for text in ["", "1", "0%", "101%", "gfx=1%", "-1%"] {
            assert!(parse_cpu(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_go_down_to_microseconds() {
        assert_eq!(parse_time("250us"), Ok(Duration::from_micros(250)));
        assert_eq!(parse_time("5ms"), Ok(Duration::from_millis(5)));
        assert_eq!(parse_time("1.5s"), Ok(Duration::from_millis(1500)));
        for text in ["", "us", "5", "0us", "0ms", "-1ms", "25h", "1e3us", "infus"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_have_a_burst_and_are_above_zero() {
        let rate = |jobs_per_second, burst| Ok(Rate { jobs_per_second, burst });
        assert_eq!(parse_rate("1000/s"), rate(1000.0, 100));
        assert_eq!(parse_rate("1000/s,50"), rate(1000.0, 50));
        assert_eq!(parse_rate("0.5/s"), rate(0.5, 1));
        for text in ["", "1000", "0/s", "0.0/s", "-5/s", "5/s,0", "5/s,", "5/s,x", "1000/m", "inf/s", "NaN/s"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn windows_have_jobs_and_a_length() {
        let window = |jobs, ms| Ok(Window { jobs, length: Duration::from_millis(ms) });
        assert_eq!(parse_window("100/250ms"), window(100, 250));
        assert_eq!(parse_window("1/2s"), window(1, 2000));
        for text in ["", "100", "100/", "0/1s", "16777216/1s", "5/0ms", "/1s"] {
            assert!(parse_window(text).is_err(), "{text}");
        }
    }
}
