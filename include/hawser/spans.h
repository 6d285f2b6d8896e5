/* spans.h - a set of offsets in a stream (floor 0): intervals.h with 64 bits, for what lies within 4 GB of
 * where the stream is. Zero-initialised is empty; no memory while empty. One thread. */
#ifndef HAWSER_SPANS_H
#define HAWSER_SPANS_H

#include <stdint.h>

#include "hawser/intervals.h"

struct spans {
    uint64_t base;
    struct intervals set; /* less base */
};

/* Forget everything before `upto`, which never falls: nothing below it is added any more. */
void spans_pass(struct spans *s, uint64_t upto);
/* Add [from, to). 0, or -ENOMEM and nothing changed (also where it lies too far ahead). */
int spans_add(struct spans *s, uint64_t from, uint64_t to);
/* Take a whole span out, from its beginning to its end. */
void spans_take(struct spans *s, uint64_t from, uint64_t to);
/* The end of the span that contains `at`, or `at` if none does. */
uint64_t spans_end_of(const struct spans *s, uint64_t at);
/* Where the first span at or after `at` begins (`at`, if one contains it); UINT64_MAX: there is none. */
uint64_t spans_next_from(const struct spans *s, uint64_t at);
void spans_clear(struct spans *s);

#endif
