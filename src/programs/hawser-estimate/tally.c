#include "tally.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const pass_names[PASSES] = {"cold", "warm"};

struct tally_type *tally_find(struct tally *t, const char *name)
{
    for (size_t i = 0; i < t->count; i++) {
        if (strcmp(t->types[i].name, name) == 0)
            return &t->types[i];
    }
    if (t->count + 1 == TALLY_TYPES_MAX)
        name = "other"; /* the last one, which was found or is made now */
    else if (t->count == TALLY_TYPES_MAX)
        return &t->types[t->count - 1];
    struct tally_type *type = &t->types[t->count++];
    snprintf(type->name, sizeof(type->name), "%s", name);
    return type;
}

static int larger_first(const void *a, const void *b)
{
    const struct tally_type *x = a, *y = b;
    uint64_t left = x->passes[PASS_COLD].bytes, right = y->passes[PASS_COLD].bytes;
    return left != right ? (left < right) - (left > right) : strcmp(x->name, y->name);
}

void tally_sort(struct tally *t)
{
    qsort(t->types, t->count, sizeof(t->types[0]), larger_first);
}

void tally_sum(const struct tally *t, struct tally_type *sum)
{
    *sum = (struct tally_type){.name = "total"};
    for (size_t i = 0; i < t->count; i++) {
        sum->count += t->types[i].count;
        for (int pass = 0; pass < PASSES; pass++) {
            const struct carry_tally *from = &t->types[i].passes[pass];
            struct carry_tally *to = &sum->passes[pass];
            to->bytes += from->bytes;
            to->saved_bytes += from->saved_bytes;
            to->frame_bytes += from->frame_bytes;
            to->wire_bytes += from->wire_bytes;
        }
    }
}
