//! Records of a running capture, watched for what is to be told at once.

use super::source::Round;
use gpuscope_analysis::{Conditions, Notice, Recent, Watch};
use gpuscope_export::text::{self, Style};
use gpuscope_model::trace::{Dropped, RecentReport, TraceNames};
use gpuscope_trace::{Decoder, EventFormat, InOrder};
use std::time::{Duration, Instant};

/// So often it is looked for jobs that are stuck where many are in flight; where few are, at each reading.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Jobs that are few.
const FEW: usize = 1000;

/// Puts records in order, decodes them, and watches the jobs.
pub(super) struct Watcher {
    pub(super) order: InOrder,
    decoder: Decoder,
    watch: Watch,
    /// What ended in the last seconds, where that is wanted.
    recent: Option<Recent>,
    dropped: Dropped,
    looked: Option<Instant>,
}

/// Something that was found.
pub(super) struct Told {
    pub(super) at_ns: u64,
    pub(super) notice: Notice,
    pub(super) line: String,
}

impl Watcher {
    /// Of records of these formats, under these names of devices, as they stand in the header of a recording.
    pub(super) fn new(formats: &[EventFormat], devices: &[(String, String)], conditions: Conditions) -> Watcher {
        let mut decoder = Decoder::new();
        for format in formats {
            decoder.add_format(format);
        }
        for (own, gpu) in devices {
            decoder.set_device(own, gpu);
        }
        Watcher {
            order: InOrder::new(),
            decoder,
            watch: Watch::new(conditions),
            recent: None,
            dropped: Dropped::default(),
            looked: None,
        }
    }

    /// Remembers the jobs that end from now on, for so long.
    pub(super) fn remember(&mut self, window: Duration, began_ns: u64) {
        self.recent = Some(Recent::new(u64::try_from(window.as_nanos()).unwrap_or(u64::MAX), began_ns));
    }

    /// The last seconds before this moment, until which all was given.
    pub(super) fn recent(&mut self, at_ns: u64) -> Option<RecentReport> {
        Some(self.recent.as_mut()?.look(&self.watch, self.decoder.names(), at_ns))
    }

    /// Takes what a reading gave beside the records, which are in `order` already. Returns what is to be told, and how many notices more
    /// there were than are kept.
    pub(super) fn round(&mut self, round: &Round) -> (Vec<Told>, u64) {
        for (tid, pid, comm) in &round.tasks {
            self.decoder.set_task(*tid, *pid, comm);
        }
        let Watcher { order, decoder, watch, recent, .. } = self;
        order.give_until(round.drained.until_ns, |record| {
            if let Some(event) = decoder.decode(record) {
                watch.event(&event, |job| {
                    if let Some(recent) = recent {
                        recent.ended(job);
                    }
                });
            }
        });
        if let Some((_, now)) = round.dropped {
            let lost = |of: &Dropped| (of.ring_full, of.missed, of.unreadable, of.table_full);
            if lost(&now) != lost(&self.dropped) {
                self.watch.lost();
            }
            self.dropped = now;
        }
        let are_many = self.watch.jobs().in_flight().nth(FEW).is_some();
        if are_many && self.looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
            return (Vec::new(), 0);
        }
        self.looked = Some(Instant::now());
        let (notices, left_out) = self.watch.look(round.drained.until_ns);
        let names = self.decoder.names();
        let told = |notice: Notice| Told { at_ns: notice.at_ns(), line: line(&notice, names), notice };
        (notices.into_iter().map(told).collect(), left_out)
    }

    /// Alarms of stuck jobs so far.
    pub(super) fn raised(&self) -> u64 {
        self.watch.raised()
    }

    /// The jobs that are stuck now, a line each.
    pub(super) fn stuck(&self) -> Vec<String> {
        self.watch.stuck().iter().map(|stuck| text::stuck_job(stuck, self.decoder.names(), PLAIN)).collect()
    }
}

/// What goes into files and over pipes.
const PLAIN: Style = Style { color: false, unicode: false, width: 80 };

fn line(notice: &Notice, names: &TraceNames) -> String {
    match notice {
        Notice::Slow(job) => text::slow_job(job, names, PLAIN),
        Notice::TimedOut(job) | Notice::Failed(job) => text::failed_job(job, names, PLAIN),
        Notice::FailedFence(event) => text::failed_fence(event),
        Notice::Stuck(stuck) => text::stuck_job(stuck, names, PLAIN),
        Notice::Released(released) => text::released_job(&released.job, released.since_ns, names, PLAIN),
    }
}
