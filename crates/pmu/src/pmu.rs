//! PMUs as sysfs describes them.

use crate::parse::{Format, TermValue, Word, parse_cpumask, parse_event, parse_format, parse_scale, parse_u64};
use crate::{Error, EventAttr, Scale};
use gpuscope_model::{Reason, Text, Why};
use gpuscope_sys::{Roots, list_dir, read_text};
use std::path::{Path, PathBuf};

/// Where PMUs are, under sys.
const DEVICES: &str = "bus/event_source/devices";

/// An event that the kernel names: `events/<name>` with `.unit` and `.scale` beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The file's name.
    pub name: String,
    /// What to open.
    pub attr: EventAttr,
    /// `events/<name>.unit`, where there is one.
    pub unit: Option<String>,
    /// `events/<name>.scale`: one count in units. 1 where there is none.
    pub scale: f64,
}

impl Event {
    /// The scale for exact arithmetic; `None` only for an event made by hand with a scale that is none.
    pub fn exact_scale(&self) -> Option<Scale> {
        Scale::new(self.scale)
    }
}

/// A performance monitoring unit: `/sys/bus/event_source/devices/<name>`.
#[derive(Clone, Debug)]
pub struct Pmu {
    /// Its name: `i915`, `xe_0000_00_02.0`, `power`.
    pub name: String,
    /// Its number, to be put into `perf_event_attr::type`.
    pub type_id: u32,
    folder: PathBuf,
    cpus: Vec<u32>,
    formats: Vec<(String, Format)>,
    events: Vec<Event>,
    notes: Vec<Text>,
}

impl Pmu {
    /// Reads what sysfs says about a PMU. Wakes no device.
    ///
    /// An event or format that cannot be understood is left out and noted ([`notes`](Self::notes)).
    ///
    /// # Errors
    /// A [`Why`]: [`Reason::NotSupported`] when there is no such PMU, [`Reason::Failed`] when its `type` or `cpumask` cannot be
    /// read or understood.
    pub fn open(roots: &Roots, name: &str) -> Result<Pmu, Why> {
        let missing = || Why::new(Reason::NotSupported, format!("the kernel has no PMU {name}"));
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return Err(missing());
        }
        let folder = roots.sys(DEVICES).join(name);
        let type_file = folder.join("type");
        let text = read_text(&type_file).map_err(|e| match e {
            gpuscope_sys::Error::NotFound { .. } | gpuscope_sys::Error::Gone { .. } => missing(),
            e => Why::new(Reason::Failed, e.to_string()),
        })?;
        let type_id = parse_u64(&text)
            .ok()
            .and_then(|n| u32::try_from(n).ok())
            .ok_or_else(|| Why::new(Reason::Failed, format!("{}: not a PMU number", type_file.display())))?;
        let cpus = read_cpus(&folder)?.unwrap_or_else(|| vec![0]);
        let mut pmu = Pmu {
            name: name.to_string(),
            type_id,
            folder,
            cpus,
            formats: Vec::new(),
            events: Vec::new(),
            notes: Vec::new(),
        };
        pmu.read_formats();
        pmu.read_events();
        Ok(pmu)
    }

    /// Names of the PMUs there are, sorted.
    pub fn names(roots: &Roots) -> Vec<String> {
        list_dir(&roots.sys(DEVICES)).unwrap_or_default()
    }

    /// The event of this name.
    pub fn event(&self, name: &str) -> Option<&Event> {
        self.events.iter().find(|e| e.name == name)
    }

    /// All events, sorted by name.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter()
    }

    /// Format terms by name, sorted.
    pub fn formats(&self) -> impl Iterator<Item = (&str, &Format)> {
        self.formats.iter().map(|(name, format)| (name.as_str(), format))
    }

    /// Files that were left out, and why.
    pub fn notes(&self) -> &[Text] {
        &self.notes
    }

    /// First CPU of `cpumask`: where device-wide events are opened. CPU 0 where the PMU has no mask or an empty one.
    ///
    /// Drivers refuse any other CPU (i915 up to Linux 6.12: `i915_pmu_event_init`), and only events opened there move along when
    /// that CPU is unplugged.
    pub fn cpu(&self) -> u32 {
        self.cpus.first().copied().unwrap_or(0)
    }

    /// CPUs of `cpumask`: one for each package, die or other unit that counts for itself. CPU 0 where the PMU has no mask.
    pub fn cpus(&self) -> &[u32] {
        &self.cpus
    }

    #[cfg(test)]
    pub(crate) fn set_cpus(&mut self, cpus: Vec<u32>) {
        self.cpus = cpus;
    }

    /// The PMU's folder in sysfs.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Encodes an event from its terms, through the PMU's `format` files. `config`, `config1` and `config2` set a whole word and
    /// stand before the others.
    ///
    /// # Errors
    /// [`Error::UnknownTerm`], [`Error::TooLarge`], [`Error::Unsupported`] (config3).
    pub fn encode(&self, terms: &[(&str, u64)]) -> Result<EventAttr, Error> {
        let mut attr = EventAttr { type_id: self.type_id, ..EventAttr::default() };
        for (term, value) in terms {
            // A whole word goes in as it is: i915 declares `config:0-20` and prints bits 60 to 63 (`__I915_PMU_GT_SHIFT`).
            if let Some(word) = Word::by_name(term) {
                *self.word(&mut attr, word, term)? = *value;
            }
        }
        for (term, value) in terms.iter().filter(|(term, _)| Word::by_name(term).is_none()) {
            let format = self
                .formats
                .iter()
                .find(|(name, _)| name == term)
                .map(|(_, format)| format)
                .ok_or_else(|| Error::UnknownTerm { pmu: self.name.clone(), term: term.to_string() })?;
            let bits = format.place(*value).ok_or_else(|| Error::TooLarge {
                pmu: self.name.clone(),
                term: term.to_string(),
                value: *value,
            })?;
            let word = self.word(&mut attr, format.word, term)?;
            *word = (*word & !format.mask()) | bits;
        }
        Ok(attr)
    }

    fn word<'a>(&self, attr: &'a mut EventAttr, word: Word, term: &str) -> Result<&'a mut u64, Error> {
        match word {
            Word::Config => Ok(&mut attr.config),
            Word::Config1 => Ok(&mut attr.config1),
            Word::Config2 => Ok(&mut attr.config2),
            Word::Config3 => Err(Error::Unsupported { pmu: self.name.clone(), term: term.to_string() }),
        }
    }

    fn read_formats(&mut self) {
        let folder = self.folder.join("format");
        for name in list_dir(&folder).unwrap_or_default() {
            let path = folder.join(&name);
            match read_text(&path).map_err(|e| e.to_string()).and_then(|text| {
                parse_format(&text)
                    .map_err(|source| Error::Parse { path: path.display().to_string(), source }.to_string())
            }) {
                Ok(format) => self.formats.push((name, format)),
                Err(note) => self.notes.push(note.into()),
            }
        }
    }

    fn read_events(&mut self) {
        let folder = self.folder.join("events");
        let names = list_dir(&folder).unwrap_or_default();
        // Event names of the kernel hold no dot but before these endings (tools/perf/util/pmu.c, `pmu_alias_info_file`).
        let is_property = |name: &str| {
            [".unit", ".scale", ".per-pkg", ".snapshot", ".cpus"].iter().any(|ending| name.ends_with(ending))
        };
        for name in names.iter().filter(|name| !is_property(name)) {
            match self.read_event(&folder, name) {
                Ok(event) => self.events.push(event),
                Err(note) => self.notes.push(note),
            }
        }
    }

    fn read_event(&self, folder: &Path, name: &str) -> Result<Event, Text> {
        let path = folder.join(name);
        let text = read_text(&path).map_err(|e| e.to_string())?;
        let wrong = |path: &Path, source| Error::Parse { path: path.display().to_string(), source }.to_string();
        let terms = parse_event(&text).map_err(|e| wrong(&path, e))?;
        let mut numbers = Vec::with_capacity(terms.len());
        for term in &terms {
            match term.value {
                TermValue::Number(n) => numbers.push((term.name.as_str(), n)),
                TermValue::Parameter => {
                    let e = Error::Parameter { pmu: self.name.clone(), term: term.name.clone() };
                    return Err(format!("{}: {e}", path.display()).into());
                }
            }
        }
        let attr = self.encode(&numbers).map_err(|e| format!("{}: {e}", path.display()))?;
        let unit = read_text(folder.join(format!("{name}.unit"))).ok().map(|text| text.trim().to_string());
        let scale_path = folder.join(format!("{name}.scale"));
        let scale = match read_text(&scale_path) {
            Ok(text) => parse_scale(&text).map_err(|e| wrong(&scale_path, e))?,
            Err(gpuscope_sys::Error::NotFound { .. }) => 1.0,
            // A scale that is there and unknown must not become a factor of one.
            Err(e) => return Err(e.to_string().into()),
        };
        Ok(Event { name: name.to_string(), attr, unit, scale })
    }
}

/// CPUs of a PMU's folder: `cpumask`, or `cpus` for those of a kind of core. `None` where it has neither.
pub(crate) fn read_cpus(folder: &Path) -> Result<Option<Vec<u32>>, Why> {
    for file in ["cpumask", "cpus"] {
        let path = folder.join(file);
        match read_text(&path) {
            Ok(text) => {
                let cpus =
                    parse_cpumask(&text).map_err(|e| Why::new(Reason::Failed, format!("{}: {e}", path.display())))?;
                return Ok(Some(cpus));
            }
            Err(gpuscope_sys::Error::NotFound { .. }) => {}
            Err(gpuscope_sys::Error::Gone { .. }) => {
                return Err(Why::new(Reason::Gone, format!("{}: the PMU is gone", path.display())));
            }
            Err(e) => return Err(Why::new(Reason::Failed, e.to_string())),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
