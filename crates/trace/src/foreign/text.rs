//! Text of tracefs (`trace`, `trace_pipe`) and of `trace-cmd report`, for the events of the DRM scheduler.
//!
//! A line is `COMM-TID [CPU] FLAGS SECONDS: EVENT: WORDS`, with the process in parentheses behind the thread where `record-tgid` was on, and
//! with an instance's name before it all where trace-cmd read several (`trace_print_context`, kernel/trace/trace_output.c). What the words
//! are stands in drivers/gpu/drm/scheduler/gpu_scheduler_trace.h.
//!
//! Text says less than records do: times of tracefs end at the microsecond, which clock they are on does not stand there, and pointers are
//! hashed, which is as good for telling jobs apart.

use crate::decode::Numbered;
use crate::families::{self, Key};
use gpuscope_model::trace::{Event, EventKind, JobKey, TraceNames};
use std::io::{self, BufRead, Read};

/// No line is longer: `trace_seq` has 8 KiB (a page before 6.8).
const LONGEST: u64 = 1 << 16;

/// A reader of lines.
#[derive(Debug, Default)]
pub struct TextTrace {
    names: TraceNames,
    numbered: Numbered,
    passed_over: u64,
    unreadable: u64,
    lost: u64,
    uncounted_gaps: u64,
}

/// What a line says before the event's own words.
struct Line<'a> {
    comm: &'a str,
    tid: u32,
    pid: u32,
    cpu: u16,
    at_ns: u64,
    event: &'a str,
    words: &'a str,
}

impl TextTrace {
    /// A reader that has read nothing.
    pub fn new() -> Self {
        TextTrace::default()
    }

    /// Reads all lines of a text, whatever their length.
    ///
    /// # Errors
    /// Those of reading.
    pub fn read(&mut self, mut text: impl BufRead, mut each: impl FnMut(Event)) -> io::Result<()> {
        let mut line = Vec::new();
        loop {
            line.clear();
            if text.by_ref().take(LONGEST).read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            if let Some(event) = self.line(&String::from_utf8_lossy(&line)) {
                each(event);
            }
        }
    }

    /// The event of a line. None for headings, for events of other families, and for lines that cannot be read, which are counted.
    pub fn line(&mut self, line: &str) -> Option<Event> {
        let line = line.trim_end();
        match lost(line) {
            Some(Some(lost)) => self.lost = self.lost.saturating_add(lost),
            Some(None) => self.uncounted_gaps = self.uncounted_gaps.saturating_add(1),
            None => {}
        }
        if line.is_empty() || line.starts_with('#') || line.starts_with("cpus=") || line.starts_with("CPU:") {
            return None;
        }
        let Some(parsed) = Line::parse(line) else {
            self.unreadable = self.unreadable.saturating_add(1);
            return None;
        };
        if families::find("gpu_scheduler", parsed.event).is_none() {
            self.passed_over = self.passed_over.saturating_add(1);
            return None;
        }
        let event = self.event(&parsed);
        if event.is_none() {
            self.unreadable = self.unreadable.saturating_add(1);
        }
        event
    }

    /// The names that events refer to.
    pub fn names(&self) -> &TraceNames {
        &self.names
    }

    /// Lines of events that are not the scheduler's.
    pub fn passed_over(&self) -> u64 {
        self.passed_over
    }

    /// Lines that could not be read.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// Events that the text says were lost.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Places where it says that some were lost, and not how many.
    pub fn uncounted_gaps(&self) -> u64 {
        self.uncounted_gaps
    }

    fn event(&mut self, line: &Line<'_>) -> Option<Event> {
        let (family, spec) = families::find("gpu_scheduler", line.event)?;
        let words = line.words;
        let ring = value(words, "ring=").map(|ring| self.names.ring(value(words, "dev="), ring));
        let number = |name| value(words, name)?.parse::<u64>().ok();
        let key = match spec.key {
            Key::None => None,
            Key::Fence(..) => Some(fence(value(words, "fence=")?)?),
            Key::Address(_, in_ring) => {
                let address = pointer(value(words, "fence=")?)?;
                match in_ring {
                    Some(_) => self.numbered.keep(ring?, number("id=")?, address),
                    None if spec.kind == EventKind::Complete => self.numbered.forget(address),
                    None => {}
                }
                Some(JobKey::Address(address))
            }
            // No family but the scheduler's is read from text.
            Key::ShortFence(..) | Key::Counted(..) => None,
            Key::NumberInRing(_) => self.numbered.address(ring?, number("id=")?).map(JobKey::Address),
        };
        let other = match spec.other {
            None => None,
            // 32 bits of the seqno are in these records on old kernels.
            Some(_) if matches!(spec.key, Key::NumberInRing(_)) => {
                Some(JobKey::FenceLow { context: number("context=")? as u32, seqno: number("seq=")? as u32 })
            }
            Some(_) => Some(fence(words.rsplit_once("fence=")?.1)?),
        };
        Some(Event {
            at_ns: line.at_ns,
            kind: spec.kind,
            family,
            cpu: line.cpu,
            tid: line.tid,
            pid: line.pid,
            comm: self.names.text(line.comm),
            ring,
            key,
            other,
            client: number("client_id:"),
            value: number("job count:").map(u64::cast_signed),
        })
    }
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Line<'a>> {
        // Names may have brackets: the first ones with a number in them and an event behind them count.
        line.match_indices(" [").find_map(|(at, _)| {
            let (task, rest) = line.split_at_checked(at)?;
            let (cpu, rest) = rest.get(2..)?.split_once(']')?;
            let cpu = cpu.trim().parse().ok()?;
            let rest = rest.trim_start();
            let (flags_or_time, behind) = rest.split_once(char::is_whitespace)?;
            let (at_ns, behind) = match time(flags_or_time) {
                Some(at_ns) => (at_ns, behind),
                None => {
                    let (stamp, behind) = behind.trim_start().split_once(char::is_whitespace)?;
                    (time(stamp)?, behind)
                }
            };
            let (event, words) = behind.trim_start().split_once(':')?;
            let (comm, tid, pid) = task_of(task)?;
            Some(Line { comm, tid, pid, cpu, at_ns, event, words: words.trim() })
        })
    }
}

/// `COMM-TID`, or `COMM-TID (TGID)`, perhaps with an instance's name and a colon before it. Names of threads are moved to the right, so
/// that what begins a line is none.
fn task_of(task: &str) -> Option<(&str, u32, u32)> {
    let task = match task.split_once(char::is_whitespace) {
        Some((instance, rest)) if instance.ends_with(':') => rest,
        _ => task,
    };
    let mut task = task.trim();
    let mut pid = 0;
    if let Some((before, process)) = task.strip_suffix(')').and_then(|task| task.rsplit_once('(')) {
        // `-------` where it is not known.
        pid = process.trim().parse().unwrap_or(0);
        task = before.trim_end();
    }
    let (comm, tid) = task.rsplit_once('-')?;
    Some((comm, tid.parse().ok()?, pid))
}

/// `SECONDS.FRACTION:`, in nanoseconds.
fn time(stamp: &str) -> Option<u64> {
    let (seconds, fraction) = stamp.strip_suffix(':')?.split_once('.')?;
    let digits = u32::try_from(fraction.len()).ok().filter(|digits| (1..=9).contains(digits))?;
    let scale = 10_u64.checked_pow(9_u32.checked_sub(digits)?)?;
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(fraction) || !is_number(seconds) {
        return None;
    }
    let nanoseconds = fraction.parse::<u64>().ok()?.checked_mul(scale)?;
    seconds.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

/// What stands behind a name, up to the next comma or blank. `job count:` is the end of `hw job count:`, too, which comes after it.
fn value<'a>(words: &'a str, name: &str) -> Option<&'a str> {
    let at = words.match_indices(name).map(|(at, _)| at).find(|at| {
        let before = words.get(..*at).and_then(|before| before.chars().next_back());
        before.is_none_or(|letter| letter == ' ' || letter == ',')
    })?;
    let rest = words.get(at..)?.strip_prefix(name)?;
    rest.split([',', ' ']).next()
}

/// `CONTEXT:SEQNO`.
fn fence(text: &str) -> Option<JobKey> {
    let (context, seqno) = text.split_once(':')?;
    Some(JobKey::Fence { context: context.parse().ok()?, seqno: seqno.parse().ok()? })
}

/// `%p`: hexadecimal, with `0x` before it from trace-cmd.
fn pointer(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
}

/// Events lost: `CPU:1 [LOST 23 EVENTS]` of tracefs, `CPU:1 [23 EVENTS DROPPED]` of trace-cmd, either perhaps without the number, and what
/// was overwritten before `# entries-in-buffer/entries-written: 57/80`. None for a line that says nothing of that.
fn lost(line: &str) -> Option<Option<u64>> {
    if let Some(rest) = line.strip_prefix("# entries-in-buffer/entries-written:") {
        let (there, written) = rest.split_whitespace().next()?.split_once('/')?;
        return Some(written.parse::<u64>().ok()?.checked_sub(there.parse().ok()?));
    }
    let (_, rest) = line.strip_prefix("CPU:")?.split_once(" [")?;
    let words = rest.strip_suffix(']')?;
    let count = words.strip_suffix("EVENTS DROPPED").or_else(|| words.strip_prefix("LOST ")?.strip_suffix("EVENTS"))?;
    match count.trim() {
        "" => Some(None),
        count => Some(Some(count.parse().ok()?)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn one(line: &str) -> (Event, TextTrace) {
        let mut text = TextTrace::new();
        let event = text.line(line).unwrap_or_else(|| panic!("{line}: {text:?}"));
        (event, text)
    }

    #[test]
    fn names_with_brackets_dashes_and_blanks() {
        let (event, text) =
            one("  a [1] b-c (x)-12    (     11) [003] d.h2.     1.5: drm_sched_job_done: fence=7:8 signaled");
        assert_eq!((event.tid, event.pid, event.cpu, event.at_ns), (12, 11, 3, 1_500_000_000));
        assert_eq!(text.names().get(event.comm), "a [1] b-c (x)");
        assert_eq!(event.key, Some(JobKey::Fence { context: 7, seqno: 8 }));
        let (event, text) =
            one("side:     kworker/u8:1-15    [001]    20.991093376: drm_sched_job_done:   fence=62:1 signaled");
        assert_eq!((text.names().get(event.comm), event.tid, event.at_ns), ("kworker/u8:1", 15, 20_991_093_376));
    }

    /// The words are those of gpu_scheduler_trace.h.
    #[test]
    fn dependencies_of_both_generations() {
        let (event, _) = one(" a-1 [000] ..... 1.000001: drm_sched_job_add_dep: fence=1:2 depends on fence=3:4");
        assert_eq!(event.key, Some(JobKey::Fence { context: 1, seqno: 2 }));
        assert_eq!(event.other, Some(JobKey::Fence { context: 3, seqno: 4 }));
        let line = " a-1 [000] ..... 1.000001: drm_sched_job_unschedulable: fence=1:2 depends on unsignalled fence=5:6";
        assert_eq!(one(line).0.other, Some(JobKey::Fence { context: 5, seqno: 6 }));

        let mut text = TextTrace::new();
        let job = "entity=00000000deadbeef, id=9, fence=0000000012345678, ring=gfx, job count:3, hw job count:5";
        let submit = text.line(&format!(" a-1 [000] ..... 1.000001: drm_sched_job: {job}")).unwrap();
        assert_eq!((submit.key, submit.value), (Some(JobKey::Address(0x1234_5678)), Some(3)));
        let line = " a-1 [000] ..... 1.000002: drm_sched_job_wait_dep: job ring=gfx, id=9, depends fence=0000000000000001, context=11, seq=12";
        let blocked = text.line(line).unwrap();
        assert_eq!((blocked.kind, blocked.key), (EventKind::Blocked, submit.key));
        assert_eq!(blocked.other, Some(JobKey::FenceLow { context: 11, seqno: 12 }));
        assert!(
            text.line(" a-1 [000] d.h2. 1.000003: drm_sched_process_job: fence=0000000012345678 signaled").is_some()
        );
        // Its address is free for another job.
        assert_eq!(text.line(line).unwrap().key, None);
    }

    #[test]
    fn what_is_lost_passed_over_or_unreadable_is_counted() {
        let mut text = TextTrace::new();
        let lines = "# tracer: nop\n# entries-in-buffer/entries-written: 57/80   #P:2\ncpus=2\n\nCPU:1 [LOST 20 EVENTS]\n\
                     CPU:0 [7 EVENTS DROPPED]\nCPU:0 [EVENTS DROPPED]\nCPU:1 [LOST EVENTS]\n a-1 [000] ..... 1.000001: sched_wakeup: comm=b\nnonsense\n\
                     a-1 [000] ..... 1.000001: drm_sched_job_done: fence=x signaled\n\
                     a-1 [000] ..... 1.0000000001: drm_sched_job_done: fence=1:1 signaled\n";
        let mut events = 0;
        text.read(lines.as_bytes(), |_| events += 1).unwrap();
        assert_eq!((events, text.lost(), text.passed_over(), text.unreadable()), (0, 50, 1, 3));
        assert_eq!(text.uncounted_gaps(), 2);
    }
}
