//! Files of trace-cmd, perf and Perfetto, and tracefs' text.

use super::{DEPENDENCY, Input, Into, Notes, Origin, Rest, Seen, Source, TEXT, absent};
use gpuscope_export::Tells;
use gpuscope_export::perfetto::Clocks;
use gpuscope_model::trace::Dropped;
use gpuscope_model::{Reason, SourceReport, Why};
use gpuscope_trace::Decoder;
use gpuscope_trace::foreign::perf_data::{Item as PerfItem, PerfData};
use gpuscope_trace::foreign::perfetto::{Item as PerfettoItem, PerfettoTrace};
use gpuscope_trace::foreign::text::TextTrace;
use gpuscope_trace::foreign::trace_dat::TraceDat;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
/// What a trace that Perfetto or our own export wrote may lack beside what it was recorded with.
const NOT_IN_PERFETTO: &str = "our own export writes those of the DRM scheduler and of fences, for which Perfetto has messages; others \
                               (of i915, xe and so on, errors of fences that are of no job, notes, settings) are not in what it writes";

impl Input {
    pub(super) fn trace_dat(file: TraceDat) -> Input {
        let mut coverage =
            vec![SourceReport::works("trace.dat of trace-cmd", None, format!("version {}", file.version()))];
        let clocks: Vec<&str> =
            file.buffers().iter().map(|buffer| buffer.clock.as_deref().unwrap_or("that it does not name")).collect();
        if clocks.iter().any(|clock| *clock != "mono") {
            let detail = format!("its times are on the clock {}, perhaps not CLOCK_MONOTONIC", clocks.join(" and "));
            let why = Why::new(Reason::NotSupported, detail).remedy("record with trace-cmd record -C mono");
            coverage.push(SourceReport::absent("CLOCK_MONOTONIC", None, why));
        }
        let why = Why::new(
            Reason::NotSupported,
            "a trace.dat names threads: the numbers of processes are those of their threads",
        );
        coverage.push(SourceReport::absent("processes", None, why));
        let origin = Origin {
            kind: "trace.dat",
            clock: clocks.join(" and "),
            is_monotonic: clocks.iter().all(|clock| *clock == "mono"),
            kernel: file.uname().map(str::to_string),
            ..Origin::default()
        };
        Input { origin, ..Input::foreign("trace.dat", coverage, Source::TraceDat(Box::new(file))) }
    }

    pub(super) fn perf_data(file: PerfData) -> Input {
        let how = match (file.is_pipe(), file.tool()) {
            (true, _) => "of a pipe".to_string(),
            (false, None) => "a file".to_string(),
            (false, Some(tool)) => format!("a file of perf {tool}"),
        };
        let mut coverage = vec![SourceReport::works("perf.data", None, how)];
        if !file.has_tracepoints() {
            let why = Why::new(Reason::NotSupported, "it holds no tracepoints, and nothing else tells of jobs")
                .remedy("record them: perf record -a -k CLOCK_MONOTONIC -e 'gpu_scheduler:*'");
            coverage.push(SourceReport::absent("tracepoints", None, why));
        } else if !file.is_monotonic() {
            let clock = file.clock().map_or("perf's own clock".to_string(), |id| format!("the clock of number {id}"));
            let why = Why::new(Reason::NotSupported, format!("its times are on {clock}, not CLOCK_MONOTONIC"))
                .remedy("record with perf record -k CLOCK_MONOTONIC");
            coverage.push(SourceReport::absent("CLOCK_MONOTONIC", None, why));
        }
        // A moment before perf began to record.
        let started = file.started();
        let origin = Origin {
            kind: "perf.data",
            clock: match file.clock() {
                _ if file.is_monotonic() => "monotonic".into(),
                None => "perf".into(),
                Some(id) => format!("number {id}"),
            },
            is_monotonic: file.is_monotonic(),
            kernel: file.release().map(str::to_string),
            ..Origin::default()
        };
        // It holds the layouts of those tracepoints alone that were recorded.
        let tells = Tells { dependencies: file.formats().iter().any(|format| format.name == DEPENDENCY) };
        Input { started, origin, tells, ..Input::foreign("perf.data", coverage, Source::PerfData(Box::new(file))) }
    }

    pub(super) fn perfetto(trace: PerfettoTrace) -> Input {
        let packets = trace.packets();
        let how = format!(
            "{} packets, of which {} are of kinds that hold no events of the kernel",
            packets.all, packets.others
        );
        let mut coverage = vec![SourceReport::works("Perfetto trace", None, how)];
        let mut lacks = |source: &'static str, detail: String, remedy: &'static str| {
            coverage.push(SourceReport::absent(source, None, Why::new(Reason::NotSupported, detail).remedy(remedy)));
        };
        if !trace.has_events() {
            lacks(
                "tracepoints",
                "it holds no events of the kernel, and nothing else in it tells of jobs".into(),
                "record them: the data source linux.ftrace with ftrace_events \"gpu_scheduler/*\"",
            );
        } else if !trace.is_monotonic() {
            lacks(
                "CLOCK_MONOTONIC",
                "its times are on another clock, and no snapshot of it brings them to CLOCK_MONOTONIC".into(),
                "record with Perfetto's own tracer, which writes snapshots of the clocks",
            );
        }
        if packets.other_machines > 0 {
            lacks(
                "other machines",
                format!("{} packets are of other machines than the one that recorded", packets.other_machines),
                "record on each machine",
            );
        }
        let clocks = trace.clocks().map(|(monotonic_ns, boottime_ns, realtime_ns)| Clocks {
            monotonic_ns,
            boottime_ns,
            realtime_ns,
        });
        let started = trace.clocks().map(|(monotonic_ns, _, realtime_ns)| (monotonic_ns, realtime_ns));
        let drivers = trace.own().drivers.clone();
        // Our own export tells the drivers, and its first snapshot is of when the recording began.
        let from_ns = match trace.own().is_there {
            true => trace.clocks().map(|(monotonic_ns, ..)| monotonic_ns),
            false => trace.from_ns(),
        };
        let is_monotonic = trace.is_monotonic();
        let clock = if is_monotonic { "monotonic" } else { "not named" };
        let origin = Origin { kind: "Perfetto trace", clock: clock.into(), is_monotonic, ..Origin::default() };
        let mut input = Input::foreign("Perfetto trace", coverage, Source::Perfetto(Box::new(trace)));
        if !drivers.is_empty() {
            input.coverage.retain(|source| source.source.as_str() != "drivers");
        }
        input.coverage.push(SourceReport::absent(
            "events without a message",
            None,
            Why::new(Reason::NotSupported, NOT_IN_PERFETTO),
        ));
        Input { drivers, clocks, started, from_ns, origin, ..input }
    }

    pub(super) fn foreign(what: &'static str, mut coverage: Vec<SourceReport>, source: Source) -> Input {
        let not_told = |source: &'static str, detail: String| {
            SourceReport::absent(source, None, Why::new(Reason::NotSupported, detail))
        };
        coverage.push(not_told(
            "drivers",
            format!(
                "a {what} does not name the GPUs' drivers: of those that leave scheduling to firmware (xe, panthor), what is told as hw \
                 queue and exec is time in flight"
            ),
        ));
        let detail = format!(
            "the DRM scheduler's events name no device before Linux 6.17, and a {what} has nothing else to tell it by"
        );
        let no_gpu =
            Why::new(Reason::NotSupported, detail).remedy("record by BPF: gpuscope trace record --backend bpf");
        Input {
            drivers: Vec::new(),
            settings: None,
            coverage,
            no_gpu,
            clocks: None,
            started: None,
            from_ns: None,
            tells_waits: None,
            tells: Tells::default(),
            origin: Origin { kind: what, clock: "not named".into(), ..Origin::default() },
            source,
        }
    }
}

pub(super) fn read_trace_dat(mut file: TraceDat, each: Into<'_>) -> io::Result<Rest> {
    let mut decoder = Decoder::new();
    for format in file.formats() {
        decoder.add_format(format);
    }
    // It names threads, and does not say which process they belong to.
    for (tid, comm) in file.tasks() {
        decoder.set_task(*tid, 0, comm);
    }
    let mut gaps = file.lost();
    // Several buffers may hold the same events: those of the first that has any are taken.
    let (mut taken, mut passed_over) = (None, 0_u64);
    while let Some((buffer, record)) = file.next_record() {
        if let Some(event) = decoder.decode(record) {
            if *taken.get_or_insert(buffer) == buffer {
                each.take(Seen::Event(&event, decoder.names()))?;
            } else {
                passed_over = passed_over.saturating_add(1);
            }
        }
        if file.lost() != gaps {
            gaps = file.lost();
            each.take(Seen::Lost(decoder.names()))?;
        }
    }
    let lost = file.lost();
    let ring_full = lost.counted.unwrap_or(0).max(lost.before_pages);
    let mut damage: Vec<SourceReport> =
        file.faults().iter().map(|fault| absent("trace.dat", fault.to_string())).collect();
    if passed_over > 0 {
        damage.push(absent(
            "trace.dat",
            format!("{passed_over} events of its other buffers were passed over: buffers may hold the same"),
        ));
    }
    if lost.uncounted_gaps > 0 && lost.counted.is_none() {
        let detail = format!("events were lost in {} places, and the file does not say how many", lost.uncounted_gaps);
        damage.push(absent("trace.dat", detail));
    }
    let dropped = Dropped { ring_full, unreadable: decoder.unreadable(), ..Dropped::default() };
    Ok(Rest { names: decoder.names().clone(), dropped, to_ns: None, damage, notes: Notes::default() })
}

pub(super) fn read_perf_data(mut file: PerfData, each: Into<'_>) -> io::Result<Rest> {
    let mut decoder = Decoder::new();
    for format in file.formats() {
        decoder.add_format(format);
    }
    let has_layouts = !file.formats().is_empty();
    let mut without = 0_u64;
    while let Some(item) = file.next_item() {
        match item {
            PerfItem::Record(record) => match decoder.decode(record) {
                Some(event) => each.take(Seen::Event(&event, decoder.names()))?,
                None if !has_layouts => without = without.saturating_add(1),
                None => {}
            },
            PerfItem::Task { tid, pid, comm } => decoder.set_task(tid, pid, comm),
            PerfItem::Lost => each.take(Seen::Lost(decoder.names()))?,
        }
    }
    let mut damage: Vec<SourceReport> =
        file.faults().iter().map(|fault| absent("perf.data", fault.to_string())).collect();
    if without > 0 {
        damage.push(absent(
            "perf.data",
            format!("{without} records of tracepoints are there, and nothing tells what they mean: perf writes the layouts at its end"),
        ));
    }
    let lost = file.lost();
    if lost.late > 0 {
        damage.push(absent("perf.data", format!("{} records came out of order", lost.late)));
    }
    // Without layouts no record is understood, whether it is whole or not.
    let unreadable = lost.unreadable.saturating_add(decoder.unreadable()).saturating_add(without);
    let dropped = Dropped { ring_full: lost.ring_full, filtered: lost.filtered, unreadable, ..Dropped::default() };
    Ok(Rest { names: decoder.names().clone(), dropped, to_ns: None, damage, notes: Notes::default() })
}

pub(super) fn read_perfetto(mut trace: PerfettoTrace, each: Into<'_>) -> io::Result<Rest> {
    let mut decoder = Decoder::new();
    let mut not_decoded = 0_u64;
    while let Some(item) = trace.next_item() {
        match item {
            PerfettoItem::Format(format) => {
                decoder.add_format(format);
            }
            PerfettoItem::Task { tid, pid, comm } => decoder.set_task(tid, pid, comm),
            PerfettoItem::Record(record) => match decoder.decode(record) {
                Some(event) => each.take(Seen::Event(&event, decoder.names()))?,
                None => not_decoded = not_decoded.saturating_add(1),
            },
            PerfettoItem::Lost => each.take(Seen::Lost(decoder.names()))?,
        }
    }
    let mut damage: Vec<SourceReport> =
        trace.faults().iter().map(|fault| absent("Perfetto trace", fault.to_string())).collect();
    let lost = trace.lost();
    for (count, what) in [
        (lost.late, "records came out of order"),
        (lost.errors, "parts of the kernel's buffers could not be read by Perfetto"),
        (lost.gaps, "places in which events were lost, how many in each it does not say"),
        (lost.nameless, "names of threads are left out: there are more than any machine has"),
    ] {
        if count > 0 {
            damage.push(absent("Perfetto trace", format!("{count} {what}")));
        }
    }
    let own = trace.own();
    // What a message lacks without which an event says nothing, makes it one that cannot be read.
    let unreadable = lost.unreadable.saturating_add(not_decoded);
    let dropped = Dropped {
        ring_full: own.dropped.ring_full.saturating_add(lost.counted.unwrap_or(0)),
        unreadable: own.dropped.unreadable.saturating_add(unreadable),
        ..own.dropped
    };
    Ok(Rest { names: decoder.names().clone(), dropped, to_ns: own.to_ns, damage, notes: Notes::default() })
}

pub(super) fn read_text(mut text: BufReader<File>, each: Into<'_>) -> io::Result<Rest> {
    /// `trace_seq` has 8 KiB: what is longer is no line of it.
    const LONGEST: u64 = 64 << 10;
    let (mut reader, mut line, mut lost) = (TextTrace::new(), Vec::new(), 0);
    loop {
        line.clear();
        if text.by_ref().take(LONGEST).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if let Some(event) = reader.line(&String::from_utf8_lossy(&line)) {
            each.take(Seen::Event(&event, reader.names()))?;
        }
        let now = reader.lost().saturating_add(reader.uncounted_gaps());
        if now != lost {
            lost = now;
            each.take(Seen::Lost(reader.names()))?;
        }
    }
    let mut damage = Vec::new();
    if reader.uncounted_gaps() > 0 {
        let detail =
            format!("events were lost in {} places, and the text does not say how many", reader.uncounted_gaps());
        damage.push(absent(TEXT, detail));
    }
    let dropped = Dropped { ring_full: reader.lost(), unreadable: reader.unreadable(), ..Dropped::default() };
    Ok(Rest { names: reader.names().clone(), dropped, to_ns: None, damage, notes: Notes::default() })
}
