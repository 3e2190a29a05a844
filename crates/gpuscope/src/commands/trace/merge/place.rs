//! Which machine each trace is of, and what is to be added to its times.

use super::survey::Surveyed;
use anyhow::bail;
use gpuscope_trace::merge::{Agreement, Doubt};

/// Machines, or boots of one, that a recording can be made of: fence contexts have 32 bits in the shortest records.
const MOST_MACHINES: usize = 4;

/// By how much common events may contradict without a word, at least: an emulated processor is held up between two recorders.
const TOLERANCE_NS: u64 = 1_000_000;

/// How an offset is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Its clock is the one that is kept.
    Reference,
    /// The user said it.
    Given,
    /// It is on the clock that is kept.
    SameClock,
    /// Events in common say it.
    Estimated,
    /// It is of another boot or machine: both tell the time of day.
    TimeOfDay,
}

impl How {
    pub(super) fn name(self) -> &'static str {
        match self {
            How::Reference => "reference",
            How::Given => "given",
            How::SameClock => "same_clock",
            How::Estimated => "estimated",
            How::TimeOfDay => "time_of_day",
        }
    }
}

/// Where a trace stands among the others.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) offset_ns: i64,
    pub(super) how: How,
    pub(super) machine: usize,
    /// What the events that it has in common with another trace say, and which one that is.
    pub(super) agreement: Option<(Agreement, usize)>,
    /// What is to be said of it.
    pub(super) warning: Option<String>,
}

/// Where all traces stand.
pub(super) struct Places {
    /// The trace whose clock is kept.
    pub(super) reference: usize,
    pub(super) of: Vec<Place>,
    /// Names of the machines or boots.
    pub(super) machines: Vec<String>,
}

/// Puts all traces on one clock.
pub(super) fn place(traces: &[Surveyed], given: &[Option<i64>]) -> anyhow::Result<Places> {
    let reference = traces.iter().position(|of| of.origin.is_monotonic).unwrap_or(0);
    let boots = Boots::of(traces, reference)?;
    let mut placed: Vec<Option<Place>> = traces.iter().map(|_| None).collect();
    let given = |at: usize| given.get(at).copied().flatten();
    let put = |placed: &mut Vec<Option<Place>>, at: usize, place: Place| {
        if let Some(of) = placed.get_mut(at) {
            *of = Some(place);
        }
    };
    let simple = |at: usize, offset_ns, how| Place {
        offset_ns,
        how,
        machine: boots.machine(at),
        agreement: None,
        warning: None,
    };
    let first = match given(reference) {
        Some(offset_ns) => simple(reference, offset_ns, How::Given),
        None => simple(reference, 0, How::Reference),
    };
    if let Some(trace) = traces.get(reference) {
        stays_on_the_clock(trace, &first)?;
    }
    put(&mut placed, reference, first);
    // One that has events in common with a trace that is not placed yet waits for that one.
    while placed.iter().any(Option::is_none) {
        let mut is_any = false;
        for (at, trace) in traces.iter().enumerate() {
            if placed.get(at).is_none_or(Option::is_some) {
                continue;
            }
            let found = match boots.machine(at) {
                0 => on_this_machine(traces, at, given(at), &placed, &simple),
                _ => Some(from_elsewhere(traces, reference, at, given(at), &placed, &boots)?),
            };
            let Some(found) = found else { continue };
            stays_on_the_clock(trace, &found)?;
            put(&mut placed, at, found);
            is_any = true;
        }
        if !is_any && let Some(at) = placed.iter().position(Option::is_none) {
            bail!("{}", refusal(traces, at, &placed));
        }
    }
    Ok(Places { reference, of: placed.into_iter().flatten().collect(), machines: boots.names })
}

/// Refuses what would have times that no clock tells.
fn stays_on_the_clock(trace: &Surveyed, place: &Place) -> anyhow::Result<()> {
    let Some((from_ns, to_ns)) = trace.span else { return Ok(()) };
    let what = match (from_ns.checked_add_signed(place.offset_ns), to_ns.checked_add_signed(place.offset_ns)) {
        (Some(_), Some(_)) => return Ok(()),
        (None, _) if place.offset_ns < 0 => "before the clock begins",
        _ => "behind the last that a clock tells",
    };
    let (path, label) = (trace.path.display(), &trace.label);
    let remedy = match place.how {
        How::TimeOfDay => "name it first, so that its clock is kept, or give another",
        _ => "give another",
    };
    let offset = signed(place.offset_ns);
    bail!("{path}: an offset of {offset} puts its times {what}; {remedy} with --clock-offset {label}=TIME")
}

/// A trace of the machine whose clock is kept. None where it cannot be placed yet.
fn on_this_machine(
    traces: &[Surveyed],
    at: usize,
    given: Option<i64>,
    placed: &[Option<Place>],
    simple: &impl Fn(usize, i64, How) -> Place,
) -> Option<Place> {
    let trace = traces.get(at)?;
    let agreement = agree(traces, at, placed);
    let sure = agreement.filter(|(found, _)| found.is_sure());
    let is_off = |found: &Agreement, from: i64| {
        found.offset_ns.abs_diff(from) > TOLERANCE_NS.max(found.spread_ns.saturating_mul(2))
    };
    let tell = |found: &Agreement, with: usize| {
        let of = traces.get(with).map_or("", |of| of.label.as_str());
        format!("{} events that stand in {of}, too, say {}", found.agreeing, signed(found.offset_ns))
    };
    if let Some(offset_ns) = given {
        let warning = sure.filter(|(found, _)| is_off(found, offset_ns)).map(|(found, with)| {
            format!("the offset {} that was given is kept, and {}", signed(offset_ns), tell(&found, with))
        });
        return Some(Place { agreement, warning, ..simple(at, offset_ns, How::Given) });
    }
    if !trace.origin.is_monotonic {
        let (found, _) = sure?;
        return Some(Place { agreement, ..simple(at, found.offset_ns, How::Estimated) });
    }
    // CLOCK_MONOTONIC of one boot is one clock, whatever events say: what is off there is the events' times, or what was taken to be common.
    if let Some(offset_ns) = same_boot(traces, at, placed) {
        let warning = sure.filter(|(found, _)| is_off(found, offset_ns)).map(|(found, with)| {
            let (told, label) = (tell(&found, with), &trace.label);
            let kept = if offset_ns == 0 { "nothing".to_string() } else { signed(offset_ns) };
            format!(
                "it is on the same clock of the same boot, so that {kept} is added, but {told}; if one of the two was moved, give the \
                 offset with --clock-offset {label}=TIME"
            )
        });
        return Some(Place { agreement, warning, ..simple(at, offset_ns, How::SameClock) });
    }
    Some(match sure {
        Some((found, with)) if is_off(&found, 0) => {
            let told = tell(&found, with);
            let warning =
                format!("it says that it is on the same clock, and not of which boot, and {told}: that is taken");
            Place { agreement, warning: Some(warning), ..simple(at, found.offset_ns, How::Estimated) }
        }
        _ => Place { agreement, ..simple(at, 0, How::SameClock) },
    })
}

/// What is to be added to the times of a trace on CLOCK_MONOTONIC because it is to those of another one of the same boot. What was given
/// for one file is that file's alone.
fn same_boot(traces: &[Surveyed], at: usize, placed: &[Option<Place>]) -> Option<i64> {
    let boot = traces.get(at)?.origin.boot_id.as_ref()?;
    let is_of_it = |of: &Surveyed| of.origin.is_monotonic && of.origin.boot_id.as_ref() == Some(boot);
    let others = || traces.iter().zip(placed).filter(|(of, _)| is_of_it(of)).filter_map(|(_, place)| place.as_ref());
    let not_given = others().find(|place| place.how != How::Given).map(|place| place.offset_ns);
    not_given.or_else(|| others().next().map(|_| 0))
}

/// A trace of another boot or machine: nothing that happened is in both.
fn from_elsewhere(
    traces: &[Surveyed],
    reference: usize,
    at: usize,
    given: Option<i64>,
    placed: &[Option<Place>],
    boots: &Boots,
) -> anyhow::Result<Place> {
    let machine = boots.machine(at);
    let place = |offset_ns, how, warning| Place { offset_ns, how, machine, agreement: None, warning };
    if let Some(offset_ns) = given {
        return Ok(place(offset_ns, How::Given, None));
    }
    let Some(trace) = traces.get(at) else { bail!("no such trace") };
    let beside = traces.iter().zip(placed).filter_map(|(of, place)| Some((of, place.as_ref()?)));
    let mut beside = beside.filter(|(of, place)| place.machine == machine && of.origin.is_monotonic);
    if let Some((_, beside)) = beside.next().filter(|_| trace.origin.is_monotonic) {
        return Ok(place(beside.offset_ns, How::SameClock, None));
    }
    let begins = |of: &Surveyed| {
        of.started.filter(|_| of.origin.is_monotonic).map(|(own, day)| i128::from(day) - i128::from(own))
    };
    // Any trace on the clock that is kept will do.
    let here = traces.iter().enumerate().find_map(|(of, trace)| {
        let is_on_it = |place: &&Place| place.machine == 0 && (of == reference || place.how == How::SameClock);
        let place = placed.get(of)?.as_ref().filter(is_on_it)?;
        Some(begins(trace)? - i128::from(place.offset_ns))
    });
    let offset_ns = begins(trace).zip(here).and_then(|(there, here)| i64::try_from(there - here).ok());
    let name = boots.names.get(machine).map_or("another machine", String::as_str);
    let Some(offset_ns) = offset_ns else {
        bail!(
            "{}: it is of another boot or machine ({name}), and the two do not tell the time of day; give its offset with --clock-offset {}=TIME",
            trace.path.display(),
            trace.label
        );
    };
    let warning = format!(
        "it is of another boot or machine ({name}): placed by the time of day, as exactly as both clocks were set"
    );
    Ok(place(offset_ns, How::TimeOfDay, Some(warning)))
}

/// What the events say that a trace has in common with one that is placed: of the one with which most agree.
fn agree(traces: &[Surveyed], at: usize, placed: &[Option<Place>]) -> Option<(Agreement, usize)> {
    let trace = traces.get(at)?;
    let others = traces.iter().zip(placed).enumerate().filter_map(|(with, (other, place))| {
        let place = place.as_ref().filter(|place| place.machine == 0)?;
        let found = trace.landmarks.offset_to(&other.landmarks)?;
        Some((found.moved(place.offset_ns), with))
    });
    others.max_by_key(|(found, with)| (found.is_sure(), found.agreeing, std::cmp::Reverse(*with)))
}

/// Why a trace cannot be placed, and what can be done.
fn refusal(traces: &[Surveyed], at: usize, placed: &[Option<Place>]) -> String {
    let Some(trace) = traces.get(at) else { return String::new() };
    let clock = match trace.origin.clock.as_str() {
        "not named" => "a clock that it does not name".to_string(),
        clock => format!("the clock {clock}"),
    };
    let common = match agree(traces, at, placed) {
        None => "none of its events stands in another of the traces".to_string(),
        Some((found, with)) => format!(
            "of {} events that stand in {}, too, {} agree about the offset {}: {}",
            found.compared,
            traces.get(with).map_or("", |of| of.label.as_str()),
            found.agreeing,
            signed(found.offset_ns),
            found.doubt.map_or_else(|| "too few".to_string(), doubtful)
        ),
    };
    let again = match trace.origin.kind {
        "trace.dat" => "record with trace-cmd record -C mono",
        "perf.data" => "record with perf record -k CLOCK_MONOTONIC",
        _ => "write mono into trace_clock before recording",
    };
    format!(
        "{}: its times are on {clock}, and {common}; give its offset with --clock-offset {}=TIME, or {again}",
        trace.path.display(),
        trace.label
    )
}

/// Why what the events say is not taken.
fn doubtful(doubt: Doubt) -> String {
    match doubt {
        Doubt::Few => "too few".to_string(),
        Doubt::Disagree => "too few of all".to_string(),
        Doubt::Apart { apart_ns } => format!("what they say differs by {}", amount(apart_ns)),
        Doubt::Short { length_ns, apart_ns } => {
            let (length, apart) = (amount(length_ns), amount(apart_ns));
            format!(
                "they all lie within {length}, and what they say differs by up to {apart}, so that any offset near it would do"
            )
        }
        Doubt::Other { offset_ns, events } => format!(
            "the offset {} brings {events} events of that kind together as well, as of jobs that come at regular times",
            signed(offset_ns)
        ),
    }
}

/// Which machine, or which boot of it, each trace is of.
struct Boots {
    of: Vec<usize>,
    names: Vec<String>,
}

impl Boots {
    /// The first is that of the reference. What does not tell is taken to be of it.
    fn of(traces: &[Surveyed], reference: usize) -> anyhow::Result<Boots> {
        let boot = |of: &Surveyed| of.origin.boot_id.clone();
        let first = traces.get(reference).and_then(boot).or_else(|| traces.iter().find_map(boot));
        let mut ids: Vec<Option<String>> = vec![first];
        let mut names: Vec<Option<String>> = vec![None];
        let mut of = Vec::new();
        for trace in traces {
            let machine = match boot(trace) {
                None => 0,
                id => ids.iter().position(|known| *known == id).unwrap_or_else(|| {
                    ids.push(id);
                    names.push(None);
                    ids.len() - 1
                }),
            };
            if let Some(name) = names.get_mut(machine)
                && name.is_none()
            {
                name.clone_from(&trace.origin.host);
            }
            of.push(machine);
        }
        if ids.len() > MOST_MACHINES {
            bail!("these are of {} boots or machines; merge {MOST_MACHINES} or fewer at once", ids.len());
        }
        let mut told: Vec<String> = Vec::new();
        for (n, name) in names.into_iter().enumerate() {
            let name = name.unwrap_or_else(|| format!("machine{}", n.saturating_add(1)));
            // The same machine, started again.
            let again = told.iter().filter(|of| **of == name || of.starts_with(&format!("{name}#"))).count();
            told.push(if again == 0 { name } else { format!("{name}#{}", again.saturating_add(1)) });
        }
        Ok(Boots { of, names: told })
    }

    fn machine(&self, at: usize) -> usize {
        self.of.get(at).copied().unwrap_or(0)
    }
}

/// `+1.5ms`, as `--clock-offset` takes it.
pub(super) fn signed(ns: i64) -> String {
    let sign = if ns < 0 { '-' } else { '+' };
    format!("{sign}{}", amount(ns.unsigned_abs()))
}

/// `1.5ms`.
pub(super) fn amount(ns: u64) -> String {
    let (unit, name) = match ns {
        0..1_000 => (1, "ns"),
        1_000..1_000_000 => (1_000, "us"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    let digits = match unit {
        1 => 0,
        1_000 => 3,
        1_000_000 => 6,
        _ => 9,
    };
    let text = format!("{}.{:0digits$}", ns / unit, ns % unit);
    let text = if digits == 0 {
        (ns / unit).to_string()
    } else {
        text.trim_end_matches('0').trim_end_matches('.').to_string()
    };
    format!("{text}{name}")
}

#[cfg(test)]
mod tests {
    use super::signed;

    #[test]
    fn offsets_are_told_as_they_are_given() {
        for (ns, text) in [
            (0, "+0ns"),
            (-17, "-17ns"),
            (1_500_000, "+1.5ms"),
            (-300_000, "-300us"),
            (5_000_000_001, "+5.000000001s"),
            (i64::MIN, "-9223372036.854775808s"),
        ] {
            assert_eq!(signed(ns), text);
        }
    }
}
