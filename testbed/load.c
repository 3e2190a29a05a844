// vgpu-load [OPTIONS] NODE ENGINE DUTY_PERCENT JOB_US SECONDS [stay]: hold an engine (name or number) at a known duty.
// vgpu-load churn NODE RATE SECONDS: processes that come and go, some with a client.
// vgpu-load jobs [OPTIONS] NODE[,NODE...]: jobs by number, from several processes, rings and contexts (load_jobs.c).
// vgpu-load display CARD FLIPS: show two dumb buffers in turn, on any driver with a display (load_display.c).
// vgpu-load idle COUNT FILES SECONDS: processes with files and without a client.
// "stay" keeps the node open afterwards, until killed. Options are below, in usage().
#define _GNU_SOURCE
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "load.h"

// vgpu/vgpu_uapi.h
struct submit { uint32_t engine, count; uint64_t duration_ns; uint32_t flags, pad; };
struct alloc { uint64_t bytes; uint32_t region, flags, name, pad; };
struct buffer { uint32_t name, pad; };
struct client_name { uint64_t len, text; };
#define SUBMIT _IOW('d', 0x40, struct submit)
#define ALLOC _IOWR('d', 0x41, struct alloc)
#define IMPORT _IOW('d', 0x42, struct buffer)
#define SET_NAME _IOW('d', 0x44, struct client_name)
#define CORE_NAME _IOWR('d', 0xd1, struct client_name)	// DRM_IOCTL_SET_CLIENT_NAME of drm.h, Linux 6.14
#define CLIENT _IOR('d', 0x45, uint64_t)
enum { LAZY = 1, PURGEABLE = 2, ACTIVE = 4 };

uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

void sleep_until(uint64_t at)
{
	struct timespec t = { at / 1000000000, at % 1000000000 };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

void die(const char *what)
{
	perror(what);
	exit(1);
}

int engine_number(const char *s)
{
	static const char *const names[][6] = {
		{ "rcs0", "bcs0", "vcs0", "vcs1", "vecs0", "ccs0" }, { "gfx", "compute", "dma", "dec", "enc", "jpeg" }, { "panthor" } };
	unsigned int i, k;
	char *end;
	long n = strtol(s, &end, 10);

	if (!*end && end != s)
		return n;
	for (k = 0; k < 3; k++)
		for (i = 0; i < 6; i++)
			if (names[k][i] && !strcmp(s, names[k][i]))
				return i;
	fprintf(stderr, "no engine %s: rcs0 bcs0 vcs0 vcs1 vecs0 ccs0, gfx compute dma dec enc jpeg, panthor\n", s);
	exit(2);
}

int open_node(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		die(path);
	return fd;
}

static uint64_t client_of(int fd)
{
	uint64_t id = 0;

	if (ioctl(fd, CLIENT, &id))
		die("client");
	return id;
}

// a child that does not outlive its parent
pid_t child(void)
{
	pid_t parent = getpid(), pid = fork();

	if (pid < 0)
		die("fork");
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(0);
	}
	return pid;
}

// BYTES[K|M|G][:REGION[:lazy+purgeable+active]]
static struct alloc parse_alloc(const char *text)
{
	struct alloc a = { 0 };
	char *end;

	a.bytes = strtoull(text, &end, 0);
	switch (*end) {
	case 'G': a.bytes <<= 10; /* fall through */
	case 'M': a.bytes <<= 10; /* fall through */
	case 'K': a.bytes <<= 10; end++;
	}
	if (*end == ':') {
		if (end[1] >= '0' && end[1] <= '3') {
			a.region = end[1] - '0';
			end += 2;
		} else {
			a.region = !strncmp(end + 1, "local", 5) ? 1 : !strncmp(end + 1, "other", 5) ? 2 : 0;
			if (!a.region && strncmp(end + 1, "system", 6))
				goto wrong;
			end += a.region ? 6 : 7;
		}
	}
	if (*end == ':') {
		a.flags = (strstr(end, "lazy") ? LAZY : 0) | (strstr(end, "purgeable") ? PURGEABLE : 0) | (strstr(end, "active") ? ACTIVE : 0);
		if (!a.flags)
			goto wrong;
		end = strchr(end, 0);
	}
	if (!*end)
		return a;
wrong:
	fprintf(stderr, "not BYTES[K|M|G][:system|local|other][:lazy+purgeable+active]: %s\n", text);
	exit(2);
}

// the device's other node: its card for a render node and the other way round
static void other_node(const char *node, char *path, size_t room)
{
	const char *name = strrchr(node, '/') ? strrchr(node, '/') + 1 : node;
	const char *want = strncmp(name, "card", 4) ? "card" : "renderD";
	char dir[256];
	struct dirent *e;
	struct stat st;
	DIR *d;

	if (stat(node, &st))
		die(node);
	snprintf(dir, sizeof(dir), "/sys/dev/char/%u:%u/device/drm", major(st.st_rdev), minor(st.st_rdev));
	d = opendir(dir);
	while (d && (e = readdir(d)))
		if (!strncmp(e->d_name, want, strlen(want))) {
			snprintf(path, room, "/dev/dri/%s", e->d_name);
			closedir(d);
			return;
		}
	fprintf(stderr, "%s has no other node\n", node);
	exit(1);
}

static void send_fd(int sock, int fd)
{
	char byte = 0, room[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec io = { &byte, 1 };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof(room) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	if (sendmsg(sock, &m, 0) != 1)
		die("sendmsg");
}

static void receive_fd(int sock)
{
	char byte, room[CMSG_SPACE(sizeof(int))];
	struct iovec io = { &byte, 1 };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof(room) };

	if (recvmsg(sock, &m, 0) != 1 || !CMSG_FIRSTHDR(&m))
		die("recvmsg");
}

struct load { int fd[2], nfd, engine; uint64_t job, end; double duty; volatile uint64_t *jobs; };

// jobs in turn on each descriptor, "part" of the duty; nothing at no duty
static void run(const struct load *l, double part, int slot)
{
	uint64_t next = now();
	int turn = 0;

	if (l->duty <= 0) {
		sleep_until(l->end);
		return;
	}
	while (now() < l->end) {
		struct submit s = { l->engine, 1, l->job, 1, 0 };

		if (ioctl(l->fd[turn], SUBMIT, &s))
			die("submit");
		l->jobs[slot]++;
		turn = (turn + 1) % l->nfd;
		next += l->job / (l->duty * part);
		if (next > now())
			sleep_until(next);
	}
}

/* ---- processes that come and go; linked statically: with fewer mappings a fork takes two thirds of the time ---- */
struct life { int32_t pid; int32_t swapped; uint64_t client, from_ns, to_ns; };

// every 4th opens a node for a moment; every 40th for seconds, half of these by putting it where /dev/null was
static void live(const char *node, unsigned int n, int out)
{
	struct life life = { .pid = getpid() };
	unsigned int r = n * 2654435761u;
	int fd, files[8], i;

	if (n % 40 == 0) {
		life.swapped = n / 40 % 2;
		for (i = 0; i < 8; i++)
			files[i] = open("/dev/null", O_RDONLY);
		if (life.swapped)
			usleep(200000 + r % 200000);
		fd = open_node(node);
		if (life.swapped) {	// as many descriptors as before, one of them another file
			dup2(fd, files[3]);
			close(fd);
			fd = files[3];
		}
		life.client = client_of(fd);
		life.from_ns = now();
		sleep_until(life.from_ns + 2100000000ull + (r % 1500) * 1000000ull);
		life.to_ns = now();
		if (write(out, &life, sizeof(life)) != sizeof(life))
			_exit(1);
	} else if (n % 4 == 0) {
		fd = open_node(node);
		usleep(r % 100000);
	} else {
		usleep(r % 20000);
	}
	_exit(0);
}

static void tell(int in)
{
	struct life life;

	while (read(in, &life, sizeof(life)) == sizeof(life)) {
		printf("lived pid %d client %lu from_ns %lu to_ns %lu swapped %d\n", life.pid, (unsigned long)life.client,
		       (unsigned long)life.from_ns, (unsigned long)life.to_ns, life.swapped);
		fflush(stdout);
	}
}

static int churn(const char *node, double rate, double seconds)
{
	uint64_t next = now(), end = next + (uint64_t)(seconds * 1e9), began = next;
	unsigned int n = 0;
	int pipes[2];

	if (pipe2(pipes, O_CLOEXEC))
		die("pipe");
	fcntl(pipes[0], F_SETFL, O_NONBLOCK);
	printf("ready\n");
	fflush(stdout);
	for (; now() < end; n++) {
		if (!child())
			live(node, n, pipes[1]);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		tell(pipes[0]);
		next += 1e9 / rate;
		if (next > now())
			sleep_until(next);
	}
	began = now() - began;
	while (waitpid(-1, NULL, 0) > 0)
		;
	tell(pipes[0]);
	printf("churn forked %u rate %.1f\n", n, n / (began / 1e9));
	return 0;
}

static int idle(int count, int files, double seconds)
{
	int i, k;

	for (i = 0; i < count; i++)
		if (!child()) {
			for (k = 0; k < files; k++)
				open("/dev/null", O_RDONLY);
			for (;;)
				pause();
		}
	printf("ready\n");
	fflush(stdout);
	sleep_until(now() + (uint64_t)(seconds * 1e9));
	return 0;	// the children end with it
}

static int usage(void)
{
	fputs("usage: vgpu-load [OPTIONS] NODE ENGINE DUTY% JOB_US SECONDS [stay]\n"
	      "       vgpu-load churn NODE RATE SECONDS\n"
	      "       vgpu-load idle COUNT FILES SECONDS\n"
	      "       vgpu-load display CARD FLIPS\n"
	      "       vgpu-load jobs [OPTIONS] NODE[,NODE...]   (--help says more)\n"
	      "  --alloc BYTES[K|M|G][:system|local|other][:lazy+purgeable+active]   several; without, 64M:system\n"
	      "  --shared        a child with a client of its own holds the same buffers\n"
	      "  --name TEXT     the client's name, as a driver may set one: spaces and all\n"
	      "  --core-name TEXT   the same by the DRM core's ioctl, which refuses spaces\n"
	      "  --dup N         N more descriptors of the client\n"
	      "  --fork          a child inherits the client and does half of the jobs\n"
	      "  --pass          a child that was there before gets the descriptor by SCM_RIGHTS\n"
	      "  --elder         a child opens everything; this process, which is older, gets the descriptor by SCM_RIGHTS\n"
	      "  --both          open the device's other node too: a second client, which does half of the jobs\n"
	      "  --stay          keep everything open afterwards, until killed\n"
	      "With options, it first says \"client ID node PATH pids PID,...\" for each client, then \"ready\".\n", stderr);
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "alloc", 1, 0, 'a' }, { "shared", 0, 0, 's' }, { "name", 1, 0, 'n' }, { "core-name", 1, 0, 'c' }, { "dup", 1, 0, 'd' },
		{ "fork", 0, 0, 'f' }, { "pass", 0, 0, 'p' }, { "elder", 0, 0, 'e' }, { "both", 0, 0, 'b' },
		{ "stay", 0, 0, 'k' }, { 0 } };
	struct alloc memory[16] = { { 64 << 20, 0, 0, 0, 0 } };
	int nalloc = 0, dups = 0, shared = 0, fork_too = 0, pass = 0, elder = 0, both = 0, stay = 0, talk, i, o;
	const char *name = NULL;
	unsigned long how = SET_NAME;
	char other[300];
	struct load l = { .nfd = 1 };
	pid_t heir = 0, sharer = 0, receiver = 0;
	int sock[2], back[2];
	uint64_t start, shared_id = 0;

	if (argc > 1 && !strcmp(argv[1], "jobs"))
		return jobs(argc - 1, argv + 1);
	if (argc == 4 && !strcmp(argv[1], "display"))
		return display(argv[2], atol(argv[3]));
	if (argc == 5 && !strcmp(argv[1], "churn"))
		return churn(argv[2], atof(argv[3]), atof(argv[4]));
	if (argc == 5 && !strcmp(argv[1], "idle"))
		return idle(atoi(argv[2]), atoi(argv[3]), atof(argv[4]));
	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (o) {
		case 'a':
			if (nalloc == 16)
				return usage();
			memory[nalloc++] = parse_alloc(optarg);
			break;
		case 's': shared = 1; break;
		case 'n': name = optarg; how = SET_NAME; break;
		case 'c': name = optarg; how = CORE_NAME; break;
		case 'd': dups = atoi(optarg); break;
		case 'f': fork_too = 1; break;
		case 'p': pass = 1; break;
		case 'e': pass = elder = 1; break;
		case 'b': both = 1; break;
		case 'k': stay = 1; break;
		default: return usage();
		}
	talk = optind > 1;
	if (!nalloc)
		nalloc = 1;
	argv += optind - 1;
	argc -= optind - 1;
	if (argc < 6)
		return usage();
	if (pass) {
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock))
			die("socketpair");
		receiver = child();
		if (elder)	// the child goes on as the load
			receiver = receiver ? 0 : getppid();
		if (!receiver) {
			receive_fd(sock[1]);
			if (write(sock[1], "", 1) != 1)
				die("write");
			for (;;)
				pause();
		}
	}
	l.fd[0] = open_node(argv[1]);
	if (both) {
		other_node(argv[1], other, sizeof(other));
		l.fd[l.nfd++] = open_node(other);
	}
	l.engine = engine_number(argv[2]);
	l.duty = atof(argv[3]) / 100;
	l.job = strtoull(argv[4], NULL, 10) * 1000;
	for (i = 0; i < nalloc; i++)
		if (memory[i].bytes && ioctl(l.fd[0], ALLOC, &memory[i]))
			die("alloc");
	if (name) {
		struct client_name n = { strlen(name), (uintptr_t)name };

		if (ioctl(l.fd[0], how, &n))
			die("name");
	}
	for (i = 0; i < dups; i++)
		if (dup(l.fd[0]) < 0)
			die("dup");
	if (pass) {
		char byte;

		send_fd(sock[0], l.fd[0]);
		if (read(sock[0], &byte, 1) != 1)
			die("helper");
	}
	if (shared) {	// its copy of this client's descriptors must go
		if (pipe2(back, O_CLOEXEC))
			die("pipe");
		sharer = child();
		if (!sharer) {
			int own;

			for (i = 3; i < 3 + 64 + dups; i++)
				if (i != back[1])
					close(i);
			own = open_node(argv[1]);
			for (i = 0; i < nalloc; i++) {
				struct buffer b = { memory[i].name, 0 };

				if (memory[i].bytes && ioctl(own, IMPORT, &b))
					die("import");
			}
			shared_id = client_of(own);
			if (write(back[1], &shared_id, sizeof(shared_id)) != sizeof(shared_id))
				die("write");
			for (;;)
				pause();
		}
		if (read(back[0], &shared_id, sizeof(shared_id)) != sizeof(shared_id))
			die("sharer");
		close(back[0]);
		close(back[1]);
	}
	l.jobs = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (l.jobs == MAP_FAILED)
		die("mmap");
	start = now();
	l.end = start + (uint64_t)(atof(argv[5]) * 1e9);
	if (fork_too) {
		heir = child();
		if (!heir) {
			run(&l, 0.5, 1);
			l.jobs[2] = 1;
			for (;;)
				pause();
		}
	}
	if (talk) {
		for (i = 0; i < l.nfd; i++) {
			printf("client %lu node %s pids %d", (unsigned long)client_of(l.fd[i]), i ? other : argv[1], getpid());
			if (heir)
				printf(",%d", heir);
			if (receiver && !i)
				printf(",%d", receiver);
			printf("\n");
		}
		if (shared)
			printf("client %lu node %s pids %d\n", (unsigned long)shared_id, argv[1], sharer);
		printf("ready\n");
		fflush(stdout);
	}
	run(&l, heir ? 0.5 : 1, 0);
	while (heir && !l.jobs[2])	// its last job
		usleep(5000);
	printf("load engine=%d jobs=%lu busy=%.2f%% of wall\n", l.engine, (unsigned long)(l.jobs[0] + l.jobs[1]),
	       100.0 * (l.jobs[0] + l.jobs[1]) * l.job / (now() - start));
	fflush(stdout);
	if (argc > 6 || stay)
		pause();
	return 0;
}
