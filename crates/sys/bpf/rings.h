/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/*
 * The rings of jobs: their names behind the scheduler's address, so that texts are read now and then and not at each event, and numbers for
 * them.
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
	u64 waiting;
	u64 in_flight;
	u64 peak_waiting;
	u64 peak_in_flight;
	u64 busy_ns;
	u64 done;
	u32 window;	/* of the peaks */
	u32 pad;
};

#define RINGS 256
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

/* By address. A driver that goes may leave its scheduler's memory to another one, which begins long after CHECK_NS. */
struct scheduler {
	struct ring_names names;
	u64 checked_ns;
	u32 ring;	/* RINGS: there are too many */
	u32 pad;
};
#define CHECK_NS 10000000

struct {
	NUMBER(type, BPF_MAP_TYPE_LRU_HASH);
	NUMBER(max_entries, 1024);
	TYPE(key, u64);
	TYPE(value, struct scheduler);
} schedulers SEC(".maps");

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
	/* Where another processor was faster, this number stays without a name. */
	if (bpf_map_update_elem(&ring_numbers, names, &number, BPF_NOEXIST)) {
		found = bpf_map_lookup_elem(&ring_numbers, names);
		return found ? *found : RINGS;
	}
	state->names = *names;
	return number;
}

INLINE int is_same(const struct ring_names *a, const struct ring_names *b)
{
	const u64 *left = (const u64 *)a, *right = (const u64 *)b;
	u64 differ = 0;
	u32 i;

#pragma unroll
	for (i = 0; i < sizeof(*a) / 8; i++)
		differ |= left[i] ^ right[i];
	return !differ;
}

/* The scheduler of a job. None where the table has no room, which an LRU table makes. */
INLINE const struct scheduler *scheduler_of(u64 job, u64 at_ns)
{
	u64 address = read_word(job, places.job_scheduler);
	struct scheduler *found = bpf_map_lookup_elem(&schedulers, &address), now;

	/* Processors' times differ by less than nothing: what lies ahead of this was looked at just now. */
	if (found && (long long)(at_ns - found->checked_ns) < CHECK_NS)
		return found;
	read_text(now.names.name, sizeof(now.names.name), read_word(address, places.scheduler_name));
	read_text(now.names.dev, sizeof(now.names.dev), read_word(read_word(address, places.scheduler_device), places.device_name));
	if (found && is_same(&found->names, &now.names)) {
		/* In its place: another processor may be reading it. */
		found->checked_ns = at_ns;
		return found;
	}
	now.checked_ns = at_ns;
	now.ring = number_of_ring(&now.names);
	now.pad = 0;
	bpf_map_update_elem(&schedulers, &address, &now, 0);
	return bpf_map_lookup_elem(&schedulers, &address);
}

INLINE void fill_ring(char *name, char *dev, const struct scheduler *of)
{
	if (of) {
		__builtin_memcpy(name, of->names.name, sizeof(of->names.name));
		__builtin_memcpy(dev, of->names.dev, sizeof(of->names.dev));
	} else {
		__builtin_memset(name, 0, sizeof(of->names.name));
		__builtin_memset(dev, 0, sizeof(of->names.dev));
	}
}

#endif
