/* savings.h - which bytes of a stream cross as references, as they crossed last, until they are done with
 * (floor 5). Credit is for what bytes cost; a byte that crosses as a reference costs next to nothing, so what
 * is outstanding of these is taken off. A byte counts once, however often it is sent. Zero-initialised is
 * empty; no memory while empty. One thread. */
#ifndef HAWSER_SAVINGS_H
#define HAWSER_SAVINGS_H

#include <stdint.h>

struct savings {
    struct saving {
        uint64_t from, end; /* offsets in the stream */
        uint64_t referred;  /* of the bytes between: crossed as references */
        uint64_t unpaid;    /* of those: took no credit */
    } * list;               /* in order, disjoint; the entries are list[first .. first + count) */
    uint32_t first, count, cap;
    uint64_t total; /* unpaid, of all */
};

enum { SAVINGS_MAX = 4096 }; /* entries; what is added at the end past it is joined to the last */

/* [from, end), of which nothing is noted, crossed as references, and `unpaid` of its bytes took no credit.
 * What finds no memory is not counted, which is sound. */
void savings_add(struct savings *s, uint64_t from, uint64_t end, uint64_t unpaid);
/* [from, end) goes again: as if it had never been sent. */
void savings_spend(struct savings *s, uint64_t from, uint64_t end);
/* Entries that end at `upto` or before are done with: how many bytes crossed as references in them. */
uint64_t savings_settle(struct savings *s, uint64_t upto);
/* The same, with its share of the entry that `upto` is inside of. What is left of that counts as unpaid no
 * more than it is, whatever lies between its references. */
uint64_t savings_settle_part(struct savings *s, uint64_t upto);
void savings_clear(struct savings *s);

#endif
