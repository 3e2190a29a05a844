//! Every driver that prints fdinfo in Linux 7.2.13, and what i915, amdgpu and msm printed in 6.1.192 and 6.12.117: lines as the named
//! function prints them, numbers made up. The head is `drm_show_fdinfo`'s, memory is `drm_print_memory_stats`' and, where a driver calls
//! it, `drm_show_memory_stats`' (all in drivers/gpu/drm/drm_file.c): the latter prints `drm-active-` and `drm-resident-` only when an
//! object has the state.
//!
//! In 7.2 nouveau, nova, tyr, radeon, lima, tegra, vc4, virtio-gpu, vmwgfx, qxl, imagination, rocket, ethosu, qaic and habanalabs have no
//! `show_fdinfo`.

use super::{KIB, MIB, engine_ns, head, parsed, region};
use crate::fdinfo::classes::class_of;
use crate::fdinfo::{EngineUsage, FdInfo, RegionUsage};
use gpuscope_model::EngineClass::{self, Compute, Copy, Other, Render, Video, VideoEnhance};

fn expect(text: &str, engines: &[(EngineClass, EngineUsage)], memory: &[RegionUsage]) -> FdInfo {
    let info = parsed(text);
    assert!(info.is_drm() && info.client_id.is_some());
    let found: Vec<_> = info.engines.iter().map(|e| (class_of(&e.name).0, e.clone())).collect();
    assert_eq!(found, engines);
    assert_eq!(info.memory, memory);
    assert_eq!((&info.notes[..], info.unknown_keys), (&[][..], 0));
    info
}

/// `drm_show_fdinfo` of a device that is not on PCI.
fn platform(driver: &str) -> String {
    format!("pos:\t0\nflags:\t02400002\nmnt_id:\t29\nino:\t491\ndrm-driver:\t{driver}\ndrm-client-id:\t12\n")
}

/// `show_meminfo`, `show_client_class` (drivers/gpu/drm/i915/i915_drm_client.c); region names: `intel_memory_type_str` with an instance
/// (drivers/gpu/drm/i915/intel_memory_region.c). A discrete card.
#[test]
fn i915_prints_each_region_then_each_class_it_has() {
    let mut text = head("i915", 4, "0000:03:00.0");
    for name in ["system0", "local0", "stolen-local0"] {
        text += &format!("drm-total-{name}:\t8 MiB\ndrm-shared-{name}:\t0\ndrm-active-{name}:\t12 KiB\n");
        text += &format!("drm-resident-{name}:\t4100 KiB\ndrm-purgeable-{name}:\t0\n");
    }
    text += "drm-engine-render:\t11 ns\ndrm-engine-copy:\t12 ns\ndrm-engine-video:\t13 ns\ndrm-engine-capacity-video:\t2\n\
             drm-engine-video-enhance:\t14 ns\ndrm-engine-capacity-video-enhance:\t2\ndrm-engine-compute:\t15 ns\n\
             drm-engine-capacity-compute:\t4\n";
    let with = |capacity, engine: EngineUsage| EngineUsage { printed_capacity: Some(capacity), ..engine };
    let engines = [
        (Render, engine_ns("render", 11)),
        (Copy, engine_ns("copy", 12)),
        (Video, with(2, engine_ns("video", 13))),
        (VideoEnhance, with(2, engine_ns("video-enhance", 14))),
        (Compute, with(4, engine_ns("compute", 15))),
    ];
    let sizes = [8 * MIB, 0, 4100 * KIB, 12 * KIB, 0].map(Some);
    expect(&text, &engines, &["system0", "local0", "stolen-local0"].map(|name| region(name, sizes)));
}

/// Linux 6.1: `i915_drm_client_fdinfo` prints the head too, in another order, and no memory; with GuC submission no engines either.
#[test]
fn i915_of_linux_6_1_prints_the_address_before_the_id() {
    let text = "pos:\t0\nflags:\t0100002\nmnt_id:\t21\nino:\t411\ndrm-driver:\ti915\ndrm-pdev:\t0000:00:02.0\n\
                drm-client-id:\t7\n";
    let info = expect(text, &[], &[]);
    assert_eq!((info.client_id, info.pdev.as_str()), (Some(7), "0000:00:02.0"));
    expect(&format!("{text}drm-engine-render:\t5 ns\n"), &[(Render, engine_ns("render", 5))], &[]);
}

/// `show_meminfo` with `xe_mem_type_to_name` (xe_bo.c), `show_run_ticks` (drivers/gpu/drm/xe/xe_drm_client.c); class names:
/// `xe_hw_engine_class_to_str` (xe_hw_engine.c). Only `system` has a purgeable line. Two tiles.
#[test]
fn xe_prints_cycles_with_the_same_total_for_every_class() {
    let mut text = head("xe", 5, "0000:03:00.0");
    for name in ["system", "gtt", "vram0", "vram1", "stolen"] {
        text += &format!("drm-total-{name}:\t64 KiB\ndrm-shared-{name}:\t0\ndrm-active-{name}:\t0\n");
        text += &format!("drm-resident-{name}:\t64 KiB\n");
        if name == "system" {
            text += "drm-purgeable-system:\t16 KiB\n";
        }
    }
    for name in ["rcs", "vcs", "vecs", "bcs", "other", "ccs"] {
        text += &format!("drm-cycles-{name}:\t6\ndrm-total-cycles-{name}:\t700\n");
        if name != "rcs" {
            text += &format!("drm-engine-capacity-{name}:\t2\n");
        }
    }
    let engine = |name: &str| EngineUsage {
        name: name.into(),
        cycles: Some(6),
        total_cycles: Some(700),
        printed_capacity: (name != "rcs").then_some(2),
        ..EngineUsage::default()
    };
    let classes = [Render, Video, VideoEnhance, Copy, Other, Compute];
    let names = ["rcs", "vcs", "vecs", "bcs", "other", "ccs"];
    let engines: Vec<_> = classes.into_iter().zip(names.map(engine)).collect();
    let memory = ["system", "gtt", "vram0", "vram1", "stolen"].map(|name| {
        let purgeable = (name == "system").then_some(16 * KIB);
        region(name, [Some(64 * KIB), Some(0), Some(64 * KIB), Some(0), purgeable])
    });
    expect(&text, &engines, &memory);
}

const AMD_ENGINES: &str = "drm-engine-gfx:\t21 ns\ndrm-engine-compute:\t22 ns\ndrm-engine-dma:\t23 ns\ndrm-engine-dec:\t24 ns\n\
    drm-engine-enc:\t25 ns\ndrm-engine-enc_1:\t26 ns\ndrm-engine-dec:\t27 ns\ndrm-engine-enc:\t28 ns\ndrm-engine-jpeg:\t29 ns\n\
    drm-engine-vpe:\t30 ns\n";

/// One name for two blocks: `dec` of UVD and of VCN, `enc` of VCE and of VCN.
fn amd_engines() -> [(EngineClass, EngineUsage); 8] {
    [
        (Render, engine_ns("gfx", 21)),
        (Compute, engine_ns("compute", 22)),
        (Copy, engine_ns("dma", 23)),
        (Other, engine_ns("dec", 24 + 27)),
        (Other, engine_ns("enc", 25 + 28)),
        (Other, engine_ns("enc_1", 26)),
        (Other, engine_ns("jpeg", 29)),
        (Other, engine_ns("vpe", 30)),
    ]
}

/// `amdgpu_show_fdinfo` (drivers/gpu/drm/amd/amdgpu/amdgpu_fdinfo.c): regions by `drm_print_memory_stats` without an active line, then
/// older names of resident, cut to whole KiB, two of them with a space before the tab.
#[test]
fn amdgpu_prints_resident_memory_under_two_names() {
    let names = ["vram", "gtt", "cpu", "gds", "gws", "oa", "doorbell", "mmioremap"];
    let mut text = head("amdgpu", 6, "0000:05:00.0") + "pasid:\t32771\n";
    for name in names {
        text += &format!("drm-total-{name}:\t2 MiB\ndrm-shared-{name}:\t4 KiB\ndrm-resident-{name}:\t1536 KiB\n");
        text += &format!("drm-purgeable-{name}:\t0\n");
    }
    text += "drm-memory-vram:\t1535 KiB\ndrm-memory-gtt: \t1535 KiB\ndrm-memory-cpu: \t1535 KiB\namd-evicted-vram:\t0 KiB\n\
             amd-requested-vram:\t2048 KiB\namd-requested-gtt:\t2048 KiB\n";
    let sizes = [Some(2 * MIB), Some(4 * KIB), Some(1536 * KIB), None, Some(0)];
    expect(&(text + AMD_ENGINES), &amd_engines(), &names.map(|name| region(name, sizes)));
}

/// Linux 6.12: `amdgpu_show_fdinfo` without `drm_print_memory_stats`.
#[test]
fn amdgpu_of_linux_6_12_prints_resident_memory_under_its_older_name_alone() {
    let text = head("amdgpu", 6, "0000:05:00.0")
        + "pasid:\t32771\ndrm-memory-vram:\t900 KiB\ndrm-memory-gtt: \t80 KiB\ndrm-memory-cpu: \t0 KiB\n\
           amd-memory-visible-vram:\t900 KiB\namd-evicted-vram:\t0 KiB\namd-evicted-visible-vram:\t0 KiB\n\
           amd-requested-vram:\t900 KiB\namd-requested-visible-vram:\t4 KiB\namd-requested-gtt:\t80 KiB\n\
           drm-shared-vram:\t8 KiB\ndrm-shared-gtt:\t0 KiB\ndrm-shared-cpu:\t0 KiB\n";
    let sizes = |shared, resident| [None, Some(shared), Some(resident), None, None];
    let memory =
        [region("vram", sizes(8 * KIB, 900 * KIB)), region("gtt", sizes(0, 80 * KIB)), region("cpu", sizes(0, 0))];
    expect(&(text + AMD_ENGINES), &amd_engines(), &memory);
}

/// Linux 6.1: `amdgpu_show_fdinfo` prints the head too, after a line of its own.
#[test]
fn amdgpu_of_linux_6_1_prints_the_head_itself() {
    let text = "pos:\t0\nflags:\t02100002\nmnt_id:\t26\nino:\t685\npasid:\t32771\ndrm-driver:\tamdgpu\n\
                drm-pdev:\t0000:05:00.0\ndrm-client-id:\t51209\ndrm-memory-vram:\t900 KiB\ndrm-memory-gtt: \t80 KiB\n\
                drm-memory-cpu: \t0 KiB\ndrm-engine-gfx:\t9 ns\n";
    let resident = |bytes| [None, None, Some(bytes), None, None];
    let memory = [region("vram", resident(900 * KIB)), region("gtt", resident(80 * KIB)), region("cpu", resident(0))];
    let info = expect(text, &[(Render, engine_ns("gfx", 9))], &memory);
    assert_eq!((info.client_id, info.pdev.as_str()), (Some(51_209), "0000:05:00.0"));
}

/// `msm_gpu_show_fdinfo` (drivers/gpu/drm/msm/msm_gpu.c), then `drm_show_memory_stats`. Linux 6.1 prints the head there and no memory.
#[test]
fn msm_prints_one_engine_for_the_whole_gpu() {
    let gpu = EngineUsage { cycles: Some(31), max_freq_hz: Some(800_000_000), ..engine_ns("gpu", 30) };
    let engines = "drm-engine-gpu:\t30 ns\ndrm-cycles-gpu:\t31\ndrm-maxfreq-gpu:\t800000000 Hz\n";
    let memory = "drm-total-memory:\t3 MiB\ndrm-shared-memory:\t0\ndrm-active-memory:\t1 MiB\ndrm-resident-memory:\t2 MiB\n\
                  drm-purgeable-memory:\t4 KiB\n";
    let sizes = [3 * MIB, 0, 2 * MIB, MIB, 4 * KIB].map(Some);
    expect(&(platform("msm") + engines + memory), &[(Other, gpu.clone())], &[region("memory", sizes)]);
    expect(&(platform("msm") + engines), &[(Other, gpu)], &[]);
}

/// `panfrost_gpu_show_fdinfo` (drivers/gpu/drm/panfrost/panfrost_drv.c): time and cycles only with `profiling` on.
#[test]
fn panfrost_without_profiling_names_its_engines_and_counts_nothing() {
    let freq = |name| format!("drm-maxfreq-{name}:\t800000000 Hz\ndrm-curfreq-{name}:\t200000000 Hz\n");
    let memory =
        "drm-total-memory:\t64 KiB\ndrm-shared-memory:\t0\ndrm-resident-memory:\t64 KiB\ndrm-purgeable-memory:\t0\n";
    let engine = |name: &str| EngineUsage {
        name: name.into(),
        max_freq_hz: Some(800_000_000),
        current_freq_hz: Some(200_000_000),
        ..EngineUsage::default()
    };
    let text = platform("panfrost") + &freq("fragment") + &freq("vertex-tiler") + memory;
    let sizes = [Some(64 * KIB), Some(0), Some(64 * KIB), None, Some(0)];
    let engines = [(Other, engine("fragment")), (Other, engine("vertex-tiler"))];
    expect(&text, &engines, &[region("memory", sizes)]);
}

/// `panthor_gpu_show_fdinfo` and `panthor_show_internal_memory_stats` (drivers/gpu/drm/panthor/panthor_drv.c): bit 0 of `profiling` adds
/// the cycles, bit 1 the time. Its objects are never purgeable (`panthor_gem_status`).
#[test]
fn panthor_counts_what_its_profiling_mask_says() {
    let always = "drm-maxfreq-panthor:\t1000000000 Hz\ndrm-curfreq-panthor:\t400000000 Hz\npanthor-resident-memory:\t8 KiB\n\
                  panthor-active-memory:\t0\ndrm-total-memory:\t0\ndrm-shared-memory:\t0\n";
    let memory = [region("memory", [Some(0), Some(0), None, None, None])];
    for (mask, busy_ns, cycles) in [(0, None, None), (1, None, Some(6)), (2, Some(5), None), (3, Some(5), Some(6))] {
        let mut text = platform("panthor");
        if mask & 2 != 0 {
            text += "drm-engine-panthor:\t5 ns\n";
        }
        if mask & 1 != 0 {
            text += "drm-cycles-panthor:\t6\n";
        }
        let engine = EngineUsage {
            name: "panthor".into(),
            busy_ns,
            cycles,
            max_freq_hz: Some(1_000_000_000),
            current_freq_hz: Some(400_000_000),
            ..EngineUsage::default()
        };
        expect(&(text + always), &[(Other, engine)], &memory);
    }
}

/// `v3d_show_fdinfo` (drivers/gpu/drm/v3d/v3d_drv.c): a space before the tab, and jobs in a key of its own; names: `v3d_queue_to_string`.
#[test]
fn v3d_prints_six_queues_and_a_space_before_the_tab() {
    let queues = ["bin", "render", "tfu", "csd", "cache_clean", "cpu"];
    let mut text = platform("v3d");
    for (ns, name) in (41..).zip(queues) {
        text += &format!("drm-engine-{name}: \t{ns} ns\nv3d-jobs-{name}: \t3 jobs\n");
    }
    text += "drm-total-memory:\t36 KiB\ndrm-shared-memory:\t0\ndrm-resident-memory:\t36 KiB\n";
    let classes = [Other, Render, Other, Other, Other, Other];
    let engines: Vec<_> = classes.into_iter().zip((41..).zip(queues).map(|(ns, name)| engine_ns(name, ns))).collect();
    expect(&text, &engines, &[region("memory", [Some(36 * KIB), Some(0), Some(36 * KIB), None, None])]);
}

/// `etnaviv_show_fdinfo` (drivers/gpu/drm/etnaviv/etnaviv_drv.c) and ivpu's `show_fdinfo` (drivers/accel/ivpu/ivpu_drv.c) are
/// `drm_show_memory_stats`, `amdxdna_show_fdinfo` (drivers/accel/amdxdna/amdxdna_pci_drv.c) ends with it.
#[test]
fn etnaviv_ivpu_and_amdxdna_print_memory_alone() {
    let memory =
        "drm-total-memory:\t5 MiB\ndrm-shared-memory:\t1 MiB\ndrm-active-memory:\t4 KiB\ndrm-resident-memory:\t4 MiB\n";
    let sizes = [Some(5 * MIB), Some(MIB), Some(4 * MIB), Some(4 * KIB), None];
    let own = "amdxdna_accel_driver-heap-alloc:\t60 KiB\namdxdna_accel_driver-internal-alloc:\t67588 KiB\n\
               amdxdna_accel_driver-external-alloc:\t0\n";
    for head in [
        platform("etnaviv"),
        head("intel_vpu", 12, "0000:00:0b.0"),
        head("amdxdna_accel_driver", 12, "0000:c5:00.1") + own,
    ] {
        expect(&(head + memory), &[], &[region("memory", sizes)]);
    }
}

/// `drm_set_client_name` and `drm_validate_value_string` (drivers/gpu/drm/drm_ioctl.c): up to 64 ASCII characters, none of them white
/// space or a control. A colon is allowed; it is printed after the lines that tell who the client is, and before the driver's.
#[test]
fn the_name_that_a_client_gave_itself_is_one_word_and_may_have_colons() {
    let text = head("xe", 5, "0000:03:00.0") + "drm-client-name:\tdrm-engine-rcs:9\ndrm-cycles-rcs:\t1\n";
    let info = parsed(&text);
    assert_eq!(info.client_name, "drm-engine-rcs:9");
    assert_eq!((info.engines.len(), info.engines[0].busy_ns, info.engines[0].cycles), (1, None, Some(1)));
}

/// No program can choose such a name, and a driver that sets `client_name` itself could: `drm_show_fdinfo` prints whatever is there.
#[test]
fn a_name_with_spaces_is_taken_whole() {
    let text = head("xe", 5, "0000:03:00.0") + "drm-client-name:\tmy  app: 1\ndrm-cycles-rcs:\t1\n";
    let info = parsed(&text);
    assert_eq!((info.client_name.as_str(), info.engines.len(), info.unknown_keys), ("my  app: 1", 1, 0));
}
