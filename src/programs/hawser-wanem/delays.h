/* delays.h - a histogram of times from a microsecond to two hours. Pure.
 * Up to 64 us the buckets are 1 us wide, above that 1/64 of their power of two, so a bucket is never wider
 * than 1.6 % of its times. Longer times count in the last bucket. */
#ifndef HAWSER_WANEM_DELAYS_H
#define HAWSER_WANEM_DELAYS_H

#include <stddef.h>
#include <stdint.h>

#define DELAYS_BUCKETS 1856u

struct delays {
    uint64_t packets[DELAYS_BUCKETS];
};

void delays_add(struct delays *delays, uint64_t time_ns);
/* The least time, in us, of a bucket; with DELAYS_BUCKETS where the last one ends. */
uint64_t delays_from_us(size_t bucket);
/* Upper bound, in us, of the times of the given share (0.5, 0.99) of all; 0 if there are none. */
uint64_t delays_share_us(const struct delays *delays, double share);

#endif
