//! Which records of a tracepoint are let through by the kernel.

use crate::families::Spec;
use gpuscope_model::trace::EventKind;
use gpuscope_sys::{Roots, list_dir};

/// The filter of a tracepoint, in the language of tracefs: what its family asks for, and of what tells of the current thread's acts none of
/// this process.
pub(super) fn of(spec: &Spec, own: &[u32]) -> Option<String> {
    let is_own = is_an_act(spec.kind).then(|| own.iter().map(|tid| format!("common_pid != {tid}")));
    let parts: Vec<String> = spec.filter.map(str::to_string).into_iter().chain(is_own.into_iter().flatten()).collect();
    (!parts.is_empty()).then(|| parts.join(" && "))
}

/// Whether an event tells what the current thread does, and this process may do it itself.
fn is_an_act(kind: EventKind) -> bool {
    matches!(kind, EventKind::WaitBegin | EventKind::WaitEnd | EventKind::IoctlEnter | EventKind::IoctlExit)
}

/// The threads of this process.
pub(super) fn own_threads(roots: &Roots) -> Vec<u32> {
    let names = list_dir(&roots.proc("self/task")).unwrap_or_default();
    names.iter().filter_map(|name| name.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::find;

    #[test]
    fn filters_join_what_the_family_asks_for_and_who_traces() {
        let filter = |system, name| of(find(system, name).unwrap().1, &[7, 8]);
        assert_eq!(filter("dma_fence", "dma_fence_wait_start").unwrap(), "common_pid != 7 && common_pid != 8");
        assert_eq!(filter("dma_fence", "dma_fence_signaled"), None, "an interrupt's, whoever runs then");
        let enter = filter("syscalls", "sys_enter_ioctl").unwrap();
        assert!(enter.contains("cmd & 0x4000") && enter.ends_with("common_pid != 7 && common_pid != 8"), "{enter}");
    }
}
