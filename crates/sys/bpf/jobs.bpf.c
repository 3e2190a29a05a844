// SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only
/*
 * The jobs of the DRM scheduler: programs on the raw tracepoints of gpu_scheduler, of Linux 6.17 and later and of those before.
 *
 * The tracepoints' names and what they print have changed; what they are called with has not
 * (drivers/gpu/drm/scheduler/gpu_scheduler_trace.h): (job, entity) where a job is queued and run, (scheduler's fence) where it is
 * done, (job, fence waited for) for dependencies. So one set of programs makes the same records on every kernel, as 6.17 prints them
 * and with the submitter's process beside. Where a member lies is looked up in the running kernel's type information and put into
 * `places` before loading: the scheduler is a module as a rule, whose types CO-RE does not reach. The verifier takes the places for
 * constants, and what hangs on an absent one is removed.
 *
 * Records go to one ring without waking anybody (BPF_RB_NO_WAKEUP): the reader comes by time. Rebuild with `cargo xtask bpf`.
 */
#include "kernel.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Filled by crates/sys/src/bpf/jobs.rs, in this order. */
#define ABSENT 0xffff
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
} places = {};

/* max_entries, a power of two pages, is set before loading. */
struct {
	NUMBER(type, BPF_MAP_TYPE_RINGBUF);
	NUMBER(max_entries, 65536);
} ring SEC(".maps");

/* All tracepoints begin at one moment: they are attached one after the other, and this is set behind the last. */
struct {
	NUMBER(type, BPF_MAP_TYPE_ARRAY);
	NUMBER(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, u32);
} is_on SEC(".maps");

/*
 * What was not recorded, in a place a processor (by the lower bits of its number) and by atomic additions: an interrupt may count
 * between another program's reading and writing, and counts are exact.
 */
#define SLOTS 256
#define LEVELS 4
struct counts {
	u64 ring_full;
	u64 recovered;	/* by programs of a later level */
	u64 rest[6];
	u64 inside[LEVELS][8];	/* by type of record */
};
struct all_counts {
	struct counts slot[SLOTS];
};
struct {
	NUMBER(type, BPF_MAP_TYPE_ARRAY);
	NUMBER(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, struct all_counts);
} counts SEC(".maps");

INLINE struct counts *my_counts(void)
{
	u32 zero = 0;
	struct all_counts *all = bpf_map_lookup_elem(&counts, &zero);

	return all ? &all->slot[bpf_get_smp_processor_id() % SLOTS] : 0;
}

/*
 * The kernel does not run a program on a processor where it is running already: while a task is preempted or interrupted in it
 * (tracepoints leave preemption on since Linux 7.0), the same event of another task or of the interrupt is passed over (`active` and
 * bpf_prog_inc_misses_counter in __bpf_trace_run, kernel/trace/bpf_trace.c). So these programs are loaded several times, and follow one
 * another on each tracepoint. Each says where it is inside; one of level n acts if somebody is inside of all n before it, since then all
 * of them were passed over.
 *
 * What is passed over even so is the kernel's count of the first level's misses less `recovered`. Should a task be preempted between two
 * levels, the later one may record what the earlier one has recorded: `level` tells the reader where to look for that.
 */
const volatile u32 level = 0;

INLINE int enter(struct counts *mine, u16 type)
{
	u32 before;

#pragma unroll
	for (before = 0; before < LEVELS - 1; before++) {
		if (before < level && !*(volatile u64 *)&mine->inside[before][type])
			return 0;
	}
	if (level)
		__sync_fetch_and_add(&mine->recovered, 1);
	__sync_fetch_and_add(&mine->inside[level % LEVELS][type], 1);
	return 1;
}

INLINE void leave(struct counts *mine, u16 type)
{
	__sync_fetch_and_add(&mine->inside[level % LEVELS][type], -1);
}

#define PROGRAM(program, type)                                                                                                             \
	SEC("raw_tp/" #program)                                                                                                            \
	int program(u64 *args)                                                                                                             \
	{                                                                                                                                  \
		struct counts *mine = my_counts();                                                                                         \
                                                                                                                                           \
		if (!mine || !enter(mine, type))                                                                                           \
			return 0;                                                                                                          \
		record_##program(args, bpf_ktime_get_ns(), mine);                                                                                \
		leave(mine, type);                                                                                                         \
		return 0;                                                                                                                  \
	}

/* Numbers of the records' layouts, which crates/trace/src/capture/bpf/formats.rs describes. */
enum { QUEUE = 1, RUN, DONE, ADD_DEP, UNSCHEDULABLE, FENCE_ERROR };

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

/* The place may be absent; a read that fails leaves zeros. */
#define READ(to, base, place)                                                                                                              \
	do {                                                                                                                               \
		if ((place) != ABSENT)                                                                                                     \
			bpf_probe_read_kernel((to), sizeof(*(to)), (const void *)((base) + (place)));                                      \
		else                                                                                                                       \
			*(to) = 0;                                                                                                         \
	} while (0)

INLINE u64 read_word(u64 base, u16 place)
{
	u64 word;

	READ(&word, base, place);
	return word;
}

/* Text behind a pointer; what is not text is zero, so that recordings of the same are the same. */
INLINE void read_text(char *to, u32 size, u64 from)
{
	__builtin_memset(to, 0, size);
	if (from)
		bpf_probe_read_kernel_str(to, size, (const void *)from);
}

INLINE int is_off(void)
{
	u32 zero = 0;
	u32 *on = bpf_map_lookup_elem(&is_on, &zero);

	return !on || !*on;
}

INLINE void *reserve(struct counts *mine, u64 size)
{
	void *record = bpf_ringbuf_reserve(&ring, size, 0);

	if (!record)
		__sync_fetch_and_add(&mine->ring_full, 1);
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

/* A job is what its scheduler's finished fence says, from queue to done and beyond. */
INLINE void fill_job(struct job *job, u64 s_fence)
{
	READ(&job->fence_context, s_fence, places.finished_context);
	READ(&job->fence_seqno, s_fence, places.finished_seqno);
}

INLINE void fill_ring(char *name, char *dev, u64 scheduler)
{
	read_text(name, 24, read_word(scheduler, places.scheduler_name));
	read_text(dev, 32, read_word(read_word(scheduler, places.scheduler_device), places.device_name));
}

/* drm_sched_entity_push_job: in the submitter's own system call. */
INLINE void record_queue(u64 *args, u64 at_ns, struct counts *mine)
{
	u64 job = args[0], entity = args[1], pid_tgid, s_fence;
	struct queue *record;

	if (is_off())
		return;
	record = reserve(mine, sizeof(*record));
	if (!record)
		return;
	pid_tgid = bpf_get_current_pid_tgid();
	fill_head(&record->head, &record->common, at_ns, QUEUE, sizeof(*record), pid_tgid);
	s_fence = read_word(job, places.job_fence);
	fill_job(&record->job, s_fence);
	READ(&record->client_id, s_fence, places.client);
	record->cgroup = bpf_get_current_cgroup_id();
	record->tgid = pid_tgid >> 32;
	record->uid = bpf_get_current_uid_gid();
	READ(&record->job_count, entity, places.queue_length);
	fill_ring(record->name, record->dev, read_word(job, places.job_scheduler));
	bpf_get_current_comm(record->comm, sizeof(record->comm));
	record->pad = 0;
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
}
PROGRAM(queue, QUEUE)

/* Just before ops->run_job, in a kernel thread or worker. */
INLINE void record_run(u64 *args, u64 at_ns, struct counts *mine)
{
	u64 job = args[0], entity = args[1], s_fence;
	struct run *record;

	if (is_off())
		return;
	record = reserve(mine, sizeof(*record));
	if (!record)
		return;
	fill_head(&record->head, &record->common, at_ns, RUN, sizeof(*record), bpf_get_current_pid_tgid());
	s_fence = read_word(job, places.job_fence);
	fill_job(&record->job, s_fence);
	READ(&record->client_id, s_fence, places.client);
	READ(&record->job_count, entity, places.queue_length);
	fill_ring(record->name, record->dev, read_word(job, places.job_scheduler));
	record->pad = 0;
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
}
PROGRAM(run, RUN)

/*
 * drm_sched_job_done, in the hardware fence's callback: often in an interrupt, before the finished fence signals. Its error is what the
 * hardware's fence ended with; 6.1 has written run_job's own to the finished fence by then. What later kernels hand to
 * drm_sched_fence_finished as `result` without either is not to be seen here: that is fence_error's.
 */
INLINE void record_done(u64 *args, u64 at_ns, struct counts *mine)
{
	u64 s_fence = args[0], parent;
	struct done *record;

	if (is_off())
		return;
	record = reserve(mine, sizeof(*record));
	if (!record)
		return;
	fill_head(&record->head, &record->common, at_ns, DONE, sizeof(*record), bpf_get_current_pid_tgid());
	fill_job(&record->job, s_fence);
	parent = read_word(s_fence, places.parent);
	if (parent)
		READ(&record->error, parent, places.error);
	else
		READ(&record->error, s_fence, places.finished_error);
	record->pad = 0;
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
}
PROGRAM(done, DONE)

INLINE void record_dependency(u64 *args, u64 at_ns, struct counts *mine, u16 type)
{
	u64 job = args[0], fence = args[1];
	struct dependency *record;

	if (is_off())
		return;
	record = reserve(mine, sizeof(*record));
	if (!record)
		return;
	fill_head(&record->head, &record->common, at_ns, type, sizeof(*record), bpf_get_current_pid_tgid());
	fill_job(&record->job, read_word(job, places.job_fence));
	READ(&record->ctx, fence, places.context);
	READ(&record->seqno, fence, places.seqno);
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
}

/* drm_sched_entity_push_job, once for each dependency, behind queue. Linux 6.17 and later. */
INLINE void record_add_dep(u64 *args, u64 at_ns, struct counts *mine)
{
	record_dependency(args, at_ns, mine, ADD_DEP);
}
PROGRAM(add_dep, ADD_DEP)

/* drm_sched_entity_pop_job: its turn has come, and what it waits for has not signalled. */
INLINE void record_unschedulable(u64 *args, u64 at_ns, struct counts *mine)
{
	record_dependency(args, at_ns, mine, UNSCHEDULABLE);
}
PROGRAM(unschedulable, UNSCHEDULABLE)

/*
 * dma_fence_signaled, of every fence: one that ended with an error. For a job it is the only place that tells of every error on every
 * kernel, also of jobs that never ran because their entity was killed (drm_sched_entity_kill_jobs_work), which are never done.
 */
INLINE void record_fence_error(u64 *args, u64 at_ns, struct counts *mine)
{
	u64 fence = args[0];
	struct done *record;
	int error;

	READ(&error, fence, places.error);
	if (!error || is_off())
		return;
	record = reserve(mine, sizeof(*record));
	if (!record)
		return;
	fill_head(&record->head, &record->common, at_ns, FENCE_ERROR, sizeof(*record), bpf_get_current_pid_tgid());
	READ(&record->job.fence_context, fence, places.context);
	READ(&record->job.fence_seqno, fence, places.seqno);
	record->error = error;
	record->pad = 0;
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
}
PROGRAM(fence_error, FENCE_ERROR)
