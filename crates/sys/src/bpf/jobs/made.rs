//! Jobs that are put in by hand: `struct made` in `jobs.bpf.c`, from this side.
//!
//! The programs follow pointers from a job to its fence, scheduler, device and names. So a job is made of the same structures, with every
//! member where this kernel has it, in a table whose memory is the kernel's, and the programs that stand on the tracepoints are run with
//! its address. They cannot tell it from a job of a driver.

use super::Jobs;
use super::places::{ABSENT, Places};
use crate::bpf::BpfError;

/// A job to put in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeJob {
    /// The ring's name, 23 letters at most.
    pub ring: String,
    /// The device's name, 31 letters at most.
    pub device: String,
    /// What the hardware's fence ends with: 0, or a negative error number.
    pub error: i32,
    /// Whether the kernel passes over its end, so that its fence alone tells of that.
    pub is_end_missed: bool,
}

/// The context of their fences. The kernel gives these numbers out one after the other, from 1 on (`dma_fence_context_counter`).
pub const MADE_CONTEXT: u64 = u64::MAX;

/// `HINTS` in `rings.h`.
const HINTS: u64 = 1024;

/// Length of `struct made`, and of what stands in front of its bytes.
const LENGTH: usize = 16384;
const HEAD: usize = 8;

/// Room for each structure, and where it begins. The largest is the scheduler: some 1,500 bytes.
const ROOM: usize = 2048;
const JOB: usize = HEAD;
const ENTITY: usize = JOB + ROOM;
const FENCE: usize = ENTITY + ROOM;
const PARENT: usize = FENCE + ROOM;
const SCHEDULER: usize = PARENT + ROOM;
const DEVICE: usize = SCHEDULER + ROOM;
const RING_NAME: usize = DEVICE + ROOM;
const DEVICE_NAME: usize = RING_NAME + 24;
const _: () = assert!(DEVICE_NAME + 32 <= LENGTH);

/// The structures of a job at an address, and none where a member lies beyond the room for its structure.
fn made(places: &Places, at: u64, seqno: u64, job: &MadeJob) -> Option<Vec<u8>> {
    let [
        job_fence,
        job_scheduler,
        finished_context,
        finished_seqno,
        _,
        parent,
        client,
        context,
        fence_seqno,
        error,
        scheduler_name,
        scheduler_device,
        device_name,
        queue_length,
        ..,
    ] = places.0;
    let mut bytes = vec![0; LENGTH];
    let mut put = |structure: usize, place: u16, value: &[u8]| {
        let place = usize::from(place);
        if place == usize::from(ABSENT) {
            return Some(());
        }
        let end = place.checked_add(value.len()).filter(|end| *end <= ROOM)?;
        let to = bytes.get_mut(structure + place..structure + end)?;
        to.copy_from_slice(value);
        Some(())
    };
    let address = |structure: usize| at.wrapping_add(structure as u64).to_ne_bytes();
    put(JOB, job_fence, &address(FENCE))?;
    put(JOB, job_scheduler, &address(SCHEDULER))?;
    put(FENCE, finished_context, &MADE_CONTEXT.to_ne_bytes())?;
    put(FENCE, finished_seqno, &seqno.to_ne_bytes())?;
    put(FENCE, parent, &address(PARENT))?;
    put(FENCE, client, &0_u64.to_ne_bytes())?;
    put(PARENT, context, &MADE_CONTEXT.to_ne_bytes())?;
    put(PARENT, fence_seqno, &seqno.to_ne_bytes())?;
    put(PARENT, error, &job.error.to_ne_bytes())?;
    put(SCHEDULER, scheduler_name, &address(RING_NAME))?;
    put(SCHEDULER, scheduler_device, &address(DEVICE))?;
    put(DEVICE, device_name, &address(DEVICE_NAME))?;
    put(ENTITY, queue_length, &1_u32.to_ne_bytes())?;
    // A zero stays behind each.
    let mut text = |at: usize, room: usize, text: &str| {
        let to = bytes.get_mut(at..at + room - 1).unwrap_or_default();
        to.iter_mut().zip(text.as_bytes()).for_each(|(to, from)| *to = *from);
    };
    text(RING_NAME, 24, &job.ring);
    text(DEVICE_NAME, 32, &job.device);
    Some(bytes)
}

impl Jobs {
    /// Puts a job in: it is queued, runs, is done, and its fence signals, for the programs that stand on the tracepoints. The submitter is this process; its fence has
    /// the context [`MADE_CONTEXT`] and a seqno of its own, which is returned.
    ///
    /// # Errors
    /// [`BpfError::Unsupported`] for structures larger than there is room for; [`BpfError`] when the kernel refuses.
    pub fn put_in(&mut self, job: &MadeJob) -> Result<u64, BpfError> {
        let table = self.programs.map("made")?;
        let key = 0_u32.to_ne_bytes();
        self.programs.with_constants(&self.places.constants(0))?.load("find_made")?.run(&[0, 0])?;
        let mut at = 0;
        let read = |_: &[u8], value: &[u8]| at = value.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes));
        table.each(read).map_err(|e| BpfError::calling("BPF_MAP_LOOKUP_BATCH", e))?;
        self.made = self.made.wrapping_add(1);
        let seqno = self.made;
        let unfit = || BpfError::Unsupported { what: "this kernel's structures are larger than a made job's".into() };
        let bytes = made(&self.places, at, seqno, job).ok_or_else(unfit)?;
        table.insert(&key, &bytes).map_err(|e| BpfError::calling("BPF_MAP_UPDATE_ELEM", e))?;
        let address = |structure: usize| at.wrapping_add(structure as u64);
        self.forget_ring(address(SCHEDULER))?;
        let Places([_, _, finished_context, _, _, _, _, context, ..]) = &self.places;
        let finished = address(FENCE).wrapping_add(u64::from(*finished_context)).wrapping_sub(u64::from(*context));
        for (program, arguments) in [
            ("queue", [address(JOB), address(ENTITY)]),
            ("run", [address(JOB), address(ENTITY)]),
            ("done", [address(FENCE), 0]),
            ("fence_error", [finished, 0]),
        ] {
            let is_missed = job.is_end_missed && program == "done";
            if let Some(attached) = self.levels.first(program).filter(|_| !is_missed) {
                attached.run(&arguments)?;
            }
        }
        Ok(seqno)
    }

    /// All made jobs have one scheduler and one context, and not one ring: what is known of the job before (`struct queue_on` and `struct
    /// hint` in `rings.h`) is taken out.
    fn forget_ring(&self, scheduler: u64) -> Result<(), BpfError> {
        let failed = |e| BpfError::calling("BPF_MAP_DELETE_ELEM", e);
        let schedulers = self.programs.map("schedulers")?;
        let key = [scheduler, MADE_CONTEXT].map(u64::to_ne_bytes).concat();
        if schedulers.get(&key).map_err(failed)?.is_some() {
            schedulers.remove(&key).map_err(failed)?;
        }
        let place = ((MADE_CONTEXT ^ scheduler >> 6) % HINTS) as u32;
        let hints = self.programs.map("hints")?;
        hints.insert(&place.to_ne_bytes(), &[0; 16]).map_err(|e| BpfError::calling("BPF_MAP_UPDATE_ELEM", e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads through the structures as the programs do.
    struct Memory {
        at: u64,
        bytes: Vec<u8>,
    }

    impl Memory {
        fn word(&self, address: u64) -> u64 {
            let from = (address - self.at) as usize;
            u64::from_ne_bytes(self.bytes[from..from + 8].try_into().unwrap())
        }

        fn text(&self, address: u64) -> String {
            let from = &self.bytes[(address - self.at) as usize..];
            String::from_utf8(from.split(|byte| *byte == 0).next().unwrap().to_vec()).unwrap()
        }
    }

    /// Places of no kernel, each another: 16 apart.
    fn places() -> Places {
        Places(std::array::from_fn(|place| 16 * (place as u16 + 1)))
    }

    #[test]
    fn all_that_the_programs_read_is_where_they_look() {
        let job = MadeJob { ring: "gfx".into(), device: "0000:03:00.0".into(), error: -5, is_end_missed: false };
        let at = 0xffff_8880_1234_0000;
        let memory = Memory { at, bytes: made(&places(), at, 7, &job).unwrap() };
        let place = |number: u64| 16 * (number + 1);
        let job = at + JOB as u64;
        let (fence, scheduler) = (memory.word(job + place(0)), memory.word(job + place(1)));
        assert_eq!((memory.word(fence + place(2)), memory.word(fence + place(3))), (MADE_CONTEXT, 7));
        assert_eq!(memory.word(memory.word(fence + place(5)) + place(9)) as u32 as i32, -5);
        assert_eq!(memory.text(memory.word(scheduler + place(10))), "gfx");
        let device = memory.word(scheduler + place(11));
        assert_eq!(memory.text(memory.word(device + place(12))), "0000:03:00.0");
    }

    #[test]
    fn names_are_cut_and_members_that_are_absent_are_left_out() {
        let mut places = places();
        places.0[6] = ABSENT;
        let long = "n".repeat(99);
        let job = MadeJob { ring: long.clone(), device: long, error: 0, is_end_missed: false };
        let memory = Memory { at: 0, bytes: made(&places, 0, 1, &job).unwrap() };
        assert_eq!(memory.text(RING_NAME as u64).len(), 23);
        assert_eq!(memory.text(DEVICE_NAME as u64).len(), 31);
    }

    #[test]
    fn synthetic_places_beyond_the_room_are_refused() {
        for place in [2041, 2048, 60_000] {
            let mut places = places();
            places.0[0] = place;
            let job = MadeJob { ring: String::new(), device: String::new(), error: 0, is_end_missed: false };
            assert_eq!(made(&places, 0, 1, &job), None, "{place}");
        }
    }
}
