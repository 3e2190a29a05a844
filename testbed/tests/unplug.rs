// guest: -g i915,i915-discrete,xe -t 200
//! A GPU unplugged in the middle of a stream: the stream goes on, the other's numbers are unharmed, the lost one is reported once,
//! nothing leaks; plugged in again, it returns. The same for a driver that is unbound.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a guest that is not as it should be is a failed test"
)]

mod common;

use common::books::{Books, agree};
use common::{Stream, engine, gpu, is_sample, open_files, processes};
use gpuscope_testbed::{Gpu, Load, bind, gpus, rescan, unbind, unplug};
use serde_json::Value;
use std::time::Duration;

const TICK: Duration = Duration::from_secs(10);

/// Reads lines until `n` samples came; events are kept beside.
fn samples(stream: &mut Stream, n: usize, events: &mut Vec<Value>) -> Vec<Value> {
    let mut all = Vec::new();
    while all.len() < n {
        let line = stream.next(TICK).expect("the stream goes on");
        if is_sample(&line) { all.push(line) } else { events.push(line) }
    }
    all
}

fn cycle(stream: &mut Stream, steady: &Gpu, lost: &Gpu, leave: impl Fn(&str), come_back: impl Fn(&str)) {
    let mut events = Vec::new();
    samples(stream, 3, &mut events);
    // What it holds of other processes (a folder each) ends with them, the kernel's own threads among them.
    let (_, files) = open_files(stream.pid());
    events.clear();

    let books = Books::keep(std::slice::from_ref(steady));
    leave(&lost.bdf);
    let while_gone = samples(stream, 14, &mut events);
    let books = books.close();
    assert_eq!(events.len(), 1, "reported once: {events:?}");
    assert_eq!(events[0]["event"], "gpu_gone");
    assert_eq!(events[0]["id"], lost.bdf.as_str());
    assert_eq!(events[0]["driver"], lost.driver());
    // From the second sample on the books cover the whole interval.
    let mut off = Vec::new();
    for pair in while_gone.windows(2).skip(1) {
        let busy = engine(gpu(&pair[1], &steady.bdf).unwrap(), "rcs0").unwrap()["busy_percent"].as_f64();
        let busy = busy.expect("the other's numbers go on");
        let compared = books.compare(&steady.bdf, &["rcs0".to_string()], busy, &pair[1], Some(&pair[0]));
        off.push(compared.off);
    }
    agree(&off, 3.0);
    assert!(gpu(while_gone.last().unwrap(), &lost.bdf).is_none());
    assert!(open_files(stream.pid()).1 <= files, "files of the lost GPU are closed");

    events.clear();
    come_back(&lost.bdf);
    let back = samples(stream, 20, &mut events);
    assert_eq!(events.len(), 1, "reported once: {events:?}");
    assert_eq!(events[0]["event"], "gpu_added");
    assert_eq!(events[0]["id"], lost.bdf.as_str());
    assert!(gpu(back.last().unwrap(), &lost.bdf).is_some(), "it is back");
    let (folders, files_after) = open_files(stream.pid());
    assert_eq!(files_after, files, "as many files as before");
    assert!(folders <= processes(), "{folders} folders of processes, of which there are {}", processes());
}

#[test]
#[ignore = "needs the testbed's guest"]
fn the_stream_survives_unplug_and_unbind() {
    let all = gpus();
    let steady = all.iter().find(|g| g.identity == "i915").unwrap();
    let load = Load::start(&steady.render, "rcs0", 50.0, 2000, 150.0);
    // The devices sleep now and then, and a sleeping one is as good as any for leaving.
    let mut stream = Stream::start(&["stat", "--json", "--interval", "250ms"]);
    for lost in all.iter().filter(|g| g.identity != "i915") {
        cycle(&mut stream, steady, lost, unplug, |_| rescan());
        cycle(&mut stream, steady, lost, unbind, bind);
        println!("{}: unplugged, came back, unbound, bound", lost.identity);
    }
    let (status, said) = stream.interrupt();
    assert_eq!((status, said.as_str()), (0, ""));
    drop(load);
}
