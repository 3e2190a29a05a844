// SPDX-License-Identifier: GPL-2.0
/*
 * debugfs: vgpu-<bdf> is the truth of one moment, "key value..." a line;
 * vgpu-<bdf>-clients is whose it is; vgpu-<bdf>-set takes the knobs. None touches runtime power management.
 */
#include <linux/debugfs.h>
#include <linux/seq_file.h>
#include <linux/uaccess.h>
#include <linux/mm.h>
#include "vgpu.h"

struct truth {
	u64 now, energy[2];
	u64 busy[VGPU_ENGINES], jobs[VGPU_ENGINES], wait[VGPU_ENGINES], sema[VGPU_ENGINES];
	struct { u64 rc6, act, req; } gt[VGPU_GTS];
	struct vgpu_gt gts[VGPU_GTS];
};

static void take_truth(struct vgpu *gpu, struct truth *t)
{
	unsigned long flags;
	unsigned int i;

	raw_spin_lock_irqsave(&gpu->lock, flags);
	t->now = ktime_get_ns();
	t->energy[0] = vgpu_energy_uj(gpu, 1, t->now);
	t->energy[1] = vgpu_energy_uj(gpu, 2, t->now);
	for (i = 0; i < gpu->gts; i++) {
		t->gts[i] = gpu->gt[i];
		t->gt[i].rc6 = vgpu_gt_rc6(gpu, i, t->now);
		t->gt[i].act = vgpu_gt_integral(&gpu->gt[i], false, t->now);
		t->gt[i].req = vgpu_gt_integral(&gpu->gt[i], true, t->now);
	}
	for (i = 0; i < gpu->ident->nengines; i++) {
		t->busy[i] = span_total(&gpu->engines[i].busy, t->now);
		t->jobs[i] = gpu->engines[i].jobs;
		t->wait[i] = vgpu_engine_sampled(&gpu->engines[i], false, t->now);
		t->sema[i] = vgpu_engine_sampled(&gpu->engines[i], true, t->now);
	}
	raw_spin_unlock_irqrestore(&gpu->lock, flags);
}

static const char *runtime_status(struct vgpu *gpu)
{
	switch (READ_ONCE(gpu->dev->power.runtime_status)) {
	case RPM_ACTIVE: return "active";
	case RPM_SUSPENDED: return "suspended";
	case RPM_RESUMING: return "resuming";
	case RPM_SUSPENDING: return "suspending";
	default: return "error";
	}
}

static int truth_show(struct seq_file *m, void *unused)
{
	struct vgpu *gpu = m->private;
	struct truth *t = kzalloc(sizeof(*t), GFP_KERNEL);
	unsigned int i;

	if (!t)
		return -ENOMEM;
	take_truth(gpu, t);
	seq_printf(m, "monotonic_ns %llu\nidentity %s\nborn_ns %llu\n", t->now, gpu->ident->name, gpu->born_ns);
	seq_printf(m, "runtime_status %s\n", runtime_status(gpu));
	seq_printf(m, "waking_accesses %lld\ntouches %lld\njob_wakes %lld\nsuspends %lld\nresumes %lld\n",
		   atomic64_read(&gpu->waking_accesses), atomic64_read(&gpu->touches), atomic64_read(&gpu->job_wakes),
		   atomic64_read(&gpu->suspends), atomic64_read(&gpu->resumes));
	seq_printf(m, "pmu_events %d\npmu_sampling_events %d\npmu_forcewake_events %d\n",
		   atomic_read(&gpu->pmu_events), atomic_read(&gpu->pmu_sampling_events), atomic_read(&gpu->pmu_forcewake_events));
	seq_printf(m, "interrupts %lld\n", atomic64_read(&gpu->irqs));
	seq_printf(m, "energy1_uj %llu\nenergy2_uj %llu\n", t->energy[0], t->energy[1]);
	seq_printf(m, "temp_mc %u\nvram_temp_mc %u\nfan_rpm %u\n", gpu->temp_mc, gpu->vram_temp_mc, gpu->fan_rpm);
	seq_printf(m, "wait_permille %u\nsema_permille %u\n", gpu->wait_permille, gpu->sema_permille);
	for (i = 0; i < gpu->gts; i++)	/* the integrals in MHz*us */
		seq_printf(m, "gt%u rc6_ns %llu act_mhz %u req_mhz %u act_integral %llu req_integral %llu throttle %u\n", i,
			   t->gt[i].rc6, t->gts[i].act_mhz, t->gts[i].req_mhz, div_u64(t->gt[i].act, 1000),
			   div_u64(t->gt[i].req, 1000), t->gts[i].throttle);
	for (i = 0; i < gpu->ident->nengines; i++)
		seq_printf(m, "engine %s gt%u busy %llu jobs %llu wait %llu sema %llu\n", gpu->engines[i].name,
			   gpu->engines[i].gt, t->busy[i], t->jobs[i], t->wait[i], t->sema[i]);
	kfree(t);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(truth);

/* ---- clients: who holds what, all of one moment ---- */
struct client_row {
	u64 id, busy[VGPU_ENGINES];
	struct vgpu_mem mem[VGPU_REGIONS];
	pid_t pid;
	bool closed;
	char name[65];
};

static void show_busy(struct seq_file *m, struct vgpu *gpu, const u64 *busy)
{
	int i;

	for (i = 0; i < gpu->ident->nengines; i++)
		seq_printf(m, " %s=%llu", gpu->engines[i].name, busy[i]);
}

static void show_client(struct seq_file *m, struct vgpu *gpu, const struct client_row *row)
{
	const struct vgpu_region *r;

	seq_printf(m, "client %llu pid %d open %d busy", row->id, row->pid, !row->closed);
	show_busy(m, gpu, row->busy);
	seq_puts(m, " mem");
	for (r = gpu->ident->regions; r->name; r++) {
		const struct vgpu_mem *mem = &row->mem[r->slot];

		seq_printf(m, " %s=%llu,%llu,%llu,%llu,%llu", r->name, mem->own + mem->shared, mem->shared, mem->resident,
			   mem->active, mem->purgeable);
	}
	seq_printf(m, " name %s\n", row->name);
}

static int clients_show(struct seq_file *m, void *unused)
{
	struct vgpu *gpu = m->private;
	u64 now, busy[VGPU_ENGINES], gone[VGPU_ENGINES];
	struct client_row *rows;
	struct vgpu_file *vf;
	unsigned long flags;
	u32 room = READ_ONCE(gpu->nclients) + 64, n = 0, k;
	int i;

	rows = kvmalloc_array(room, sizeof(*rows), GFP_KERNEL);
	if (!rows)
		return -ENOMEM;
	raw_spin_lock_irqsave(&gpu->lock, flags);
	now = ktime_get_ns();
	for (i = 0; i < gpu->ident->nengines; i++) {
		busy[i] = span_total(&gpu->engines[i].busy, now);
		gone[i] = gpu->gone_ns[i];
	}
	list_for_each_entry(vf, &gpu->clients, link) {
		struct client_row *row = &rows[n];

		if (n == room)
			break;
		n++;
		row->id = vf->client_id;
		row->pid = vf->pid;
		row->closed = vf->closed;
		memcpy(row->name, vf->name, sizeof(row->name));
		for (i = 0; i < gpu->ident->nengines; i++)
			row->busy[i] = vgpu_file_busy(vf, i, now);
		vgpu_file_memory(vf, row->mem);
	}
	k = gpu->nclients - n;
	raw_spin_unlock_irqrestore(&gpu->lock, flags);
	seq_printf(m, "monotonic_ns %llu\nleft_out %u\nengines", now, k);
	show_busy(m, gpu, busy);
	seq_puts(m, "\ngone");
	show_busy(m, gpu, gone);
	seq_puts(m, "\n");
	for (k = 0; k < n; k++)
		show_client(m, gpu, &rows[k]);
	kvfree(rows);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(clients);

/* with vgpu.lock held */
static int set_gt(struct vgpu *gpu, unsigned int gt, const char *what)
{
	struct vgpu_gt *g;
	char name[24];
	u32 v;
	int i;

	if (gt >= gpu->gts)
		return -EINVAL;
	g = &gpu->gt[gt];
	vgpu_gt_settle(g, ktime_get_ns());
	if (sscanf(what, "act_mhz %u", &v) == 1)
		g->act_mhz = v;
	else if (sscanf(what, "req_mhz %u", &v) == 1)
		g->req_mhz = v;
	else if (sscanf(what, "throttle %23s %u", name, &v) == 2) {
		for (i = 0; i < THR_COUNT; i++)
			if (!strcmp(name, vgpu_throttle_names[i])) {
				g->throttle = v ? g->throttle | BIT(i) : g->throttle & ~BIT(i);
				return 0;
			}
		return -EINVAL;
	} else
		return -EINVAL;
	return 0;
}

static int set_device(struct vgpu *gpu, const char *line)
{
	u64 now = ktime_get_ns();
	u32 v;
	int i;

	if (sscanf(line, "temp %u", &v) == 1) {
		gpu->temp_mc = v;
	} else if (sscanf(line, "vram_temp %u", &v) == 1) {
		gpu->vram_temp_mc = v;
	} else if (sscanf(line, "fan %u", &v) == 1) {
		gpu->fan_rpm = v;
	} else if (sscanf(line, "wait_permille %u", &v) == 1 && v <= 1000) {
		for (i = 0; i < gpu->ident->nengines; i++)
			vgpu_engine_settle(&gpu->engines[i], now);
		gpu->wait_permille = v;
	} else if (sscanf(line, "sema_permille %u", &v) == 1 && v <= 1000) {
		for (i = 0; i < gpu->ident->nengines; i++)
			vgpu_engine_settle(&gpu->engines[i], now);
		gpu->sema_permille = v;
	} else {
		return -EINVAL;
	}
	return 0;
}

static ssize_t set_write(struct file *f, const char __user *user, size_t len, loff_t *pos)
{
	struct vgpu *gpu = f->private_data;
	unsigned long flags;
	unsigned int gt;
	char line[80];
	int at = 0, ret;

	if (len >= sizeof(line))
		return -EINVAL;
	if (copy_from_user(line, user, len))
		return -EFAULT;
	line[len] = 0;
	if (sscanf(line, "log_jobs %u", &gt) == 1) {	/* it allocates: not under the lock */
		ret = vgpu_joblog_resize(gpu, gt);
		return ret ? ret : len;
	}
	raw_spin_lock_irqsave(&gpu->lock, flags);
	if (sscanf(line, "gt%u %n", &gt, &at) == 1 && at)
		ret = set_gt(gpu, gt, line + at);
	else
		ret = set_device(gpu, line);
	raw_spin_unlock_irqrestore(&gpu->lock, flags);
	return ret ? ret : len;
}

static const struct file_operations set_fops = { .owner = THIS_MODULE, .open = simple_open, .write = set_write };

void vgpu_truth_register(struct vgpu *gpu)
{
	char name[40];

	snprintf(name, sizeof(name), "vgpu-%s", dev_name(gpu->dev));
	gpu->truth = debugfs_create_file(name, 0400, NULL, gpu, &truth_fops);
	snprintf(name, sizeof(name), "vgpu-%s-set", dev_name(gpu->dev));
	gpu->set = debugfs_create_file(name, 0200, NULL, gpu, &set_fops);
	snprintf(name, sizeof(name), "vgpu-%s-clients", dev_name(gpu->dev));
	gpu->clients_file = debugfs_create_file(name, 0400, NULL, gpu, &clients_fops);
	snprintf(name, sizeof(name), "vgpu-%s-jobs", dev_name(gpu->dev));
	gpu->jobs_file = debugfs_create_file(name, 0400, NULL, gpu, &vgpu_jobs_fops);
}

void vgpu_truth_unregister(struct vgpu *gpu)
{
	debugfs_remove(gpu->jobs_file);
	debugfs_remove(gpu->clients_file);
	debugfs_remove(gpu->set);
	debugfs_remove(gpu->truth);
}
