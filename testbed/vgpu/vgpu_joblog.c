// SPDX-License-Identifier: GPL-2.0
/*
 * debugfs vgpu-<bdf>-jobs: every job since the log was asked for, a line each, the truth that a tracer is compared with.
 * All times are CLOCK_MONOTONIC; 0 is a moment that has not come.
 */
#include <linux/seq_file.h>
#include <linux/string_helpers.h>
#include <linux/vmalloc.h>
#include "vgpu.h"

struct vgpu_joblog {
	u32 room;
	atomic_t next;		/* may pass room: the rest was left out */
	atomic_t live;		/* jobs whose fence has yet to write here */
	struct vgpu_logged entries[];
};

/* Replaces the log by an empty one; 0 entries: none. */
int vgpu_joblog_resize(struct vgpu *gpu, u32 entries)
{
	struct vgpu_joblog *log = NULL, *old;
	int ret = 0;

	if (entries > 4 << 20)
		return -EINVAL;
	if (entries) {
		log = vzalloc(struct_size(log, entries, entries));
		if (!log)
			return -ENOMEM;
		log->room = entries;
	}
	down_write(&gpu->log_sem);
	old = gpu->joblog;
	if (old && atomic_read(&old->live)) {
		ret = -EBUSY;
		old = log;
	} else {
		gpu->joblog = log;
	}
	up_write(&gpu->log_sem);
	vfree(old);
	return ret;
}

void vgpu_joblog_fini(struct vgpu *gpu) { vfree(gpu->joblog); }

static void finished_signalled(struct dma_fence *f, struct dma_fence_cb *cb)
{
	struct vgpu_logged *e = container_of(cb, struct vgpu_logged, signalled);

	e->status = f->error;
	WRITE_ONCE(e->signalled_ns, ktime_to_ns(f->timestamp));
	atomic_dec(&e->log->live);
}

struct vgpu_logged *vgpu_joblog_add(struct vgpu *gpu, struct vgpu_file *vf, struct dma_fence *finished)
{
	struct vgpu_joblog *log = gpu->joblog;
	struct vgpu_logged *e;
	u32 n;

	if (!log)
		return NULL;
	n = atomic_inc_return(&log->next) - 1;
	if (n >= log->room)
		return NULL;
	e = &log->entries[n];
	e->log = log;
	e->context = finished->context;
	e->seqno = finished->seqno;
	e->client = vf->client_id;
	e->tgid = task_tgid_nr(current);
	e->tid = task_pid_nr(current);
	get_task_comm(e->comm, current);
	atomic_inc(&log->live);
	if (dma_fence_add_callback(finished, &e->signalled, finished_signalled))
		atomic_dec(&log->live);
	return e;
}

/* ---- the file ---- */
static void *jobs_start(struct seq_file *m, loff_t *pos)
{
	struct vgpu *gpu = m->private;

	down_read(&gpu->log_sem);
	if (!*pos)
		return SEQ_START_TOKEN;
	if (!gpu->joblog || *pos > min_t(u32, atomic_read(&gpu->joblog->next), gpu->joblog->room))
		return NULL;
	return &gpu->joblog->entries[*pos - 1];
}

static void *jobs_next(struct seq_file *m, void *v, loff_t *pos)
{
	struct vgpu *gpu = m->private;

	++*pos;
	if (!gpu->joblog || *pos > min_t(u32, atomic_read(&gpu->joblog->next), gpu->joblog->room))
		return NULL;
	return &gpu->joblog->entries[*pos - 1];
}

static void jobs_stop(struct seq_file *m, void *v) { up_read(&((struct vgpu *)m->private)->log_sem); }

static int jobs_show(struct seq_file *m, void *v)
{
	struct vgpu *gpu = m->private;
	struct vgpu_logged *e = v;
	int i;

	if (v == SEQ_START_TOKEN) {
		struct vgpu_joblog *log = gpu->joblog;
		u32 next = log ? atomic_read(&log->next) : 0, room = log ? log->room : 0;

		seq_printf(m, "monotonic_ns %llu room %u logged %u left_out %u\n", ktime_get_ns(), room, min(next, room),
			   next > room ? next - room : 0);
		return 0;
	}
	if (!smp_load_acquire(&e->ready))
		return SEQ_SKIP;
	seq_printf(m, "job ring %s fence %llu:%llu hw %llu:%llu tgid %d tid %d client %llu context %u flags %u",
		   gpu->engines[e->engine].name, e->context, e->seqno, e->hw_context, e->hw_seqno, e->tgid, e->tid, e->client,
		   e->number, e->flags);
	seq_printf(m, " submit_ns %llu run_ns %llu start_ns %llu end_ns %llu due_ns %llu signalled_ns %llu status %d deps ",
		   e->submit_ns, e->run_ns, e->start_ns, e->end_ns, e->due_ns, e->signalled_ns, e->status);
	for (i = 0; i < e->ndeps; i++)
		seq_printf(m, "%s%llu:%llu", i ? "," : "", e->deps[i].context, e->deps[i].seqno);
	seq_puts(m, e->ndeps ? " comm " : "- comm ");
	seq_escape(m, e->comm, "\n\\");
	seq_putc(m, '\n');
	return 0;
}

static const struct seq_operations jobs_sops = { .start = jobs_start, .next = jobs_next, .stop = jobs_stop, .show = jobs_show };

static int jobs_open(struct inode *inode, struct file *file)
{
	int ret = seq_open(file, &jobs_sops);

	if (!ret)
		((struct seq_file *)file->private_data)->private = inode->i_private;
	return ret;
}

const struct file_operations vgpu_jobs_fops = {
	.owner = THIS_MODULE, .open = jobs_open, .read = seq_read, .llseek = seq_lseek, .release = seq_release,
};
