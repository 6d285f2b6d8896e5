#include "delays.h"

/* A time of 6 + n bits has its bucket in group n, which is as wide as its lowest time is long. */
static size_t bucket_of(uint64_t us)
{
    if (us < 64) {
        return (size_t)us;
    }
    unsigned shift = 57u - (unsigned)__builtin_clzll(us);
    size_t bucket = ((size_t)shift + 1) * 64 + (size_t)((us >> shift) & 63);
    return bucket < DELAYS_BUCKETS ? bucket : DELAYS_BUCKETS - 1;
}

void delays_add(struct delays *delays, uint64_t time_ns)
{
    delays->packets[bucket_of(time_ns / 1000)]++;
}

uint64_t delays_from_us(size_t bucket)
{
    if (bucket < 64) {
        return bucket;
    }
    return (uint64_t)(64 + bucket % 64) << (bucket / 64 - 1);
}

uint64_t delays_share_us(const struct delays *delays, double share)
{
    uint64_t total = 0, seen = 0;
    for (size_t i = 0; i < DELAYS_BUCKETS; i++) {
        total += delays->packets[i];
    }
    for (size_t i = 0; i < DELAYS_BUCKETS && total > 0; i++) {
        seen += delays->packets[i];
        if ((double)seen >= share * (double)total) {
            return delays_from_us(i + 1);
        }
    }
    return 0;
}
