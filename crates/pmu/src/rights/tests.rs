use crate::testing::{Tree, user_at};
use crate::{Capability, Rights};
use gpuscope_model::{Reason, Why};

const EACCES: i32 = libc::EACCES;
const PERFMON: u64 = 1 << 38;
const SYS_ADMIN: u64 = 1 << 21;

fn remedy(why: &Why) -> &str {
    why.remedy.as_deref().unwrap_or_default()
}

#[test]
fn remedy_at_debians_level_never_is_perfmon_alone() {
    for level in [3, 4] {
        let why = user_at(level).explain_perf(EACCES, "PMU i915");
        assert_eq!(why.reason, Reason::NoPermission);
        assert!(why.detail.contains(&format!("kernel.perf_event_paranoid={level}")), "{why}");
        assert!(
            remedy(&why).contains("sudo sysctl kernel.perf_event_paranoid=2 and sudo setcap cap_perfmon=ep"),
            "{why}"
        );
        assert!(remedy(&why).contains("sudo sysctl kernel.perf_event_paranoid=0"), "{why}");
    }
}

#[test]
fn at_debians_level_with_perfmon_only_the_level_has_to_go_down() {
    let why = Rights { capabilities: PERFMON, ..user_at(3) }.explain_perf(EACCES, "PMU i915");
    assert!(why.detail.contains("refuses CAP_PERFMON alone"), "{why}");
    assert!(remedy(&why).starts_with("sudo sysctl kernel.perf_event_paranoid=2"), "{why}");
    assert!(!remedy(&why).contains("setcap"), "{why}");
}

#[test]
fn remedy_at_mainline_levels_is_the_capability() {
    for level in [1, 2] {
        let why = user_at(level).explain_perf(EACCES, "PMU i915");
        assert!(remedy(&why).starts_with("sudo setcap cap_perfmon=ep $(command -v gpuscope)"), "{why}");
        assert!(remedy(&why).contains("kernel.perf_event_paranoid=0"), "{why}");
    }
}

#[test]
fn before_linux_5_8_the_capability_is_sys_admin() {
    let why = Rights { kernel: "5.4.0-150-generic".into(), ..user_at(2) }.explain_perf(EACCES, "PMU i915");
    assert!(remedy(&why).starts_with("sudo setcap cap_sys_admin=ep"), "{why}");
    let why = Rights { kernel: "5.10.0".into(), ..user_at(2) }.explain_perf(EACCES, "PMU i915");
    assert!(remedy(&why).contains("cap_perfmon"), "{why}");
}

#[test]
fn setcap_keeps_what_the_program_has() {
    let bpf = 1 << 39;
    let rights = Rights { capabilities: PERFMON | bpf, ..user_at(2) };
    let command = rights.setcap(&[Capability::SysPtrace]);
    assert!(command.starts_with("sudo setcap cap_sys_ptrace,cap_perfmon,cap_bpf=ep "), "{command}");
    let command = user_at(2).setcap(&[Capability::Bpf, Capability::Perfmon]);
    assert!(command.starts_with("sudo setcap cap_bpf,cap_perfmon=ep "), "{command}");
}

const BPF_NEEDS: [Capability; 2] = [Capability::Bpf, Capability::Perfmon];
const TRACE_NEEDS: [Capability; 2] = [Capability::SysPtrace, Capability::DacReadSearch];
/// What Docker gives root by default, and leaves in the bounding set.
const DOCKER: u64 = 0xa804_25fb;

#[test]
fn remedy_for_capabilities_on_the_host_is_root_or_setcap() {
    let remedy = user_at(2).remedy_for(&BPF_NEEDS);
    assert!(
        remedy.starts_with("run as root, or give the program CAP_BPF and CAP_PERFMON: sudo setcap cap_bpf,"),
        "{remedy}"
    );
    let half = Rights { capabilities: PERFMON, ..user_at(2) }.remedy_for(&BPF_NEEDS);
    assert!(half.contains("give the program CAP_BPF: sudo setcap cap_bpf,cap_perfmon=ep"), "{half}");
}

#[test]
fn remedy_beyond_the_bounding_set_is_cap_add_and_never_setcap() {
    for uid in [0, 1000] {
        let docker = Rights { seccomp: true, bounding: DOCKER, capabilities: DOCKER, uid, ..user_at(2) };
        for (needs, add) in [
            (&BPF_NEEDS, "--cap-add BPF --cap-add PERFMON"),
            (&TRACE_NEEDS, "--cap-add SYS_PTRACE --cap-add DAC_READ_SEARCH"),
        ] {
            let remedy = docker.remedy_for(needs);
            assert!(remedy.contains(add), "{remedy}");
            assert!(!remedy.contains("setcap") && !remedy.contains("root"), "{remedy}");
        }
    }
}

#[test]
fn remedy_in_a_user_namespace_is_the_host() {
    let rootless = Rights { capabilities: u64::MAX, user_namespace: true, uid: 0, ..user_at(2) };
    for needs in [&BPF_NEEDS, &TRACE_NEEDS] {
        let remedy = rootless.remedy_for(needs);
        assert!(remedy.contains("on the host"), "{remedy}");
        for word in ["setcap", "root", "cap-add"] {
            assert!(!remedy.contains(word), "{remedy}");
        }
    }
}

#[test]
fn remedy_of_who_has_the_capabilities_names_who_refuses() {
    let all = Rights { capabilities: u64::MAX, uid: 0, ..user_at(2) };
    let admin = Rights { capabilities: SYS_ADMIN, ..user_at(2) };
    for rights in [&all, &admin] {
        assert!(rights.remedy_for(&BPF_NEEDS).contains("security module"));
        let filtered = Rights { seccomp: true, ..rights.clone() }.remedy_for(&BPF_NEEDS);
        assert!(filtered.contains("seccomp filter") && !filtered.contains("setcap"), "{filtered}");
    }
    assert!(all.remedy_for(&TRACE_NEEDS).contains("security module"));
    assert!(admin.remedy_for(&TRACE_NEEDS).contains("setcap"), "CAP_SYS_ADMIN opens no process");
}

#[test]
fn remedy_where_no_privileges_can_be_gained_is_another_session() {
    let remedy = Rights { no_new_privs: true, ..user_at(2) }.remedy_for(&BPF_NEEDS);
    assert!(remedy.contains("NoNewPrivs") && !remedy.contains("setcap"), "{remedy}");
    let dropped = Rights { uid: 0, ..user_at(2) }.remedy_for(&BPF_NEEDS);
    assert!(dropped.starts_with("give the program CAP_BPF"), "{dropped}");
}

#[test]
fn refusal_that_level_and_capabilities_do_not_explain_is_a_security_module() {
    for rights in [user_at(0), user_at(-1), Rights { capabilities: PERFMON, ..user_at(2) }] {
        let why = rights.explain_perf(EACCES, "PMU i915");
        assert!(why.detail.contains("security module"), "{why}");
        assert!(!remedy(&why).contains("sysctl"), "{why}");
    }
}

#[test]
fn eperm_is_a_filter_and_not_a_matter_of_level() {
    let docker = Rights { seccomp: true, bounding: 0xa80425fb, capabilities: 0xa80425fb, uid: 0, ..user_at(2) };
    let why = docker.explain_perf(libc::EPERM, "PMU i915");
    assert!(why.detail.contains("seccomp"), "{why}");
    assert!(remedy(&why).contains("--cap-add PERFMON"), "{why}");
    let debian = Rights { perf_event_paranoid: Some(3), ..docker.clone() };
    assert!(remedy(&debian.explain_perf(libc::EPERM, "PMU i915")).contains("--cap-add SYS_ADMIN"));
    assert_eq!(docker.explain_perf(libc::ENOSYS, "PMU i915").reason, Reason::NoPermission);
    let unfiltered = user_at(2).explain_perf(libc::EPERM, "PMU i915");
    assert!(!unfiltered.detail.contains("seccomp"), "{unfiltered}");
}

#[test]
fn in_a_user_namespace_capabilities_do_not_count() {
    let rootless = Rights { capabilities: 0x1ff_ffff_ffff, user_namespace: true, uid: 0, ..user_at(2) };
    assert!(!rootless.has(Capability::Perfmon));
    assert!(rootless.capability_names().is_empty());
    assert_eq!(rootless.may_count(), Some(false));
    let why = rootless.explain_perf(EACCES, "PMU i915");
    assert!(remedy(&why).starts_with("on the host, for everybody: sudo sysctl kernel.perf_event_paranoid=0"), "{why}");
    assert!(!remedy(&why).contains("cap"), "{why}");
}

#[test]
fn no_new_privs_rules_out_setcap() {
    let why = Rights { no_new_privs: true, ..user_at(2) }.explain_perf(EACCES, "PMU i915");
    assert!(!remedy(&why).contains("setcap"), "{why}");
    assert!(remedy(&why).contains("kernel.perf_event_paranoid=0"), "{why}");
}

#[test]
fn no_remedy_ever_speaks_of_groups() {
    let errnos = [1, 2, 6, 11, 12, 13, 16, 19, 22, 23, 24, 28, 38, 95];
    for level in -1..=4 {
        for errno in errnos {
            for rights in [
                user_at(level),
                Rights { seccomp: true, ..user_at(level) },
                Rights { user_namespace: true, ..user_at(level) },
                Rights { perf_event_paranoid: None, ..user_at(level) },
            ] {
                let text = rights.explain_perf(errno, "PMU i915").to_string();
                for word in ["group", "usermod", "render", "video"] {
                    assert!(!text.contains(word), "{text}");
                }
            }
        }
    }
}

#[test]
fn other_errnos_are_told_apart() {
    let reason = |errno| user_at(2).explain_perf(errno, "PMU i915").reason;
    assert_eq!(reason(libc::ENOENT), Reason::NotSupported);
    assert_eq!(reason(libc::ENODEV), Reason::NoHardware);
    assert_eq!(reason(libc::EINVAL), Reason::NotSupported);
    assert_eq!(reason(libc::EOPNOTSUPP), Reason::NotSupported);
    assert_eq!(reason(libc::ENOSYS), Reason::NotSupported);
    assert_eq!(reason(libc::EBUSY), Reason::Busy);
    let files = user_at(2).explain_perf(libc::EMFILE, "PMU i915");
    assert!(remedy(&files).contains("ulimit -n"), "{files}");
    assert_eq!(files.reason, Reason::Failed);
}

#[test]
fn level_and_capabilities_decide_as_measured() {
    assert_eq!(user_at(0).may_count(), Some(true));
    assert_eq!(user_at(1).may_count(), Some(false));
    assert_eq!(Rights { capabilities: PERFMON, ..user_at(2) }.may_count(), Some(true));
    assert_eq!(Rights { capabilities: PERFMON, ..user_at(3) }.may_count(), Some(false));
    assert_eq!(Rights { capabilities: SYS_ADMIN, ..user_at(3) }.may_count(), Some(true));
    assert_eq!(Rights { perf_event_paranoid: None, ..user_at(3) }.may_count(), None);
}

#[test]
fn rights_are_read_from_the_tree() {
    let tree = Tree::new();
    tree.file(
        "proc/self/status",
        "Uid:\t1000\t1000\t1000\t1000\nCapEff:\t0000004000000000\nCapBnd:\t000001ffffffffff\nSeccomp:\t2\n",
    )
    .file("proc/self/uid_map", "         0          0 4294967295\n")
    .file("proc/sys/kernel/perf_event_paranoid", "3\n")
    .file("proc/sys/kernel/osrelease", "6.12.107+deb12-amd64\n")
    .file("sys/kernel/security/lockdown", "none [integrity] confidentiality\n");
    let rights = Rights::read(&tree.roots());
    assert_eq!(rights.perf_event_paranoid, Some(3));
    assert_eq!(rights.capability_names(), ["cap_perfmon"]);
    assert_eq!((rights.uid, rights.seccomp, rights.user_namespace), (1000, true, false));
    assert_eq!(rights.lockdown.as_deref(), Some("integrity"));
    assert_eq!(rights.kernel, "6.12.107+deb12-amd64");
    assert!(!rights.confined());
}

#[test]
fn empty_tree_gives_no_rights() {
    let rights = Rights::read(&Tree::new().roots());
    assert_eq!((rights.perf_event_paranoid, rights.capabilities, rights.user_namespace), (None, 0, false));
    assert_ne!(rights.uid, 0, "not knowing the user must not pass for root");
}

#[test]
fn refused_file_has_the_capability_that_opens_it_as_remedy() {
    let error = gpuscope_sys::Error::opening("/x/energy_uj".as_ref(), std::io::Error::from_raw_os_error(EACCES));
    let why = user_at(2).explain_file(&error, Some(Capability::DacReadSearch));
    assert_eq!(why.reason, Reason::NoPermission);
    assert!(remedy(&why).contains("sudo setcap cap_dac_read_search=ep"), "{why}");
    let missing = gpuscope_sys::Error::NotFound { path: "/x".into() };
    assert_eq!(user_at(2).explain_file(&missing, None).reason, Reason::NotSupported);
}
