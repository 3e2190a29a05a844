//! Samples as an asynchronous stream: the sampler's thread feeds a short channel and never waits for a slow reader.

use crate::{GpuStats, IntelGpu, Result, SamplingHandle};
use futures_core::Stream;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;

/// A stream of [`GpuStats`]. Dropping it stops the sampling.
#[derive(Debug)]
pub struct StatsStream {
    values: mpsc::Receiver<GpuStats>,
    handle: SamplingHandle,
}

impl IntelGpu {
    /// Samples at every interval as a stream, for programs that run on tokio (or on any executor).
    ///
    /// Up to four samples wait for a slow reader; those that find no place are left out.
    ///
    /// # Errors
    /// As [`start_sampling`](Self::start_sampling).
    pub fn stream(&self, interval: Duration) -> Result<StatsStream> {
        let (sender, values) = mpsc::channel(4);
        let handle = crate::sampling::start(self.open_sampler(), self.id().clone(), interval, move |stats| {
            // A full channel means a slow reader: this sample is left out. A closed one means the stream was dropped.
            let _ = sender.try_send(stats);
        })?;
        Ok(StatsStream { values, handle })
    }
}

impl StatsStream {
    /// The next sample; `None` when the sampling has ended.
    pub async fn next(&mut self) -> Option<GpuStats> {
        self.values.recv().await
    }

    /// The sampler behind the stream.
    pub fn handle(&self) -> &SamplingHandle {
        &self.handle
    }
}

impl Stream for StatsStream {
    type Item = GpuStats;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<GpuStats>> {
        self.values.poll_recv(cx)
    }
}
