/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0-only */
/*
 * What the programs here use of the kernel: helpers by their numbers (include/uapi/linux/bpf.h, enum bpf_func_id) and, of its
 * structures, the fields that are read. Where a field lies is found when a program is loaded, in the running kernel's own type
 * information (preserve_access_index), so order and neighbours of the fields below mean nothing.
 */
#ifndef GPUSCOPE_KERNEL_H
#define GPUSCOPE_KERNEL_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))

/* Map definitions in BTF: numbers are lengths of arrays, types are pointers. */
#define NUMBER(name, value) int (*name)[value]
#define TYPE(name, type) type *name

#define BPF_MAP_TYPE_HASH 1
#define BPF_MAP_TYPE_ARRAY 2
#define BPF_MAP_TYPE_LRU_HASH 9
#define BPF_MAP_TYPE_RINGBUF 27

#define BPF_NOEXIST 1
#define BPF_RB_NO_WAKEUP 1

#define EEXIST 17

#define INLINE static inline __attribute__((always_inline))

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_map_update_elem)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*const bpf_map_delete_elem)(void *map, const void *key) = (void *)3;
static u64 (*const bpf_ktime_get_ns)(void) = (void *)5;
static u32 (*const bpf_get_smp_processor_id)(void) = (void *)8;
static u64 (*const bpf_get_current_pid_tgid)(void) = (void *)14;
static u64 (*const bpf_get_current_uid_gid)(void) = (void *)15;
static long (*const bpf_get_current_comm)(void *to, u32 size) = (void *)16;
static u64 (*const bpf_get_current_task)(void) = (void *)35;
static u64 (*const bpf_get_current_cgroup_id)(void) = (void *)80;
static long (*const bpf_probe_read_kernel)(void *to, u32 size, const void *from) = (void *)113;
static long (*const bpf_probe_read_kernel_str)(void *to, u32 size, const void *from) = (void *)115;
static long (*const bpf_seq_write)(void *seq_file, const void *data, u32 len) = (void *)127;
static void *(*const bpf_ringbuf_reserve)(void *ring, u64 size, u64 flags) = (void *)131;
static void (*const bpf_ringbuf_submit)(void *record, u64 flags) = (void *)132;
static long (*const bpf_loop)(u32 times, void *each, void *context, u64 flags) = (void *)181;

/* include/uapi/linux/stat.h */
#define S_IFMT 0170000
#define S_IFCHR 0020000

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* include/linux/fs.h */
struct inode {
	u16 i_mode;
	u32 i_rdev;
};

struct file {
	struct inode *f_inode;
};

/* include/linux/fdtable.h */
struct fdtable {
	u32 max_fds;
	struct file **fd;
	u64 *open_fds;
};

struct files_struct {
	struct fdtable *fdt;
};

/* include/linux/sched.h */
struct task_struct {
	int pid;
	int tgid;
	u64 start_boottime;
	struct files_struct *files;
};

struct seq_file;

/* include/linux/bpf.h */
struct bpf_iter_meta {
	struct seq_file *seq;
};

/* kernel/bpf/task_iter.c */
struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	u32 fd;
	struct file *file;
};

#pragma clang attribute pop

#endif
