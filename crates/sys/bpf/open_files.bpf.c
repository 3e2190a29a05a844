// SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only
/*
 * Open files of the machine that are device nodes of a given set: a program that the kernel calls for every open file of every
 * task (iter/task_file, kernel/bpf/task_iter.c), and that writes a record of those asked for.
 *
 * It answers as a walk through /proc/PID/fd does: for the table of files of each thread group's leader, by the device number that
 * stat() gives for such a link. Rebuild with `cargo xtask bpf`.
 */
#include "kernel.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* The devices asked for, as the kernel numbers them inside: major in the upper 12 bits, minor in the lower 20
 * (include/linux/kdev_t.h). */
struct {
	NUMBER(type, BPF_MAP_TYPE_HASH);
	NUMBER(max_entries, 256);
	TYPE(key, u32);
	TYPE(value, u8);
} devices SEC(".maps");

/* Read by crates/sys/src/bpf/record.rs. */
struct record {
	u64 start_boottime;
	u32 pid;
	u32 fd;
	u32 major;
	u32 minor;
};

SEC("iter/task_file")
int open_files(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct inode *inode;
	u32 device;

	/* The last call, after all files, has neither. */
	if (!task || !file)
		return 0;
	inode = file->f_inode;
	if (!inode || (inode->i_mode & S_IFMT) != S_IFCHR)
		return 0;
	device = inode->i_rdev;
	if (!bpf_map_lookup_elem(&devices, &device))
		return 0;
	/*
	 * Threads with a table of their own (unshare(CLONE_FILES)) come too, and all threads whose leader has ended. /proc/PID/fd shows
	 * neither: it is the leader's table (proc_readfd_common, fs/proc/fd.c).
	 */
	if (task->pid != task->tgid)
		return 0;

	struct record record = {
		.start_boottime = task->start_boottime,
		.pid = task->tgid,
		.fd = ctx->fd,
		.major = device >> 20,
		.minor = device & 0xfffff,
	};
	/* Where the buffer is full, the kernel calls again for this file at the next read (bpf_seq_read, kernel/bpf/bpf_iter.c). */
	bpf_seq_write(ctx->meta->seq, &record, sizeof(record));
	return 0;
}
