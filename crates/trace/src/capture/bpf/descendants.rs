//! Children of processes, and theirs, that are there already.

use gpuscope_sys::{Roots, list_dir, read_text};

/// All descendants of `of`, by `/proc/PID/stat`. Processes that end meanwhile are passed over; those that began meanwhile may lack.
pub(super) fn of(roots: &Roots, of: &[u32]) -> Vec<u32> {
    let names = list_dir(&roots.proc("")).unwrap_or_default();
    let pids = names.iter().filter_map(|name| name.parse::<u32>().ok());
    let parents: Vec<(u32, u32)> = pids.filter_map(|pid| Some((pid, parent(roots, pid)?))).collect();
    let mut found: Vec<u32> = of.to_vec();
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        for (child, of) in &parents {
            if *of == parent && !found.contains(child) {
                found.push(*child);
            }
        }
        at += 1;
    }
    found.split_off(of.len())
}

/// The fourth field of `stat` (`do_task_stat`, fs/proc/array.c), behind a name that may hold anything.
fn parent(roots: &Roots, pid: u32) -> Option<u32> {
    let text = read_text(roots.proc(format!("{pid}/stat"))).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_and_theirs() {
        let tree = tempfile::tempdir().unwrap();
        let processes = [(1, 0, "init"), (10, 1, "sh"), (11, 10, "a) S 99 (b"), (12, 11, "x"), (20, 1, "other")];
        for (pid, parent, name) in processes {
            let folder = tree.path().join(format!("proc/{pid}"));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("stat"), format!("{pid} ({name}) S {parent} {pid} 0\n")).unwrap();
        }
        let roots = Roots::at(tree.path());
        let mut found = of(&roots, &[10]);
        found.sort_unstable();
        assert_eq!(found, [11, 12]);
        assert_eq!(of(&roots, &[12, 77]), [0_u32; 0]);
    }
}
