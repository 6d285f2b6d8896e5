/* toucher.h - the thread that touches memory before a worker writes into it (floor 6).
 * The kernel zeroes a page when it is first touched, and under a hypervisor the host may have to find it
 * then: in a store that is not full yet that can cost more than all the rest. Workers name what they will
 * write soon (store_events.touch_ahead); the thread has the kernel make those pages (MADV_POPULATE_WRITE,
 * Linux 5.14) and writes nothing itself, since the worker may be writing there already. Where the kernel is
 * older, or the thread is at something else, the worker touches them when it comes, as without the thread:
 * nothing waits in a queue, since two that touch one page at a time only do it twice.
 *
 * Made and freed by the main thread; anyone may ask. */
#ifndef HAWSER_TOUCHER_H
#define HAWSER_TOUCHER_H

#include <stdbool.h>
#include <stdint.h>

#include "hawser/chunk.h"

/* With fewer processors it would only take the workers' turns. */
enum { TOUCHER_CPUS_LEAST = 4 };

struct toucher;

/* Starts the thread. 0 or -errno. */
int toucher_new(struct toucher **out);
/* Whole huge pages of a chunk (chunk_new_mapped): the thread holds a reference until they are there. False:
 * it is busy, or the kernel too old, or t is NULL. */
bool toucher_ask(struct toucher *t, struct chunk *chunk, uint32_t off, uint32_t len);
/* Ends the thread; toucher_ask is not called any more. NULL is fine. */
void toucher_free(struct toucher *t);

#endif
