/* hints.h - where content may be: an index from hashes to positions (floor 1; one thread).
 *
 * Entries may be wrong, old or missing; whoever asks compares the bytes. A bucket is one cache line of eight
 * entries, newest first; a new one pushes the oldest out. The table is meant to be full, so load must be even
 * while it grows: were buckets split in two one after another (Litwin's linear hashing), those not yet split
 * would have twice the load of the others, and lose what is oldest. Hence partial expansions (Larson, 'Linear
 * hashing with partial expansions', VLDB 1980), a group of buckets at a time: each group has 4 buckets, then
 * each 5, and so on to 8, which are then two groups of 4. No bucket has more than 5/4 of the load of another.
 *
 *   key      bits 0 to 9     group, at least
 *            bits 10 to 33   the tag, which is kept with the position:
 *   tag      bits 0 to 13    further bits of the group, one more each time that the groups double
 *            bits 14 to 21   even out groups of 5, 6 and 7 buckets; 14 and 15 zero: lasting
 *            bits 22 to 23   the bucket of four
 *
 * Bucket i of group j is number i * groups + j. In a group of 8 a bucket is 2 * (of four) + (next bit of the
 * group), so that the doubling moves nothing. A tag is all that growing needs: no key is computed again. */
#ifndef HAWSER_STORE_HINTS_H
#define HAWSER_STORE_HINTS_H

#include <stdbool.h>
#include <stdint.h>

enum {
    HINTS_IN_BUCKET = 8,
    HINTS_BUCKET_BYTES = 64,
    HINTS_OF_A_KEY = 2,    /* what is everywhere need not fill its bucket */
    HINTS_WIDTH_LEAST = 4, /* buckets of a group */
    HINTS_WIDTH_MOST = 2 * HINTS_WIDTH_LEAST,
    HINTS_GROUP_BITS_LEAST = 10,
    HINTS_GROUP_BITS_MOST = 24,
    HINTS_FIRST_BUCKETS = HINTS_WIDTH_LEAST << HINTS_GROUP_BITS_LEAST,
    HINTS_TAG_BITS = 24,
    HINTS_POSITION_BITS = 40
};

struct hints {
    uint64_t (*buckets)[HINTS_IN_BUCKET]; /* of {tag, position}; 0: empty. Position 0 is no position. */
    uint32_t count, most;                 /* buckets in use, and of address space */
    uint32_t group_bits;                  /* groups are a power of two */
    uint32_t width, widened;              /* of each group; of the first ones it is one more */
    uint64_t puts;
};

/* Address space for up to `most` buckets, at least HINTS_FIRST_BUCKETS. 0 or -ENOMEM. */
int hints_init(struct hints *h, uint32_t most);
void hints_end(struct hints *h);
/* One bucket more; count must be below most. */
void hints_grow(struct hints *h);

static inline uint64_t hints_tag(uint64_t key)
{
    return key >> HINTS_GROUP_BITS_LEAST & ((1u << HINTS_TAG_BITS) - 1);
}

/* The bucket of a group of that width. */
static inline uint32_t hints_bucket_in_group(const struct hints *h, uint64_t tag, uint32_t width)
{
    uint32_t of_four = (uint32_t)(tag >> 22) & 3, even = (uint32_t)(tag >> 14) & 0xff;
    uint32_t next_group_bit = (uint32_t)(tag >> (h->group_bits - HINTS_GROUP_BITS_LEAST)) & 1;
    return (of_four << 9 | next_group_bit << 8 | even) * width >> 11;
}

static inline uint64_t *hints_bucket(const struct hints *h, uint64_t key)
{
    uint32_t group = (uint32_t)key & ((1u << h->group_bits) - 1);
    uint32_t width = h->width + (group < h->widened);
    return h->buckets[(hints_bucket_in_group(h, hints_tag(key), width) << h->group_bits) + group];
}

static inline void hints_prefetch(const struct hints *h, uint64_t key)
{
    __builtin_prefetch(hints_bucket(h, key), 1);
}

static inline bool hints_is_lasting(uint64_t entry)
{
    return (entry >> (HINTS_POSITION_BITS + 14) & 3) == 0;
}

/* In front of the others. What goes: nothing if there is room, one of the same key if there are more than
 * HINTS_OF_A_KEY, else the oldest of the kind that has more than its half. Without branches but the last few:
 * which entry it is cannot be predicted. */
static inline void hints_push(uint64_t bucket[HINTS_IN_BUCKET], uint64_t entry)
{
    uint32_t empty = 0, same = 0, lasting = 0, lasting_count = hints_is_lasting(entry);
    for (unsigned i = 0; i < HINTS_IN_BUCKET; i++) {
        uint32_t lasts = hints_is_lasting(bucket[i]);
        empty |= (uint32_t)(bucket[i] == 0) << i;
        same |= (uint32_t)((bucket[i] ^ entry) >> HINTS_POSITION_BITS == 0) << i;
        lasting |= lasts << i;
        lasting_count += lasts;
    }
    uint32_t others = ~lasting & ((1u << HINTS_IN_BUCKET) - 1),
             more_than_half = lasting_count > HINTS_IN_BUCKET / 2;
    unsigned gone = 31 - (unsigned)__builtin_clz(more_than_half ? lasting : others);
    if (empty != 0)
        gone = (unsigned)__builtin_ctz(empty);
    same &= same - 1; /* one may stay */
    if (same != 0)
        gone = (unsigned)__builtin_ctz(same);
    for (; gone > 0; gone--)
        bucket[gone] = bucket[gone - 1];
    bucket[0] = entry;
}

static inline void hints_put(struct hints *h, uint64_t key, uint64_t position)
{
    hints_push(hints_bucket(h, key), hints_tag(key) << HINTS_POSITION_BITS | position);
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
