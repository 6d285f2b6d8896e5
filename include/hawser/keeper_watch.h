/* keeper_watch.h - when to give an engine up, and when to start the next (floor 6, pure).
 * No clock of its own: the caller passes now_us, at least once a second. One thread. */
#ifndef HAWSER_KEEPER_WATCH_H
#define HAWSER_KEEPER_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "hawser/keeper.h"

struct keeper_watch {
    uint64_t silent_us; /* since the engine was last heard, in time that the keeper itself was running */
    uint64_t looked_us;
    uint64_t started_us;
    uint64_t backoff_us; /* the next wait */
};

void keeper_watch_init(struct keeper_watch *w, const struct keeper_times *times);
void keeper_watch_started(struct keeper_watch *w, uint64_t now_us);
void keeper_watch_heard(struct keeper_watch *w, uint64_t now_us);
/* Whether the engine has been silent for too long. A gap between two looks counts for at most
 * KEEPER_LOOK_MAX_US: after a suspended machine or a stopped keeper the engine first gets its chance to
 * speak. */
#define KEEPER_LOOK_MAX_US 2000000u
bool keeper_watch_hung(struct keeper_watch *w, const struct keeper_times *times, uint64_t now_us);
/* The engine died: microseconds to wait before the next one. */
uint64_t keeper_watch_died(struct keeper_watch *w, const struct keeper_times *times, uint64_t now_us);

#endif
