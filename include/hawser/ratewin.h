/* ratewin.h - the rate of a class over its last sends, and how long the next must wait to keep under a limit
 * (floor 2, pure). No clock of its own: the caller passes now_us, which never falls. One thread. Source: Ryu,
 * Hollingsworth, Keleher, 'Rate Windows for Efficient Network and I/O Throttling'. */
#ifndef HAWSER_RATEWIN_H
#define HAWSER_RATEWIN_H

#include <stdint.h>

enum {
    RATEWIN_EVENTS = 100,
    RATEWIN_SPAN_US = 5 * 1000000,
    RATEWIN_JOIN_US = 5000,       /* sends closer than that are one event */
    RATEWIN_WAIT_MIN_US = 1000,   /* a shorter wait is skipped: the next one is longer */
    RATEWIN_WAIT_MAX_US = 100000, /* a longer one is asked for again */
};

/* Zero-initialised is empty. */
struct ratewin {
    struct {
        uint64_t at_us, bytes;
    } events[RATEWIN_EVENTS];
    uint32_t head, count;
    uint64_t bytes; /* of all events */
};

/* len_bytes were sent: less than the limit allows in RATEWIN_SPAN_US, or the window forgets it too soon. */
void ratewin_add(struct ratewin *w, uint64_t now_us, uint64_t len_bytes);
/* Bytes a second over the window; over at least half a second, so that one burst is no rate. */
uint64_t ratewin_rate(struct ratewin *w, uint64_t now_us);
/* Microseconds to wait before more may go, so that the window's rate stays at or below the limit; 0: now. At
 * most RATEWIN_WAIT_MAX_US. limit_bytes_per_s is not 0. */
uint32_t ratewin_wait(struct ratewin *w, uint64_t now_us, uint64_t limit_bytes_per_s);

#endif
