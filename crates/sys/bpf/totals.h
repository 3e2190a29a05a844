/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/*
 * What jobs take, added up: a histogram for each ring, process and stage, and each ring's depth and busy time. Read by
 * crates/sys/src/bpf/jobs/totals.rs.
 */
#ifndef GPUSCOPE_TOTALS_H
#define GPUSCOPE_TOTALS_H

#include "rules.h"

/* From queue to run, from run to done, from queue to done: all three are added when a job is done. */
enum stage { QUEUED, IN_FLIGHT, WHOLE };

/*
 * Log-linear: a bucket for each of 0 to 7, then eight for each power of two up to 2^40 ns (18 minutes); what is longer is in the last.
 */
#define BUCKETS 304
struct total {
	u64 sum_ns;	/* not of WHOLE */
	u64 min_inverted_ns;	/* ~min, so that 0 is none yet, and both are the greatest */
	u64 max_ns;
	u32 bucket[BUCKETS];
};

/* By stage, of the jobs of a process on a ring. */
struct total_of_stages {
	struct total of[3];
};

/*
 * Found as jobs are (kept.h), and for the same reason: a word tells window, ring and process, and may stand in either of two sets of 16
 * places. Half of the places taken, hardly ever are both full. Two processors may each make one for the same: the reader adds them up.
 */
#define TOTAL_SETS 64
struct total_set {
	u64 key[WAYS];	/* 0: free, and its total is empty */
};
struct {
	NUMBER(type, BPF_MAP_TYPE_ARRAY);
	NUMBER(max_entries, TOTAL_SETS);
	TYPE(key, u32);
	TYPE(value, struct total_set);
} total_sets SEC(".maps");

/* By set and place in it. */
struct {
	NUMBER(type, BPF_MAP_TYPE_ARRAY);
	NUMBER(max_entries, 1024);
	TYPE(key, u32);
	TYPE(value, struct total_of_stages);
} totals SEC(".maps");

/* Processes have 22 bits (PID_MAX_LIMIT, include/linux/threads.h), rings eleven with 1 added; of the window's number what is left. */
INLINE u64 word_of_total(const struct rules *r, const struct kept *job)
{
	return (u64)r->window << 33 | (u64)(job->ring + 1) << 22 | job->tgid;
}

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
	if ((int)(r->window - state->window) > 0) {
		state->window = r->window;
		state->peak_waiting = (u32)state->depth;
		state->peak_in_flight = state->depth >> 32;
	}
	return state;
}

INLINE struct total_of_stages *totals_of(const struct rules *r, struct counts *mine, const struct kept *job)
{
	u64 word = word_of_total(r, job), mixed = word * 0x9e3779b97f4a7c15ull;
	u32 first = mixed >> 58, second = (mixed >> 52) % TOTAL_SETS, at, way;
	struct total_set *one = bpf_map_lookup_elem(&total_sets, &first), *two;

	if (!one)
		return 0;
	at = first;
#pragma unroll
	for (way = 0; way < WAYS; way++)
		if (*(volatile u64 *)&one->key[way] == word)
			goto found;
	two = bpf_map_lookup_elem(&total_sets, &second);
	if (!two)
		return 0;
	at = second;
#pragma unroll
	for (way = 0; way < WAYS; way++)
		if (*(volatile u64 *)&two->key[way] == word)
			goto found;
	at = first;
#pragma unroll
	for (way = 0; way < WAYS; way++)
		if (!*(volatile u64 *)&one->key[way] && !__sync_val_compare_and_swap(&one->key[way], 0, word))
			goto found;
	at = second;
#pragma unroll
	for (way = 0; way < WAYS; way++)
		if (!*(volatile u64 *)&two->key[way] && !__sync_val_compare_and_swap(&two->key[way], 0, word))
			goto found;
	count(mine, TABLE_FULL, 1);
	return 0;
found:
	at = at * WAYS + way;
	return bpf_map_lookup_elem(&totals, &at);
}

INLINE void add_up(struct total *total, u64 ns, int is_sum)
{
	u32 bucket = bucket_of(ns);

	/* The whole is the sum of its parts. */
	if (!is_sum)
		__sync_fetch_and_add(&total->sum_ns, ns);
	raise_to(&total->min_inverted_ns, ~ns);
	raise_to(&total->max_ns, ns);
	if (bucket < BUCKETS)
		__sync_fetch_and_add(&total->bucket[bucket], 1);
}

/* Of a ring's depth. */
#define IN_FLIGHT_ONE (1ull << 32)

INLINE void total_queue(const struct rules *r, struct counts *mine, const struct kept *job)
{
	struct ring_state *state = ring_of(r, mine, job->ring);

	if (state)
		raise_to(&state->peak_waiting, (u32)__sync_fetch_and_add(&state->depth, 1) + 1);
}

INLINE void total_run(const struct rules *r, struct counts *mine, const struct kept *job, u64 run_ns)
{
	struct ring_state *state = ring_of(r, mine, job->ring);
	u64 before;

	if (!state)
		return;
	before = __sync_fetch_and_add(&state->depth, IN_FLIGHT_ONE - 1) >> 32;
	if (!before)
		__sync_fetch_and_add(&state->busy_ns, -run_ns);
	raise_to(&state->peak_in_flight, before + 1);
}

INLINE void total_done(const struct rules *r, struct counts *mine, const struct kept *job, u64 done_ns)
{
	struct ring_state *state = ring_of(r, mine, job->ring);
	struct total_of_stages *total;

	if (!state)
		return;
	__sync_fetch_and_add(&state->done, 1);
	if (!job->has_run) {
		__sync_fetch_and_add(&state->depth, -1);
		return;
	}
	if (__sync_fetch_and_add(&state->depth, -IN_FLIGHT_ONE) >> 32 == 1)
		__sync_fetch_and_add(&state->busy_ns, done_ns);
	total = totals_of(r, mine, job);
	if (!total)
		return;
	add_up(&total->of[QUEUED], job->run_ns - job->queued_ns, 0);
	add_up(&total->of[IN_FLIGHT], done_ns - job->run_ns, 0);
	add_up(&total->of[WHOLE], done_ns - job->queued_ns, 1);
}

/* A job of which no end is seen: its times are not known. */
INLINE void total_gone(const struct rules *r, struct counts *mine, const struct kept *job, u64 now_ns)
{
	struct ring_state *state = ring_of(r, mine, job->ring);

	if (!state)
		return;
	if (!job->has_run)
		__sync_fetch_and_add(&state->depth, -1);
	else if (__sync_fetch_and_add(&state->depth, -IN_FLIGHT_ONE) >> 32 == 1)
		__sync_fetch_and_add(&state->busy_ns, now_ns);
}

#endif
