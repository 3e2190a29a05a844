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
#include "switches.h"
#include "totals.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/*
 * Who submits a job: the current thread. By loads it is one call in place of four; they are what the helpers read: the number that the user has in
 * the first user namespace (current_uid_gid), and the control group of version 2 (task_dfl_cgroup, cgroup_id).
 * Returns process and thread as bpf_get_current_pid_tgid does.
 */
INLINE u64 fill_submitter(struct queue *to)
{
	u64 task, cgroup, pid_tgid;
	u32 tgid, tid;

	if (is_cast && places.task_cred != ABSENT && places.cred_uid != ABSENT && places.task_cgroups != ABSENT &&
	    places.cgroups_default != ABSENT && places.cgroup_node != ABSENT && places.node_id != ABSENT) {
		task = bpf_get_current_task();
		READ(&tid, task, places.task_pid);
		READ(&tgid, task, places.task_tgid);
		READ(&to->uid, read_word(task, places.task_cred), places.cred_uid);
		cgroup = read_word(read_word(task, places.task_cgroups), places.cgroups_default);
		to->cgroup = read_word(read_word(cgroup, places.cgroup_node), places.node_id);
		read_comm(to->comm, task);
		pid_tgid = (u64)tgid << 32 | tid;
	} else {
		pid_tgid = bpf_get_current_pid_tgid();
		to->uid = bpf_get_current_uid_gid();
		to->cgroup = bpf_get_current_cgroup_id();
		bpf_get_current_comm(to->comm, sizeof(to->comm));
	}
	to->tgid = pid_tgid >> 32;
	return pid_tgid;
}

/* What is told of a job where it is queued, into the ring or into `kept`. */
INLINE void fill_queue(struct queue *to, u64 at_ns, const struct job *job, u64 entity, u64 client, const struct ring_names *on)
{
	u64 pid_tgid = fill_submitter(to);

	fill_head(&to->head, &to->common, at_ns, QUEUE, sizeof(*to), pid_tgid);
	to->job = *job;
	to->client_id = client;
	READ(&to->job_count, entity, places.queue_length);
	fill_ring(to->name, to->dev, on);
	to->pad = 0;
}

/*
 * A job under rules: it goes into `kept`, and out again when it is done, so that what is left out of it counts as what it was left out for. One
 * that is filtered need not: that is what jobs are that are not there.
 * Returns whether it is told of now.
 */
INLINE int track_queue(const struct rules *r, struct counts *mine, u32 cause, u64 at_ns, const struct job *key, u64 entity, u64 s_fence,
		       const struct on *on)
{
	struct kept *job;

	if (cause == FILTERED && r->miss_cause == FILTERED) {
		leave_out(mine, FILTERED);
		return 0;
	}
	job = make_room(key);
	if (!job) {
		turn_away(key);
		leave_out(mine, TABLE_FULL);
		return 0;
	}
	job->cause = cause;
	job->flags = r->flags;
	job->has_run = 0;
	job->dependencies = 0;
	job->slow_ns = r->slow_ns;
	if (cause != KEPT) {
		count(mine, cause, 1);
	} else {
		job->tgid = bpf_get_current_pid_tgid() >> 32;
		job->ring = on->ring;
		if (r->flags & SLOW_ONLY)
			fill_queue(&job->queue, at_ns, key, entity, read_word(s_fence, places.client), on->names);
	}
	/* From here on it can be given up. */
	*(volatile u64 *)&job->queued_ns = at_ns;
	if (cause == KEPT && r->flags & TOTALS)
		total_queue(r, mine, job);
	return cause == KEPT && !(r->flags & SLOW_ONLY);
}

/* drm_sched_entity_push_job: in the submitter's own system call. */
INLINE void record_queue(u64 *args, const struct rules *r, struct counts *mine)
{
	u64 entity = args[1], at_ns;
	struct on on = { .ring = RINGS };
	struct queue *record;
	struct of_fence fence;
	const struct job *key = &fence.job;
	struct of_job job;
	u32 cause = KEPT;

	read_job(&job, args[0]);
	if (r->flags & TRACK) {
		fill_job(&fence.job, job.s_fence);
		/* The level before was here. */
		if (level && find_kept(key)) {
			count(mine, RECOVERED, -1);
			return;
		}
		cause = decide_by_submitter(r, key);
	} else {
		read_of_fence(&fence, job.s_fence);
	}
	if (cause == KEPT) {
		at_ns = bpf_ktime_get_ns();
		on = ring_on(job.scheduler, key);
	} else {
		/* A clock costs more than all else here. */
		at_ns = LEFT_OUT_NS;
	}
	if (r->flags & TRACK) {
		if (cause == KEPT)
			cause = decide_by_ring(r, key, on.names, at_ns);
		if (cause == KEPT)
			involve();
		if (!track_queue(r, mine, cause, at_ns, key, entity, job.s_fence, &on))
			return;
	} else {
		involve();
	}
	if (!is_wanted(r->flags, r, mine, QUEUE))
		return;
	record = r->flags & TRACK ? reserve_kept(mine, sizeof(*record)) : reserve(mine, sizeof(*record), QUEUE);
	if (!record)
		return;
	if (r->flags & TRACK)
		fence.client = read_word(job.s_fence, places.client);
	fill_queue(record, at_ns, key, entity, fence.client, on.names);
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
}
PROGRAM(queue, QUEUE)

/*
 * Whether a job's event is left out, and counted then. Otherwise the job may be in `kept`, or have been queued before it was used: then it
 * was recorded, and so is what follows.
 */
INLINE int is_left_out(const struct rules *r, struct counts *mine, const struct kept *found, const struct job *key)
{
	u32 cause = found ? found->cause : was_turned_away(key) ? TABLE_FULL : r->miss_cause;

	/* For a later level, a job that is gone is one that the level before has seen to the end. */
	if (cause == KEPT && (found || !level))
		return 0;
	leave_out(mine, cause);
	return 1;
}

/* What a job was queued under. One that is not in `kept` was queued before it was used: then all was recorded. */
INLINE u32 flags_of(const struct kept *found)
{
	return found ? found->flags : 0;
}

/* A job in `kept` runs. Returns whether that is all. */
INLINE int track_run(const struct rules *r, struct counts *mine, struct kept *job, u64 at_ns, u64 entity)
{
	/* The level before was here. */
	if (job->has_run) {
		count(mine, RECOVERED, -1);
		return 1;
	}
	job->run_ns = at_ns;
	job->has_run = 1;
	if (job->flags & TOTALS)
		total_run(r, mine, job, at_ns);
	if (!(job->flags & SLOW_ONLY))
		return 0;
	job->run_tid = bpf_get_current_pid_tgid();
	job->run_cpu = bpf_get_smp_processor_id();
	READ(&job->run_job_count, entity, places.queue_length);
	return 1;
}

/* Just before ops->run_job, in a kernel thread or worker. */
INLINE void record_run(u64 *args, const struct rules *r, struct counts *mine)
{
	u64 entity = args[1], at_ns;
	struct kept *found = 0;
	struct of_fence fence;
	const struct job *key = &fence.job;
	struct of_job job;
	struct run *record;
	u32 flags;

	flags = r->flags;
	read_job(&job, args[0]);
	if (r->flags & TRACK) {
		fill_job(&fence.job, job.s_fence);
		found = find_kept(key);
		if (is_left_out(r, mine, found, key))
			return;
	} else {
		read_of_fence(&fence, job.s_fence);
	}
	involve();
	at_ns = bpf_ktime_get_ns();
	if (r->flags & TRACK) {
		if (found && track_run(r, mine, found, at_ns, entity))
			return;
		flags = flags_of(found);
	}
	if (!is_wanted(flags, r, mine, RUN))
		return;
	record = reserve(mine, sizeof(*record), RUN);
	if (!record)
		return;
	fill_head(&record->head, &record->common, at_ns, RUN, sizeof(*record), bpf_get_current_pid_tgid());
	record->job = *key;
	record->client_id = r->flags & TRACK ? read_word(job.s_fence, places.client) : fence.client;
	READ(&record->job_count, entity, places.queue_length);
	fill_ring(record->name, record->dev, ring_on(job.scheduler, key).names);
	record->pad = 0;
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
}
PROGRAM(run, RUN)

/* What is kept of a job that was slow is told when it is done. */
INLINE void submit_queue(u32 flags, const struct rules *r, struct counts *mine, const struct queue *from)
{
	struct queue *record;

	if (!is_wanted(flags, r, mine, QUEUE))
		return;
	record = reserve_kept(mine, sizeof(*record));
	if (!record)
		return;
	*record = *from;
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
}

/* All that was kept of a slow job, with the times at which it was seen. */
INLINE void submit_kept(const struct rules *r, struct counts *mine, const struct kept *job)
{
	struct dependency *dependency;
	struct run *run;
	u32 i;

	submit_queue(job->flags, r, mine, &job->queue);
#pragma unroll
	for (i = 0; i < DEPENDENCIES; i++) {
		const struct kept_dependency *from = &job->dependency[i];

		if (i >= job->dependencies || !is_wanted(job->flags, r, mine, from->type & 15))
			continue;
		dependency = reserve_kept(mine, sizeof(*dependency));
		if (!dependency)
			continue;
		fill_head(&dependency->head, &dependency->common, from->at_ns, from->type, sizeof(*dependency), from->tid);
		dependency->head.cpu = from->cpu;
		dependency->job = job->queue.job;
		dependency->ctx = from->ctx;
		dependency->seqno = from->seqno;
		bpf_ringbuf_submit(dependency, BPF_RB_NO_WAKEUP);
	}
	if (!job->has_run || !is_wanted(job->flags, r, mine, RUN))
		return;
	run = reserve_kept(mine, sizeof(*run));
	if (!run)
		return;
	fill_head(&run->head, &run->common, job->run_ns, RUN, sizeof(*run), job->run_tid);
	run->head.cpu = job->run_cpu;
	run->job = job->queue.job;
	run->client_id = job->queue.client_id;
	run->job_count = job->run_job_count;
	__builtin_memcpy(run->name, job->queue.name, sizeof(run->name));
	__builtin_memcpy(run->dev, job->queue.dev, sizeof(run->dev));
	run->pad = 0;
	bpf_ringbuf_submit(run, BPF_RB_NO_WAKEUP);
}

INLINE u64 events_of(const struct kept *job)
{
	return 1 + job->dependencies + job->has_run;
}

INLINE void submit_end(u32 flags, const struct rules *r, struct counts *mine, u16 type, u64 at_ns, const struct job *job, int error)
{
	struct done *record;

	if (!is_wanted(flags, r, mine, type == ENDED ? DONE : type))
		return;
	record = reserve(mine, sizeof(*record), type);
	if (!record)
		return;
	fill_head(&record->head, &record->common, at_ns, type, sizeof(*record), bpf_get_current_pid_tgid());
	record->job = *job;
	record->error = error;
	record->pad = 0;
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
}

/*
 * drm_sched_job_done, in the hardware fence's callback: often in an interrupt, before the finished fence signals. What that will end with
 * is handed over as `result` from somewhere between 6.1 and 6.12 on, which is not to be seen here; it is what the hardware's fence ended
 * with (drm_sched_job_done_cb). Where there is no such fence (run_job failed or had nothing to do; drm_sched_start gives up jobs after a
 * reset) the finished fence's error is what some driver has set before, and may change: the record is ENDED then. The finished fence
 * signals right behind, and fence_error tells of its error; crates/sys/src/bpf/jobs/ends.rs puts the two together.
 *
 * drm_sched_start of 7.2 may be called with an error for jobs whose fence, made again after a reset, ended without. No driver does both;
 * fence_error would tell of it.
 */
INLINE void record_done(u64 *args, const struct rules *r, struct counts *mine)
{
	u64 s_fence = args[0], parent, at_ns;
	struct kept *found = 0;
	struct of_fence fence;
	const struct job *key = &fence.job;
	int error = 0;
	u32 flags;

	flags = r->flags;
	if (r->flags & TRACK) {
		fill_job(&fence.job, s_fence);
		found = find_kept(key);
		if (is_left_out(r, mine, found, key)) {
			if (found)
				forget(found, word_of(key));
			else
				forget_turned_away(key);
			return;
		}
	} else {
		read_of_fence(&fence, s_fence);
	}
	at_ns = bpf_ktime_get_ns();
	if (r->flags & TRACK) {
		flags = flags_of(found);
		if (found && flags & TOTALS)
			total_done(r, mine, found, at_ns);
		if (flags & SILENT) {
			if (found)
				forget(found, word_of(key));
			return;
		}
	}
	if (r->flags & TRACK) {
		fence.parent = read_word(s_fence, places.parent);
		READ(&fence.error, s_fence, places.finished_error);
	}
	parent = fence.parent;
	if (parent)
		READ(&error, parent, places.error);
	/* What a driver has set itself stays where the hardware's fence has no error, and always in 6.1. */
	if (!error)
		error = fence.error;
	if (found) {
		/* One that may yet turn out to have failed is told of. */
		int is_quick = flags & SLOW_ONLY && at_ns - found->queued_ns < found->slow_ns && !error && parent;

		if (is_quick)
			count(mine, QUICK, events_of(found) + 1);
		else if (flags & SLOW_ONLY)
			submit_kept(r, mine, found);
		forget(found, word_of(key));
		if (is_quick)
			return;
	}
	if (r->flags & TRACK && (error || !parent))
		bpf_map_update_elem(&failing, key, &flags, 0);
	submit_end(flags, r, mine, parent ? DONE : ENDED, at_ns, key, error);
}
PROGRAM(done, DONE)

INLINE void keep_dependency(struct counts *mine, struct kept *job, u64 at_ns, u16 type, u64 fence)
{
	struct kept_dependency *to;
	u32 at = job->dependencies;

	if (at >= DEPENDENCIES) {
		leave_out(mine, TABLE_FULL);
		return;
	}
	to = &job->dependency[at];
	to->at_ns = at_ns;
	read_fence((struct job *)&to->ctx, fence, places.context, places.seqno);
	to->tid = bpf_get_current_pid_tgid();
	to->cpu = bpf_get_smp_processor_id();
	to->type = type;
	job->dependencies = at + 1;
}

INLINE void record_dependency(u64 *args, const struct rules *r, struct counts *mine, u16 type)
{
	u64 job = args[0], fence = args[1];
	struct dependency *record;
	struct kept *found = 0;
	struct job key;
	u32 flags;
	u64 at_ns;

	flags = r->flags;
	fill_job(&key, read_word(job, places.job_fence));
	if (r->flags & TRACK) {
		found = find_kept(&key);
		if (is_left_out(r, mine, found, &key))
			return;
	}
	at_ns = bpf_ktime_get_ns();
	if (r->flags & TRACK) {
		flags = flags_of(found);
		if (found && flags & SLOW_ONLY) {
			keep_dependency(mine, found, at_ns, type, fence);
			return;
		}
	}
	if (!is_wanted(flags, r, mine, type))
		return;
	record = reserve(mine, sizeof(*record), type);
	if (!record)
		return;
	fill_head(&record->head, &record->common, at_ns, type, sizeof(*record), bpf_get_current_pid_tgid());
	record->job = key;
	read_fence((struct job *)&record->ctx, fence, places.context, places.seqno);
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
}

/* drm_sched_entity_push_job, once for each dependency, behind queue. Linux 6.17 and later. */
INLINE void record_add_dep(u64 *args, const struct rules *r, struct counts *mine)
{
	record_dependency(args, r, mine, ADD_DEP);
}
PROGRAM(add_dep, ADD_DEP)

/* drm_sched_entity_pop_job: its turn has come, and what it waits for has not signalled. */
INLINE void record_unschedulable(u64 *args, const struct rules *r, struct counts *mine)
{
	record_dependency(args, r, mine, UNSCHEDULABLE);
}
PROGRAM(unschedulable, UNSCHEDULABLE)

/*
 * A fence signalled with an error, or without one and its job is still in `kept`: then the kernel passed over that job's end (PROGRAM, jobs.h),
 * which is told here instead.
 *
 * For a job this is the only place that tells of every error on every kernel, also of jobs that never ran because their entity was killed
 * (drm_sched_entity_kill_jobs_work), which are never done. Under rules only fences of jobs that are kept are told of; others may be no job's.
 */
INLINE void record_fence(u64 fence, const volatile struct signalled *with, const struct rules *r, struct counts *mine, struct kept *found)
{
	u64 at_ns = bpf_ktime_get_ns(), parent;
	struct job key = { with->job.fence_context, with->job.fence_seqno };
	u32 flags = r->flags;
	int error;

	/* As in record_done. These are read also where they are not asked for, and the fence may be no scheduler's: the fewer ways through here, the
	 * sooner is the program verified. */
	READ_ANY(&parent, fence - (places.finished_context - places.context), places.parent);
	READ_ANY(&error, parent, places.error);
	if (!with->error)
		count(mine, RECOVERED, 1);
	if (found) {
		u32 cause = found->cause;
		int is_told = cause == KEPT;

		flags = found->flags;
		if (cause != KEPT && !with->error)
			leave_out(mine, cause);
		if (cause == KEPT && flags & TOTALS)
			total_done(r, mine, found, at_ns);
		if (is_told && flags & SLOW_ONLY && !(flags & SILENT)) {
			if (with->error || error || at_ns - found->queued_ns >= found->slow_ns) {
				submit_kept(r, mine, found);
			} else {
				count(mine, QUICK, events_of(found) + 1);
				is_told = 0;
			}
		}
		forget(found, word_of(&key));
		if (!is_told)
			return;
	} else if (flags & TRACK) {
		u32 *of = bpf_map_lookup_elem(&failing, &key);

		/* One that never ran has no other end. */
		forget_turned_away(&key);
		if (!of)
			return;
		flags = *of;
		bpf_map_delete_elem(&failing, &key);
	}
	if (with->error)
		submit_end(flags, r, mine, FENCE_ERROR, at_ns, &key, with->error);
	else
		submit_end(flags, r, mine, parent ? DONE : ENDED, at_ns, &key, error);
}

/*
 * dma_fence_signaled, of every fence of the machine: three a job, so what concerns nobody is to be known soon. The kernel does not pass this
 * program over: fences signal under their lock, with interrupts off (dma_fence_signal, drivers/dma-buf/dma-fence.c), and it signals none
 * itself; and behind its end a job's finished fence signals in the same thread (drm_sched_job_done). A job that has no end has a fence that
 * ends with an error.
 */
INLINE void see_fence(u64 fence)
{
	const struct rules *r = rules_in_force();
	struct signalled with;
	struct kept *found = 0;
	struct counts *mine;

	if (!r)
		return;
	read_signalled(&with, fence);
	/* A scheduler counts in 32 bits. */
	if (r->flags & TRACK && !(with.job.fence_seqno >> 32))
		found = find_kept(&with.job);
	if (!with.error && !found)
		return;
	mine = my_counts();
	if (!mine || (level && is_noted(mine, FENCE_ERROR, fence)))
		return;
	if (r->flags & NOTED << FENCE_ERROR)
		leave_note(mine, FENCE_ERROR, fence);
	record_fence(fence, &with, r, mine, found);
}

#ifndef COST
SEC("raw_tp/fence_error")
int fence_error(u64 *args)
{
	see_fence(args[0]);
	return 0;
}
#endif

/*
 * sched_process_fork: a child of a process on a list is on it too. Once it is there it is a process like any other: it stays when its
 * parent ends, and goes when it ends itself.
 */
SEC("raw_tp/process_fork")
int process_fork(u64 *args)
{
	const struct rules *r = rules_in_force();
	u32 parent = bpf_get_current_pid_tgid() >> 32, child;
	struct number_key key = {};
	u64 *found, verdict;
	long answer;

	if (!r || !has_list(r, PID))
		return 0;
	READ(&child, args[1], places.task_tgid);
	if (child == parent)
		return 0;
	key.generation = r->generation;
	key.subject = PID;
	key.number = parent;
	found = bpf_map_lookup_elem(&numbers, &key);
	if (!found)
		return 0;
	verdict = *found;
	key.number = child;
	/* What is denied stays so, whoever its parent is. */
	answer = bpf_map_update_elem(&numbers, &key, &verdict, verdict == DENIED ? 0 : BPF_NOEXIST);
	wipe_verdict(PID, child);
	if (answer && answer != -EEXIST) {
		struct counts *mine = my_counts();

		if (mine)
			count(mine, TABLE_FULL, 1);
	}
	return 0;
}

/* Loaded, and never run, to see whether the kernel takes the cast: reads.h. */
SEC("raw_tp/try_cast")
int try_cast(u64 *args)
{
	const volatile u64 *words = cast(args[0]);

	return *(const volatile u32 *)words + words[0] + words[1];
}

/* (whether it was preempted, thread that was left, thread that goes on, state of the former) */
SEC("raw_tp/sched_switch")
int sched_switch(u64 *args)
{
	see_switch(args);
	return 0;
}

SEC("raw_tp/sched_waking")
int sched_waking(u64 *args)
{
	see_waking(args[0]);
	return 0;
}

/* sched_process_free, of a process's first thread: the last of it is gone, and its number may be given out again. */
SEC("raw_tp/process_free")
int process_free(u64 *args)
{
	const struct rules *r = rules_in_force();
	struct number_key key = {};
	u32 pid, tgid;

	if (!r || !has_list(r, PID))
		return 0;
	READ(&pid, args[0], places.task_pid);
	READ(&tgid, args[0], places.task_tgid);
	if (pid != tgid)
		return 0;
	key.generation = r->generation;
	key.subject = PID;
	key.number = tgid;
	bpf_map_delete_elem(&numbers, &key);
	wipe_verdict(PID, tgid);
	return 0;
}

/*
 * Run from outside (BPF_PROG_RUN): gives up the job in a place, by its number, that was queued before a time and is not done. Its end was not
 * seen, or will not come; it would be waited for, and its place be taken, for ever. First it is closed, so that nobody finds it any more. Then,
 * with a number of 0, and when all programs have ended that may have found it before, it is taken out if it was not its end that they saw.
 * Where a job is told of when it is done, what was kept of it is lost.
 */
SEC("raw_tp/give_up")
int give_up(u64 *args)
{
	u32 place = args[0], at = place / WAYS;
	struct set *set = bpf_map_lookup_elem(&sets, &at);
	struct kept *found = bpf_map_lookup_elem(&kept, &place);
	const struct rules *r = rules_in_force();
	struct counts *mine = my_counts();
	u64 word = args[1], before_ns = args[2];

	if (!r || !mine || !set || !found)
		return 0;
	if (word) {
		/* One that is being filled has no time yet. */
		if (found->queued_ns && found->queued_ns < before_ns)
			__sync_val_compare_and_swap(&set->key[place % WAYS], word, CLOSED);
		return 0;
	}
	if (*(volatile u64 *)&set->key[place % WAYS] != CLOSED)
		return 0;
	if (found->cause == KEPT) {
		if ((found->flags & (SLOW_ONLY | SILENT)) == SLOW_ONLY)
			count(mine, TABLE_FULL, events_of(found));
		if (found->flags & TOTALS)
			total_gone(r, mine, found, bpf_ktime_get_ns());
	}
	forget(found, CLOSED);
	return 1;
}

/* Run from outside (BPF_PROG_RUN): frees the place of a total that was read and emptied, of a window that is over. */
SEC("raw_tp/free_total")
int free_total(u64 *args)
{
	u32 place = args[0], at = place / WAYS;
	struct total_set *set = bpf_map_lookup_elem(&total_sets, &at);

	if (set)
		*(volatile u64 *)&set->key[place % WAYS] = 0;
	return 0;
}

/*
 * A job that is put in by hand: its structures, laid out as the kernel's own, in memory of the kernel where the programs read them as they
 * read any other. crates/sys/src/bpf/jobs/made.rs fills it and runs the programs of the tracepoints with it.
 */
struct made {
	u64 at;			/* the address of this, by find_made */
	u8 bytes[16376];
};
struct {
	NUMBER(type, BPF_MAP_TYPE_ARRAY);
	NUMBER(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, struct made);
} made SEC(".maps");

/* Run from outside (BPF_PROG_RUN). */
SEC("raw_tp/find_made")
int find_made(u64 *args)
{
	u32 zero = 0;
	struct made *found = bpf_map_lookup_elem(&made, &zero);

	(void)args;
	if (found)
		found->at = (u64)found;
	return 0;
}
