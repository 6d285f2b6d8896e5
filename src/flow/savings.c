#include "hawser/savings.h"

#include <stdlib.h>

static struct saving *at(const struct savings *s, uint32_t i)
{
    return &s->ring[(s->head + i) & (s->cap - 1)];
}

static struct saving *room_for_one(struct savings *s)
{
    if (s->count == SAVINGS_MAX)
        return NULL;
    if (s->count < s->cap)
        return at(s, s->count);
    uint32_t cap = s->cap == 0 ? 8 : 2 * s->cap;
    struct saving *ring = malloc(cap * sizeof(*ring));
    if (ring == NULL)
        return NULL;
    for (uint32_t i = 0; i < s->count; i++)
        ring[i] = *at(s, i);
    free(s->ring);
    s->ring = ring;
    s->cap = cap;
    s->head = 0;
    return at(s, s->count);
}

void savings_add(struct savings *s, uint64_t end, uint64_t bytes)
{
    struct saving *one = room_for_one(s);
    if (one != NULL) {
        *one = (struct saving){.end = end, .bytes = bytes};
        s->count++;
    } else if (s->count > 0) {
        one = at(s, s->count - 1);
        one->end = end;
        one->bytes += bytes;
    } else {
        return;
    }
    s->total += bytes;
}

void savings_settle(struct savings *s, uint64_t upto)
{
    while (s->count > 0 && at(s, 0)->end <= upto) {
        savings_spend(s, at(s, 0)->bytes);
        s->head = (s->head + 1) & (s->cap - 1);
        s->count--;
    }
    if (s->count == 0)
        savings_clear(s);
}

void savings_spend(struct savings *s, uint64_t bytes)
{
    s->total -= bytes < s->total ? bytes : s->total;
}

void savings_clear(struct savings *s)
{
    free(s->ring);
    *s = (struct savings){0};
}
