/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/*
 * What jobs take, added up: a histogram for each device, ring, process and stage, and each ring's depth and busy time. Read by
 * crates/sys/src/bpf/jobs/totals.rs.
 */
#ifndef GPUSCOPE_TOTALS_H
#define GPUSCOPE_TOTALS_H

#include "rules.h"

/* From queue to run, from run to done, from queue to done. */
enum stage { QUEUED, IN_FLIGHT, WHOLE };

struct total_key {
	u32 window;
	u32 stage;
	u32 tgid;
	u32 pad;
	char name[24];
	char dev[32];
};

/*
 * Log-linear: a bucket for each of 0 to 7, then eight for each power of two up to 2^40 ns (18 minutes); what is longer is in the last.
 */
#define BUCKETS 304
struct total {
	u64 jobs;
	u64 sum_ns;
	u64 min_inverted_ns;	/* ~min, so that 0 is none yet, and both are the greatest */
	u64 max_ns;
	u32 bucket[BUCKETS];
};
const struct total no_total = {};

struct {
	NUMBER(type, BPF_MAP_TYPE_HASH);
	NUMBER(max_entries, 1024);
	TYPE(key, struct total_key);
	TYPE(value, struct total);
} totals SEC(".maps");

struct ring_key {
	char name[24];
	char dev[32];
};

/*
 * Of busy time only the sum is kept: each time at which the ring gets its first job is taken off, each at which its last is done is added.
 * In whatever order processors come by, it adds up; while jobs are in flight, now is to be added.
 */
struct ring_state {
	u64 waiting;
	u64 in_flight;
	u64 peak_waiting;
	u64 peak_in_flight;
	u64 busy_ns;
	u64 done;
	u32 window;	/* of the peaks */
	u32 pad;
};
const struct ring_state no_ring = {};

struct {
	NUMBER(type, BPF_MAP_TYPE_HASH);
	NUMBER(max_entries, 256);
	TYPE(key, struct ring_key);
	TYPE(value, struct ring_state);
} rings SEC(".maps");

INLINE void raise_to(u64 *greatest, u64 value)
{
	u32 try;

#pragma unroll
	for (try = 0; try < TRIES; try++) {
		u64 before = *(volatile u64 *)greatest;

		if (value <= before || __sync_val_compare_and_swap(greatest, before, value) == before)
			return;
	}
}

INLINE u32 bucket_of(u64 ns)
{
	u32 power = 0, bucket;
	u64 rest = ns;

	if (ns < 8)
		return ns;
	if (rest >> 32) { power += 32; rest >>= 32; }
	if (rest >> 16) { power += 16; rest >>= 16; }
	if (rest >> 8) { power += 8; rest >>= 8; }
	if (rest >> 4) { power += 4; rest >>= 4; }
	if (rest >> 2) { power += 2; rest >>= 2; }
	if (rest >> 1)
		power += 1;
	bucket = (power - 2) * 8 + (ns >> (power - 3) & 7);
	return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

INLINE struct ring_state *ring_of(const struct rules *r, struct counts *mine, const struct queue *job)
{
	struct ring_state *state;
	struct ring_key key;

	__builtin_memcpy(key.name, job->name, sizeof(key.name));
	__builtin_memcpy(key.dev, job->dev, sizeof(key.dev));
	state = bpf_map_lookup_elem(&rings, &key);
	if (!state) {
		bpf_map_update_elem(&rings, &key, &no_ring, BPF_NOEXIST);
		state = bpf_map_lookup_elem(&rings, &key);
	}
	if (!state) {
		count(mine, TABLE_FULL, 1);
		return 0;
	}
	/* The first event of a window begins its peaks with what is there. */
	if (state->window != r->window) {
		state->window = r->window;
		state->peak_waiting = state->waiting;
		state->peak_in_flight = state->in_flight;
	}
	return state;
}

INLINE void add_up(const struct rules *r, struct counts *mine, const struct queue *job, u32 stage, u64 ns)
{
	struct total_key key = { .window = r->window, .stage = stage, .tgid = job->tgid };
	struct total *total;
	u32 bucket = bucket_of(ns);

	__builtin_memcpy(key.name, job->name, sizeof(key.name));
	__builtin_memcpy(key.dev, job->dev, sizeof(key.dev));
	total = bpf_map_lookup_elem(&totals, &key);
	if (!total) {
		bpf_map_update_elem(&totals, &key, &no_total, BPF_NOEXIST);
		total = bpf_map_lookup_elem(&totals, &key);
	}
	if (!total) {
		count(mine, TABLE_FULL, 1);
		return;
	}
	__sync_fetch_and_add(&total->jobs, 1);
	__sync_fetch_and_add(&total->sum_ns, ns);
	raise_to(&total->min_inverted_ns, ~ns);
	raise_to(&total->max_ns, ns);
	if (bucket < BUCKETS)
		__sync_fetch_and_add(&total->bucket[bucket], 1);
}

INLINE void total_queue(const struct rules *r, struct counts *mine, const struct queue *job)
{
	struct ring_state *state = ring_of(r, mine, job);

	if (state)
		raise_to(&state->peak_waiting, __sync_fetch_and_add(&state->waiting, 1) + 1);
}

INLINE void total_run(const struct rules *r, struct counts *mine, const struct queue *job, u64 run_ns)
{
	struct ring_state *state = ring_of(r, mine, job);

	if (!state)
		return;
	__sync_fetch_and_add(&state->waiting, -1);
	u64 before = __sync_fetch_and_add(&state->in_flight, 1);
	if (!before)
		__sync_fetch_and_add(&state->busy_ns, -run_ns);
	raise_to(&state->peak_in_flight, before + 1);
	add_up(r, mine, job, QUEUED, run_ns - job->head.at_ns);
}

INLINE void total_done(const struct rules *r, struct counts *mine, const struct kept *job, u64 done_ns)
{
	struct ring_state *state = ring_of(r, mine, &job->queue);

	if (!state)
		return;
	if (job->has_run) {
		if (__sync_fetch_and_add(&state->in_flight, -1) == 1)
			__sync_fetch_and_add(&state->busy_ns, done_ns);
		add_up(r, mine, &job->queue, IN_FLIGHT, done_ns - job->run_ns);
		add_up(r, mine, &job->queue, WHOLE, done_ns - job->queue.head.at_ns);
	} else {
		__sync_fetch_and_add(&state->waiting, -1);
	}
	__sync_fetch_and_add(&state->done, 1);
}

/* A job of which no end is seen: its times are not known. */
INLINE void total_gone(const struct rules *r, struct counts *mine, const struct kept *job, u64 now_ns)
{
	struct ring_state *state = ring_of(r, mine, &job->queue);

	if (!state)
		return;
	if (!job->has_run)
		__sync_fetch_and_add(&state->waiting, -1);
	else if (__sync_fetch_and_add(&state->in_flight, -1) == 1)
		__sync_fetch_and_add(&state->busy_ns, now_ns);
}

#endif
