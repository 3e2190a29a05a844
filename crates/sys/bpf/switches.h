/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/*
 * When processors go to the threads that submit jobs or hand them over, and leave them: for those who asked for it alone.
 *
 * A thread is known from its first job on that is not left out, or that may turn out slow where only slow ones are recorded. Its number is a
 * bit of a table, so that a switch between two others costs little more than to see that it is one.
 */
#ifndef GPUSCOPE_SWITCHES_H
#define GPUSCOPE_SWITCHES_H

#include "rules.h"

/* Whether they are asked for: the verifier knows it. */
const volatile u32 switches = 0;

/* As many words as there can be threads are set before loading (PID_MAX_LIMIT, include/linux/threads.h). */
struct {
	NUMBER(type, BPF_MAP_TYPE_ARRAY);
	NUMBER(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, u64);
} involved SEC(".maps");

INLINE u64 *word_of_thread(u32 tid)
{
	u32 at = tid / 64;

	return bpf_map_lookup_elem(&involved, &at);
}

/* The current thread submits a job, or hands one over. */
INLINE void involve(void)
{
	u64 *word;
	u32 tid;

	if (!switches)
		return;
	tid = bpf_get_current_pid_tgid();
	word = word_of_thread(tid);
	if (word && !(*word & 1ull << tid % 64))
		__sync_fetch_and_or(word, 1ull << tid % 64);
}

INLINE int is_involved(u32 tid)
{
	u64 *word = word_of_thread(tid);

	return word && *word >> tid % 64 & 1;
}

/* As the kernel's own records (include/trace/events/sched.h). */
struct thread_switch {
	struct head head;
	struct common common;
	char prev_comm[16];
	u32 prev_pid;
	u32 prev_prio;
	u64 prev_state;
	char next_comm[16];
	u32 next_pid;
	u32 next_prio;
};

struct waking {
	struct head head;
	struct common common;
	char comm[16];
	u32 pid;
	u32 prio;
};

/* include/linux/sched.h */
enum {
	UNINTERRUPTIBLE = 2,
	DEAD = 0x80,
	NO_LOAD = 0x400,
	REPORTED = 0x7f,
	RTLOCK_WAIT = 0x1000,
	FROZEN = 0x8000,
	REPORT_IDLE = 0x80,
	REPORT_PREEMPTED = 0x100,
};

/* As __trace_sched_switch_state does (__task_state_index, include/linux/sched.h): the state's highest bit, or what it stands for. */
INLINE u32 reported_state(int is_preempted, u32 state, u64 task)
{
	u32 exit_state, reported, bit;

	if (is_preempted)
		return REPORT_PREEMPTED;
	READ(&exit_state, task, places.task_exit_state);
	if (state & (RTLOCK_WAIT | FROZEN))
		return UNINTERRUPTIBLE;
	if ((state & (UNINTERRUPTIBLE | NO_LOAD)) == (UNINTERRUPTIBLE | NO_LOAD))
		return REPORT_IDLE;
	reported = (state | exit_state) & REPORTED;
#pragma unroll
	for (bit = 0x40; bit; bit >>= 1)
		if (reported & bit)
			return bit;
	return 0;
}

/* sched_switch, with the run queue's lock held and interrupts off: nothing comes in between, and the kernel does not pass this over. The ring's
 * lock must not sleep then: on PREEMPT_RT it may, and this is not loaded there. */
INLINE void see_switch(u64 *args)
{
	const struct rules *r;
	struct thread_switch *record;
	struct counts *mine;
	/* It is the one that runs still. */
	u32 prev = bpf_get_current_pid_tgid(), next;
	u64 at_ns, *word;

	READ(&next, args[2], places.task_pid);
	if (!is_involved(prev) && !is_involved(next))
		return;
	at_ns = bpf_ktime_get_ns();
	mine = my_counts();
	r = rules_in_force();
	if (!mine || !r || r->flags & SILENT)
		return;
	/* Its number will be another's. */
	word = (u32)args[3] & DEAD ? word_of_thread(prev) : 0;
	if (word)
		__sync_fetch_and_and(word, ~(1ull << prev % 64));
	record = reserve_kept(mine, sizeof(*record));
	if (!record)
		return;
	fill_head(&record->head, &record->common, at_ns, SWITCH, sizeof(*record), prev);
	read_comm(record->prev_comm, args[1]);
	record->prev_pid = prev;
	READ(&record->prev_prio, args[1], places.task_prio);
	record->prev_state = reported_state((u32)args[0] & 1, args[3], args[1]);
	read_comm(record->next_comm, args[2]);
	record->next_pid = next;
	READ(&record->next_prio, args[2], places.task_prio);
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
}

/* sched_waking, where one thread wakes another: from then on that one waits for a processor. */
INLINE void see_waking(u64 task)
{
	const struct rules *r;
	struct waking *record;
	struct counts *mine;
	u64 at_ns;
	u32 tid;

	READ(&tid, task, places.task_pid);
	if (!is_involved(tid))
		return;
	at_ns = bpf_ktime_get_ns();
	mine = my_counts();
	r = rules_in_force();
	if (!mine || !r || r->flags & SILENT)
		return;
	record = reserve_kept(mine, sizeof(*record));
	if (!record)
		return;
	fill_head(&record->head, &record->common, at_ns, WAKING, sizeof(*record), bpf_get_current_pid_tgid());
	read_comm(record->comm, task);
	record->pid = tid;
	READ(&record->prio, task, places.task_prio);
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
}

#endif
