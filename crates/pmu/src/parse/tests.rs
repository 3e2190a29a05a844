use super::*;

fn numbers(text: &str) -> Vec<(String, u64)> {
    parse_event(text)
        .unwrap()
        .into_iter()
        .map(|t| match t.value {
            TermValue::Number(n) => (t.name, n),
            TermValue::Parameter => panic!("{text}"),
        })
        .collect()
}

#[test]
fn formats_of_i915_and_xe() {
    // drivers/gpu/drm/i915/i915_pmu.c: I915_PMU_FORMAT_ATTR(i915_eventid, "config:0-20").
    let i915 = parse_format("config:0-20\n").unwrap();
    assert_eq!((i915.word, i915.mask()), (Word::Config, 0x1f_ffff));
    // drivers/gpu/drm/xe/xe_pmu.c: XE_EVENT_ATTR_… PMU_FORMAT_ATTR(gt, "config:60-63").
    let gt = parse_format("config:60-63\n").unwrap();
    assert_eq!(gt.place(1), Some(1 << 60));
    assert_eq!(gt.place(15), Some(15 << 60));
    assert_eq!(gt.place(16), None);
}

#[test]
fn format_with_several_ranges_fills_from_the_low_end() {
    // arch/x86/events/amd/core.c: PMU_FORMAT_ATTR(event, "config:0-7,32-35").
    let f = parse_format("config:0-7,32-35").unwrap();
    assert_eq!(f.place(0xabc), Some(0xa_0000_00bc));
    assert_eq!(f.place(0x1000), None);
    assert_eq!(f.mask(), 0xf_0000_00ff);
}

#[test]
fn format_of_a_single_bit_and_of_a_whole_word() {
    assert_eq!(parse_format("config:18").unwrap().place(1), Some(1 << 18));
    let whole = parse_format("config1:0-63").unwrap();
    assert_eq!((whole.word, whole.place(u64::MAX)), (Word::Config1, Some(u64::MAX)));
    assert_eq!(parse_format("config3:0-7").unwrap().word, Word::Config3);
}

#[test]
fn synthetic_malformed_formats_are_errors() {
    for text in [
        "",
        "config",
        "config:",
        "config:-",
        "config:5-",
        "config:5-2",
        "config:0-64",
        "config:+1",
        "conf:0-7",
        "config:0-7,",
        "config:300",
    ] {
        assert!(parse_format(text).is_err(), "{text:?}");
    }
}

#[test]
fn events_of_the_kernel() {
    // i915_pmu.c i915_pmu_event_show: "config=0x%lx\n"; xe_pmu.c and the uncore drivers: "event=0x%02llx".
    assert_eq!(numbers("config=0x2000\n"), [("config".into(), 0x2000)]);
    assert_eq!(numbers("config=0x1000000000100003\n"), [("config".into(), 0x1000_0000_0010_0003)]);
    assert_eq!(numbers("event=0x02\n"), [("event".into(), 2)]);
    assert_eq!(numbers("event=0xff,umask=0x20"), [("event".into(), 0xff), ("umask".into(), 0x20)]);
    assert_eq!(numbers("config=0x0,config1=0x1"), [("config".into(), 0), ("config1".into(), 1)]);
    assert_eq!(numbers("event=0x3c,inv"), [("event".into(), 0x3c), ("inv".into(), 1)]);
    assert_eq!(numbers("event=010"), [("event".into(), 10)], "decimal, as in tools/perf/util/parse-events.l");
    assert_eq!(parse_event("domain=?").unwrap()[0].value, TermValue::Parameter);
}

#[test]
fn synthetic_malformed_events_are_errors() {
    for text in [
        "",
        ",",
        "=1",
        "event=",
        "event=0x",
        "event=0x1g",
        "event=+1",
        "event=-1",
        "event=1,",
        "event=0x1ffffffffffffffff",
        "a b=1",
    ] {
        assert!(parse_event(text).is_err(), "{text:?}");
    }
}

#[test]
fn cpu_lists() {
    // lib/bitmap.c, %*pbl.
    assert_eq!(parse_cpumask("0\n").unwrap(), [0]);
    assert_eq!(parse_cpumask("0,4-7\n").unwrap(), [0, 4, 5, 6, 7]);
    assert_eq!(parse_cpumask("\n").unwrap(), [0u32; 0]);
}

#[test]
fn synthetic_malformed_cpu_lists_are_errors_and_hold_little() {
    for text in ["a", "1-", "-1", "3-1", "0,", "0-4294967295", "65536", "+1"] {
        assert!(parse_cpumask(text).is_err(), "{text:?}");
    }
    let many = vec!["0-65535"; 1000].join(",");
    assert!(parse_cpumask(&many).is_err());
    assert_eq!(parse_cpumask("2,1,2").unwrap(), [1, 2]);
}

#[test]
fn scales() {
    assert_eq!(parse_scale("2.3283064365386962890625e-10\n"), Ok(2f64.powi(-32)));
    assert_eq!(parse_scale("6.103515625e-5"), Ok(2f64.powi(-14)));
    for text in ["", "0", "-1", "inf", "NaN", "1e999", "1 MiB"] {
        assert!(parse_scale(text).is_err(), "synthetic {text:?}");
    }
}

#[test]
fn status_of_a_process() {
    // fs/proc/array.c: task_state, task_cap, task_seccomp; the lines in between pass.
    let text = "Name:\tgpuscope\nUid:\t0\t1000\t0\t0\nGroups:\t44 109 \nCapEff:\t0000004000000000\nCapBnd:\t000001ffffffffff\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";
    let status = parse_status(text).unwrap();
    assert_eq!(status.uid, Some(1000));
    assert_eq!(status.effective, Some(1 << 38));
    assert_eq!(status.bounding, Some(0x1ff_ffff_ffff));
    assert_eq!(status.no_new_privs, Some(true));
    assert_eq!(status.seccomp, Some(2));
    assert_eq!(parse_status("Name:\tx\n").unwrap(), Status::default());
}

#[test]
fn synthetic_malformed_status_is_an_error() {
    for text in ["CapEff:\t+1\n", "CapEff:\t\n", "Uid:\t1\n", "Seccomp:\tx\n", "CapBnd:\t11112222333344445\n"] {
        assert!(parse_status(text).is_err(), "{text:?}");
    }
}

#[test]
fn uid_map_of_the_first_namespace_is_whole() {
    // kernel/user_namespace.c, uid_m_show: "%10u %10u %10u\n".
    assert_eq!(parse_uid_map_is_whole("         0          0 4294967295\n"), Ok(true));
    assert_eq!(
        parse_uid_map_is_whole("         0       1000          1\n         1     100000      65536\n"),
        Ok(false)
    );
    assert_eq!(parse_uid_map_is_whole(""), Ok(false));
    assert!(parse_uid_map_is_whole("0 0\n").is_err(), "synthetic");
}
