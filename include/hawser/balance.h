/* balance.h - which worker gets the next session, and how many workers there should be (floor 2, pure).
 * The Monkey web server's scheduler: the least loaded worker gets the descriptor; load means live sessions
 * first, bytes moved lately second. The home of the session's peer is preferred while that keeps it
 * below 1.15 times the mean, because there the bytes cross no thread. */
#ifndef HAWSER_BALANCE_H
#define HAWSER_BALANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct balance_load {
    uint32_t live_sessions;
    uint64_t moved_bytes; /* lately */
    bool usable;          /* false: retiring or not started */
};

#define BALANCE_NONE ((size_t)-1)

/* Index of the worker for the next session; home may be BALANCE_NONE. BALANCE_NONE when none is usable. */
size_t balance_pick(const struct balance_load *loads, size_t count, size_t home);

/* How many workers to have: looks at the busy share of each working thread, once a second. */
struct balance_size {
    unsigned hot_s, cold_s; /* seconds in a row that more, or fewer, would do */
};
/* busy_permille: sum over the `active` workers of CPU time used in the last second, 1000 = one core. Returns
 * the number wanted, active or one more or one less, within min..max. */
size_t balance_resize(struct balance_size *s, size_t active, size_t min, size_t max, uint32_t busy_permille);

#endif
