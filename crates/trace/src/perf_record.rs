//! Records of perf: what `perf_event_open(2)` puts into a buffer, and perf.data files hold.

/// `PERF_RECORD_LOST`, `_COMM`, `_SAMPLE` of `enum perf_event_type` (include/uapi/linux/perf_event.h).
const LOST: u32 = 2;
const COMM: u32 = 3;
const SAMPLE: u32 = 9;

/// One record, as far as tracepoints need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PerfRecord<'a> {
    /// A tracepoint fired.
    Sample {
        pid: u32,
        tid: u32,
        /// In the clock that was asked for.
        at_ns: u64,
        cpu: u32,
        /// The tracepoint's own record.
        data: &'a [u8],
    },
    /// So many records did not fit.
    Lost(u64),
    /// A thread has a name, or has got another one.
    Comm { pid: u32, tid: u32, comm: &'a [u8] },
    /// Something else.
    Other,
}

impl<'a> PerfRecord<'a> {
    /// Reads a record whole, header included, of which samples have TID, TIME, CPU and RAW and nothing else. None for one that is cut off.
    pub(crate) fn parse(record: &'a [u8]) -> Option<PerfRecord<'a>> {
        let (kind, body) = (u32_at(record, 0)?, record.get(8..)?);
        Some(match kind {
            SAMPLE => {
                let length = u32_at(body, 24)? as usize;
                PerfRecord::Sample {
                    pid: u32_at(body, 0)?,
                    tid: u32_at(body, 4)?,
                    at_ns: u64_at(body, 8)?,
                    cpu: u32_at(body, 16)?,
                    data: body.get(28..)?.get(..length)?,
                }
            }
            LOST => PerfRecord::Lost(u64_at(body, 8)?),
            COMM => {
                let comm = body.get(8..)?;
                let end = comm.iter().position(|byte| *byte == 0).unwrap_or(comm.len());
                PerfRecord::Comm { pid: u32_at(body, 0)?, tid: u32_at(body, 4)?, comm: comm.get(..end)? }
            }
            _ => PerfRecord::Other,
        })
    }
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record as `perf_output_sample` (kernel/events/core.c) writes it: the length in the header counts the header.
    fn record(kind: u32, body: &[u8]) -> Vec<u8> {
        let mut record = kind.to_ne_bytes().to_vec();
        record.extend(0_u16.to_ne_bytes());
        record.extend((8 + body.len() as u16).to_ne_bytes());
        record.extend(body);
        record
    }

    fn sample() -> Vec<u8> {
        let mut body = Vec::new();
        body.extend(70_u32.to_ne_bytes());
        body.extend(77_u32.to_ne_bytes());
        body.extend(123_u64.to_ne_bytes());
        body.extend(3_u32.to_ne_bytes());
        body.extend(0_u32.to_ne_bytes());
        body.extend(4_u32.to_ne_bytes());
        body.extend([1, 2, 3, 4]);
        record(9, &body)
    }

    #[test]
    fn a_sample_has_thread_time_processor_and_the_tracepoints_record() {
        let sample = sample();
        let expected = PerfRecord::Sample { pid: 70, tid: 77, at_ns: 123, cpu: 3, data: &[1, 2, 3, 4] };
        assert_eq!(PerfRecord::parse(&sample), Some(expected));
        for length in 0..sample.len() {
            assert_eq!(PerfRecord::parse(&sample[..length]), None, "{length}");
        }
    }

    #[test]
    fn names_and_losses() {
        let mut body = 70_u32.to_ne_bytes().to_vec();
        body.extend(77_u32.to_ne_bytes());
        body.extend(b"glxgears\0\0\0\0\0\0\0\0");
        let comm = record(3, &body);
        assert_eq!(PerfRecord::parse(&comm), Some(PerfRecord::Comm { pid: 70, tid: 77, comm: b"glxgears" }));
        let mut body = 5_u64.to_ne_bytes().to_vec();
        body.extend(19_u64.to_ne_bytes());
        assert_eq!(PerfRecord::parse(&record(2, &body)), Some(PerfRecord::Lost(19)));
        assert_eq!(PerfRecord::parse(&record(7, &[0; 24])), Some(PerfRecord::Other));
    }
}
