//! DRM ioctls, as the system call's tracepoints tell them.
//!
//! Source: the events that CONFIG_FTRACE_SYSCALLS makes (kernel/trace/trace_syscalls.c); their fields are the call's arguments. The kernel
//! passes on requests of type `d` (DRM_IOCTL_BASE, include/uapi/drm/drm.h) alone. The end does not say of which request it is, so that the
//! ends of all ioctls come.

mod names;

use super::{NOTHING, Spec};
use gpuscope_model::trace::EventKind;

/// The type is the second byte: 0x64.
const IS_DRM: &str = "(cmd & 0x4000) && (cmd & 0x2000) && (cmd & 0x400) && !(cmd & 0x8000) && !(cmd & 0x1000) && !(cmd & 0x800) && \
                      !(cmd & 0x200) && !(cmd & 0x100)";

pub(crate) const SPECS: &[Spec] = &[
    Spec { name: "sys_enter_ioctl", kind: EventKind::IoctlEnter, value: Some("cmd"), filter: Some(IS_DRM), ..NOTHING },
    Spec { name: "sys_exit_ioctl", kind: EventKind::IoctlExit, value: Some("ret"), ..NOTHING },
];

/// Stands for what a driver may call it that is not known.
const ANOTHERS: &str = "another driver's";

/// What an ioctl is called, without `DRM_IOCTL_`: of the core's numbers (below 0x40 and from 0xa0 on) whoever was asked; of the drivers' own, what
/// these drivers call it, with `or` between them where they differ. None for a number that none of them has, and where no driver is known.
pub fn ioctl_name<'a>(drivers: impl IntoIterator<Item = &'a str>, request: u32) -> Option<String> {
    let of_drm = request >> 8 & 0xff == u32::from(b'd');
    let number = u8::try_from(request & 0xff).ok().filter(|_| of_drm)?;
    let find = |table: &[(u8, &'static str)]| {
        table
            .binary_search_by_key(&number, |(known, _)| *known)
            .ok()
            .and_then(|at| table.get(at))
            .map(|(_, name)| *name)
    };
    if !(0x40..0xa0).contains(&number) {
        return find(names::CORE).map(str::to_string);
    }
    let mut all: Vec<&str> = Vec::new();
    for driver in drivers {
        let table = names::DRIVERS.iter().find(|(known, _)| *known == driver).map(|(_, table)| *table);
        // A driver whose names are not known here may have the number, and a known one may have got it after Linux 7.2.
        let name = table.and_then(find).unwrap_or(ANOTHERS);
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all.sort_by_key(|name| *name == ANOTHERS);
    all.first().is_some_and(|name| *name != ANOTHERS).then(|| all.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole requests are those that a C compiler makes of the headers of Linux 7.2 on x86-64.
    #[test]
    fn requests_have_the_names_of_their_drivers() {
        let name = |drivers: &[&str], request| ioctl_name(drivers.iter().copied(), request);
        assert_eq!(name(&[], 0xc040_6400).as_deref(), Some("VERSION"));
        assert_eq!(name(&["amdgpu"], 0xc018_6444).as_deref(), Some("AMDGPU_CS"));
        assert_eq!(name(&["i915"], 0x4040_6469).as_deref(), Some("I915_GEM_EXECBUFFER2"));
        assert_eq!(name(&["xe"], 0x4038_6449).as_deref(), Some("XE_EXEC"));
        assert_eq!(name(&["virtio_gpu"], 0xc040_6442).as_deref(), Some("VIRTGPU_EXECBUFFER"));
        assert_eq!(name(&["virtio-pci"], 0xc040_6442).as_deref(), Some("VIRTGPU_EXECBUFFER"));
        assert_eq!(name(&["panthor"], 0xc038_6447).as_deref(), Some("PANTHOR_GROUP_CREATE"));
        assert_eq!(name(&["amdgpu", "xe", "amdgpu"], 0xc018_6444).as_deref(), Some("AMDGPU_CS or XE_VM_DESTROY"));
        assert_eq!(name(&["amdgpu", "nvidia"], 0xc018_6444).as_deref(), Some("AMDGPU_CS or another driver's"));
        assert_eq!(name(&["xe", "i915"], 0x4040_6469).as_deref(), Some("I915_GEM_EXECBUFFER2 or another driver's"));
        assert_eq!(name(&["nvidia"], 0xc018_6444), None);
        assert_eq!(name(&[], 0xc018_6444), None);
        assert_eq!(name(&["amdgpu"], 0x5401), None, "TCGETS is a terminal's");
    }

    #[test]
    fn tables_are_in_order_and_within_their_range() {
        for (driver, table) in names::DRIVERS {
            assert!(table.is_sorted_by(|(a, _), (b, _)| a < b) && !table.is_empty(), "{driver}");
            assert!(table.iter().all(|(number, _)| (0x40..0xa0).contains(number)), "{driver}");
        }
        assert!(names::CORE.is_sorted_by(|(a, _), (b, _)| a < b));
        assert!(names::CORE.iter().all(|(number, _)| !(0x40..0xa0).contains(number)));
    }
}
