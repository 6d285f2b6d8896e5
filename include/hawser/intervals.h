/* intervals.h - a set of numbers as sorted, disjoint, never touching intervals (floor 0). For what is filled
 * in a segment, or held of it by a peer: few intervals, mostly growing at the end. No memory while empty,
 * and never for more than four times as many, and four. One thread. */
#ifndef HAWSER_INTERVALS_H
#define HAWSER_INTERVALS_H

#include <stdbool.h>
#include <stdint.h>

struct interval {
    uint32_t from, to; /* [from, to), from < to */
};

/* Zero-initialised is empty. */
struct intervals {
    struct interval *list;
    uint32_t count, cap;
};

/* Add or take out [from, to). 0, or -ENOMEM and nothing changed (taking out of the middle needs memory, too).
 */
int intervals_add(struct intervals *s, uint32_t from, uint32_t to);
int intervals_remove(struct intervals *s, uint32_t from, uint32_t to);
/* Whether all of [from, to) is in it. */
bool intervals_cover(const struct intervals *s, uint32_t from, uint32_t to);
/* The end of the interval that contains `at`, or `at` if none does; and its beginning. */
uint32_t intervals_end_of(const struct intervals *s, uint32_t at);
uint32_t intervals_begin_of(const struct intervals *s, uint32_t at);
/* Where the first interval at or after `at` begins (`at`, if one contains it); UINT32_MAX: there is none. */
uint32_t intervals_next_from(const struct intervals *s, uint32_t at);
/* Sum of lengths. */
uint64_t intervals_total(const struct intervals *s);
void intervals_clear(struct intervals *s);

#endif
