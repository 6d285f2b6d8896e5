#include "hints.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

static size_t reserved_bytes(const struct hints *h)
{
    return (size_t)h->most * HINTS_BUCKET_BYTES;
}

int hints_init(struct hints *h, uint32_t most)
{
    _Static_assert(sizeof(*h->buckets) == HINTS_BUCKET_BYTES, "a bucket is a cache line");
    *h = (struct hints){.most = most > HINTS_FIRST_BUCKETS ? most : HINTS_FIRST_BUCKETS,
                        .count = HINTS_FIRST_BUCKETS,
                        .round = HINTS_FIRST_BUCKETS};
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

/* Bucket count - round parts with what belongs to the new one, bucket count; both keep their order. */
void hints_grow(struct hints *h)
{
    assert(h->count < h->most);
    uint64_t *old = h->buckets[h->count - h->round], *new = h->buckets[h->count];
    unsigned bit = HINTS_POSITION_BITS + (unsigned)__builtin_ctz(h->round) - HINTS_FIRST_BITS;
    unsigned stay = 0, go = 0;
    for (unsigned i = 0; i < HINTS_IN_BUCKET; i++) {
        uint64_t entry = old[i];
        if (entry >> bit & 1)
            new[go++] = entry;
        else
            old[stay++] = entry;
    }
    memset(&old[stay], 0, (HINTS_IN_BUCKET - stay) * sizeof(*old));
    h->count++;
    if (h->count == 2 * h->round)
        h->round = h->count;
}
