/* load_latency.h - latencies in a histogram of fixed size (part of load.c and other tools; one thread).
 * Microseconds; 64 steps to a doubling, so that a percentile is at most 1.6 % off. */
#ifndef LOAD_LATENCY_H
#define LOAD_LATENCY_H

#include <stdint.h>
#include <stdio.h>

enum { LATENCY_STEPS = 64, LATENCY_SLOTS = LATENCY_STEPS * 36 };

struct latency {
    uint64_t count, most_us;
    uint32_t slots[LATENCY_SLOTS];
};

static inline void latency_add(struct latency *l, uint64_t us)
{
    unsigned shift = 0;
    while (us >> shift >= 2 * LATENCY_STEPS)
        shift++;
    uint64_t slot =
        us < LATENCY_STEPS ? us : (uint64_t)LATENCY_STEPS * (shift + 1) + (us >> shift) - LATENCY_STEPS;
    l->slots[slot < LATENCY_SLOTS ? slot : LATENCY_SLOTS - 1]++;
    l->count++;
    if (us > l->most_us)
        l->most_us = us;
}

/* The smallest latency that permille of all do not exceed. */
static inline uint64_t latency_at(const struct latency *l, unsigned permille)
{
    uint64_t wanted = (l->count * permille + 999) / 1000, seen = 0;
    for (uint64_t i = 0; i < LATENCY_SLOTS && wanted > 0; i++) {
        seen += l->slots[i];
        if (seen < wanted)
            continue;
        uint64_t low = i < LATENCY_STEPS ? i : (LATENCY_STEPS + i % LATENCY_STEPS) << (i / LATENCY_STEPS - 1);
        return low < l->most_us ? low : l->most_us;
    }
    return 0;
}

static inline void latency_print(FILE *to, const char *name, const struct latency *l)
{
    fprintf(
        to,
        "\"%s\": {\"count\": %llu, \"p50_us\": %llu, \"p90_us\": %llu, \"p99_us\": %llu, \"p999_us\": %llu, "
        "\"max_us\": %llu}",
        name, (unsigned long long)l->count, (unsigned long long)latency_at(l, 500),
        (unsigned long long)latency_at(l, 900), (unsigned long long)latency_at(l, 990),
        (unsigned long long)latency_at(l, 999), (unsigned long long)l->most_us);
}

#endif
