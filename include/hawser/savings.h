/* savings.h - bytes of a stream that crossed as references, by where they end (floor 5). Credit is for what
 * bytes cost; a byte that crosses as a reference costs next to nothing, so what is outstanding of these is
 * taken off. Zero-initialised is empty; no memory while empty. One thread. */
#ifndef HAWSER_SAVINGS_H
#define HAWSER_SAVINGS_H

#include <stdint.h>

struct savings {
    struct saving {
        uint64_t end; /* offset in the stream */
        uint64_t bytes;
    } * ring;
    uint32_t head, count, cap;
    uint64_t total; /* of those not yet settled */
};

enum { SAVINGS_MAX = 1024 }; /* marks; further ones are joined to the last, and settled with it */

/* bytes of those before `end` (which never falls) were saved. What finds no memory is not counted, which is
 * sound. */
void savings_add(struct savings *s, uint64_t end, uint64_t bytes);
/* Everything before `upto` is done with. */
void savings_settle(struct savings *s, uint64_t upto);
/* So many turned out to cost after all. */
void savings_spend(struct savings *s, uint64_t bytes);
void savings_clear(struct savings *s);

#endif
