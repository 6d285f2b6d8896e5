#include "hawser/intervals.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { CAP_LEAST = 4 };

/* The first interval that ends at `at` or later (count: none). What grows at its end is found at once. */
static uint32_t first_ending_from(const struct intervals *s, uint32_t at)
{
    uint32_t low = 0, high = s->count;
    if (high > 0 && s->list[high - 1].to < at)
        return high;
    if (high == 1 || (high > 1 && s->list[high - 2].to < at))
        return high - 1;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (s->list[middle].to < at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The interval that contains the byte `at`, or NULL. */
static const struct interval *containing(const struct intervals *s, uint32_t at)
{
    if (at == UINT32_MAX)
        return NULL; /* no interval reaches beyond it */
    uint32_t i = first_ending_from(s, at + 1);
    return i < s->count && s->list[i].from <= at ? &s->list[i] : NULL;
}

static int insert_at(struct intervals *s, uint32_t i, struct interval new)
{
    if (s->count == s->cap) {
        uint32_t cap = s->cap == 0 ? CAP_LEAST : s->cap * 2;
        struct interval *list = realloc(s->list, cap * sizeof(*list));
        if (list == NULL)
            return -ENOMEM;
        s->list = list;
        s->cap = cap;
    }
    memmove(&s->list[i + 1], &s->list[i], (s->count - i) * sizeof(*s->list));
    s->list[i] = new;
    s->count++;
    return 0;
}

/* Whoever counts intervals counts memory: no list is much longer than what is in it. */
static void shrink(struct intervals *s)
{
    uint32_t cap = s->cap;
    while (cap > CAP_LEAST && s->count < cap / 4)
        cap /= 2;
    struct interval *list = cap < s->cap ? realloc(s->list, cap * sizeof(*list)) : NULL;
    if (list == NULL)
        return;
    s->list = list;
    s->cap = cap;
}

/* Take out the intervals [i, end). */
static void erase(struct intervals *s, uint32_t i, uint32_t end)
{
    memmove(&s->list[i], &s->list[end], (s->count - end) * sizeof(*s->list));
    s->count -= end - i;
    if (s->count == 0)
        intervals_clear(s);
    else
        shrink(s);
}

int intervals_add(struct intervals *s, uint32_t from, uint32_t to)
{
    if (from >= to)
        return 0;
    uint32_t i = first_ending_from(s, from), end = i;
    while (end < s->count && s->list[end].from <= to)
        end++;
    if (i == end)
        return insert_at(s, i, (struct interval){from, to});
    struct interval *joined = &s->list[i];
    joined->from = from < joined->from ? from : joined->from;
    joined->to = to > s->list[end - 1].to ? to : s->list[end - 1].to;
    erase(s, i + 1, end);
    return 0;
}

int intervals_remove(struct intervals *s, uint32_t from, uint32_t to)
{
    if (from >= to || from == UINT32_MAX)
        return 0;
    uint32_t i = first_ending_from(s, from + 1);
    if (i == s->count || s->list[i].from >= to)
        return 0;
    struct interval first = s->list[i];
    if (first.from < from && first.to > to) {
        int err = insert_at(s, i, (struct interval){first.from, from});
        if (err == 0)
            s->list[i + 1].from = to;
        return err;
    }
    if (first.from < from)
        s->list[i++].to = from;
    uint32_t end = i;
    while (end < s->count && s->list[end].to <= to)
        end++;
    if (end < s->count && s->list[end].from < to)
        s->list[end].from = to;
    erase(s, i, end);
    return 0;
}

bool intervals_cover(const struct intervals *s, uint32_t from, uint32_t to)
{
    return from >= to || intervals_end_of(s, from) >= to;
}

uint32_t intervals_end_of(const struct intervals *s, uint32_t at)
{
    const struct interval *i = containing(s, at);
    return i == NULL ? at : i->to;
}

uint32_t intervals_begin_of(const struct intervals *s, uint32_t at)
{
    const struct interval *i = containing(s, at);
    return i == NULL ? at : i->from;
}

uint32_t intervals_next_from(const struct intervals *s, uint32_t at)
{
    if (at == UINT32_MAX)
        return UINT32_MAX;
    uint32_t i = first_ending_from(s, at + 1);
    if (i == s->count)
        return UINT32_MAX;
    return s->list[i].from > at ? s->list[i].from : at;
}

uint64_t intervals_total(const struct intervals *s)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < s->count; i++)
        total += s->list[i].to - s->list[i].from;
    return total;
}

void intervals_clear(struct intervals *s)
{
    free(s->list);
    *s = (struct intervals){0};
}
