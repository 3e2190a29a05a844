/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/*
 * What the programs of jobs.bpf.c have in common: where the kernel's members are, the ring and its records, what is lost, and how a program
 * is entered.
 */
#ifndef GPUSCOPE_JOBS_H
#define GPUSCOPE_JOBS_H

#include "reads.h"

/* Filled by crates/sys/src/bpf/jobs/places.rs, in this order. */
const volatile struct {
	u16 job_fence;		/* drm_sched_job.s_fence */
	u16 job_scheduler;	/* drm_sched_job.sched */
	u16 finished_context;	/* drm_sched_fence.finished.context */
	u16 finished_seqno;
	u16 finished_error;
	u16 parent;		/* drm_sched_fence.parent: the hardware's fence, from run on */
	u16 client;		/* drm_sched_fence.drm_client_id: 6.17 and later */
	u16 context;		/* dma_fence.context */
	u16 seqno;
	u16 error;
	u16 scheduler_name;	/* drm_gpu_scheduler.name */
	u16 scheduler_device;	/* drm_gpu_scheduler.dev */
	u16 device_name;	/* device.kobj.name */
	u16 queue_length;	/* drm_sched_entity.job_queue.job_count */
	u16 task_pid;		/* task_struct.pid */
	u16 task_tgid;
	u16 task_comm;
	u16 task_prio;
	u16 task_exit_state;
	u16 task_cred;
	u16 cred_uid;
	u16 task_cgroups;
	u16 cgroups_default;	/* css_set.dfl_cgrp: version 2's */
	u16 cgroup_node;	/* cgroup.kn */
	u16 node_id;		/* kernfs_node.id */
} places = {};

/* max_entries, a power of two pages, is set before loading. */
struct {
	NUMBER(type, BPF_MAP_TYPE_RINGBUF);
	NUMBER(max_entries, 65536);
} ring SEC(".maps");

/*
 * What was not recorded, in a place a processor and by atomic additions: an interrupt may count between another program's reading and
 * writing, and counts are exact. As many places as there can be processors are set before loading.
 */

/* Numbers of the records' layouts, which crates/trace/src/capture/bpf/formats.rs describes. */
enum { QUEUE = 1, RUN, DONE, ADD_DEP, UNSCHEDULABLE, FENCE_ERROR, ENDED, SWITCH, WAKING };

/* Why an event is not in the ring (QUICK: of a job that was not slow); and how many are there because a program of a later level stood in. */
enum cause { KEPT, RING_FULL, FILTERED, SAMPLED_OUT, RATE_LIMITED, TABLE_FULL, RECOVERED, QUICK };

struct counts {
	u64 events[8];	/* left out, by enum cause */
	u64 handled[8];		/* the last event, by type of record */
};
struct {
	NUMBER(type, BPF_MAP_TYPE_ARRAY);
	NUMBER(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, struct counts);
} counts SEC(".maps");

INLINE struct counts *my_counts(void)
{
	u32 processor = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&counts, &processor);
}

INLINE void count(struct counts *mine, u32 cause, u64 events)
{
	__sync_fetch_and_add(&mine->events[cause % 8], events);
}

/*
 * The kernel does not run a program on a processor where it is running already: while a task is preempted or interrupted in it
 * (tracepoints leave preemption on since Linux 7.0), the same event of another task or of the interrupt is passed over (`active` and
 * bpf_prog_inc_misses_counter in __bpf_trace_run, kernel/trace/bpf_trace.c). So those programs of which that is to be expected are loaded
 * several times, and follow one another on the tracepoint. Each leaves a note of the event that it handles (NOTED); one of a later level acts
 * if it does not find that. For ends of jobs that are in `kept` none need follow: fence_error tells of them.
 *
 * What is passed over even so is the kernel's count of the first level's misses less RECOVERED. Should a task be preempted between two
 * levels, the note may be another's, and the later level record what the earlier one has recorded: `level` tells the reader where to
 * look for that. Should the rules change at that moment, too, an event may be left out by the one and recorded by the other.
 */
const volatile u32 level = 0;

/* Pointers leave room for the thread above. */
INLINE u64 note_of(u64 subject)
{
	return subject ^ bpf_get_current_pid_tgid() << 40;
}

/* For later levels, which hardly ever have more to do than this. */
INLINE int is_noted(const struct counts *mine, u16 type, u64 subject)
{
	return *(volatile u64 *)&mine->handled[type] == note_of(subject);
}

INLINE void leave_note(struct counts *mine, u16 type, u64 subject)
{
	/* Most fences have no error: what is passed over of them is nothing that was lost. */
	if (level && type != FENCE_ERROR)
		count(mine, RECOVERED, 1);
	*(volatile u64 *)&mine->handled[type] = note_of(subject);
}

/*
 * Counts an event that is left out. A later level cannot tell whether the one before has counted it: it takes its word back, and the event
 * counts as passed over if it was.
 */
INLINE void leave_out(struct counts *mine, u32 cause)
{
	if (level)
		count(mine, RECOVERED, -1);
	else
		count(mine, cause, 1);
}

#define PROGRAM(program, type)                                                                                                             \
	SEC("raw_tp/" #program)                                                                                                            \
	int program(u64 *args)                                                                                                             \
	{                                                                                                                                  \
		struct counts *mine = my_counts();                                                                                         \
		const struct rules *r;                                                                                                     \
                                                                                                                                           \
		if (!mine || (level && is_noted(mine, type, args[0])))                                                                     \
			return 0;                                                                                                          \
		r = rules_in_force();                                                                                                      \
		if (!r)                                                                                                                    \
			return 0;                                                                                                          \
		if (r->flags & NOTED << (type))                                                                                            \
			leave_note(mine, type, args[0]);                                                                                   \
		record_##program(args, r, mine);                                                                                           \
		return 0;                                                                                                                  \
	}

/* In front of each record, for crates/sys/src/bpf/jobs.rs. */
struct head {
	u64 at_ns;
	u16 cpu;
	u16 size;
	u32 level;
};

/* As ftrace begins its records (struct trace_entry, include/linux/trace_events.h). */
struct common {
	u16 type;
	u8 flags;
	u8 preempt_count;
	u32 pid;
};

struct job {
	u64 fence_context;
	u64 fence_seqno;
};

struct queue {
	struct head head;
	struct common common;
	struct job job;
	u64 client_id;
	u64 cgroup;
	u32 tgid;
	u32 uid;
	u32 job_count;
	char name[24];
	char dev[32];
	char comm[16];
	u32 pad;
};

struct run {
	struct head head;
	struct common common;
	struct job job;
	u64 client_id;
	u32 job_count;
	char name[24];
	char dev[32];
	u32 pad;
};

struct done {
	struct head head;
	struct common common;
	struct job job;
	int error;
	u32 pad;
};

struct dependency {
	struct head head;
	struct common common;
	struct job job;
	u64 ctx;
	u64 seqno;
};

/* For an event as it comes. It may be that the level before has recorded or counted it, of which leave_out tells. */
INLINE void *reserve(struct counts *mine, u64 size, u16 type)
{
	void *record = bpf_ringbuf_reserve(&ring, size, 0);

	if (record)
		return record;
	/* These are not among what was recovered. */
	if (type == FENCE_ERROR)
		count(mine, RING_FULL, 1);
	else
		leave_out(mine, RING_FULL);
	return 0;
}

/* For an event of which `kept` tells that nobody has recorded or counted it. */
INLINE void *reserve_kept(struct counts *mine, u64 size)
{
	void *record = bpf_ringbuf_reserve(&ring, size, 0);

	if (!record)
		count(mine, RING_FULL, 1);
	return record;
}

INLINE void fill_head(struct head *head, struct common *common, u64 at_ns, u16 type, u64 size, u64 pid_tgid)
{
	head->at_ns = at_ns;
	head->cpu = bpf_get_smp_processor_id();
	head->size = size - sizeof(*head);
	head->level = level;
	common->type = type;
	common->flags = 0;
	common->preempt_count = 0;
	common->pid = pid_tgid;
}

/*
 * Where a read is a call, one of all that stands together costs little more than that of one number.
 */

/* Both numbers of a fence; on all kernels so far they are neighbours. A read that fails leaves zeros. */
INLINE void read_fence(struct job *job, u64 fence, u16 context, u16 seqno)
{
	if (!is_cast && seqno == context + 8) {
		bpf_probe_read_kernel(job, sizeof(*job), (const void *)(fence + context));
	} else {
		READ(&job->fence_context, fence, context);
		READ(&job->fence_seqno, fence, seqno);
	}
}

/* What a fence has signalled with. */
struct signalled {
	struct job job;
	int error;
};

/* On all kernels so far it stands within 32 bytes. */
INLINE void read_signalled(struct signalled *with, u64 fence)
{
	u8 bytes[32];

	if (!is_cast && places.seqno == places.context + 8 && places.error >= places.context + 16 && places.error <= places.context + 28) {
		bpf_probe_read_kernel(bytes, sizeof(bytes), (const void *)(fence + places.context));
		__builtin_memcpy(&with->job, bytes, sizeof(with->job));
		with->error = *(int *)(bytes + (places.error - places.context));
	} else {
		READ(&with->error, fence, places.error);
		read_fence(&with->job, fence, places.context, places.seqno);
	}
}

/* What a job hangs on; on all kernels so far the two are neighbours. */
struct of_job {
	u64 scheduler;
	u64 s_fence;
};

INLINE void read_job(struct of_job *of, u64 job)
{
	if (!is_cast && places.job_fence == places.job_scheduler + 8) {
		bpf_probe_read_kernel(of, sizeof(*of), (const void *)(job + places.job_scheduler));
	} else {
		READ(&of->scheduler, job, places.job_scheduler);
		READ(&of->s_fence, job, places.job_fence);
	}
}

/* What a scheduler's fence says: for jobs of which all is told. On all kernels so far it stands within 96 bytes. Of those under rules less is asked
 * as a rule, and it is read where it is. */
struct of_fence {
	struct job job;
	u64 parent;
	u64 client;
	int error;
};

#define SPAN 96
INLINE u32 end_of(u32 end, u16 place, u32 size)
{
	return place != ABSENT && place + size > end ? place + size : end;
}

INLINE void read_of_fence(struct of_fence *of, u64 s_fence)
{
	u16 from = places.finished_context;
	u32 end = end_of(end_of(end_of(end_of(from + 16, places.finished_seqno, 8), places.finished_error, 4), places.parent, 8), places.client, 8);
	u8 bytes[SPAN];

	if (!is_cast && end - from <= SPAN && places.finished_seqno == from + 8) {
		bpf_probe_read_kernel(bytes, end - from, (const void *)(s_fence + from));
		__builtin_memcpy(&of->job, bytes, sizeof(of->job));
		of->error = places.finished_error != ABSENT ? *(int *)(bytes + (places.finished_error - from)) : 0;
		of->parent = places.parent != ABSENT ? *(u64 *)(bytes + (places.parent - from)) : 0;
		of->client = places.client != ABSENT ? *(u64 *)(bytes + (places.client - from)) : 0;
	} else {
		read_fence(&of->job, s_fence, places.finished_context, places.finished_seqno);
		READ(&of->error, s_fence, places.finished_error);
		READ(&of->parent, s_fence, places.parent);
		READ(&of->client, s_fence, places.client);
	}
}

/* A thread's name, padded with zeros as the kernel keeps it (__set_task_comm, fs/exec.c): 16 letters at most. */
INLINE void read_comm(char *to, u64 task)
{
	const volatile u64 *words;
	u64 name[2];

	if (is_cast) {
		words = cast(task + places.task_comm);
		name[0] = words[0];
		name[1] = words[1];
		__builtin_memcpy(to, name, sizeof(name));
	} else {
		bpf_probe_read_kernel(to, sizeof(name), (const void *)(task + places.task_comm));
	}
}

/* A job is what its scheduler's finished fence says, from queue to done and beyond. */
INLINE void fill_job(struct job *job, u64 s_fence)
{
	read_fence(job, s_fence, places.finished_context, places.finished_seqno);
}

#endif
