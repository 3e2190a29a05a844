// SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only
/*
 * Open files of the machine that are device nodes of a given set, as records. Two programs tell the same: the first is called once a
 * task and reads its table of files itself; the second is called for every open file, which costs twice as much, but needs no
 * helper of the others, and has no limit a task.
 *
 * They answer as a walk through /proc/PID/fd does: for the table of files of each thread group's leader, by the device number that
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

/* Structures of this file's own have no tag: one with a tag is looked for in the kernel's type information (crates/sys/src/bpf/btf.rs). */

/* Read by crates/sys/src/bpf/record.rs. */
typedef struct {
	u64 start_boottime;
	u32 pid;
	u32 fd;
	u32 major;
	u32 minor;
} record_t;

/* Stands for a file number where a task has more of the files asked for than MOST. */
#define TOO_MANY 0xffffffff

/* So many records of one task are written, all at once: 24 KiB of the 32 that the kernel has room for where pages are of 4 KiB
 * (bpf_seq_read, kernel/bpf/bpf_iter.c). */
#define MOST 1024

/* Bits of a word of fdtable.open_fds. */
#define WORD 64

/* No table has more words: its pointers take less than 2 GiB (kvmalloc, mm/util.c). bpf_loop takes twice as many. */
#define WORDS (1 << 22)

/* What does not fit the stack. There is one: the iterator is read by one thread at a time, and a call ends before the next begins. */
typedef struct {
	struct file *files[WORD];
	record_t records[MOST];
	u32 count;
} scratch_t;

struct {
	NUMBER(type, BPF_MAP_TYPE_ARRAY);
	NUMBER(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, scratch_t);
} scratches SEC(".maps");

/* A task's table of files; the two pointers are the kernel's and read by bpf_probe_read_kernel alone. */
typedef struct {
	scratch_t *scratch;
	struct file **files;
	u64 *open_fds;
	u64 start_boottime;
	u32 pid;
	/* The word that is looked at, and its number. */
	u32 word;
	u64 open;
} table_t;

/* Notes a file that is one of those asked for. False when there are too many. */
INLINE int note(table_t *table, u32 device, u32 fd)
{
	scratch_t *scratch = table->scratch;
	u32 count = scratch->count;
	record_t *record;

	if (count >= MOST) {
		scratch->records[0].fd = TOO_MANY;
		return 0;
	}
	record = &scratch->records[count];
	record->start_boottime = table->start_boottime;
	record->pid = table->pid;
	record->fd = fd;
	record->major = device >> 20;
	record->minor = device & 0xfffff;
	scratch->count = count + 1;
	return 1;
}

/* One file of a word. */
static long each_file(u32 i, table_t *table)
{
	struct inode *inode;
	struct file *file;
	u32 device;
	u16 mode;

	if (i >= WORD || !(table->open >> i))
		return 1;
	file = table->scratch->files[i];
	if (!file || bpf_probe_read_kernel(&inode, sizeof(inode), &file->f_inode) || !inode)
		return 0;
	if (bpf_probe_read_kernel(&mode, sizeof(mode), &inode->i_mode) || (mode & S_IFMT) != S_IFCHR)
		return 0;
	if (bpf_probe_read_kernel(&device, sizeof(device), &inode->i_rdev) || !bpf_map_lookup_elem(&devices, &device))
		return 0;
	return !note(table, device, table->word * WORD + i);
}

/* The files of one word of open_fds. */
static long each_word(u32 word, table_t *table)
{
	scratch_t *scratch = table->scratch;
	u64 open;

	if (bpf_probe_read_kernel(&open, sizeof(open), table->open_fds + word))
		return 1;
	if (!open)
		return 0;
	/* Tables are made of whole words (alloc_fdtable, fs/file.c), so there are as many pointers as bits. */
	if (bpf_probe_read_kernel(scratch->files, sizeof(scratch->files), table->files + (u64)word * WORD))
		return 1;
	table->word = word;
	table->open = open;
	/* A callback is verified once, the body of a loop once for each round. */
	bpf_loop(WORD, each_file, table, 0);
	return 0;
}

/*
 * The task stays while the program runs: the iterator holds it. Its table does not: iterators run under rcu_read_lock(), but a task that
 * ends gives its files_struct back at once (put_files_struct, fs/file.c), and a file that is closed may be another's before its pointer
 * is followed (SLAB_TYPESAFE_BY_RCU). Nothing here faults at that: loads through type information and bpf_probe_read_kernel answer with
 * zero or an error for memory that is not there. What may come of it is a record of a file that the process does not have, and those
 * who look at it then find that it is none.
 */
SEC("iter/task")
int tables(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct files_struct *files;
	scratch_t *scratch;
	struct fdtable *fdt;
	u32 words, size, zero = 0;

	/* The last call, after all tasks, has none. */
	if (!task || task->pid != task->tgid)
		return 0;
	files = task->files;
	if (!files)
		return 0;
	fdt = files->fdt;
	scratch = bpf_map_lookup_elem(&scratches, &zero);
	if (!fdt || !scratch)
		return 0;

	table_t table = {
		.scratch = scratch,
		.files = fdt->fd,
		.open_fds = fdt->open_fds,
		.start_boottime = task->start_boottime,
		.pid = task->tgid,
	};
	scratch->count = 0;
	words = fdt->max_fds / WORD;
	if (words > WORDS)
		words = WORDS;
	bpf_loop(words, each_word, &table, 0);
	size = scratch->count;
	if (!size || size > MOST)
		return 0;
	/* Where the buffer is full, the kernel calls again for this task at the next read. */
	bpf_seq_write(ctx->meta->seq, scratch->records, size * sizeof(record_t));
	return 0;
}

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

	record_t record = {
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
