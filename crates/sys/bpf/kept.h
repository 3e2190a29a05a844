/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/*
 * Jobs in flight under rules, and what was decided of them.
 *
 * A job has three events, so whatever is asked of this table is asked of each: a hash of the kernel's takes 20 ns to find nothing, and 60 to
 * put in or take out. Here jobs stand in 2,048 sets of 16 places, and a place is taken by one atomic exchange. All jobs of a queue begin to look
 * for a place in the first half of one set, its home: most queues have few jobs in flight, which so use the same memory over and over. Those
 * that find no room there spill over, the one behind the other into the sets that follow. With 8,192 jobs in flight, of a few deep queues or many
 * shallow ones, less than one in a thousand finds no place (by simulation).
 */
#ifndef GPUSCOPE_KEPT_H
#define GPUSCOPE_KEPT_H

#include "jobs.h"

/* An event of a job that is recorded only if it takes long. */
struct kept_dependency {
	u64 at_ns;
	u64 ctx;
	u64 seqno;
	u32 tid;
	u16 cpu;
	u16 type;
};
#define DEPENDENCIES 4

#define LEFT_OUT_NS 1

struct kept {
	u64 queued_ns;	/* 0 while it is filled, LEFT_OUT_NS where nobody asked the clock */
	u32 cause;	/* KEPT, or why it is left out */
	u32 flags;	/* of the rules that it was queued under: they hold to its end */
	u64 slow_ns;
	u64 run_ns;
	u32 tgid;
	u32 ring;	/* its number, rings.h */
	u16 has_run;
	u16 dependencies;
	u32 place;	/* of its key */
	u32 run_tid;
	u32 run_cpu;
	u32 run_job_count;
	u32 home;	/* of its queue */
	/* Where it is told of when it is done. */
	struct queue queue;
	struct kept_dependency dependency[DEPENDENCIES];
};

#define SETS 2048
#define WAYS 16
#define HOME_WAYS 8	/* for jobs whose home it is */
struct set {
	u64 key[WAYS];	/* 0: free */
};
#define CLOSED (~0ull)	/* is no job's, and not free */

struct {
	NUMBER(type, BPF_MAP_TYPE_ARRAY);
	NUMBER(max_entries, SETS);
	TYPE(key, u32);
	TYPE(value, struct set);
} sets SEC(".maps");

/* By set: how many jobs whose home it is stand elsewhere. */
struct {
	NUMBER(type, BPF_MAP_TYPE_ARRAY);
	NUMBER(max_entries, SETS);
	TYPE(key, u32);
	TYPE(value, u32);
} spilled SEC(".maps");

/* By set and place in it. */
struct {
	NUMBER(type, BPF_MAP_TYPE_ARRAY);
	NUMBER(max_entries, 32768);
	TYPE(key, u32);
	TYPE(value, struct kept);
} kept SEC(".maps");

/* Jobs that found no place and are not done, the last of them: what follows of them is left out for that, too. By word_of. */
struct {
	NUMBER(type, BPF_MAP_TYPE_LRU_HASH);
	NUMBER(max_entries, 16384);
	TYPE(key, u64);
	TYPE(value, u32);
} turned_away SEC(".maps");

/* How many were put in and not taken out: while there are none, nobody need look. What the table has dropped itself stays counted, and of whose
 * end the kernel passed over. */
struct {
	NUMBER(type, BPF_MAP_TYPE_ARRAY);
	NUMBER(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, u64);
} turned_away_count SEC(".maps");

INLINE u64 *count_turned_away(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&turned_away_count, &zero);
}

/*
 * A scheduler counts its fences in 32 bits (drm_sched_fence_init, sched_fence.c), and contexts are given out from 1 on, two for each queue
 * of a program: one word tells a job until four billion of them were made.
 */
INLINE u64 word_of(const struct job *job)
{
	return (job->fence_context << 32) + job->fence_seqno;
}

INLINE u32 home_of(u64 word)
{
	return ((u32)(word >> 32) * 0x9e3779b1u >> 16) % SETS;
}

/* Where a job stands that found no room at home: never there. */
INLINE u32 spilled_to(u64 word, u32 home)
{
	u32 at = (((u32)(word >> 32) * 0x9e3779b1u >> 16) + (u32)word) % SETS;

	return at == home ? (at + 1) % SETS : at;
}

INLINE struct kept *find_kept(const struct job *job)
{
	u64 word = word_of(job);
	u32 home = home_of(word), at = home, way;
	struct set *set = bpf_map_lookup_elem(&sets, &home);
	u32 *spills;

	/* A fence that could not be read has no numbers. */
	if (!set || !word)
		return 0;
#pragma unroll
	for (way = 0; way < HOME_WAYS; way++)
		if (*(volatile u64 *)&set->key[way] == word)
			goto found;
	spills = bpf_map_lookup_elem(&spilled, &home);
	if (!spills || !*(volatile u32 *)spills)
		return 0;
	at = spilled_to(word, home);
	set = bpf_map_lookup_elem(&sets, &at);
	if (!set)
		return 0;
#pragma unroll
	for (way = 0; way < WAYS; way++)
		if (*(volatile u64 *)&set->key[way] == word)
			goto found;
	return 0;
found:
	at = at * WAYS + way;
	return bpf_map_lookup_elem(&kept, &at);
}

/* Takes a place for a job that is not there. None where there is no room. */
INLINE struct kept *make_room(const struct job *job)
{
	u64 word = word_of(job);
	u32 home = home_of(word), at = home, way;
	struct set *set = bpf_map_lookup_elem(&sets, &home);
	struct kept *made;
	u32 *spills;

	if (!set || !word)
		return 0;
#pragma unroll
	for (way = 0; way < HOME_WAYS; way++)
		if (!*(volatile u64 *)&set->key[way] && !__sync_val_compare_and_swap(&set->key[way], 0, word))
			goto found;
	spills = bpf_map_lookup_elem(&spilled, &home);
	at = spilled_to(word, home);
	set = bpf_map_lookup_elem(&sets, &at);
	if (!spills || !set)
		return 0;
	/* Before it is there: who looks for it may be quick. */
	__sync_fetch_and_add(spills, 1);
#pragma unroll
	for (way = HOME_WAYS; way < WAYS; way++)
		if (!*(volatile u64 *)&set->key[way] && !__sync_val_compare_and_swap(&set->key[way], 0, word))
			goto found;
#pragma unroll
	for (way = 0; way < HOME_WAYS; way++)
		if (!*(volatile u64 *)&set->key[way] && !__sync_val_compare_and_swap(&set->key[way], 0, word))
			goto found;
	__sync_fetch_and_add(spills, -1);
	return 0;
found:
	at = at * WAYS + way;
	made = bpf_map_lookup_elem(&kept, &at);
	if (made) {
		made->place = at;
		made->home = home;
	}
	return made;
}

/* Gives a job's place back, in which this word stands. Once, whoever else comes: the next job may be in it already. */
INLINE void forget(struct kept *job, u64 word)
{
	u32 place = *(volatile u32 *)&job->place, at = place / WAYS, home = *(volatile u32 *)&job->home;
	struct set *set = bpf_map_lookup_elem(&sets, &at);

	*(volatile u64 *)&job->queued_ns = 0;
	/* A full barrier: the next job's time is not overwritten. */
	if (!set || __sync_val_compare_and_swap(&set->key[place % WAYS], word, 0) != word)
		return;
	if (at != home) {
		u32 *spills = bpf_map_lookup_elem(&spilled, &home);

		if (spills)
			__sync_fetch_and_add(spills, -1);
	}
}

INLINE void turn_away(const struct job *job)
{
	u64 word = word_of(job), *jobs = count_turned_away();
	u32 value = 0;

	if (jobs && word && !bpf_map_update_elem(&turned_away, &word, &value, BPF_NOEXIST))
		__sync_fetch_and_add(jobs, 1);
}

INLINE int was_turned_away(const struct job *job)
{
	u64 word = word_of(job), *jobs = count_turned_away();

	return jobs && *(volatile u64 *)jobs && bpf_map_lookup_elem(&turned_away, &word);
}

/* It is done. */
INLINE void forget_turned_away(const struct job *job)
{
	u64 word = word_of(job), *jobs = count_turned_away();

	if (jobs && *(volatile u64 *)jobs && !bpf_map_delete_elem(&turned_away, &word))
		__sync_fetch_and_add(jobs, -1);
}

#endif
