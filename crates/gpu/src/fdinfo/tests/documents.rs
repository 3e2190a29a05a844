//! Every fdinfo example of the kernel's documentation means what the documentation says. `documents/README.md` names the documents.

use super::{KIB, MIB, engine_ns, parsed, region};
use crate::fdinfo::{EngineUsage, FdInfo, RegionUsage};

/// What each key means is said in Documentation/gpu/drm-usage-stats.rst; `drm-curfreq-` in panfrost.rst and panthor.rst.
fn expect(
    info: &FdInfo,
    (driver, client_id, pdev): (&str, u64, &str),
    engines: &[EngineUsage],
    memory: &[RegionUsage],
) {
    assert_eq!((info.driver.as_str(), info.client_id, info.pdev.as_str()), (driver, Some(client_id), pdev));
    assert_eq!(info.engines, engines);
    assert_eq!(info.memory, memory);
    assert_eq!((info.client_name.as_str(), &info.notes[..], info.unknown_keys), ("", &[][..], 0));
}

#[test]
fn the_i915_example_is_four_engines_in_nanoseconds_two_of_them_video() {
    let info = parsed(include_str!("documents/i915"));
    let engines = [
        engine_ns("render", 9_288_864_723),
        engine_ns("copy", 2_035_071_108),
        EngineUsage { printed_capacity: Some(2), ..engine_ns("video", 0) },
        engine_ns("video-enhance", 0),
    ];
    expect(&info, ("i915", 7, "0000:00:02.0"), &engines, &[]);
    // "In the absence of this tag parser shall assume capacity of one."
    assert_eq!(info.engines.iter().map(EngineUsage::capacity).collect::<Vec<_>>(), [1, 1, 2, 1]);
}

#[test]
fn the_xe_example_is_cycles_of_five_classes_and_four_regions() {
    let info = parsed(include_str!("documents/xe"));
    let engine = |name: &str, cycles, printed_capacity| EngineUsage {
        name: name.into(),
        cycles: Some(cycles),
        total_cycles: Some(7_655_183_225),
        printed_capacity,
        ..EngineUsage::default()
    };
    let engines = [
        engine("rcs", 28_257_900, None),
        engine("bcs", 0, None),
        engine("vcs", 0, Some(2)),
        engine("vecs", 0, Some(2)),
        engine("ccs", 0, Some(4)),
    ];
    let memory = [
        region("system", [Some(0); 5]),
        region("gtt", [Some(192 * KIB), Some(0), Some(192 * KIB), Some(0), None]),
        region("vram0", [Some(23_992 * KIB), Some(16 * MIB), Some(23_992 * KIB), Some(0), None]),
        region("stolen", [Some(0), Some(0), Some(0), Some(0), None]),
    ];
    expect(&info, ("xe", 3, "0000:03:00.0"), &engines, &memory);
}

#[test]
fn the_panfrost_example_is_two_engines_with_time_cycles_and_frequencies() {
    let info = parsed(include_str!("documents/panfrost"));
    let engine = |name: &str, busy_ns, cycles| EngineUsage {
        cycles: Some(cycles),
        max_freq_hz: Some(799_999_987),
        current_freq_hz: Some(799_999_987),
        ..engine_ns(name, busy_ns)
    };
    let engines = [engine("fragment", 1_846_584_880, 1_424_359_409), engine("vertex-tiler", 71_932_239, 52_617_357)];
    let sizes = [290 * MIB, 0, 36_496 * KIB, 226 * MIB, 128 * KIB].map(Some);
    expect(&info, ("panfrost", 14, ""), &engines, &[region("memory", sizes)]);
}

#[test]
fn the_panthor_example_is_one_engine_and_memory_without_what_the_driver_adds_of_its_own() {
    let info = parsed(include_str!("documents/panthor"));
    let engine = EngineUsage {
        cycles: Some(94_439_687_187),
        max_freq_hz: Some(1_000_000_000),
        current_freq_hz: Some(1_000_000_000),
        ..engine_ns("panthor", 111_110_952_750)
    };
    // `panthor-resident-memory` and `panthor-active-memory` are the driver's own, and not part of the region.
    let sizes = [16_480 * KIB, 0, 16_480 * KIB, 16_200 * KIB, 0].map(Some);
    expect(&info, ("panthor", 10, ""), &[engine], &[region("memory", sizes)]);
}

#[test]
fn the_amdxdna_example_is_memory_alone() {
    let info = parsed(include_str!("documents/amdxdna"));
    let memory = [region("memory", [Some(67_632 * KIB), Some(0), None, None, None])];
    expect(&info, ("amdxdna_accel_driver", 3219, "0000:c5:00.1"), &[], &memory);
}

#[test]
fn files_that_are_not_of_drm_say_nothing() {
    let texts: Vec<&str> = include_str!("documents/others").split("\n\n").collect();
    assert_eq!(texts.len(), 10);
    for text in texts {
        let info = parsed(text);
        assert!(!info.is_drm(), "{text}");
        assert_eq!(info, FdInfo::default(), "{text}");
    }
}
