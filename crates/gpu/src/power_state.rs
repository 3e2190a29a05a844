//! Runtime power state of a device, and whether it is still bound. Reading any of this wakes nothing.

use crate::held::{Held, parse_i64};
use gpuscope_model::{AlwaysOn, Reading, Reason, RuntimeStatus, Why};
use std::path::{Path, PathBuf};

/// The device was unbound from its driver or unplugged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// Whether a device sleeps, and whether it ever would.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PowerState {
    /// `power/runtime_status`.
    pub(crate) status: Reading<RuntimeStatus>,
    /// `power/autosuspend_delay_ms`; `None` where the driver does not use autosuspend, or switched it off (negative).
    pub(crate) autosuspend_delay_ns: Option<u64>,
    /// It never suspends by itself: `power/control` says `on`, the autosuspend delay is negative, or there is no runtime power
    /// management.
    pub(crate) always_on: bool,
    /// The setting that keeps it from suspending.
    pub(crate) forced: Option<AlwaysOn>,
}

/// Whether `power/control` forbids runtime suspend: `control_show` in drivers/base/power/sysfs.c prints `auto` or `on`.
pub fn parse_control(text: &str) -> Option<bool> {
    match text.trim_end() {
        "on" => Some(true),
        "auto" => Some(false),
        _ => None,
    }
}

/// `power/autosuspend_delay_ms` in nanoseconds; a negative delay forbids autosuspend
/// (`autosuspend_delay_ms_show` in drivers/base/power/sysfs.c).
pub fn parse_autosuspend_ms(text: &str) -> Option<Option<u64>> {
    let ms = parse_i64(text)?;
    Some(u64::try_from(ms).ok().map(|ms| ms.saturating_mul(1_000_000)))
}

/// The files that tell it, held open.
#[derive(Debug)]
pub(crate) struct PowerFiles {
    /// `dev` of the DRM minor: it answers ENODEV once the driver is unbound, when the files of the PCI device still answer.
    alive: Option<Held>,
    /// The device's link to its driver, in place of a minor where the driver made none.
    driver: Option<PathBuf>,
    status: Held,
    control: Held,
    autosuspend: Held,
    no_runtime_pm: bool,
    delay: Option<u64>,
    never: bool,
    calls: u32,
}

impl PowerFiles {
    /// The autosuspend delay hardly ever changes: it is read at every so many calls.
    const DELAY_EVERY: u32 = 16;

    /// Opens the files of a device folder, and of the folder of one of its DRM minors.
    pub(crate) fn open(device: &Path, minor: Option<&Path>) -> Self {
        let status = Held::open(device.join("power/runtime_status"));
        let no_runtime_pm = status.why().is_some_and(|why| why.reason == Reason::NotSupported);
        PowerFiles {
            driver: minor.is_none().then(|| device.join("driver")).filter(|link| link.is_symlink()),
            alive: minor.map(|m| Held::open(m.join("dev"))).filter(Held::is_open),
            status,
            control: Held::open(device.join("power/control")),
            autosuspend: Held::open(device.join("power/autosuspend_delay_ms")),
            no_runtime_pm,
            delay: None,
            never: false,
            calls: 0,
        }
    }

    /// Reads the state.
    pub(crate) fn read(&mut self) -> Result<PowerState, Gone> {
        if let Some(alive) = &mut self.alive {
            if alive.read(|_| Some(())).is_err_and(|why| why.reason == Reason::Gone) {
                return Err(Gone);
            }
        }
        if self.driver.as_ref().is_some_and(|link| !link.is_symlink()) {
            return Err(Gone);
        }
        if self.no_runtime_pm {
            let status = Reading::Absent(self.status.why().cloned().unwrap_or(Why::FIRST_SAMPLE));
            return Ok(PowerState { status, autosuspend_delay_ns: None, always_on: true, forced: None });
        }
        let status = self.status.read(RuntimeStatus::parse);
        if status.as_ref().is_err_and(|why| why.reason == Reason::Gone) {
            return Err(Gone);
        }
        let on = self.control.read(parse_control).unwrap_or(false);
        if self.calls % Self::DELAY_EVERY == 0 {
            let delay = self.autosuspend.read(parse_autosuspend_ms);
            self.never = delay == Ok(None);
            self.delay = delay.ok().flatten();
        }
        self.calls = self.calls.wrapping_add(1);
        let forced = match (on, self.never) {
            (true, _) => Some(AlwaysOn::PowerControl),
            (false, true) => Some(AlwaysOn::AutosuspendDelay),
            (false, false) => None,
        };
        let always_on = forced.is_some() || status == Ok(RuntimeStatus::Unsupported);
        Ok(PowerState { status: status.into(), autosuspend_delay_ns: self.delay, always_on, forced })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts as `control_show`, `autosuspend_delay_ms_show` and `rtpm_status_str` in drivers/base/power/sysfs.c print them.
    fn device(status: &str, control: &str, delay: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("power")).unwrap();
        std::fs::write(dir.path().join("power/runtime_status"), status).unwrap();
        std::fs::write(dir.path().join("power/control"), control).unwrap();
        std::fs::write(dir.path().join("power/autosuspend_delay_ms"), delay).unwrap();
        dir
    }

    #[test]
    fn suspended_device_with_autosuspend() {
        let dir = device("suspended\n", "auto\n", "1000\n");
        let state = PowerFiles::open(dir.path(), None).read().unwrap();
        assert_eq!(state.status, Reading::Value(RuntimeStatus::Suspended));
        assert_eq!(state.autosuspend_delay_ns, Some(1_000_000_000));
        assert!(!state.always_on);
        assert_eq!(state.forced, None);
    }

    #[test]
    fn control_on_never_sleeps() {
        let dir = device("active\n", "on\n", "-1\n");
        let state = PowerFiles::open(dir.path(), None).read().unwrap();
        assert_eq!(state.status, Reading::Value(RuntimeStatus::Active));
        assert_eq!(state.autosuspend_delay_ns, None);
        assert!(state.always_on);
        assert_eq!(state.forced, Some(AlwaysOn::PowerControl));
    }

    #[test]
    fn negative_delay_never_sleeps() {
        let dir = device("active\n", "auto\n", "-1\n");
        let state = PowerFiles::open(dir.path(), None).read().unwrap();
        assert_eq!(state.autosuspend_delay_ns, None);
        assert!(state.always_on);
        assert_eq!(state.forced, Some(AlwaysOn::AutosuspendDelay));
    }

    #[test]
    fn unsupported_never_sleeps() {
        let dir = device("unsupported\n", "auto\n", "1000\n");
        assert!(PowerFiles::open(dir.path(), None).read().unwrap().always_on);
    }

    #[test]
    fn no_runtime_pm_is_named_and_always_on() {
        let dir = tempfile::tempdir().unwrap();
        let state = PowerFiles::open(dir.path(), None).read().unwrap();
        assert_eq!(state.status.why().unwrap().reason, Reason::NotSupported);
        assert!(state.always_on);
    }

    #[test]
    fn synthetic_words_are_failures() {
        let dir = device("sleepy\n", "maybe\n", "soon\n");
        let state = PowerFiles::open(dir.path(), None).read().unwrap();
        assert_eq!(state.status.why().unwrap().reason, Reason::Failed);
        assert_eq!(state.autosuspend_delay_ns, None);
        assert!(!state.always_on);
        assert_eq!(parse_control(""), None);
        assert_eq!(parse_autosuspend_ms("-2147483648\n"), Some(None));
    }
}
