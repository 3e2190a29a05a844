// What the parts of vgpu-load share.
#ifndef LOAD_H
#define LOAD_H
#include <stdint.h>
#include <sys/types.h>

uint64_t now(void);
void sleep_until(uint64_t at);
void die(const char *what);
int engine_number(const char *s);
int open_node(const char *path);
pid_t child(void);	// a child that does not outlive its parent
int jobs(int argc, char **argv);
int display(const char *node, long flips);
#endif
