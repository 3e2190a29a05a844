//! Texts composed from the functions that print them.

mod classes;
mod documents;
mod drivers;
mod parse;
mod scanner;

use super::{EngineUsage, FdInfo, RegionUsage, parse_fdinfo};

fn parsed(text: &str) -> FdInfo {
    let mut info = FdInfo::default();
    parse_fdinfo(text, &mut info);
    info
}

/// A region as a table says it: total, shared, resident, active, purgeable; `None` where the text has no such line.
fn region(name: &str, sizes: [Option<u64>; 5]) -> RegionUsage {
    let [total_bytes, shared_bytes, resident_bytes, active_bytes, purgeable_bytes] = sizes;
    RegionUsage { name: name.into(), total_bytes, shared_bytes, resident_bytes, active_bytes, purgeable_bytes }
}

/// An engine with what its `drm-engine-` line says.
fn engine_ns(name: &str, busy_ns: u64) -> EngineUsage {
    EngineUsage { name: name.into(), busy_ns: Some(busy_ns), ..EngineUsage::default() }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// The common head: `proc_fdinfo_show` (fs/proc/fd.c), then `drm_show_fdinfo` (drivers/gpu/drm/drm_file.c).
fn head(driver: &str, id: u64, pdev: &str) -> String {
    format!(
        "pos:\t0\nflags:\t02100002\nmnt_id:\t26\nino:\t685\ndrm-driver:\t{driver}\ndrm-client-id:\t{id}\ndrm-pdev:\t{pdev}\n"
    )
}

/// i915 with two video engines: `i915_drm_client_fdinfo` and `show_client_class` (drivers/gpu/drm/i915/i915_drm_client.c); memory by
/// `drm_print_memory_stats`.
fn i915(id: u64, render_ns: u64, video_ns: u64) -> String {
    head("i915", id, "0000:00:02.0")
        + &format!(
            "drm-total-system0:\t120 MiB\ndrm-shared-system0:\t16384 KiB\ndrm-active-system0:\t0\n\
             drm-resident-system0:\t119 MiB\ndrm-purgeable-system0:\t4100\n\
             drm-engine-render:\t{render_ns} ns\ndrm-engine-copy:\t0 ns\ndrm-engine-video:\t{video_ns} ns\n\
             drm-engine-capacity-video:\t2\ndrm-engine-video-enhance:\t0 ns\n"
        )
}

/// xe: `show_meminfo` and `show_run_ticks` (drivers/gpu/drm/xe/xe_drm_client.c). `total` is one time stamp for all classes.
fn xe(id: u64, rcs: u64, vcs: u64, total: u64) -> String {
    head("xe", id, "0000:03:00.0")
        + &format!(
            "drm-total-system:\t0\ndrm-shared-system:\t0\ndrm-active-system:\t0\ndrm-resident-system:\t0\n\
             drm-purgeable-system:\t0\ndrm-total-vram0:\t23992 KiB\ndrm-shared-vram0:\t16 MiB\ndrm-active-vram0:\t0\n\
             drm-resident-vram0:\t23992 KiB\n\
             drm-cycles-rcs:\t{rcs}\ndrm-total-cycles-rcs:\t{total}\n\
             drm-cycles-vcs:\t{vcs}\ndrm-total-cycles-vcs:\t{total}\ndrm-engine-capacity-vcs:\t2\n"
        )
}
