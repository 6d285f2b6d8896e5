/* tally.h - what was carried, by type of file or port. One thread. */
#ifndef HAWSER_ESTIMATE_TALLY_H
#define HAWSER_ESTIMATE_TALLY_H

#include "carry.h"

enum { TALLY_NAME_MAX = 24, TALLY_TYPES_MAX = 512 };

enum pass { PASS_COLD, PASS_WARM, PASSES };
extern const char *const pass_names[PASSES];

struct tally_type {
    char name[TALLY_NAME_MAX];
    uint64_t count; /* of files or connections, in the first pass */
    struct carry_tally passes[PASSES];
};

/* Zero-initialised is empty. */
struct tally {
    struct tally_type types[TALLY_TYPES_MAX];
    size_t count;
};

/* The type of that name; "other" once there are too many. */
struct tally_type *tally_find(struct tally *t, const char *name);
/* Largest first, by the bytes of the first pass. */
void tally_sort(struct tally *t);
void tally_sum(const struct tally *t, struct tally_type *sum);

#endif
