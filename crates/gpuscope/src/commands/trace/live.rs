//! `gpuscope trace live`

use super::keep::{self, Asked, Watched};
use super::record::{alarms, say};
use super::source::{Ask, EVERY, Source};
use super::watcher::Watcher;
use crate::args::{Common, Format, Live};
use crate::{stop, terminal};
use gpuscope_engine::Stop;
use gpuscope_export::{json, text};
use gpuscope_model::trace::{Dropped, RecentReport};
use std::io::{self, IsTerminal as _, Write};
use std::time::{Duration, Instant, SystemTime};

/// The alternate screen, without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// And back.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// Shows the last seconds, again and again, until a signal comes or nobody reads any more.
pub(super) fn live(common: &Common, args: &Live) -> anyhow::Result<()> {
    let stop = stop::watch()?;
    let asked = Asked { keep: &args.keep, only_cmd: false, watched: Watched::Jobs };
    let settings = keep::on_this_machine(common, &asked)?;
    let ask = Ask { way: args.backend, buffer_bytes: args.buffer, settings, ..Ask::default() };
    let (mut source, header) = Source::open(common, &ask)?;
    let mut watcher = Watcher::new(source.capture.formats(), &header.devices, alarms(args.alarm));
    watcher.remember(args.window, header.started.monotonic_ns);
    let mut screen = Screen::open(common.format())?;
    let mut left = if args.once { Some(1) } else { args.count };
    let mut next = Instant::now() + common.interval();
    // Told behind the pictures: among them a line would be drawn over at once.
    let mut notes = Vec::new();
    while left != Some(0) {
        if wait(&stop, next, &mut source, &mut watcher, &mut notes)? {
            break;
        }
        next += common.interval();
        let until_ns = round(&mut source, &mut watcher, &mut notes)?;
        if let Some(report) = watcher.recent(until_ns) {
            screen.show(&report, &source.dropped)?;
        }
        left = left.map(|n| n.saturating_sub(1));
    }
    drop(screen);
    notes.iter().for_each(|note| say(note));
    Ok(())
}

/// Notes that are kept until the end.
const MOST_NOTES: usize = 100;

/// Reads until then; true where it was told to stop.
fn wait(
    stop: &Stop,
    until: Instant,
    source: &mut Source,
    watcher: &mut Watcher,
    notes: &mut Vec<String>,
) -> anyhow::Result<bool> {
    while Instant::now() < until {
        if stop.wait_until(until.min(Instant::now() + EVERY)) {
            return Ok(true);
        }
        round(source, watcher, notes)?;
    }
    Ok(stop.is_stopped())
}

/// Reads once, and says until when all was given.
fn round(source: &mut Source, watcher: &mut Watcher, notes: &mut Vec<String>) -> anyhow::Result<u64> {
    let mut round = source.read(&mut watcher.order)?;
    watcher.round(&round);
    round.notes.truncate(MOST_NOTES.saturating_sub(notes.len()));
    notes.append(&mut round.notes);
    Ok(round.drained.until_ns)
}

/// Where pictures are shown.
struct Screen {
    format: Format,
    is_terminal: bool,
    is_first: bool,
}

impl Screen {
    fn open(format: Format) -> io::Result<Screen> {
        let is_terminal = format != Format::Json && io::stdout().is_terminal();
        if is_terminal {
            let mut out = io::stdout().lock();
            out.write_all(ENTER.as_bytes())?;
            out.flush()?;
        }
        Ok(Screen { format, is_terminal, is_first: true })
    }

    fn show(&mut self, report: &RecentReport, dropped: &Dropped) -> io::Result<()> {
        let is_first = std::mem::take(&mut self.is_first);
        let mut picture = Vec::new();
        match self.format {
            Format::Json => {
                let ago = Duration::from_nanos(gpuscope_sys::monotonic_ns().saturating_sub(report.at_ns));
                let now = SystemTime::now();
                json::trace_live(&mut picture, report, dropped, now.checked_sub(ago).unwrap_or(now))?;
            }
            _ => text::trace_live(&mut picture, report, dropped, terminal::style())?,
        }
        let mut out = io::stdout().lock();
        if self.is_terminal {
            let rows = terminal_size::terminal_size().map_or(24, |(_, rows)| usize::from(rows.0));
            out.write_all(&on_screen(&picture, rows))?;
        } else {
            if !is_first && self.format != Format::Json {
                out.write_all(b"\n")?;
            }
            out.write_all(&picture)?;
        }
        out.flush()
    }
}

/// Over what stands there, line by line, so that nothing flickers; what has no room below is left out.
fn on_screen(picture: &[u8], rows: usize) -> Vec<u8> {
    let mut screen = b"\x1b[H".to_vec();
    let lines = picture.strip_suffix(b"\n").unwrap_or(picture).split(|byte| *byte == b'\n');
    for (i, line) in lines.take(rows.max(1)).enumerate() {
        screen.extend_from_slice(if i == 0 { b"" } else { b"\r\n" });
        screen.extend_from_slice(line);
        screen.extend_from_slice(b"\x1b[K");
    }
    screen.extend_from_slice(b"\x1b[J");
    screen
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.is_terminal {
            let mut out = io::stdout().lock();
            // The terminal may be gone.
            let _ = out.write_all(LEAVE.as_bytes()).and_then(|()| out.flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::on_screen;
    use gpuscope_export::json;
    use gpuscope_model::trace::{
        Behind, Dropped, HeldUp, Job, JobKey, JobStatus, RecentProcess, RecentReport, RecentRing, StuckJob, Summary,
        TraceNames,
    };
    use serde_json::Value;
    use std::time::{Duration, SystemTime};

    #[test]
    fn a_line_is_as_the_schema_has_it() {
        let mut names = TraceNames::default();
        let (ring, comm) = (Some(names.ring(Some("0000:03:00.0"), "gfx")), names.text("game"));
        let of =
            Summary { count: 3, min_ns: 1, mean_ns: 2.0, p50_ns: 2_000, p90_ns: 3, p99_ns: 3, max_ns: 3, error: 0.0 };
        let key = JobKey::Fence { context: 7, seqno: 8 };
        let job = Job {
            key,
            ring,
            client: None,
            pid: 10,
            tid: 11,
            comm,
            submit_ns: Some(1),
            run_ns: Some(2),
            start_ns: None,
            done_ns: None,
            dependencies: 0,
            blocked_by: None,
            status: JobStatus::InFlight,
        };
        let report = RecentReport {
            at_ns: 9_000_000_000,
            span_ns: 2_000_000_000,
            rings: vec![RecentRing {
                gpu: None,
                name: "gfx".into(),
                jobs: 3,
                failed: 0,
                busy_ratio: 0.25,
                queued: 1,
                on_hardware: 1,
                queue: Some(of),
                in_flight: None,
            }],
            processes: vec![RecentProcess {
                pid: 10,
                comm: "game".into(),
                jobs: 3,
                failed: 0,
                in_flight: 2,
                queue: None,
            }],
            stuck: vec![StuckJob {
                job,
                place: HeldUp::OnHardware,
                since_ns: 2,
                at_ns: 9_000_000_000,
                is_new: false,
                is_doubtful: false,
                behind: vec![Behind { pid: 10, comm, jobs: 1 }],
            }],
            names,
        };
        let mut line = Vec::new();
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
        json::trace_live(&mut line, &report, &Dropped::default(), wall).unwrap();
        let object: Value = serde_json::from_slice(&line).unwrap();
        let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/schema/trace_live.schema.json");
        let schema: Value = serde_json::from_str(&std::fs::read_to_string(schema).unwrap()).unwrap();
        let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
        let errors: Vec<String> =
            validator.iter_errors(&object).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{errors:#?}\n{object:#}");
        assert_eq!(
            (&object["rings"][0]["jobs_per_second"], &object["rings"][0]["queue_us"]["p50"]),
            (&1.5.into(), &2.0.into())
        );
        assert_eq!((&object["stuck"][0]["job"], &object["stuck"][0]["jobs_behind"]), (&"7:8".into(), &1.into()));
    }

    #[test]
    fn a_picture_never_scrolls_the_screen() {
        assert_eq!(on_screen(b"a\nb\nc\n", 2), b"\x1b[Ha\x1b[K\r\nb\x1b[K\x1b[J");
        assert_eq!(on_screen(b"a\n", 24), b"\x1b[Ha\x1b[K\x1b[J");
        assert_eq!(on_screen(b"", 24), b"\x1b[H\x1b[K\x1b[J");
    }
}
