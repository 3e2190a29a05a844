//! Who the threads are that records name by their number alone.

use gpuscope_sys::Roots;
use rustc_hash::FxHashMap;
use std::fs;
use std::path::PathBuf;

/// A thread that goes on is looked at again so late: numbers are given out again, and names change.
const AGAIN_NS: u64 = 1_000_000_000;

/// Threads and what is known of them.
#[derive(Debug)]
pub(super) struct Tasks {
    roots: Roots,
    /// Its `saved_tgids` and `saved_cmdlines` know threads that are gone.
    tracefs: PathBuf,
    known: FxHashMap<u32, Task>,
    /// Seen since the last question.
    seen: Vec<u32>,
    last: u32,
    /// Whether proc numbers threads as records do.
    is_proc_asked: bool,
}

#[derive(Debug, Default)]
struct Task {
    pid: u32,
    comm: String,
    looked_ns: u64,
    is_seen: bool,
}

impl Tasks {
    pub(super) fn new(roots: &Roots, tracefs: PathBuf) -> Tasks {
        Tasks {
            roots: roots.clone(),
            tracefs,
            known: FxHashMap::default(),
            seen: Vec::new(),
            last: 0,
            is_proc_asked: roots.has_machine_pids(),
        }
    }

    /// A record names this thread.
    pub(super) fn see(&mut self, tid: u32) {
        // 0 are the idle threads, which have no entry in proc.
        if tid == self.last || tid == 0 {
            return;
        }
        self.last = tid;
        let task = self.known.entry(tid).or_default();
        if !task.is_seen {
            task.is_seen = true;
            self.seen.push(tid);
        }
    }

    /// Tells of threads that were seen and that are new or other than before: thread, process (0: not known), name.
    pub(super) fn each(&mut self, now_ns: u64, each: &mut dyn FnMut(u32, u32, &str)) {
        self.last = 0;
        let mut gone = None;
        for tid in self.seen.drain(..) {
            let Some(task) = self.known.get_mut(&tid) else { continue };
            task.is_seen = false;
            if task.looked_ns != 0 && now_ns.saturating_sub(task.looked_ns) < AGAIN_NS {
                continue;
            }
            task.looked_ns = now_ns.max(1);
            // In a PID namespace of one's own, the thread of that number is another.
            let found = if self.is_proc_asked { alive(&self.roots, tid) } else { None };
            let (pid, comm) = found.unwrap_or_else(|| gone.get_or_insert_with(|| Gone::read(&self.tracefs)).find(tid));
            // Of a thread that ended since, what was known stays known.
            if (pid, comm.as_str()) != (task.pid, task.comm.as_str()) && !(pid == 0 && task.pid != 0) {
                (task.pid, task.comm) = (pid, comm);
                each(tid, task.pid, &task.comm);
            }
        }
    }
}

/// A thread that is there: its process and its name.
fn alive(roots: &Roots, tid: u32) -> Option<(u32, String)> {
    // A folder of proc is found by the number of any thread, though only those of processes are listed.
    let status = fs::read_to_string(roots.proc(format!("{tid}/status"))).ok()?;
    let pid = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()?;
    // `status` has the name, too, but with letters replaced.
    let comm = fs::read(roots.proc(format!("{tid}/comm"))).ok()?;
    Some((pid, String::from_utf8_lossy(comm.strip_suffix(b"\n").unwrap_or(&comm)).into_owned()))
}

/// What the kernel remembers of threads, whether they are there or not.
struct Gone {
    tgids: String,
    comms: String,
}

impl Gone {
    fn read(tracefs: &std::path::Path) -> Gone {
        let text = |name: &str| {
            let bytes = fs::read(tracefs.join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Gone { tgids: text("saved_tgids"), comms: text("saved_cmdlines") }
    }

    fn find(&self, tid: u32) -> (u32, String) {
        // Each is `number value` a line (`saved_tgids_show`, `saved_cmdlines_show`).
        let of = |text: &str| {
            let value = |line: &str| {
                let (number, value) = line.split_once(' ')?;
                (number.parse() == Ok(tid)).then(|| value.to_string())
            };
            text.lines().find_map(value)
        };
        let pid = of(&self.tgids).and_then(|pid| pid.parse().ok()).unwrap_or(0);
        (pid, of(&self.comms).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn told(tasks: &mut Tasks, now_ns: u64) -> Vec<(u32, u32, String)> {
        let mut all = Vec::new();
        tasks.each(now_ns, &mut |tid, pid, comm| all.push((tid, pid, comm.to_string())));
        all
    }

    #[test]
    fn threads_are_told_once_and_again_when_they_change() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots::at(dir.path());
        let task = |tid: u32, pid: u32, comm: &str| {
            fs::create_dir_all(roots.proc(tid.to_string())).unwrap();
            fs::write(roots.proc(format!("{tid}/status")), format!("Name:\tx\nTgid:\t{pid}\nPid:\t{tid}\n")).unwrap();
            fs::write(roots.proc(format!("{tid}/comm")), format!("{comm}\n")).unwrap();
        };
        task(12, 10, "render thread");
        let tracefs = dir.path().join("tracing");
        fs::create_dir(&tracefs).unwrap();
        fs::write(tracefs.join("saved_tgids"), "7 6\n77 70\n").unwrap();
        fs::write(tracefs.join("saved_cmdlines"), "7 a b c\n77 short lived\n").unwrap();

        let mut tasks = Tasks::new(&roots, tracefs);
        let see = |tasks: &mut Tasks| [0, 12, 77, 99, 12, 77].map(|tid| tasks.see(tid));
        see(&mut tasks);
        // 99 is known nowhere: there is nothing to tell.
        assert_eq!(told(&mut tasks, 1000), [(12, 10, "render thread".into()), (77, 70, "short lived".into())]);
        assert_eq!(told(&mut tasks, 2000), []);
        task(12, 11, "another");
        see(&mut tasks);
        assert_eq!(told(&mut tasks, 3000), [], "looked at a moment ago");
        see(&mut tasks);
        assert_eq!(told(&mut tasks, 3000 + AGAIN_NS), [(12, 11, "another".into())]);
    }
}
