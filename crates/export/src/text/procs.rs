//! A line a client.

use super::{Absences, Style, Tone, dressed, paragraph};
use crate::procs::{ClientRow, Group, Procs as View};
use gpuscope_model::{AlwaysOn, EngineClass, GpuId, Reading, Reason, Text, Why};
use std::collections::HashSet;
use std::io::{self, Write};

/// Writes who uses the GPUs as text. It remembers what it has said: the remedy for processes that cannot be read, what a mark means
/// and why a column has dashes is told once.
pub struct Procs {
    style: Style,
    told: HashSet<(&'static str, Option<Reason>)>,
    /// Why clients may be missing, and of which GPU, as said last.
    gaps: Vec<(Option<GpuId>, String)>,
    /// The GPUs that a setting keeps awake, as said last.
    kept_awake: Vec<(GpuId, AlwaysOn)>,
}

impl Procs {
    /// Nothing told yet.
    pub fn new(style: Style) -> Self {
        Procs { style, told: HashSet::new(), gaps: Vec::new(), kept_awake: Vec::new() }
    }

    /// Writes one snapshot: the clients, or the sums of the containers where these were asked for.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn sample(&mut self, w: &mut dyn Write, procs: &View<'_>) -> io::Result<()> {
        dressed(w, self.style, |w| self.write(w, procs))
    }

    fn write(&mut self, w: &mut dyn Write, procs: &View<'_>) -> io::Result<()> {
        let mut absences = Absences::default();
        match &procs.groups {
            _ if procs.rows.is_empty() => {
                let of_all = procs.snapshot.clients.clients.is_empty();
                let text = match (of_all, procs.gaps().next()) {
                    (false, _) => "no client of a GPU is what was asked for",
                    (true, None) => "no process uses a GPU now",
                    (true, Some(_)) => "no process that can be read uses a GPU now",
                };
                writeln!(w, "{text}")?;
            }
            Some(groups) => {
                self.note_groups(groups, &mut absences);
                self.groups(w, groups)?;
            }
            None => {
                self.note_clients(&procs.rows, &mut absences);
                self.clients(w, &procs.rows)?;
            }
        }
        absences.write(w, self.style)?;
        self.kept_awake(w, &procs.kept_awake)?;
        if procs.left_out() > 0 {
            let text = format!("{} more clients were left out: too many to sample", procs.left_out());
            paragraph(w, self.style, "", 2, &text)?;
        }
        // While the same processes hold it for the same reason, once.
        let mut told = Vec::new();
        for (gpu, why) in procs.gaps() {
            let remedy = why.remedy.as_deref().map(|r| format!(": {r}")).unwrap_or_default();
            let (text, key) = match gpu {
                Some(gpu) => (format!("clients of {gpu}: {}{remedy}", why.detail), why.detail.to_string()),
                // A number of processes that changes is no news.
                None => (format!("{}{remedy}", why.detail), why.reason.to_string()),
            };
            let key = (gpu.cloned(), key);
            if !self.gaps.contains(&key) {
                paragraph(w, self.style, "", 2, &text)?;
            }
            told.push(key);
        }
        self.gaps = told;
        Ok(())
    }

    /// Which GPUs do not sleep whoever holds them; while they do not, once.
    fn kept_awake(&mut self, w: &mut dyn Write, kept: &[(&GpuId, AlwaysOn)]) -> io::Result<()> {
        let kept: Vec<(GpuId, AlwaysOn)> = kept.iter().map(|&(gpu, by)| (gpu.clone(), by)).collect();
        for (gpu, by) in kept.iter().filter(|one| !self.kept_awake.contains(one)) {
            let setting = match by {
                AlwaysOn::PowerControl => "its power/control is on (auto would let it sleep)",
                AlwaysOn::AutosuspendDelay => "its power/autosuspend_delay_ms is negative",
            };
            let text = format!("{gpu} is awake, and nobody was seen working on it: {setting}; no client keeps it so");
            paragraph(w, self.style, "", 2, &text)?;
        }
        self.kept_awake = kept;
        Ok(())
    }

    fn clients(&mut self, w: &mut dyn Write, rows: &[ClientRow<'_>]) -> io::Result<()> {
        let several = rows.iter().any(|row| row.client.holders.len() > 1);
        let awake = rows.iter().any(|row| row.keeps_awake.get() == Some(true));
        let contained = rows.iter().any(|row| row.container().is_ok());
        let columns = [
            Column { title: "PID", right: true, widest: 12, narrowest: 12 },
            Column { title: "USER", right: false, widest: 10, narrowest: 6 },
            Column { title: "GPU", right: false, widest: 12, narrowest: 7 },
            Column { title: "ENGINES", right: false, widest: 24, narrowest: 11 },
            Column { title: "MEM", right: true, widest: 7, narrowest: 7 },
            Column { title: "CPU%", right: true, widest: 6, narrowest: 6 },
            Column { title: if contained { "CONTAINER" } else { "" }, right: false, widest: 19, narrowest: 9 },
            Column { title: "COMMAND", right: false, widest: usize::MAX, narrowest: 18 },
        ];
        let mut table = Table::new(&columns);
        for row in rows {
            let others = row.client.holders.len().saturating_sub(1);
            let pid = if others > 0 { format!("{}+{others}", row.client.pid) } else { row.client.pid.to_string() };
            let user = match (row.user(), row.uid()) {
                (Ok(name), _) => name.to_string(),
                (Err(_), Ok(uid)) => uid.to_string(),
                (Err(_), Err(_)) => "-".into(),
            };
            let used = row.client.engines.iter().map(|e| (e.class, &e.name, &e.busy_ratio));
            let engines = if row.keeps_awake.get() == Some(true) { "holds awake".to_string() } else { busiest(used) };
            table.rows.push(vec![
                pid,
                user,
                short_gpu(&row.client.gpu),
                engines,
                known(row.held_bytes().and_then(|r| r.get()).map(short_bytes)),
                known(row.cpu_ratio().ok().map(|v| format!("{:.1}", v * 100.0))),
                if contained { known(row.container().ok().map(|t| t.to_string())) } else { String::new() },
                command(row),
            ]);
        }
        table.write(w, self.style)?;
        if several && self.told.insert(("several", None)) {
            paragraph(w, self.style, "", 2, "PID+N: N more processes hold the same client; it is counted once")?;
        }
        if awake && self.told.insert(("awake", None)) {
            let text = "holds awake: nobody works on this GPU, this client holds it open, and it does not sleep";
            paragraph(w, self.style, "", 2, text)?;
        }
        Ok(())
    }

    fn groups(&mut self, w: &mut dyn Write, groups: &[Group<'_>]) -> io::Result<()> {
        let charged = groups.iter().any(|g| g.charged_bytes.is_known());
        let columns = [
            Column { title: "CLIENTS", right: true, widest: 7, narrowest: 7 },
            Column { title: "PROCS", right: true, widest: 6, narrowest: 6 },
            Column { title: "ENGINES", right: false, widest: 24, narrowest: 11 },
            Column { title: "MEM", right: true, widest: 7, narrowest: 7 },
            Column { title: if charged { "CHARGED" } else { "" }, right: true, widest: 7, narrowest: 7 },
            Column { title: "CPU%", right: true, widest: 7, narrowest: 7 },
            Column { title: "RSS", right: true, widest: 7, narrowest: 7 },
            Column { title: "CONTAINER", right: false, widest: usize::MAX, narrowest: 14 },
        ];
        let mut table = Table::new(&columns);
        for g in groups {
            table.rows.push(vec![
                g.clients.to_string(),
                g.pids.len().to_string(),
                busiest(g.engines.iter().map(|e| (e.class, e.name, &e.busy_ratio))),
                known(g.resident_bytes().and_then(|r| r.get()).map(short_bytes)),
                known(g.charged_bytes.get().map(short_bytes)),
                known(g.cpu_ratio.get().map(|v| format!("{:.1}", v * 100.0))),
                known(g.rss_bytes.get().map(short_bytes)),
                g.label().to_string(),
            ]);
        }
        table.write(w, self.style)?;
        if charged && self.told.insert(("charged", None)) {
            let text =
                "CHARGED: device memory that the kernel counts for the cgroup and those below it, whoever uses it";
            paragraph(w, self.style, "", 2, text)?;
        }
        Ok(())
    }

    /// Why a column has dashes, a reason once.
    fn note(&mut self, column: &'static str, why: Option<&Why>, absences: &mut Absences) {
        if let Some(why) = why
            && self.told.insert((column, Some(why.reason)))
        {
            absences.add(column, why);
        }
    }

    fn note_clients(&mut self, rows: &[ClientRow<'_>], absences: &mut Absences) {
        for row in rows {
            if row.client.engines.iter().all(|e| !e.busy_ratio.is_known()) {
                let why = row.client.engines.iter().find_map(|e| e.busy_ratio.why());
                self.note("ENGINES", why.or(row.keeps_awake.why()), absences);
            }
            self.note("MEM", row.held_bytes().and_then(|r| r.why().cloned()).as_ref(), absences);
            self.note("CPU%", row.cpu_ratio().err(), absences);
            self.note("COMMAND", row.comm().err(), absences);
        }
    }

    fn note_groups(&mut self, groups: &[Group<'_>], absences: &mut Absences) {
        // The column stands only where one of them is known.
        let charged = groups.iter().any(|g| g.charged_bytes.is_known());
        for g in groups {
            if g.engines.iter().all(|e| !e.busy_ratio.is_known()) {
                self.note("ENGINES", g.engines.iter().find_map(|e| e.busy_ratio.why()), absences);
            }
            self.note("MEM", g.resident_bytes().and_then(|r| r.why().cloned()).as_ref(), absences);
            self.note("CHARGED", g.charged_bytes.why().filter(|_| charged), absences);
            self.note("CPU%", g.cpu_ratio.why(), absences);
            self.note("RSS", g.rss_bytes.why(), absences);
        }
    }
}

fn known(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".into())
}

fn command(row: &ClientRow<'_>) -> String {
    let line = row.command_line().ok().filter(|l| !l.is_empty()).or(row.comm().ok());
    let line = line.map_or("-", Text::as_str);
    match &row.client.client_name {
        Some(name) => format!("{line} [{name}]"),
        None => line.to_string(),
    }
}

/// PCI addresses without the domain that nearly all have.
fn short_gpu(id: &GpuId) -> String {
    id.as_str().strip_prefix("0000:").unwrap_or(id.as_str()).to_string()
}

/// The two busiest engine classes, `idle` where none was used, `-` where nothing is known.
fn busiest<'a>(engines: impl Iterator<Item = (EngineClass, &'a Text, &'a Reading<f64>)>) -> String {
    let mut used: Vec<(&str, f64)> = engines
        .filter_map(|(class, name, busy)| {
            let word = match class {
                EngineClass::Other => name.as_str(),
                EngineClass::VideoEnhance => "enhance",
                class => class.as_str(),
            };
            Some((word, busy.get()?))
        })
        .collect();
    if used.is_empty() {
        return "-".into();
    }
    used.retain(|(_, busy)| *busy > 0.0);
    used.sort_by(|a, b| b.1.total_cmp(&a.1));
    // A trace of a second class is noise beside the first.
    let second = used.get(1).is_some_and(|(_, busy)| *busy >= 0.01);
    let words: Vec<String> = used
        .iter()
        .take(if second { 2 } else { 1 })
        .map(|(word, busy)| match busy * 100.0 {
            percent if percent < 0.95 => format!("{word} <1%"),
            percent => format!("{word} {percent:.0}%"),
        })
        .collect();
    if words.is_empty() { "idle".into() } else { words.join(" ") }
}

/// Three digits and a binary unit: `1.5G`, `312M`.
fn short_bytes(n: u64) -> String {
    for (unit, size) in [("T", 1u64 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)] {
        if n >= size {
            let value = n as f64 / size as f64;
            return if value < 9.95 { format!("{value:.1}{unit}") } else { format!("{value:.0}{unit}") };
        }
    }
    n.to_string()
}

#[derive(Clone, Copy)]
struct Column {
    /// A column without a title is left out.
    title: &'static str,
    right: bool,
    widest: usize,
    narrowest: usize,
}

struct Table<'c> {
    columns: &'c [Column],
    rows: Vec<Vec<String>>,
}

impl<'c> Table<'c> {
    fn new(columns: &'c [Column]) -> Self {
        Table { columns, rows: Vec::new() }
    }

    /// Columns are as wide as what is in them, up to their widest. The last one takes what is left of the line; where that is too
    /// little, columns shrink from the right.
    fn widths(&self, total: usize) -> Vec<usize> {
        let natural = |at: usize, c: &Column| {
            let cells = self.rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
            cells.max().unwrap_or(0).max(c.title.len()).min(c.widest)
        };
        let mut widths: Vec<usize> = self.columns.iter().enumerate().map(|(at, c)| natural(at, c)).collect();
        let last = self.columns.last().map_or(0, |c| c.narrowest);
        let spaces = self.columns.iter().filter(|c| !c.title.is_empty()).count().saturating_sub(1);
        let Some(open) = widths.last_mut() else { return widths };
        *open = last.min(*open);
        let used = widths.iter().sum::<usize>().saturating_add(spaces);
        let mut excess = used.saturating_sub(total);
        for (width, c) in widths.iter_mut().zip(self.columns).rev().skip(1) {
            let less = excess.min(width.saturating_sub(c.narrowest.max(c.title.len())));
            *width = width.saturating_sub(less);
            excess = excess.saturating_sub(less);
        }
        let left = total.saturating_sub(used);
        if let Some(open) = widths.last_mut() {
            *open = open.saturating_add(left).saturating_sub(excess).max(1);
        }
        widths
    }

    fn write(&self, w: &mut dyn Write, style: Style) -> io::Result<()> {
        let widths = self.widths(style.width);
        let titles: Vec<String> = self.columns.iter().map(|c| c.title.to_string()).collect();
        writeln!(w, "{}", style.paint(Tone::Heading, &self.line(&titles, &widths, style)))?;
        self.rows.iter().try_for_each(|row| writeln!(w, "{}", self.line(row, &widths, style)))
    }

    fn line(&self, cells: &[String], widths: &[usize], style: Style) -> String {
        let mut line = String::new();
        for ((column, cell), &width) in self.columns.iter().zip(cells).zip(widths) {
            if column.title.is_empty() {
                continue;
            }
            if !line.is_empty() {
                line.push(' ');
            }
            let cell = fitted(cell, width, style);
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            let (before, after) = if column.right { (pad.as_str(), "") } else { ("", pad.as_str()) };
            line.extend([before, &cell, after]);
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// Cut to the width, the cut shown. Names of processes may hold anything: what would move the cursor is replaced.
fn fitted(text: &str, width: usize, style: Style) -> String {
    let mut cell: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    if let Some((at, _)) = cell.char_indices().nth(width) {
        let keep = cell.char_indices().nth(width.saturating_sub(1)).map_or(at, |(at, _)| at);
        cell.truncate(keep);
        cell.push(if style.unicode { '…' } else { '~' });
    }
    cell
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_cut_and_cleaned() {
        let style = Style::default();
        assert_eq!(fitted("synthetic", 9, style), "synthetic");
        assert_eq!(fitted("synthetic", 5, style), "synt…");
        assert_eq!(fitted("synthetic", 5, Style { unicode: false, ..style }), "synt~");
        assert_eq!(fitted("a\x1b[2Jb\n", 9, style), "a?[2Jb?");
    }

    #[test]
    fn sizes_have_three_digits() {
        assert_eq!(short_bytes(0), "0");
        assert_eq!(short_bytes(312 << 20), "312M");
        assert_eq!(short_bytes(3 << 29), "1.5G");
        assert_eq!(short_bytes(1023 << 10), "1023K");
    }

    #[test]
    fn the_busiest_classes_are_named() {
        let names: [Text; 3] = ["rcs".into(), "vcs".into(), "dec".into()];
        let classes = [EngineClass::Render, EngineClass::Video, EngineClass::Other];
        let shown = |busy: [Reading<f64>; 3]| busiest((0..3).map(|i| (classes[i], &names[i], &busy[i])));
        let v = Reading::Value;
        assert_eq!(shown([v(0.004), v(0.0), v(0.5)]), "dec 50%");
        assert_eq!(shown([v(0.0), v(0.0), v(0.0)]), "idle");
        assert_eq!(shown([v(0.25), v(0.01), v(0.5)]), "dec 50% render 25%");
        assert_eq!(shown([v(0.004), v(0.0), v(0.0)]), "render <1%");
        let no = || Reading::Absent(Why::FIRST_SAMPLE);
        assert_eq!(shown([no(), no(), no()]), "-");
    }

    #[test]
    fn tables_keep_to_the_width() {
        let columns = [
            Column { title: "A", right: true, widest: 10, narrowest: 10 },
            Column { title: "B", right: false, widest: 30, narrowest: 5 },
            Column { title: "", right: false, widest: 30, narrowest: 5 },
            Column { title: "C", right: false, widest: usize::MAX, narrowest: 8 },
        ];
        let mut table = Table::new(&columns);
        table.rows.push(vec!["1234567890".into(), "b".repeat(40), String::new(), "c".repeat(100)]);
        for width in [30, 40, 80, 120] {
            let mut out = Vec::new();
            table.write(&mut out, Style { width, ..Style::default() }).unwrap();
            let longest = String::from_utf8(out).unwrap().lines().map(|l| l.chars().count()).max();
            assert_eq!(longest, Some(width));
        }
    }
}
