/* collect.c - which bytes are new since the disk was last told. */
#include "store_internal.h"

void store_collect_begin(struct store *s)
{
    s->collects = true;
}

static void leave_list(struct store *s, struct segment *g)
{
    TAILQ_REMOVE(&s->by_fresh, g, by_fresh);
}

/* Parts that wait, of all segments of its source: who fills every hundredth byte loses only his own. */
static uint32_t *parts_of(struct store *s, const struct segment *g)
{
    return g->filler != NULL ? &g->filler->fresh_parts : &s->fresh_parts;
}

void fresh_note(struct store *s, struct segment *g, uint32_t from, uint32_t to)
{
    uint32_t was = g->fresh.count, *parts = parts_of(s, g);
    if (!s->collects)
        return;
    if (*parts >= STORE_FRESH_MOST || intervals_add(&g->fresh, from, to) < 0) {
        s->counters.uncollected_bytes += to - from;
        return;
    }
    *parts += g->fresh.count - was;
    if (was > 0)
        return;
    g->fresh_since_us = segment_now_us(s);
    TAILQ_INSERT_TAIL(&s->by_fresh, g, by_fresh);
}

void fresh_forget(struct store *s, struct segment *g)
{
    if (g->fresh.count == 0)
        return;
    leave_list(s, g);
    *parts_of(s, g) -= g->fresh.count;
    s->counters.uncollected_bytes += intervals_total(&g->fresh);
    intervals_clear(&g->fresh);
}

/* Parts that are long enough; the others stay. */
static struct intervals take_ready(struct segment *g, uint32_t least_bytes)
{
    struct intervals ready = {0};
    uint32_t kept = 0;
    for (uint32_t i = 0; i < g->fresh.count; i++) {
        struct interval part = g->fresh.list[i];
        if (part.to - part.from < least_bytes || intervals_add(&ready, part.from, part.to) < 0)
            g->fresh.list[kept++] = part;
    }
    g->fresh.count = kept;
    if (kept == 0)
        intervals_clear(&g->fresh);
    return ready;
}

bool store_collect(struct store *s, uint32_t least_bytes, bool (*visit)(void *arg, struct store_fresh *fresh),
                   void *arg)
{
    struct segment *g = TAILQ_FIRST(&s->by_fresh), *next;
    bool more = true;
    uint64_t now_us = segment_now_us(s);
    for (; g != NULL && more; g = next) {
        next = TAILQ_NEXT(g, by_fresh);
        bool long_enough = now_us - g->fresh_since_us >= STORE_FRESH_WAITS_US;
        uint32_t was = g->fresh.count;
        struct intervals ready = take_ready(g, long_enough ? 1 : least_bytes);
        if (long_enough)
            g->fresh_since_us = now_us;
        *parts_of(s, g) -= was - g->fresh.count;
        if (g->fresh.count == 0)
            leave_list(s, g);
        struct store_fresh fresh = {
            .chunk = g->chunk, .source = g->source, .memory_bytes = g->memory_bytes, .parts = ready};
        if (ready.count > 0)
            more = visit(arg, &fresh);
    }
    return more;
}

void store_collect_again(struct store *s, const struct segment_id *id, const struct intervals *parts)
{
    struct segment *g = segment_find(s, id);
    for (uint32_t i = 0; i < parts->count; i++) {
        if (g != NULL)
            fresh_note(s, g, parts->list[i].from, parts->list[i].to);
        else
            s->counters.uncollected_bytes += parts->list[i].to - parts->list[i].from;
    }
}
