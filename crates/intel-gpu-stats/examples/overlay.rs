//! A Quick Sync load line, four times a second, as a broadcast mixer would draw it over its picture.
//!
//!     cargo run -p intel-gpu-stats --example overlay            # the first Intel GPU
//!     cargo run -p intel-gpu-stats --example overlay -- /dev/dri/renderD128
//!
//! Everything that touches the GPU happens on the sampler's thread; the "render loop" below only takes the newest values. When the
//! load is not to be had, the line says why and what to do.

#![allow(clippy::print_stderr, reason = "an example speaks to a person")]

use intel_gpu_stats::{GpuStats, IntelGpu};
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

fn main() {
    let wanted = std::env::args().nth(1);
    let gpu = match &wanted {
        Some(name) => IntelGpu::open(name),
        None => IntelGpu::detect(),
    };
    let gpu = match gpu {
        Ok(gpu) => gpu,
        Err(e) => {
            // A mixer would leave the line out and go on; an example says why and ends.
            eprintln!("overlay: {e}");
            std::process::exit(1);
        }
    };

    let newest: Arc<Mutex<Option<GpuStats>>> = Arc::default();
    let writer = newest.clone();
    let sampling = gpu.start_sampling(Duration::from_millis(250), move |stats| {
        *writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(stats);
    });
    let sampling = match sampling {
        Ok(handle) => handle,
        Err(e) => {
            eprintln!("overlay: {e}");
            std::process::exit(1);
        }
    };

    // The mixer's render loop: 25 frames a second, never waiting for the GPU.
    while sampling.is_running() {
        let line = newest.lock().unwrap_or_else(PoisonError::into_inner).take().map(|stats| overlay_line(&stats));
        if let Some(line) = line {
            let mut out = std::io::stdout().lock();
            if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
                return; // nobody looks any more
            }
        }
        std::thread::sleep(Duration::from_millis(40));
    }
    if let Some(message) = sampling.stop().panic {
        eprintln!("overlay: sampling ended: {message}");
    }
}

/// `QSV vcs0  42 %  vcs1   7 %  vebox   3 %  1150 MHz  8.4 W`, or why not.
fn overlay_line(stats: &GpuStats) -> String {
    let mut line = String::from("QSV");
    let mut reason = None;
    let instances: Vec<_> = stats.engines.video_instances().collect();
    for engine in &instances {
        match engine.utilization {
            Some(u) => line.push_str(&format!(" {} {:3.0} % ", engine.name, u.busy_percent)),
            None => reason = stats.why(&format!("engines.instances[{}].busy_percent", engine.name)).or(reason),
        }
    }
    if instances.is_empty() {
        // No instances (xe): the class as a whole, decode and encode together.
        match stats.engines.video {
            Some(u) => line.push_str(&format!(" video {:3.0} % ", u.busy_percent)),
            None => reason = stats.why("engines.video"),
        }
    }
    if let Some(u) = stats.engines.video_enhance {
        line.push_str(&format!(" vebox {:3.0} % ", u.busy_percent));
    }
    if let Some(mhz) = stats.frequency.actual_mhz {
        line.push_str(&format!(" {mhz:4.0} MHz "));
    }
    if let Some(watts) = stats.power.and_then(|p| p.card_watts.or(p.gpu_watts).or(p.package_watts)) {
        line.push_str(&format!(" {watts:5.1} W "));
    }
    if let Some(missing) = reason {
        line.push_str(&format!(" -- {}", missing.detail));
        if let Some(remedy) = &missing.remedy {
            line.push_str(&format!(" ({remedy})"));
        }
    }
    line.trim_end().to_string()
}
