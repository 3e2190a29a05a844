// vgpu-load jobs: so many jobs, in an order that is the same each time, so that a test knows what it should see.
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "load.h"

// vgpu/vgpu_uapi.h
struct exec { uint32_t engine, count; uint64_t duration_ns; uint32_t flags, context, ndeps, handle, deps[4]; };
struct wait { uint32_t handle, flags; uint64_t timeout_ns; int32_t status; uint32_t pad; };
#define EXEC _IOWR('d', 0x46, struct exec)
#define WAIT _IOWR('d', 0x47, struct wait)
enum { EXEC_HANG = 2, EXEC_PARALLEL = 4, EXEC_HANDLE = 8, EXEC_FAIL = 16, EXEC_NOTHING = 32 };
enum { NODES = 4, RINGS = 8, CONTEXTS = 64, LENGTHS = 8 };

static struct {
	char *node[NODES], *ring[RINGS];
	const char *comm;
	int nodes, rings, lengths, engine[RINGS];
	uint64_t length_ns[LENGTHS], gap_ns;
	long count, hang, parallel, fail, nothing;
	int contexts, processes, batch, chain, sync, wait;
} o = { .comm = "vgpu-jobs", .count = 1, .hang = -1, .contexts = 1, .processes = 1, .batch = 1, .wait = 1 };

// What one process keeps: of each queue and lane the handle of its last job, and how many jobs there were.
static int fds[NODES];
static uint32_t last[NODES][RINGS][CONTEXTS][2];
static unsigned long made[NODES][RINGS];

static void done(int fd, uint32_t handle, unsigned long *failed)
{
	struct wait w = { .handle = handle, .timeout_ns = 600000000000ull };

	while (ioctl(fd, WAIT, &w))
		if (errno != EINTR)
			die("wait");
	*failed += w.status != 0;
}

static int is_kth(long step, long k) { return k && step % k == k - 1; }

// Job k goes to node k, ring k / nodes, context k / (nodes * rings), each modulo how many there are; its length is k's too.
static void work(int out)
{
	unsigned long failed = 0;
	uint64_t begun = now(), next = begun, submitted;
	uint32_t previous = 0;
	char line[1024];
	int at, n, r, c, p;
	long k, step;

	for (k = 0, step = 0; k < o.count; step++) {
		struct exec e = { 0 };
		uint32_t *slot;

		n = step % o.nodes;
		r = step / o.nodes % o.rings;
		c = step / (o.nodes * o.rings) % o.contexts;
		p = is_kth(step, o.parallel);
		slot = &last[n][r][c][p];
		e.engine = o.engine[r];
		e.count = o.count - k < o.batch ? o.count - k : o.batch;
		e.duration_ns = o.length_ns[step % o.lengths];
		e.context = c;
		e.flags = EXEC_HANDLE | (p ? EXEC_PARALLEL : 0) | (step == o.hang ? EXEC_HANG : 0) | (is_kth(step, o.fail) ? EXEC_FAIL : 0) |
			  (is_kth(step, o.nothing) ? EXEC_NOTHING : 0);
		e.handle = *slot;
		if (o.chain && previous) {
			e.ndeps = 1;
			e.deps[0] = previous;
		}
		if (ioctl(fds[n], EXEC, &e))
			die("exec");
		*slot = previous = e.handle;
		made[n][r] += e.count;
		k += e.count;
		if (o.sync)
			done(fds[n], e.handle, &failed);
		next += o.gap_ns;
		if (o.gap_ns && next > now())
			sleep_until(next);
	}
	submitted = now();
	for (n = 0; o.wait && !o.sync && n < o.nodes; n++)
		for (r = 0; r < o.rings; r++)
			for (c = 0; c < o.contexts; c++)
				for (p = 0; p < 2; p++)
					if (last[n][r][c][p])
						done(fds[n], last[n][r][c][p], &failed);
	at = snprintf(line, sizeof(line), "process %d submit_us %lu total_us %lu failed_waits %lu jobs %ld", getpid(),
		      (unsigned long)(submitted - begun) / 1000, (unsigned long)(now() - begun) / 1000, failed, o.count);
	for (n = 0; n < o.nodes; n++)
		for (r = 0; r < o.rings; r++)
			at += snprintf(line + at, sizeof(line) - at, " %s:%s=%lu", o.node[n], o.ring[r], made[n][r]);
	prctl(PR_GET_NAME, line + at + snprintf(line + at, sizeof(line) - at - 20, " comm "));
	strcat(line, "\n");
	if (write(out, line, strlen(line)) < 0)
		die("write");
}

static int help(void)
{
	fputs("usage: vgpu-load jobs [OPTIONS] NODE[,NODE...]\n"
	      "  --count N        jobs of each process (1)\n"
	      "  --rings A,B      in turn (the first)\n"
	      "  --us A,B         lengths in microseconds, in turn (100)\n"
	      "  --gap US         a submission each so often (as fast as it goes)\n"
	      "  --batch B        jobs a submission (1)\n"
	      "  --contexts C     in turn (1)\n"
	      "  --processes P    each does it all; the comm gets -0, -1 (1, comm as it is)\n"
	      "  --comm NAME      of the processes (vgpu-jobs)\n"
	      "  --chain          each submission's first job waits for the one submitted before, wherever that is\n"
	      "  --hang K         submission K, from 0, never ends: the module's timeout_ms ends it\n"
	      "  --parallel K     each K-th submission runs beside its engine's other jobs\n"
	      "  --fail K         each K-th submission fails in run_job, with EIO\n"
	      "  --nothing K      of each K-th submission run_job finds nothing to do, and returns no fence\n"
	      "  --sync           wait for each submission before the next\n"
	      "  --no-wait        end without waiting for the jobs\n"
	      "In the end each process says: process PID submit_us N total_us N failed_waits N jobs N NODE:RING=N... comm NAME\n", stderr);
	return 2;
}

static int split(char *text, char **to, int room)
{
	int n = 0;
	char *word;

	for (word = strtok(text, ","); word; word = strtok(NULL, ","))
		if (n == room)
			exit(help());
		else
			to[n++] = word;
	return n;
}

int jobs(int argc, char **argv)
{
	static const struct option options[] = {
		{ "count", 1, 0, 'c' }, { "rings", 1, 0, 'r' }, { "us", 1, 0, 'u' }, { "gap", 1, 0, 'g' }, { "batch", 1, 0, 'b' },
		{ "contexts", 1, 0, 'x' }, { "processes", 1, 0, 'p' }, { "comm", 1, 0, 'm' }, { "chain", 0, 0, 'd' }, { "hang", 1, 0, 'h' },
		{ "parallel", 1, 0, 'l' }, { "fail", 1, 0, 'f' }, { "nothing", 1, 0, 'o' }, { "sync", 0, 0, 's' }, { "no-wait", 0, 0, 'n' }, { 0 } };
	char *lengths[LENGTHS] = { "100" }, comm[40];
	int c, i, k, begin[2], status, ret = 0;

	o.ring[0] = "0";
	o.rings = o.lengths = 1;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (c) {
		case 'c': o.count = atol(optarg); break;
		case 'r': o.rings = split(optarg, o.ring, RINGS); break;
		case 'u': o.lengths = split(optarg, lengths, LENGTHS); break;
		case 'g': o.gap_ns = atof(optarg) * 1000; break;
		case 'b': o.batch = atoi(optarg); break;
		case 'x': o.contexts = atoi(optarg); break;
		case 'p': o.processes = atoi(optarg); break;
		case 'm': o.comm = optarg; break;
		case 'd': o.chain = 1; break;
		case 'h': o.hang = atol(optarg); break;
		case 'f': o.fail = atol(optarg); break;
		case 'o': o.nothing = atol(optarg); break;
		case 'l': o.parallel = atol(optarg); break;
		case 's': o.sync = 1; break;
		case 'n': o.wait = 0; break;
		default: return help();
		}
	if (optind + 1 != argc || o.count < 1 || o.batch < 1 || o.contexts < 1 || o.contexts > CONTEXTS || o.processes < 1 ||
	    o.rings < 1 || o.lengths < 1)
		return help();
	o.nodes = split(argv[optind], o.node, NODES);
	for (i = 0; i < o.rings; i++)
		o.engine[i] = engine_number(o.ring[i]);
	for (i = 0; i < o.lengths; i++)
		o.length_ns[i] = atof(lengths[i]) * 1000;
	if (pipe(begin))
		die("pipe");
	for (i = 0; i < o.processes; i++)
		if (!child()) {
			char byte;

			if (o.processes > 1)
				snprintf(comm, sizeof(comm), "%s-%d", o.comm, i);
			else
				snprintf(comm, sizeof(comm), "%s", o.comm);
			prctl(PR_SET_NAME, comm);
			for (k = 0; k < o.nodes; k++)
				fds[k] = open_node(o.node[k]);
			close(begin[1]);
			if (read(begin[0], &byte, 1) < 0)	// the end of the pipe: all are there
				die("read");
			work(1);
			_exit(0);
		}
	close(begin[1]);
	while (wait(&status) > 0)
		if (status)
			ret = 1;
	return ret;
}
