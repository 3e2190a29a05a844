//! Text of the kernel in, values out: pure functions that answer every input.
//!
//! What they read is printed by `perf_event_sysfs_show` and the drivers' `format` attributes (kernel/events/core.c,
//! arch/x86/events, drivers/gpu/drm), `cpumap_print_to_pagebuf` (lib/cpumask.c) and `proc_pid_status` (fs/proc/array.c).

use std::str::FromStr;

/// CPUs that a list may name: far above NR_CPUS of any kernel, and small enough to hold.
const MAX_CPUS: u32 = 65_536;

/// What a text was not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not {expected}: {text:?}")]
pub struct ParseError {
    /// What was expected.
    pub expected: &'static str,
    /// The part that was something else, shortened.
    pub text: String,
}

impl ParseError {
    fn new(expected: &'static str, text: &str) -> Self {
        ParseError { expected, text: text.chars().take(64).collect() }
    }
}

/// The word of `perf_event_attr` that a format term fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Word {
    /// `config`
    Config,
    /// `config1`
    Config1,
    /// `config2`
    Config2,
    /// `config3`, which gpuscope has no use for yet.
    Config3,
}

impl Word {
    /// The word by the name which format files and raw event terms use.
    pub fn by_name(name: &str) -> Option<Word> {
        match name {
            "config" => Some(Word::Config),
            "config1" => Some(Word::Config1),
            "config2" => Some(Word::Config2),
            "config3" => Some(Word::Config3),
            _ => None,
        }
    }
}

/// Bits `low..=high` of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitRange {
    low: u8,
    high: u8,
}

impl BitRange {
    /// Lowest bit.
    pub fn low(self) -> u8 {
        self.low
    }

    /// Highest bit, at most 63.
    pub fn high(self) -> u8 {
        self.high
    }

    /// Number of bits, 1 to 64.
    pub fn width(self) -> u32 {
        u32::from(self.high.saturating_sub(self.low)).saturating_add(1)
    }

    /// As many low one-bits as the range is wide.
    fn ones(self) -> u64 {
        u64::MAX >> 64u32.saturating_sub(self.width()).min(63)
    }
}

/// Where the value of a term goes: `config:0-7,32-35`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// The word.
    pub word: Word,
    /// Its bits, filled from the value's low end in this order.
    pub ranges: Vec<BitRange>,
}

impl Format {
    /// Spreads `value` over the bits; `None` when it does not fit into them.
    pub fn place(&self, value: u64) -> Option<u64> {
        let mut rest = value;
        let mut word = 0;
        for range in &self.ranges {
            word |= (rest & range.ones()) << range.low.min(63);
            rest = rest.checked_shr(range.width()).unwrap_or(0);
        }
        (rest == 0).then_some(word)
    }

    /// All bits of the term.
    pub fn mask(&self) -> u64 {
        self.ranges.iter().fold(0, |mask, range| mask | (range.ones() << range.low.min(63)))
    }
}

/// Parses a file of `format/`: `config:0-11`, `config1:3`, `config:0-7,32-35`.
///
/// # Errors
/// [`ParseError`] for another word than `config`, `config1`, `config2`, `config3`, and for bits that are no bits of 64.
pub fn parse_format(text: &str) -> Result<Format, ParseError> {
    let text = text.trim();
    let wrong = || ParseError::new("a format (config:LOW-HIGH,…)", text);
    let (word, ranges) = text.split_once(':').ok_or_else(wrong)?;
    let word = Word::by_name(word.trim()).ok_or_else(wrong)?;
    let ranges = ranges
        .split(',')
        .map(|range| {
            let (low, high) = range.split_once('-').unwrap_or((range, range));
            let (low, high) = (decimal::<u8>(low)?, decimal::<u8>(high)?);
            (low <= high && high < 64).then_some(BitRange { low, high })
        })
        .collect::<Option<Vec<_>>>()
        .ok_or_else(wrong)?;
    Ok(Format { word, ranges })
}

/// The value of a term in an event file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TermValue {
    /// A number; a term without one means 1.
    Number(u64),
    /// `?`: to be chosen by who counts.
    Parameter,
}

/// A term of an event file: `umask=0x20`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// Its name: one of `format/`, or `config`, `config1`, `config2`, `config3` for a whole word.
    pub name: String,
    /// Its value.
    pub value: TermValue,
}

/// Parses a file of `events/`: `config=0x2000`, `event=0xff,umask=0x20`, `event=0x3c,inv`.
///
/// # Errors
/// [`ParseError`] for a term without a name or with a value that is no number.
pub fn parse_event(text: &str) -> Result<Vec<Term>, ParseError> {
    let text = text.trim();
    text.split(',')
        .map(|term| {
            let (name, value) = match term.split_once('=') {
                Some((name, value)) => (name.trim(), Some(value.trim())),
                None => (term.trim(), None),
            };
            let value = match value {
                None => Some(TermValue::Number(1)),
                Some("?") => Some(TermValue::Parameter),
                Some(number) => parse_number(number).map(TermValue::Number),
            };
            match value {
                Some(value) if is_term_name(name) => Ok(Term { name: name.to_string(), value }),
                _ => Err(ParseError::new("an event (term=value,…)", text)),
            }
        })
        .collect()
}

fn is_term_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

/// A number of an event file: decimal, or hexadecimal after `0x`.
fn parse_number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        // `from_str_radix` would take a sign.
        Some(hex) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => u64::from_str_radix(hex, 16).ok(),
        Some(_) => None,
        None => decimal(text),
    }
}

/// Digits and nothing else: `FromStr` of the integers would take a sign.
fn decimal<T: FromStr>(text: &str) -> Option<T> {
    let text = text.trim();
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Parses a CPU list: `0`, `0,4-7`. An empty one is a mask without CPUs.
///
/// # Errors
/// [`ParseError`] for what is no list, runs backwards or names CPUs beyond 65535.
pub fn parse_cpumask(text: &str) -> Result<Vec<u32>, ParseError> {
    let text = text.trim();
    let mut cpus = Vec::new();
    if text.is_empty() {
        return Ok(cpus);
    }
    for range in text.split(',') {
        let (low, high) = range.split_once('-').unwrap_or((range, range));
        match (decimal::<u32>(low), decimal::<u32>(high)) {
            (Some(low), Some(high)) if low <= high && high < MAX_CPUS => cpus.extend(low..=high),
            _ => return Err(ParseError::new("a list of CPUs", text)),
        }
        // Overlapping ranges would otherwise multiply what is held.
        if cpus.len() > MAX_CPUS as usize {
            return Err(ParseError::new("a list of CPUs", text));
        }
    }
    cpus.sort_unstable();
    cpus.dedup();
    Ok(cpus)
}

/// Parses an event's `.scale`: `2.3283064365386962890625e-10`.
///
/// # Errors
/// [`ParseError`] for what is no positive finite number.
pub fn parse_scale(text: &str) -> Result<f64, ParseError> {
    let text = text.trim();
    match text.parse::<f64>() {
        Ok(scale) if scale.is_finite() && scale > 0.0 => Ok(scale),
        _ => Err(ParseError::new("a scale", text)),
    }
}

/// Parses one decimal number, as in `type`.
///
/// # Errors
/// [`ParseError`] for anything else.
pub fn parse_u64(text: &str) -> Result<u64, ParseError> {
    decimal(text).ok_or_else(|| ParseError::new("a number", text.trim()))
}

/// What `/proc/self/status` says about rights. A line that is not there is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Effective user id (the second number of `Uid`).
    pub uid: Option<u32>,
    /// `CapEff`
    pub effective: Option<u64>,
    /// `CapBnd`
    pub bounding: Option<u64>,
    /// `NoNewPrivs`: file capabilities have no effect on what this process starts.
    pub no_new_privs: Option<bool>,
    /// `Seccomp`: 0 off, 1 strict, 2 filter.
    pub seccomp: Option<u32>,
}

/// Parses the lines of `/proc/self/status` that speak of rights; other lines pass.
///
/// # Errors
/// [`ParseError`] when one of those lines holds another value than the kernel prints.
pub fn parse_status(text: &str) -> Result<Status, ParseError> {
    let mut status = Status::default();
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        let wrong = || ParseError::new("a line of proc/self/status", line);
        match key {
            "Uid" => {
                let effective = value.split_ascii_whitespace().nth(1);
                status.uid = Some(effective.and_then(decimal).ok_or_else(wrong)?);
            }
            "CapEff" => status.effective = Some(bare_hex(value).ok_or_else(wrong)?),
            "CapBnd" => status.bounding = Some(bare_hex(value).ok_or_else(wrong)?),
            "NoNewPrivs" => status.no_new_privs = Some(decimal::<u32>(value).ok_or_else(wrong)? != 0),
            "Seccomp" => status.seccomp = Some(decimal(value).ok_or_else(wrong)?),
            _ => {}
        }
    }
    Ok(status)
}

fn bare_hex(text: &str) -> Option<u64> {
    if text.bytes().all(|b| b.is_ascii_hexdigit()) { u64::from_str_radix(text, 16).ok() } else { None }
}

/// Parses `/proc/self/uid_map`: whether it is the map of the first user namespace, which maps every id onto itself.
///
/// # Errors
/// [`ParseError`] for a line that is not three numbers.
pub fn parse_uid_map_is_whole(text: &str) -> Result<bool, ParseError> {
    let mut whole = false;
    for line in text.lines().filter(|l| !l.trim().is_empty()) {
        let numbers: Option<Vec<u32>> = line.split_ascii_whitespace().map(decimal).collect();
        match numbers.as_deref() {
            Some([0, 0, u32::MAX]) => whole = true,
            Some([_, _, _]) => {}
            _ => return Err(ParseError::new("a line of proc/self/uid_map", line)),
        }
    }
    Ok(whole)
}

#[cfg(test)]
mod tests;
