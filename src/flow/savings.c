#include "hawser/savings.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Room for one more entry. */
static bool make_room(struct savings *s)
{
    if (s->first + s->count < s->cap)
        return true;
    if (s->first > 0) {
        memmove(s->list, s->list + s->first, s->count * sizeof(*s->list));
        s->first = 0;
        return true;
    }
    uint32_t cap = s->cap == 0 ? 8 : 2 * s->cap;
    struct saving *list = cap <= SAVINGS_MAX ? realloc(s->list, cap * sizeof(*list)) : NULL;
    if (list == NULL)
        return false;
    s->list = list;
    s->cap = cap;
    return true;
}

/* The first entry that ends after `at`. Mostly it is behind the last, or the first. */
static uint32_t first_after(const struct savings *s, uint64_t at)
{
    uint32_t low = s->first, high = s->first + s->count;
    if (high > low && s->list[high - 1].end <= at)
        return high;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (s->list[middle].end <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* A new entry before the i-th; where it is, NULL: no room. */
static struct saving *insert(struct savings *s, uint32_t i)
{
    uint32_t place = i - s->first;
    if (!make_room(s))
        return NULL;
    struct saving *one = &s->list[s->first + place];
    memmove(one + 1, one, (s->count - place) * sizeof(*one));
    s->count++;
    return one;
}

void savings_add(struct savings *s, uint64_t from, uint64_t end, uint64_t unpaid)
{
    uint32_t i = first_after(s, from);
    struct saving *one = insert(s, i);
    if (one != NULL) {
        *one = (struct saving){.from = from, .end = end, .referred = end - from, .unpaid = unpaid};
    } else if (s->count > 0 && i == s->first + s->count) {
        one = &s->list[i - 1];
        one->end = end;
        one->referred += end - from;
        one->unpaid += unpaid;
    } else {
        return;
    }
    s->total += unpaid;
}

/* What is left of an entry is [from, end) of it, with its share. */
static void shrink(struct savings *s, struct saving *one, uint64_t from, uint64_t end)
{
    uint64_t before = one->end - one->from, unpaid = one->unpaid * (end - from) / before;
    s->total -= one->unpaid - unpaid;
    *one = (struct saving){
        .from = from, .end = end, .referred = one->referred * (end - from) / before, .unpaid = unpaid};
}

static void spend_inside(struct savings *s, uint32_t i, uint64_t from, uint64_t end)
{
    struct saving whole = s->list[i], *tail = insert(s, i + 1);
    if (tail != NULL) {
        *tail = whole;
        s->total += whole.unpaid;
        shrink(s, tail, end, whole.end);
        shrink(s, tail - 1, whole.from, from);
    } else {
        shrink(s, &s->list[i], whole.from, from);
    }
}

void savings_spend(struct savings *s, uint64_t from, uint64_t end)
{
    uint32_t i = first_after(s, from), gone;
    if (i == s->first + s->count || s->list[i].from >= end)
        return;
    if (s->list[i].from < from && s->list[i].end > end) {
        spend_inside(s, i, from, end);
        return;
    }
    if (s->list[i].from < from) {
        shrink(s, &s->list[i], s->list[i].from, from);
        i++;
    }
    for (gone = i; gone < s->first + s->count && s->list[gone].end <= end; gone++)
        s->total -= s->list[gone].unpaid;
    if (gone < s->first + s->count && s->list[gone].from < end)
        shrink(s, &s->list[gone], end, s->list[gone].end);
    memmove(&s->list[i], &s->list[gone], (s->first + s->count - gone) * sizeof(*s->list));
    s->count -= gone - i;
    if (s->count == 0)
        savings_clear(s);
}

uint64_t savings_settle(struct savings *s, uint64_t upto)
{
    uint64_t referred = 0;
    for (; s->count > 0 && s->list[s->first].end <= upto; s->first++, s->count--) {
        s->total -= s->list[s->first].unpaid;
        referred += s->list[s->first].referred;
    }
    if (s->count == 0)
        savings_clear(s);
    return referred;
}

uint64_t savings_settle_part(struct savings *s, uint64_t upto)
{
    uint64_t referred = savings_settle(s, upto);
    if (s->count > 0 && s->list[s->first].from < upto) {
        struct saving *one = &s->list[s->first];
        uint64_t before = one->unpaid, gone = upto - one->from;
        referred += one->referred;
        shrink(s, one, upto, one->end);
        referred -= one->referred;
        s->total -=
            one->unpaid; /* all that is done with may have been saved: what is left no less than this */
        one->unpaid = before > gone ? before - gone : 0;
        s->total += one->unpaid;
    }
    return referred;
}

void savings_clear(struct savings *s)
{
    free(s->list);
    *s = (struct savings){0};
}
