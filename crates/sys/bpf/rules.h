/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/*
 * Which jobs are recorded. Whoever traces sets it, at any time: crates/sys/src/bpf/jobs/rules.rs.
 *
 * It is decided once for each job, where it is queued, and holds for all of its events: `kept` remembers. Lists come first, then
 * sampling, then the limit.
 */
#ifndef GPUSCOPE_RULES_H
#define GPUSCOPE_RULES_H

#include "kept.h"
#include "rings.h"

/* What a list is of. */
enum subject { PID, UID, CGROUP, COMM, DEVICE, RING, RING_SAMPLE, STEM };

enum {
	TRACK = 1,	/* there are rules for jobs: look at `kept` */
	SLOW_ONLY = 4,	/* record a job when it is done, if it took long */
	BUCKET = 8,
	WINDOW = 16,
	TOTALS = 32,	/* add up what jobs take, totals.h */
	SILENT = 64,	/* and record nothing */
	NOTED = 128,	/* shifted by a type of record: programs of later levels follow, leave notes for them */
};

struct rules {
	u32 generation;		/* of the lists: their keys begin with it */
	u32 flags;
	u32 types;		/* of records that are wanted, a bit each */
	u32 allow, deny;	/* which subjects have such a list, a bit each */
	u32 miss_cause;		/* of jobs that are not in `kept`: filtered, or recorded while there may be some that were queued before it was used */
	u64 sample_below;	/* of 1 << 32 */
	u64 slow_ns;
	u64 job_ns, burst_ns;	/* BUCKET: what a job takes from it, what it holds */
	u64 window_ns, window_jobs;
	u32 window;		/* number of the window of totals */
	u32 epoch;		/* of verdicts: another one with each change of these rules or of the lists */
};

/*
 * Several, so that one can be written while another is in force, and none is that a program may still be reading. `active` is 0 before the
 * first, then the number of one and 1: nothing is recorded before all programs are attached, and all begin at one moment.
 */
#define RULES 16
struct {
	NUMBER(type, BPF_MAP_TYPE_ARRAY);
	NUMBER(max_entries, RULES);
	TYPE(key, u32);
	TYPE(value, struct rules);
} rules SEC(".maps");

struct {
	NUMBER(type, BPF_MAP_TYPE_ARRAY);
	NUMBER(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, u32);
} active SEC(".maps");

/* None where nothing is to be recorded yet. */
INLINE const struct rules *rules_in_force(void)
{
	u32 key = 0;
	u32 *number = bpf_map_lookup_elem(&active, &key);

	if (!number || !*number)
		return 0;
	key = *number - 1;
	return bpf_map_lookup_elem(&rules, &key);
}

/* Names are filled up with zeros; a ring is its name and its device or zeros for any. A stem is the letters that a ring's name begins with:
 * `vcs` of `vcs17`. */
struct list_key {
	u32 generation;
	u32 subject;
	char text[24];
	char dev[32];
};

/* Of processes, users and cgroups. */
struct number_key {
	u32 generation;
	u32 subject;
	u64 number;
};

enum { ALLOWED = 1, DENIED = 2 };

struct {
	NUMBER(type, BPF_MAP_TYPE_HASH);
	NUMBER(max_entries, 8192);
	TYPE(key, struct number_key);
	TYPE(value, u64);
} numbers SEC(".maps");

struct {
	NUMBER(type, BPF_MAP_TYPE_HASH);
	NUMBER(max_entries, 8192);
	TYPE(key, struct list_key);
	TYPE(value, u64);
} lists SEC(".maps");

/* What is left to take, as the time at which the bucket would be full again; and the window's number and jobs. For all processors. */
struct limit {
	u64 full_at_ns;
	u64 window;
};
struct {
	NUMBER(type, BPF_MAP_TYPE_ARRAY);
	NUMBER(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, struct limit);
} limit SEC(".maps");

/* Jobs that are done and whose fence has yet to tell of an error, and the flags that they were queued under. */
struct {
	NUMBER(type, BPF_MAP_TYPE_LRU_HASH);
	NUMBER(max_entries, 1024);
	TYPE(key, struct job);
	TYPE(value, u32);
} failing SEC(".maps");

/* By the flags that the job was queued under. Kinds of events are no matter of whole jobs: those asked for now count. */
INLINE int is_wanted(u32 flags, const struct rules *r, struct counts *mine, u16 type)
{
	if (flags & SILENT)
		return 0;
	if (r->types & 1u << type)
		return 1;
	/* These are not among what was recovered. */
	if (type == FENCE_ERROR)
		count(mine, FILTERED, 1);
	else
		leave_out(mine, FILTERED);
	return 0;
}

INLINE int is_kept_out_by(const struct rules *r, u32 subject, u64 verdict)
{
	return (r->deny & 1u << subject && verdict == DENIED) || (r->allow & 1u << subject && verdict != ALLOWED);
}

INLINE int is_kept_out(const struct rules *r, u32 subject, const u64 *found)
{
	return is_kept_out_by(r, subject, found ? *found : 0);
}

INLINE int has_list(const struct rules *r, u32 subject)
{
	return (r->allow | r->deny) & 1u << subject;
}

/*
 * What `numbers` said of those who were asked for last. All in one word, which is read and written at once: the number, which of the three
 * subjects it is of, the epoch of the rules that were read before, and the verdict, or 0 where there is none. So an answer that is no
 * longer true is one of another epoch, whenever it was written. A process that is put on a list or taken off by its parent or its end
 * (process_fork, process_free) asks for nothing meanwhile: its word is wiped then.
 */
#define VERDICTS 4096
struct {
	NUMBER(type, BPF_MAP_TYPE_ARRAY);
	NUMBER(max_entries, VERDICTS);
	TYPE(key, u32);
	TYPE(value, u64);
} verdicts SEC(".maps");

INLINE u32 place_of_verdict(u32 subject, u64 number)
{
	return (number + subject * (VERDICTS / 4)) % VERDICTS;
}

INLINE void wipe_verdict(u32 subject, u64 number)
{
	u32 at = place_of_verdict(subject, number);
	u64 *word = bpf_map_lookup_elem(&verdicts, &at);

	if (word)
		*(volatile u64 *)word = 0;
}

INLINE int number_is_kept_out(const struct rules *r, u32 subject, u64 number)
{
	struct number_key key = { .generation = r->generation, .subject = subject, .number = number };
	u64 asked = number << 32 | (u64)(r->epoch << 4) | subject << 2, word, *found, verdict;
	u32 at = place_of_verdict(subject, number);
	u64 *known = bpf_map_lookup_elem(&verdicts, &at);

	if (!known)
		return 0;
	word = *(volatile u64 *)known;
	/* An epoch of 0 would be that of an empty place. */
	if ((word & ~3ull) == asked && r->epoch << 4 && !(number >> 32))
		return is_kept_out_by(r, subject, word & 3);
	found = bpf_map_lookup_elem(&numbers, &key);
	verdict = found ? *found : 0;
	if (!(number >> 32))
		*(volatile u64 *)known = asked | (verdict & 3);
	return is_kept_out_by(r, subject, verdict);
}

/* A ring's entry: of this device, or of any. */
INLINE const u64 *find_ring(const struct rules *r, u32 subject, const struct ring_names *of)
{
	struct list_key key = { .generation = r->generation, .subject = subject };
	const u64 *found;

	__builtin_memcpy(key.text, of->name, sizeof(key.text));
	__builtin_memcpy(key.dev, of->dev, sizeof(key.dev));
	found = bpf_map_lookup_elem(&lists, &key);
	if (found)
		return found;
	__builtin_memset(key.dev, 0, sizeof(key.dev));
	return bpf_map_lookup_elem(&lists, &key);
}

/* Whether what is decided hangs on the ring's names. */
INLINE int asks_for_ring(const struct rules *r)
{
	return (r->allow | r->deny) & (1u << DEVICE | 1u << RING | 1u << RING_SAMPLE | 1u << STEM);
}

INLINE int ring_is_kept_out(const struct rules *r, const struct ring_names *of)
{
	struct list_key key = { .generation = r->generation };

	if (has_list(r, DEVICE)) {
		key.subject = DEVICE;
		__builtin_memcpy(key.dev, of->dev, sizeof(key.dev));
		if (is_kept_out(r, DEVICE, bpf_map_lookup_elem(&lists, &key)))
			return 1;
	}
	if (has_list(r, STEM)) {
		u32 i, is_letter = 1;

		__builtin_memset(key.dev, 0, sizeof(key.dev));
		key.subject = STEM;
#pragma unroll
		for (i = 0; i < sizeof(key.text); i++) {
			is_letter &= of->name[i] >= 'a' && of->name[i] <= 'z';
			key.text[i] = is_letter ? of->name[i] : 0;
		}
		if (is_kept_out(r, STEM, bpf_map_lookup_elem(&lists, &key)))
			return 1;
	}
	return has_list(r, RING) && is_kept_out(r, RING, find_ring(r, RING, of));
}

/* In the submitter's own system call. */
INLINE int submitter_is_kept_out(const struct rules *r)
{
	if (has_list(r, PID) && number_is_kept_out(r, PID, bpf_get_current_pid_tgid() >> 32))
		return 1;
	if (has_list(r, UID) && number_is_kept_out(r, UID, (u32)bpf_get_current_uid_gid()))
		return 1;
	if (has_list(r, CGROUP) && number_is_kept_out(r, CGROUP, bpf_get_current_cgroup_id()))
		return 1;
	if (has_list(r, COMM)) {
		struct list_key key = { .generation = r->generation, .subject = COMM };

		bpf_get_current_comm(key.text, 16);
		return is_kept_out(r, COMM, bpf_map_lookup_elem(&lists, &key));
	}
	return 0;
}

/* The same for the same job, whoever asks; evenly spread over 32 bits (the last step of MurmurHash3). */
INLINE u32 hash_of(const struct job *job)
{
	u64 hash = job->fence_context * 0x9e3779b97f4a7c15ull + job->fence_seqno;

	hash ^= hash >> 33;
	hash *= 0xff51afd7ed558ccdull;
	hash ^= hash >> 33;
	hash *= 0xc4ceb9fe1a85ec53ull;
	return hash >> 32;
}

INLINE int is_sampled_out(const struct rules *r, const struct job *job, const struct ring_names *of)
{
	u64 below = r->sample_below;

	if (has_list(r, RING_SAMPLE)) {
		const u64 *found = find_ring(r, RING_SAMPLE, of);

		if (found)
			below = *found;
	}
	return hash_of(job) >= below;
}

/* Tries until no other processor was faster; after so many in vain the job is left out as if over the limit. */
#define TRIES 8

/*
 * The bucket as one number: the time at which it would be full. A job moves it by job_ns; what would move it further than burst_ns from
 * now is over the limit (the generic cell rate algorithm, ITU-T I.371).
 */
INLINE int is_over_bucket(const struct rules *r, struct limit *state, u64 now_ns)
{
	u32 try;

#pragma unroll
	for (try = 0; try < TRIES; try++) {
		u64 full_at = *(volatile u64 *)&state->full_at_ns;
		u64 next = (full_at > now_ns ? full_at : now_ns) + r->job_ns;

		if (next - now_ns > r->burst_ns)
			return 1;
		if (__sync_val_compare_and_swap(&state->full_at_ns, full_at, next) == full_at)
			return 0;
	}
	return 1;
}

#define WINDOW_BITS 24	/* for the jobs in it */

INLINE int is_over_window(const struct rules *r, struct limit *state, u64 now_ns)
{
	u64 number, jobs;
	u32 try;

	if (!r->window_ns)
		return 0;
	number = now_ns / r->window_ns;
#pragma unroll
	for (try = 0; try < TRIES; try++) {
		u64 word = *(volatile u64 *)&state->window;

		jobs = word >> WINDOW_BITS == number ? word & ((1u << WINDOW_BITS) - 1) : 0;
		if (jobs >= r->window_jobs)
			return 1;
		if (__sync_val_compare_and_swap(&state->window, word, (number << WINDOW_BITS) + jobs + 1) == word)
			return 0;
	}
	return 1;
}

/*
 * Why a job is left out, or KEPT: first by what is known of it without its ring's names, which cost a look into a table.
 */
INLINE u32 decide_by_submitter(const struct rules *r, const struct job *job)
{
	if (r->allow | r->deny && submitter_is_kept_out(r))
		return FILTERED;
	return !asks_for_ring(r) && hash_of(job) >= r->sample_below ? SAMPLED_OUT : KEPT;
}

/* Then by these, and last by the limit, which only jobs use up that nothing else leaves out. */
INLINE u32 decide_by_ring(const struct rules *r, const struct job *job, const struct ring_names *on, u64 at_ns)
{
	u32 zero = 0;
	struct limit *state;

	if (asks_for_ring(r)) {
		if (!on)
			return TABLE_FULL;
		if (ring_is_kept_out(r, on))
			return FILTERED;
		if (is_sampled_out(r, job, on))
			return SAMPLED_OUT;
	}
	if (!(r->flags & (BUCKET | WINDOW)))
		return KEPT;
	state = bpf_map_lookup_elem(&limit, &zero);
	if (!state)
		return KEPT;
	if (r->flags & BUCKET && is_over_bucket(r, state, at_ns))
		return RATE_LIMITED;
	if (r->flags & WINDOW && is_over_window(r, state, at_ns))
		return RATE_LIMITED;
	return KEPT;
}

#endif
