/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/*
 * The rings of jobs: their names and numbers, known again by the job's scheduler and its queue, so that texts are read once and not at each
 * event.
 */
#ifndef GPUSCOPE_RINGS_H
#define GPUSCOPE_RINGS_H

#include "jobs.h"

struct ring_names {
	char name[24];
	char dev[32];
};

/* A ring's totals, by its number: totals.h. The names come with the first job. */
struct ring_state {
	struct ring_names names;
	u64 depth;	/* jobs in flight, and in the lower half those that wait */
	u64 peak_waiting;
	u64 peak_in_flight;
	u64 busy_ns;
	u64 done;
	u32 window;	/* of the peaks */
	u32 pad;
};

#define RINGS 1024
struct {
	NUMBER(type, BPF_MAP_TYPE_ARRAY);
	NUMBER(max_entries, RINGS);
	TYPE(key, u32);
	TYPE(value, struct ring_state);
} rings SEC(".maps");

struct {
	NUMBER(type, BPF_MAP_TYPE_HASH);
	NUMBER(max_entries, RINGS);
	TYPE(key, struct ring_names);
	TYPE(value, u32);
} ring_numbers SEC(".maps");

/* How many numbers were given out. */
struct {
	NUMBER(type, BPF_MAP_TYPE_ARRAY);
	NUMBER(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, u32);
} ring_count SEC(".maps");

/*
 * A queue is told by the context of its jobs' fences, which is never given out again. So what is known of a scheduler and a queue stays true
 * as long as there are jobs of both; a scheduler in the memory of one that is gone has other queues.
 */
struct queue_on {
	u64 scheduler;
	u64 context;
};
struct scheduler {
	struct ring_names names;
	u32 ring;	/* RINGS: there are too many */
	u32 pad;
};
struct {
	NUMBER(type, BPF_MAP_TYPE_LRU_HASH);
	NUMBER(max_entries, 1024);
	TYPE(key, struct queue_on);
	TYPE(value, struct scheduler);
} schedulers SEC(".maps");

/*
 * In front of that, for those seen last, which may be all: a place to look instead of a table of the kernel's. The second word says the
 * context and the ring's number, and something of the scheduler, by which words of two writers are told apart.
 */
struct hint {
	u64 scheduler;
	u64 word;
};
#define HINTS 1024
struct {
	NUMBER(type, BPF_MAP_TYPE_ARRAY);
	NUMBER(max_entries, HINTS);
	TYPE(key, u32);
	TYPE(value, struct hint);
} hints SEC(".maps");

/* Ten bits are for the ring. */
INLINE u64 hint_of(const struct queue_on *of)
{
	return of->context << 24 | (of->scheduler * 0x9e3779b97f4a7c15ull >> 50) << 10;
}

/* The same number for the same names. */
INLINE u32 number_of_ring(const struct ring_names *names)
{
	u32 zero = 0, *found = bpf_map_lookup_elem(&ring_numbers, names), *next, number;
	struct ring_state *state;

	if (found)
		return *found;
	next = bpf_map_lookup_elem(&ring_count, &zero);
	if (!next || *next >= RINGS)
		return RINGS;
	number = __sync_fetch_and_add(next, 1);
	state = bpf_map_lookup_elem(&rings, &number);
	if (!state)
		return RINGS;
	state->names = *names;
	/* Where another processor was faster, this number stays without a job. */
	if (bpf_map_update_elem(&ring_numbers, names, &number, BPF_NOEXIST)) {
		found = bpf_map_lookup_elem(&ring_numbers, names);
		return found ? *found : RINGS;
	}
	return number;
}

/* The ring of a job: its names, and its number or RINGS. */
struct on {
	const struct ring_names *names;	/* none where the table has no room, which an LRU table makes */
	u32 ring;
};

INLINE struct on ring_on(u64 scheduler, const struct job *key)
{
	struct queue_on of = { .scheduler = scheduler, .context = key->fence_context };
	u64 asked = hint_of(&of), word;
	u32 at = (of.context ^ of.scheduler >> 6) % HINTS;
	struct hint *hint = bpf_map_lookup_elem(&hints, &at);
	struct on on = { .ring = RINGS };
	struct scheduler *found, now;

	if (!hint)
		return on;
	word = *(volatile u64 *)&hint->word;
	/* A job that could not be read has no context. */
	if (of.context && (word & ~1023ull) == asked && *(volatile u64 *)&hint->scheduler == of.scheduler) {
		struct ring_state *state;

		on.ring = word & 1023;
		state = bpf_map_lookup_elem(&rings, &on.ring);
		on.names = state ? &state->names : 0;
		return on;
	}
	found = bpf_map_lookup_elem(&schedulers, &of);
	if (!found) {
		read_text(now.names.name, sizeof(now.names.name), read_word(of.scheduler, places.scheduler_name));
		read_text(now.names.dev, sizeof(now.names.dev),
			  read_word(read_word(of.scheduler, places.scheduler_device), places.device_name));
		now.ring = number_of_ring(&now.names);
		now.pad = 0;
		bpf_map_update_elem(&schedulers, &of, &now, 0);
		found = bpf_map_lookup_elem(&schedulers, &of);
		if (!found)
			return on;
	}
	on.names = &found->names;
	on.ring = found->ring;
	/* The first context is 1: no word of such a place is 0. */
	if (on.ring < RINGS) {
		*(volatile u64 *)&hint->scheduler = of.scheduler;
		*(volatile u64 *)&hint->word = asked | on.ring;
	}
	return on;
}

INLINE void fill_ring(char *name, char *dev, const struct ring_names *of)
{
	if (of) {
		__builtin_memcpy(name, of->name, sizeof(of->name));
		__builtin_memcpy(dev, of->dev, sizeof(of->dev));
	} else {
		__builtin_memset(name, 0, sizeof(of->name));
		__builtin_memset(dev, 0, sizeof(of->dev));
	}
}

#endif
