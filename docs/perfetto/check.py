#!/usr/bin/env python3
"""Compares an exported Perfetto trace with the jobs that are in it, with readers that are not gpuscope's.

    python3 -m pip install perfetto protobuf
    docs/perfetto/check.py TRACE JOBS.jsonl [TRACE_PROCESSOR]

JOBS.jsonl has a line `gpuscope.job/1` a job (`trace report --jobs --format json`); the report behind them is passed over. The trace is decoded with the published schema, which
the Python package carries: nothing in it may be unknown to that but what docs/perfetto.md names. With TRACE_PROCESSOR, Perfetto's `trace_processor_shell`, the same
comparison is made with what Perfetto itself makes of the trace.
Exit status: 0 equal, 1 not.
"""

import collections
import csv
import json
import subprocess
import sys
import tempfile

JOB = "gpuscope.job/1"
NO_GPU = "GPU not named by the records"
NO_RING = "ring not named by the records"

QUERY = """
select g.name as gpu, r.name as ring, t.name as stage, s.ts, s.dur,
  extract_arg(s.arg_set_id, 'debug.context') as context, extract_arg(s.arg_set_id, 'debug.seqno') as seqno
from slice s join track t on s.track_id = t.id join track r on t.parent_id = r.id join track g on r.parent_id = g.id
where g.name like 'GPU %'
"""


def fence(job):
    return (job["context"], job["seqno"])


def of_job(job):
    """Stages of a job: name, begin, end (none: goes on)."""
    goes_on = job["status"] == "in_flight"
    submit, run, start, done = (job[name] for name in ("submit_ns", "run_ns", "start_ns", "done_ns"))
    if submit is not None:
        end = next((at for at in (run, start, done) if at is not None), None)
        if end is not None or goes_on:
            yield "queue", submit, end
    if run is not None and start is not None and run < start:
        yield "hardware queue", run, start
    if done is not None or goes_on:
        if start is not None:
            yield "execution", start, done
        elif run is not None:
            yield "in flight", run, done


def rows_of_jobs(jobs):
    for job in jobs:
        gpu = NO_GPU if job["gpu"] is None else f"GPU {job['gpu']}"
        for stage, begin, end in of_job(job):
            yield gpu, job["ring"] or NO_RING, stage, begin, -1 if end is None else end - begin, *fence(job)


# What an export says beside Perfetto's own fields, where Perfetto passes over it: docs/perfetto.md.
OURS = {
    "trace.packet.1900",
    "trace.packet.ftrace_events.event.drm_sched_job_done.1000",
    *(
        f"trace.packet.ftrace_events.event.{name}.{field}"
        for name in ("drm_sched_job_queue", "drm_sched_job")
        for field in (1001, 1002)
    ),
}


def unknown(message, path="trace"):
    """Fields that the schema lacks, as paths."""
    from google.protobuf import unknown_fields

    for field in unknown_fields.UnknownFieldSet(message):
        yield f"{path}.{field.field_number}"
    for descriptor, value in message.ListFields():
        if descriptor.type == descriptor.TYPE_MESSAGE:
            for each in value if descriptor.is_repeated else [value]:
                yield from unknown(each, f"{path}.{descriptor.name}")


def rows_of_schema(path):
    from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as schema

    trace = schema.Trace()
    with open(path, "rb") as file:
        trace.ParseFromString(file.read())
    strange = collections.Counter(path for path in unknown(trace) if path not in OURS)
    if strange:
        sys.exit(f"{path}: fields that the published schema lacks: {dict(strange)}")
    tracks, notes, events = {}, {}, []
    for packet in trace.packet:
        for entry in packet.interned_data.debug_annotation_names:
            notes[entry.iid] = entry.name
        if packet.HasField("track_descriptor"):
            tracks[packet.track_descriptor.uuid] = packet.track_descriptor
        if packet.HasField("track_event"):
            events.append((packet.timestamp, packet.track_event))
    events.sort(key=lambda event: event[0])
    kinds, open_slices = schema.TrackEvent, collections.defaultdict(list)
    rows = []
    for at, event in events:
        names, track = [], tracks[event.track_uuid]
        while track is not None:
            names.append(track.name)
            track = tracks.get(track.parent_uuid) if track.HasField("parent_uuid") else None
        if len(names) != 3:
            continue
        stack = open_slices[event.track_uuid]
        if event.type == kinds.TYPE_SLICE_BEGIN:
            if stack:
                sys.exit(f"{path}: slices overlap on {names} at {at}")
            value = {notes[note.name_iid]: note.uint_value for note in event.debug_annotations}
            stack.append([names[2], names[1], names[0], at, -1, value.get("context"), value.get("seqno")])
            rows.append(stack[-1])
        elif event.type == kinds.TYPE_SLICE_END:
            slice_ = stack.pop()
            slice_[4] = at - slice_[3]
    return [tuple(row) for row in rows]


def query(program, path, sql):
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(sql)
        file.flush()
        out = subprocess.run([program, "-q", file.name, path], check=True, stdout=subprocess.PIPE, text=True).stdout
    return [row for row in csv.reader(out.splitlines()) if row][1:]


def rows_of_trace_processor(program, path):
    lost = query(program, path, "select name, value from stats where severity in ('error', 'data_loss') and value > 0")
    if lost:
        sys.exit(f"{path}: Perfetto reports {lost}")
    for gpu, ring, stage, *numbers in query(program, path, QUERY):
        yield gpu, ring, stage, *(int(number) for number in numbers)


def compare(what, found, expected):
    found, expected = collections.Counter(found), collections.Counter(expected)
    missing, extra = expected - found, found - expected
    print(f"{what}: {sum(found.values())} slices, {sum(expected.values())} expected, {sum(missing.values())} missing, {sum(extra.values())} extra")
    for sign, rows in (("-", missing), ("+", extra)):
        for row in list(rows)[:5]:
            print(f"  {sign} {row}")
    return not missing and not extra


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    with open(sys.argv[2], encoding="utf-8") as file:
        jobs = [line for line in map(json.loads, file) if line.get("schema", JOB) == JOB]
    expected = list(rows_of_jobs(jobs))
    if not expected:
        sys.exit(f"{sys.argv[2]}: no job to compare")
    is_equal = compare("published schema", rows_of_schema(sys.argv[1]), expected)
    if len(sys.argv) == 4:
        is_equal &= compare("trace processor", rows_of_trace_processor(sys.argv[3], sys.argv[1]), expected)
    sys.exit(0 if is_equal else 1)


if __name__ == "__main__":
    main()
