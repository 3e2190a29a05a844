/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/*
 * What jobs take, added up: a histogram for each ring, process and stage, and each ring's depth and busy time. Read by
 * crates/sys/src/bpf/jobs/totals.rs.
 */
#ifndef GPUSCOPE_TOTALS_H
#define GPUSCOPE_TOTALS_H

#include "rules.h"

/* From queue to run, from run to done, from queue to done. */
enum stage { QUEUED, IN_FLIGHT, WHOLE };

struct total_key {
	u32 window;
	u32 ring;
	u32 tgid;
	u32 pad;
};

/*
 * Log-linear: a bucket for each of 0 to 7, then eight for each power of two up to 2^40 ns (18 minutes); what is longer is in the last.
 */
#define BUCKETS 304
struct total {
	u64 sum_ns;
	u64 min_inverted_ns;	/* ~min, so that 0 is none yet, and both are the greatest */
	u64 max_ns;
	u32 bucket[BUCKETS];
};

/* By stage, of the jobs of a process on a ring. */
struct total_of_stages {
	struct total of[3];
};
const struct total_of_stages no_total = {};

struct {
	NUMBER(type, BPF_MAP_TYPE_HASH);
	NUMBER(max_entries, 512);
	TYPE(key, struct total_key);
	TYPE(value, struct total_of_stages);
} totals SEC(".maps");

/*
 * Of a ring's busy time only the sum is kept: each time at which the ring gets its first job is taken off, each at which its last is done is
 * added. In whatever order processors come by, it adds up; while jobs are in flight, now is to be added.
 */

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

INLINE struct ring_state *ring_of(const struct rules *r, struct counts *mine, u32 ring)
{
	struct ring_state *state = bpf_map_lookup_elem(&rings, &ring);

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

INLINE struct total_of_stages *totals_of(const struct rules *r, struct counts *mine, const struct kept *job)
{
	struct total_key key = { .window = r->window, .ring = job->ring, .tgid = job->tgid };
	struct total_of_stages *found = bpf_map_lookup_elem(&totals, &key);

	if (found)
		return found;
	bpf_map_update_elem(&totals, &key, &no_total, BPF_NOEXIST);
	found = bpf_map_lookup_elem(&totals, &key);
	if (!found)
		count(mine, TABLE_FULL, 1);
	return found;
}

INLINE void add_up(struct total *total, u64 ns)
{
	u32 bucket = bucket_of(ns);

	__sync_fetch_and_add(&total->sum_ns, ns);
	raise_to(&total->min_inverted_ns, ~ns);
	raise_to(&total->max_ns, ns);
	if (bucket < BUCKETS)
		__sync_fetch_and_add(&total->bucket[bucket], 1);
}

INLINE void total_queue(const struct rules *r, struct counts *mine, const struct kept *job)
{
	struct ring_state *state = ring_of(r, mine, job->ring);

	if (state)
		raise_to(&state->peak_waiting, __sync_fetch_and_add(&state->waiting, 1) + 1);
}

INLINE void total_run(const struct rules *r, struct counts *mine, const struct kept *job, u64 run_ns)
{
	struct ring_state *state = ring_of(r, mine, job->ring);
	struct total_of_stages *total;
	u64 before;

	if (!state)
		return;
	__sync_fetch_and_add(&state->waiting, -1);
	before = __sync_fetch_and_add(&state->in_flight, 1);
	if (!before)
		__sync_fetch_and_add(&state->busy_ns, -run_ns);
	raise_to(&state->peak_in_flight, before + 1);
	total = totals_of(r, mine, job);
	if (total)
		add_up(&total->of[QUEUED], run_ns - job->queued_ns);
}

INLINE void total_done(const struct rules *r, struct counts *mine, const struct kept *job, u64 done_ns)
{
	struct ring_state *state = ring_of(r, mine, job->ring);
	struct total_of_stages *total;

	if (!state)
		return;
	__sync_fetch_and_add(&state->done, 1);
	if (!job->has_run) {
		__sync_fetch_and_add(&state->waiting, -1);
		return;
	}
	if (__sync_fetch_and_add(&state->in_flight, -1) == 1)
		__sync_fetch_and_add(&state->busy_ns, done_ns);
	total = totals_of(r, mine, job);
	if (!total)
		return;
	add_up(&total->of[IN_FLIGHT], done_ns - job->run_ns);
	add_up(&total->of[WHOLE], done_ns - job->queued_ns);
}

/* A job of which no end is seen: its times are not known. */
INLINE void total_gone(const struct rules *r, struct counts *mine, const struct kept *job, u64 now_ns)
{
	struct ring_state *state = ring_of(r, mine, job->ring);

	if (!state)
		return;
	if (!job->has_run)
		__sync_fetch_and_add(&state->waiting, -1);
	else if (__sync_fetch_and_add(&state->in_flight, -1) == 1)
		__sync_fetch_and_add(&state->busy_ns, now_ns);
}

#endif
