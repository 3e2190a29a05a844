//! `gpuscope trace totals`, and the same beside a recording.

use super::keep::{self, Asked, Watched};
use super::record::{check_command, say, start};
use super::source::{Ask, EVERY, Source};
use crate::args::{Common, Format, Keep, Totals};
use crate::{stop, terminal};
use anyhow::{Context as _, bail};
use gpuscope_analysis::totals_window;
use gpuscope_export::{json, text};
use gpuscope_model::GpuId;
use gpuscope_model::trace::{Family, TotalsSample, TotalsWindow};
use gpuscope_sys::{Roots, monotonic_ns, read_text};
use gpuscope_trace::RawRecord;
use gpuscope_trace::capture::settings::Settings;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// No events come: what little there is beside them needs no more.
const BUFFER_BYTES: usize = 64 << 10;

/// Writes a window after the other until the command ends, there are enough, the time is over, or a signal comes.
pub(super) fn totals(common: &Common, args: &Totals) -> anyhow::Result<()> {
    check_command(&args.command)?;
    if let Some(option) = of_events(&args.keep) {
        bail!("{option}: it chooses among events, and none come: totals are of whole jobs; leave it out");
    }
    let asked = Asked { keep: &args.keep, only_cmd: args.only_cmd, watched: Watched::Not };
    let settings = Settings { events: false, totals: true, ..keep::on_this_machine(common, &asked)? };
    // Before anything is begun.
    args.output.iter().try_for_each(|path| check_output(path, args.force))?;
    let stop = if args.output.is_some() || !args.command.is_empty() { stop::watch_signals()? } else { stop::watch()? };
    let families = vec![Family::DrmSched];
    let ask = Ask { way: None, buffer_bytes: BUFFER_BYTES, families, switches: false, settings };
    let (mut source, header) = Source::open(common, &ask)?;
    let output = match &args.output {
        Some(path) => Output::file(path, common.format())?,
        None => Output { to: None, format: common.format(), is_first: true },
    };
    let mut stream = Stream::begin(&mut source, header.devices, args.window, output)?;
    let mut child = start(&args.command)?;
    let until = args.duration.map(|duration| Instant::now() + duration);
    loop {
        let next = Instant::now() + EVERY;
        let is_told = stop.wait_until(until.map_or(next, |until| until.min(next)));
        let ended = child.as_mut().map(|child| child.try_wait().context("waiting for the command")).transpose()?;
        let ended = ended.flatten();
        let is_last = is_told || ended.is_some() || until.is_some_and(|until| Instant::now() >= until);
        let round = source.read(&mut |_: RawRecord<'_>| {})?;
        round.notes.iter().for_each(|note| say(note));
        stream.step(&mut source, is_last)?;
        if let Some(status) = ended.filter(|status| !status.success()) {
            say(&format!("the command ended with {status}"));
        }
        if is_last || args.count.is_some_and(|count| stream.written >= count) {
            return Ok(());
        }
    }
}

/// How a file of totals begins: as JSON, and as text.
const BEGINS: [&[u8]; 2] = [b"{\"schema\":\"gpuscope.trace_totals/", b"totals of "];

/// Whether totals may be written to a path: what stands there is lost then. A file of totals is replaced, as a recording is by the next one;
/// any other only by force. What is no file (a pipe, a terminal) takes what is written to it.
pub(super) fn check_output(path: &Path, force: bool) -> anyhow::Result<()> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() && !force => {}
        // What hinders writing is told by the attempt.
        _ => return Ok(()),
    }
    let mut start = Vec::new();
    let file = File::open(path).with_context(|| format!("{}: what stands there cannot be read", path.display()))?;
    file.take(64).read_to_end(&mut start).with_context(|| path.display().to_string())?;
    if start.is_empty() || BEGINS.iter().any(|begin| start.starts_with(begin)) {
        return Ok(());
    }
    bail!(
        "{}: a file that holds no totals stands there; name another file, or replace it with --force",
        path.display()
    );
}

/// An option that does nothing where no events come.
fn of_events(keep: &Keep) -> Option<&'static str> {
    let options = [
        ("--event", !keep.event.is_empty()),
        ("--not-event", !keep.not_event.is_empty()),
        ("--max-events-per-second", keep.max_events_per_second.is_some()),
        ("--slower-than", keep.slower_than.is_some()),
    ];
    options.into_iter().find(|(_, is)| *is).map(|(option, _)| option)
}

/// Where windows are written.
pub(super) struct Output {
    /// stdout where there is none.
    to: Option<File>,
    format: Format,
    is_first: bool,
}

impl Output {
    /// A file of JSON lines.
    pub(super) fn json(path: &Path) -> anyhow::Result<Output> {
        Output::file(path, Format::Json)
    }

    fn file(path: &Path, format: Format) -> anyhow::Result<Output> {
        let file = File::create(path).with_context(|| format!("{}: it cannot be written", path.display()))?;
        Ok(Output { to: Some(file), format, is_first: true })
    }

    fn write(&mut self, source: &Source, window: &TotalsWindow) -> io::Result<()> {
        let mut bytes = Vec::new();
        match self.format {
            Format::Json => {
                let ago = Duration::from_nanos(monotonic_ns().saturating_sub(window.to_ns));
                let now = SystemTime::now();
                json::trace_totals(&mut bytes, window, &source.dropped, now.checked_sub(ago).unwrap_or(now))?;
            }
            _ => {
                if !self.is_first {
                    bytes.push(b'\n');
                }
                let style = if self.to.is_some() { text::Style::default() } else { terminal::style() };
                text::trace_totals(&mut bytes, window, &source.dropped, style)?;
            }
        }
        self.is_first = false;
        match &mut self.to {
            // Each line whole: others may read along.
            Some(file) => file.write_all(&bytes),
            None => {
                let mut out = io::stdout().lock();
                out.write_all(&bytes)?;
                out.flush()
            }
        }
    }
}

/// Windows that follow one another.
pub(super) struct Stream {
    before: TotalsSample,
    next: Instant,
    window: Duration,
    devices: Vec<(String, String)>,
    roots: Roots,
    output: Output,
    written: u64,
}

impl Stream {
    /// Begins with what a capture has added up by now. `devices` are names of devices and the GPUs that they stand for.
    pub(super) fn begin(
        source: &mut Source,
        devices: Vec<(String, String)>,
        window: Duration,
        output: Output,
    ) -> anyhow::Result<Stream> {
        let roots = Roots::host();
        let next = Instant::now() + window;
        let mut stream = Stream { before: TotalsSample::default(), next, window, devices, roots, output, written: 0 };
        stream.before = stream.take(source)?;
        Ok(stream)
    }

    /// Writes a window where one is over, or with `is_last` what there is of it.
    pub(super) fn step(&mut self, source: &mut Source, is_last: bool) -> anyhow::Result<()> {
        let now = Instant::now();
        if now < self.next && !is_last {
            return Ok(());
        }
        // No window is shorter than it is to be, the last excepted.
        self.next = now + self.window;
        let sample = self.take(source)?;
        let mut window = totals_window(&self.before, &sample);
        // In a container, numbers of processes are those of the machine, and /proc has its own.
        let named = window.processes.iter_mut().filter(|_| self.roots.has_machine_pids());
        for process in named {
            let comm = read_text(self.roots.proc(format!("{}/comm", process.pid)));
            process.comm = comm.ok().map(|comm| comm.trim_end_matches('\n').to_string().into());
        }
        self.before = sample;
        self.output.write(source, &window)?;
        self.written = self.written.saturating_add(1);
        Ok(())
    }

    fn take(&self, source: &mut Source) -> anyhow::Result<TotalsSample> {
        let mut sample = source.capture.take_totals()?;
        let gpus = sample.rings.iter_mut().map(|of| &mut of.gpu).chain(sample.times.iter_mut().map(|of| &mut of.gpu));
        for gpu in gpus.flatten() {
            if let Some((_, id)) = self.devices.iter().find(|(own, _)| own == gpu.as_str()) {
                *gpu = GpuId::new(id.clone());
            }
        }
        Ok(sample)
    }
}

#[cfg(test)]
mod tests {
    use super::{check_output, of_events};
    use crate::args::Keep;
    use gpuscope_analysis::totals_window;
    use gpuscope_export::json;
    use gpuscope_model::trace::{Dropped, RingSample, Stage, TimesSample, TotalsSample};
    use gpuscope_model::{GpuId, Reading, Reason};
    use serde_json::Value;
    use std::time::{Duration, SystemTime};

    #[test]
    fn options_that_would_do_nothing_are_named() {
        assert_eq!(of_events(&Keep { pid: vec![1], max_cpu: Some(0.01), ..Keep::default() }), None);
        assert_eq!(
            of_events(&Keep { max_events_per_second: Some(1), ..Keep::default() }),
            Some("--max-events-per-second")
        );
        let slow = Keep { slower_than: Some(Duration::from_millis(1)), ..Keep::default() };
        assert_eq!(of_events(&slow), Some("--slower-than"));
    }

    #[test]
    fn only_totals_are_replaced_without_force() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        assert!(check_output(&path, false).is_ok(), "nothing is there");
        for (text, may_be_replaced) in [
            ("", true),
            ("totals of 1.00s, nothing left out or lost\n", true),
            ("{\"schema\":\"gpuscope.trace_totals/1\",\"time\":\"", true),
            ("{\"schema\":\"gpuscope.job/1\"}\n", false),
            ("precious", false),
        ] {
            std::fs::write(&path, text).unwrap();
            let answer = check_output(&path, false).map_err(|error| error.to_string());
            assert_eq!(answer.is_ok(), may_be_replaced, "{text}");
            assert!(answer.err().is_none_or(|error| error.ends_with("replace it with --force")));
            assert!(check_output(&path, true).is_ok());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "asking changes nothing");
        }
        assert!(check_output(std::path::Path::new("/dev/null"), false).is_ok());
    }

    #[test]
    fn a_line_is_as_the_schema_has_it() {
        let gpu = Some(GpuId::new("0000:03:00.0"));
        let ring = RingSample {
            gpu: gpu.clone(),
            name: "gfx".into(),
            queued: 1,
            on_hardware: 2,
            peak_queued: 3,
            peak_on_hardware: 4,
            busy_ns: Some(500_000_000),
            ended: 9,
        };
        let times = TimesSample {
            gpu,
            ring: "gfx".into(),
            pid: 77,
            stage: Stage::Whole,
            count: 2,
            sum_ns: 5_000,
            min_ns: 2_000,
            max_ns: 3_000,
            buckets: vec![(2_047, 1), (3_071, 1)],
            error: 0.125,
        };
        let after = TotalsSample { at_ns: 2_000_000_000, rings: vec![ring], times: vec![times] };
        let mut window = totals_window(&TotalsSample { at_ns: 1_000_000_000, ..TotalsSample::default() }, &after);
        let mut lines = Vec::new();
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
        json::trace_totals(&mut lines, &window, &Dropped { sampled_out: 6, ..Dropped::default() }, wall).unwrap();
        // And one of which little is known.
        window.to_ns = window.from_ns;
        window.processes[0].comm = Some("game".into());
        window.rings[0].gpu = None;
        window.rings[0].busy_ratio = Reading::absent(Reason::Failed, "it could not be read");
        json::trace_totals(&mut lines, &window, &Dropped::default(), wall).unwrap();
        let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/schema/trace_totals.schema.json");
        let schema: Value = serde_json::from_str(&std::fs::read_to_string(schema).unwrap()).unwrap();
        let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
        let lines = String::from_utf8(lines).unwrap();
        let objects: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for object in &objects {
            let errors: Vec<String> =
                validator.iter_errors(object).map(|e| format!("{}: {e}", e.instance_path())).collect();
            assert!(errors.is_empty(), "{errors:#?}\n{object:#}");
        }
        let [first, second] = objects.as_slice() else { panic!("{lines}") };
        let whole = &first["rings"][0]["whole_us"];
        assert_eq!((&whole["p50"], &whole["p99"], &whole["error_percent"]), (&2.047.into(), &3.0.into(), &12.5.into()));
        assert_eq!((&first["rings"][0]["utilisation_percent"], &first["window_s"]), (&50.0.into(), &1.0.into()));
        assert_eq!((&first["processes"][0]["comm"], &second["processes"][0]["comm"]), (&Value::Null, &"game".into()));
        assert!(second["rings"][0]["jobs_per_second"].is_null() && second["rings"][0]["utilisation_percent"].is_null());
        assert_eq!(first["unavailable"], Value::Array(Vec::new()));
        let missing = &second["unavailable"][0];
        assert_eq!(missing["metric"], "rings[gfx].utilisation_percent", "{missing}");
        assert_eq!((&missing["reason"], &missing["detail"]), (&"failed".into(), &"it could not be read".into()));
    }
}
