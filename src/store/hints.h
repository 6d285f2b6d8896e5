/* hints.h - where content may be: an index from hashes to positions (floor 1; one thread).
 * Entries may be wrong, old or missing; whoever asks compares the bytes. A bucket is one cache line of eight
 * entries, newest first; a new one pushes the oldest out. The table grows by linear hashing (Litwin, VLDB
 * 1980), a bucket at a time: the bits of a hash that decide about a split are in the entry's tag, so no key
 * is ever computed again. */
#ifndef HAWSER_STORE_HINTS_H
#define HAWSER_STORE_HINTS_H

#include <stdint.h>

enum {
    HINTS_IN_BUCKET = 8,
    HINTS_BUCKET_BYTES = 64,
    HINTS_FIRST_BITS = 12,
    HINTS_FIRST_BUCKETS = 1 << HINTS_FIRST_BITS,
    HINTS_TAG_BITS = 24,
    HINTS_POSITION_BITS = 40
};

struct hints {
    uint64_t (*buckets)[HINTS_IN_BUCKET]; /* of {tag, position}; 0: empty. Position 0 is no position. */
    uint32_t count, most;                 /* buckets in use, and of address space */
    uint32_t round;                       /* power of two, round <= count < 2 * round */
    uint64_t puts;
};

/* Address space for up to `most` buckets (at least HINTS_FIRST_BUCKETS). 0 or -ENOMEM. */
int hints_init(struct hints *h, uint32_t most);
void hints_end(struct hints *h);
/* Split one bucket; count must be below most. */
void hints_grow(struct hints *h);

static inline uint64_t *hints_bucket(const struct hints *h, uint64_t key)
{
    uint32_t number = (uint32_t)key & (2 * h->round - 1);
    return h->buckets[number < h->count ? number : number & (h->round - 1)];
}

static inline uint64_t hints_tag(uint64_t key)
{
    return key >> HINTS_FIRST_BITS & ((1u << HINTS_TAG_BITS) - 1);
}

static inline void hints_prefetch(const struct hints *h, uint64_t key)
{
    __builtin_prefetch(hints_bucket(h, key), 1);
}

static inline void hints_put(struct hints *h, uint64_t key, uint64_t position)
{
    uint64_t *bucket = hints_bucket(h, key);
    for (int i = HINTS_IN_BUCKET - 1; i > 0; i--)
        bucket[i] = bucket[i - 1];
    bucket[0] = hints_tag(key) << HINTS_POSITION_BITS | position;
    h->puts++;
}

/* The positions under a key, newest first; returns how many. */
static inline unsigned hints_find(const struct hints *h, uint64_t key, uint64_t positions[HINTS_IN_BUCKET])
{
    const uint64_t *bucket = hints_bucket(h, key), tag = hints_tag(key);
    unsigned count = 0;
    for (int i = 0; i < HINTS_IN_BUCKET; i++) {
        positions[count] = bucket[i] & ((1ULL << HINTS_POSITION_BITS) - 1);
        count += bucket[i] >> HINTS_POSITION_BITS == tag && bucket[i] != 0;
    }
    return count;
}

#endif
