#include "hawser/ratewin.h"

enum { RATE_SPAN_MIN_US = 500000 };

static void drop_oldest(struct ratewin *w)
{
    w->bytes -= w->events[w->head].bytes;
    w->head = (w->head + 1) % RATEWIN_EVENTS;
    w->count--;
}

static void forget_old(struct ratewin *w, uint64_t now_us)
{
    while (w->count > 0 && now_us - w->events[w->head].at_us > RATEWIN_SPAN_US)
        drop_oldest(w);
}

void ratewin_add(struct ratewin *w, uint64_t now_us, uint64_t len_bytes)
{
    forget_old(w, now_us);
    w->bytes += len_bytes;
    uint32_t last = (w->head + w->count + RATEWIN_EVENTS - 1) % RATEWIN_EVENTS;
    if (w->count > 0 && now_us - w->events[last].at_us < RATEWIN_JOIN_US) {
        w->events[last].bytes += len_bytes;
        return;
    }
    if (w->count == RATEWIN_EVENTS)
        drop_oldest(w);
    last = (w->head + w->count) % RATEWIN_EVENTS;
    w->events[last].at_us = now_us;
    w->events[last].bytes = len_bytes;
    w->count++;
}

uint64_t ratewin_rate(struct ratewin *w, uint64_t now_us)
{
    forget_old(w, now_us);
    if (w->count == 0)
        return 0;
    uint64_t span_us = now_us - w->events[w->head].at_us;
    if (span_us < RATE_SPAN_MIN_US)
        span_us = RATE_SPAN_MIN_US;
    return w->bytes * 1000000 / span_us;
}

uint32_t ratewin_wait(struct ratewin *w, uint64_t now_us, uint64_t limit_bytes_per_s)
{
    forget_old(w, now_us);
    if (w->count == 0)
        return 0;
    uint64_t spent_us = now_us - w->events[w->head].at_us;
    uint64_t due_us =
        w->bytes / limit_bytes_per_s * 1000000 + w->bytes % limit_bytes_per_s * 1000000 / limit_bytes_per_s;
    uint64_t wait_us = due_us > spent_us ? due_us - spent_us : 0;
    if (wait_us < RATEWIN_WAIT_MIN_US)
        return 0;
    return wait_us < RATEWIN_WAIT_MAX_US ? (uint32_t)wait_us : RATEWIN_WAIT_MAX_US;
}
