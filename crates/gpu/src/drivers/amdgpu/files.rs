//! What amdgpu's files say, each kind with its own way of being refused while the card sleeps.

use super::super::over_time::OverTime;
use super::metrics::parse_gpu_metrics;
use super::parse::{Clocks, clocks};
use crate::held::{Held, parse_u64, why_of};
use gpuscope_model::{Clock, EngineClass, GtInfo, GtSample, Reading, Reason, Text, ThrottleReasons, Why};
use gpuscope_sys::{Error, KernelFile};
use std::path::{Path, PathBuf};

/// The levels of a clock hardly ever change: where they are not the source of the clock itself, they are read at every so many
/// readings.
const LEVELS_EVERY: u32 = 16;

const REFUSED: Why = Why {
    reason: Reason::Asleep,
    detail: Text::Static("the driver refuses this while the device is suspended"),
    remedy: None,
};

const NO_LEVEL: Why = Why::not_supported("the driver marks no level of this clock as the one in force");
pub(super) const NO_LEVELS: Why = Why::not_supported("the driver lists no levels of this clock");
const CLOCK_OFF: Why = Why {
    reason: Reason::NotCounting,
    detail: Text::Static("the clock is off, and the driver lists its levels as 0 MHz"),
    remedy: None,
};
const NO_THROTTLE: Why = Why::not_supported("the firmware's table does not tell what limits the clocks now");
pub(super) const NO_POWER: Why = Why::not_supported("the driver's hwmon device has no power sensor");

/// Refusals that mean a sleeping card.
pub(super) fn refused(error: &Error) -> Option<Why> {
    matches!(error, Error::Permission { .. }).then_some(REFUSED)
}

/// A file of a percentage.
pub(super) struct Busy {
    pub(super) name: &'static str,
    pub(super) source: &'static str,
    pub(super) class: EngineClass,
    pub(super) gt: Option<u8>,
    pub(super) file: Held,
    pub(super) time: OverTime,
}

pub(super) fn busy_files(device: &Path, gts: &[GtInfo]) -> Vec<Busy> {
    // The share of time in which any graphics or compute work ran; in which memory was read or written; of video coding.
    const FILES: [(&str, &str, &str, EngineClass, Option<u8>); 3] = [
        ("gpu", "gpu_busy_percent", "gpu_busy_percent (sampled)", EngineClass::Render, Some(0)),
        ("vcn", "vcn_busy_percent", "vcn_busy_percent (sampled)", EngineClass::Video, Some(1)),
        ("mem", "mem_busy_percent", "mem_busy_percent (sampled)", EngineClass::Other, None),
    ];
    let all = FILES.into_iter().map(|(name, file, source, class, gt)| Busy {
        name,
        source,
        class,
        gt: gt.filter(|gt| gts.iter().any(|g| g.gt == *gt)),
        file: Held::open(device.join(file)),
        time: OverTime::default(),
    });
    all.filter(|b| b.file.is_open()).collect()
}

/// A clock: its levels, and where there is one, the file that tells the clock itself.
pub(super) struct ClockFiles {
    levels: Held,
    /// hwmon's `freqN_input`, hertz.
    now: Held,
    known: Result<Clocks, Why>,
    readings: u32,
}

impl ClockFiles {
    pub(super) fn open(levels: PathBuf, now: Option<PathBuf>) -> Self {
        let none = || Held::absent(Why::not_supported("this clock has no sensor of its own"));
        ClockFiles {
            levels: Held::open(levels),
            now: now.map_or_else(none, Held::open),
            known: Err(Why::FIRST_SAMPLE),
            readings: 0,
        }
    }

    pub(super) fn read(&mut self, slot: &mut GtSample) {
        let now = self.now.read_with(parse_u64, refused);
        if now.is_err() || self.known.is_err() || self.readings % LEVELS_EVERY == 0 {
            self.known = self.levels.read_with(|text| Some(clocks(text)), refused);
        }
        self.readings = self.readings.wrapping_add(1);
        let marked = |c: &Clocks| c.current.map(|mhz| f64::from(mhz) * 1e6).ok_or(NO_LEVEL);
        let known = self.known.as_ref().map_err(Why::clone);
        let actual = now.map(|hz| hz as f64).or_else(|_| known.clone().and_then(marked));
        slot.actual = actual.map(Clock::Now).into();
        let limit = |mhz: fn(&Clocks) -> Option<u32>| match known.clone().map(|c| (mhz(c), c.highest)) {
            Ok((_, Some(0))) => Err(CLOCK_OFF),
            Ok((Some(mhz), _)) => Ok(f64::from(mhz) * 1e6),
            Ok((None, _)) => Err(NO_LEVELS),
            Err(why) => Err(why),
        };
        slot.min_hz = limit(|c| c.lowest).into();
        slot.max_hz = limit(|c| c.highest).into();
    }
}

/// The binary table, held open.
pub(super) struct Table {
    pub(super) file: Result<KernelFile, Why>,
    buf: Vec<u8>,
    /// The structure that was read last.
    pub(super) structure: Option<&'static str>,
    /// The last failure, explained once.
    pub(super) failed: Option<(Option<i32>, Why)>,
}

impl Table {
    pub(super) fn open(path: PathBuf) -> Self {
        Table {
            file: KernelFile::open(path).map_err(|e| why_of(&e)),
            // Room for a page: what is asked for in pieces may be of several moments.
            buf: Vec::with_capacity(4097),
            structure: None,
            failed: None,
        }
    }

    pub(super) fn throttle(&mut self) -> Result<ThrottleReasons, Why> {
        let file = self.file.as_ref().map_err(Why::clone)?;
        let bytes = match file.read(&mut self.buf) {
            Ok(bytes) => bytes,
            Err(error) => {
                let number = error.errno();
                if let Some((_, why)) = self.failed.as_ref().filter(|(last, _)| *last == number) {
                    return Err(why.clone());
                }
                let why = refused(&error).unwrap_or_else(|| why_of(&error));
                self.failed = Some((number, why.clone()));
                return Err(why);
            }
        };
        match parse_gpu_metrics(bytes) {
            Ok(metrics) => {
                self.failed = None;
                self.structure = Some(metrics.structure());
                metrics.throttle().ok_or(NO_THROTTLE)
            }
            Err(error) => match &self.failed {
                // A table of a version that is not known stays one.
                Some((None, why)) => Err(why.clone()),
                _ => {
                    let why = Why::new(Reason::NotSupported, error.to_string());
                    self.failed = Some((None, why.clone()));
                    Err(why)
                }
            },
        }
    }
}

/// Power at the moment, in microwatts: some chips have an average over the firmware's window, some a momentary value, some both.
pub(super) struct PowerSensor {
    average: Held,
    input: Held,
    pub(super) sum: OverTime,
}

impl PowerSensor {
    pub(super) fn open(hwmon: Option<&Path>) -> Self {
        let file = |name: &str| hwmon.map_or_else(|| Held::absent(NO_POWER), |f| Held::open(f.join(name)));
        PowerSensor { average: file("power1_average"), input: file("power1_input"), sum: OverTime::default() }
    }

    pub(super) fn is_open(&self) -> bool {
        self.average.is_open() || self.input.is_open()
    }

    pub(super) fn microwatts(&mut self) -> Result<u64, Why> {
        if !self.is_open() {
            return Err(NO_POWER);
        }
        let average = self.average.read_with(parse_u64, refused);
        match average {
            Err(_) if self.input.is_open() => self.input.read_with(parse_u64, refused),
            average => average,
        }
    }
}

/// A region's files. Its size does not change while the driver is bound.
pub(super) struct Region {
    pub(super) name: &'static str,
    pub(super) total: Reading<u64>,
    pub(super) used: Held,
}

pub(super) fn regions(device: &Path) -> Vec<Region> {
    // All of the card's memory; the part of it that the processor can reach; system memory mapped for the GPU.
    const REGIONS: [(&str, &str); 3] = [("vram", "vram"), ("visible_vram", "vis_vram"), ("gtt", "gtt")];
    let all = REGIONS.into_iter().map(|(name, file)| Region {
        name,
        total: Held::open(device.join(format!("mem_info_{file}_total"))).number().into(),
        used: Held::open(device.join(format!("mem_info_{file}_used"))),
    });
    all.filter(|r| r.used.is_open()).collect()
}
