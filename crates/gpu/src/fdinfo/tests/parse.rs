use super::{head, i915, parsed as parse, xe};
use crate::fdinfo::parse_fdinfo;

#[test]
fn i915_engines_in_nanoseconds_with_capacity_and_sizes_in_three_units() {
    let info = parse(&i915(7, 1_234, 5_678));
    assert_eq!((info.driver.as_str(), info.client_id, info.pdev.as_str()), ("i915", Some(7), "0000:00:02.0"));
    let names: Vec<_> = info.engines.iter().map(|e| (e.name.as_str(), e.busy_ns, e.capacity())).collect();
    let expected =
        [("render", Some(1_234), 1), ("copy", Some(0), 1), ("video", Some(5_678), 2), ("video-enhance", Some(0), 1)];
    assert_eq!(names, expected);
    let memory = &info.memory[0];
    assert_eq!(memory.name, "system0");
    assert_eq!(memory.total_bytes, Some(120 << 20));
    assert_eq!(memory.shared_bytes, Some(16 << 20));
    assert_eq!(memory.resident_bytes, Some(119 << 20));
    assert_eq!((memory.active_bytes, memory.purgeable_bytes), (Some(0), Some(4100)));
    assert_eq!((info.notes.len(), info.unknown_keys), (0, 0));
}

#[test]
fn xe_cycles_and_regions() {
    let info = parse(&xe(3, 28_257_900, 11, 7_655_183_225));
    let vcs = &info.engines[1];
    assert_eq!((vcs.name.as_str(), vcs.cycles, vcs.total_cycles), ("vcs", Some(11), Some(7_655_183_225)));
    assert_eq!((vcs.capacity(), vcs.busy_ns), (2, None));
    assert_eq!(info.memory[1].resident_bytes, Some(23_992 << 10));
    assert_eq!(info.memory[1].purgeable_bytes, None);
}

/// drivers/gpu/drm/amd/amdgpu/amdgpu_fdinfo.c, `amdgpu_show_fdinfo`: both names of resident memory, and more keys of its own.
#[test]
fn older_name_of_resident_memory_gives_way_to_the_newer() {
    let both = "drm-driver:\tamdgpu\ndrm-client-id:\t2\ndrm-memory-vram:\t10 KiB\ndrm-resident-vram:\t11 KiB\n\
                drm-memory-gtt:\t4 KiB\namd-evicted-vram:\t0\ndrm-engine-dec:\t4 ns\ndrm-engine-dec:\t5 ns\n";
    let info = parse(both);
    assert_eq!((info.memory[0].name.as_str(), info.memory[0].resident_bytes), ("vram", Some(11 << 10)));
    assert_eq!((info.memory[1].name.as_str(), info.memory[1].resident_bytes), ("gtt", Some(4 << 10)));
    assert_eq!(info.engines[0].busy_ns, Some(9));
    assert!(info.notes.is_empty());
}

#[test]
fn synthetic_malformed_values_are_noted_and_left_out() {
    let text = "drm-driver:\tx\ndrm-client-id:\tseven\ndrm-total-a:\t5 kB\ndrm-engine-b:\t99999999999999999999 ns\n\
                drm-engine-c:\t5 ms\ndrm-engine-capacity-c:\t0\ndrm-resident-a:\t18446744073709551615 MiB\ndrm-cycles-d:\t-3\n\
                drm-memory-z:\t3 pages\ndrm-cycles-e:\t1\ndrm-cycles-e:\t2\nno colon\n:\n::\ndrm-\ndrm-:\ndrm-engine-:\n";
    let info = parse(text);
    let whats: Vec<_> = info.notes.iter().map(|n| (n.line, n.what)).collect();
    let expected = [
        (2, "not a number"),
        (3, "unknown unit"),
        (4, "number too large"),
        (5, "unknown unit"),
        (6, "a capacity of zero is not allowed"),
        (7, "number too large"),
        (8, "not a number"),
        (11, "printed twice"),
        (17, "not a number"),
        (9, "unknown unit"),
    ];
    assert_eq!(whats, expected);
    assert_eq!((info.client_id, info.memory.len()), (None, 0));
    assert_eq!(info.engines.len(), 1);
    assert_eq!((info.engines[0].name.as_str(), info.engines[0].cycles), ("e", Some(1)));
    assert_eq!(info.notes[0].to_string(), "fdinfo line 2: drm-client-id: not a number");
}

#[test]
fn a_later_line_cannot_replace_the_identity() {
    let info =
        parse(&(head("xe", 5, "0000:03:00.0") + "drm-client-name:\tmy:app\ndrm-client-id:\t6\ndrm-driver:\ti915\n"));
    assert_eq!((info.driver.as_str(), info.client_id, info.client_name.as_str()), ("xe", Some(5), "my:app"));
}

#[test]
fn reading_again_keeps_the_buffers_and_drops_what_is_gone() {
    let mut info = parse(&xe(3, 1, 2, 3));
    let names: Vec<*const u8> = info.engines.iter().map(|e| e.name.as_ptr()).collect();
    parse_fdinfo(&xe(3, 10, 20, 30), &mut info);
    assert_eq!(names, info.engines.iter().map(|e| e.name.as_ptr()).collect::<Vec<_>>());
    assert_eq!(info, parse(&xe(3, 10, 20, 30)));
    // Where the GT could not be woken, xe prints no engines.
    parse_fdinfo(&head("xe", 3, "0000:03:00.0"), &mut info);
    assert_eq!(info, parse(&head("xe", 3, "0000:03:00.0")));
    parse_fdinfo("pos:\t0\n", &mut info);
    assert!(!info.is_drm());
}
