//! A sampler on a thread of its own.

use crate::{Sampler, Stop, Ticker};
use gpuscope_model::Snapshot;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How a sampler thread fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Ticks served.
    pub ticks: u64,
    /// Ticks left out because the work before them took too long.
    pub missed: u64,
    /// The message of the panic that ended the thread, if one did.
    pub panic: Option<String>,
}

#[derive(Default)]
struct Shared {
    ticks: AtomicU64,
    missed: AtomicU64,
    panic: Mutex<Option<String>>,
}

/// A running sampler thread. Dropping the handle stops the thread and joins it.
pub struct Handle {
    stop: Stop,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Starts a thread that ticks the sampler and hands each snapshot to `each`. The first tick is taken at once.
///
/// A panic in `each` ends the thread and stands in [`Handle::report`]; it reaches nobody else.
///
/// # Errors
/// The operating system's, when no thread can be started.
pub fn spawn(
    mut sampler: Sampler,
    interval: Duration,
    mut each: impl FnMut(&Snapshot, &Sampler) + Send + 'static,
) -> io::Result<Handle> {
    let stop = Stop::new();
    let shared = Arc::new(Shared::default());
    let (thread_stop, thread_shared) = (stop.clone(), shared.clone());
    let thread = thread::Builder::new().name("gpu-sampler".into()).spawn(move || {
        let mut ticker = Ticker::new(interval);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            loop {
                sampler.tick();
                thread_shared.ticks.fetch_add(1, Ordering::Relaxed);
                each(sampler.snapshot(), &sampler);
                match ticker.wait(&thread_stop) {
                    Some(tick) => thread_shared.missed.fetch_add(tick.missed, Ordering::Relaxed),
                    None => return,
                };
            }
        }));
        if let Err(payload) = outcome {
            let message = payload
                .downcast_ref::<&str>()
                .map(|s| (*s).to_string())
                .or_else(|| payload.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "a panic without a message".into());
            *thread_shared.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(message);
        }
    })?;
    Ok(Handle { stop, shared, thread: Some(thread) })
}

impl Handle {
    /// How the thread fares, or fared.
    pub fn report(&self) -> Report {
        Report {
            ticks: self.shared.ticks.load(Ordering::Relaxed),
            missed: self.shared.missed.load(Ordering::Relaxed),
            panic: self.shared.panic.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Whether the thread still samples.
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|t| !t.is_finished())
    }

    /// Stops the thread, waits for it and says how it fared.
    pub fn stop(mut self) -> Report {
        self.end();
        self.report()
    }

    fn end(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            // A handle that its own callback drops must not wait for itself; the thread ends after that callback.
            if thread.thread().id() != thread::current().id() {
                // Panics are caught inside the thread and stand in the report.
                let _ = thread.join();
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpuscope_gpu::{GpuSet, Options};
    use std::sync::mpsc;

    fn empty_sampler() -> (tempfile::TempDir, Sampler) {
        let dir = tempfile::tempdir().unwrap();
        let set = GpuSet::open(gpuscope_sys::Roots::at(dir.path()), Options::default());
        (dir, Sampler::new(set))
    }

    #[test]
    fn ticks_until_dropped_and_joins() {
        let (_dir, sampler) = empty_sampler();
        let (tx, rx) = mpsc::channel();
        let handle = spawn(sampler, Duration::from_millis(1), move |s, _| {
            let _ = tx.send(s.at_ns);
        })
        .unwrap();
        let first = rx.recv().unwrap();
        assert!(rx.recv().unwrap() > first);
        drop(handle);
        // The thread is gone: its sender with it.
        while rx.try_recv().is_ok() {}
        assert_eq!(rx.try_recv(), Err(mpsc::TryRecvError::Disconnected));
    }

    #[test]
    fn a_panicking_callback_is_reported_and_reaches_nobody() {
        let (_dir, sampler) = empty_sampler();
        let handle = spawn(sampler, Duration::from_millis(1), |_, _| panic!("the callback's own fault")).unwrap();
        while handle.is_running() {
            thread::yield_now();
        }
        let report = handle.stop();
        assert_eq!(report.panic.as_deref(), Some("the callback's own fault"));
        assert_eq!(report.ticks, 1);
    }

    #[test]
    fn slow_callbacks_leave_ticks_out_and_say_so() {
        let (_dir, sampler) = empty_sampler();
        let (tx, rx) = mpsc::channel();
        let handle = spawn(sampler, Duration::from_millis(2), move |_, _| {
            thread::sleep(Duration::from_millis(20));
            let _ = tx.send(());
        })
        .unwrap();
        for _ in 0..3 {
            rx.recv().unwrap();
        }
        assert!(handle.stop().missed >= 2);
    }

    #[test]
    fn a_handle_dropped_by_its_own_callback_does_not_wait_for_itself() {
        let (_dir, sampler) = empty_sampler();
        let slot: Arc<Mutex<Option<Handle>>> = Arc::default();
        let inner = slot.clone();
        let (tx, rx) = mpsc::channel();
        let handle = spawn(sampler, Duration::from_millis(1), move |_, _| {
            if let Some(own) = inner.lock().unwrap().take() {
                drop(own);
                let _ = tx.send(());
            }
        })
        .unwrap();
        *slot.lock().unwrap() = Some(handle);
        assert!(rx.recv_timeout(Duration::from_secs(30)).is_ok());
    }
}
