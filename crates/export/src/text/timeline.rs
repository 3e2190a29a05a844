//! A stretch of a trace as lanes of characters.
//!
//! Each process has a letter and each ring a number. A ring's lane shows whose jobs it executed, a thread's to which rings it submitted:
//! so the way from one to the other can be seen in both directions.

use super::late::sentence;
use super::trace::{counted, key, time};
use super::{Style, Tone, dressed, paragraph};
use gpuscope_model::trace::{Cause, Gap, Idle, Job, JobStatus, Lane, NameId, Timeline};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Columns of the names at the left.
const LABEL: usize = 13;
/// Jobs of a ring up to which each has a line of its own.
const MOST_LINES: usize = 12;
/// Threads that have a lane.
const MOST_THREADS: usize = 12;
/// Gaps that are explained in words, the longest of a ring.
const MOST_GAPS: usize = 4;
/// Colours of processes, in turn.
const COLORS: [&str; 6] = ["36", "33", "35", "32", "34", "31"];

/// Writes a stretch.
///
/// # Errors
/// Those of the writer.
pub fn timeline(w: &mut dyn Write, of: &Timeline, style: Style) -> io::Result<()> {
    dressed(w, style, |w| write(w, of, style))
}

/// Where moments stand among the columns.
#[derive(Clone, Copy)]
struct Axis {
    from_ns: u64,
    span_ns: u64,
    columns: usize,
}

impl Axis {
    /// The column of a moment, where it lies in the stretch; of its end the last one.
    fn column(self, at_ns: u64) -> Option<usize> {
        let since = at_ns.checked_sub(self.from_ns).filter(|since| *since <= self.span_ns)?;
        let at = u128::from(since) * self.columns as u128 / u128::from(self.span_ns.max(1));
        Some(usize::try_from(at).unwrap_or(usize::MAX).min(self.columns.saturating_sub(1)))
    }

    /// Gives each column that a time covers, and how many nanoseconds of it.
    fn cover(self, from_ns: u64, to_ns: u64, mut each: impl FnMut(usize, u64)) {
        let (from_ns, to_ns) = (from_ns.max(self.from_ns), to_ns.min(self.from_ns.saturating_add(self.span_ns)));
        if from_ns >= to_ns {
            return;
        }
        let (Some(first), Some(last)) = (self.column(from_ns), self.column(to_ns)) else { return };
        for column in first..=last {
            let part = to_ns.min(self.begin(column + 1)).saturating_sub(from_ns.max(self.begin(column)));
            if part > 0 {
                each(column, part);
            }
        }
    }

    fn begin(self, column: usize) -> u64 {
        let at = u128::from(self.span_ns) * column as u128 / self.columns.max(1) as u128;
        self.from_ns.saturating_add(u64::try_from(at).unwrap_or(u64::MAX))
    }
}

/// Who submits: process, or thread where that is not known, and its name.
type Owner = (u32, NameId);

fn owner(job: &Job) -> Owner {
    (if job.pid == 0 { job.tid } else { job.pid }, job.comm)
}

/// Letters of processes, those with most jobs first.
struct Letters(Vec<(Owner, u64)>);

impl Letters {
    fn of(lanes: &[Lane]) -> Self {
        let mut counts: BTreeMap<Owner, u64> = BTreeMap::new();
        for job in lanes.iter().flat_map(|lane| &lane.jobs) {
            let n = counts.entry(owner(job)).or_default();
            *n = n.saturating_add(1);
        }
        let mut of: Vec<_> = counts.into_iter().collect();
        of.sort_by_key(|((pid, comm), n)| (std::cmp::Reverse(*n), *pid, *comm));
        Letters(of)
    }

    fn place(&self, of: Owner) -> usize {
        self.0.iter().position(|(owner, _)| *owner == of).unwrap_or(usize::MAX)
    }

    /// `a` to `z`; all others are `*`.
    fn letter(place: usize) -> char {
        u8::try_from(place).ok().filter(|place| *place < 26).map_or('*', |place| char::from(b'a' + place))
    }
}

/// A character and the process whose colour it has.
#[derive(Clone, Copy)]
struct Cell(char, Option<usize>);

const EMPTY: Cell = Cell(' ', None);

fn cells(w: &mut dyn Write, label: &str, cells: &[Cell], style: Style) -> io::Result<()> {
    let label: String = label.chars().take(LABEL - 1).collect();
    write!(w, "{label:<LABEL$}|")?;
    for Cell(sign, owner) in cells {
        let color = owner.filter(|_| style.color).and_then(|place| COLORS.get(place % COLORS.len()));
        match color {
            Some(color) => write!(w, "\x1b[{color}m{sign}\x1b[0m")?,
            None => write!(w, "{sign}")?,
        }
    }
    writeln!(w, "|")
}

fn write(w: &mut dyn Write, of: &Timeline, style: Style) -> io::Result<()> {
    let span_ns = of.to_ns.saturating_sub(of.from_ns);
    let axis = Axis { from_ns: of.from_ns, span_ns, columns: style.width.saturating_sub(LABEL + 2).max(10) };
    let since = |at_ns: u64| moment(at_ns.saturating_sub(of.origin_ns));
    let head = format!("{} to {}", since(of.from_ns), since(of.to_ns));
    let column = time(span_ns / axis.columns as u64, style);
    writeln!(w, "{}  {}, a column is {column}", style.paint(Tone::Heading, &head), time(span_ns, style))?;
    if of.lanes.is_empty() {
        return paragraph(w, style, "  ", 2, "No job of a GPU was under way.");
    }
    let letters = Letters::of(&of.lanes);
    let mut last = None;
    for (number, lane) in of.lanes.iter().enumerate() {
        let ring = of.names.get_ring(lane.ring);
        let gpu = ring.and_then(|ring| ring.gpu.as_ref()).map(|gpu| gpu.as_str());
        if last != Some(gpu) {
            let name = gpu.unwrap_or("not named by these records");
            writeln!(w, "\n{}", style.paint(Tone::Heading, &format!("GPU {name}")))?;
            last = Some(gpu);
        }
        let name = ring.map_or("", |ring| ring.name.as_str());
        draw(w, &format!("{} {name}", sign(number)), lane, of, axis, &letters, style)?;
    }
    threads(w, of, axis, style)?;
    legend(w, of, &letters, style)?;
    gaps(w, of, axis, style)?;
    if of.left_out > 0 {
        let text = format!(
            "{} jobs that ended earlier in it are not shown: give a shorter time by --from and --to",
            of.left_out
        );
        paragraph(w, style, "  ", 2, &text)?;
    }
    if of.unmatched_ends > 0 {
        let text = format!(
            "{} jobs that ended in it began before what was read, and are not shown: time in which they ran looks idle",
            of.unmatched_ends
        );
        paragraph(w, style, "  ", 2, &text)?;
    }
    Ok(())
}

/// The lanes of a ring: jobs submitted and not ended, whose job it executed, and of few jobs each.
fn draw(
    w: &mut dyn Write,
    label: &str,
    lane: &Lane,
    of: &Timeline,
    axis: Axis,
    letters: &Letters,
    style: Style,
) -> io::Result<()> {
    let mut busy: Vec<BTreeMap<usize, u64>> = vec![BTreeMap::new(); axis.columns];
    let mut running = vec![EMPTY; axis.columns];
    let mut idle = vec![0; axis.columns];
    for gap in &lane.gaps {
        axis.cover(gap.from_ns, gap.to_ns, |column, ns| {
            // Of several gaps in a column the longest is shown.
            if let (Some(cell), Some(longest)) = (running.get_mut(column), idle.get_mut(column))
                && ns > *longest
            {
                (*longest, *cell) = (ns, Cell(gap_sign(gap), None));
            }
        });
    }
    for job in &lane.jobs {
        let Some(begin) = job.start_ns.map(|(ns, _)| ns).or(job.run_ns) else { continue };
        let place = letters.place(owner(job));
        axis.cover(begin, end(job, of), |column, ns| {
            if let Some(by) = busy.get_mut(column) {
                *by.entry(place).or_default() += ns;
            }
        });
    }
    for (cell, by) in running.iter_mut().zip(&busy) {
        let all: u64 = by.values().sum();
        if let Some((place, _)) = by.iter().max_by_key(|(_, ns)| **ns) {
            let letter = Letters::letter(*place);
            // Half of the column or more.
            let is_full = all.saturating_mul(2) >= axis.span_ns / axis.columns as u64;
            *cell = Cell(if is_full { letter.to_ascii_uppercase() } else { letter }, Some(*place));
        }
    }
    let failed = lane.jobs.iter().filter(|job| matches!(job.status, JobStatus::Failed(_)));
    for column in failed.filter_map(|job| axis.column(job.done_ns?)) {
        if let Some(cell) = running.get_mut(column) {
            *cell = Cell('!', None);
        }
    }
    cells(w, label, &running, style)?;
    cells(w, "  depth", &depth(lane, of, axis), style)?;
    if lane.jobs.len() <= MOST_LINES {
        for job in &lane.jobs {
            bar(w, job, of, axis, letters, style)?;
        }
    } else if let Some(job) = lane.jobs.iter().find(|job| Some(job.key) == of.around) {
        bar(w, job, of, axis, letters, style)?;
    }
    Ok(())
}

/// Jobs submitted and not ended, the most in each column.
fn depth(lane: &Lane, of: &Timeline, axis: Axis) -> Vec<Cell> {
    let mut steps: Vec<(u64, i64)> = Vec::new();
    for job in &lane.jobs {
        if let Some(submit_ns) = job.submit_ns {
            steps.push((submit_ns, 1));
            steps.push((end(job, of), -1));
        }
    }
    steps.sort_unstable();
    let mut most = vec![0; axis.columns];
    let (mut depth, mut steps) = (0_i64, steps.into_iter().peekable());
    for (column, most) in most.iter_mut().enumerate() {
        *most = depth;
        while let Some((_, step)) = steps.next_if(|(at_ns, _)| *at_ns < axis.begin(column + 1)) {
            depth += step;
            *most = depth.max(*most);
        }
    }
    let sign = |n: &i64| match n {
        ..=0 => ' ',
        1..=9 => char::from(b'0' + *n as u8),
        10..=99 => '#',
        _ => '@',
    };
    most.iter().map(|n| Cell(sign(n), None)).collect()
}

/// One job: in the scheduler's queue, with the hardware behind others, executing.
fn bar(w: &mut dyn Write, job: &Job, of: &Timeline, axis: Axis, letters: &Letters, style: Style) -> io::Result<()> {
    let place = letters.place(owner(job));
    let mut line = vec![EMPTY; axis.columns];
    let mut fill = |from: Option<u64>, to: Option<u64>, sign: char| {
        if let (Some(from), Some(to)) = (from, to) {
            axis.cover(from, to, |column, _| {
                if let Some(cell) = line.get_mut(column) {
                    *cell = Cell(sign, Some(place));
                }
            });
        }
    };
    let done = Some(end(job, of));
    let start = job.start_ns.map(|(ns, _)| ns);
    fill(job.submit_ns, job.run_ns.or(done), '.');
    fill(job.run_ns, start.or(done), if start.is_some() { '-' } else { '~' });
    fill(start, done, '=');
    if let Some(cell) = job.submit_ns.and_then(|ns| axis.column(ns)).and_then(|column| line.get_mut(column)) {
        *cell = Cell('^', Some(place));
    }
    let mark = if Some(job.key) == of.around { '>' } else { ' ' };
    cells(w, &format!(" {mark}{} {}", Letters::letter(place), key(job.key)), &line, style)
}

/// Who submitted when, and to which ring.
fn threads(w: &mut dyn Write, of: &Timeline, axis: Axis, style: Style) -> io::Result<()> {
    let mut by_thread: BTreeMap<(u32, u32, NameId), Vec<(u64, usize)>> = BTreeMap::new();
    for (number, lane) in of.lanes.iter().enumerate() {
        for job in lane.jobs.iter().filter(|job| job.tid != 0) {
            if let Some(submit_ns) = job.submit_ns.filter(|ns| (of.from_ns..=of.to_ns).contains(ns)) {
                by_thread.entry((job.pid, job.tid, job.comm)).or_default().push((submit_ns, number));
            }
        }
    }
    if by_thread.is_empty() {
        return Ok(());
    }
    let mut threads: Vec<_> = by_thread.into_iter().collect();
    threads.sort_by_key(|(thread, submits)| (std::cmp::Reverse(submits.len()), *thread));
    writeln!(w, "\n{}", style.paint(Tone::Heading, "who submitted, to which ring"))?;
    for ((_, tid, comm), submits) in threads.iter().take(MOST_THREADS) {
        let mut line = vec![EMPTY; axis.columns];
        for within in of.ioctls.spans.iter().filter(|within| within.tid == *tid) {
            axis.cover(within.from_ns, within.to_ns, |column, _| {
                if let Some(cell) = line.get_mut(column) {
                    *cell = Cell('-', None);
                }
            });
        }
        for (at_ns, number) in submits {
            if let Some(cell) = axis.column(*at_ns).and_then(|column| line.get_mut(column)) {
                let sign = sign(*number);
                *cell = Cell(if [' ', '-', sign].contains(&cell.0) { sign } else { '+' }, None);
            }
        }
        cells(w, &format!("{} {tid}", short(of.names.get(*comm), tid.to_string().len())), &line, style)?;
    }
    if !of.ioctls.spans.is_empty() {
        paragraph(w, style, "  ", 2, "- within a DRM ioctl")?;
    }
    if of.ioctls.left_out > 0 {
        writeln!(w, "  {} DRM ioctls are not shown: too many to keep", of.ioctls.left_out)?;
    }
    let rest = threads.len().saturating_sub(MOST_THREADS);
    if rest > 0 { writeln!(w, "  and {rest} more threads") } else { Ok(()) }
}

/// As much of a name as fits beside a number.
fn short(name: &str, digits: usize) -> String {
    name.chars().take((LABEL - 2).saturating_sub(digits).max(1)).collect()
}

fn legend(w: &mut dyn Write, of: &Timeline, letters: &Letters, style: Style) -> io::Result<()> {
    let who = |(place, ((pid, comm), n)): (usize, &(Owner, u64))| {
        let name = match (of.names.get(*comm), pid) {
            ("", 0) => "not seen being submitted".to_string(),
            ("", pid) => pid.to_string(),
            (name, pid) => format!("{name} ({pid})"),
        };
        format!("{} {name}: {}", Letters::letter(place), counted(*n, "job"))
    };
    let processes: Vec<String> = letters.0.iter().take(26).enumerate().map(who).collect();
    writeln!(w)?;
    paragraph(w, style, "  ", 2, &processes.join(", "))?;
    let text = "A letter: the ring executed that process's jobs (had them, where starts are not known), a capital for half of the column or \
                more; ! a job failed. Without a job at the hardware: blank nothing was submitted, : a job waited for another or for a fence, \
                , the scheduler had not handed it over, ? not known. depth: jobs submitted and not ended, at most; # 10 and more, @ 100 and \
                more. + several rings.";
    paragraph(w, style, "  ", 2, text)?;
    if of
        .lanes
        .iter()
        .any(|lane| lane.jobs.len() <= MOST_LINES || lane.jobs.iter().any(|job| Some(job.key) == of.around))
    {
        let text = "Of a job: ^ submitted, . queued, - with the hardware behind others, = executing, ~ in flight.";
        paragraph(w, style, "  ", 2, text)?;
    }
    Ok(())
}

/// The longest times without a job at the hardware, in words.
fn gaps(w: &mut dyn Write, of: &Timeline, axis: Axis, style: Style) -> io::Result<()> {
    let least_ns = axis.span_ns / axis.columns as u64;
    let mut has_head = false;
    for lane in &of.lanes {
        let mut longest: Vec<&Gap> =
            lane.gaps.iter().filter(|gap| length(gap) >= least_ns && gap.why != Idle::NothingSubmitted).collect();
        longest.sort_by_key(|gap| (std::cmp::Reverse(length(gap)), gap.from_ns));
        let more = longest.len().saturating_sub(MOST_GAPS);
        longest.truncate(MOST_GAPS);
        longest.sort_by_key(|gap| gap.from_ns);
        if longest.is_empty() {
            continue;
        }
        if !has_head {
            writeln!(
                w,
                "\n{}",
                style.paint(Tone::Heading, "why rings with jobs in their queue had none at the hardware")
            )?;
            has_head = true;
        }
        let name = of.names.get_ring(lane.ring).map_or("", |ring| ring.name.as_str());
        for gap in longest {
            let why = match gap.why {
                Idle::Waiting(link) => format!("the next job {}", sentence(&link, &of.names)),
                Idle::NothingSubmitted => "nothing was submitted".into(),
                Idle::NotKnown => "not known".into(),
            };
            let at = moment(gap.from_ns.saturating_sub(of.origin_ns));
            paragraph(w, style, "  ", 4, &format!("{name} at {at}, {}: {why}", time(length(gap), style)))?;
        }
        if more > 0 {
            writeln!(w, "  {name}: and {more} shorter ones")?;
        }
    }
    Ok(())
}

fn length(gap: &Gap) -> u64 {
    gap.to_ns.saturating_sub(gap.from_ns)
}

fn gap_sign(gap: &Gap) -> char {
    match gap.why {
        Idle::NothingSubmitted => ' ',
        Idle::Waiting(link) if matches!(link.cause, Cause::Dispatch | Cause::WorkerWaited) => ',',
        Idle::Waiting(link) if matches!(link.cause, Cause::NotRecorded | Cause::Earlier) => '?',
        Idle::Waiting(_) => ':',
        Idle::NotKnown => '?',
    }
}

/// Until when a job is drawn.
fn end(job: &Job, of: &Timeline) -> u64 {
    let begun_ns = job.run_ns.or(job.submit_ns).unwrap_or(of.from_ns);
    // Of one whose end was lost nothing is known behind its hand-over.
    job.done_ns.unwrap_or(if job.status == JobStatus::InFlight { of.to_ns.max(begun_ns) } else { begun_ns })
}

/// A ring's number: `1` to `9`, then capitals.
fn sign(number: usize) -> char {
    let letters = |at: u8| char::from(b'A' + at);
    match u8::try_from(number) {
        Ok(n @ 0..9) => char::from(b'1' + n),
        Ok(n @ 9..35) => letters(n - 9),
        _ => '*',
    }
}

/// A moment of the trace, to be given to `--from` again: seconds with six digits.
fn moment(ns: u64) -> String {
    format!("{}.{:06}s", ns / 1_000_000_000, ns / 1_000 % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_share_the_time() {
        let axis = Axis { from_ns: 1_000, span_ns: 100, columns: 7 };
        let mut ns = vec![0; 7];
        axis.cover(0, 5_000, |column, part| ns[column] += part);
        assert_eq!(ns.iter().sum::<u64>(), 100);
        assert!(ns.iter().all(|ns| (14..=15).contains(ns)), "{ns:?}");
        assert_eq!(
            (axis.column(999), axis.column(1_000), axis.column(1_100), axis.column(1_101)),
            (None, Some(0), Some(6), None)
        );
        let longest = Axis { from_ns: 0, span_ns: u64::MAX, columns: 65 };
        assert_eq!(longest.column(u64::MAX), Some(64));
        let none = Axis { from_ns: 5, span_ns: 0, columns: 65 };
        assert_eq!(none.column(5), Some(0));
        none.cover(5, 5, |_, _| panic!("nothing is covered"));
    }

    #[test]
    fn moments_are_what_from_takes() {
        assert_eq!(moment(1_234_567_890), "1.234567s");
    }
}
