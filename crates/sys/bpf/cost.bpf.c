// SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only
/*
 * What the programs of jobs.bpf.c cost an event, on a machine without a GPU: their own bodies, called for a job that is made up, on a
 * tracepoint that every system call passes (sys_enter). For benches/events.rs alone; no program of gpuscope loads it.
 *
 * Three calls are one job: it is queued, runs and is done. So rules, tables and records are what a real job makes of them. What is left out
 * is what a real job adds: its structures come from other processors' caches here and there, and dma_fence_signaled fires for its fences.
 */
#include "jobs.h"
/* Not the programs themselves. */
#undef PROGRAM
#define PROGRAM(program, type)
#include "jobs.bpf.c"

/* The system call that is measured, by its number: hardly anybody else makes it, and who does so is seen in the counts. */
const volatile u64 measured = 0;

/* A job with all that hangs on it. benches/events.rs knows the places. */
struct made_up {
	u64 s_fence;		/* of the job: to context */
	u64 scheduler;		/* to name */
	u64 context;
	u64 seqno;
	u64 parent;		/* to context */
	u64 client;
	u64 error;
	u64 name;		/* to name_text */
	u64 device;		/* to device_name */
	u64 device_name;	/* to device_text */
	u64 queue_length;
	char name_text[24];
	char device_text[32];
	u64 calls;
	/* Read from here, an address is a number to the verifier, as a tracepoint's arguments are. */
	u64 address;
	u64 entity;		/* to queue_length */
};
struct {
	NUMBER(type, BPF_MAP_TYPE_ARRAY);
	NUMBER(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, struct made_up);
} made_up SEC(".maps");

INLINE void make_up(struct made_up *job)
{
	job->address = (u64)job;
	job->entity = (u64)&job->queue_length;
	job->s_fence = (u64)&job->context;
	job->parent = (u64)&job->context;
	job->scheduler = (u64)&job->name;
	job->name = (u64)job->name_text;
	job->device = (u64)&job->device_name;
	job->device_name = (u64)job->device_text;
	job->seqno++;
}

SEC("raw_tp/cost")
int cost(u64 *args)
{
	struct made_up *job;
	struct counts *mine;
	u32 zero = 0;
	u64 of[2], call;

	/* sys_enter is called with the registers and the number (include/trace/events/syscalls.h). */
	if (args[1] != measured)
		return 0;
	job = bpf_map_lookup_elem(&made_up, &zero);
	if (!job)
		return 0;
	call = level ? job->calls - 1 : job->calls++;
	if (!level && call % 3 == 0)
		make_up(job);
	/* From here on as in PROGRAM, jobs.h. */
	mine = my_counts();
	if (!mine)
		return 0;
	of[0] = *(volatile u64 *)&job->address;
	of[1] = *(volatile u64 *)&job->entity;
	switch (call % 3) {
	case 0:
		if (!is_handled(mine, QUEUE, of[0]))
			record_queue(of, mine);
		break;
	case 1:
		if (!is_handled(mine, RUN, of[0]))
			record_run(of, mine);
		break;
	default:
		of[0] = *(volatile u64 *)&job->s_fence;
		if (!is_handled(mine, DONE, of[0]))
			record_done(of, mine);
	}
	return 0;
}

/* What any program on the tracepoint costs. */
SEC("raw_tp/nothing")
int nothing(u64 *args)
{
	(void)args;
	return 0;
}
