#include "hawser/keeper_watch.h"

void keeper_watch_init(struct keeper_watch *w, const struct keeper_times *times)
{
    *w = (struct keeper_watch){.backoff_us = times->backoff_first_us};
}

void keeper_watch_started(struct keeper_watch *w, uint64_t now_us)
{
    w->started_us = now_us;
    keeper_watch_heard(w, now_us);
}

void keeper_watch_heard(struct keeper_watch *w, uint64_t now_us)
{
    w->silent_us = 0;
    w->looked_us = now_us;
}

bool keeper_watch_hung(struct keeper_watch *w, const struct keeper_times *times, uint64_t now_us)
{
    uint64_t gap_us = now_us - w->looked_us;
    w->silent_us += gap_us < KEEPER_LOOK_MAX_US ? gap_us : KEEPER_LOOK_MAX_US;
    w->looked_us = now_us;
    return w->silent_us >= times->silent_us;
}

uint64_t keeper_watch_died(struct keeper_watch *w, const struct keeper_times *times, uint64_t now_us)
{
    if (now_us - w->started_us >= times->good_us)
        w->backoff_us = times->backoff_first_us;
    uint64_t wait_us = w->backoff_us;
    w->backoff_us = wait_us < times->backoff_last_us / 2 ? wait_us * 2 : times->backoff_last_us;
    return wait_us;
}
