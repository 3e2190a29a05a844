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

/*
 * The system calls that stand for a job's queue, run and end, by their numbers: hardly anybody else makes them, and who does so is seen in the
 * counts. A call that says itself what it is leaves next to nothing to be done here that would be measured with the programs.
 */
const volatile u64 call_of_queue = 0;
const volatile u64 call_of_run = 0;
const volatile u64 call_of_done = 0;

/* A job with all that hangs on it. crates/sys/src/bpf/jobs/cost.rs knows the places. */
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

/* Its addresses, which are not known outside; once. */
INLINE void make_up(struct made_up *job)
{
	job->entity = (u64)&job->queue_length;
	job->s_fence = (u64)&job->context;
	job->parent = (u64)&job->context;
	job->scheduler = (u64)&job->name;
	job->name = (u64)job->name_text;
	job->device = (u64)&job->device_name;
	job->device_name = (u64)job->device_text;
	job->context = 77;
	job->address = (u64)job;
}

SEC("raw_tp/cost")
int cost(u64 *args)
{
	/* sys_enter is called with the registers and the number (include/trace/events/syscalls.h). */
	u64 call = args[1], of[2];
	struct made_up *job;
	const struct rules *r;
	struct counts *mine;
	u32 zero = 0;

	if (call != call_of_queue && call != call_of_run && call != call_of_done)
		return 0;
	job = bpf_map_lookup_elem(&made_up, &zero);
	if (!job)
		return 0;
	if (!job->address)
		make_up(job);
	/* From here on as in PROGRAM, jobs.h. */
	r = rules_in_force();
	mine = my_counts();
	if (!r || !mine)
		return 0;
	of[0] = *(volatile u64 *)&job->address;
	of[1] = *(volatile u64 *)&job->entity;
	if (call == call_of_queue) {
		if (!level)
			job->seqno++;
		if (!(r->flags & NOTED << QUEUE) || !is_handled(mine, QUEUE, of[0]))
			record_queue(of, r, mine);
	} else if (call == call_of_run) {
		if (!(r->flags & NOTED << RUN) || !is_handled(mine, RUN, of[0]))
			record_run(of, r, mine);
	} else {
		of[0] = *(volatile u64 *)&job->s_fence;
		if (!(r->flags & NOTED << DONE) || !is_handled(mine, DONE, of[0]))
			record_done(of, r, mine);
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
