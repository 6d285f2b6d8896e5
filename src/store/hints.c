#include "hints.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

enum { BUCKETS_MOST = HINTS_WIDTH_LEAST << HINTS_GROUP_BITS_MOST };

static size_t reserved_bytes(const struct hints *h)
{
    return (size_t)h->most * HINTS_BUCKET_BYTES;
}

int hints_init(struct hints *h, uint32_t most)
{
    _Static_assert(sizeof(*h->buckets) == HINTS_BUCKET_BYTES, "a bucket is a cache line");
    most = most < BUCKETS_MOST ? most : BUCKETS_MOST;
    *h = (struct hints){.most = most > HINTS_FIRST_BUCKETS ? most : HINTS_FIRST_BUCKETS,
                        .count = HINTS_FIRST_BUCKETS,
                        .group_bits = HINTS_GROUP_BITS_LEAST,
                        .width = HINTS_WIDTH_LEAST};
    h->buckets = mmap(NULL, reserved_bytes(h), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (h->buckets == MAP_FAILED) {
        h->buckets = NULL;
        return -ENOMEM;
    }
    madvise(h->buckets, reserved_bytes(h),
            MADV_HUGEPAGE); /* a wish: without it lookups miss the TLB more often */
    return 0;
}

void hints_end(struct hints *h)
{
    if (h->buckets != NULL)
        munmap(h->buckets, reserved_bytes(h));
    *h = (struct hints){0};
}

/* An entry that is older than all in a full bucket. */
static void keep_lasting(uint64_t bucket[HINTS_IN_BUCKET], uint64_t entry)
{
    unsigned lasting = 0, oldest_other = 0;
    for (unsigned i = 0; i < HINTS_IN_BUCKET; i++) {
        if (hints_is_lasting(bucket[i]))
            lasting++;
        else
            oldest_other = i;
    }
    if (lasting >= HINTS_IN_BUCKET / 2)
        return;
    for (unsigned i = oldest_other; i + 1 < HINTS_IN_BUCKET; i++)
        bucket[i] = bucket[i + 1];
    bucket[HINTS_IN_BUCKET - 1] = entry;
}

/* Spread a group over one bucket more; newest first. Where a bucket gets more than it holds, what is old
 * goes, lasting entries only if they have their half. */
static void widen_group(struct hints *h, uint32_t group)
{
    uint64_t spread[HINTS_WIDTH_MOST][HINTS_IN_BUCKET] = {0};
    unsigned filled[HINTS_WIDTH_MOST] = {0};
    for (unsigned rank = 0; rank < HINTS_IN_BUCKET; rank++) {
        for (uint32_t i = 0; i < h->width; i++) {
            uint64_t entry = h->buckets[(i << h->group_bits) + group][rank];
            uint32_t to = hints_bucket_in_group(h, entry >> HINTS_POSITION_BITS, h->width + 1);
            if (entry != 0 && filled[to] < HINTS_IN_BUCKET)
                spread[to][filled[to]++] = entry;
            else if (entry != 0 && hints_is_lasting(entry))
                keep_lasting(spread[to], entry);
        }
    }
    for (uint32_t i = 0; i <= h->width; i++) {
        memcpy(h->buckets[(i << h->group_bits) + group], spread[i], HINTS_BUCKET_BYTES);
        __builtin_prefetch(h->buckets[(i << h->group_bits) + group + 1], 1);
    }
}

void hints_grow(struct hints *h)
{
    assert(h->count < h->most);
    widen_group(h, h->widened);
    h->count++;
    h->widened++;
    if (h->widened == 1u << h->group_bits) {
        h->widened = 0;
        h->width++;
        if (h->width == HINTS_WIDTH_MOST) {
            h->width = HINTS_WIDTH_LEAST;
            h->group_bits++;
        }
    }
}
