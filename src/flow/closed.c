#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hawser/err.h"
#include "hawser/session.h"

/* Ids come nearly in order and close nearly in order, so the ranges are few: at most one more than there are
 * open sessions among the closed ones. */

/* The first range that ends at or after n - 1. */
static size_t find(const struct closed_ids *c, uint64_t n)
{
    size_t low = 0, high = c->count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (c->ranges[mid].last + 1 < n)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

bool closed_has(const struct closed_ids *c, uint64_t id)
{
    uint64_t n = id >> 1;
    for (size_t i = find(c, n); i < c->count && c->ranges[i].first <= n; i++) {
        if (n <= c->ranges[i].last)
            return true;
    }
    return false;
}

static void remove_range(struct closed_ids *c, size_t i)
{
    memmove(&c->ranges[i], &c->ranges[i + 1], (c->count - i - 1) * sizeof(c->ranges[0]));
    c->count--;
}

int closed_add(struct closed_ids *c, uint64_t id, uint64_t most)
{
    uint64_t n = id >> 1;
    size_t i = find(c, n);
    if (i < c->count && c->ranges[i].first <= n + 1) {
        struct closed_range *r = &c->ranges[i];
        if (n + 1 == r->first)
            r->first = n;
        if (n == r->last + 1)
            r->last = n;
        if (i + 1 < c->count && r->last + 1 == c->ranges[i + 1].first) {
            r->last = c->ranges[i + 1].last;
            remove_range(c, i + 1);
        }
        return 0;
    }
    if (c->count >= most)
        return -ERR_WIRE_VALUE;
    if (c->count == c->cap) {
        size_t cap = c->cap == 0 ? 16 : c->cap * 2;
        struct closed_range *ranges = realloc(c->ranges, cap * sizeof(*ranges));
        if (ranges == NULL)
            return -ENOMEM;
        c->ranges = ranges;
        c->cap = cap;
    }
    memmove(&c->ranges[i + 1], &c->ranges[i], (c->count - i) * sizeof(c->ranges[0]));
    c->ranges[i] = (struct closed_range){.first = n, .last = n};
    c->count++;
    return 0;
}

void closed_clear(struct closed_ids *c)
{
    free(c->ranges);
    *c = (struct closed_ids){0};
}
