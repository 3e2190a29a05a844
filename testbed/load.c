// vgpu-load NODE ENGINE DUTY_PERCENT JOB_US SECONDS: hold an engine (name or number) at a known duty.
// A sixth argument keeps the node open afterwards, until killed.
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

struct submit { uint32_t engine, count; uint64_t duration_ns; uint32_t flags, pad; };
struct alloc { uint64_t bytes; uint32_t region, pad; };
#define SUBMIT _IOW('d', 0x40, struct submit)
#define ALLOC _IOW('d', 0x41, struct alloc)

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static int engine_number(const char *s)
{
	static const char *const names[] = { "rcs0", "bcs0", "vcs0", "vcs1", "vecs0", "ccs0" };
	unsigned int i;
	char *end;
	long n = strtol(s, &end, 10);

	if (!*end && end != s)
		return n;
	for (i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (!strcmp(s, names[i]))
			return i;
	fprintf(stderr, "no engine %s: rcs0 bcs0 vcs0 vcs1 vecs0 ccs0\n", s);
	exit(2);
}

int main(int argc, char **argv)
{
	struct alloc memory = { 64 << 20, 0, 0 };
	uint64_t job, start, end, next, jobs = 0;
	double duty;
	int fd, engine;

	if (argc < 6) {
		fprintf(stderr, "usage: vgpu-load NODE ENGINE DUTY%% JOB_US SECONDS [stay]\n");
		return 2;
	}
	fd = open(argv[1], O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		perror(argv[1]);
		return 1;
	}
	engine = engine_number(argv[2]);
	duty = atof(argv[3]) / 100;
	job = strtoull(argv[4], NULL, 10) * 1000;
	if (ioctl(fd, ALLOC, &memory))
		perror("alloc");
	start = next = now();
	end = start + (uint64_t)(atof(argv[5]) * 1e9);
	while (now() < end) {
		struct submit s = { engine, 1, job, 1, 0 };
		int64_t wait;

		if (ioctl(fd, SUBMIT, &s)) {
			perror("submit");
			return 1;
		}
		jobs++;
		next += job / duty;
		wait = next - now();
		if (wait > 0) {
			struct timespec t = { wait / 1000000000, wait % 1000000000 };

			nanosleep(&t, NULL);
		}
	}
	printf("load engine=%d jobs=%lu busy=%.2f%% of wall\n", engine, (unsigned long)jobs, 100.0 * jobs * job / (now() - start));
	fflush(stdout);
	if (argc > 6)
		pause();
	return 0;
}
