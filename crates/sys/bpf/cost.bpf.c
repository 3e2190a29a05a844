// SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only
/*
 * What the programs of jobs.bpf.c cost an event, on a machine without a GPU: their own bodies, called for a job that is made up, on a
 * tracepoint that every system call passes (sys_enter). For benches/events.rs alone; no program of gpuscope loads it.
 *
 * Three calls are one job: it is queued, runs and is done. So rules, tables and records are what a real job makes of them. Where each call
 * returns (sys_exit), one of the job's three fences signals, the finished one behind its end. What is left out is what a real job adds: its
 * structures come from other processors' caches here and there.
 */
#include "jobs.h"
/* Not the programs themselves. */
#undef PROGRAM
#define PROGRAM(program, type)
#define COST
#include "jobs.bpf.c"

/*
 * The system calls that stand for a job's queue, run and end, by their numbers: hardly anybody else makes them, and who does so is seen in the
 * counts. A call that says itself what it is leaves next to nothing to be done here that would be measured with the programs.
 */
const volatile u64 call_of_queue = 0;
const volatile u64 call_of_run = 0;
const volatile u64 call_of_done = 0;

/* As struct dma_fence ends (include/linux/dma-fence.h). */
struct made_up_fence {
	u64 context;
	u64 seqno;
	u64 flags;
	u32 refcount;
	int error;
};

/* A job with all that hangs on it. crates/sys/src/bpf/jobs/cost.rs knows the places. */
struct made_up {
	u64 scheduler;		/* of the job: to name */
	u64 s_fence;		/* to finished */
	struct made_up_fence finished;
	u64 parent;		/* to hardware */
	u64 client;
	struct made_up_fence hardware;
	struct made_up_fence scheduled;
	u64 name;		/* to name_text */
	u64 device;		/* to device_name */
	u64 device_name;	/* to device_text */
	u64 queue_length;
	char name_text[24];
	char device_text[32];
	/* Read from here, an address is a number to the verifier, as a tracepoint's arguments are. */
	u64 address;
	u64 entity;		/* to queue_length */
	u64 fences[3];		/* by event, of the fence that signals behind it */
	u64 signals;		/* which one does when the call returns */
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
	job->s_fence = (u64)&job->finished;
	job->parent = (u64)&job->hardware;
	job->scheduler = (u64)&job->name;
	job->name = (u64)job->name_text;
	job->device = (u64)&job->device_name;
	job->device_name = (u64)job->device_text;
	job->hardware.context = 75;
	job->scheduled.context = 76;
	job->finished.context = 77;
	job->fences[0] = (u64)&job->hardware;
	job->fences[1] = (u64)&job->scheduled;
	job->fences[2] = (u64)&job->finished;
	job->address = (u64)job;
}

/* PROGRAM, jobs.h */
#define as_in_program(program, type)                                                                                                       \
	do {                                                                                                                               \
		if (level && is_noted(mine, type, of[0]))                                                                                  \
			return 0;                                                                                                          \
		r = rules_in_force();                                                                                                      \
		if (!r)                                                                                                                    \
			return 0;                                                                                                          \
		if (r->flags & NOTED << (type))                                                                                            \
			leave_note(mine, type, of[0]);                                                                                     \
		record_##program(of, r, mine);                                                                                             \
	} while (0)

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
	mine = my_counts();
	if (!mine)
		return 0;
	of[0] = *(volatile u64 *)&job->address;
	of[1] = *(volatile u64 *)&job->entity;
	if (call == call_of_queue) {
		if (!level)
			job->finished.seqno++;
		as_in_program(queue, QUEUE);
		job->signals = job->fences[0];
	} else if (call == call_of_run) {
		as_in_program(run, RUN);
		job->signals = job->fences[1];
	} else {
		of[0] = *(volatile u64 *)&job->s_fence;
		as_in_program(done, DONE);
		job->signals = job->fences[2];
	}
	return 0;
}

/* sys_exit */
SEC("raw_tp/cost_of_fence")
int cost_of_fence(u64 *args)
{
	struct made_up *job;
	u32 zero = 0;
	u64 fence;

	(void)args;
	job = bpf_map_lookup_elem(&made_up, &zero);
	if (!job)
		return 0;
	fence = *(volatile u64 *)&job->signals;
	if (!fence)
		return 0;
	job->signals = 0;
	/* From here on as in fence_error. */
	see_fence(fence);
	return 0;
}

/* What any program on the tracepoint costs. */
SEC("raw_tp/nothing")
int nothing(u64 *args)
{
	(void)args;
	return 0;
}
