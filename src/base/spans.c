#include "hawser/spans.h"

#include <errno.h>

/* `at` as the set has it; what is out of its reach is in none of its intervals. */
static uint32_t place_of(const struct spans *s, uint64_t at)
{
    if (at <= s->base)
        return 0;
    return at - s->base < UINT32_MAX ? (uint32_t)(at - s->base) : UINT32_MAX;
}

void spans_pass(struct spans *s, uint64_t upto)
{
    if (upto <= s->base)
        return;
    uint32_t by = place_of(s, upto);
    intervals_remove(&s->set, 0, by);
    for (uint32_t i = 0; i < s->set.count; i++) {
        s->set.list[i].from -= by;
        s->set.list[i].to -= by;
    }
    s->base = upto;
}

int spans_add(struct spans *s, uint64_t from, uint64_t to)
{
    return to - s->base < UINT32_MAX ? intervals_add(&s->set, place_of(s, from), place_of(s, to)) : -ENOMEM;
}

void spans_take(struct spans *s, uint64_t from, uint64_t to)
{
    intervals_remove(&s->set, place_of(s, from), place_of(s, to));
}

uint64_t spans_end_of(const struct spans *s, uint64_t at)
{
    if (at < s->base || s->set.count == 0)
        return at;
    uint32_t place = place_of(s, at), end = intervals_end_of(&s->set, place);
    return end > place ? s->base + end : at;
}

uint64_t spans_next_from(const struct spans *s, uint64_t at)
{
    uint32_t place = place_of(s, at), next = intervals_next_from(&s->set, place);
    return next == UINT32_MAX ? UINT64_MAX : s->base + next;
}

void spans_clear(struct spans *s)
{
    intervals_clear(&s->set);
}
