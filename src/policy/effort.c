#include "hawser/effort.h"

#include <string.h>

enum {
    WINDOW_US = 1000000,
    LEAST_BYTES = 64 << 10, /* a second that moved less says nothing */
    IDLE_PERMILLE = 500,    /* of the CPU, to be left after a rise */
    BUSY_PERMILLE = 800,
    SATURATED_PERMILLE = 900,
    RAW_TRIES_US = 60 * 1000000, /* raw blocks are tried so often, and ended as often to look again */
};

/* The levels that are worth a step, the link up to which one is a good start, and what a byte costs, from
 * test/bench/compress_bench over sources, binaries and logs (1.9, 3.2 and 8.0 CPU seconds a GB). */
static const struct {
    int level;
    unsigned cost;
    uint64_t start_bytes_per_s;
} steps[] = {
    {1, 10, UINT64_MAX},
    {3, 17, 100 * 1000000 / 8},
    {6, 42, 20 * 1000000 / 8},
};
enum { STEPS = sizeof(steps) / sizeof(steps[0]) };

void effort_init(struct effort *e, uint64_t rate_bytes_per_s)
{
    memset(e, 0, sizeof(*e));
    for (unsigned i = 0; i < STEPS; i++) {
        if (rate_bytes_per_s <= steps[i].start_bytes_per_s)
            e->level = steps[i].level;
    }
}

static unsigned step_of(int level)
{
    unsigned i = 0;
    while (steps[i].level < level)
        i++;
    return i;
}

/* Raw blocks go out: whether the link turned out to be slower than zstd. */
static int judge_raw(struct effort *e, uint64_t now_us, bool full, uint64_t bytes_per_s)
{
    if (full && bytes_per_s < e->zstd_bytes_per_s / 5 * 4) {
        e->raw_again_us = now_us + RAW_TRIES_US;
        return 1;
    }
    return now_us - e->changed_us > RAW_TRIES_US ? 1 : 0;
}

static int judge(struct effort *e, uint64_t now_us, uint64_t busy_permille, bool full, uint64_t bytes_per_s)
{
    if (e->level == 0)
        return judge_raw(e, now_us, full, bytes_per_s);
    unsigned step = step_of(e->level);
    if (busy_permille > BUSY_PERMILLE && step > 0)
        return steps[step - 1].level;
    if (busy_permille > SATURATED_PERMILLE && !full && now_us >= e->raw_again_us) {
        e->zstd_bytes_per_s = bytes_per_s * 1000 / busy_permille;
        return 0;
    }
    if (full && step + 1 < STEPS &&
        busy_permille * steps[step + 1].cost < (uint64_t)steps[step].cost * (1000 - IDLE_PERMILLE))
        return steps[step + 1].level;
    return e->level;
}

bool effort_update(struct effort *e, const struct effort_sample *s)
{
    if (e->window_start_us == 0 || s->elapsed_us > WINDOW_US) { /* a look after a long rest begins anew */
        e->window_start_us = s->now_us;
        e->window_cpu_us = e->window_bytes = 0;
        e->looks = e->full_looks = 0;
        return false;
    }
    e->window_cpu_us += s->cpu_us;
    e->window_bytes += s->bytes;
    e->looks++;
    e->full_looks += s->link_full;
    uint64_t length_us = s->now_us - e->window_start_us;
    if (length_us < WINDOW_US)
        return false;
    int was = e->level;
    bool full = e->full_looks * 2 > e->looks;
    if (e->window_bytes >= LEAST_BYTES)
        e->level = judge(e, s->now_us, e->window_cpu_us * 1000 / length_us, full,
                         e->window_bytes * 1000000 / length_us);
    if (e->level != was)
        e->changed_us = s->now_us;
    e->window_start_us = s->now_us;
    e->window_cpu_us = e->window_bytes = 0;
    e->looks = e->full_looks = 0;
    return e->level != was;
}
